//! The harness: compares Osmia with its peers on this machine, one contender at a time, in turn,
//! over several rounds. The proxy has a core of its own; wrk and the upstream have the others.

mod bench;
mod budget;
mod bulk;
mod child;
mod config;
mod contender;
mod health;
mod http;
mod idle;
mod instructions;
mod machine;
mod plain;
mod plan;
mod proc;
mod profile;
mod programs;
mod protocols;
mod rate;
mod report;
mod setup;
mod stats;
mod wrk;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use bench::Bench;
use machine::Machine;
use plan::{Part, Plan};
use report::{Report as _, Results};

/// Compares Osmia with its peers.
#[derive(Debug, Parser)]
#[command(name = "osmia-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measures, prints the comparison, and writes it to perf/results when it is complete.
    Run(Box<Plan>),
    /// Measures the configuration plane against its targets, with etcd and the embedded store.
    Config(Box<config::Options>),
    /// Compares TLS, HTTP/2 and gRPC with those of the peers.
    Protocols(Box<protocols::Options>),
    /// Measures what active health checks cost.
    Health(Box<health::Options>),
    /// Counts the instructions of the request path.
    Instructions(instructions::Options),
    /// Profiles a contender under load with perf and draws a flamegraph.
    Profile(profile::Options),
    /// Installs peers that are not in the distribution; without a name, all that can be had.
    Setup {
        /// What to install.
        peers: Vec<setup::Peer>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Action::Run(plan) => run(*plan),
        Action::Config(options) => config::run(*options),
        Action::Protocols(options) => protocols::run(&options),
        Action::Health(options) => health::run(&options),
        Action::Instructions(options) => instructions::run(&options),
        Action::Profile(options) => profile::run(&options),
        Action::Setup { peers } => set_up(&peers),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("osmia-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn set_up(peers: &[setup::Peer]) -> Result<()> {
    for &peer in peers {
        setup::install(peer)?;
    }
    if peers.is_empty() {
        for peer in [setup::Peer::Envoy, setup::Peer::Pingora] {
            if let Err(error) = setup::install(peer) {
                println!("note: going on without {peer:?}: {error:#}");
            }
        }
    }
    Ok(())
}

fn run(plan: Plan) -> Result<()> {
    child::clean_up_on_signals()?;
    let machine = Machine::inspect(machine::raise_descriptor_limit());
    let mut bench = Bench::prepare(plan.settle())?;
    let results = measure(&mut bench, machine)?;
    results.present(bench.plan.destination().as_ref())
}

fn measure(bench: &mut Bench, machine: Machine) -> Result<Results> {
    let wanted = bench.plan.only.clone();
    let plain = if wanted.contains(&Part::Plain) { plain::run(bench) } else { Vec::new() };
    let rate = if wanted.contains(&Part::Rate) { Some(rate::run(bench, &plain)?) } else { None };
    let idle = if wanted.contains(&Part::Idle) { idle::run(bench) } else { Vec::new() };
    let bulk = if wanted.contains(&Part::Bulk) { bulk::run(bench) } else { Vec::new() };
    let mut results = Results {
        date: report::today(),
        command: report::command_line(),
        machine,
        cores: bench.cores.clone(),
        rounds: bench.plan.rounds,
        seconds: bench.plan.duration,
        versions: bench.programs.versions(),
        notices: bench.notices.clone(),
        verdicts: Vec::new(),
        plain,
        rate,
        idle,
        bulk,
    };
    results.verdicts = budget::check(&results);
    Ok(results)
}
