//! An etcd process of the benchmark's own, and the bare client that writes into it.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::{Client, Txn, TxnOp};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::data::Data;
use crate::child::{self, Running};
use crate::{http, programs};

/// How long etcd may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Operations of one transaction: etcd's default limit.
const BATCH: usize = 128;
/// Changes of a stream that wait for etcd's answer at most.
const IN_FLIGHT: usize = 64;

/// etcd with its defaults, in a scratch directory.
pub(super) struct Etcd {
    pub(super) url: String,
    peer: String,
    cores: Vec<usize>,
    running: Option<Running>,
    /// Removed when etcd has ended: fields are dropped in this order.
    dir: tempfile::TempDir,
}

impl Etcd {
    /// Starts it on `cores` and waits until it serves.
    pub(super) fn start(cores: &[usize], runtime: &Runtime) -> Result<Self> {
        let url = format!("http://127.0.0.1:{}", http::free_port()?);
        let peer = format!("http://127.0.0.1:{}", http::free_port()?);
        let (cores, dir) = (cores.to_vec(), child::scratch()?);
        let mut etcd = Self { url, peer, cores, running: None, dir };
        etcd.run(runtime)?;
        Ok(etcd)
    }

    /// Ends it and starts it again with what it holds. etcd 3.4 keeps the largest buffer that a
    /// burst of writes has needed, and copies it for every transaction with a condition: 250 KB
    /// after [`Etcd::fill`], 55 KB after ordinary writes.
    pub(super) fn restart(&mut self, runtime: &Runtime) -> Result<()> {
        self.running = None; // waits for its end
        self.run(runtime)
    }

    fn run(&mut self, runtime: &Runtime) -> Result<()> {
        let program = programs::in_path("etcd")
            .context("etcd is not installed: `apt-get install etcd-server`")?;
        let (url, peer) = (&self.url, &self.peer);
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(self.dir.path().join("data"));
        command.args(["--name=bench", &format!("--initial-cluster=bench={peer}")]);
        command.args([
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
        ]);
        command.args([format!("--listen-peer-urls={peer}")]);
        command.args([format!("--initial-advertise-peer-urls={peer}"), "--log-level=error".into()]);
        let output = self.dir.path().join("output.txt");
        let running = self.running.insert(Running::start(command, &self.cores, &output)?);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let error = match runtime.block_on(greet(url)) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if running.ended().is_some() || Instant::now() >= deadline {
                bail!("etcd does not serve: {error}\n{}", running.printed());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes all of `data` in transactions; how long it took.
    pub(super) fn fill(&self, data: Data, runtime: &Runtime) -> Result<Duration> {
        let begun = Instant::now();
        runtime.block_on(async {
            let mut client = connect(&self.url).await?;
            let mut entries = data.entries().peekable();
            while entries.peek().is_some() {
                let puts = entries.by_ref().take(BATCH).map(|(key, value)| {
                    TxnOp::put(super::data::stored(&key), value.to_string(), None)
                });
                client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await?;
            }
            anyhow::Ok(())
        })?;
        Ok(begun.elapsed())
    }
}

/// Whether it has a leader and answers.
async fn greet(url: &str) -> Result<(), etcd_client::Error> {
    let mut client = Client::connect([url], None).await?;
    client.get("greeting", None).await.map(|_| ())
}

/// A client with a connection of its own.
pub(super) async fn connect(url: &str) -> Result<Client> {
    Client::connect([url], None).await.with_context(|| format!("cannot connect to {url}"))
}

/// Changes of routes at a fixed rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub(super) data: Data,
    /// Changes per second; at least 1.
    pub(super) rate: u64,
    /// The version of the first change; each has the next one.
    pub(super) version: u64,
    /// Changes at most.
    pub(super) count: u64,
    /// How a key below the prefix becomes one of etcd.
    pub(super) key: fn(&str) -> String,
}

/// What a stream came to.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Streamed {
    /// Changes that etcd has confirmed.
    pub(super) changes: u64,
    /// Confirmed changes per second.
    pub(super) rate: f64,
}

impl Stream {
    /// Sends the changes until `stop`, and waits for all answers.
    pub(super) async fn run(self, client: &Client, stop: &AtomicBool) -> Result<Streamed> {
        let begun = tokio::time::Instant::now();
        let mut running = JoinSet::new();
        let mut changes = 0;
        for number in 0..self.count {
            let due = Duration::from_nanos(number * 1_000_000_000 / self.rate);
            tokio::time::sleep_until(begun + due).await;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            while running.len() >= IN_FLIGHT {
                settle(running.join_next().await)?;
            }
            let version = self.version + number;
            let (key, value) = self.data.route(self.data.changed(version as usize), version);
            running.spawn(put(client.clone(), (self.key)(&key), value));
            changes += 1;
        }
        while !running.is_empty() {
            settle(running.join_next().await)?;
        }
        let rate = changes as f64 / begun.elapsed().as_secs_f64();
        Ok(Streamed { changes, rate })
    }
}

type Joined = Result<Result<(), etcd_client::Error>, tokio::task::JoinError>;

fn settle(joined: Option<Joined>) -> Result<()> {
    if let Some(outcome) = joined {
        outcome?.context("etcd refused a change")?;
    }
    Ok(())
}

/// Writes one value.
pub(super) async fn put(
    mut client: Client,
    key: String,
    value: Value,
) -> Result<(), etcd_client::Error> {
    client.put(key, value.to_string(), None).await.map(|_| ())
}
