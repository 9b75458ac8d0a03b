//! What workers saw of nodes in the traffic.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use osmia_core::health::Outcome;
use osmia_core::snapshot::Slot;
use tokio::sync::mpsc;

/// Reports that may wait. More than that say nothing new about any node.
const WAITING: usize = 4096;

/// One outcome of requests to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The slot of the upstream that the node was taken from.
    pub upstream: Slot,
    /// The node's address.
    pub addr: SocketAddr,
    /// What became of the requests.
    pub outcome: Outcome,
    /// How many requests in a row; zero is none.
    pub count: u32,
}

/// A worker's line to the health checks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    sender: mpsc::Sender<Report>,
    dropped: Arc<AtomicU64>,
}

impl Reporter {
    /// Tells of an outcome; never waits. False when it is lost: too many wait, or nobody listens.
    ///
    /// Report what `Upstream::passive` judges to be a failure, and a success only while the
    /// snapshot's `Health::counted` has the node.
    pub fn report(&self, report: Report) -> bool {
        let sent = self.sender.try_send(report).is_ok();
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Reports lost so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Default for Reporter {
    /// A line to nobody.
    fn default() -> Self {
        channel().0
    }
}

/// A line, and its end.
pub fn channel() -> (Reporter, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Reporter { sender, dropped: Arc::default() }, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (reporter, mut receiver) = channel();
        let report = Report {
            upstream: Slot::default(),
            addr: "127.0.0.1:80".parse().unwrap(),
            outcome: Outcome::Timeout,
            count: 1,
        };
        for _ in 0..WAITING {
            assert!(reporter.report(report));
        }
        assert!(!reporter.clone().report(report));
        assert_eq!(reporter.dropped(), 1);
        assert_eq!(receiver.try_recv(), Ok(report));
        assert!(reporter.report(report));
        assert!(!Reporter::default().report(report));
    }
}
