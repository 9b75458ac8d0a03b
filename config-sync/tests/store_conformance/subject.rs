//! What the suite needs of a kind of store, and helpers for the cases.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use osmia_config_sync::store::{Author, Guard, Item, Op, Outcome, Store, Transaction};

/// Ends a case that waits for what never comes.
pub const LIMIT: Duration = Duration::from_secs(60);

/// One kind of store.
#[async_trait]
pub trait Subject: Send + Sync + Sized + 'static {
    /// A store with nothing in it.
    async fn fresh() -> Self;

    /// The store.
    fn store(&self) -> Arc<dyn Store>;

    /// Closes the store and opens the same data again.
    async fn reopen(self) -> Self;

    /// Brings these operations about, all of them at once, and returns when they can be read.
    async fn write(&self, ops: Vec<Op>) {
        committed(&*self.store(), ops).await;
    }

    /// Whether `read` is what a store must return for `written`.
    fn same_value(&self, written: &[u8], read: &[u8]) -> bool {
        written == read
    }
}

/// A route's text, valid in APISIX. `mark` tells one version from another.
pub fn route(mark: &str) -> Bytes {
    let value = serde_json::json!({
        "uri": "/hello",
        "desc": mark,
        "upstream": { "type": "roundrobin", "nodes": { "127.0.0.1:1980": 1 } }
    });
    Bytes::from(value.to_string())
}

/// The `mark` of a route.
pub fn mark(value: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(value).unwrap();
    value["desc"].as_str().unwrap().to_owned()
}

pub fn put(path: &str, value: &Bytes) -> Op {
    Op::Put { path: path.to_owned(), value: value.clone(), ttl: None }
}

pub fn put_with_ttl(path: &str, value: &Bytes, ttl: u64) -> Op {
    Op::Put { path: path.to_owned(), value: value.clone(), ttl: Some(ttl) }
}

pub fn delete(path: &str) -> Op {
    Op::Delete { path: path.to_owned() }
}

pub fn author() -> Author {
    Author { name: "admin".to_owned(), address: "127.0.0.1".to_owned() }
}

pub async fn commit(store: &dyn Store, guards: Vec<Guard>, ops: Vec<Op>) -> Outcome {
    let transaction = Transaction { guards, ops, author: author() };
    store.commit(transaction).await.unwrap()
}

/// Commits without guards; the revision.
pub async fn committed(store: &dyn Store, ops: Vec<Op>) -> u64 {
    match commit(store, Vec::new(), ops).await {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict => panic!("a conflict without guards"),
    }
}

pub async fn get(store: &dyn Store, path: &str) -> Option<Item> {
    store.get(path).await.unwrap()
}

/// The paths of all items, in the order in which the store lists them.
pub async fn paths(store: &dyn Store, prefix: &str) -> Vec<String> {
    let contents = store.list(prefix).await.unwrap();
    contents.items.into_iter().map(|item| item.path).collect()
}
