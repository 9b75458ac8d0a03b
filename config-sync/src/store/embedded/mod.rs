//! The store that needs nothing else: a database in a file of this process.
//!
//! ```text
//! commit ──▶ channel ──▶ writer (thread osmia-store): one database transaction for all that wait
//!    ▲                      │ durable          │
//!    └──── outcome ─────────┘                  ▼
//!                              recent commits, status ──▶ a feeder per watcher ──▶ its events
//! ```
//!
//! **Invariant:** what was acknowledged or shown to a watcher is on the disk. The writer never
//! waits for a watcher: one that falls behind what is kept of recent commits is loaded anew.

mod feed;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use async_trait::async_trait;
use crossbeam_channel::Sender;
use tokio::sync::{mpsc, oneshot, watch};

use self::feed::{Feeder, Recent, Status};
use self::writer::{Request, Writer};
use super::{Contents, Events, Item, Op, Outcome, Store, StoreError, Transaction};
use crate::local::Journal;
use crate::local::database::Database;

/// Name of the file in the data folder.
const FILE: &str = "osmia.redb";
/// Events that wait for a watcher. Few: commits wait together in [`Recent`], which is bounded in
/// bytes, and leave together.
const QUEUE: usize = 2;
/// Longest path, in bytes.
const MAX_PATH: usize = 4096;
/// Largest value, in bytes.
const MAX_VALUE: usize = 16 * 1024 * 1024;

/// What was found when the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// There was no file: this store has been created just now and is empty.
    pub created: bool,
}

/// Osmia's own store. Dropping it waits for the writer to finish what it is doing.
#[derive(Debug)]
pub struct EmbeddedStore {
    database: Arc<Database>,
    keep_history: u64,
    recent: Arc<Recent>,
    status: watch::Receiver<Status>,
    /// Gone only while the store is dropped.
    requests: Option<Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, or creates it together with the folder. The journal keeps
    /// `keep_history` revisions.
    ///
    /// Fails with [`StoreError::Unavailable`] when the file is locked, damaged, or cannot be read;
    /// the text says which, and what to do. Blocks on the disk.
    pub fn open(dir: &Path, keep_history: u64) -> Result<(Self, Opened), StoreError> {
        let (database, created) = Database::open(&dir.join(FILE))
            .map_err(|error| StoreError::Unavailable(format!("embedded store: {error}")))?;
        let database = Arc::new(database);
        let recent = Arc::new(Recent::default());
        let (sender, requests) = crossbeam_channel::unbounded();
        let (writer, status) =
            Writer::new(Arc::clone(&database), keep_history, requests, Arc::clone(&recent))
                .map_err(|error| unavailable(&database, &error))?;
        let writer = Builder::new()
            .name("osmia-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| {
                StoreError::Unavailable(format!("embedded store: cannot start its thread: {error}"))
            })?;
        let store = Self {
            database,
            keep_history,
            recent,
            status,
            requests: Some(sender),
            writer: Some(writer),
        };
        Ok((store, Opened { created }))
    }

    /// Runs `work` where it may block on the disk.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        tokio::task::spawn_blocking(move || {
            work(&database).map_err(|error| unavailable(&database, &error))
        })
        .await
        .unwrap_or_else(|_| Err(stopped()))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.requests = None; // tells the writer
        if let Some(writer) = self.writer.take() {
            // A panic has been reported by the thread, and there is nothing left to save.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    fn name(&self) -> String {
        format!("the embedded store {}", self.database.path().display())
    }

    fn is_writable(&self) -> bool {
        true
    }

    async fn get(&self, path: &str) -> Result<Option<Item>, StoreError> {
        let path = path.to_owned();
        self.read(move |database| tables::get(database, &path)).await
    }

    async fn list(&self, prefix: &str) -> Result<Contents, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |database| tables::list(database, &prefix)).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        check(&transaction)?;
        let (reply, outcome) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(Request { transaction, reply }).map_err(|_| stopped())?;
        outcome.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn watch(&self) -> Events {
        let (sender, events) = mpsc::channel(QUEUE);
        let feeder = Feeder {
            database: Arc::downgrade(&self.database),
            recent: Arc::clone(&self.recent),
            status: self.status.clone(),
            events: sender,
        };
        tokio::spawn(feeder.run());
        events
    }

    fn journal(&self) -> Option<Journal> {
        Some(Journal::within(Arc::clone(&self.database), self.keep_history))
    }
}

/// Refuses what cannot be stored.
fn check(transaction: &Transaction) -> Result<(), StoreError> {
    let refused = |reason: String| Err(StoreError::Refused(reason));
    let mut seen = HashSet::with_capacity(transaction.ops.len());
    for op in &transaction.ops {
        let path = match op {
            Op::Put { path, value, ttl } => {
                if value.len() > MAX_VALUE {
                    return refused(format!(
                        "{path}: {} bytes are more than the store takes ({MAX_VALUE})",
                        value.len()
                    ));
                }
                if *ttl == Some(0) {
                    return refused(format!("{path}: a ttl must be at least 1 second"));
                }
                path
            }
            Op::Delete { path } => path,
        };
        if path.is_empty() || path.len() > MAX_PATH {
            return refused(format!("a path must have 1 to {MAX_PATH} bytes"));
        }
        if !seen.insert(path) {
            return refused(format!("{path} occurs twice in one transaction"));
        }
    }
    Ok(())
}

fn unavailable(database: &Database, error: &redb::Error) -> StoreError {
    StoreError::Unavailable(format!("embedded store: {}: {error}", database.path().display()))
}

fn stopped() -> StoreError {
    StoreError::Unavailable("embedded store: it is being stopped".to_owned())
}
