//! `/v1/osmia/status`: the store, the snapshots, and what cannot be used.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer;
use crate::plane::Plane;
use crate::state::Serving;

pub(super) async fn show(State(plane): State<Plane>) -> Response {
    let published = plane.publisher.current().revision;
    let workers: Vec<Value> = plane
        .publisher
        .installed()
        .into_iter()
        .enumerate()
        .map(|(id, revision)| json!({ "id": id, "revision": revision }))
        .collect();
    let state = plane.state();
    let quarantined = state.quarantine().iter().map(|(key, item)| {
        json!({
            "key": key.path(),
            "revision": item.modified,
            "reason": item.reason,
            "serving": serving(item.serving),
        })
    });
    let source = state.source();
    let status = json!({
        "store": {
            "name": plane.store.name(),
            "writable": plane.store.is_writable(),
            "reachable": source.reachable,
            "problem": source.problem,
            "from_copy": source.from_copy,
            "revision": state.revision(),
        },
        "snapshot": { "revision": published, "workers": workers },
        "quarantined": quarantined.collect::<Vec<_>>(),
    });
    drop(state);
    answer::ok(&status)
}

fn serving(serving: Serving) -> &'static str {
    match serving {
        Serving::LastValid => "last valid version",
        Serving::Nothing => "nothing",
        Serving::Refusal => "503",
    }
}
