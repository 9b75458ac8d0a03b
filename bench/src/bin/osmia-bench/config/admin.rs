//! Writes through the Admin API: into the embedded store, and into etcd beside a bare client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::data::{Data, stored};
use super::gateway::{Source, admin_request};
use super::{Lab, etcd, latencies, quantile_ms, record};
use crate::http::{Head, parse_head};
use crate::stats::Spread;

const CLIENTS: u64 = 16;
/// Numbers from here on are routes that the store does not begin with.
const NEW_ROUTES: usize = 10_000_000;
/// What is written before counting begins.
const WARM_UP: Duration = Duration::from_millis(500);
/// Pairs of turns per round with etcd. Many short ones: what a sync to the disk takes varies by the
/// second.
const TURNS: u64 = 4;

/// Who writes, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// The Admin API into the embedded store.
    Embedded,
    /// The Admin API into etcd.
    Etcd,
    /// A bare client into an etcd of its own.
    BareEtcd,
}

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    pub(super) way: Way,
    /// Confirmed writes per second.
    pub(super) rate: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// All turns, in their order.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Admin {
    pub(super) clients: u64,
    pub(super) samples: Vec<Sample>,
}

impl Admin {
    fn rates(&self, way: Way) -> Vec<f64> {
        self.samples.iter().filter(|s| s.way == way).map(|s| s.rate).collect()
    }

    /// Writes per second over the rounds.
    pub(super) fn rate(&self, way: Way) -> Option<Spread> {
        Spread::of(self.rates(way))
    }

    /// A latency over the rounds, in milliseconds.
    pub(super) fn latency(&self, way: Way, figure: fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().filter(|s| s.way == way).map(figure))
    }

    /// What the Admin API reaches of a bare client's rate, turn by turn.
    pub(super) fn ratio(&self) -> Option<Spread> {
        Spread::of_ratios(&self.rates(Way::Etcd), &self.rates(Way::BareEtcd))
    }
}

pub(super) fn run(lab: &mut Lab) -> Result<Admin> {
    let mut admin = Admin { clients: CLIENTS, samples: Vec::new() };
    // So that no round writes what an earlier one wrote.
    let numbers = Arc::new(AtomicU64::new(1));
    into_embedded(lab, &mut admin, &numbers)?;
    into_etcd(lab, &mut admin, &numbers)?;
    Ok(admin)
}

fn into_embedded(lab: &mut Lab, admin: &mut Admin, numbers: &Arc<AtomicU64>) -> Result<()> {
    let (directory, _) = lab.embedded()?;
    let mut gateway = lab.launch(Source::Embedded(&directory))?;
    gateway.await_serving(lab.data)?;
    for _ in 0..lab.options.rounds {
        let writers = Writers { data: lab.data, seconds: lab.options.seconds, numbers };
        let written = lab.runtime.block_on(writers.through_admin_api(gateway.admin))?;
        admin.add(Way::Embedded, written);
    }
    Ok(())
}

fn into_etcd(lab: &mut Lab, admin: &mut Admin, numbers: &Arc<AtomicU64>) -> Result<()> {
    let (url, _) = lab.etcd()?;
    // One that the gateway has nothing to do with: etcd 3.4 keeps the largest buffer that a burst
    // of puts has needed, and copies it for each transaction that it is sent from then on, so the
    // gateway would pay for the bare client's turns.
    let (other, _) = lab.another_etcd()?;
    let mut gateway = lab.launch(Source::Etcd(&url))?;
    gateway.await_serving(lab.data)?;
    let seconds = (lab.options.seconds / TURNS).max(1);
    let writers = Writers { data: lab.data, seconds, numbers };
    for pair in 0..lab.options.rounds as u64 * TURNS {
        let mut turns = [Way::Etcd, Way::BareEtcd];
        turns.rotate_left((pair % 2) as usize);
        for way in turns {
            let written = if way == Way::Etcd {
                lab.runtime.block_on(writers.through_admin_api(gateway.admin))?
            } else {
                lab.runtime.block_on(writers.bare(&other.url))?
            };
            admin.add(way, written);
        }
    }
    Ok(())
}

impl Admin {
    fn add(&mut self, way: Way, (seconds, latency): (u64, Histogram<u64>)) {
        let sample = Sample {
            way,
            rate: latency.len() as f64 / seconds as f64,
            p50_ms: quantile_ms(&latency, 0.5),
            p99_ms: quantile_ms(&latency, 0.99),
        };
        println!(
            "  {way:?}: {:.0} writes/s, p50 {:.2} ms, p99 {:.2} ms",
            sample.rate, sample.p50_ms, sample.p99_ms
        );
        self.samples.push(sample);
    }
}

/// Which route write `number` is of: half of them are new, half change one that is there.
fn route(data: Data, number: u64) -> usize {
    if number.is_multiple_of(2) {
        NEW_ROUTES + number as usize
    } else {
        data.changed(number as usize)
    }
}

/// What one client counts: latencies in microseconds of what fell into the time that counts.
struct Tally {
    counted_from: Instant,
    until: Instant,
    latency_us: Histogram<u64>,
}

impl Tally {
    fn new(seconds: u64) -> Result<Self> {
        let counted_from = Instant::now() + WARM_UP;
        let until = counted_from + Duration::from_secs(seconds);
        Ok(Self { counted_from, until, latency_us: latencies()? })
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// Counts a write by when it was confirmed.
    fn count(&mut self, begun: Instant) {
        let now = Instant::now();
        if self.counted_from <= now && now < self.until {
            record(&mut self.latency_us, now - begun);
        }
    }
}

/// The clients of one turn.
#[derive(Clone, Copy)]
struct Writers<'a> {
    data: Data,
    /// How long they are counted.
    seconds: u64,
    /// The number of the next write.
    numbers: &'a Arc<AtomicU64>,
}

impl Writers<'_> {
    /// One thread for all clients, as the bare one has it: both share a core with etcd.
    async fn through_admin_api(self, addr: SocketAddr) -> Result<(u64, Histogram<u64>)> {
        let (data, seconds) = (self.data, self.seconds);
        let writers: JoinSet<Result<Tally>> = (0..CLIENTS)
            .map(|_| write_through_api(addr, data, seconds, Arc::clone(self.numbers)))
            .collect();
        let tallies: Result<Vec<Tally>> = writers.join_all().await.into_iter().collect();
        self.sum(tallies?)
    }

    /// The same values under the same keys, over one connection, as etcd's clients do it.
    async fn bare(self, url: &str) -> Result<(u64, Histogram<u64>)> {
        let client = etcd::connect(url).await?;
        let (data, seconds) = (self.data, self.seconds);
        let writers: JoinSet<Result<Tally>> = (0..CLIENTS)
            .map(|_| write_bare(client.clone(), data, seconds, Arc::clone(self.numbers)))
            .collect();
        let tallies: Result<Vec<Tally>> = writers.join_all().await.into_iter().collect();
        self.sum(tallies?)
    }

    /// Seconds that count, and all latencies in them.
    fn sum(self, tallies: Vec<Tally>) -> Result<(u64, Histogram<u64>)> {
        let mut all = latencies()?;
        for tally in tallies {
            all.add(tally.latency_us)?;
        }
        ensure!(!all.is_empty(), "nothing was written");
        Ok((self.seconds, all))
    }
}

/// One keep-alive client.
async fn write_through_api(
    addr: SocketAddr,
    data: Data,
    seconds: u64,
    numbers: Arc<AtomicU64>,
) -> Result<Tally> {
    let mut tally = Tally::new(seconds)?;
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(4096);
    while tally.goes_on() {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let route = route(data, number);
        let body = data.body(route, number).to_string();
        let path = format!("routes/{route:020}");
        let begun = Instant::now();
        stream.write_all(admin_request(addr, "PUT", &path, &body).as_bytes()).await?;
        let status = receive(&mut stream, &mut answer).await?;
        let text = String::from_utf8_lossy(&answer);
        ensure!([200, 201].contains(&status), "a write is refused with {status}: {text}");
        tally.count(begun);
    }
    Ok(tally)
}

/// Reads a whole answer with a Content-Length; its status.
async fn receive(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<u16> {
    answer.clear();
    loop {
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let Head { status, length } = parse_head(&answer[..head])?;
            let length = length.context("an answer without Content-Length")?;
            if answer.len() as u64 >= head as u64 + length {
                return Ok(status);
            }
        }
        ensure!(stream.read_buf(answer).await? > 0, "the connection ended within an answer");
    }
}

async fn write_bare(
    client: etcd_client::Client,
    data: Data,
    seconds: u64,
    numbers: Arc<AtomicU64>,
) -> Result<Tally> {
    let mut tally = Tally::new(seconds)?;
    while tally.goes_on() {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let (key, value) = data.route(route(data, number), number);
        let begun = Instant::now();
        etcd::put(client.clone(), stored(&key), value).await?;
        tally.count(begun);
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_writes_are_new_routes() {
        let data = Data::new(100, SocketAddr::from(([127, 0, 0, 1], 1)));
        let new = (0..100).filter(|&number| route(data, number) >= NEW_ROUTES).count();
        assert_eq!(new, 50);
        assert_ne!(route(data, 2), route(data, 4));
    }
}
