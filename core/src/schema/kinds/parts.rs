//! `protos`, and the parts of schemas that the Admin API serves by name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{d, health, plugin, upstream};

pub(super) fn proto() -> Value {
    d::described(json!({
        "properties": {"content": {"type": "string", "minLength": 1, "maxLength": 1_048_576}},
        "required": ["content"],
    }))
}

/// The parts by the names under which APISIX serves them.
pub(super) fn all() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("anonymous_consumer_schema", json!({"type": "string", "minLength": 1})),
        ("discovery_nodes", upstream::discovered_nodes()),
        ("health_checker", health::checks()),
        ("health_checker_active", health::active()),
        ("health_checker_passive", health::passive()),
        ("host_def", d::host()),
        ("id_schema", d::id()),
        ("ip_def", d::addresses()),
        ("label_value_def", d::label_value()),
        ("method_schema", d::method()),
        ("plugin_injected_schema", plugin::injected()),
        ("upstream_hash_header_schema", hash_header()),
        ("upstream_hash_vars_combinations_schema", json!({"type": "string"})),
        ("upstream_hash_vars_schema", hash_vars()),
        ("uri_def", d::uri()),
    ])
}

/// The key of `chash` on a header or cookie.
fn hash_header() -> Value {
    json!({"type": "string", "pattern": "^[a-zA-Z0-9-_]+$"})
}

/// The key of `chash` on a variable. `A-z` is APISIX's.
fn hash_vars() -> Value {
    json!({
        "type": "string",
        "pattern": "^((uri|server_name|server_addr|request_uri|remote_port|remote_addr|\
            query_string|host|hostname|mqtt_client_id)|arg_[0-9a-zA-z_-]+)$",
    })
}
