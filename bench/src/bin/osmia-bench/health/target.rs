//! What is probed: a small server on a thread of the harness that keeps connections and counts.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// The answer to everything.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Longest request.
const REQUEST: usize = 1024;

/// All upstreams, at one port of every address of this machine. Dropping it ends it.
pub(super) struct Target {
    pub(super) port: u16,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What was seen so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) connections: u64,
}

struct Counters {
    /// By upstream: the number that its path is.
    requests: Vec<AtomicU64>,
    connections: AtomicU64,
}

impl Target {
    pub(super) fn start(upstreams: usize) -> Result<Self> {
        let counters = Arc::new(Counters {
            requests: (0..upstreams).map(|_| AtomicU64::new(0)).collect(),
            connections: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("no runtime for the target")?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = oneshot::channel();
        let theirs = Arc::clone(&counters);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, theirs) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { port, counters, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn counts(&self) -> Counts {
        let requests = self.counters.requests.iter().map(|one| one.load(Ordering::Relaxed)).sum();
        Counts { requests, connections: self.counters.connections.load(Ordering::Relaxed) }
    }

    /// The requests for the upstream that got the fewest.
    pub(super) fn fewest(&self) -> u64 {
        let requests = self.counters.requests.iter().map(|one| one.load(Ordering::Relaxed));
        requests.min().unwrap_or(0)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, counters: Arc<Counters>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                counters.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&counters)));
            }
            // Out of descriptors, most likely: give those in use the time to come back.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Answers until the other side closes. Requests have no body and come one at a time.
async fn serve(mut stream: TcpStream, counters: Arc<Counters>) {
    let (mut request, mut filled) = ([0; REQUEST], 0);
    loop {
        match stream.read(&mut request[filled..]).await {
            Ok(read) if read > 0 => filled += read,
            _ => return,
        }
        if request[..filled].ends_with(b"\r\n\r\n") {
            if let Some(count) = number(&request[..filled]).and_then(|id| counters.requests.get(id))
            {
                count.fetch_add(1, Ordering::Relaxed);
            }
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
            filled = 0;
        }
    }
}

/// The number that is the path of a request.
fn number(request: &[u8]) -> Option<usize> {
    let line = std::str::from_utf8(request).ok()?;
    line.strip_prefix("GET /")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;

    #[test]
    fn it_counts_by_path() {
        let target = Target::start(3).expect("a target");
        let addr = (Ipv4Addr::LOCALHOST, target.port).into();
        let mut client = Client::connect(addr).expect("a connection");
        for (path, fewest) in [("/0", 0), ("/2", 0), ("/1", 1)] {
            client.get(path).expect("a request sent");
            let head = client.head().expect("a head");
            assert_eq!(client.body(&head).expect("a body"), b"ok");
            assert_eq!(target.fewest(), fewest);
        }
        let Counts { requests, connections } = target.counts();
        assert_eq!((requests, connections), (3, 1));
    }
}
