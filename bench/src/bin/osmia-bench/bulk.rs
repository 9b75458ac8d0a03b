//! Large bodies: a proxy must pass them on with constant memory.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use osmia_bench::upstream::pattern_byte;
use serde::Serialize;

use crate::bench::Bench;
use crate::contender::{Contender, Started};
use crate::http::Client;
use crate::proc::Group;

/// Bytes read or written at a time.
const PIECE: usize = 256 * 1024;
/// The client stops reading once for this long: a proxy that goes on reading from the upstream
/// shows it here.
const PAUSE: Duration = Duration::from_millis(500);
/// Where in the body the pause is, in bytes.
const PAUSE_AT: u64 = 4 * 1024 * 1024;
/// Transfer before the measurement, so that ordinary buffers do not count as growth.
const WARM_UP_BYTES: u64 = 4 * 1024 * 1024;

/// One contender's transfers.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Row {
    pub(crate) contender: Contender,
    /// Body size.
    pub(crate) bytes: u64,
    pub(crate) download: Transfer,
    pub(crate) upload: Transfer,
}

/// One transfer.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Transfer {
    /// How far the resident set rose above what it was before, at most.
    pub(crate) growth_kib: u64,
    /// Throughput without the pause.
    pub(crate) mib_per_second: f64,
    /// Processor time of the proxy.
    pub(crate) cpu_ms: f64,
}

/// Measures every contender.
pub(crate) fn run(bench: &mut Bench) -> Vec<Row> {
    let bytes = bench.plan.bulk.0;
    let what = format!("{} each way", bench.plan.bulk);
    let mut rows = Vec::new();
    for contender in bench.contenders.clone() {
        let row = bench.attempt(contender, &what, |_, started| {
            let group = started.running.group();
            download(started, WARM_UP_BYTES, Duration::ZERO)?;
            upload(started, WARM_UP_BYTES)?;
            Ok(Row {
                contender,
                bytes,
                download: transfer(group, bytes, PAUSE, || download(started, bytes, PAUSE))?,
                upload: transfer(group, bytes, Duration::ZERO, || upload(started, bytes))?,
            })
        });
        if let Some(row) = row {
            println!(
                "  {what}: {:<12} down +{:.2} MiB at {:.0} MiB/s, up +{:.2} MiB at {:.0} MiB/s",
                contender.name(),
                row.download.growth_kib as f64 / 1024.0,
                row.download.mib_per_second,
                row.upload.growth_kib as f64 / 1024.0,
                row.upload.mib_per_second
            );
            rows.push(row);
        }
    }
    rows
}

fn transfer(
    group: Group,
    bytes: u64,
    pause: Duration,
    run: impl FnOnce() -> Result<()>,
) -> Result<Transfer> {
    group.reset_peak()?;
    let (before, cpu, start) = (group.memory().rss, group.cpu_ns()?, Instant::now());
    run()?;
    let took = start.elapsed().saturating_sub(pause).as_secs_f64();
    Ok(Transfer {
        growth_kib: group.memory().peak.saturating_sub(before),
        mib_per_second: bytes as f64 / (1024.0 * 1024.0) / took,
        cpu_ms: group.cpu_ns()?.saturating_sub(cpu) as f64 / 1e6,
    })
}

fn download(started: &Started, bytes: u64, pause: Duration) -> Result<()> {
    let mut client = Client::with_buffer(started.addr, PIECE)?;
    client.get(&format!("/bytes/{bytes}"))?;
    let head = client.head()?;
    ensure!(head.status == 200, "status {}", head.status);
    ensure!(head.length == Some(bytes), "a length of {:?} instead of {bytes}", head.length);
    let (mut received, mut paused) = (0, pause.is_zero());
    while received < bytes {
        let piece = client.chunk().context("the download broke off")?;
        ensure!(!piece.is_empty(), "the download ended after {received} bytes");
        ensure!(piece[0] == pattern_byte(received), "a wrong byte at {received} of the download");
        let len = piece.len();
        client.consume(len);
        received += len as u64;
        if !paused && received >= PAUSE_AT {
            std::thread::sleep(pause);
            paused = true;
        }
    }
    ensure!(received == bytes, "{received} bytes instead of {bytes}");
    Ok(())
}

fn upload(started: &Started, bytes: u64) -> Result<()> {
    let mut client = Client::connect(started.addr)?;
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: {}\r\nContent-Length: {bytes}\r\n\r\n",
        client.host()
    );
    client.writer().write_all(head.as_bytes())?;
    let piece = vec![b'u'; PIECE];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(PIECE as u64);
        client.writer().write_all(&piece[..now as usize]).context("the upload broke off")?;
        left -= now;
    }
    let head = client.head()?;
    let counted = String::from_utf8(client.body(&head)?)?;
    ensure!(
        head.status == 200 && counted.trim() == bytes.to_string(),
        "the upstream counted {counted:?} of {bytes} bytes, status {}",
        head.status
    );
    Ok(())
}
