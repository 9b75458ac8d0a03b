//! TLS, HTTP/2 and gRPC, compared with the peers as plain HTTP/1.1 is: one worker on one core, in
//! turn, over several rounds, by processor time.

mod h2load;
mod handshake;
mod material;
mod measure;
mod probe;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::bench::Bench;
use crate::child;
use crate::contender::{Contender, Ports, Protocols, Started, Upstream};
use crate::machine::{self, Machine};
use crate::plain::FOREIGN_SHARE;
use crate::plan::{self, Common, Plan, Size};
use crate::programs;
use crate::report::{Destination, Report as _, command_line, today};
use crate::wrk;
use handshake::Clients;
use material::Material;
use measure::{Counted, Sample};
use probe::Look;
use report::Results;

/// The path of the unary call.
const CALL_PATH: &str = "/bench.Unary/Call";

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Scenario {
    /// HTTP/1.1 without TLS, 1 KiB, 64 connections: as `osmia-bench run` has it.
    Plain,
    /// HTTP/1.1 over TLS, kept alive, 1 KiB, 64 connections.
    #[value(name = "tls-1k")]
    Tls1k,
    /// The same with 64 KiB.
    #[value(name = "tls-64k")]
    Tls64k,
    /// The same with 1 MiB, 16 connections.
    #[value(name = "tls-1m")]
    Tls1m,
    /// Full handshakes.
    Handshake,
    /// Resumed handshakes, with tickets.
    Resume,
    /// HTTP/2 over TLS, 1 KiB, 32 connections with 10 streams.
    H2Tls,
    /// HTTP/2 by prior knowledge, 1 KiB, 32 connections with 10 streams.
    H2c,
    /// Unary gRPC by prior knowledge to an upstream that speaks it, 32 connections with 10 streams.
    Grpc,
}

impl Scenario {
    /// In the report.
    fn title(self) -> &'static str {
        match self {
            Self::Plain => "HTTP/1.1 without TLS, 1 KiB, 64 connections",
            Self::Tls1k => "TLS keep-alive, 1 KiB, 64 connections",
            Self::Tls64k => "TLS keep-alive, 64 KiB, 64 connections",
            Self::Tls1m => "TLS keep-alive, 1 MiB, 16 connections",
            Self::Handshake => "Full TLS handshakes, 16 at a time",
            Self::Resume => "Resumed TLS handshakes, 16 at a time",
            Self::H2Tls => "HTTP/2 over TLS, 1 KiB, 32 connections × 10 streams",
            Self::H2c => "HTTP/2 by prior knowledge, 1 KiB, 32 connections × 10 streams",
            Self::Grpc => "Unary gRPC by prior knowledge, 32 connections × 10 streams",
        }
    }

    /// Whether handshakes are counted, and not requests.
    fn shakes_hands(self) -> bool {
        matches!(self, Self::Handshake | Self::Resume)
    }

    /// What has to go well before it is measured, besides the check of plain HTTP/1.1.
    fn look(self) -> Option<Look> {
        match self {
            Self::H2Tls => Some(Look::H2Tls),
            Self::H2c => Some(Look::H2c),
            Self::Grpc => Some(Look::Grpc),
            _ => None,
        }
    }

    fn tls(self) -> bool {
        !matches!(self, Self::Plain | Self::H2c | Self::Grpc)
    }
}

/// `osmia-bench protocols`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// What to measure; by default everything.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Programs to compare with.
    #[arg(long, value_delimiter = ',', default_values = ["nginx", "haproxy", "envoy"])]
    peers: Vec<Contender>,
    /// Rounds; in each round every contender has its turn, in a rotated order.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement.
    #[arg(long, value_parser = plan::seconds, default_value = "4s")]
    seconds: u64,
    /// Load before each measurement that is not counted.
    #[arg(long, value_parser = plan::seconds, default_value = "1s")]
    warm_up: u64,
    /// Another Osmia binary to compare with, as `osmia-base`.
    #[arg(long)]
    baseline: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Options {
    fn scenarios(&self) -> Vec<Scenario> {
        let wanted = |scenario: &Scenario| self.only.is_empty() || self.only.contains(scenario);
        Scenario::value_variants().iter().copied().filter(wanted).collect()
    }

    /// What the shared machinery is told.
    fn plan(&self) -> Plan {
        Plan {
            only: vec![plan::Part::Plain],
            peers: Some(self.peers.clone()),
            rows: vec![plan::Row::Plain],
            rounds: self.rounds,
            duration: self.seconds,
            warm_up: self.warm_up,
            conns: Vec::new(),
            body: Vec::new(),
            idle: Vec::new(),
            rate: None,
            bulk: Size(0),
            quick: false,
            baseline: self.baseline.clone(),
            common: self.common.clone(),
        }
    }

    /// Where the results are kept.
    fn destination(&self) -> Option<Destination> {
        let complete = self.scenarios().len() == Scenario::value_variants().len();
        self.common.destination(complete.then_some("protocols"))
    }
}

/// All rounds of one contender with one kind of load.
#[derive(Debug, Clone, Serialize)]
struct Row {
    contender: Contender,
    samples: Vec<Sample>,
    /// As the clients saw it, once each; empty without TLS.
    negotiated: Vec<String>,
}

/// One kind of load and everybody's figures.
#[derive(Debug, Clone, Serialize)]
struct Cell {
    scenario: Scenario,
    rows: Vec<Row>,
}

/// Measures, prints the comparison, and keeps it. A missed budget does not make it fail.
pub(crate) fn run(options: &Options) -> Result<()> {
    child::clean_up_on_signals()?;
    let machine = Machine::inspect(machine::raise_descriptor_limit());
    let mut lab = Lab::prepare(options)?;
    let cells: Vec<Cell> =
        options.scenarios().into_iter().map(|scenario| lab.cell(scenario)).collect();
    let bench = lab.bench;
    let results = Results {
        date: today(),
        command: command_line(),
        machine,
        cores: bench.cores.clone(),
        rounds: options.rounds,
        seconds: options.seconds,
        versions: lab.versions,
        notices: bench.notices,
        ratios: report::ratios(&cells),
        cells,
    };
    results.present(options.destination().as_ref())
}

/// What all kinds of load share.
struct Lab {
    bench: Bench,
    protocols: Protocols,
    material: Material,
    versions: BTreeMap<&'static str, String>,
    _grpc: Upstream,
}

impl Lab {
    fn prepare(options: &Options) -> Result<Self> {
        let bench = Bench::prepare(options.plan())?;
        let programs = &bench.programs;
        let material = Material::make(programs.openssl()?)?;
        let grpc = Upstream::start_program(programs.grpc_upstream()?, &bench.cores.load)?;
        let (cert, key) = (material.cert.clone(), material.key.clone());
        let protocols = Protocols { grpc: grpc.addr, cert, key };
        let mut versions = programs.versions();
        versions.retain(|&name, _| {
            name == "wrk" || bench.contenders.iter().any(|contender| contender.name() == name)
        });
        let version = |path, argument| programs::first_line(Command::new(path).arg(argument));
        versions.insert("h2load", version(programs.h2load()?, "--version"));
        versions.insert("openssl", version(programs.openssl()?, "version"));
        Ok(Self { bench, protocols, material, versions, _grpc: grpc })
    }

    fn cell(&mut self, scenario: Scenario) -> Cell {
        let row = |&contender| Row { contender, samples: Vec::new(), negotiated: Vec::new() };
        let mut rows: Vec<Row> = self.bench.contenders.iter().map(row).collect();
        println!("{}", scenario.title());
        for round in 0..self.bench.plan.rounds {
            for at in self.bench.turns(round) {
                let contender = rows[at].contender;
                let what = format!("{}, round {}", scenario.title(), round + 1);
                let protocols = (scenario != Scenario::Plain).then_some(&self.protocols);
                let material = &self.material;
                let Some((sample, negotiated)) =
                    self.bench.attempt_with(protocols, contender, &what, |bench, started| {
                        Turn { bench, started, material, scenario }.measure()
                    })
                else {
                    continue;
                };
                println!("  round {}: {:<10} {}", round + 1, contender.name(), line(&sample));
                if sample.errors > 0 {
                    let errors = sample.errors;
                    self.bench.notice(format!("{} ({what}): {errors} errors", contender.name()));
                }
                rows[at].samples.push(Sample { round, ..sample });
                if !negotiated.is_empty() && !rows[at].negotiated.contains(&negotiated) {
                    rows[at].negotiated.push(negotiated);
                }
            }
        }
        rows.retain(|row| !row.samples.is_empty());
        Cell { scenario, rows }
    }
}

/// A sample while the run goes on.
fn line(sample: &Sample) -> String {
    let noise = if sample.foreign_share > FOREIGN_SHARE {
        format!(", {:.0} % of its core used by others", sample.foreign_share * 100.0)
    } else {
        String::new()
    };
    format!("{:>8.2} µs each, {:>7.0}/s{noise}", sample.cpu_us, sample.rate)
}

/// One contender with one kind of load.
struct Turn<'a> {
    bench: &'a Bench,
    started: &'a Started,
    material: &'a Material,
    scenario: Scenario,
}

impl Turn<'_> {
    /// The figures, and what was negotiated.
    fn measure(&self) -> Result<(Sample, String)> {
        if self.scenario == Scenario::Plain {
            return Ok((self.wrk(1024, 64)?, String::new()));
        }
        let ports = self.ports()?;
        if let Some(look) = self.scenario.look() {
            probe::look(ports, look).with_context(|| format!("{look:?}"))?;
        }
        match self.scenario {
            Scenario::Plain | Scenario::Tls1k => self.with_tls(|| self.wrk(1024, 64)),
            Scenario::Tls64k => self.with_tls(|| self.wrk(64 << 10, 64)),
            Scenario::Tls1m => self.with_tls(|| self.wrk(1 << 20, 16)),
            Scenario::Handshake => self.handshakes(&Clients::full(ports.tls)?),
            Scenario::Resume => self.handshakes(&Clients::resuming(ports.tls)?),
            Scenario::H2Tls | Scenario::H2c => self.h2load(ports, h2load::Ask::Bytes),
            Scenario::Grpc => {
                let answer = osmia_bench::grpc::answer().len() as u64;
                self.h2load(ports, h2load::Ask::Call(&self.material.call_file(), answer))
            }
        }
    }

    fn ports(&self) -> Result<Ports> {
        self.started.ports.context("started for plain HTTP/1.1 only")
    }

    /// wrk says nothing of TLS: `openssl s_client` with the same library and settings does.
    fn with_tls(&self, load: impl FnOnce() -> Result<Sample>) -> Result<(Sample, String)> {
        let (settings, addr) = (self.material.client_settings(), self.ports()?.tls);
        let negotiated = probe::openssl(self.bench.programs.openssl()?, &settings, addr)?;
        Ok((load()?, negotiated))
    }

    fn wrk(&self, body: u64, connections: usize) -> Result<Sample> {
        let settings = self.material.client_settings();
        let tls = self.scenario.tls();
        let mut load = wrk::Load {
            wrk: self.bench.programs.wrk()?,
            cores: &self.bench.cores.load,
            addr: if tls { self.ports()?.tls } else { self.started.addr },
            tls: tls.then_some(settings.as_path()),
            body,
            connections,
            seconds: 0,
        };
        measure::measure(self.bench, self.started, |seconds| {
            load.seconds = seconds;
            let outcome = load.run()?;
            let units = outcome.requests.saturating_sub(outcome.errors);
            Ok(Counted { units, errors: outcome.errors })
        })
    }

    fn handshakes(&self, clients: &Clients) -> Result<(Sample, String)> {
        let load = |seconds| clients.run(seconds);
        Ok((measure::measure(self.bench, self.started, load)?, clients.negotiated()?))
    }

    fn h2load(&self, ports: Ports, ask: h2load::Ask<'_>) -> Result<(Sample, String)> {
        let tls = self.scenario.tls();
        let load = h2load::Load {
            h2load: self.bench.programs.h2load()?,
            cores: &self.bench.cores.load,
            addr: if tls { ports.tls } else { ports.h2c },
            tls,
            ask,
        };
        let mut negotiated = String::new();
        let sample = measure::measure(self.bench, self.started, |seconds| {
            let outcome = load.run(seconds)?;
            negotiated = outcome.negotiated;
            Ok(outcome.counted)
        })?;
        ensure!(!tls || !negotiated.is_empty(), "h2load does not say what it negotiated");
        Ok((sample, negotiated))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &[&str]) -> Options {
        let line = std::iter::once("protocols").chain(line.iter().copied());
        Cli::try_parse_from(line).map_or_else(|error| panic!("{error}"), |cli| cli.options)
    }

    #[test]
    fn parts_are_named_like_what_they_measure() {
        let some = options(&["--only", "grpc,tls-1k,h2-tls", "--seconds", "3"]);
        assert_eq!(some.scenarios(), [Scenario::Tls1k, Scenario::H2Tls, Scenario::Grpc]);
        assert_eq!((some.plan().duration, some.destination()), (3, None));
    }

    #[test]
    fn a_complete_run_is_kept() {
        let all = options(&["--out", "results"]);
        assert_eq!(all.scenarios().len(), 9);
        assert_eq!(
            all.destination(),
            Some(Destination::for_tests("results".as_ref(), "protocols", false))
        );
    }
}
