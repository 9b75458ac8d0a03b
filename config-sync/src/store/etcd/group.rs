//! Commits that wait together go to etcd together.
//!
//! What a write costs etcd is mostly per transaction: a proposal, an entry in its log, a message to
//! each watch, and the author's key beside the one that is written. While a transaction is under
//! way, those that come wait, until it is back or until they are enough for another; then one of
//! etcd's transactions takes as many of them as may share it. A write that finds nobody else waits
//! for nothing.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::link::Failure;
use super::load::Keys;
use super::requests::{Leases, Requests, refused};
use super::txn;
use crate::store::{Author, Guard, Op, Outcome, StoreError, Transaction};

/// Transactions of etcd's under way at the same time.
const FLIGHTS: usize = 4;
/// So many who wait are enough for another one.
const COMPANY: usize = 8;
/// Most writes, and most guards, of transactions that go together: well below etcd's limit of 128
/// of either (`--max-txn-ops`).
const TOGETHER: usize = 64;
/// Most bytes in one of etcd's transactions, unless a single one has more. etcd takes 1.5 MiB.
const BYTES: usize = 256 << 10;

type Answer = Result<Outcome, StoreError>;

/// One who waits.
struct Waiting {
    transaction: Transaction,
    leases: Leases,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// Writes into etcd. Cheap to clone.
#[derive(Clone)]
pub(super) struct Group {
    requests: Arc<Requests>,
    keys: Keys,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Transactions of etcd's under way.
    flights: usize,
}

impl Queue {
    /// Whether one who has just come has to begin another flight.
    fn begins(&mut self) -> bool {
        let begins = self.flights == 0 || (self.flights < FLIGHTS && self.waiting.len() >= COMPANY);
        self.flights += usize::from(begins);
        begins
    }

    /// What one of the flights takes next; `None` ends it.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let left_to_others = self.flights > 1 && self.waiting.len() < COMPANY;
        let batch = if left_to_others { Vec::new() } else { take(&mut self.waiting) };
        self.flights -= usize::from(batch.is_empty());
        (!batch.is_empty()).then_some(batch)
    }
}

impl Group {
    pub(super) fn new(requests: Arc<Requests>, keys: Keys) -> Self {
        Self { requests, keys, queue: Arc::default() }
    }

    /// Writes; a time to live needs a round trip more.
    pub(super) async fn commit(&self, transaction: Transaction) -> Answer {
        let leases = if has_lease(&transaction) {
            // On the heap, so that the many who want none have nothing of it to carry.
            Box::pin(self.requests.grant(&transaction)).await?
        } else {
            Leases::new()
        };
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut queue = self.queue();
            let (since, leases) = (Instant::now(), leases.clone());
            queue.waiting.push_back(Waiting { transaction, leases, since, answer });
            queue.begins()
        };
        if begins {
            // A task of its own: who waits may go away, the others do not.
            tokio::spawn(self.clone().fly());
        }
        let outcome = answered.await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable("etcd: the gateway is being stopped".to_owned()))
        });
        if !matches!(outcome, Ok(Outcome::Committed { .. })) {
            self.requests.revoke(leases);
        }
        outcome
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends until nobody waits.
    async fn fly(self) {
        loop {
            let Some(batch) = self.queue().next() else { return };
            self.send(batch).await;
        }
    }

    async fn send(&self, batch: Vec<Waiting>) {
        let limit = self.requests.timeout();
        let (late, batch): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|waiting| waiting.since.elapsed() >= limit);
        for waiting in late {
            let reason = format!("not sent within {} s", limit.as_secs_f32());
            waiting.answer(Err(Failure::NotSent(reason)));
        }
        if batch.len() > 1
            && let Some(outcome) = self.send_together(&batch).await
        {
            for waiting in batch {
                waiting.answer(outcome.clone());
            }
            return;
        }
        let alone = async |waiting: Waiting| {
            let outcome = self.send_txn(&[&waiting.transaction], &waiting.leases).await;
            waiting.answer(outcome);
        };
        join_all(batch.into_iter().map(alone)).await;
    }

    /// What became of all of them. `None`: nothing was done, because one of the guards did not
    /// hold, or because etcd refused the whole, maybe for the sake of one.
    async fn send_together(&self, batch: &[Waiting]) -> Option<Result<Outcome, Failure>> {
        let all: Vec<&Transaction> = batch.iter().map(|waiting| &waiting.transaction).collect();
        let outcome = self.send_txn(&all, &Leases::new()).await;
        let nothing_done = match &outcome {
            Ok(outcome) => *outcome == Outcome::Conflict,
            Err(failure) => failure.is_refusal(),
        };
        (!nothing_done).then_some(outcome)
    }

    async fn send_txn(
        &self,
        together: &[&Transaction],
        leases: &Leases,
    ) -> Result<Outcome, Failure> {
        let answers = self.requests.send(|| txn::txn(&self.keys, together, leases)).await?;
        Ok(txn::outcome(&answers))
    }
}

impl Waiting {
    /// Whoever has gone away does not mind.
    fn answer(self, outcome: Result<Outcome, Failure>) {
        let outcome = outcome.map_err(|failure| refused(failure, &self.transaction));
        let _ = self.answer.send(outcome);
    }
}

/// The first who waits, and all behind it that may share its transaction.
fn take(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let Some(first) = waiting.pop_front() else { return Vec::new() };
    let mut together = Together::of(&first.transaction);
    let alone = has_lease(&first.transaction);
    let mut batch = vec![first];
    let mut left = VecDeque::with_capacity(waiting.len());
    for next in mem::take(waiting) {
        if !alone && together.takes(&next.transaction) {
            batch.push(next);
        } else {
            left.push_back(next);
        }
    }
    *waiting = left;
    batch
}

/// What the transactions of a batch have to do with.
struct Together {
    author: Author,
    written: HashSet<String>,
    guarded: HashSet<String>,
    bytes: usize,
}

impl Together {
    fn of(first: &Transaction) -> Self {
        Self {
            author: first.author.clone(),
            written: written(first).map(str::to_owned).collect(),
            guarded: guarded(first).map(str::to_owned).collect(),
            bytes: first.ops.iter().map(bytes).sum(),
        }
    }

    /// Lets a transaction in, when it does not matter which of the batch is first: etcd compares
    /// for all of them before it writes for any.
    fn takes(&mut self, next: &Transaction) -> bool {
        let bytes: usize = next.ops.iter().map(bytes).sum();
        let fits = self.bytes + bytes <= BYTES
            && self.written.len() + next.ops.len() <= TOGETHER
            && self.guarded.len() + next.guards.len() <= TOGETHER;
        let apart = || {
            let (written, guarded) = (&self.written, &self.guarded);
            self::written(next).all(|path| !written.contains(path) && !guarded.contains(path))
                && self::guarded(next).all(|path| !written.contains(path))
        };
        let takes = fits && next.author == self.author && !has_lease(next) && apart();
        if takes {
            self.written.extend(written(next).map(str::to_owned));
            self.guarded.extend(guarded(next).map(str::to_owned));
            self.bytes += bytes;
        }
        takes
    }
}

/// Leases are given back one by one, so they are not shared.
fn has_lease(transaction: &Transaction) -> bool {
    transaction.ops.iter().any(|op| matches!(op, Op::Put { ttl: Some(_), .. }))
}

fn written(transaction: &Transaction) -> impl Iterator<Item = &str> {
    transaction.ops.iter().map(|op| match op {
        Op::Put { path, .. } | Op::Delete { path } => path.as_str(),
    })
}

fn guarded(transaction: &Transaction) -> impl Iterator<Item = &str> {
    transaction.guards.iter().map(|guard| match guard {
        Guard::Absent(path) | Guard::Exists(path) | Guard::Unmodified(path, _) => path.as_str(),
    })
}

/// What an operation takes of a message, about.
pub(super) fn bytes(op: &Op) -> usize {
    match op {
        Op::Put { path, value, .. } => path.len() + value.len(),
        Op::Delete { path } => path.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Author;

    fn waiting(transaction: Transaction) -> Waiting {
        let (answer, _) = oneshot::channel();
        Waiting { transaction, leases: Leases::new(), since: Instant::now(), answer }
    }

    fn put(path: &str) -> Op {
        Op::Put { path: path.to_owned(), value: "{}".into(), ttl: None }
    }

    fn write(path: &str) -> Transaction {
        let guards = vec![Guard::Absent(path.to_owned())];
        Transaction { guards, ops: vec![put(path)], author: Author::default() }
    }

    /// Which of the transactions go together, by the first path that each writes.
    fn batches(transactions: Vec<Transaction>) -> Vec<Vec<String>> {
        let mut queue: VecDeque<Waiting> = transactions.into_iter().map(waiting).collect();
        let mut batches = Vec::new();
        loop {
            let batch = take(&mut queue);
            if batch.is_empty() {
                return batches;
            }
            let first = |one: &Waiting| written(&one.transaction).next().unwrap().to_owned();
            batches.push(batch.iter().map(first).collect());
        }
    }

    #[test]
    fn different_keys_of_one_author_go_together() {
        assert_eq!(batches(vec![write("a"), write("b"), write("c")]), [["a", "b", "c"]]);
    }

    #[test]
    fn the_same_key_waits_for_the_next_and_others_pass_it() {
        assert_eq!(batches(vec![write("a"), write("a"), write("b")]), [vec!["a", "b"], vec!["a"]]);
    }

    #[test]
    fn a_guard_never_meets_a_write_of_its_own_batch() {
        let refers = |path: &str, to: &str| {
            let mut transaction = write(path);
            transaction.guards.push(Guard::Exists(to.to_owned()));
            transaction
        };
        let delete = Transaction {
            ops: vec![Op::Delete { path: "services/1".to_owned() }],
            ..Transaction::default()
        };
        let route = || refers("routes/1", "services/1");
        assert_eq!(batches(vec![route(), delete.clone()]), [["routes/1"], ["services/1"]]);
        assert_eq!(batches(vec![delete, route()]), [["services/1"], ["routes/1"]]);
        // What both only look at is no obstacle.
        let both = vec![route(), refers("routes/2", "services/1")];
        assert_eq!(batches(both), [["routes/1", "routes/2"]]);
    }

    #[test]
    fn another_flight_needs_company() {
        let mut queue = Queue::default();
        let come = |queue: &mut Queue, id: usize| {
            queue.waiting.push_back(waiting(write(&format!("routes/{id}"))));
            queue.begins()
        };
        assert!(come(&mut queue, 0), "nobody flies");
        assert_eq!(queue.next().unwrap().len(), 1);
        for id in 1..COMPANY {
            assert!(!come(&mut queue, id), "{id}");
        }
        assert!(come(&mut queue, COMPANY), "enough for another");
        assert_eq!(queue.next().unwrap().len(), COMPANY);
        assert!(!come(&mut queue, 20));
        assert!(queue.next().is_none(), "the other flight will take it");
        assert_eq!(queue.next().unwrap().len(), 1);
        assert!(queue.next().is_none());
        assert_eq!(queue.flights, 0);
    }

    #[test]
    fn a_lease_is_for_one() {
        let op = Op::Put { path: "a".to_owned(), value: "{}".into(), ttl: Some(1) };
        let leased = || Transaction { ops: vec![op.clone()], ..Transaction::default() };
        assert_eq!(batches(vec![leased(), write("b")]), [["a"], ["b"]]);
        assert_eq!(batches(vec![write("b"), leased()]), [["b"], ["a"]]);
    }

    #[test]
    fn authors_are_kept_apart() {
        let mut other = write("b");
        other.author.name = "somebody else".to_owned();
        assert_eq!(batches(vec![write("a"), other, write("c")]), [vec!["a", "c"], vec!["b"]]);
    }

    #[test]
    fn batches_stay_below_the_limits_of_etcd() {
        let paths: Vec<String> = (0..=TOGETHER).map(|id| format!("routes/{id}")).collect();
        let many = paths.iter().map(|path| write(path)).collect();
        let sizes: Vec<usize> = batches(many).iter().map(Vec::len).collect();
        assert_eq!(sizes, [TOGETHER, 1]);

        let set = Transaction { ops: paths.iter().map(|path| put(path)).collect(), ..write("x") };
        assert_eq!(batches(vec![set.clone(), write("a")]).len(), 2);
        assert_eq!(batches(vec![write("a"), set]).len(), 2);
        let guards: Vec<Guard> = paths.iter().map(|path| Guard::Exists(path.clone())).collect();
        let watchful = Transaction { guards, ..write("b") };
        assert_eq!(batches(vec![write("a"), watchful]).len(), 2);

        let large = |path: &str| {
            let value = "x".repeat(BYTES / 2).into();
            let op = Op::Put { path: path.to_owned(), value, ttl: None };
            Transaction { ops: vec![op], ..Transaction::default() }
        };
        assert_eq!(batches(vec![large("a"), large("b")]).len(), 2);
    }
}
