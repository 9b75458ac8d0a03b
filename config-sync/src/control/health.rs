//! Results of upstream health checks (control-api.md, `/v1/healthcheck`).
//!
//! No checker exists yet, so that a resource with `checks` is listed without nodes, as APISIX lists
//! one whose checker has not been started.

use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use osmia_core::resource::{Key, Kind};
use serde_json::{Value, json};

use super::{answer, dump};
use crate::plane::Plane;
use crate::state::Stored;

/// The kinds that can have checks, in APISIX's order, with their names in the path.
const KINDS: [(&str, Kind); 4] = [
    ("routes", Kind::Route),
    ("stream_routes", Kind::StreamRoute),
    ("services", Kind::Service),
    ("upstreams", Kind::Upstream),
];

/// A page for browsers: the table of nodes, which is empty.
const PAGE: &str = "<html>\n<head><title>Upstream health checks</title></head>\n<body>\n\
    <h1>Upstream health checks</h1>\n<table border=\"1\">\n<tr><th>Index</th><th>Upstream</th>\
    <th>Check type</th><th>Host</th><th>Status</th><th>Success counts</th><th>TCP Failures</th>\
    <th>HTTP Failures</th><th>TIMEOUT Failures</th></tr>\n</table>\n</body>\n</html>\n";

pub(super) async fn all(State(plane): State<Plane>, headers: HeaderMap) -> Response {
    if wants_page(&headers) {
        return page();
    }
    let state = plane.state();
    let mut found = Vec::new();
    for (_, kind) in KINDS {
        for (id, stored) in state.items(kind) {
            let key = Key::new(kind, id);
            found.extend(checker(&plane, &key, stored));
        }
    }
    drop(state);
    answer::list(found)
}

pub(super) async fn one(
    State(plane): State<Plane>,
    Path(which): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut parts = which.split('/');
    let (collection, id) = (parts.next().unwrap_or_default(), parts.next());
    let Some(id) = id else {
        let message = format!("missing src id for src type {collection}");
        return answer::error(StatusCode::NOT_FOUND, &message);
    };
    let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == collection) else {
        let message = format!("invalid src type {collection}");
        return answer::error(StatusCode::BAD_REQUEST, &message);
    };
    let key = Key::new(*kind, id);
    let stored = plane.state().get(&key).cloned();
    let Some(stored) = stored else {
        let message = format!("{collection}[{id}] not found");
        return answer::error(StatusCode::NOT_FOUND, &message);
    };
    match checker(&plane, &key, &stored) {
        Some(_) if wants_page(&headers) => page(),
        Some(checker) => answer::ok(&checker),
        None => {
            let message = format!("no checker for {collection}[{id}]");
            answer::error(StatusCode::NOT_FOUND, &message)
        }
    }
}

fn checker(plane: &Plane, key: &Key, stored: &Stored) -> Option<Value> {
    // Cheaper than parsing each of many resources.
    stored.value.windows(8).find(|window| *window == b"\"checks\"")?;
    let value: Value = serde_json::from_slice(&stored.value).ok()?;
    let checks = value.get("checks").or_else(|| value.get("upstream")?.get("checks"))?;
    let kind = ["active", "passive"].iter().find_map(|kind| checks.get(kind)?.get("type"));
    let mut shown = json!({ "name": dump::shown_key(plane, key), "nodes": {} });
    shown["type"] = kind.cloned().unwrap_or_else(|| "http".into());
    Some(shown)
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn page() -> Response {
    ([(CONTENT_TYPE, "text/html")], PAGE).into_response()
}
