//! Fixed-rate load: latency when everybody has the same work to do.

use std::time::Duration;

use anyhow::Result;
use osmia_bench::load::OpenLoop;
use serde::Serialize;

use crate::bench::Bench;
use crate::contender::{Contender, Started};
use crate::plain::Cell;
use crate::plan::Size;
use crate::stats::Spread;
use crate::wrk::Load;

/// The load: that of the plan's main cell.
const BODY: Size = Size(1024);
const CONNECTIONS: usize = 64;

/// One measurement of one contender.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// Processor time of the proxy per answered request, warm-up included, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) failed: u64,
}

/// All rounds of one contender.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) contender: Contender,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    /// One figure over the rounds.
    pub(crate) fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(figure))
    }
}

/// The rate and everybody's figures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FixedRate {
    /// Requests per second.
    pub(crate) rate: u64,
    pub(crate) body: Size,
    pub(crate) connections: usize,
    pub(crate) rows: Vec<Row>,
}

/// Measures everybody at half of what the slowest peer reaches, as seen in `cells` or probed.
pub(crate) fn run(bench: &mut Bench, cells: &[Cell]) -> Result<FixedRate> {
    let rate = match bench.plan.rate {
        Some(rate) => rate,
        None => half_of_slowest(bench, cells),
    };
    anyhow::ensure!(rate > 0, "no peer answers, so there is no rate to measure at: give --rate");
    let mut rows: Vec<Row> =
        bench.contenders.iter().map(|&contender| Row { contender, samples: Vec::new() }).collect();
    for round in 0..bench.plan.rounds {
        for at in bench.turns(round) {
            let contender = rows[at].contender;
            let what = format!("{rate} requests/s, round {}", round + 1);
            let Some(sample) = bench.attempt(contender, &what, |b, s| measure(b, s, rate)) else {
                continue;
            };
            println!(
                "  {what}: {:<12} p50 {:>5.0} µs, p99 {:>6.0} µs, p99.9 {:>6.0} µs",
                contender.name(),
                sample.p50_us,
                sample.p99_us,
                sample.p999_us
            );
            rows[at].samples.push(sample);
        }
    }
    rows.retain(|row| !row.samples.is_empty());
    Ok(FixedRate { rate, body: BODY, connections: CONNECTIONS, rows })
}

fn half_of_slowest(bench: &mut Bench, cells: &[Cell]) -> u64 {
    let cell = cells.iter().find(|c| c.body == BODY && c.connections == CONNECTIONS);
    let peers: Vec<Contender> =
        bench.contenders.iter().copied().filter(|contender| contender.is_peer()).collect();
    let mut slowest: Option<f64> = None;
    for peer in peers {
        let seen = cell
            .and_then(|cell| Spread::of(cell.row(peer)?.values(|sample| sample.rate)))
            .map(|spread| spread.median)
            .or_else(|| bench.attempt(peer, "probing its greatest rate", probe));
        if let Some(rate) = seen {
            slowest = Some(slowest.map_or(rate, |slowest| slowest.min(rate)));
        }
    }
    // Whole hundreds: the last digits say nothing.
    slowest.map_or(0, |rate| (rate / 200.0) as u64 * 100)
}

fn probe(bench: &Bench, started: &Started) -> Result<f64> {
    let load = Load {
        wrk: bench.programs.wrk()?,
        cores: &bench.cores.load,
        addr: started.addr,
        tls: None,
        body: BODY.0,
        connections: CONNECTIONS,
        seconds: bench.plan.duration,
    };
    let outcome = load.run()?;
    Ok(outcome.requests as f64 * 1e6 / outcome.duration_us as f64)
}

fn measure(bench: &Bench, started: &Started, rate: u64) -> Result<Sample> {
    let load = OpenLoop {
        addr: started.addr,
        host: None,
        path: format!("/bytes/{}", BODY.0),
        rate,
        connections: CONNECTIONS,
        warm_up: Duration::from_secs(bench.plan.warm_up),
        duration: Duration::from_secs(bench.plan.duration),
    };
    let group = started.running.group();
    let cpu = group.cpu_ns()?;
    let answers = load.run()?;
    let cpu_ns = group.cpu_ns()?.saturating_sub(cpu) as f64;
    let latency = &answers.latency_us;
    anyhow::ensure!(!latency.is_empty(), "no request was answered");
    Ok(Sample {
        p50_us: latency.value_at_quantile(0.5) as f64,
        p99_us: latency.value_at_quantile(0.99) as f64,
        p999_us: latency.value_at_quantile(0.999) as f64,
        max_us: latency.max() as f64,
        cpu_us: cpu_ns / 1e3 / (latency.len() + answers.uncounted) as f64,
        failed: answers.failed,
    })
}
