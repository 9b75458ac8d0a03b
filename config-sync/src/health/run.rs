//! The task that makes probes and publishes what came out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::HealthChecks;
use super::probe::{Found, Job, probe};
use super::report::Report;
use crate::publish::Publisher;

/// Probes that become due within this time begin together.
const TICK: Duration = Duration::from_millis(50);
/// Snapshots of changed health are at least this far apart.
const PUBLISH: Duration = Duration::from_millis(20);
/// Most reports and findings that are taken before anything else.
const TOGETHER: usize = 256;
/// How long nothing may be due.
const IDLE: Duration = Duration::from_secs(3600);

impl HealthChecks {
    /// Makes probes and takes reports until the future is dropped. What changes is published.
    pub async fn run(
        self: Arc<Self>,
        publisher: Arc<Publisher>,
        mut reports: mpsc::Receiver<Report>,
    ) {
        let mut probes = FuturesUnordered::new();
        let most = self.lock().probes();
        let (mut begin_at, mut publish_at) = (Instant::now(), Instant::now());
        let wake = sleep_until(begin_at);
        tokio::pin!(wake);
        let mut listening = true;
        loop {
            let now = Instant::now();
            if now >= begin_at {
                begin_at = now + TICK;
                let room = most.saturating_sub(probes.len());
                let jobs = self.take_due(room, now);
                probes.extend(jobs.into_iter().map(|job| probe(job, Arc::clone(&self.tls))));
            }
            if now >= publish_at && self.publish(&publisher) {
                publish_at = now + PUBLISH;
            }
            wake.as_mut().reset(self.next_wake(begin_at, publish_at, probes.len() < most, now));
            tokio::select! {
                Some(found) = probes.next() => {
                    let mut all = vec![found];
                    while all.len() < TOGETHER
                        && let Some(Some(found)) = probes.next().now_or_never()
                    {
                        all.push(found);
                    }
                    self.finish(all);
                }
                report = reports.recv(), if listening => match report {
                    Some(report) => self.take_reports(report, &mut reports),
                    None => listening = false,
                },
                () = self.applied.notified() => {}
                () = &mut wake => {}
            }
        }
    }

    fn take_due(&self, room: usize, now: Instant) -> Vec<Job> {
        let mut registry = self.lock();
        std::iter::from_fn(|| registry.take_due(now)).take(room).collect()
    }

    fn finish(&self, found: Vec<(Job, Found)>) {
        let (mut registry, now) = (self.lock(), Instant::now());
        for (job, found) in found {
            registry.finish(job, found, now);
        }
    }

    fn take_reports(&self, first: Report, more: &mut mpsc::Receiver<Report>) {
        let (mut registry, now) = (self.lock(), Instant::now());
        registry.report(&first, now);
        for _ in 1..TOGETHER {
            let Ok(report) = more.try_recv() else { break };
            registry.report(&report, now);
        }
    }

    /// Publishes what changed. Whether anything did.
    fn publish(&self, publisher: &Publisher) -> bool {
        let mut registry = self.lock();
        if !registry.has_changed() {
            return false;
        }
        let health = registry.take_health();
        drop(registry);
        let revision = publisher.publish_health(health);
        tracing::debug!(revision, "health of nodes published");
        true
    }

    /// When there is something to do that nobody else wakes this task for.
    fn next_wake(
        &self,
        begin_at: Instant,
        publish_at: Instant,
        has_room: bool,
        now: Instant,
    ) -> Instant {
        let mut registry = self.lock();
        let mut next = now + IDLE;
        if has_room && let Some(due) = registry.next_due() {
            next = next.min(due.max(begin_at));
        }
        if registry.has_changed() {
            next = next.min(publish_at);
        }
        next
    }
}
