//! etcd, through its gRPC API: the store that APISIX uses.
//!
//! Keys lie where APISIX has them, `{prefix}/routes/1`; one more, `{prefix}/osmia/author`, is
//! written in every transaction that changes anything and says who made it, so that each node's
//! watch learns it with the change.
//!
//! - `link` connects to a member and notices when it is gone;
//! - `transport` is that connection's HTTP/2, `tls` its security;
//! - `requests` has reads and writes, on one connection for all, with failover; `group` takes
//!   writes together that wait together; `txn` makes etcd's transactions of ours;
//! - `load` reads many keys in pages at one revision;
//! - `follow` is the watch, on a connection of its own; `batch` makes commits of its events.

mod batch;
mod follow;
mod group;
mod link;
mod load;
mod requests;
mod tls;
mod transport;
mod txn;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use osmia_core::settings::EtcdSettings;
use tokio::sync::mpsc;

use self::follow::{Follower, Operator};
use self::group::Group;
use self::link::Dialer;
use self::load::Keys;
use self::requests::{Requests, refused};
use super::{Contents, EVENT_QUEUE, Events, Item, Outcome, Store, StoreError, Transaction};

/// The store in etcd.
pub struct EtcdStore {
    dialer: Arc<Dialer>,
    keys: Keys,
    requests: Arc<Requests>,
    group: Group,
    accept_empty: bool,
    operator: Arc<Operator>,
}

impl EtcdStore {
    /// Reads certificates and checks addresses; connects to nobody yet. Fails with
    /// [`StoreError::Refused`] for settings that can never work, naming the key in `config.yaml`.
    pub fn new(settings: &EtcdSettings) -> Result<Self, StoreError> {
        let dialer = Arc::new(Dialer::new(settings)?);
        let keys = Keys::new(&settings.prefix);
        let requests = Arc::new(Requests::new(Arc::clone(&dialer), any_member(&dialer)));
        Ok(Self {
            group: Group::new(Arc::clone(&requests), keys.clone()),
            keys,
            requests,
            dialer,
            accept_empty: settings.accept_empty,
            operator: Arc::default(),
        })
    }
}

/// Where to begin: anywhere, so that many gateways spread over the members.
fn any_member(dialer: &Dialer) -> usize {
    getrandom::u32().unwrap_or_default() as usize % dialer.len()
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EtcdStore").field(&self.name()).finish()
    }
}

#[async_trait]
impl Store for EtcdStore {
    fn name(&self) -> String {
        format!("etcd at {}", self.dialer.names())
    }

    fn prefix(&self) -> &str {
        self.keys.prefix()
    }

    fn is_writable(&self) -> bool {
        true
    }

    async fn get(&self, path: &str) -> Result<Option<Item>, StoreError> {
        self.requests.get(&self.keys, path).await
    }

    async fn list(&self, prefix: &str) -> Result<Contents, StoreError> {
        Ok(self.requests.list(&self.keys, prefix).await?.contents)
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        self.group.commit(transaction).await
    }

    /// Only etcd knows its limits, so it is asked.
    async fn rehearse(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let sent = self.requests.send(|| txn::rehearsal(&self.keys, transaction)).await;
        sent.map(drop).map_err(|failure| refused(failure, transaction))
    }

    fn watch(&self) -> Events {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let follower = Follower::new(
            Arc::clone(&self.dialer),
            self.keys.clone(),
            self.accept_empty,
            any_member(&self.dialer),
            Arc::clone(&self.operator),
            sender,
        );
        tokio::spawn(follower.run());
        events
    }

    fn accept(&self) {
        self.operator.accept();
    }

    fn refresh(&self) {
        self.operator.look_again();
    }
}
