//! Active health checks: what probing many upstreams costs the gateway.

mod report;
mod target;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::child;
use crate::config::gateway::{Gateway, Source};
use crate::contender::Contender;
use crate::machine::{self, Cores, Machine};
use crate::plan::Common;
use crate::programs::{self, Programs};
use crate::report::{Report as _, command_line, today};
use report::Results;
use target::Target;

/// How long it may take until all upstreams have been probed.
const FIRST_PROBES: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// `osmia-bench health`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Upstreams, of one node each.
    #[arg(long, default_value_t = 2500)]
    upstreams: usize,
    /// Seconds between two probes of a node; several are measured one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    interval: Vec<u64>,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

/// One gateway, watched for a while.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    /// Seconds between two probes; `None`: the same upstreams without checks.
    interval: Option<u64>,
    /// Processor time of the whole process, user and system, in per cent of a core.
    core_percent: f64,
    probes_per_second: f64,
    /// Connections that were made for them.
    connections_per_second: f64,
    rss_mib: f64,
}

/// Measures, prints the table, and keeps it if it has a name.
pub(crate) fn run(options: &Options) -> Result<()> {
    child::clean_up_on_signals()?;
    let machine = Machine::inspect(machine::raise_descriptor_limit());
    let programs = Programs::find(options.common.osmia.as_deref(), None);
    let osmia = programs.need(Contender::Osmia)?;
    let version = programs::first_line(std::process::Command::new(osmia).arg("version"));
    let cores = Cores::choose(options.common.proxy_core)?;
    machine::pin(&cores.load)?;
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        let intervals = options.interval.iter().copied().map(Some);
        for interval in std::iter::once(None).chain(intervals) {
            let sample = measure(options, &programs, &cores, interval)?;
            println!("  round {round}: {sample:.2?}");
            samples.push(sample);
        }
    }
    let results = Results {
        date: today(),
        command: command_line(),
        machine,
        cores,
        upstreams: options.upstreams,
        rounds: options.rounds,
        seconds: options.seconds,
        version,
        samples,
    };
    results.present(options.common.destination(None).as_ref())
}

/// Starts a gateway, waits until each upstream has been probed twice, and watches it.
fn measure(
    options: &Options,
    programs: &Programs,
    cores: &Cores,
    interval: Option<u64>,
) -> Result<Sample> {
    let target = Target::start(options.upstreams)?;
    let resources = resources(options.upstreams, target.port, interval);
    let mut gateway = Gateway::launch(programs, cores, 1, Source::File(&resources))?;
    gateway.await_ready()?;
    if interval.is_some() {
        let deadline = Instant::now() + FIRST_PROBES;
        while target.fewest() < 2 {
            ensure!(
                Instant::now() < deadline,
                "not all upstreams are probed:\n{}",
                gateway.last_words()
            );
            thread::sleep(POLL);
        }
    } else {
        // What a start leaves behind is done by then.
        thread::sleep(Duration::from_secs(2));
    }
    let (begun, cpu, before) = (Instant::now(), gateway.cpu()?, target.counts());
    thread::sleep(Duration::from_secs(options.seconds));
    let (seconds, cpu, after) =
        (begun.elapsed().as_secs_f64(), gateway.cpu()?.saturating_sub(cpu), target.counts());
    Ok(Sample {
        interval,
        core_percent: 100.0 * cpu.as_secs_f64() / seconds,
        probes_per_second: (after.requests - before.requests) as f64 / seconds,
        connections_per_second: (after.connections - before.connections) as f64 / seconds,
        rss_mib: gateway.rss_mib(),
    })
}

/// Upstreams of one node each, each probed at a path of its own, and a route to each.
fn resources(upstreams: usize, port: u16, interval: Option<u64>) -> Value {
    let upstream = |id: usize| {
        let mut upstream = json!({
            "id": id.to_string(),
            "type": "roundrobin",
            "nodes": [{ "host": address(id), "port": port, "weight": 1 }],
        });
        if let Some(interval) = interval {
            upstream["checks"] = json!({ "active": {
                "type": "http", "http_path": format!("/{id}"),
                "healthy": { "interval": interval }, "unhealthy": { "interval": interval },
            } });
        }
        upstream
    };
    let route = |id: usize| {
        let host = format!("r{id}.test");
        json!({ "id": id.to_string(), "uri": "/*", "host": host, "upstream_id": id.to_string() })
    };
    json!({
        "upstreams": (0..upstreams).map(upstream).collect::<Vec<_>>(),
        "routes": (0..upstreams).map(route).collect::<Vec<_>>(),
    })
}

/// An address of the loopback network for each upstream, as they have in production.
fn address(id: usize) -> String {
    format!("127.1.{}.{}", (id / 250) % 256, id % 250 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_upstream_has_an_address_a_path_and_a_route() {
        let all = resources(300, 80, Some(2));
        assert_eq!(all["upstreams"][299]["nodes"][0]["host"], "127.1.1.50");
        assert_eq!(all["upstreams"][7]["checks"]["active"]["http_path"], "/7");
        assert_eq!(all["routes"][299]["upstream_id"], all["upstreams"][299]["id"]);
        assert!(resources(1, 80, None)["upstreams"][0].get("checks").is_none());
    }
}
