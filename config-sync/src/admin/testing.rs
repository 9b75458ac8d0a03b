//! A small store in memory and a client, for the tests of the Admin API.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, Response};
use osmia_core::rules::Rules;
use osmia_core::settings::{AdminKey, AdminRole, AdminSettings};
use osmia_core::snapshot::Snapshot;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tower::ServiceExt;

use super::Keys;
use crate::applied::Applied;
use crate::local::Journal;
use crate::plane::Plane;
use crate::publish::Publisher;
use crate::state::State;
use crate::store::{Contents, Events, Item, Op, Outcome, Store, StoreError, Transaction};
use crate::testing::Table;

pub(crate) const ADMIN_KEY: &str = "0123456789abcdef";
pub(crate) const VIEWER_KEY: &str = "fedcba9876543210";

/// The settings of the tests: two keys, every address, APISIX's limit on bodies.
pub(crate) fn settings() -> AdminSettings {
    let key = |name: &str, key: &str, role| AdminKey {
        name: name.to_owned(),
        key: Some(key.to_owned()),
        role,
    };
    AdminSettings {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        keys: vec![
            key("boss", ADMIN_KEY, AdminRole::Admin),
            key("guest", VIEWER_KEY, AdminRole::Viewer),
        ],
        key_required: true,
        allow: Vec::new(),
        cors: true,
        https: None,
        body_bytes: 1_572_864,
    }
}

/// What the store does to the next commit.
#[derive(Debug)]
pub(crate) enum Trick {
    /// Somebody else writes this first, and memory does not know of it yet.
    Overtake(&'static str, Option<Value>),
    /// It fails.
    Fail(StoreError),
    /// It says that it is there, and waits to be let through.
    Wait(oneshot::Sender<()>, oneshot::Receiver<()>),
}

#[derive(Debug, Default)]
struct Inner {
    table: Table,
    commits: Vec<Transaction>,
    gets: usize,
    tricks: VecDeque<Trick>,
    down: Option<StoreError>,
}

/// A store in memory that keeps the plane's state as the engine does.
#[derive(Debug)]
pub(crate) struct Memory {
    inner: Mutex<Inner>,
    state: Arc<RwLock<State>>,
    applied: Arc<Applied>,
}

impl Memory {
    /// Makes the next commit wait. The receiver says that it does, the sender lets it go on.
    pub(crate) fn hold(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (there, is_there) = oneshot::channel();
        let (go, goes) = oneshot::channel();
        self.trick(Trick::Wait(there, goes));
        (is_there, go)
    }

    pub(crate) fn trick(&self, trick: Trick) {
        self.inner.lock().unwrap().tricks.push_back(trick);
    }

    /// Every call fails from now on.
    pub(crate) fn go_down(&self, error: StoreError) {
        self.inner.lock().unwrap().down = Some(error);
    }

    /// Everything under the path as text, `None` when there is nothing.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let inner = self.inner.lock().unwrap();
        inner.table.items.get(path).map(|item| String::from_utf8(item.value.to_vec()).unwrap())
    }

    pub(crate) fn value(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).unwrap()).unwrap()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.inner.lock().unwrap().table.items.keys().cloned().collect()
    }

    /// Writes as `etcdctl` would, and lets the state follow.
    pub(crate) fn seed(&self, path: &str, text: &str) {
        let mut inner = self.inner.lock().unwrap();
        inner.write(path, text.to_owned());
        self.follow(&inner);
    }

    /// The transactions so far, and the number of reads.
    pub(crate) fn traffic(&self) -> (Vec<Transaction>, usize) {
        let inner = self.inner.lock().unwrap();
        (inner.commits.clone(), inner.gets)
    }

    fn follow(&self, inner: &Inner) {
        let mut state = State::default();
        inner.table.index(&mut state);
        *self.state.write().unwrap() = state;
        self.applied.reach(inner.table.revision);
    }
}

impl Inner {
    /// A commit of one key.
    fn write(&mut self, path: &str, text: String) {
        self.table.revision += 1;
        self.table.perform(&Op::Put { path: path.to_owned(), value: text.into(), ttl: None });
    }
}

#[async_trait]
impl Store for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn is_writable(&self) -> bool {
        true
    }

    async fn get(&self, path: &str) -> Result<Option<Item>, StoreError> {
        let mut inner = self.inner.lock().unwrap();
        inner.gets += 1;
        inner.down.clone().map_or(Ok(()), Err)?;
        Ok(inner.table.items.get(path).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Contents, StoreError> {
        let inner = self.inner.lock().unwrap();
        inner.down.clone().map_or(Ok(()), Err)?;
        Ok(inner.table.contents(prefix))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let trick = self.inner.lock().unwrap().tricks.pop_front();
        if let Some(Trick::Wait(there, go)) = trick {
            there.send(()).unwrap();
            go.await.unwrap();
            return self.commit_now(transaction, None);
        }
        self.commit_now(transaction, trick)
    }

    fn watch(&self) -> Events {
        mpsc::channel(1).1
    }
}

impl Memory {
    fn commit_now(
        &self,
        transaction: Transaction,
        trick: Option<Trick>,
    ) -> Result<Outcome, StoreError> {
        let mut inner = self.inner.lock().unwrap();
        inner.down.clone().map_or(Ok(()), Err)?;
        match trick {
            Some(Trick::Fail(error)) => return Err(error),
            Some(Trick::Overtake(path, Some(value))) => {
                inner.write(path, value.to_string());
            }
            Some(Trick::Overtake(path, None)) => {
                inner.table.revision += 1;
                inner.table.items.remove(path);
            }
            Some(Trick::Wait(..)) | None => {}
        }
        inner.commits.push(transaction.clone());
        if !inner.table.holds(&transaction) {
            return Ok(Outcome::Conflict);
        }
        inner.table.revision += 1;
        for op in &transaction.ops {
            inner.table.perform(op);
        }
        self.follow(&inner);
        Ok(Outcome::Committed { revision: inner.table.revision })
    }
}

/// A gateway's Admin API over a store in memory.
pub(crate) struct Bench {
    pub(crate) store: Arc<Memory>,
    pub(crate) router: Router,
    _data: tempfile::TempDir,
}

/// An answer: status, headers, body.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{:?}", self.body))
    }

    /// The status and `error_msg`.
    pub(crate) fn error(&self) -> (u16, String) {
        let text = self.json().get("error_msg").and_then(Value::as_str).map(str::to_owned);
        (self.status, text.unwrap_or_else(|| self.body.clone()))
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(&settings(), Rules::default())
    }

    pub(crate) fn with(settings: &AdminSettings, rules: Rules) -> Self {
        let data = tempfile::tempdir().unwrap();
        let applied = Arc::new(Applied::default());
        let state = Arc::new(RwLock::new(State::default()));
        let inner = Mutex::new(Inner::default());
        let store =
            Arc::new(Memory { inner, state: Arc::clone(&state), applied: Arc::clone(&applied) });
        let plane = Plane {
            view: osmia_core::request::ViewOptions::default(),
            trusted_addresses: None,
            store: Arc::clone(&store) as Arc<dyn Store>,
            rules: Arc::new(rules),
            journal: Journal::open(&data.path().join("journal"), 100).unwrap(),
            publisher: Arc::new(Publisher::new(Arc::new(Snapshot::default())).0),
            health: Arc::default(),
            state,
            applied,
        };
        let keys = Keys::load(settings, data.path()).unwrap();
        let router = super::router(plane, settings, keys);
        Self { store, router, _data: data }
    }

    /// Sends a request with the admin key.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answered {
        self.raw(method, path, &[("x-api-key", ADMIN_KEY)], body.to_owned().into()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answered {
        self.send("PUT", path, &body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.send("GET", path, "").await
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(format!("/apisix/admin{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let from = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 40_000)));
        let request = request.extension(from).body(body).unwrap();
        Self::read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn read(response: Response<Body>) -> Answered {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answered {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}
