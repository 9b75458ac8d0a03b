//! Stores: where resources are kept, and how their changes are followed.
//!
//! A store is a map from paths (`routes/1`, relative to the configured prefix) to JSON texts with
//! etcd's notion of revisions: every commit, of one key or of many, has a revision of its own,
//! greater than all before it. One file per store; all of them pass the same conformance suite
//! (`config-sync/tests/store_conformance/`).

pub mod embedded;
pub mod etcd;
pub mod file;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::local::Journal;

/// One stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Path relative to the prefix: `routes/1`.
    pub path: String,
    /// The JSON text, as it was written.
    pub value: Bytes,
    /// Revision of the commit that created the key (`createdIndex`).
    pub created: u64,
    /// Revision of the last commit to the key (`modifiedIndex`).
    pub modified: u64,
}

/// Contents at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The revision of the whole store.
    pub revision: u64,
    /// The items, by path.
    pub items: Vec<Item>,
}

/// What one commit did to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Written; the item's `modified` is the commit's revision.
    Put(Item),
    /// Deleted, or its lease ran out.
    Delete {
        /// Path relative to the prefix.
        path: String,
    },
}

/// Who made a change, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Author {
    /// Name of the admin key, or what else names the writer (`rollback by admin`).
    pub name: String,
    /// The client's address, without port.
    pub address: String,
}

/// One commit, as a watcher sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// The store's revision after it.
    pub revision: u64,
    /// `None` when it was not made through Osmia.
    pub author: Option<Author>,
    /// All changes of the commit; none when what was to be changed was not there. Nothing of a
    /// commit is ever delivered without the rest.
    pub changes: Vec<Change>,
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The whole contents. Always the first event (unless the store cannot be reached, then after
    /// [`Event::Lost`]), and again whenever the changes in between cannot be had: after a
    /// compaction, a restore, or when a file was changed. What is not in it is gone.
    Load(Contents),
    /// Commits in order, none missing since the last `Load` or `Commits`. Commits that were
    /// waiting together come together.
    Commits(Vec<Commit>),
    /// What was found cannot be used as a whole (a file that is not valid, a store that is suddenly
    /// empty); the last contents stay in force.
    Refused {
        /// What is wrong and what to do, for the log and the status.
        reason: String,
    },
    /// The store cannot be reached; the last contents stay in force. The store keeps trying.
    Lost {
        /// Why, for the log and the status.
        reason: String,
    },
    /// The store is reached again, nothing was missed. (A `Load` says so by itself.)
    Restored,
}

/// The receiving end of a watch. Dropping it ends the watch.
pub type Events = mpsc::Receiver<Event>;

/// Events that may wait for the watcher before the store waits.
pub const EVENT_QUEUE: usize = 64;

/// A condition for a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The key does not exist.
    Absent(String),
    /// The key exists.
    Exists(String),
    /// The key was last modified by this revision.
    Unmodified(String, u64),
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a key.
    Put {
        /// Path relative to the prefix.
        path: String,
        /// JSON text.
        value: Bytes,
        /// Seconds after which the key is deleted (etcd lease); at least 1.
        ttl: Option<u64>,
    },
    /// Deletes a key; nothing happens when it does not exist.
    Delete {
        /// Path relative to the prefix.
        path: String,
    },
}

/// Writes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All of these must hold.
    pub guards: Vec<Guard>,
    /// What is written. No path occurs twice.
    pub ops: Vec<Op>,
    /// For the journal.
    pub author: Author,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Durable.
    Committed {
        /// The store's revision after it.
        revision: u64,
    },
    /// A guard did not hold; nothing was written.
    Conflict,
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or did not answer in time. Whether a write took effect is unknown.
    #[error("{0}")]
    Unavailable(String),
    /// It can only be read: a file.
    #[error("the configuration comes from {0} and cannot be changed here")]
    ReadOnly(String),
    /// It refuses this request: too large, too many operations. Nothing was written.
    #[error("{0}")]
    Refused(String),
}

/// Where resources are kept.
///
/// All methods are called from the sync thread's runtime; none may block it.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// For messages: `etcd at http://127.0.0.1:2379`, `the embedded store data/osmia.redb`.
    fn name(&self) -> String;

    /// What the Admin API shows before a path, as in `/apisix/routes/1`: etcd's `prefix`.
    #[allow(clippy::unnecessary_literal_bound, reason = "other stores lend theirs")]
    fn prefix(&self) -> &str {
        "/apisix"
    }

    /// Whether [`Store::commit`] can succeed.
    fn is_writable(&self) -> bool;

    /// One item as it is now, written by whomever.
    async fn get(&self, path: &str) -> Result<Option<Item>, StoreError>;

    /// All items whose path begins with `prefix`, at one revision, sorted by path.
    async fn list(&self, prefix: &str) -> Result<Contents, StoreError>;

    /// Writes. When it returns `Committed`, the change is durable and every watcher will see it.
    /// Transactions of one author that wait together may become one commit.
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError>;

    /// Whether the store would take so much at once; nothing is written, and guards are not looked
    /// at.
    async fn rehearse(&self, _transaction: &Transaction) -> Result<(), StoreError> {
        Ok(())
    }

    /// Follows all changes from now on, beginning with the whole contents.
    fn watch(&self) -> Events;

    /// The store's own journal. `None`: the engine keeps one from what it sees.
    fn journal(&self) -> Option<Journal> {
        None
    }

    /// Looks again at once: a file is read again, a lost connection is retried without waiting.
    fn refresh(&self) {}

    /// An operator wants what is there: contents that are refused because most of them have gone
    /// are taken.
    fn accept(&self) {}
}
