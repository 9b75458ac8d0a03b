//! `secrets`: the configuration of each secret manager (facts: `apisix/secret/*.lua`).

use serde_json::{Value, json};

use super::d;

fn string() -> Value {
    json!({"type": "string"})
}

pub(super) fn vault() -> Value {
    json!({
        "type": "object",
        "properties": {
            "uri": d::uri(),
            "prefix": string(),
            "token": string(),
            "namespace": string(),
        },
        "required": ["uri", "prefix", "token"],
    })
}

pub(super) fn aws() -> Value {
    json!({
        "type": "object",
        "properties": {
            "access_key_id": string(),
            "secret_access_key": string(),
            "session_token": string(),
            "region": {"type": "string", "default": "us-east-1"},
            "endpoint_url": d::uri(),
        },
        "required": ["access_key_id", "secret_access_key"],
    })
}

pub(super) fn gcp() -> Value {
    json!({
        "type": "object",
        "properties": {
            "auth_config": {
                "type": "object",
                "properties": {
                    "client_email": string(),
                    "private_key": string(),
                    "project_id": string(),
                    "token_uri": {
                        "type": "string",
                        "default": "https://oauth2.googleapis.com/token",
                    },
                    "scope": {
                        "type": "array",
                        "items": string(),
                        "default": ["https://www.googleapis.com/auth/cloud-platform"],
                    },
                    "entries_uri": {
                        "type": "string",
                        "default": "https://secretmanager.googleapis.com/v1",
                    },
                },
                "required": ["client_email", "private_key", "project_id"],
            },
            "ssl_verify": {"type": "boolean", "default": true},
            "auth_file": string(),
        },
        "oneOf": [{"required": ["auth_config"]}, {"required": ["auth_file"]}],
    })
}
