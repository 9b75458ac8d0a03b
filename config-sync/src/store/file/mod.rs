//! Standalone files: `apisix.yaml` and `apisix.json` (APISIX, deployment-modes.md), and the memory
//! that the standalone Admin API writes to.
//!
//! ```text
//! watched (has it changed?)  ->  document, item, transcode  ->  current  ->  watchers
//!                     config (put through the Admin API)  ------^
//! ```
//!
//! The file is read on threads that may block, once per second or when asked to. A file that
//! cannot be used as a whole is refused and the last contents stay; resources that are wrong in
//! themselves are passed on.

mod config;
mod current;
mod document;
mod item;
#[cfg(test)]
mod tests;
mod transcode;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use osmia_core::settings::FileFormat;
use tokio::sync::{Notify, mpsc, watch};

pub(crate) use config::{Config, Versions, lists};
use current::{Current, Published};
pub(crate) use document::collections;
pub use document::{Document, LoadError, Resource};
pub(crate) use item::read_item;

use super::{Contents, EVENT_QUEUE, Event, Events, Item, Outcome, Store, StoreError, Transaction};

/// How often the file is looked at, as APISIX does.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Where the demo route goes: the demo upstream that comes with Osmia.
pub const DEMO_UPSTREAM: &str = "127.0.0.1:9081";

/// The demo configuration, in the form of a standalone file.
const DEMO: &str = include_str!("../../../../conf/demo.yaml");

/// The resources of a standalone file, as paths and JSON texts: what a new store begins with.
/// Warnings about the file go to the log.
pub fn contents_of(path: &Path) -> Result<Vec<(String, Bytes)>, LoadError> {
    let document = Document::read(path)?;
    for warning in &document.warnings {
        tracing::warn!("{}: {warning}", path.display());
    }
    Ok(pairs(document))
}

/// The demo configuration that is built in: one route, `/*`, to [`DEMO_UPSTREAM`].
pub fn demo() -> Result<Vec<(String, Bytes)>, LoadError> {
    Document::parse(DEMO, FileFormat::Yaml, &|_| None).map(pairs)
}

fn pairs(document: Document) -> Vec<(String, Bytes)> {
    document.resources.into_iter().map(|one| (one.path, one.value)).collect()
}

/// A standalone file as a store. It is read-only; the standalone Admin API can replace its contents
/// in memory.
#[derive(Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    /// Locked for as long as it takes to read the file: on threads that may block only.
    current: Mutex<Current>,
    published: watch::Sender<Published>,
    /// Whether somebody looks at the file.
    polled: AtomicBool,
    /// Asks to read the file at once.
    wake: Notify,
}

impl FileStore {
    /// A store of the file at `path`. Nothing is read yet.
    pub fn new(path: PathBuf, format: FileFormat) -> Self {
        let shared = Shared {
            name: path.display().to_string(),
            current: Mutex::new(Current::new(path, format)),
            published: watch::Sender::new(Published::default()),
            polled: AtomicBool::new(false),
            wake: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The same store, for which it is right that there is no file: with the standalone Admin API
    /// the configuration comes from there.
    #[must_use]
    pub fn optional(self) -> Self {
        self.shared.current().set_optional();
        self
    }

    /// Reads the file now, for a check of it. Blocks; what the store holds does not change.
    pub fn read_now(&self) -> Result<Document, LoadError> {
        let path = self.shared.current().path().to_owned();
        let format = self.shared.current().format();
        Document::parse(&std::fs::read_to_string(path)?, format, &crate::env::process)
    }

    /// What was put through the standalone Admin API, if anything was.
    pub(crate) fn config(&self) -> Option<Arc<Config>> {
        self.shared.published.borrow().config.clone()
    }

    /// The versions of collections that are in force, and their resources.
    pub(crate) async fn in_force(&self) -> Result<(Arc<Versions>, Arc<Contents>), StoreError> {
        let contents = self.contents().await?;
        Ok((Arc::clone(&self.shared.published.borrow().versions), contents))
    }

    /// Puts a configuration in the place of the file. Returns the revision that it has, which is
    /// the one before when it means the same.
    pub(crate) async fn replace(
        &self,
        config: Config,
        document: Document,
    ) -> Result<u64, StoreError> {
        let shared = Arc::clone(&self.shared);
        let replaced = tokio::task::spawn_blocking(move || {
            let mut current = shared.current();
            let published = current.replace(config, document);
            let revision = published.contents.as_ref().map_or(0, |contents| contents.revision);
            shared.published.send_replace(published);
            revision
        });
        replaced.await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// The contents, as soon as there are any.
    async fn contents(&self) -> Result<Arc<Contents>, StoreError> {
        self.poll();
        let mut published = self.shared.published.subscribe();
        let known = published.wait_for(|now| now.contents.is_some() || now.refused.is_some()).await;
        let known = known.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        match (&known.contents, &known.refused) {
            (Some(contents), _) => Ok(Arc::clone(contents)),
            (None, refused) => {
                Err(StoreError::Unavailable(refused.as_deref().unwrap_or_default().to_owned()))
            }
        }
    }

    /// Begins to look at the file, unless that goes on already.
    fn poll(&self) {
        if !self.shared.polled.swap(true, Ordering::Relaxed) {
            tokio::spawn(poll(Arc::downgrade(&self.shared)));
        }
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Current> {
        // Its parts are replaced one by one, none of which can panic half-way.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, always: bool) {
        let mut current = self.current();
        if let Some(published) = current.look(always) {
            // Under the lock, so that what is newer is published later.
            self.published.send_replace(published);
        }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        // Lets the polling task see that it is no longer needed.
        self.shared.wake.notify_one();
    }
}

/// Looks at the file each second, or when asked to, for as long as there is a store.
async fn poll(store: std::sync::Weak<Shared>) {
    let mut always = true;
    while let Some(shared) = store.upgrade() {
        let looking = Arc::clone(&shared);
        let looked = tokio::task::spawn_blocking(move || looking.look(always)).await;
        if let Err(error) = looked {
            tracing::error!(file = shared.name, "looking at the file has failed: {error}");
        }
        let asked = tokio::time::timeout(POLL_INTERVAL, shared.wake.notified()).await;
        always = asked.is_ok();
    }
}

#[async_trait]
impl Store for FileStore {
    fn name(&self) -> String {
        self.shared.name.clone()
    }

    fn is_writable(&self) -> bool {
        false
    }

    async fn get(&self, path: &str) -> Result<Option<Item>, StoreError> {
        let contents = self.contents().await?;
        let found = contents.items.binary_search_by(|item| item.path.as_str().cmp(path));
        Ok(found.ok().and_then(|place| contents.items.get(place)).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Contents, StoreError> {
        let contents = self.contents().await?;
        let from = contents.items.partition_point(|item| item.path.as_str() < prefix);
        let listed = contents.items.iter().skip(from);
        let items = listed.take_while(|item| item.path.starts_with(prefix)).cloned().collect();
        Ok(Contents { revision: contents.revision, items })
    }

    async fn commit(&self, _: Transaction) -> Result<Outcome, StoreError> {
        Err(StoreError::ReadOnly(self.name()))
    }

    fn watch(&self) -> Events {
        self.poll();
        let (events, watcher) = mpsc::channel(EVENT_QUEUE);
        tokio::spawn(tell(self.shared.published.subscribe(), events));
        watcher
    }

    fn refresh(&self) {
        self.poll();
        self.shared.wake.notify_one();
    }
}

/// Tells one watcher what is published. One that is slow is told the latest state only.
async fn tell(mut published: watch::Receiver<Published>, events: mpsc::Sender<Event>) {
    let mut told = Published::default();
    loop {
        let now = published.borrow_and_update().clone();
        for event in news(&told, &now) {
            if events.send(event).await.is_err() {
                return;
            }
        }
        told = now;
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            () = events.closed() => return,
        }
    }
}

fn news(told: &Published, now: &Published) -> Vec<Event> {
    let mut news = Vec::new();
    let known = told.contents.as_ref().map(|contents| contents.revision);
    match &now.contents {
        Some(contents) if known != Some(contents.revision) => {
            news.push(Event::Load(Contents::clone(contents)));
        }
        _ if told.refused.is_some() && now.refused.is_none() => news.push(Event::Restored),
        _ => {}
    }
    if let Some(reason) =
        now.refused.as_ref().filter(|reason| told.refused.as_ref() != Some(reason))
    {
        news.push(Event::Refused { reason: reason.to_string() });
    }
    news
}
