//! What becomes of a request, and why: `POST /apisix/admin/explain`.
//!
//! A request is described, made into the bytes a client would send, and matched by the live
//! snapshot with the code that matches requests. An observer notes each route that was tried.

mod plugins;
mod question;
mod target;

use std::sync::Arc;

use axum::http::StatusCode;
use osmia_core::expr::Seen;
use osmia_core::forwarded::Trust;
use osmia_core::http1::RequestHead;
use osmia_core::limits::HttpLimits;
use osmia_core::request::{BodyState, RequestVariables, View};
use osmia_core::router::{Conditions, Hit, METHODS, Observer, PathPattern, Request as _, Verdict};
use osmia_core::snapshot::{Route, Snapshot};
use serde_json::{Map, Value, json};

use crate::admin::reply::{Answer, Reply};
use crate::plane::Plane;
use question::Question;

/// Largest body of a question.
pub(crate) const BODY_MAX: usize = 1 << 20;

/// Answers a question, given as JSON.
pub(crate) fn answer(plane: &Plane, body: &[u8]) -> Answer {
    let question: Question = serde_json::from_slice(body)
        .map_err(|error| Reply::bad(format!("invalid request body: {error}")))?;
    let bytes = question.bytes().map_err(Reply::bad)?;
    let mut head = RequestHead::default();
    match head.parse(&bytes, &HttpLimits::default()) {
        Ok(true) => {}
        Ok(false) => return Err(Reply::bad("invalid request: the head does not end")),
        Err(error) => return Err(Reply::bad(format!("invalid request: {error}"))),
    }
    let client_ip = question.client.to_string();
    let variables = RequestVariables {
        client: (question.client, 0).into(),
        client_ip: client_ip.as_bytes(),
        listener: question.listener(),
        trust: Trust::of(plane.trusted_addresses.as_deref(), Some(question.client)),
        ..RequestVariables::local(&head, &bytes)
    };
    let body = BodyState::Read(&bytes[head.len..]);
    let view = View::new(variables, &plane.view)
        .map_err(|error| Reply::bad(format!("invalid request: url: {error}")))?
        .with_body(body);
    let snapshot = plane.publisher.current();
    Ok(Reply::json(StatusCode::OK, &explain(plane, &snapshot, &view)))
}

/// Notes what is tried.
#[derive(Default)]
struct Trace(Vec<(Arc<Route>, usize, Verdict)>);

impl Observer for Trace {
    fn tried(&mut self, route: &Arc<Route>, pattern: usize, verdict: Verdict) {
        self.0.push((Arc::clone(route), pattern, verdict));
    }
}

fn explain(plane: &Plane, snapshot: &Snapshot, view: &View<'_>) -> Value {
    let mut trace = Trace::default();
    let hit = snapshot.router.find(view, &mut trace);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut answer = json!({
        "revision": snapshot.source_revision,
        "request": {
            "method": view.method(),
            "host": text(view.host()),
            "path": text(view.path()),
            "client": view.client(),
        },
        "candidates": trace.0.iter().map(|tried| candidate(tried, view)).collect::<Value>(),
    });
    let Some(Hit::Matched(matched)) = hit else {
        answer["route"] = Value::Null;
        answer["answer"] = json!({"status": 404, "reason": "no route matches"});
        return answer;
    };
    let route = matched.route;
    answer["route"] = named(route);
    answer["plugins"] = plugins::chain(&plane.state(), &route.id);
    match &route.upstream {
        Ok(upstream) => answer["upstream"] = target::describe(upstream, snapshot),
        Err(failure) => {
            answer["answer"] = json!({"status": failure.status(), "reason": failure.to_string()});
        }
    }
    answer
}

fn named(route: &Route) -> Value {
    let mut shown = json!({"id": route.id, "priority": route.priority});
    if !route.name.is_empty() {
        shown["name"] = json!(route.name);
    }
    shown
}

/// A route that was tried: which of its patterns, and the first test that it failed.
fn candidate((route, pattern, verdict): &(Arc<Route>, usize, Verdict), view: &View<'_>) -> Value {
    let mut shown = Map::new();
    shown.insert("route".to_owned(), json!(route.id));
    shown.insert("uri".to_owned(), json!(route.uris.get(*pattern).map(PathPattern::as_str)));
    let text = |bytes: &[u8]| json!(String::from_utf8_lossy(bytes));
    let failed = match verdict {
        Verdict::Matched => None,
        Verdict::Method => {
            let wanted = METHODS.into_iter().filter(|method| route.methods.contains(method));
            Some(("methods", wanted.collect(), json!(view.method())))
        }
        Verdict::Host => Some(("hosts", json!(route.hosts), text(view.full_host()))),
        Verdict::Path => Some(("uri", shown["uri"].clone(), text(view.path()))),
        Verdict::RemoteAddr => {
            let wanted = route.conditions().map(Conditions::clients);
            Some(("remote_addrs", json!(wanted), json!(view.client())))
        }
        Verdict::Vars | Verdict::NeedsBody => {
            let why = route.conditions().and_then(|conditions| conditions.explain(view));
            let (wanted, saw) = why.map_or((Value::Null, Value::Null), |why| {
                let wanted = serde_json::from_str(&why.condition).unwrap_or(Value::Null);
                (wanted, seen(why.seen))
            });
            Some(("vars", wanted, saw))
        }
    };
    shown.insert("matched".to_owned(), failed.is_none().into());
    if let Some((field, wanted, saw)) = failed {
        shown.insert("failed".to_owned(), json!({"field": field, "wanted": wanted, "saw": saw}));
    }
    Value::Object(shown)
}

/// The value that a condition saw; null: there is none.
fn seen(seen: Seen) -> Value {
    match seen {
        Seen::Value(text) => text.into(),
        Seen::Absent | Seen::Unread | Seen::Group => Value::Null,
    }
}
