//! Black-box tests of the configuration plane: the Admin, Control and status API, the stores, the
//! history, and `osmia config`. One program, so that it links once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests, though not all of their functions are marked as such"
)]

mod access;
mod cli;
mod explain;
mod faults;
mod history;
mod hostile;
mod named_fields;
mod standalone;

use osmia_tests::{Gateway, Message, Upstream, eventually};
use serde_json::{Value, json};

/// A route to an upstream.
fn route(uri: &str, upstream: &Upstream) -> Value {
    json!({"uri": uri, "upstream": {"nodes": {upstream.node(): 1}, "type": "roundrobin"}})
}

/// Waits until a path is answered with a status.
#[track_caller]
fn serves(gateway: &Gateway, target: &str, status: u16) {
    eventually(&format!("{target} is answered with {status}"), || {
        gateway.get(target).status() == status
    });
}

/// The body of a response as JSON.
#[track_caller]
fn json_of(response: &Message) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error} in {response}"))
}

/// Status, and the reason in the body.
#[track_caller]
fn refusal(response: &Message) -> (u16, String) {
    let body = json_of(response);
    let reason = body["error_msg"].as_str().or(body["message"].as_str());
    (response.status(), reason.unwrap_or_else(|| panic!("no reason in {response}")).to_owned())
}
