//! What is due when.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Shortest time between two lookups of the same thing.
const SOONEST: Duration = Duration::from_secs(1);
/// Longest time after which something that was not found is looked up again.
const LATEST_MISS: Duration = Duration::from_secs(30);
/// The same when the server does not say how long its answer holds.
const USUAL_MISS: Duration = Duration::from_secs(10);

/// How long to wait before something is looked up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It was found, and that holds for so long.
    Found(Duration),
    /// It was not there, which may hold for so long.
    Absent(Option<Duration>),
    /// Nobody could tell, so many times in a row.
    Failed(u32),
}

impl Wait {
    fn length(self) -> Duration {
        match self {
            Self::Found(ttl) => ttl.max(SOONEST),
            Self::Absent(ttl) => ttl.unwrap_or(USUAL_MISS).clamp(SOONEST, LATEST_MISS),
            Self::Failed(times) => {
                let doublings = times.saturating_sub(1).min(5);
                (SOONEST * (1 << doublings)).min(LATEST_MISS)
            }
        }
    }
}

/// The one timer of many things. Each is in it at most once.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    due: BTreeSet<(Instant, K)>,
    at: HashMap<K, Instant>,
    /// Spreads what came together.
    jitter: RandomState,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), at: HashMap::new(), jitter: RandomState::new() }
    }
}

impl<K: Clone + Ord + Hash> Schedule<K> {
    /// Something is due at `at`, and at no other time.
    pub(super) fn set(&mut self, key: &K, at: Instant) {
        self.remove(key);
        self.at.insert(key.clone(), at);
        self.due.insert((at, key.clone()));
    }

    /// Something is due after `wait`, or up to a tenth later.
    pub(super) fn set_after(&mut self, key: &K, wait: Wait, now: Instant) {
        let length = wait.length();
        let share = self.jitter.hash_one((key, now)) as u32;
        let jitter = (length / 10).mul_f64(f64::from(share) / f64::from(u32::MAX));
        // Beyond the end of time means never.
        if let Some(at) = now.checked_add(length + jitter) {
            self.set(key, at);
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(at) = self.at.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
    }

    /// When the next thing is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes out something that is due now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.at.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(wait: Wait) -> u64 {
        wait.length().as_secs()
    }

    #[test]
    fn answers_hold_as_long_as_they_say_and_failures_are_retried_less_and_less() {
        let s = Duration::from_secs;
        assert_eq!([0, 1, 300].map(|ttl| seconds(Wait::Found(s(ttl)))), [1, 1, 300]);
        let absent = [Some(s(0)), Some(s(7)), Some(s(3600)), None].map(Wait::Absent);
        assert_eq!(absent.map(seconds), [1, 7, 30, 10]);
        let failed = [0, 1, 2, 3, 4, 5, 6, 7, u32::MAX].map(Wait::Failed);
        assert_eq!(failed.map(seconds), [1, 1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_thing_is_due_once() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.set(&"a", now);
        schedule.set(&"b", now + Duration::from_secs(2));
        schedule.set(&"a", now + Duration::from_secs(3));
        schedule.set_after(&"c", Wait::Found(Duration::from_secs(100)), now);
        assert_eq!(schedule.pop(now), None);
        assert_eq!(schedule.next(), Some(now + Duration::from_secs(2)));
        let later = now + Duration::from_secs(5);
        assert_eq!([(); 3].map(|()| schedule.pop(later)), [Some("b"), Some("a"), None]);
        let next = schedule.next().unwrap() - now;
        assert!((100..=110).contains(&next.as_secs()), "{next:?}");
        schedule.remove(&"c");
        assert!(schedule.next().is_none() && schedule.at.is_empty());
    }
}
