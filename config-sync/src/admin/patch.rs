//! PATCH: of a whole resource, and of one node in it.

use osmia_core::resource::Kind;
use serde_json::{Map, Value};

use super::query::Query;
use super::reply::{Answer, Reply};
use super::target::{Target, noun};
use super::write::{self, Draft};
use super::{Api, check, merge, refs, sealed};
use crate::store::{Author, Guard};

impl Api {
    pub(crate) async fn patch(
        &self,
        target: &Target,
        body: Option<Value>,
        query: &Query,
        author: Author,
    ) -> Answer {
        let id = required_id(target)?;
        let body = body.ok_or_else(|| Reply::bad("missing new configuration"))?;
        let change = change(target, body)?;
        let ttl = query.ttl()?;
        let key = target.key(id);
        let path = key.path();
        let Some(item) = self.plane.store.get(&path).await? else { return Err(Reply::no_key()) };
        let mut value = match serde_json::from_slice(&item.value) {
            Ok(Value::Object(value)) => sealed::decrypted(&self.plane.rules, key.kind, value),
            _ => {
                return Err(Reply::bad("the stored value is not a JSON object, replace it by PUT"));
            }
        };
        let kept = refs::references(&key, &value);
        let timed = matches!(&change, Change::Merge(map) if map.contains_key("update_time"));
        match change {
            Change::Merge(map) => merge::merge(&mut value, map),
            Change::Replace(new) => {
                merge::replace(&mut value, &target.rest, new).map_err(Reply::bad)?;
            }
        }
        check::settle_id(target, &mut value)?;
        value.entry("create_time").or_insert_with(|| write::now().into());
        if !timed || !value.contains_key("update_time") {
            value.insert("update_time".to_owned(), write::now().into());
        }
        write::bind(&key, &mut value)?;
        self.check(&key, &value)?;
        let mut guards = self.needed(&write::references(&key, &value), &kept, true).await?;
        guards.push(Guard::Unmodified(path.clone(), item.modified));
        let _held = self.claim(&key, &value).await?;
        let value = sealed::encrypted(&self.plane.rules, key.kind, value);
        let draft = Draft { key, value, ttl, author };
        let Some((revision, text)) = self.write(&draft, &path, guards).await? else {
            return Err(write::lost());
        };
        self.published(revision).await;
        Ok(self.written(false, &path, draft, &text))
    }
}

/// What a PATCH asks for.
enum Change {
    Merge(Map<String, Value>),
    Replace(Value),
}

fn required_id(target: &Target) -> Result<&str, Reply> {
    match (&target.id, target.kind) {
        (Some(id), _) => Ok(id),
        (None, Kind::Secret) if target.owner.is_some() => Err(Reply::bad("no secret id")),
        (None, kind) => Err(Reply::bad(format!("missing {} id", noun(kind)))),
    }
}

fn change(target: &Target, body: Value) -> Result<Change, Reply> {
    if target.kind == Kind::GraphqlCost {
        if !target.rest.is_empty() {
            return Err(Reply::bad(format!("invalid sub-path: /{}", target.rest.join("/"))));
        }
        if body.get("service_id").is_some() {
            return Err(Reply::bad("service_id can not be patched"));
        }
    }
    match body {
        body if !target.rest.is_empty() => Ok(Change::Replace(body)),
        Value::Object(map) => Ok(Change::Merge(map)),
        _ => Err(Reply::bad("invalid configuration")),
    }
}
