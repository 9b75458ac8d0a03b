//! `plugins`, `plugin_configs`, `global_rules`, and what every plugin's schema has in common.

use serde_json::{Map, Value, json};

use super::d;

pub(super) fn global_rule() -> Value {
    d::resource(json!({
        "properties": {"plugins": d::plugins()},
        "required": ["id", "plugins"],
    }))
}

pub(super) fn config() -> Value {
    d::described(json!({
        "properties": {"name": {"type": "string"}, "plugins": d::plugins()},
        "required": ["id", "plugins"],
    }))
}

/// The plugins that are switched on. `additionalProperties` stands among the properties in APISIX
/// too: it forbids a field of that name and no others.
pub(super) fn list() -> Value {
    json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "stream": {"type": "boolean"},
                "additionalProperties": false,
            },
            "required": ["name"],
        },
    })
}

/// What every plugin takes as `_meta`.
fn meta() -> Value {
    json!({
        "type": "object",
        "properties": {
            "disable": {"type": "boolean"},
            "error_response": {"oneOf": [{"type": "string"}, {"type": "object"}]},
            "priority": {"description": "rank in place of the plugin's own", "type": "integer"},
            "filter": {
                "description": "expression that a request must fulfil for the plugin to run",
                "type": "array",
            },
            "pre_function": {
                "description": "Lua function that runs before the plugin in each phase",
                "type": "string",
            },
        },
        "additionalProperties": false,
    })
}

pub(super) const MARK: &str = "`_meta` is the gateway's own field";

/// The field that is put into the plugins' schemas, as the Admin API serves it.
pub(super) fn injected() -> Value {
    json!({"$comment": MARK, "_meta": meta()})
}

/// A plugin's schema with the `_meta` that every plugin takes, for its configuration in routes and
/// the like.
#[must_use]
pub fn with_meta(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(map) = &mut schema {
        map.insert("$comment".to_owned(), MARK.into());
        let properties = map.entry("properties").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(properties) = properties {
            properties.insert("_meta".to_owned(), meta());
        }
    }
    schema
}
