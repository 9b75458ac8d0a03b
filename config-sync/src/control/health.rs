//! Results of upstream health checks (control-api.md, `/v1/healthcheck`; `apisix/control/v1.lua`).

use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use osmia_core::resource::{Key, Kind};
use serde_json::{Value, json};

use super::{answer, dump};
use crate::health::TargetView;
use crate::plane::Plane;
use crate::state::Stored;

/// The kinds that can have checks, in APISIX's order, with their names in the path.
const KINDS: [(&str, Kind); 4] = [
    ("routes", Kind::Route),
    ("stream_routes", Kind::StreamRoute),
    ("services", Kind::Service),
    ("upstreams", Kind::Upstream),
];

/// What goes before and after the rows of the page for browsers.
const PAGE: [&str; 2] = [
    "<html>\n<head><title>Upstream health checks</title></head>\n<body>\n\
     <h1>Upstream health checks</h1>\n<table border=\"1\">\n<tr><th>Index</th>\
     <th>Upstream</th><th>Check type</th><th>Host</th><th>Status</th><th>Success counts</th>\
     <th>TCP Failures</th><th>HTTP Failures</th><th>TIMEOUT Failures</th></tr>\n",
    "</table>\n</body>\n</html>\n",
];

/// A resource with `checks`, and what is known of its nodes.
struct Checker {
    name: String,
    kind: Value,
    targets: Vec<TargetView>,
}

pub(super) async fn all(State(plane): State<Plane>, headers: HeaderMap) -> Response {
    let state = plane.state();
    let mut found = Vec::new();
    for (_, kind) in KINDS {
        for (id, stored) in state.items(kind) {
            let key = Key::new(kind, id);
            found.extend(checker(&plane, &key, stored));
        }
    }
    drop(state);
    if wants_page(&headers) {
        return page(&found);
    }
    answer::list(found.iter().map(Checker::json).collect())
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
        Some(checker) if wants_page(&headers) => page(&[checker]),
        Some(checker) => answer::ok(&checker.json()),
        None => {
            let message = format!("no checker for {collection}[{id}]");
            answer::error(StatusCode::NOT_FOUND, &message)
        }
    }
}

fn checker(plane: &Plane, key: &Key, stored: &Stored) -> Option<Checker> {
    // Cheaper than parsing each of many resources.
    memchr::memmem::find(&stored.value, b"\"checks\"")?;
    let value: Value = serde_json::from_slice(&stored.value).ok()?;
    let checks = value.get("checks").or_else(|| value.get("upstream")?.get("checks"));
    let checks = checks.filter(|checks| checks.is_object())?;
    let kind = ["active", "passive"].iter().find_map(|kind| checks.get(kind)?.get("type"));
    let kind = kind.cloned().unwrap_or_else(|| "http".into());
    let checked = plane.health.view(&upstream_of(key));
    let targets = checked.map(|checked| checked.targets).unwrap_or_default();
    Some(Checker { name: dump::shown_key(plane, key), kind, targets })
}

/// The id in snapshots of the upstream that is written in a resource.
fn upstream_of(key: &Key) -> String {
    match key.kind {
        Kind::Upstream => key.id.to_string(),
        kind => format!("{kind}#{}", key.id),
    }
}

/// The resource in which an upstream with this id in snapshots is written.
pub(super) fn owner(upstream: &str) -> Key {
    let inline = upstream.split_once('#').and_then(|(singular, id)| {
        let (_, kind) = KINDS.iter().find(|(_, kind)| kind.singular() == singular)?;
        Some(Key::new(*kind, id))
    });
    inline.unwrap_or_else(|| Key::new(Kind::Upstream, upstream))
}

impl Checker {
    fn json(&self) -> Value {
        // Lua's empty list.
        let none = self.targets.is_empty();
        let nodes = if none { json!({}) } else { self.targets.iter().map(node).collect() };
        json!({ "name": self.name, "type": self.kind, "nodes": nodes })
    }
}

fn node(target: &TargetView) -> Value {
    let (ip, counters) = (target.ip(), target.counters);
    let mut node = json!({
        "hostname": target.hostname.as_deref().unwrap_or(&ip),
        "port": target.addr.port(),
        "status": target.state.as_str(),
        "counter": {
            "success": counters.success,
            "http_failure": counters.http_failure,
            "tcp_failure": counters.tcp_failure,
            "timeout_failure": counters.timeout_failure,
        },
    });
    node["ip"] = ip.into();
    if let Some(host) = &target.host_header {
        node["hostheader"] = (**host).into();
    }
    node
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// A page for browsers: a row for each node.
fn page(checkers: &[Checker]) -> Response {
    let mut text = PAGE[0].to_owned();
    let rows = checkers
        .iter()
        .flat_map(|checker| checker.targets.iter().map(move |target| (checker, target)));
    for (index, (checker, target)) in rows.enumerate() {
        let (TargetView { addr, state, counters, .. }, index) = (target, index + 1);
        let colour = if state.is_up() { "" } else { " bgcolor=\"#FF0000\"" };
        let kind = escape(checker.kind.as_str().unwrap_or_default());
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "<tr{colour}><td>{index}</td><td>{}</td><td>{kind}</td><td>{addr}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&checker.name),
            state.as_str(),
            counters.success,
            counters.tcp_failure,
            counters.http_failure,
            counters.timeout_failure,
        );
    }
    text.push_str(PAGE[1]);
    ([(CONTENT_TYPE, "text/html")], text).into_response()
}

/// Text for a page. What is stored may never have been validated.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
