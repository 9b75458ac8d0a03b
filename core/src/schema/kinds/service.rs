//! `services`, and the GraphQL costs that belong to one.

use serde_json::{Value, json};

use super::{d, upstream};

pub(super) fn schema() -> Value {
    d::described(json!({"properties": {
        "plugins": d::plugins(),
        "upstream": upstream::schema(),
        "upstream_id": d::id(),
        "script": d::script(),
        "enable_websocket": d::websocket(),
        "hosts": d::hosts(),
    }}))
}

/// The cost of one field in an upstream's GraphQL schema.
pub(super) fn graphql_cost() -> Value {
    let arguments = |description: &str| {
        json!({
            "description": description,
            "type": "array",
            "items": {"type": "string", "minLength": 1},
        })
    };
    let factor = |description: &str| json!({"description": description, "type": "number", "minimum": 0, "default": 1});
    d::described(json!({
        "properties": {
            "service_id": d::id(),
            "field_path": {
                "description": "a GraphQL type, then fields: Type, Type.field, Query.a.b",
                "type": "string",
                "pattern": r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$",
            },
            "add_value": factor("cost of the field"),
            "add_arguments": arguments("arguments of the query that are added to the cost"),
            "mul_value": factor("factor for the cost of what is selected below the field"),
            "mul_arguments": arguments("arguments of the query that the factor grows by"),
        },
        "required": ["field_path"],
    }))
}
