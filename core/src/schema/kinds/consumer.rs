//! `consumers`, their credentials, and `consumer_groups`.

use serde_json::{Value, json};

use super::d;

pub(super) fn schema() -> Value {
    d::resource(json!({
        "properties": {
            "username": {
                "type": "string",
                "minLength": 1,
                "maxLength": 256,
                "pattern": r"^[a-zA-Z0-9_\-]+$",
            },
            "desc": d::desc(),
            "labels": d::labels(),
            "group_id": d::id(),
            "plugins": d::plugins(),
        },
        "required": ["username"],
    }))
}

pub(super) fn credential() -> Value {
    d::described(json!({"properties": {
        "id": {"oneOf": [
            d::id(),
            {
                "type": "string",
                "minLength": 15,
                "maxLength": 128,
                "pattern": "^[a-zA-Z0-9-_]+/credentials/[a-zA-Z0-9-_.]+$",
            },
        ]},
        "plugins": {"type": "object", "maxProperties": 1},
    }}))
}

pub(super) fn group() -> Value {
    d::described(json!({
        "properties": {"plugins": d::plugins()},
        "required": ["id", "plugins"],
    }))
}
