//! Closed-loop load: what a request costs.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::bench::Bench;
use crate::contender::{Contender, Started};
use crate::plan::Size;
use crate::proc::{self, Memory};
use crate::wrk::Load;

/// More than this makes a sample doubtful: keep-alive is part of the task.
const CONNECTS_PER_SECOND: f64 = 100.0;

/// Others taking more of the proxy's core than this make a sample doubtful.
pub(crate) const FOREIGN_SHARE: f64 = 0.05;

/// One measurement of one contender.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// Processor time of the proxy per request, in microseconds.
    pub(crate) cpu_us: f64,
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Requests that failed.
    pub(crate) errors: u64,
    /// Connections opened meanwhile on this machine, besides the load's own. Many of them: somebody
    /// does not keep connections alive, or the machine was not idle.
    pub(crate) connects: u64,
    /// Share of its core that the proxy used.
    pub(crate) proxy_share: f64,
    /// Share of the proxy's core that others used: noise.
    pub(crate) foreign_share: f64,
    /// Memory right after the load.
    pub(crate) memory: Memory,
}

/// All rounds of one contender with one kind of load.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) contender: Contender,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    /// One figure of all rounds.
    pub(crate) fn values(&self, figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(figure).collect()
    }
}

/// One kind of load and everybody's figures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cell {
    pub(crate) body: Size,
    pub(crate) connections: usize,
    pub(crate) rows: Vec<Row>,
}

impl Cell {
    /// The figures of one contender.
    pub(crate) fn row(&self, contender: Contender) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == contender)
    }
}

/// Measures every kind of load of the plan.
pub(crate) fn run(bench: &mut Bench) -> Vec<Cell> {
    let mut cells = Vec::new();
    for body in bench.plan.body.clone() {
        for connections in bench.plan.conns.clone() {
            cells.push(cell(bench, body, connections));
        }
    }
    let samples = || cells.iter().flat_map(|cell| &cell.rows).flat_map(|row| &row.samples);
    let disturbed = samples().filter(|sample| sample.foreign_share > FOREIGN_SHARE).count();
    if disturbed > 0 {
        let all = samples().count();
        let percent = FOREIGN_SHARE * 100.0;
        bench.notice(format!(
            "during {disturbed} of {all} measurements others used more than {percent:.0} % of the \
             proxy's core: the machine was not idle"
        ));
    }
    cells
}

fn cell(bench: &mut Bench, body: Size, connections: usize) -> Cell {
    let mut rows: Vec<Row> =
        bench.contenders.iter().map(|&contender| Row { contender, samples: Vec::new() }).collect();
    for round in 0..bench.plan.rounds {
        for at in bench.turns(round) {
            let contender = rows[at].contender;
            let what = format!("{body}, {connections} connections, round {}", round + 1);
            let Some(sample) = bench
                .attempt(contender, &what, |b, started| measure(b, started, body, connections))
            else {
                continue;
            };
            println!(
                "  {what}: {:<12} {:>6.2} µs/request, {:>7.0} requests/s, p99 {:>6.0} µs{}",
                contender.name(),
                sample.cpu_us,
                sample.rate,
                sample.p99_us,
                remark(&sample, bench.plan.duration as f64)
            );
            rows[at].samples.push(sample);
        }
    }
    rows.retain(|row| !row.samples.is_empty());
    Cell { body, connections, rows }
}

/// What makes a sample doubtful.
fn remark(sample: &Sample, seconds: f64) -> String {
    let mut doubts = String::new();
    if sample.errors > 0 {
        let _ = write!(doubts, ", {} errors", sample.errors);
    }
    if sample.connects as f64 > CONNECTS_PER_SECOND * seconds {
        let _ = write!(doubts, ", {} connections opened", sample.connects);
    }
    if sample.foreign_share > FOREIGN_SHARE {
        let percent = sample.foreign_share * 100.0;
        let _ = write!(doubts, ", {percent:.0} % of its core used by others");
    }
    doubts
}

fn measure(bench: &Bench, started: &Started, body: Size, connections: usize) -> Result<Sample> {
    let mut load = Load {
        wrk: bench.programs.wrk()?,
        cores: &bench.cores.load,
        addr: started.addr,
        tls: None,
        body: body.0,
        connections,
        seconds: bench.plan.warm_up,
    };
    load.run()?;
    load.seconds = bench.plan.duration;
    let reading = Reading::take(bench, started)?;
    let outcome = load.run()?;
    anyhow::ensure!(outcome.requests > 0, "no request was answered");
    let Usage { cpu_ns, busy_ns, connects } = reading.until_now(bench, started)?;
    let window_ns = outcome.duration_us as f64 * 1e3;
    Ok(Sample {
        cpu_us: cpu_ns / 1e3 / outcome.requests as f64,
        rate: outcome.requests as f64 * 1e6 / outcome.duration_us as f64,
        p50_us: outcome.p50_us as f64,
        p99_us: outcome.p99_us as f64,
        p999_us: outcome.p999_us as f64,
        errors: outcome.errors,
        connects: connects.saturating_sub(connections as u64),
        proxy_share: cpu_ns / window_ns,
        foreign_share: ((busy_ns - cpu_ns) / window_ns).max(0.0),
        memory: started.running.group().memory(),
    })
}

/// Counters before a load.
pub(crate) struct Reading {
    cpu_ns: u64,
    busy_ticks: u64,
    connects: u64,
}

/// What happened between a [`Reading`] and now.
pub(crate) struct Usage {
    /// Processor time of the proxy's process group.
    pub(crate) cpu_ns: f64,
    /// Time that the proxy's core was busy, whoever used it.
    pub(crate) busy_ns: f64,
    /// TCP connections opened on this machine, the load's own included.
    pub(crate) connects: u64,
}

impl Reading {
    /// Reads the counters.
    pub(crate) fn take(bench: &Bench, started: &Started) -> Result<Self> {
        Ok(Self {
            cpu_ns: started.running.group().cpu_ns()?,
            busy_ticks: proc::core_busy_ticks(bench.cores.proxy),
            connects: proc::connects(),
        })
    }

    /// Reads them again.
    pub(crate) fn until_now(&self, bench: &Bench, started: &Started) -> Result<Usage> {
        let now = Self::take(bench, started)?;
        let busy_ticks = now.busy_ticks.saturating_sub(self.busy_ticks) as f64;
        Ok(Usage {
            cpu_ns: now.cpu_ns.saturating_sub(self.cpu_ns) as f64,
            busy_ns: busy_ticks * 1e9 / proc::ticks_per_second() as f64,
            connects: now.connects.saturating_sub(self.connects),
        })
    }
}
