//! Snapshots on their way to the workers and back.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use osmia_core::snapshot::{Health, Snapshot};
use rustix::event::{EventfdFlags, eventfd};

use crate::health::Reporter;

/// A worker's end.
#[derive(Debug)]
pub struct WorkerFeed {
    /// The latest snapshot that the worker has not taken yet: never more than one.
    pub snapshots: SnapshotReceiver,
    /// A non-blocking eventfd that becomes readable when [`Self::snapshots`] has something. Read
    /// eight bytes from it before looking there.
    pub wake: OwnedFd,
    /// Takes back snapshots that the worker has replaced, so that the memory is freed on the sync
    /// thread. When sending fails the sync thread is gone; drop the snapshot then.
    pub retired: Sender<Arc<Snapshot>>,
    /// Where the worker says what it serves by.
    pub installed: Installed,
    /// Where the worker says what became of requests to nodes.
    pub reports: Reporter,
}

/// The revision that a worker serves by, for the status of the process.
#[derive(Debug, Clone, Default)]
pub struct Installed(Arc<AtomicU64>);

impl Installed {
    /// The worker serves by this revision from now on.
    pub fn set(&self, revision: u64) {
        self.0.store(revision, Ordering::Release);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Receives snapshots. Once it is dropped the publisher forgets the worker.
#[derive(Debug)]
pub struct SnapshotReceiver {
    receiver: Receiver<Arc<Snapshot>>,
    _alive: Arc<()>,
}

impl Deref for SnapshotReceiver {
    type Target = Receiver<Arc<Snapshot>>;

    fn deref(&self) -> &Self::Target {
        &self.receiver
    }
}

/// The sync thread's end: holds the current snapshot and gives each new one to every worker.
#[derive(Debug)]
pub struct Publisher {
    state: Mutex<State>,
    retired: Sender<Arc<Snapshot>>,
    reports: Reporter,
}

#[derive(Debug)]
struct State {
    current: Arc<Snapshot>,
    outlets: Vec<Outlet>,
}

/// The way to one worker.
#[derive(Debug)]
struct Outlet {
    sender: Sender<Arc<Snapshot>>,
    /// The same channel's other end, to take out a snapshot that the worker did not come to.
    overtaken: Receiver<Arc<Snapshot>>,
    wake: OwnedFd,
    alive: Weak<()>,
    installed: Installed,
}

impl Publisher {
    /// A publisher of `first`, and the channel on which replaced snapshots come back: its owner is
    /// where they are freed.
    pub fn new(first: Arc<Snapshot>) -> (Self, Receiver<Arc<Snapshot>>) {
        let (retired, returned) = crossbeam_channel::unbounded();
        let state = Mutex::new(State { current: first, outlets: Vec::new() });
        (Self { state, retired, reports: Reporter::default() }, returned)
    }

    /// Gives workers this line to the health checks; without it what they report is lost.
    #[must_use]
    pub fn with_reports(self, reports: Reporter) -> Self {
        Self { reports, ..self }
    }

    /// The latest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock().current)
    }

    /// Number of workers that are listening.
    pub fn workers(&self) -> usize {
        self.lock().outlets.iter().filter(|outlet| outlet.alive.strong_count() > 0).count()
    }

    /// The revision that each listening worker has installed, in the order in which they
    /// subscribed; 0 before a worker's first snapshot.
    pub fn installed(&self) -> Vec<u64> {
        let state = self.lock();
        let alive = state.outlets.iter().filter(|outlet| outlet.alive.strong_count() > 0);
        alive.map(|outlet| outlet.installed.get()).collect()
    }

    /// Makes `snapshot` the current one and hands it to every worker. One that has not taken the
    /// previous one yet will only see this one.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.lock().publish(snapshot);
    }

    /// Publishes what is known of nodes, with everything else as it is. Returns the revision.
    pub fn publish_health(&self, health: Health) -> u64 {
        let mut state = self.lock();
        let Snapshot { revision, source_revision, router, certificates, .. } = &*state.current;
        let (revision, source_revision) = (revision + 1, *source_revision);
        let (router, certificates) = (router.clone(), certificates.clone());
        let snapshot = Snapshot { revision, source_revision, router, health, certificates };
        state.publish(Arc::new(snapshot));
        revision
    }

    /// Adds a worker, at any time. The current snapshot is waiting in the feed.
    ///
    /// Fails when no file descriptor is left for the eventfd.
    pub fn subscribe(&self) -> io::Result<WorkerFeed> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let alive = Arc::new(());
        let installed = Installed::default();
        let outlet = Outlet {
            sender,
            overtaken: receiver.clone(),
            wake: wake.try_clone()?,
            alive: Arc::downgrade(&alive),
            installed: installed.clone(),
        };
        let mut state = self.lock();
        outlet.deliver(Arc::clone(&state.current));
        state.outlets.push(outlet);
        let snapshots = SnapshotReceiver { receiver, _alive: alive };
        let (retired, reports) = (self.retired.clone(), self.reports.clone());
        Ok(WorkerFeed { snapshots, wake, retired, installed, reports })
    }

    /// A panic while the lock was held leaves no half-done state: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.outlets.retain(|outlet| outlet.alive.strong_count() > 0);
        for outlet in &self.outlets {
            outlet.deliver(Arc::clone(&snapshot));
        }
        self.current = snapshot;
    }
}

impl Outlet {
    fn deliver(&self, snapshot: Arc<Snapshot>) {
        // Only the publisher sends, under its lock: once the older one is out there is room.
        let mut next = snapshot;
        while let Err(TrySendError::Full(back)) = self.sender.try_send(next) {
            drop(self.overtaken.try_recv());
            next = back;
        }
        // Fails only when the counter is about to overflow, and then the eventfd is readable.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(revision: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot { revision, ..Snapshot::default() })
    }

    /// Clears the eventfd and returns how often it was signalled.
    fn signals(feed: &WorkerFeed) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&feed.wake, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(rustix::io::Errno::AGAIN) => 0,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_new_worker_finds_the_current_snapshot() {
        let (publisher, _returned) = Publisher::new(snapshot(1));
        publisher.publish(snapshot(2));
        let feed = publisher.subscribe().unwrap();
        assert_eq!(signals(&feed), 1);
        assert_eq!(feed.snapshots.try_recv().unwrap().revision, 2);
        assert_eq!(signals(&feed), 0);
    }

    #[test]
    fn every_worker_gets_every_snapshot_it_is_in_time_for() {
        let (publisher, _returned) = Publisher::new(snapshot(1));
        let feeds = [publisher.subscribe().unwrap(), publisher.subscribe().unwrap()];
        for revision in 2..5 {
            for feed in &feeds {
                feed.snapshots.try_recv().unwrap();
            }
            publisher.publish(snapshot(revision));
        }
        for feed in &feeds {
            assert_eq!(feed.snapshots.try_recv().unwrap().revision, 4);
        }
    }

    #[test]
    fn a_slow_worker_sees_only_the_latest() {
        let (publisher, _returned) = Publisher::new(snapshot(1));
        let feed = publisher.subscribe().unwrap();
        let overtaken = snapshot(2);
        publisher.publish(Arc::clone(&overtaken));
        publisher.publish(snapshot(3));
        assert_eq!(Arc::strong_count(&overtaken), 1, "an overtaken snapshot is freed at once");
        assert_eq!(feed.snapshots.len(), 1);
        assert_eq!(feed.snapshots.try_recv().unwrap().revision, 3);
        assert_eq!(signals(&feed), 3);
    }

    #[test]
    fn health_is_published_with_everything_else_as_it_is() {
        let (publisher, _returned) = Publisher::new(snapshot(1));
        let feed = publisher.subscribe().unwrap();
        let before = Snapshot { revision: 7, source_revision: 5, ..Snapshot::default() };
        publisher.publish(Arc::new(before));
        let mut health = Health::default();
        let slot = osmia_core::snapshot::Slot { index: 3, generation: 1 };
        health.set(slot, [0].into_iter().collect());
        assert_eq!(publisher.publish_health(health.clone()), 8);
        let seen = feed.snapshots.try_recv().unwrap();
        assert_eq!((seen.revision, seen.source_revision), (8, 5));
        assert_eq!(seen.health, health);
    }

    #[test]
    fn a_dropped_feed_is_forgotten() {
        let (publisher, _returned) = Publisher::new(snapshot(1));
        let feed = publisher.subscribe().unwrap();
        assert_eq!(publisher.workers(), 1);
        drop(feed);
        assert_eq!(publisher.workers(), 0);
        let next = snapshot(2);
        publisher.publish(Arc::clone(&next));
        assert_eq!(Arc::strong_count(&next), 2, "held here and as the current one only");
    }

    #[test]
    fn retired_snapshots_come_back() {
        let (publisher, returned) = Publisher::new(snapshot(1));
        let feed = publisher.subscribe().unwrap();
        let old = feed.snapshots.try_recv().unwrap();
        feed.retired.send(old).unwrap();
        assert_eq!(returned.try_recv().unwrap().revision, 1);
    }

    #[test]
    fn what_workers_serve_by_is_known() {
        let (publisher, _returned) = Publisher::new(snapshot(1));
        assert!(publisher.installed().is_empty(), "nobody listens yet");
        let first = publisher.subscribe().unwrap();
        let second = publisher.subscribe().unwrap();
        assert_eq!(publisher.installed(), [0, 0], "handed over is not installed");
        first.installed.set(1);
        publisher.publish(snapshot(2));
        second.installed.set(2);
        assert_eq!(publisher.installed(), [1, 2]);
        drop(first);
        assert_eq!(publisher.installed(), [2], "a worker that has ended is not counted");
    }
}
