//! From the writer to the watchers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{tables, unavailable};
use crate::local::database::Database;
use crate::store::{Change, Commit, Contents, Event};

/// Bytes of recent commits that are kept for watchers that have not come to them yet.
const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// What a change costs besides its path and value.
const CHANGE_OVERHEAD: usize = 128;

/// Time after which contents that could not be read are read again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// What watchers need to know of the writer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// The revision that is on the disk.
    pub revision: u64,
    /// Grows when the outcome of a write is unknown: only a load tells what there is.
    pub epoch: u64,
    /// Why the store cannot be used at present.
    pub problem: Option<String>,
}

/// The latest commits, oldest first, without a gap.
#[derive(Debug, Default)]
pub(super) struct Recent {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    commits: VecDeque<(usize, Commit)>,
    bytes: usize,
}

impl Recent {
    /// Adds commits that are on the disk.
    pub(super) fn add(&self, commits: Vec<Commit>) {
        let mut kept = self.lock();
        for commit in commits {
            let size = size(&commit);
            kept.bytes += size;
            kept.commits.push_back((size, commit));
        }
        while kept.bytes > KEPT_BYTES
            && let Some((size, _)) = kept.commits.pop_front()
        {
            kept.bytes -= size;
        }
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        *self.lock() = Kept::default();
    }

    /// The commits after `revision`; `None` when they are not all here.
    fn after(&self, revision: u64) -> Option<Vec<Commit>> {
        let kept = self.lock();
        let (_, oldest) = kept.commits.front()?;
        // Revisions of this store have no gaps.
        let skip = (revision + 1).checked_sub(oldest.revision)? as usize;
        Some(kept.commits.iter().skip(skip).map(|(_, commit)| commit.clone()).collect())
    }

    /// A panic while the lock was held leaves at worst a wrong count of bytes.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(commit: &Commit) -> usize {
    let change = |change: &Change| match change {
        Change::Put(item) => CHANGE_OVERHEAD + item.path.len() + item.value.len(),
        Change::Delete { path } => CHANGE_OVERHEAD + path.len(),
    };
    CHANGE_OVERHEAD + commit.changes.iter().map(change).sum::<usize>()
}

/// Serves one watcher. It alone waits when the watcher is slow.
pub(super) struct Feeder {
    /// Weak: a watcher does not keep the file open.
    pub database: Weak<Database>,
    pub recent: Arc<Recent>,
    pub status: watch::Receiver<Status>,
    pub events: mpsc::Sender<Event>,
}

impl Feeder {
    /// Ends when the watcher or the store is gone.
    pub(super) async fn run(mut self) {
        // What the watcher has: the revision, and the epoch of its last load.
        let mut known: Option<(u64, u64)> = None;
        let mut last_problem = None;
        loop {
            let status = self.status.borrow_and_update().clone();
            let next = match &status.problem {
                Some(reason) => Some(Err(reason.clone())),
                None => self.next(known, &status).await,
            };
            let (event, problem) = match next {
                None => return,
                Some(Ok((revision, event))) => {
                    known = Some((revision, status.epoch));
                    (event, None)
                }
                Some(Err(reason)) => {
                    known = None;
                    // Each reason is told once.
                    let is_new = last_problem.as_ref() != Some(&reason);
                    (is_new.then(|| Event::Lost { reason: reason.clone() }), Some(reason))
                }
            };
            last_problem = problem;
            if let Some(event) = event
                && self.events.send(event).await.is_err()
            {
                return;
            }
            tokio::select! {
                changed = self.status.changed() => if changed.is_err() { return },
                () = self.events.closed() => return,
                () = tokio::time::sleep(READ_AGAIN), if last_problem.is_some() => {}
            }
        }
    }

    /// What brings the watcher from what it knows to the status's revision or beyond, and to which.
    /// `Err`: why the contents cannot be read. `None`: the store is gone.
    async fn next(
        &self,
        known: Option<(u64, u64)>,
        status: &Status,
    ) -> Option<Result<(u64, Option<Event>), String>> {
        if let Some((revision, epoch)) = known
            && epoch == status.epoch
        {
            if revision >= status.revision {
                return Some(Ok((revision, None)));
            }
            if let Some(commits) = self.recent.after(revision)
                && let Some(last) = commits.last()
            {
                return Some(Ok((last.revision, Some(Event::Commits(commits)))));
            }
        }
        let loaded = self.load().await?;
        Some(loaded.map(|contents| (contents.revision, Some(Event::Load(contents)))))
    }

    async fn load(&self) -> Option<Result<Contents, String>> {
        let database = self.database.upgrade()?;
        let load = move || {
            tables::list(&database, "").map_err(|error| unavailable(&database, &error).to_string())
        };
        // A task that did not come to its end means that the runtime is stopping.
        tokio::task::spawn_blocking(load).await.ok()
    }
}
