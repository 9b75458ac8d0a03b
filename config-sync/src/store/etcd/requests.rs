//! Reads and writes on one connection that all requests share, with failover.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{KvClient, Txn, TxnResponse};
use tokio::time::Instant;

use super::group::bytes;
use super::link::{Connection, Dialer, Failure};
use super::load::{Keys, Loaded, Pager, item, signed};
use crate::store::{Item, Op, StoreError, Transaction};

/// The connection for requests, apart from the watch's, so that a large load does not hold up a
/// write.
pub(super) struct Requests {
    dialer: Arc<Dialer>,
    current: Mutex<Option<Arc<Connection>>>,
    /// Held while connecting.
    dialing: tokio::sync::Mutex<Dialing>,
}

/// Pairs of a time to live in seconds and the id of its lease.
pub(super) type Leases = Vec<(u64, i64)>;

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
            // On the heap: each request would have to carry it.
            match Box::pin(self.dialer.dial(dialing.next)).await {
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

    /// Sends a transaction, and does not repeat it when it may have happened. It is made anew for
    /// each time that it is sent.
    pub(super) async fn send(&self, txn: impl Fn() -> Txn) -> Result<TxnResponse, Failure> {
        let timeout = self.dialer.timeout;
        let write = |connection: Arc<Connection>| {
            let txn = txn();
            async move {
                let mut kv: KvClient = connection.kv.clone();
                connection.call(timeout, kv.txn(txn)).await
            }
        };
        self.run(was_not_sent, write).await
    }

    /// How long a request may take.
    pub(super) fn timeout(&self) -> Duration {
        self.dialer.timeout
    }

    /// A lease for each different time to live.
    pub(super) async fn grant(&self, transaction: &Transaction) -> Result<Leases, StoreError> {
        let mut leases = Leases::new();
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
    pub(super) fn revoke(&self, leases: Leases) {
        if leases.is_empty() {
            return;
        }
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
pub(super) fn refused(failure: Failure, transaction: &Transaction) -> StoreError {
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
        let total: usize = transaction.ops.iter().map(bytes).sum();
        return StoreError::Refused(format!(
            "{total} bytes at once are more than etcd takes in one request: start etcd with a \
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
