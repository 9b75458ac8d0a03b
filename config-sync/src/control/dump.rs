//! Routes, services, upstreams and plugin metadata as this process has them.

use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use osmia_core::resource::{Key, Kind};
use osmia_core::schema;
use serde_json::{Map, Value, json};

use super::answer;
use crate::plane::Plane;
use crate::state::Stored;

/// Everything of a kind.
async fn all(plane: Plane, kind: Kind) -> Response {
    let items: Vec<(Key, Stored)> = {
        let state = plane.state();
        let items = state.items(kind);
        items.map(|(id, stored)| (Key { kind, id: id.clone() }, stored.clone())).collect()
    };
    // Many thousands of items take a while, in which the sync thread has better to do.
    let written = tokio::task::spawn_blocking(move || write_all(&plane, items)).await;
    match written {
        Ok(text) => answer::json_text(StatusCode::OK, text),
        Err(_) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, "the dump was broken off"),
    }
}

fn write_all(plane: &Plane, items: Vec<(Key, Stored)>) -> String {
    if items.is_empty() {
        return "{}".to_owned();
    }
    let mut text = String::from("[");
    for (key, stored) in items {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&shown(plane, &key, &stored).to_string());
    }
    text.push(']');
    text
}

/// One resource, or APISIX's text for none.
fn one(plane: &Plane, kind: Kind, id: &str) -> Response {
    // As APISIX: the id is what stands before the next slash.
    let id = id.split('/').next().unwrap_or_default();
    let key = Key::new(kind, id);
    let stored = plane.state().get(&key).cloned();
    match stored {
        Some(stored) => answer::ok(&shown(plane, &key, &stored)),
        None => answer::error(StatusCode::NOT_FOUND, &format!("{kind}[{id}] not found")),
    }
}

pub(super) async fn routes(State(plane): State<Plane>) -> Response {
    all(plane, Kind::Route).await
}

pub(super) async fn route(State(plane): State<Plane>, Path(id): Path<String>) -> Response {
    one(&plane, Kind::Route, &id)
}

pub(super) async fn services(State(plane): State<Plane>) -> Response {
    all(plane, Kind::Service).await
}

pub(super) async fn service(State(plane): State<Plane>, Path(id): Path<String>) -> Response {
    one(&plane, Kind::Service, &id)
}

pub(super) async fn upstreams(State(plane): State<Plane>) -> Response {
    all(plane, Kind::Upstream).await
}

pub(super) async fn upstream(State(plane): State<Plane>, Path(id): Path<String>) -> Response {
    one(&plane, Kind::Upstream, &id)
}

/// Plugin metadata is shown without the wrapping, and only of plugins that exist.
pub(super) async fn metadatas(State(plane): State<Plane>) -> Response {
    let state = plane.state();
    let enabled = state.items(Kind::PluginMetadata);
    let enabled = enabled.filter(|(name, _)| plane.rules.plugins.get(name).is_some());
    let values = enabled.map(|(name, stored)| value(&plane, &key_of_metadata(name), stored));
    let values = values.collect();
    drop(state);
    answer::list(values)
}

pub(super) async fn metadata(State(plane): State<Plane>, Path(name): Path<String>) -> Response {
    let name = name.split('/').next().unwrap_or_default();
    let key = key_of_metadata(name);
    let stored = plane.state().get(&key).cloned();
    match stored {
        Some(stored) => answer::ok(&value(&plane, &key, &stored)),
        None => {
            let message = format!("plugin metadata[{name}] not found");
            answer::error(StatusCode::NOT_FOUND, &message)
        }
    }
}

fn key_of_metadata(name: &str) -> Key {
    Key::new(Kind::PluginMetadata, name)
}

/// A resource with its wrapping, as APISIX's workers hold it (`apisix/router.lua`,
/// `apisix/upstream.lua`).
fn shown(plane: &Plane, key: &Key, stored: &Stored) -> Value {
    let mut value = value(plane, key, stored);
    let has_domain = match key.kind {
        Kind::Upstream => spread_nodes(&mut value),
        _ => value.get_mut("upstream").is_some_and(spread_nodes),
    };
    let mut shown = json!({
        "key": shown_key(plane, key),
        "value": value,
        "createdIndex": stored.created,
        "modifiedIndex": stored.modified,
        "has_domain": has_domain,
    });
    if let (Kind::Route, Some(shown)) = (key.kind, shown.as_object_mut()) {
        shown.insert("orig_modifiedIndex".to_owned(), stored.modified.into());
    }
    shown
}

/// The key as APISIX shows it: with the prefix when it comes from a database, without it when it
/// comes from a file.
pub(super) fn shown_key(plane: &Plane, key: &Key) -> String {
    let prefix = if plane.store.is_writable() { plane.store.prefix() } else { "" };
    format!("{prefix}/{key}")
}

/// The stored value with the schema's defaults and the id in it.
pub(super) fn value(plane: &Plane, key: &Key, stored: &Stored) -> Value {
    let Ok(mut value) = serde_json::from_slice::<Value>(&stored.value) else {
        return Value::String(String::from_utf8_lossy(&stored.value).into_owned());
    };
    // The server's own fields are refused in what clients send, which is what is checked.
    let times = ["create_time", "update_time"].map(|name| (name, take(&mut value, name)));
    let mut filled = value.clone();
    if plane.rules.check(key.kind, &mut filled).is_ok() {
        value = filled;
    } else {
        schema::fill_defaults(schema::of(key.kind), &mut value);
    }
    if let Value::Object(map) = &mut value {
        map.insert("id".to_owned(), key.own_id().into());
        for (name, time) in times {
            time.and_then(|time| map.insert(name.to_owned(), time));
        }
    }
    value
}

fn take(value: &mut Value, name: &str) -> Option<Value> {
    value.as_object_mut()?.remove(name)
}

/// Writes the nodes of an upstream as a list. Returns whether one of them is a name.
fn spread_nodes(upstream: &mut Value) -> bool {
    let Some(nodes) = upstream.get_mut("nodes") else { return false };
    if let Value::Object(map) = nodes {
        let spread = |(address, weight): (&String, &Value)| node(address, weight);
        *nodes = Value::Array(map.iter().map(spread).collect());
    }
    let hosts = nodes.as_array().into_iter().flatten().filter_map(|node| node["host"].as_str());
    hosts.into_iter().any(|host| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(host).parse::<IpAddr>().is_err()
    })
}

fn node(address: &str, weight: &Value) -> Value {
    let mut node = Map::new();
    let (host, port) = match address.rsplit_once(':') {
        // A colon inside brackets, or one of several without them, belongs to an IPv6 address.
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
            (host, port.parse().ok())
        }
        _ => (address, None::<u16>),
    };
    node.insert("host".to_owned(), host.into());
    if let Some(port) = port {
        node.insert("port".to_owned(), port.into());
    }
    node.insert("weight".to_owned(), weight.clone());
    Value::Object(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_shown_as_a_list() {
        let mut upstream = json!({"nodes": {"127.0.0.1:80": 1, "[::1]:81": 2, "127.0.0.2": 3}});
        assert!(!spread_nodes(&mut upstream));
        let expected = json!([
            {"host": "127.0.0.1", "port": 80, "weight": 1},
            {"host": "127.0.0.2", "weight": 3},
            {"host": "[::1]", "port": 81, "weight": 2},
        ]);
        assert_eq!(upstream["nodes"], expected);
        assert!(spread_nodes(&mut json!({"nodes": {"127.0.0.1:80": 1, "foo.com:80": 1}})));
        assert!(spread_nodes(&mut json!({"nodes": [{"host": "foo.com", "port": 80}]})));
        assert!(!spread_nodes(&mut json!({"service_name": "a"})));
    }
}
