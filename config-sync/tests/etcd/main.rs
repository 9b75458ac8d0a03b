//! The etcd store against real etcd processes, which are killed, stopped, compacted, restored and
//! cut off. After every fault what the watcher knows equals what etcd has, and no commit is missing.

// clippy.toml allows these in tests, but does not see the helpers here as part of one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod mirror;
mod proxy;
mod requests;
mod security;

use bytes::Bytes;
use osmia_config_sync::store::etcd::EtcdStore;
use osmia_config_sync::store::{Author, Op, Outcome, Store as _, Transaction};
use osmia_tests::etcd::settings;

fn store(endpoints: &[String]) -> EtcdStore {
    EtcdStore::new(&settings(endpoints)).unwrap()
}

fn put(path: &str, value: &str) -> Op {
    Op::Put { path: path.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), ttl: None }
}

fn delete(path: &str) -> Op {
    Op::Delete { path: path.to_owned() }
}

fn author(name: &str) -> Author {
    Author { name: name.to_owned(), address: "127.0.0.1".to_owned() }
}

fn transaction(ops: Vec<Op>) -> Transaction {
    Transaction { guards: Vec::new(), ops, author: author("tester") }
}

/// Commits and gives the revision.
async fn commit(store: &EtcdStore, ops: Vec<Op>) -> u64 {
    match store.commit(transaction(ops)).await.unwrap() {
        Outcome::Committed { revision, .. } => revision,
        Outcome::Conflict => panic!("no guard was given"),
    }
}

/// Runs what blocks (etcd processes, etcdctl) where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
