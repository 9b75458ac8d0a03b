//! Parts that several resources' schemas share (facts: `apisix/schema_def.lua`).

use serde_json::{Value, json};

/// A host name, an address, `*`, or `*` before a suffix.
pub(super) const HOST: &str = r"^\*$|^\*?[0-9a-zA-Z-._\[\]:]+$";

const IPV4_CIDR: &str = concat!(
    r"^([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])",
    r"\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])",
    r"\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])",
    r"\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])",
    r"/([12]?[0-9]|3[0-2])$",
);

const IPV6_CIDR: &str =
    r"^([a-fA-F0-9]{0,4}:){1,8}(:[a-fA-F0-9]{0,4}){0,8}([a-fA-F0-9]{0,4})?/[0-9]{1,3}$";

pub(super) fn id() -> Value {
    json!({"anyOf": [
        {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-_.]+$"},
        {"type": "integer", "minimum": 1},
    ]})
}

pub(super) fn host() -> Value {
    json!({"type": "string", "pattern": HOST})
}

/// A list of hosts: at least one, none twice.
pub(super) fn hosts() -> Value {
    json!({"type": "array", "items": host(), "minItems": 1, "uniqueItems": true})
}

/// The forms of an address or network, as `anyOf` lists them.
pub(super) fn addresses() -> Value {
    json!([
        {"title": "IPv4", "type": "string", "format": "ipv4"},
        {"title": "IPv4/CIDR", "type": "string", "pattern": IPV4_CIDR},
        {"title": "IPv6", "type": "string", "format": "ipv6"},
        {"title": "IPv6/CIDR", "type": "string", "pattern": IPV6_CIDR},
    ])
}

pub(super) fn address(description: &str) -> Value {
    json!({"description": description, "type": "string", "anyOf": addresses()})
}

/// `scheme://host[:port]`, then anything.
pub(super) fn uri() -> Value {
    json!({
        "type": "string",
        "pattern": r"^[^\/]+:\/\/([\da-zA-Z.-]+|\[[\da-fA-F:]+\])(:\d+)?",
    })
}

pub(super) fn timestamp() -> Value {
    json!({"type": "integer"})
}

pub(super) fn label_value() -> Value {
    json!({
        "description": "a label's value",
        "type": "string",
        "pattern": r"^\S+$",
        "minLength": 1,
        "maxLength": 256,
    })
}

pub(super) fn labels() -> Value {
    json!({
        "description": "attributes by name",
        "type": "object",
        "patternProperties": {".*": label_value()},
    })
}

pub(super) fn name() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 256})
}

pub(super) fn desc() -> Value {
    json!({"type": "string", "maxLength": 256})
}

/// What a resource's plugins look like from outside; each plugin has a schema of its own.
pub(super) fn plugins() -> Value {
    json!({"type": "object"})
}

pub(super) fn script() -> Value {
    json!({"type": "string", "minLength": 10, "maxLength": 102_400})
}

pub(super) fn timeout() -> Value {
    let seconds = json!({"type": "number", "exclusiveMinimum": 0});
    json!({
        "type": "object",
        "properties": {"connect": seconds, "send": seconds, "read": seconds},
        "required": ["connect", "send", "read"],
    })
}

pub(super) fn methods() -> Value {
    json!(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"])
}

pub(super) fn method() -> Value {
    json!({"description": "HTTP method", "type": "string", "enum": methods()})
}

/// PEM of a certificate, with its chain.
pub(super) fn certificate() -> Value {
    json!({"type": "string", "minLength": 128, "maxLength": 65_536})
}

/// PEM of a private key.
pub(super) fn private_key() -> Value {
    json!({"type": "string", "minLength": 64, "maxLength": 65_536})
}

pub(super) fn port(description: &str) -> Value {
    json!({"description": description, "type": "integer", "minimum": 1, "maximum": 65535})
}

pub(super) fn text(description: &str) -> Value {
    json!({"description": description, "type": "string"})
}

/// An on/off switch written as 1 and 0.
pub(super) fn status(description: &str) -> Value {
    json!({"description": description, "type": "integer", "enum": [1, 0], "default": 1})
}

pub(super) fn websocket() -> Value {
    json!({"description": "whether websocket connections are let through", "type": "boolean"})
}

/// A resource: the fields that all have (`id` and the times) with its own, and nothing else.
pub(super) fn resource(mut own: Value) -> Value {
    let common = json!({"id": id(), "create_time": timestamp(), "update_time": timestamp()});
    let properties = own.get_mut("properties").and_then(Value::as_object_mut);
    if let (Some(properties), Value::Object(common)) = (properties, common) {
        for (name, schema) in common {
            // A credential has an id of its own form.
            properties.entry(name).or_insert(schema);
        }
    }
    if let Value::Object(own) = &mut own {
        own.insert("type".to_owned(), "object".into());
        own.insert("additionalProperties".to_owned(), false.into());
    }
    own
}

/// [`resource`] with `name`, `desc` and `labels`.
pub(super) fn described(mut own: Value) -> Value {
    if let Some(properties) = own.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("desc".to_owned(), desc());
        properties.insert("labels".to_owned(), labels());
        properties.entry("name").or_insert_with(name);
    }
    resource(own)
}
