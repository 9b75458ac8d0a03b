//! A store in memory, with a plane that follows it, for tests.

use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use osmia_core::rules::Rules;
use osmia_core::snapshot::Snapshot;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::applied::Applied;
use crate::local::{Entry, EntryChange, Journal};
use crate::plane::Plane;
use crate::publish::Publisher;
use crate::state::{SourceStatus, State};
use crate::store::{Contents, Events, Item, Op, Outcome, Store, StoreError, Transaction};
use crate::testing::Table;

/// Revisions that the journal keeps.
pub(crate) const KEPT: u64 = 10;

/// What a test works on.
pub(crate) struct World {
    pub plane: Plane,
    pub store: Arc<MemoryStore>,
    // Waiting for a revision fails once the sender is gone.
    // The journal's file.
    _directory: tempfile::TempDir,
}

/// Commits change the plane's state at once.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    state: Arc<RwLock<State>>,
    inner: Mutex<Inner>,
    applied: Arc<Applied>,
    journal: Journal,
}

#[derive(Debug, Default)]
struct Inner {
    table: Table,
    /// Called once before the next commit, as somebody else's commit.
    before: Option<Transaction>,
    commits: usize,
}

impl World {
    pub fn new() -> Self {
        Self::with_rules(Rules::default())
    }

    pub fn with_rules(rules: Rules) -> Self {
        let applied = Arc::new(Applied::default());
        let source = SourceStatus { reachable: true, ..SourceStatus::default() };
        let state = Arc::new(RwLock::new(State { source, ..State::default() }));
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(&directory.path().join("journal.redb"), KEPT).unwrap();
        let store = Arc::new(MemoryStore {
            state: Arc::clone(&state),
            inner: Mutex::default(),
            applied: Arc::clone(&applied),
            journal: journal.clone(),
        });
        let (publisher, _) = Publisher::new(Arc::new(Snapshot::default()));
        let plane = Plane {
            view: osmia_core::request::ViewOptions::default(),
            trusted_addresses: None,
            store: Arc::clone(&store) as Arc<dyn Store>,
            rules: Arc::new(rules),
            journal,
            publisher: Arc::new(publisher),
            health: Arc::default(),
            state,
            applied,
        };
        Self { plane, store, _directory: directory }
    }

    /// Writes resources, each in a commit of its own.
    pub fn put(&self, path: &str, value: &Value) {
        let op = Op::Put { path: path.to_owned(), value: value.to_string().into(), ttl: None };
        self.store.apply(&Transaction { ops: vec![op], ..Transaction::default() });
    }

    /// Deletes a resource.
    pub fn delete(&self, path: &str) {
        let op = Op::Delete { path: path.to_owned() };
        self.store.apply(&Transaction { ops: vec![op], ..Transaction::default() });
    }

    /// What is stored under the path.
    pub fn stored(&self, path: &str) -> Option<Value> {
        let inner = self.store.lock();
        inner.table.items.get(path).map(|item| serde_json::from_slice(&item.value).unwrap())
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Commits made so far.
    pub fn commits(&self) -> usize {
        self.lock().commits
    }

    /// Lets somebody else's commit come in before the next one.
    pub fn race(&self, transaction: Transaction) {
        self.lock().before = Some(transaction);
    }

    fn apply(&self, transaction: &Transaction) -> Outcome {
        let mut inner = self.lock();
        if !inner.table.holds(transaction) {
            return Outcome::Conflict;
        }
        inner.table.revision += 1;
        inner.commits += 1;
        let revision = inner.table.revision;
        let change = |op: &Op| changed(op, inner.table.perform(op).as_ref());
        let changes = transaction.ops.iter().map(change).collect();
        let author = Some(transaction.author.clone());
        self.journal
            .record(&[Entry { revision, at_ms: 1000 * revision, author, changes }])
            .unwrap();
        inner.table.index(&mut self.state.write().unwrap());
        drop(inner);
        self.applied.reach(revision);
        Outcome::Committed { revision }
    }
}

fn changed(op: &Op, previous: Option<&Item>) -> EntryChange {
    let (path, after) = match op {
        Op::Put { path, value, .. } => (path, Some(value.clone())),
        Op::Delete { path } => (path, None),
    };
    EntryChange { path: path.clone(), before: previous.map(|item| item.value.clone()), after }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> String {
        "the store of this test".to_owned()
    }

    fn is_writable(&self) -> bool {
        true
    }

    async fn get(&self, path: &str) -> Result<Option<Item>, StoreError> {
        Ok(self.lock().table.items.get(path).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Contents, StoreError> {
        Ok(self.lock().table.contents(prefix))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        // The lock must be free again before that one takes it.
        let before = self.lock().before.take();
        if let Some(first) = before {
            self.apply(&first);
        }
        Ok(self.apply(&transaction))
    }

    fn watch(&self) -> Events {
        mpsc::channel(1).1
    }
}

/// Sends one request; the answer's status and body.
pub(crate) async fn call(
    router: &Router,
    method: Method,
    uri: &str,
    body: Option<&Value>,
) -> (StatusCode, Bytes) {
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let request = Request::builder().method(method).uri(uri).body(body).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, body)
}

/// GET; the body as JSON.
pub(crate) async fn get(router: &Router, uri: &str) -> (StatusCode, Value) {
    let (status, body) = call(router, Method::GET, uri, None).await;
    (status, serde_json::from_slice(&body).unwrap())
}

/// POST with JSON; the body as JSON.
pub(crate) async fn post(router: &Router, uri: &str, body: &Value) -> (StatusCode, Value) {
    let (status, body) = call(router, Method::POST, uri, Some(body)).await;
    (status, serde_json::from_slice(&body).unwrap())
}
