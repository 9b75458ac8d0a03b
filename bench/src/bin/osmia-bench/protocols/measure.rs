//! One measurement: a load that counts, between two readings of the proxy's counters.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::bench::Bench;
use crate::contender::Started;
use crate::plain::{Reading, Usage};

/// What a load did: requests or handshakes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Those that went well.
    pub(super) units: u64,
    pub(super) errors: u64,
}

/// One measurement of one contender.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    /// From 0. A turn that failed leaves no sample.
    pub(super) round: usize,
    /// Processor time of the proxy per request or handshake, in microseconds.
    pub(super) cpu_us: f64,
    /// Requests or handshakes per second of time.
    pub(super) rate: f64,
    pub(super) errors: u64,
    /// TCP connections opened meanwhile on this machine, the load's own included.
    pub(super) connects: u64,
    /// Share of its core that the proxy used.
    pub(super) proxy_share: f64,
    /// Share of the proxy's core that others used: noise.
    pub(super) foreign_share: f64,
    /// Resident memory right after the load, in KiB.
    pub(super) rss_kib: u64,
}

/// Runs the load once to warm up, and once between two readings.
pub(super) fn measure(
    bench: &Bench,
    started: &Started,
    mut load: impl FnMut(u64) -> Result<Counted>,
) -> Result<Sample> {
    load(bench.plan.warm_up)?;
    let (reading, began) = (Reading::take(bench, started)?, Instant::now());
    let Counted { units, errors } = load(bench.plan.duration)?;
    let Usage { cpu_ns, busy_ns, connects } = reading.until_now(bench, started)?;
    let window_ns = began.elapsed().as_nanos() as f64;
    ensure!(units > 0, "nothing was answered, {errors} errors");
    Ok(Sample {
        round: 0,
        cpu_us: cpu_ns / 1e3 / units as f64,
        rate: units as f64 * 1e9 / window_ns,
        errors,
        connects,
        proxy_share: cpu_ns / window_ns,
        foreign_share: ((busy_ns - cpu_ns) / window_ns).max(0.0),
        rss_kib: started.running.group().memory().rss,
    })
}
