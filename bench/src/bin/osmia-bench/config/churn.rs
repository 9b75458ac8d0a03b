//! Traffic at a fixed rate, quiet and while changes stream in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use osmia_bench::load::{Answers, OpenLoop};
use serde::Serialize;

use super::data::{Data, aside, stored};
use super::etcd::{self, Stream, Streamed};
use super::gateway::Source;
use super::{Lab, runtime};
use crate::machine::{self, Whose};
use crate::stats::Spread;

/// Connections of the traffic.
const CONNECTIONS: usize = 64;
/// More than any gateway answers: the open loop becomes a closed one.
const BOUNDLESS: u64 = 100_000;
const CHANGES_PER_SECOND: u64 = 100;
/// Of the greatest rate, what the traffic has: enough that a core is half busy on two, where load
/// and upstream share one with etcd.
const SHARE: f64 = 8.0;
/// One turn of each kind after the other: short ones, since how much of the machine there is varies
/// by the second.
const TURN: Duration = Duration::from_secs(1);

/// What happens besides the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Besides {
    /// Nothing.
    Quiet,
    /// The same writes into etcd, to keys that the gateway does not watch: what etcd and the
    /// harness cost on this machine.
    Aside,
    /// Changes of routes.
    Churn,
}

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    pub(super) round: usize,
    pub(super) besides: Besides,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) changes: Option<Streamed>,
}

/// All rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Churn {
    /// What one worker reached with as many requests as the connections carry, per second.
    pub(super) greatest_rate: Option<f64>,
    /// Requests per second.
    pub(super) rate: u64,
    pub(super) connections: usize,
    pub(super) samples: Vec<Sample>,
}

impl Churn {
    fn p99(&self, besides: Besides) -> Vec<f64> {
        self.samples.iter().filter(|s| s.besides == besides).map(|s| s.p99_us).collect()
    }

    /// The median p99 of the rounds, in microseconds.
    pub(super) fn p99_spread(&self, besides: Besides) -> Option<Spread> {
        Spread::of(self.p99(besides))
    }

    /// p99 under churn over p99 with `besides`, round by round.
    pub(super) fn ratio(&self, besides: Besides) -> Option<Spread> {
        Spread::of_ratios(&self.p99(Besides::Churn), &self.p99(besides))
    }

    /// Requests that failed in all of it.
    pub(super) fn failed(&self) -> u64 {
        self.samples.iter().map(|sample| sample.failed).sum()
    }
}

/// The traffic, and whether what makes it goes before etcd and the rest of the harness on the cores
/// that they share. Elsewhere they would not share any; on two cores the p99 is etcd's otherwise.
#[derive(Clone)]
struct Traffic {
    load: OpenLoop,
    goes_first: bool,
}

impl Traffic {
    /// From a thread of its own: nothing else of the harness may go first.
    fn run(&self) -> Result<Answers> {
        let made = thread::scope(|scope| {
            let making = scope.spawn(|| {
                if self.goes_first {
                    machine::go_first(Whose::ThisThread, 1)?;
                }
                Ok(self.load.run()?)
            });
            making.join()
        });
        made.ok().context("the load broke off")?
    }

    /// The rate at which answers come when there are always more requests.
    fn greatest(&self) -> Result<f64> {
        let mut traffic = self.clone();
        (traffic.load.warm_up, traffic.load.duration) = (Duration::ZERO, Duration::from_secs(2));
        let begun = Instant::now();
        let answers = traffic.run()?;
        let rate = answers.latency_us.len() as f64 / begun.elapsed().as_secs_f64();
        ensure!(rate > 0.0, "no request was answered");
        Ok(rate)
    }
}

pub(super) fn run(lab: &mut Lab) -> Result<Churn> {
    let (url, _) = lab.etcd()?;
    let mut gateway = lab.launch(Source::Etcd(&url))?;
    gateway.await_serving(lab.data)?;
    let upstream = Whose::Process(lab.upstream.pid());
    let goes_first = machine::go_first(upstream, 2);
    if let Err(error) = &goes_first {
        lab.notice(format!(
            "churn: load and upstream wait for etcd where they share cores with it: {error:#}"
        ));
    }
    let load = OpenLoop {
        addr: gateway.traffic,
        host: Some(Data::host(lab.data.traffic())),
        path: "/bytes/1024".into(),
        rate: lab.options.rate.unwrap_or(BOUNDLESS),
        connections: CONNECTIONS,
        warm_up: Duration::from_secs(1),
        duration: TURN,
    };
    let traffic = Traffic { load, goes_first: goes_first.is_ok() };
    let churn = take_turns(lab, traffic, &url);
    if goes_first.is_ok() {
        machine::go_first(upstream, 0)?;
    }
    churn
}

fn take_turns(lab: &Lab, mut traffic: Traffic, url: &str) -> Result<Churn> {
    let greatest_rate = if lab.options.rate.is_some() { None } else { Some(traffic.greatest()?) };
    if let Some(greatest) = greatest_rate {
        // Whole hundreds: the last digits say nothing.
        traffic.load.rate = ((greatest / SHARE / 100.0) as u64 * 100).max(100);
    }
    let rate = traffic.load.rate;
    println!("  traffic: {rate} requests/s (at most {greatest_rate:.0?})");
    let mut churn = Churn { greatest_rate, rate, connections: CONNECTIONS, samples: Vec::new() };
    let mut version = 1_000_000;
    for round in 0..lab.options.rounds * lab.options.seconds as usize {
        let mut turns = [Besides::Quiet, Besides::Aside, Besides::Churn];
        turns.rotate_left(round % 3);
        for besides in turns {
            let (answers, changes) = measure(lab.data, &traffic, besides, url, version)?;
            version += changes.map_or(0, |changes| changes.changes);
            let sample = sample(round + 1, besides, &answers, changes)?;
            println!(
                "  round {}, {besides:?}: p50 {:.0} µs, p99 {:.0} µs, {} of {} failed",
                sample.round, sample.p50_us, sample.p99_us, sample.failed, sample.answered
            );
            churn.samples.push(sample);
        }
    }
    Ok(churn)
}

fn measure(
    data: Data,
    traffic: &Traffic,
    besides: Besides,
    url: &str,
    version: u64,
) -> Result<(Answers, Option<Streamed>)> {
    let key = match besides {
        Besides::Quiet => return Ok((traffic.run()?, None)),
        Besides::Aside => aside as fn(&str) -> String,
        Besides::Churn => stored,
    };
    let stream = Stream { data, rate: CHANGES_PER_SECOND, version, count: u64::MAX, key };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let streaming = scope.spawn(|| -> Result<Streamed> {
            runtime()?.block_on(async { stream.run(&etcd::connect(url).await?, &stop).await })
        });
        let answers = traffic.run();
        stop.store(true, Ordering::Relaxed);
        let changes = streaming.join().ok().context("the stream of changes broke off")??;
        Ok((answers?, Some(changes)))
    })
}

fn sample(
    round: usize,
    besides: Besides,
    answers: &Answers,
    changes: Option<Streamed>,
) -> Result<Sample> {
    let latency = &answers.latency_us;
    ensure!(!latency.is_empty(), "no request was answered");
    Ok(Sample {
        round,
        besides,
        p50_us: latency.value_at_quantile(0.5) as f64,
        p99_us: latency.value_at_quantile(0.99) as f64,
        p999_us: latency.value_at_quantile(0.999) as f64,
        max_us: latency.max() as f64,
        answered: latency.len(),
        failed: answers.failed,
        changes,
    })
}
