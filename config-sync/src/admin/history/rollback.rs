//! `POST /rollback`: back to what was stored at a revision, as one commit.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use osmia_core::resource::Key;
use serde::Deserialize;
use serde_json::Value;

use super::{net_changes, newest, since};
use crate::admin::reply::{Answer, Reply};
use crate::admin::transaction::{
    After, Failed, Plan, Problem, Step, carry_out, parse, plan, refused,
};
use crate::local::EntryChange;
use crate::plane::Plane;
use crate::store::Author;

/// How often it is computed when changes come in meanwhile.
const ATTEMPTS: usize = 3;
/// How long this process may need to know what the journal says.
const CATCH_UP: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// The revision to go back to.
    revision: u64,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn run(
    State(plane): State<Plane>,
    author: Option<Extension<Author>>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let request: Request = parse(body)?;
    let author = author.map(|Extension(author)| author).unwrap_or_default();
    let author = Author {
        name: format!("rollback to {} by {}", request.revision, author.name),
        address: author.address,
    };
    for _ in 0..ATTEMPTS {
        let newest = newest(&plane).await?;
        if request.revision > newest {
            let revision = request.revision;
            let message = format!("revision {revision} does not exist, the newest is {newest}");
            return Err(Reply::bad(message));
        }
        let changes = Arc::new(net_changes(since(&plane, request.revision).await?, newest));
        plane.applied(newest, CATCH_UP).await;
        let prepare = {
            let (plane, changes) = (plane.clone(), Arc::clone(&changes));
            move || back(&plane, &changes)
        };
        match carry_out(&plane, prepare, author.clone(), request.dry_run, 1).await {
            // What is to be undone may have grown.
            Err(reply) if reply.status == StatusCode::CONFLICT => {}
            Err(reply) => return Err(reply),
            Ok(done) => {
                let mut shown = done.shown();
                shown["rolled_back_to"] = request.revision.into();
                return Ok(Reply::json(StatusCode::OK, &shown));
            }
        }
    }
    let message =
        "the configuration is being changed by others; nothing was rolled back, try again";
    Err(Reply::error(StatusCode::CONFLICT, message))
}

/// The inverse of what has happened.
fn back(plane: &Plane, changes: &[EntryChange]) -> Result<Plan, Failed> {
    let mut problems = Vec::new();
    let mut steps = Vec::with_capacity(changes.len());
    let mut targets = Vec::with_capacity(changes.len());
    for change in changes {
        // Others than resources are not touched.
        let Some(key) = Key::parse(&change.path) else { continue };
        match after(plane, &key, change.before.as_ref()) {
            Ok(after) => targets.push((key, change, after)),
            Err(error) => problems.push(Problem::new(key, error)),
        }
    }
    if !problems.is_empty() {
        return Err(refused(&problems).into());
    }
    let state = plane.state();
    for (key, change, after) in targets {
        let before = state.get(&key).cloned();
        if before.as_ref().map(|before| &before.value) != change.after.as_ref() {
            return Err(Failed::Overtaken);
        }
        steps.push(Step { key, before, after });
    }
    plan(&state, steps)
}

/// What is written back. It was accepted once; the rules may have become stricter.
fn after(plane: &Plane, key: &Key, text: Option<&bytes::Bytes>) -> Result<After, String> {
    let Some(text) = text else { return Ok(After::Nothing) };
    let value: Value = serde_json::from_slice(text)
        .map_err(|error| format!("what was stored then is not JSON: {error}"))?;
    plane
        .rules
        .check_stored(key.kind, &value)
        .map_err(|reason| format!("what was stored then is not valid: {reason}"))?;
    Ok(After::Value { value, text: text.clone() })
}
