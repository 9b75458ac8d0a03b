//! One changed route among many: how soon it is in effect, and what it costs.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use etcd_client::Client;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::data::{Data, stored};
use super::etcd::{self, Stream};
use super::gateway::{Gateway, Source, Watch};
use super::{Lab, latencies, quantile_ms, record};

/// How long a change may take to be in effect before the part is given up.
const LIMIT: Duration = Duration::from_secs(30);
/// Changes that are not counted, to begin with.
const WARM_UP: u64 = 50;
/// Pauses between two changes, in turn: they fall at all phases of whatever has a period.
const PAUSES_MS: [u64; 4] = [2, 7, 4, 11];
/// Changes per second while processor time is counted.
const COUNTED_RATE: u64 = 200;
/// Changes per second while memory is looked at.
const LONG_RATE: u64 = 1000;
/// Rest before a figure is read, so that what was begun is done.
const REST: Duration = Duration::from_secs(2);

/// What changes cost.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Change {
    /// Changes whose effect was waited for, one at a time.
    pub(super) changes: u64,
    /// From etcd's answer to the first response that shows the change, in milliseconds.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// From the request to etcd, in milliseconds.
    pub(super) whole_p50_ms: f64,
    pub(super) whole_p99_ms: f64,
    /// One request on the same connection when nothing changes: what the figures above contain.
    pub(super) request_p50_ms: f64,
    /// Processor time per change without traffic, idle time taken off, in milliseconds.
    pub(super) cpu_ms: f64,
    /// Processor time of the idle gateway, in milliseconds per second.
    pub(super) idle_cpu_ms: f64,
    /// Changes per second that etcd took while processor time was counted.
    pub(super) cpu_rate: f64,
    /// Changes between the looks at memory.
    pub(super) memory_step: u64,
    /// Resident set before, after each step, and at the end, in MiB.
    pub(super) rss_mib: Vec<f64>,
}

impl Change {
    /// How much memory grew over the changes, in MiB.
    pub(super) fn growth_mib(&self) -> f64 {
        match (self.rss_mib.first(), self.rss_mib.last()) {
            (Some(first), Some(last)) => last - first,
            _ => f64::NAN,
        }
    }
}

pub(super) fn run(lab: &mut Lab) -> Result<Change> {
    let (url, _) = lab.etcd()?;
    let mut gateway = lab.launch(Source::Etcd(&url))?;
    gateway.await_serving(lab.data)?;
    let mut changer = Changer {
        lab,
        client: lab.runtime.block_on(etcd::connect(&url))?,
        watch: gateway.watch()?,
        version: 0,
    };
    let request_p50_ms = changer.request()?;
    let latency = changer.latency()?;
    let (cpu_ms, idle_cpu_ms, cpu_rate) = changer.cpu(&gateway)?;
    let (memory_step, rss_mib) = changer.memory(&gateway)?;
    println!(
        "  changes: p50 {:.2} ms, p99 {:.2} ms; {cpu_ms:.3} ms of CPU each; MiB resident {:.1?}",
        quantile_ms(&latency.effect, 0.5),
        quantile_ms(&latency.effect, 0.99),
        rss_mib
    );
    Ok(Change {
        changes: latency.effect.len(),
        p50_ms: quantile_ms(&latency.effect, 0.5),
        p99_ms: quantile_ms(&latency.effect, 0.99),
        max_ms: quantile_ms(&latency.effect, 1.0),
        whole_p50_ms: quantile_ms(&latency.whole, 0.5),
        whole_p99_ms: quantile_ms(&latency.whole, 0.99),
        request_p50_ms,
        cpu_ms,
        idle_cpu_ms,
        cpu_rate,
        memory_step,
        rss_mib,
    })
}

/// Changes routes in etcd and sees them come into effect.
struct Changer<'a> {
    lab: &'a Lab,
    client: Client,
    watch: Watch,
    /// Of the last change.
    version: u64,
}

/// In microseconds.
struct Latency {
    effect: Histogram<u64>,
    whole: Histogram<u64>,
}

impl Changer<'_> {
    /// Changes the probe, waits for the effect, and says when etcd answered.
    fn change(&mut self) -> Result<Instant> {
        self.version += 1;
        self.put_probe(self.version)?;
        let answered = Instant::now();
        self.see(self.version)?;
        Ok(answered)
    }

    fn put_probe(&self, version: u64) -> Result<()> {
        let (key, value) = self.lab.data.route(self.lab.data.probe(), version);
        self.lab.runtime.block_on(etcd::put(self.client.clone(), stored(&key), value))?;
        Ok(())
    }

    fn see(&mut self, version: u64) -> Result<()> {
        let probe = self.lab.data.probe();
        let path = Data::path(probe, version) + "/1";
        self.watch.until_ok(&Data::host(probe), &path, LIMIT)
    }

    /// Median of single requests, in milliseconds.
    fn request(&mut self) -> Result<f64> {
        let mut latency = latencies()?;
        let host = Data::host(self.lab.data.traffic());
        for _ in 0..1000 {
            let begun = Instant::now();
            self.watch.until_ok(&host, "/bytes/1", LIMIT)?;
            record(&mut latency, begun.elapsed());
        }
        Ok(quantile_ms(&latency, 0.5))
    }

    fn latency(&mut self) -> Result<Latency> {
        let mut latency = Latency { effect: latencies()?, whole: latencies()? };
        for (number, pause) in (0..WARM_UP + self.lab.options.changes).zip(PAUSES_MS.iter().cycle())
        {
            thread::sleep(Duration::from_millis(*pause));
            let begun = Instant::now();
            let answered = self.change()?;
            if number >= WARM_UP {
                record(&mut latency.effect, answered.elapsed());
                record(&mut latency.whole, begun.elapsed());
            }
        }
        Ok(latency)
    }

    /// Streams changes without looking, then waits until the last has come into effect.
    fn stream(&mut self, rate: u64, count: u64) -> Result<f64> {
        let stream =
            Stream { data: self.lab.data, rate, version: self.version + 1, count, key: stored };
        let never = AtomicBool::new(false);
        let done = self.lab.runtime.block_on(stream.run(&self.client, &never))?;
        self.version += count;
        self.change()?;
        Ok(done.rate)
    }

    /// Processor time per change and of the idle gateway per second, in milliseconds, and the rate
    /// at which changes came.
    fn cpu(&mut self, gateway: &Gateway) -> Result<(f64, f64, f64)> {
        let count = self.lab.options.cpu_changes;
        thread::sleep(REST);
        let (from, begun) = (gateway.cpu()?, Instant::now());
        thread::sleep(Duration::from_secs(self.lab.options.seconds));
        let idle =
            gateway.cpu()?.saturating_sub(from).as_secs_f64() / begun.elapsed().as_secs_f64();
        let (from, begun) = (gateway.cpu()?, Instant::now());
        let rate = self.stream(COUNTED_RATE, count)?;
        thread::sleep(Duration::from_millis(200));
        let used = gateway.cpu()?.saturating_sub(from).as_secs_f64();
        let net = (used - idle * begun.elapsed().as_secs_f64()).max(0.0);
        Ok((net * 1e3 / (count + 1) as f64, idle * 1e3, rate))
    }

    /// Changes per step, and the resident set before and after each of five steps.
    fn memory(&mut self, gateway: &Gateway) -> Result<(u64, Vec<f64>)> {
        const STEPS: u64 = 5;
        let step = self.lab.options.memory_changes.div_ceil(STEPS);
        thread::sleep(REST);
        let mut seen = vec![gateway.rss_mib()];
        for _ in 0..STEPS {
            self.stream(LONG_RATE, step)?;
            thread::sleep(REST);
            seen.push(gateway.rss_mib());
        }
        Ok((step, seen))
    }
}
