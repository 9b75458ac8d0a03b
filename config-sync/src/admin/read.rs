//! GET: one resource, or a collection.

use std::sync::Arc;

use axum::http::StatusCode;
use osmia_core::resource::{Key, Kind};
use serde_json::{Value, json};

use super::list::Selection;
use super::query::Query;
use super::reply::{Answer, Reply};
use super::target::Target;
use super::{Api, sealed};
use crate::store::Item;

impl Api {
    pub(crate) async fn get(self: &Arc<Self>, target: &Target, query: &Query) -> Answer {
        match &target.id {
            Some(id) => self.get_one(&target.key(id)).await,
            None => self.get_all(target, query).await,
        }
    }

    async fn get_one(&self, key: &Key) -> Answer {
        let Some(item) = self.plane.store.get(&key.path()).await? else {
            return Err(Reply::no_key());
        };
        let value = self.readable(key.kind, &item);
        Ok(Reply::json(StatusCode::OK, &self.envelope(&item, &value)))
    }

    async fn get_all(self: &Arc<Self>, target: &Target, query: &Query) -> Answer {
        let selection = Selection::read(target.kind, query)?;
        let contents = self.plane.store.list(&target.collection()).await?;
        let kind = target.kind;
        let mut members = contents.items;
        members.retain(|item| Key::parse(&item.path).is_some_and(|key| key.kind == kind));
        if members.is_empty() && matches!(kind, Kind::Credential | Kind::GraphqlCost) {
            return Err(Reply::no_key());
        }
        let api = Arc::clone(self);
        // Thousands of members are work for many milliseconds; changes must go on meanwhile.
        let listing = tokio::task::spawn_blocking(move || api.listing(kind, members, &selection));
        listing.await.map_err(|_| {
            Reply::error(StatusCode::INTERNAL_SERVER_ERROR, "the list could not be made")
        })
    }

    /// `{"total": ..., "list": [...]}`.
    fn listing(&self, kind: Kind, members: Vec<Item>, selection: &Selection) -> Reply {
        let mut chosen = members;
        if selection.has_filters() {
            chosen.retain(|item| selection.matches(&self.readable(kind, item)));
        }
        let total = chosen.len();
        let mut body = format!("{{\"total\":{total},\"list\":[").into_bytes();
        for (position, item) in selection.page(&mut chosen).iter().enumerate() {
            if position > 0 {
                body.push(b',');
            }
            let value = self.readable(kind, item);
            body.extend_from_slice(self.envelope(item, &value).to_string().as_bytes());
        }
        body.extend_from_slice(b"]}");
        Reply::raw(StatusCode::OK, body)
    }

    fn envelope(&self, item: &Item, value: &Value) -> Value {
        json!({
            "key": self.shown(&item.path),
            "value": value,
            "createdIndex": item.created,
            "modifiedIndex": item.modified,
        })
    }

    /// The stored value as a client may see it. A text that is not JSON is shown as it is.
    fn readable(&self, kind: Kind, item: &Item) -> Value {
        match serde_json::from_slice(&item.value) {
            Ok(Value::Object(value)) => {
                Value::Object(sealed::shown(&self.plane.rules, kind, value))
            }
            Ok(other) => other,
            Err(_) => Value::String(String::from_utf8_lossy(&item.value).into_owned()),
        }
    }
}
