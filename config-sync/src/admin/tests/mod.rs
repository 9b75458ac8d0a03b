//! The Admin API as a client sees it.

mod access;
mod crud;
mod hostile;
mod kinds;
mod lists;
mod races;
mod special;
mod unique;

use serde_json::{Value, json};

/// A route as most tests need it.
fn route(uri: &str) -> Value {
    json!({"uri": uri, "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}})
}

fn upstream() -> Value {
    json!({"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}})
}
