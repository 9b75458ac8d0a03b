//! PUT and POST.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use bytes::Bytes;
use osmia_core::resource::{Key, Kind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::query::Query;
use super::refs::{self, Reference, Via};
use super::reply::{Answer, Reply};
use super::target::Target;
use super::{Api, check, sealed};
use crate::references::Excerpt;
use crate::store::{Author, Guard, Item, Op, Outcome, Transaction};

/// How often a PUT is tried when others write the same key at the same moment.
const ATTEMPTS: usize = 16;

/// What APISIX says when a compare-and-swap is lost.
pub(crate) const LOST: &str = "value changed before overwritten";

/// A value that has passed its checks, on its way into the store.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) key: Key,
    pub(crate) value: Map<String, Value>,
    pub(crate) ttl: Option<u64>,
    pub(crate) author: Author,
}

/// What was under the key before.
struct Previous {
    guard: Guard,
    create_time: Option<Value>,
    references: Vec<Reference>,
}

impl Api {
    pub(crate) async fn put(
        &self,
        target: &Target,
        body: Option<Value>,
        query: &Query,
        author: Author,
    ) -> Answer {
        let mut value = check::object(body)?;
        let id = check::settle_id(target, &mut value)?;
        check::no_times(&value)?;
        let key = target.key(&id);
        bind(&key, &mut value)?;
        self.check(&key, &value)?;
        let draft = Draft { key, value, ttl: query.ttl()?, author };
        self.replace(draft).await
    }

    /// POST: the store's revision becomes the id.
    pub(crate) async fn post(
        &self,
        target: &Target,
        body: Option<Value>,
        query: &Query,
        author: Author,
    ) -> Answer {
        let mut value = check::object(body)?;
        check::no_id(target, &value)?;
        check::no_times(&value)?;
        bind(&target.key(""), &mut value)?;
        self.check(&target.key("0"), &value)?;
        let ttl = query.ttl()?;
        self.needed(&references(&target.key("0"), &value), &[], false).await?;
        let id = self.next_id(&author).await?;
        value.insert("id".to_owned(), id.as_str().into());
        self.replace(Draft { key: target.key(&id), value, ttl, author }).await
    }

    /// A number that no resource has had as its id: the revision of a commit, in 20 digits.
    async fn next_id(&self, author: &Author) -> Result<String, Reply> {
        let op = Op::Put { path: "gen_id".to_owned(), value: Bytes::from_static(b"1"), ttl: None };
        let transaction = Transaction { guards: Vec::new(), ops: vec![op], author: author.clone() };
        match self.commit(transaction).await? {
            Outcome::Committed { revision, .. } => Ok(format!("{revision:020}")),
            Outcome::Conflict => Err(lost()),
        }
    }

    /// Checks a value by the rules of its kind. Defaults are not stored, as in APISIX.
    pub(crate) fn check(&self, key: &Key, value: &Map<String, Value>) -> Result<(), Reply> {
        let mut copy = Value::Object(value.clone());
        self.plane.rules.check(key.kind, &mut copy).map_err(Reply::bad)
    }

    /// Writes, whatever was there before.
    async fn replace(&self, mut draft: Draft) -> Answer {
        let _held = self.claim(&draft.key, &draft.value).await?;
        draft.value = sealed::encrypted(&self.plane.rules, draft.key.kind, draft.value);
        let references = references(&draft.key, &draft.value);
        let path = draft.key.path();
        let fixed_create = draft.value.get("create_time").cloned();
        for attempt in 0..ATTEMPTS {
            let fresh = attempt > 0;
            let previous = self.previous(&draft.key, &path, fresh).await?;
            let mut guards = self.needed(&references, &previous.references, fresh).await?;
            let created = matches!(previous.guard, Guard::Absent(_));
            guards.push(previous.guard);
            if draft.key.kind != Kind::PluginMetadata {
                let create = fixed_create.clone().or(previous.create_time);
                stamp(&mut draft.value, create);
            }
            if let Some((revision, text)) = self.write(&draft, &path, guards).await? {
                self.published(revision).await;
                return Ok(self.written(created, &path, draft, &text));
            }
        }
        Err(lost())
    }

    /// One commit: its revision and the text that was stored; `None` when a guard did not hold.
    pub(crate) async fn write(
        &self,
        draft: &Draft,
        path: &str,
        guards: Vec<Guard>,
    ) -> Result<Option<(u64, Bytes)>, Reply> {
        let text = serde_json::to_vec(&draft.value)
            .map_err(|error| Reply::bad(format!("invalid configuration: {error}")))?;
        let text = Bytes::from(text);
        let op = Op::Put { path: path.to_owned(), value: text.clone(), ttl: draft.ttl };
        let transaction = Transaction { guards, ops: vec![op], author: draft.author.clone() };
        let _shared = self.order.read().await;
        match self.commit(transaction).await? {
            Outcome::Committed { revision, .. } => Ok(Some((revision, text))),
            Outcome::Conflict => Ok(None),
        }
    }

    /// The envelope of what was written: the `text` that was stored, without what is not shown.
    pub(crate) fn written(&self, created: bool, path: &str, draft: Draft, text: &[u8]) -> Reply {
        let path = self.shown(path);
        if !sealed::hides(draft.key.kind) {
            return Reply::written(created, &path, text);
        }
        let mut value = draft.value;
        sealed::hide(draft.key.kind, &mut value);
        Reply::written(created, &path, Value::Object(value).to_string().as_bytes())
    }

    /// What is under the key: from memory, or from the store when memory proved to be behind.
    async fn previous(&self, key: &Key, path: &str, fresh: bool) -> Result<Previous, Reply> {
        let found = self.find(key, path, fresh).await?;
        Ok(match found {
            None => Previous {
                guard: Guard::Absent(path.to_owned()),
                create_time: None,
                references: Vec::new(),
            },
            Some((value, modified)) => {
                let excerpt = Excerpt::of(&value);
                Previous {
                    guard: Guard::Unmodified(path.to_owned(), modified),
                    references: excerpt.references(key),
                    create_time: excerpt.create_time,
                }
            }
        })
    }

    async fn find(
        &self,
        key: &Key,
        path: &str,
        fresh: bool,
    ) -> Result<Option<(Bytes, u64)>, Reply> {
        if fresh {
            let item: Option<Item> = self.plane.store.get(path).await?;
            return Ok(item.map(|item| (item.value, item.modified)));
        }
        let state = self.plane.state();
        Ok(state.get(key).map(|stored| (stored.value.clone(), stored.modified)))
    }

    /// Checks that everything referred to exists, and returns the guards that it still does so when
    /// the write happens. What the version that is replaced refers to already, `kept`, needs none:
    /// that version, which is guarded, keeps others from deleting it; and who deletes it by force
    /// leaves the same behind either way.
    pub(crate) async fn needed(
        &self,
        references: &[(Reference, Option<Arc<str>>)],
        kept: &[Reference],
        fresh: bool,
    ) -> Result<Vec<Guard>, Reply> {
        let mut guards = Vec::with_capacity(references.len() + 1);
        for (reference, protocol) in references {
            let path = reference.key.path();
            let mut found = self.find(&reference.key, &path, fresh).await?;
            if found.is_none() && !fresh {
                // Memory may be behind the store.
                found = self.find(&reference.key, &path, true).await?;
            }
            let Some((value, modified)) = found else {
                return Err(not_found(reference));
            };
            match reference.via {
                Via::ClientCertificate => {
                    client_certificate(reference, &value)?;
                    guards.push(Guard::Unmodified(path, modified));
                }
                Via::Superior => {
                    same_protocol(protocol.as_deref(), &value)?;
                    guards.push(Guard::Unmodified(path, modified));
                }
                _ if kept.contains(reference) => {}
                _ => guards.push(Guard::Exists(path)),
            }
        }
        Ok(guards)
    }
}

/// The references that must exist for a write, each with the protocol of a stream route that has a
/// superior. What plugins refer to may come later, as in APISIX.
pub(crate) fn references(
    key: &Key,
    value: &Map<String, Value>,
) -> Vec<(Reference, Option<Arc<str>>)> {
    let protocol = value.get("protocol").and_then(|protocol| protocol.get("name"));
    let protocol = protocol.and_then(Value::as_str).map(Arc::from);
    let mut found = refs::references(key, value);
    found.retain(|reference| reference.via != Via::Plugin);
    found.into_iter().map(|reference| (reference, protocol.clone())).collect()
}

/// What the value gets from its place: a cost decoration its service.
pub(crate) fn bind(key: &Key, value: &mut Map<String, Value>) -> Result<(), Reply> {
    match key.kind {
        Kind::GraphqlCost => {
            let service = key.id.split('/').next().unwrap_or_default();
            let given = value.get("service_id");
            if given.is_some_and(|given| refs::id_text(given).as_deref() != Some(service)) {
                return Err(Reply::bad("wrong service_id, it is taken from the path"));
            }
            value.insert("service_id".to_owned(), service.into());
            Ok(())
        }
        Kind::StreamRoute => {
            let superior = value.get("protocol").and_then(|protocol| protocol.get("superior_id"));
            if superior.and_then(refs::id_text).is_some_and(|id| *id == *key.id) {
                return Err(Reply::bad("stream route can not set itself as superior_id"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Sets `create_time` and `update_time`, in seconds since 1970.
pub(crate) fn stamp(value: &mut Map<String, Value>, create_time: Option<Value>) {
    let now = now();
    value.insert("create_time".to_owned(), create_time.unwrap_or_else(|| now.into()));
    value.insert("update_time".to_owned(), now.into());
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// 503: somebody else was faster.
pub(crate) fn lost() -> Reply {
    Reply::error(StatusCode::SERVICE_UNAVAILABLE, LOST)
}

fn not_found(reference: &Reference) -> Reply {
    let status = match reference.via {
        Via::Owner => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    Reply::error(status, refs::missing(reference, "response code: 404"))
}

fn client_certificate(reference: &Reference, stored: &[u8]) -> Result<(), Reply> {
    #[derive(Deserialize)]
    struct Ssl {
        r#type: Option<String>,
    }
    let ssl: Option<Ssl> = serde_json::from_slice(stored).ok();
    if ssl.and_then(|ssl| ssl.r#type).as_deref() == Some("client") {
        return Ok(());
    }
    Err(Reply::bad(refs::missing(reference, "wrong ssl type")))
}

fn same_protocol(own: Option<&str>, superior: &[u8]) -> Result<(), Reply> {
    let superior: Value = serde_json::from_slice(superior).unwrap_or_default();
    let theirs = superior.pointer("/protocol/name").and_then(Value::as_str);
    match (own, theirs) {
        (Some(own), Some(theirs)) if own != theirs => Err(Reply::bad(format!(
            "protocol mismatch: subordinate protocol [{own}] does not match superior protocol \
             [{theirs}]"
        ))),
        _ => Ok(()),
    }
}
