//! How far the store's changes have been published.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// The store's revision that has been published, and those who wait for one. Nobody is woken before
/// the revision that it waits for: with many writers at a time most of them wait for a later one.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    /// By the revision that is waited for, all of them later than `revision`.
    waiting: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

impl Applied {
    /// The revision that has been published.
    #[cfg(test)]
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Says that `revision` has been published. It is an older one than before when the store was
    /// set back.
    pub(crate) fn reach(&self, revision: u64) {
        let mut state = self.lock();
        state.revision = revision;
        while let Some(first) = state.waiting.first_entry().filter(|it| *it.key() <= revision) {
            // Who has given up does not mind.
            for waiter in first.remove() {
                let _ = waiter.send(());
            }
        }
        state.waiting.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
    }

    /// Waits until `revision` or a later one has been published; false when that takes longer than
    /// `limit`.
    pub(crate) async fn wait(&self, revision: u64, limit: Duration) -> bool {
        let (waiter, reached) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.revision >= revision {
                return true;
            }
            state.waiting.entry(revision).or_default().push(waiter);
        }
        matches!(timeout(limit, reached).await, Ok(Ok(())))
    }

    /// A panic while the lock was held leaves no half-done state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn each_waits_for_its_own_revision() {
        let applied = Arc::new(Applied::default());
        let wait = |revision| {
            let applied = Arc::clone(&applied);
            tokio::spawn(async move { applied.wait(revision, LONG).await })
        };
        let (second, third, fourth) = (wait(2), wait(3), wait(4));
        tokio::task::yield_now().await;
        applied.reach(3);
        assert!(second.await.unwrap() && third.await.unwrap());
        assert!(!fourth.is_finished());
        assert!(applied.wait(3, LONG).await, "it has been reached");
        applied.reach(9);
        assert!(fourth.await.unwrap());
        assert_eq!(applied.revision(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_nothing_behind() {
        let applied = Applied::default();
        assert!(!applied.wait(5, Duration::from_secs(1)).await);
        applied.reach(4);
        assert!(applied.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_was_set_back_is_waited_for_again() {
        let applied = Applied::default();
        applied.reach(7);
        applied.reach(2);
        assert!(!applied.wait(7, Duration::from_secs(1)).await);
    }
}
