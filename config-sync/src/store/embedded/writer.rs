//! The thread that writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redb::Durability;
use tokio::sync::{oneshot, watch};

use super::feed::{Recent, Status};
use super::tables::{self, Tables};
use super::unavailable;
use crate::local::database::{Database, Finish};
use crate::store::{Author, Change, Commit, Guard, Item, Op, Outcome, StoreError, Transaction};

/// Transactions that are written together, at most.
const MAX_BATCH: usize = 512;
/// Bytes of values that are written together, at most (unless one transaction has more).
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The longest sleep while a lease is running or the file is broken: the wall clock may be set, and
/// a full disk may have been cleaned up.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A transaction, and where its outcome goes.
pub(super) struct Request {
    pub transaction: Transaction,
    pub reply: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// When a lease runs out, and of which path. May be out of date: the table has the truth.
type Lease = (u64, String);

pub(super) struct Writer {
    database: Arc<Database>,
    keep_history: u64,
    requests: Receiver<Request>,
    recent: Arc<Recent>,
    status: watch::Sender<Status>,
    revision: u64,
    leases: BTreeSet<Lease>,
    /// A write failed, and since then it is not known what is on the disk.
    failed: bool,
}

impl Writer {
    /// Reads where the store stands, and ends the leases that ran out meanwhile.
    pub(super) fn new(
        database: Arc<Database>,
        keep_history: u64,
        requests: Receiver<Request>,
        recent: Arc<Recent>,
    ) -> Result<(Self, watch::Receiver<Status>), redb::Error> {
        let (revision, leases) = tables::state(&database)?;
        let (status, receiver) = watch::channel(Status { revision, ..Status::default() });
        let leases = leases.into_iter().collect();
        let failed = false;
        let mut writer =
            Self { database, keep_history, requests, recent, status, revision, leases, failed };
        if writer.is_due(now_ms()) {
            let batch = writer.write(Vec::new(), now_ms())?;
            writer.publish(batch);
        }
        Ok((writer, receiver))
    }

    /// Until the store is dropped.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.sleep() {
                None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(sleep) => self.requests.recv_timeout(sleep),
            };
            match first {
                Ok(first) => self.serve(first),
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How long nothing has to be done; `None`: until a request comes.
    fn sleep(&self) -> Option<Duration> {
        if self.failed {
            return Some(LONGEST_SLEEP);
        }
        let (deadline, _) = self.leases.first()?;
        Some(Duration::from_millis(deadline.saturating_sub(now_ms())).min(LONGEST_SLEEP))
    }

    fn is_due(&self, now: u64) -> bool {
        self.leases.first().is_some_and(|(deadline, _)| *deadline <= now)
    }

    /// Writes the first request with all that are waiting behind it.
    fn serve(&mut self, first: Request) {
        let mut bytes = size(&first.transaction);
        let mut transactions = vec![first.transaction];
        let mut replies = vec![first.reply];
        while transactions.len() < MAX_BATCH
            && bytes < MAX_BATCH_BYTES
            && let Ok(next) = self.requests.try_recv()
        {
            bytes += size(&next.transaction);
            transactions.push(next.transaction);
            replies.push(next.reply);
        }
        // A caller that has gone away does not mind; its write was made all the same.
        match self.write_known(transactions, now_ms()) {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Deletes what has run out by now, or tries a broken file again.
    fn tick(&mut self) {
        let now = now_ms();
        if self.failed || self.is_due(now) {
            // What is wrong has been said to the log and to the watchers.
            let _ = self.write_known(Vec::new(), now);
        }
    }

    /// Writes, when it is known what is on the disk, and tells the watchers.
    fn write_known(
        &mut self,
        transactions: Vec<Transaction>,
        now: u64,
    ) -> Result<Vec<Outcome>, StoreError> {
        if self.failed {
            self.recover().map_err(|error| unavailable(&self.database, &error))?;
        }
        match self.write(transactions, now) {
            Ok(batch) => Ok(self.publish(batch)),
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// One database transaction: the leases that have run out, then each transaction as a commit of
    /// its own.
    fn write(&self, transactions: Vec<Transaction>, now: u64) -> Result<Batch, redb::Error> {
        self.database.write(Durability::Immediate, |database| {
            let mut tables = Tables::open(database)?;
            let mut batch = Batch { now, revision: self.revision, ..Batch::default() };
            batch.expire(&mut tables, &self.leases)?;
            for transaction in transactions {
                let outcome = batch.apply(&mut tables, transaction)?;
                batch.outcomes.push(outcome);
            }
            if batch.commits.is_empty() {
                return Ok(Finish::Abort(batch));
            }
            tables.set_revision(batch.revision)?;
            tables.journal.trim(&mut tables.meta, self.keep_history)?;
            Ok(Finish::Commit(batch))
        })
    }

    /// Tells the watchers what is on the disk now.
    fn publish(&mut self, batch: Batch) -> Vec<Outcome> {
        // What was due has been deleted, or had been written again with another end.
        self.leases = self.leases.split_off(&(batch.now + 1, String::new()));
        self.leases.extend(batch.leases);
        if !batch.commits.is_empty() {
            self.revision = batch.revision;
            self.recent.add(batch.commits);
            self.status.send_modify(|status| status.revision = batch.revision);
        }
        batch.outcomes
    }

    /// A write failed. Whether it took effect is seen when the file is opened again.
    fn fail(&mut self, error: &redb::Error) -> StoreError {
        let name = self.database.path().display();
        tracing::error!("embedded store: {name}: a write failed, it is tried again: {error}");
        self.failed = true;
        let error = unavailable(&self.database, error);
        self.status.send_modify(|status| status.problem = Some(error.to_string()));
        error
    }

    /// Opens the file again and looks where it stands. Watchers are loaded anew.
    fn recover(&mut self) -> Result<(), redb::Error> {
        self.database.recover()?;
        let (revision, leases) = tables::state(&self.database)?;
        self.revision = revision;
        self.leases = leases.into_iter().collect();
        self.recent.clear();
        self.failed = false;
        tracing::info!(
            "embedded store: {} is in use again, at revision {revision}",
            self.database.path().display()
        );
        self.status.send_modify(|status| {
            *status = Status { revision, epoch: status.epoch + 1, problem: None };
        });
        Ok(())
    }
}

/// What one database transaction does.
#[derive(Default)]
struct Batch {
    /// When it is made, in milliseconds since 1970.
    now: u64,
    /// The last revision so far.
    revision: u64,
    commits: Vec<Commit>,
    outcomes: Vec<Outcome>,
    leases: Vec<Lease>,
}

/// What is done to a key: the change for watchers, and what was there before.
type Done = (Change, Option<Item>);

impl Batch {
    /// Deletes what has run out, as one commit.
    fn expire(
        &mut self,
        tables: &mut Tables<'_>,
        leases: &BTreeSet<Lease>,
    ) -> Result<(), redb::Error> {
        let mut done = Vec::new();
        for (deadline, path) in leases.range(..(self.now + 1, String::new())) {
            if tables.deadline(path)? == Some(*deadline)
                && let Some(before) = tables.delete(path)?
            {
                done.push((Change::Delete { path: path.clone() }, Some(before)));
            }
        }
        self.commit(tables, None, done)
    }

    /// Makes a transaction a commit, when its guards hold.
    fn apply(
        &mut self,
        tables: &mut Tables<'_>,
        transaction: Transaction,
    ) -> Result<Outcome, redb::Error> {
        for guard in &transaction.guards {
            if !holds(tables, guard)? {
                return Ok(Outcome::Conflict);
            }
        }
        let revision = self.revision + 1;
        let mut done: Vec<Done> = Vec::with_capacity(transaction.ops.len());
        for op in transaction.ops {
            match op {
                Op::Put { path, value, ttl } => {
                    let deadline = ttl.map(|ttl| self.now.saturating_add(ttl.saturating_mul(1000)));
                    if let Some(deadline) = deadline {
                        self.leases.push((deadline, path.clone()));
                    }
                    let (item, before) = tables.put(path, value, deadline, revision)?;
                    done.push((Change::Put(item), before));
                }
                Op::Delete { path } => {
                    if let Some(before) = tables.delete(&path)? {
                        done.push((Change::Delete { path }, Some(before)));
                    }
                }
            }
        }
        self.commit(tables, Some(transaction.author), done)?;
        Ok(Outcome::Committed { revision: self.revision })
    }

    /// Writes the journal's entry. What changes nothing is not a commit.
    fn commit(
        &mut self,
        tables: &mut Tables<'_>,
        author: Option<Author>,
        done: Vec<Done>,
    ) -> Result<(), redb::Error> {
        if done.is_empty() {
            return Ok(());
        }
        self.revision += 1;
        let rows = done.iter().map(|(change, before)| {
            let before = before.as_ref().map(|item| item.value.as_ref());
            match change {
                Change::Put(item) => (item.path.as_str(), before, Some(item.value.as_ref())),
                Change::Delete { path } => (path.as_str(), before, None),
            }
        });
        let head = (self.revision, self.now, author.as_ref());
        tables.journal.append(&mut tables.meta, head, rows)?;
        let changes = done.into_iter().map(|(change, _)| change).collect();
        self.commits.push(Commit { revision: self.revision, author, changes });
        Ok(())
    }
}

fn holds(tables: &Tables<'_>, guard: &Guard) -> Result<bool, redb::Error> {
    Ok(match guard {
        Guard::Absent(path) => tables.revisions(path)?.is_none(),
        Guard::Exists(path) => tables.revisions(path)?.is_some(),
        Guard::Unmodified(path, revision) => {
            tables.revisions(path)?.is_some_and(|(_, modified)| modified == *revision)
        }
    })
}

fn size(transaction: &Transaction) -> usize {
    let op = |op: &Op| match op {
        Op::Put { value, .. } => value.len(),
        Op::Delete { .. } => 0,
    };
    transaction.ops.iter().map(op).sum()
}

/// The wall clock: leases go on while the process does not run.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64
}
