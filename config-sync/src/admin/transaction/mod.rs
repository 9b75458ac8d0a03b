//! Whole sets of resources at once: `POST /transaction` applies a set or nothing of it,
//! `GET /export` gives the set that is stored.

mod draft;
mod export;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use osmia_core::resource::Key;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::PUBLISH_LIMIT;
use super::reply::{Answer, Reply};
use crate::plane::Plane;
use crate::store::{Author, Outcome, Transaction};

pub(crate) use plan::{After, Failed, Plan, Problem, Step, plan, refused};

/// Largest body of a transaction: some 100,000 routes.
pub(crate) const BODY_MAX: usize = 64 << 20;
/// How often a transaction is tried when others write the same keys at the same moment.
const ATTEMPTS: usize = 4;

/// The routes below `/apisix/admin`, for behind [`guarded`](super::guarded).
pub fn router(plane: Plane) -> Router {
    Router::new()
        .route("/transaction", post(run))
        .route("/export", get(export::export))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(plane)
}

/// What a client asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Resources to write.
    #[serde(default)]
    put: Vec<Put>,
    /// Resources to delete; those that do not exist are passed over.
    #[serde(default)]
    delete: Vec<String>,
    /// Refuse when anything has changed after this revision.
    expect_revision: Option<u64>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
    /// Delete everything that is not named.
    #[serde(default)]
    replace: bool,
}

/// One resource to write.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
struct Put {
    key: String,
    value: Value,
}

impl TryFrom<Map<String, Value>> for Put {
    type Error = String;

    fn try_from(mut map: Map<String, Value>) -> Result<Self, String> {
        let (key, value) = (map.remove("key"), map.remove("value"));
        if let Some(name) = map.keys().next() {
            return Err(format!("unknown field `{name}`, expected `key` or `value`"));
        }
        match (key, value) {
            (Some(Value::String(key)), Some(value)) => Ok(Self { key, value }),
            (None, _) => Err("missing field `key`".to_owned()),
            (_, None) => Err("missing field `value`".to_owned()),
            (Some(_), _) => Err("`key` is not a string".to_owned()),
        }
    }
}

async fn run(
    State(plane): State<Plane>,
    author: Option<Extension<Author>>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let request: Request = parse(body)?;
    let dry_run = request.dry_run;
    let expect = request.expect_revision;
    let request = Arc::new(draft::Wanted::read(request)?);
    let prepare = {
        let plane = plane.clone();
        move || {
            if let Some(expected) = expect {
                draft::unchanged_since(&plane, expected)?;
            }
            let steps = draft::steps(&plane, &request)?;
            plan(&plane.state(), steps)
        }
    };
    let author = author.map(|Extension(author)| author).unwrap_or_default();
    let attempts = if expect.is_some() { 1 } else { ATTEMPTS };
    let done = carry_out(&plane, prepare, author, dry_run, attempts).await?;
    Ok(Reply::json(StatusCode::OK, &done.shown()))
}

/// What a request has done, or would do.
pub(crate) struct Done {
    pub(crate) dry_run: bool,
    /// The commit's revision; that of the store when there was nothing to do.
    pub(crate) revision: u64,
    pub(crate) plan: Plan,
}

impl Done {
    pub(crate) fn shown(&self) -> Value {
        json!({
            "dry_run": self.dry_run,
            "revision": self.revision,
            "created": self.plan.created,
            "updated": self.plan.updated,
            "deleted": self.plan.deleted,
            "unchanged": self.plan.unchanged,
        })
    }
}

/// Prepares and commits; when somebody else was faster, prepares again on what is there now.
pub(crate) async fn carry_out(
    plane: &Plane,
    prepare: impl Fn() -> Result<Plan, Failed> + Clone + Send + 'static,
    author: Author,
    dry_run: bool,
    attempts: usize,
) -> Result<Done, Reply> {
    for _ in 0..attempts {
        let prepare = prepare.clone();
        let seen = plane.state().revision();
        // Checking many resources takes a while, in which the sync thread has better to do.
        let mut plan = match tokio::task::spawn_blocking(prepare).await {
            Ok(Ok(plan)) => plan,
            Ok(Err(Failed::Overtaken)) => {
                caught_up(plane, seen).await;
                continue;
            }
            Ok(Err(Failed::Refused(reply))) => return Err(reply),
            Err(_) => return Err(broken_off()),
        };
        if plan.ops.is_empty() {
            return Ok(Done { dry_run, revision: seen, plan });
        }
        let transaction = Transaction {
            guards: std::mem::take(&mut plan.guards),
            ops: std::mem::take(&mut plan.ops),
            author: author.clone(),
        };
        if dry_run {
            plane.store.rehearse(&transaction).await?;
            return Ok(Done { dry_run, revision: seen, plan });
        }
        match plane.store.commit(transaction).await? {
            Outcome::Committed { revision, .. } => {
                if !plane.applied(revision, PUBLISH_LIMIT).await {
                    tracing::warn!(revision, "the transaction is stored but not published yet");
                }
                return Ok(Done { dry_run, revision, plan });
            }
            Outcome::Conflict => caught_up(plane, seen).await,
        }
    }
    let message = "others have changed the same resources at the same time; nothing was written, \
                   try again";
    Err(Reply::error(StatusCode::CONFLICT, message))
}

/// Waits until this process knows of something newer than `seen`.
async fn caught_up(plane: &Plane, seen: u64) {
    const LIMIT: Duration = Duration::from_millis(500);
    plane.applied(seen + 1, LIMIT).await;
}

fn broken_off() -> Reply {
    Reply::error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the checks were broken off; nothing was written",
    )
}

/// A JSON body, which must be an object: a list of a struct's fields in their order, which serde
/// takes as well, is nothing that anybody means.
pub(crate) fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Reply> {
    let body = body.map_err(|rejection| {
        let reason = rejection.body_text();
        Reply::error(rejection.status(), format!("invalid request body: {reason}"))
    })?;
    let refused = |reason: String| Reply::bad(format!("invalid request body: {reason}"));
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(refused("expected an object".to_owned()));
    }
    serde_json::from_slice(&body).map_err(|error| refused(error.to_string()))
}

/// A key as clients write it: `routes/1`, with or without a slash before it.
pub(crate) fn key(text: &str) -> Option<Key> {
    Key::parse(text.strip_prefix('/').unwrap_or(text))
}

#[cfg(test)]
mod tests;
