//! `GET /export`: everything that is stored, as `POST /transaction` takes it.

use axum::extract::State;
use axum::http::StatusCode;
use osmia_core::resource::{Key, Kind};
use serde_json::{Value, json};

use crate::admin::reply::{Answer, Reply};
use crate::plane::Plane;
use crate::state::Stored;

/// All resources at one revision, without what the server sets and without private keys.
pub(super) async fn export(State(plane): State<Plane>) -> Answer {
    let (revision, items) = {
        let state = plane.state();
        let of_kind = |kind| {
            let items = state.items(kind);
            items.map(move |(id, stored)| (Key { kind, id: id.clone() }, stored.clone()))
        };
        let items: Vec<_> = Kind::ALL.into_iter().flat_map(of_kind).collect();
        (state.revision(), items)
    };
    // Many thousands of items take a while, in which the sync thread has better to do.
    let written = tokio::task::spawn_blocking(move || write(&plane, revision, &items)).await;
    match written {
        Ok(text) => Ok(Reply::raw(StatusCode::OK, text)),
        Err(_) => {
            let message = "the export was broken off";
            Err(Reply::error(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
    }
}

fn write(plane: &Plane, revision: u64, items: &[(Key, Stored)]) -> Vec<u8> {
    let mut text = format!("{{\"revision\":{revision},\"items\":[").into_bytes();
    for (position, (key, stored)) in items.iter().enumerate() {
        if position > 0 {
            text.push(b',');
        }
        let item = json!({ "key": key.path(), "value": shown(plane, key, stored) });
        text.extend_from_slice(item.to_string().as_bytes());
    }
    text.extend_from_slice(b"]}");
    text
}

fn shown(plane: &Plane, key: &Key, stored: &Stored) -> Value {
    let Ok(mut value) = serde_json::from_slice(&stored.value) else {
        return Value::String(String::from_utf8_lossy(&stored.value).into_owned());
    };
    plane.rules.decrypt(key.kind, &mut value);
    if let Value::Object(map) = &mut value {
        map.remove("create_time");
        map.remove("update_time");
        if key.kind == Kind::Ssl {
            map.remove("key");
            map.remove("keys");
        }
    }
    value
}
