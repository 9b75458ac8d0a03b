//! `stream_routes`

use serde_json::{Value, json};

use super::{d, upstream};

pub(super) fn schema() -> Value {
    d::described(json!({"properties": {
        "remote_addr": d::address("client address"),
        "server_addr": d::address("address that the client connected to"),
        "server_port": d::port("port that the client connected to"),
        "sni": {
            "description": "server name in the TLS handshake",
            "type": "string",
            "pattern": d::HOST,
        },
        "upstream": upstream::schema(),
        "upstream_id": d::id(),
        "service_id": d::id(),
        "plugins": d::plugins(),
        "protocol": protocol(),
    }}))
}

/// A protocol on top of TCP (xRPC).
fn protocol() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "superior_id": d::id(),
            "conf": {"description": "the protocol's own settings", "type": "object"},
            "logger": {
                "type": "array",
                "items": {
                    "properties": {
                        "name": {"type": "string"},
                        "filter": {"description": "which calls are logged", "type": "array"},
                        "conf": {"description": "the logger's settings", "type": "object"},
                    },
                    "dependencies": {"name": ["conf"]},
                    "additionalProperties": false,
                },
            },
        },
        "required": ["name"],
    })
}
