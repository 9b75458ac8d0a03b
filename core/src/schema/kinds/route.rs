//! `routes`

use serde_json::{Value, json};

use super::{d, upstream};

pub(super) fn schema() -> Value {
    d::described(json!({
        "properties": properties(),
        "allOf": [
            {"oneOf": [{"required": ["uri"]}, {"required": ["uris"]}]},
            at_most_one("host", "hosts"),
            at_most_one("remote_addr", "remote_addrs"),
        ],
        "anyOf": [
            {"required": ["plugins", "uri"]},
            {"required": ["upstream", "uri"]},
            {"required": ["upstream_id", "uri"]},
            {"required": ["service_id", "uri"]},
            {"required": ["plugins", "uris"]},
            {"required": ["upstream", "uris"]},
            {"required": ["upstream_id", "uris"]},
            {"required": ["service_id", "uris"]},
            {"required": ["script", "uri"]},
            {"required": ["script", "uris"]},
        ],
        "not": {"anyOf": [
            {"required": ["script", "plugins"]},
            {"required": ["script", "plugin_config_id"]},
        ]},
    }))
}

fn properties() -> Value {
    json!({
        "uri": {"type": "string", "minLength": 1, "maxLength": 4096},
        "uris": {
            "type": "array",
            "items": {"description": "path of a request", "type": "string"},
            "minItems": 1,
            "uniqueItems": true,
        },
        "priority": {"type": "integer", "default": 0},
        "methods": {"type": "array", "items": d::method(), "uniqueItems": true},
        "host": d::host(),
        "hosts": d::hosts(),
        "remote_addr": d::address("client address"),
        "remote_addrs": {
            "type": "array",
            "items": d::address("client address"),
            "minItems": 1,
            "uniqueItems": true,
        },
        "timeout": d::timeout(),
        "vars": {"type": "array"},
        "filter_func": {"type": "string", "minLength": 10, "pattern": "^function"},
        "script": d::script(),
        "script_id": d::id(),
        "plugins": d::plugins(),
        "plugin_config_id": d::id(),
        "upstream": upstream::schema(),
        "service_id": d::id(),
        "upstream_id": d::id(),
        "enable_websocket": d::websocket(),
        "status": d::status("1: the route is in use, 0: it is not"),
    })
}

/// Neither field, or one of them.
fn at_most_one(one: &str, many: &str) -> Value {
    let either = json!({"anyOf": [{"required": [one]}, {"required": [many]}]});
    json!({"oneOf": [{"not": either}, {"required": [one]}, {"required": [many]}]})
}
