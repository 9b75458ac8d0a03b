//! DELETE.

use axum::http::StatusCode;
use osmia_core::resource::{Key, Kind};
use serde_json::json;

use super::query::Query;
use super::reply::{Answer, Reply};
use super::target::{Target, noun};
use super::{Api, refs};
use crate::store::{Author, Guard, Op, Outcome, Transaction};

impl Api {
    pub(crate) async fn delete(&self, target: &Target, query: &Query, author: Author) -> Answer {
        let id = target
            .id
            .as_deref()
            .ok_or_else(|| Reply::bad(format!("missing {} id", noun(target.kind))))?;
        let key = target.key(id);
        let checked = refs::is_guarded(key.kind) && !query.force();
        let revision = if checked || contained(&key).is_some() {
            // Nobody may begin to use it, or put something into it, between the check and the end.
            let _alone = self.order.write().await;
            if checked {
                self.caught_up().await?;
                if let Some(reason) = refs::in_use(&self.plane.state(), &key) {
                    return Err(Reply::bad(reason));
                }
            }
            self.remove(&key, author).await?
        } else {
            self.remove(&key, author).await?
        };
        self.published(revision).await;
        let body = json!({ "deleted": "1", "key": self.shown(&key.path()) });
        Ok(Reply::json(StatusCode::OK, &body))
    }

    /// Deletes a resource with everything that lies in its directory.
    async fn remove(&self, key: &Key, author: Author) -> Result<u64, Reply> {
        let path = key.path();
        let mut ops = vec![Op::Delete { path: path.clone() }];
        if let Some(directory) = contained(key) {
            let contents = self.plane.store.list(&directory).await?;
            ops.extend(contents.items.into_iter().map(|item| Op::Delete { path: item.path }));
        }
        let transaction = Transaction { guards: vec![Guard::Exists(path)], ops, author };
        match self.commit(transaction).await? {
            Outcome::Committed { revision, .. } => Ok(revision),
            Outcome::Conflict => Err(Reply::no_key()),
        }
    }
}

/// The directory of what belongs to a resource and goes with it.
fn contained(key: &Key) -> Option<String> {
    match key.kind {
        Kind::Consumer => Some(format!("consumers/{}/credentials/", key.id)),
        Kind::Service => Some(format!("services/{}/graphql_cost_decorations/", key.id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_kinds_have_something_in_them() {
        let path = |kind| contained(&Key::new(kind, "1"));
        assert_eq!(path(Kind::Consumer).as_deref(), Some("consumers/1/credentials/"));
        assert!(path(Kind::Service).is_some());
        assert_eq!(path(Kind::Route), None);
    }
}
