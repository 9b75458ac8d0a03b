//! Things that are looked up again and again for as long as somebody wants to know.

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::schedule::{Schedule, Wait};
use super::{Counters, Found, Miss, Outcome};

/// Most lookups at once.
const AT_ONCE: usize = 32;

/// Looks one thing up.
pub type Ask<K, T> =
    Arc<dyn Fn(K) -> Pin<Box<dyn Future<Output = Outcome<T>> + Send>> + Send + Sync>;

/// What is known of one thing, or why nothing.
pub type Answer<T> = Result<T, Arc<str>>;

/// Looks things up when their answers end, and tells of answers that are others than before. There
/// is one timer for all, and a task only for a lookup that is under way.
pub struct Watch<K, T> {
    ask: Ask<K, T>,
    followed: HashMap<K, Followed<T>>,
    schedule: Schedule<K>,
    tasks: JoinSet<Outcome<T>>,
    /// What is being looked up.
    asking: HashMap<Id, K>,
    /// How many things were never answered.
    unanswered: usize,
    counters: Arc<Counters>,
}

struct Followed<T> {
    /// What was told last.
    told: Option<Answer<T>>,
    /// Whether there is an earlier answer to go on with.
    has_value: bool,
    /// Failures since the last answer.
    failures: u32,
    asking: bool,
    /// Whether to look it up again as soon as the lookup that is under way has ended.
    again: bool,
}

impl<T> Followed<T> {
    fn new() -> Self {
        Self { told: None, has_value: false, failures: 0, asking: false, again: false }
    }

    fn is_stale(&self) -> bool {
        self.has_value && matches!(self.told, Some(Err(_)))
    }
}

impl<K, T> Watch<K, T>
where
    K: Clone + Ord + Hash + Display + Send + 'static,
    T: Clone + PartialEq + Debug + Send + 'static,
{
    /// Follows nothing yet.
    pub fn new(ask: Ask<K, T>, counters: Arc<Counters>) -> Self {
        Self {
            ask,
            followed: HashMap::new(),
            schedule: Schedule::default(),
            tasks: JoinSet::new(),
            asking: HashMap::new(),
            unanswered: 0,
            counters,
        }
    }

    /// Looks `key` up from now on.
    pub fn follow(&mut self, key: K) {
        if self.followed.contains_key(&key) {
            return;
        }
        self.schedule.set(&key, Instant::now());
        let mut followed = Followed::new();
        // It was followed a moment ago, and that lookup has not ended.
        followed.asking = self.asking.values().any(|asked| *asked == key);
        self.followed.insert(key, followed);
        self.unanswered += 1;
    }

    /// Does not look `key` up any more.
    pub fn forget(&mut self, key: &K) {
        self.schedule.remove(key);
        let Some(followed) = self.followed.remove(key) else { return };
        if followed.told.is_none() {
            self.unanswered -= 1;
        }
        if followed.is_stale() {
            self.counters.stale.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Looks everything up again at once, in this way from now on.
    pub fn refresh(&mut self, ask: Ask<K, T>) {
        self.ask = ask;
        let now = Instant::now();
        for (key, followed) in &mut self.followed {
            followed.again = followed.asking;
            followed.failures = 0;
            self.schedule.set(key, now);
        }
    }

    /// Whether something has not been answered at all.
    pub fn is_waiting(&self) -> bool {
        self.unanswered > 0
    }

    /// The next changes. Nothing is lost when this is not waited for to the end.
    pub async fn changed(&mut self) -> Vec<(K, Answer<T>)> {
        loop {
            self.start();
            let next = self.schedule.next().filter(|_| self.tasks.len() < AT_ONCE);
            let wake = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => {
                    let mut changes = Vec::new();
                    self.ended(ended, &mut changes);
                    while let Some(ended) = self.tasks.try_join_next_with_id() {
                        self.ended(ended, &mut changes);
                    }
                    if !changes.is_empty() {
                        return changes;
                    }
                }
                () = wake => {}
            }
        }
    }

    /// Starts the lookups that are due.
    fn start(&mut self) {
        let now = Instant::now();
        while self.tasks.len() < AT_ONCE
            && let Some(key) = self.schedule.pop(now)
        {
            let Some(followed) = self.followed.get_mut(&key) else { continue };
            if followed.asking {
                followed.again = true;
                continue;
            }
            followed.asking = true;
            let task = self.tasks.spawn((self.ask)(key.clone()));
            self.asking.insert(task.id(), key);
        }
    }

    fn ended(
        &mut self,
        ended: Result<(Id, Outcome<T>), JoinError>,
        changes: &mut Vec<(K, Answer<T>)>,
    ) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            // A panic, of which a line has been written already, takes nothing else along.
            Err(error) => (error.id(), Err(Miss::failed("the lookup ended unexpectedly"))),
        };
        let Some(key) = self.asking.remove(&id) else { return };
        let Some(followed) = self.followed.get_mut(&key) else { return };
        followed.asking = false;
        if matches!(outcome, Err(Miss::Failed { .. })) {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
        }
        let wait = followed.next_wait(&outcome);
        if std::mem::take(&mut followed.again) {
            self.schedule.set(&key, Instant::now());
        } else {
            self.schedule.set_after(&key, wait, Instant::now());
        }
        if followed.told.is_none() {
            self.unanswered -= 1;
        }
        let was_stale = followed.is_stale();
        if let Some(answer) = followed.take(&key, outcome) {
            changes.push((key, answer));
        }
        match (was_stale, followed.is_stale()) {
            (false, true) => self.counters.stale.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.counters.stale.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

impl<T: Clone + PartialEq> Followed<T> {
    fn next_wait<F>(&mut self, outcome: &Outcome<F>) -> Wait {
        match outcome {
            Err(Miss::Failed { .. }) => self.failures = self.failures.saturating_add(1),
            _ => self.failures = 0,
        }
        match outcome {
            Ok(found) => Wait::Found(found.ttl),
            Err(Miss::Absent { ttl, .. }) => Wait::Absent(*ttl),
            Err(Miss::Failed { .. }) => Wait::Failed(self.failures),
        }
    }

    /// Takes what came of a lookup; the answer, when it is another one than before.
    fn take(&mut self, key: &impl Display, outcome: Outcome<T>) -> Option<Answer<T>> {
        let (answer, left_out) = match outcome {
            Ok(Found { value, left_out, .. }) => (Ok(value), left_out),
            Err(miss) => (Err(Arc::clone(miss.reason())), 0),
        };
        if self.told.as_ref() == Some(&answer) {
            return None;
        }
        if left_out > 0 {
            tracing::warn!(name = %key, left_out, "too many addresses, the first ones are used");
        }
        self.has_value |= answer.is_ok();
        self.told = Some(answer.clone());
        Some(answer)
    }
}

#[cfg(test)]
mod tests;
