//! Who changed what and when, and the way back.
//!
//! Everything is computed from the [`Journal`](crate::local::Journal), which every store has.
//! Secrets are not shown: what is marked as hidden may still have changed, which is said.

mod mask;
mod rollback;

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use osmia_core::resource::Key;
use osmia_core::rules::Rules;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{Answer, Reply};
use crate::admin::transaction;
use crate::local::{Entry, EntryChange, Journal, JournalError};
use crate::plane::Plane;

/// Largest body of a rollback, which names a revision and little else.
pub(crate) const BODY_MAX: usize = 64 << 10;
/// Entries in an answer, when the client does not say.
const LIMIT: usize = 20;
/// Most entries in an answer.
const LIMIT_MAX: usize = 500;
/// Most changes that a list shows of one entry. The entry itself shows all.
const CHANGES_LISTED: usize = 100;

/// The routes below `/apisix/admin`, for behind [`guarded`](super::guarded).
pub fn router(plane: Plane) -> Router {
    Router::new()
        .route("/history", get(list))
        .route("/history/diff", get(diff))
        .route("/history/{revision}", get(one))
        .route("/rollback", post(rollback::run))
        .with_state(plane)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    /// Only entries with smaller revisions.
    before: Option<u64>,
    limit: Option<usize>,
    /// Only entries that touch this resource.
    key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: u64,
    to: Option<u64>,
}

async fn list(State(plane): State<Plane>, query: Result<Query<Listing>, QueryRejection>) -> Answer {
    let Query(listing) = query.map_err(|error| Reply::bad(error.body_text()))?;
    let limit = listing.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Reply::bad(format!("limit must be from 1 to {LIMIT_MAX}")));
    }
    let path = match listing.key.as_deref() {
        None => None,
        Some(text) => {
            let key = transaction::key(text);
            let error = || Reply::bad(format!("key {text} is not the key of a resource"));
            Some(key.ok_or_else(error)?.path())
        }
    };
    let entries = match listing.before {
        Some(0) => Vec::new(),
        before => {
            let upto = before.map(|before| before - 1);
            ask(&plane, move |journal| journal.entries(upto, path.as_deref(), limit)).await?
        }
    };
    let more = entries.len() == limit;
    let next = entries.last().map(|entry| entry.revision).filter(|_| more);
    let list: Vec<Value> = entries.iter().map(listed).collect();
    Ok(Reply::json(StatusCode::OK, &json!({ "list": list, "next_before": next })))
}

/// An entry without values.
fn listed(entry: &Entry) -> Value {
    let changes = entry.changes.iter().take(CHANGES_LISTED);
    let changes = changes.map(|change| json!({ "key": change.path, "action": action(change) }));
    let mut shown = head(entry);
    shown["changes"] = changes.collect();
    shown["changes_total"] = entry.changes.len().into();
    shown
}

fn head(entry: &Entry) -> Value {
    json!({ "revision": entry.revision, "time_ms": entry.at_ms, "author": entry.author })
}

fn action(change: &EntryChange) -> &'static str {
    match (&change.before, &change.after) {
        (None, _) => "created",
        (Some(_), Some(_)) => "updated",
        (Some(_), None) => "deleted",
    }
}

async fn one(State(plane): State<Plane>, revision: Result<Path<String>, PathRejection>) -> Answer {
    let Path(revision) = revision.map_err(|error| Reply::bad(error.body_text()))?;
    let revision: u64 =
        revision.parse().map_err(|_| Reply::bad(format!("{revision} is not a revision")))?;
    let entries = ask(&plane, move |journal| journal.entries(Some(revision), None, 1)).await?;
    let Some(entry) = entries.first().filter(|entry| entry.revision == revision) else {
        let message = format!("the journal has no entry of revision {revision}");
        return Err(Reply::error(StatusCode::NOT_FOUND, message));
    };
    let shown = |change| shown_change(&plane.rules, change);
    let mut body = head(entry);
    body["changes"] = entry.changes.iter().map(shown).collect();
    Ok(Reply::json(StatusCode::OK, &body))
}

/// A change with its values, secrets hidden.
fn shown_change(rules: &Rules, change: &EntryChange) -> Value {
    let key = Key::parse(&change.path);
    let masked = |text: &Option<Bytes>| text.as_ref().map(|t| mask::masked(rules, key.as_ref(), t));
    let (before, after) = (masked(&change.before), masked(&change.after));
    let hidden = |value: &Option<mask::Masked>| value.as_ref().map(|m| m.hidden.clone());
    let mut shown = json!({ "key": change.path, "action": action(change) });
    if change.before.is_some() && change.after.is_some() && hidden(&before) != hidden(&after) {
        shown["hidden_changed"] = true.into();
    }
    shown["before"] = before.map(|masked| masked.value).into();
    shown["after"] = after.map(|masked| masked.value).into();
    shown
}

async fn diff(State(plane): State<Plane>, query: Result<Query<Range>, QueryRejection>) -> Answer {
    let Query(Range { from, to }) = query.map_err(|error| Reply::bad(error.body_text()))?;
    let newest = newest(&plane).await?;
    let to = to.unwrap_or(newest);
    if from.max(to) > newest {
        return Err(Reply::bad(format!(
            "revision {} does not exist, the newest is {newest}",
            from.max(to)
        )));
    }
    let entries = since(&plane, from.min(to)).await?;
    let mut changes = net_changes(entries, from.max(to));
    if from > to {
        for change in &mut changes {
            std::mem::swap(&mut change.before, &mut change.after);
        }
    }
    let changes: Vec<Value> =
        changes.iter().map(|change| shown_change(&plane.rules, change)).collect();
    Ok(Reply::json(StatusCode::OK, &json!({ "from": from, "to": to, "changes": changes })))
}

/// What entries up to a revision amount to, per key. What ended as it began is left out.
fn net_changes(entries: Vec<Entry>, upto: u64) -> Vec<EntryChange> {
    let mut net: BTreeMap<String, EntryChange> = BTreeMap::new();
    let counted = entries.into_iter().take_while(|entry| entry.revision <= upto);
    for change in counted.flat_map(|entry| entry.changes) {
        match net.get_mut(&change.path) {
            Some(seen) => seen.after = change.after,
            None => {
                net.insert(change.path.clone(), change);
            }
        }
    }
    net.into_values().filter(|change| change.before != change.after).collect()
}

/// The newest revision that this process knows of.
async fn newest(plane: &Plane) -> Result<u64, Reply> {
    let entries = ask(plane, |journal| journal.entries(None, None, 1)).await?;
    let known = plane.state().revision();
    Ok(entries.first().map_or(known, |entry| entry.revision.max(known)))
}

/// All entries after a revision, oldest first.
async fn since(plane: &Plane, revision: u64) -> Result<Vec<Entry>, Reply> {
    ask(plane, move |journal| journal.since(revision)).await
}

/// Asks the journal, which reads from disk.
async fn ask<T: Send + 'static>(
    plane: &Plane,
    question: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, Reply> {
    let journal = plane.journal.clone();
    match tokio::task::spawn_blocking(move || question(&journal)).await {
        Ok(answer) => answer.map_err(refusal),
        Err(_) => {
            let message = "reading the journal was broken off";
            Err(Reply::error(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
    }
}

fn refusal(error: JournalError) -> Reply {
    match error {
        JournalError::Forgotten { oldest } => Reply::bad(format!(
            "revisions before {oldest} are no longer in the journal (osmia.history.keep); {oldest} \
             is the oldest that can be asked for"
        )),
        error @ JournalError::Database(_) => {
            Reply::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
