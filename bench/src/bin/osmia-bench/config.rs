//! The configuration plane: starts with many routes, changes, traffic under changes, and writes
//! through the Admin API. Everything is started by the benchmark and goes with it.

mod admin;
mod change;
mod churn;
mod data;
mod etcd;
pub(crate) mod gateway;
mod report;
mod start;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use tokio::runtime::{Builder, Runtime};

use crate::child;
use crate::contender::{Contender, Upstream};
use crate::machine::{self, Cores, Machine};
use crate::plan::Common;
use crate::programs::{self, Programs};
use crate::report::{Destination, Report as _, command_line, today};
use data::Data;
use etcd::Etcd;
use gateway::{Gateway, Source};
use report::Results;

/// One part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Start with all routes in etcd.
    EtcdLoad,
    /// Start with all routes in the embedded store.
    EmbeddedLoad,
    /// One changed route: time until it is in effect, processor time, memory.
    Change,
    /// Latency of traffic while routes change.
    Churn,
    /// Writes through the Admin API.
    Admin,
}

const PARTS: [Part; 5] =
    [Part::EtcdLoad, Part::EmbeddedLoad, Part::Change, Part::Churn, Part::Admin];
/// Routes of a complete run: those of the targets.
const ROUTES: usize = 100_000;

/// `osmia-bench config`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = PARTS)]
    only: Vec<Part>,
    /// Routes.
    #[arg(long, default_value_t = ROUTES)]
    routes: usize,
    /// Workers of the gateway.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Rounds: starts from each store, alternations of traffic and of writers.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement that lasts a fixed time.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Changes whose effect is waited for.
    #[arg(long, default_value_t = 1000)]
    changes: u64,
    /// Changes during which processor time is counted, at 200/s.
    #[arg(long, default_value_t = 2000)]
    cpu_changes: u64,
    /// Changes over which memory is looked at.
    #[arg(long, default_value_t = 10_000)]
    memory_changes: u64,
    /// Requests per second under churn; by default an eighth of what one worker can do.
    #[arg(long)]
    rate: Option<u64>,
    #[command(flatten)]
    common: Common,
}

impl Options {
    /// Whether the targets can be judged by such a run.
    fn complete(&self) -> bool {
        self.routes == ROUTES && PARTS.iter().all(|part| self.only.contains(part))
    }

    /// Where the results are kept.
    fn destination(&self) -> Option<Destination> {
        self.common.destination(self.complete().then_some("config"))
    }
}

/// What all parts share. The stores are filled when a part first needs them.
struct Lab {
    options: Options,
    programs: Programs,
    cores: Cores,
    data: Data,
    runtime: Runtime,
    notices: Vec<String>,
    etcd: Option<(Etcd, f64)>,
    embedded: Option<(tempfile::TempDir, f64)>,
    upstream: Upstream,
}

impl Lab {
    fn prepare(options: Options) -> Result<Self> {
        let programs = Programs::find(options.common.osmia.as_deref(), None);
        programs.need(Contender::Osmia)?;
        let cores = Cores::choose(options.common.proxy_core)?;
        machine::pin(&cores.load)?;
        let upstream = Upstream::start(&programs, &cores.load)?;
        let mut lab = Self {
            data: Data::new(options.routes, upstream.addr),
            options,
            programs,
            cores,
            runtime: runtime()?,
            notices: Vec::new(),
            etcd: None,
            embedded: None,
            upstream,
        };
        if lab.cores.shared() {
            lab.notice("gateway and load share the only core: the figures say little".into());
        }
        Ok(lab)
    }

    /// Prints a notice and keeps it for the report.
    fn notice(&mut self, text: String) {
        println!("note: {text}");
        self.notices.push(text);
    }

    /// The URL of an etcd that holds the data, and how long it took to write them, in milliseconds.
    fn etcd(&mut self) -> Result<(String, f64)> {
        if self.etcd.is_none() {
            self.etcd = Some(self.another_etcd()?);
        }
        let (etcd, took) = self.etcd.as_ref().context("no etcd")?;
        Ok((etcd.url.clone(), *took))
    }

    /// One more etcd that holds the data, and how long it took to write them, in milliseconds.
    fn another_etcd(&self) -> Result<(Etcd, f64)> {
        let mut etcd = Etcd::start(&self.cores.load, &self.runtime)?;
        let took = etcd.fill(self.data, &self.runtime)?.as_secs_f64() * 1e3;
        etcd.restart(&self.runtime)?;
        println!("  etcd filled in {took:.0} ms");
        Ok((etcd, took))
    }

    /// The directory of an embedded store that holds the data, and how long it took to write them,
    /// in milliseconds.
    fn embedded(&mut self) -> Result<(PathBuf, f64)> {
        if self.embedded.is_none() {
            let directory = child::scratch()?;
            let took = start::fill(self, directory.path())?;
            println!("  embedded store filled in {took:.0} ms");
            self.embedded = Some((directory, took));
        }
        let (directory, took) = self.embedded.as_ref().context("no embedded store")?;
        Ok((directory.path().to_owned(), *took))
    }

    /// A gateway that has just been executed.
    fn launch(&self, source: Source<'_>) -> Result<Gateway> {
        Gateway::launch(&self.programs, &self.cores, self.options.workers, source)
    }

    /// Measures one part, when it is wanted. A failure is noted; the others go on.
    fn attempt<T>(
        &mut self,
        part: Part,
        measure: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Option<T> {
        if !self.options.only.contains(&part) {
            return None;
        }
        println!("{part:?}");
        match measure(self) {
            Ok(figures) => Some(figures),
            Err(error) => {
                self.notice(format!("{part:?} failed: {error:#}"));
                None
            }
        }
    }

    fn versions(&self) -> std::collections::BTreeMap<&'static str, String> {
        let first_line = |program: &str, argument: &str| {
            programs::in_path(program)
                .map(|path| programs::first_line(Command::new(path).arg(argument)))
        };
        let osmia = self.programs.path(Contender::Osmia);
        let osmia = osmia.map(|path| programs::first_line(Command::new(path).arg("version")));
        [("osmia", osmia), ("etcd", first_line("etcd", "--version"))]
            .into_iter()
            .filter_map(|(name, version)| Some((name, version?)))
            .collect()
    }
}

/// Measures, prints the table, and keeps it. What is measured never makes it fail.
pub(crate) fn run(options: Options) -> Result<()> {
    child::clean_up_on_signals()?;
    let machine = Machine::inspect(machine::raise_descriptor_limit());
    let mut lab = Lab::prepare(options)?;
    let etcd_load = lab.attempt(Part::EtcdLoad, start::from_etcd);
    let embedded_load = lab.attempt(Part::EmbeddedLoad, start::from_embedded);
    let change = lab.attempt(Part::Change, change::run);
    let churn = lab.attempt(Part::Churn, churn::run);
    let admin = lab.attempt(Part::Admin, admin::run);
    let mut results = Results {
        date: today(),
        command: command_line(),
        machine,
        cores: lab.cores.clone(),
        routes: lab.options.routes,
        workers: lab.options.workers,
        rounds: lab.options.rounds,
        seconds: lab.options.seconds,
        versions: lab.versions(),
        notices: lab.notices.clone(),
        targets: Vec::new(),
        etcd_load,
        embedded_load,
        change,
        churn,
        admin,
    };
    results.compare();
    results.present(lab.options.destination().as_ref())
}

/// A runtime for etcd's client, on the thread that uses it.
fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("no runtime for etcd's client")
}

/// Counts durations in microseconds, up to a minute.
fn latencies() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(took.as_micros() as u64);
}

/// A quantile of [`latencies`], in milliseconds.
fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_latencies_are_told_apart() {
        let mut histogram = latencies().expect("a histogram");
        for ms in 1..=100 {
            record(&mut histogram, Duration::from_millis(ms));
        }
        assert!((quantile_ms(&histogram, 0.5) - 50.0).abs() < 0.1);
        assert!((quantile_ms(&histogram, 0.99) - 99.0).abs() < 0.1);
    }
}
