//! Idle keep-alive connections: what each costs in memory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::bench::Bench;
use crate::contender::{Contender, Started};
use crate::http::Client;
use crate::proc::{Group, Memory};

/// Requests before the first reading, so that what is allocated once does not count.
const WARM_UP_REQUESTS: usize = 100;
/// Descriptors of the harness besides the connections.
const SPARE_DESCRIPTORS: usize = 100;
const SETTLE_STEP: Duration = Duration::from_millis(100);
const SETTLE_STEPS: usize = 50;
/// Readings that have to agree.
const SETTLED_STEPS: usize = 8;
/// Difference between two readings that agree, in KiB.
const SETTLED_KIB: u64 = 16;

/// One contender with one number of connections.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Row {
    pub(crate) contender: Contender,
    pub(crate) connections: usize,
    /// After a few requests, before the idle connections.
    pub(crate) before: Memory,
    /// With them.
    pub(crate) with: Memory,
    /// Growth of the resident set per connection.
    pub(crate) bytes_each: f64,
}

/// Measures every contender with every number of connections.
pub(crate) fn run(bench: &mut Bench) -> Vec<Row> {
    let mut rows = Vec::new();
    for connections in bench.plan.idle.clone() {
        for contender in bench.contenders.clone() {
            // The relay's memory is its fixed buffers, and it needs two descriptors each.
            if contender == Contender::Relay {
                continue;
            }
            let what = format!("{connections} idle connections");
            let row = bench.attempt(contender, &what, |_, started| measure(started, connections));
            if let Some(row) = row {
                println!(
                    "  {what}: {:<12} {:>7.2} KiB each, {:>6.1} MiB resident before",
                    contender.name(),
                    row.bytes_each / 1024.0,
                    row.before.rss as f64 / 1024.0
                );
                rows.push(row);
            }
        }
    }
    rows
}

fn measure(started: &Started, connections: usize) -> Result<Row> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    ensure!(
        limit.is_none_or(|limit| limit as usize >= connections + SPARE_DESCRIPTORS),
        "the descriptor limit {limit:?} is too low for {connections} connections: raise the hard \
         limit (ulimit -Hn)"
    );
    let group = started.running.group();
    let mut first = Client::connect(started.addr)?;
    for _ in 0..WARM_UP_REQUESTS {
        exchange(&mut first)?;
    }
    let before = settled(group);
    let mut idle = Vec::with_capacity(connections);
    for number in 0..connections {
        let open = || -> Result<Client> {
            let mut client = Client::with_buffer(started.addr, 2048)?;
            exchange(&mut client)?;
            Ok(client)
        };
        idle.push(open().with_context(|| format!("connection {number}"))?);
    }
    let with = settled(group);
    // The last and the first still work: nobody was thrown out to make room.
    for client in [idle.len() - 1, 0] {
        exchange(&mut idle[client]).context("an idle connection was closed")?;
    }
    let growth = with.rss.saturating_sub(before.rss) as f64 * 1024.0;
    Ok(Row {
        contender: started.contender,
        connections,
        before,
        with,
        bytes_each: growth / connections as f64,
    })
}

fn exchange(client: &mut Client) -> Result<()> {
    client.get("/bytes/1024")?;
    let head = client.head()?;
    let body = client.body(&head)?;
    ensure!(head.status == 200 && body.len() == 1024, "status {}", head.status);
    Ok(())
}

/// Memory once it no longer changes, or after five seconds.
fn settled(group: Group) -> Memory {
    let mut memory = group.memory();
    let mut same = 0;
    for _ in 0..SETTLE_STEPS {
        std::thread::sleep(SETTLE_STEP);
        let now = group.memory();
        same = if now.rss.abs_diff(memory.rss) <= SETTLED_KIB { same + 1 } else { 0 };
        memory = now;
        if same == SETTLED_STEPS {
            break;
        }
    }
    memory
}
