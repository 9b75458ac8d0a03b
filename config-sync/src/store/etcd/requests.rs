//! Reads and writes on one connection that all requests share, with failover.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, KvClient, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use tokio::time::Instant;

use super::link::{Connection, Dialer, Failure};
use super::load::{AUTHOR, Keys, Loaded, Pager, Position, item, signed};
use crate::store::{Author, Guard, Item, Op, Outcome, StoreError, Transaction};

/// The connection for requests, apart from the watch's, so that a large load does not hold up a
/// write.
pub(super) struct Requests {
    dialer: Arc<Dialer>,
    current: Mutex<Option<Arc<Connection>>>,
    /// Held while connecting.
    dialing: tokio::sync::Mutex<Dialing>,
}

/// How connecting goes on.
struct Dialing {
    /// The member to try next.
    next: usize,
    /// When no member could be reached last, and why.
    failed: Option<(Instant, String)>,
}

impl Requests {
    pub(super) fn new(dialer: Arc<Dialer>, first: usize) -> Self {
        let dialing = tokio::sync::Mutex::new(Dialing { next: first, failed: None });
        Self { dialer, current: Mutex::new(None), dialing }
    }

    fn current(&self) -> Option<Arc<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection in use, or a new one to the first member that can serve.
    async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let asked = Instant::now();
        let mut dialing = self.dialing.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection); // somebody else was faster
        }
        // All who waited for an attempt share its failure instead of repeating it one by one.
        if let Some((at, reason)) = &dialing.failed
            && *at >= asked
        {
            return Err(Failure::NotSent(reason.clone()));
        }
        let mut reasons = Vec::new();
        for _ in 0..self.dialer.len() {
            match self.dialer.dial(dialing.next).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(Arc::clone(&connection));
                    return Ok(connection);
                }
                Err(reason) => reasons.push(reason),
            }
            dialing.next = dialing.next.wrapping_add(1);
        }
        let reason = reasons.join("; ");
        dialing.failed = Some((Instant::now(), reason.clone()));
        Err(Failure::NotSent(reason))
    }

    /// Leaves a connection that failed; the next request connects to the next member.
    async fn leave(&self, connection: &Arc<Connection>) {
        let mut dialing = self.dialing.lock().await;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *current = None;
            dialing.next = dialing.next.wrapping_add(1);
        }
    }

    /// Runs a request, and again on other members when it failed in a way that `again` allows.
    async fn run<T, F>(
        &self,
        again: fn(&Failure) -> bool,
        request: impl Fn(Arc<Connection>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + self.dialer.timeout;
        let mut tries = 0..=self.dialer.len();
        loop {
            tries.next();
            let connection = self.connection().await?;
            let failure = match request(Arc::clone(&connection)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            // The server forgot the login: a new connection logs in again.
            let stale = failure.says("auth store is old") || failure.says("invalid auth token");
            if stale || !matches!(failure, Failure::Answer { .. }) {
                self.leave(&connection).await;
            }
            let may_again = stale || again(&failure);
            if !may_again || tries.is_empty() || Instant::now() >= deadline {
                return Err(failure);
            }
        }
    }

    /// One item.
    pub(super) async fn get(&self, keys: &Keys, path: &str) -> Result<Option<Item>, StoreError> {
        let timeout = self.dialer.timeout;
        let read = |connection: Arc<Connection>| async move {
            let mut kv = connection.kv.clone();
            connection.call(timeout, kv.get(keys.key(path), None)).await
        };
        let mut answer =
            self.run(is_harmless, read).await.map_err(|failure| unavailable(&failure))?;
        Ok(answer.take_kvs().into_iter().next().and_then(|pair| item(keys, pair)))
    }

    /// All items whose path begins with `prefix`.
    pub(super) async fn list(&self, keys: &Keys, prefix: &str) -> Result<Loaded, StoreError> {
        let timeout = self.dialer.timeout;
        let read = |connection: Arc<Connection>| async move {
            Pager::default().read(&connection, keys, prefix, timeout).await
        };
        self.run(is_harmless, read).await.map_err(|failure| unavailable(&failure))
    }

    /// Writes, all in one round trip; a time to live needs one more before.
    pub(super) async fn commit(
        &self,
        keys: &Keys,
        transaction: Transaction,
    ) -> Result<Outcome, StoreError> {
        let leases = self.grant(&transaction).await?;
        let txn = txn(keys, &transaction, &leases);
        let timeout = self.dialer.timeout;
        let write = |connection: Arc<Connection>| {
            let txn = txn.clone();
            async move {
                let mut kv: KvClient = connection.kv.clone();
                connection.call(timeout, kv.txn(txn)).await
            }
        };
        let result = self.run(was_not_sent, write).await;
        let used = matches!(&result, Ok(answer) if answer.succeeded());
        if !used && !leases.is_empty() {
            self.revoke(leases);
        }
        match result {
            Ok(answer) if answer.succeeded() => Ok(committed(keys, &answer)),
            Ok(_) => Ok(Outcome::Conflict),
            Err(failure) => Err(refused(failure, &transaction)),
        }
    }

    /// A lease for each different time to live: pairs of seconds and id.
    async fn grant(&self, transaction: &Transaction) -> Result<Vec<(u64, i64)>, StoreError> {
        let mut leases: Vec<(u64, i64)> = Vec::new();
        let timeout = self.dialer.timeout;
        for op in &transaction.ops {
            let Op::Put { path, ttl: Some(ttl), .. } = op else { continue };
            if *ttl == 0 {
                return Err(StoreError::Refused(format!("{path}: a ttl is at least 1 second")));
            }
            if leases.iter().any(|(seconds, _)| seconds == ttl) {
                continue;
            }
            let grant = |connection: Arc<Connection>| async move {
                let mut lease = connection.lease.clone();
                connection.call(timeout, lease.grant(signed(*ttl), None)).await
            };
            // A lease too many does no harm, it runs out.
            let granted = self
                .run(is_harmless, grant)
                .await
                .map_err(|failure| refused(failure, transaction))?;
            leases.push((*ttl, granted.id()));
        }
        Ok(leases)
    }

    /// Gives back leases that nothing was attached to. Nobody waits for it; what fails runs out.
    fn revoke(&self, leases: Vec<(u64, i64)>) {
        let Some(connection) = self.current() else { return };
        let timeout = self.dialer.timeout;
        tokio::spawn(async move {
            for (_, id) in leases {
                let mut lease = connection.lease.clone();
                if connection.call(timeout, lease.revoke(id)).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Reads can be repeated whatever happened, unless etcd refused them.
fn is_harmless(failure: &Failure) -> bool {
    !matches!(failure, Failure::Answer { .. }) || failure.says("etcdserver: leader changed")
}

/// A write must not be repeated when it may have happened.
fn was_not_sent(failure: &Failure) -> bool {
    matches!(failure, Failure::NotSent(_))
}

fn unavailable(failure: &Failure) -> StoreError {
    StoreError::Unavailable(format!("etcd: {failure}"))
}

/// The limits that an operator can raise, with what to do; everything else as etcd said it.
fn refused(failure: Failure, transaction: &Transaction) -> StoreError {
    if failure.says("too many operations") {
        let needed = (transaction.ops.len() + 1).max(transaction.guards.len());
        return StoreError::Refused(format!(
            "{} changes at once are more than etcd takes in one transaction: start etcd with \
             --max-txn-ops={needed} or more (its default is 128), or write fewer at once",
            transaction.ops.len()
        ));
    }
    let too_large = ["request is too large", "received message larger than max"];
    if too_large.iter().any(|text| failure.says(text)) {
        let bytes: usize = transaction.ops.iter().map(size).sum();
        return StoreError::Refused(format!(
            "{bytes} bytes at once are more than etcd takes in one request: start etcd with a \
             --max-request-bytes above that (its default is 1572864), or write less at once"
        ));
    }
    if failure.says("too large lease TTL") {
        return StoreError::Refused("a ttl is larger than etcd takes".to_owned());
    }
    if failure.says("duplicate key given") {
        return StoreError::Refused("a key occurs twice in one transaction".to_owned());
    }
    if let Failure::Unanswered(reason) = failure {
        return StoreError::Unavailable(format!(
            "etcd: {reason}; whether the change was made is not known"
        ));
    }
    unavailable(&failure)
}

fn size(op: &Op) -> usize {
    match op {
        Op::Put { path, value, .. } => path.len() + value.len(),
        Op::Delete { path } => path.len(),
    }
}

/// The author as it is stored: with a mark, so that no two commits write the same value. It also
/// tells one history of the store from another (`follow::Follower`).
#[derive(serde::Serialize)]
struct Signature<'a> {
    #[serde(flatten)]
    author: &'a Author,
    mark: String,
}

/// The value of the author's key.
fn signature(author: &Author) -> Bytes {
    let mark = format!("{:016x}", getrandom::u64().unwrap_or_default());
    serde_json::to_vec(&Signature { author, mark }).unwrap_or_default().into()
}

fn txn(keys: &Keys, transaction: &Transaction, leases: &[(u64, i64)]) -> Txn {
    let guards: Vec<Compare> = transaction
        .guards
        .iter()
        .map(|guard| match guard {
            Guard::Absent(path) => Compare::version(keys.key(path), CompareOp::Equal, 0),
            Guard::Exists(path) => Compare::version(keys.key(path), CompareOp::Greater, 0),
            Guard::Unmodified(path, revision) => {
                Compare::mod_revision(keys.key(path), CompareOp::Equal, signed(*revision))
            }
        })
        .collect();
    let mut ops: Vec<TxnOp> = transaction
        .ops
        .iter()
        .map(|op| match op {
            Op::Put { path, value, ttl } => {
                let mut options = PutOptions::new().with_prev_key();
                let lease = leases.iter().find(|(seconds, _)| Some(*seconds) == *ttl);
                if let Some((_, id)) = lease {
                    options = options.with_lease(*id);
                }
                TxnOp::put(keys.key(path), value.as_ref(), Some(options))
            }
            Op::Delete { path } => {
                TxnOp::delete(keys.key(path), Some(DeleteOptions::new().with_prev_key()))
            }
        })
        .collect();
    let signed = TxnOp::put(keys.key(AUTHOR), signature(&transaction.author).as_ref(), None);
    ops.push(match transaction.ops.as_slice() {
        // Deleting what does not exist is no change, and gets no author.
        [Op::Delete { path }] => {
            let exists = Compare::version(keys.key(path), CompareOp::Greater, 0);
            TxnOp::txn(Txn::new().when([exists]).and_then([signed]))
        }
        _ => signed,
    });
    Txn::new().when(guards).and_then(ops)
}

fn committed(keys: &Keys, answer: &TxnResponse) -> Outcome {
    let mut previous: Vec<Option<Item>> = answer
        .op_responses()
        .into_iter()
        .map(|answer| match answer {
            TxnOpResponse::Put(mut put) => put.take_prev_key(),
            TxnOpResponse::Delete(mut delete) => delete.take_prev_kvs().into_iter().next(),
            TxnOpResponse::Get(_) | TxnOpResponse::Txn(_) => None,
        })
        .map(|pair| pair.and_then(|pair| item(keys, pair)))
        .collect();
    previous.pop(); // the author's
    Outcome::Committed { revision: Position::of(answer.header()).revision, previous }
}
