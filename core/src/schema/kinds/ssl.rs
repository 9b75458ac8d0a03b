//! `ssls`

use serde_json::{Value, json};

use super::d;

pub(super) fn schema() -> Value {
    d::resource(json!({
        "properties": properties(),
        "if": {"properties": {"type": {"enum": ["server"]}}},
        "then": {"oneOf": [
            {"required": ["sni", "key", "cert"]},
            {"required": ["snis", "key", "cert"]},
        ]},
        "else": {"required": ["key", "cert"]},
    }))
}

fn properties() -> Value {
    json!({
        "desc": d::desc(),
        "labels": d::labels(),
        "type": {
            "description": "server: shown to clients; client: shown to upstreams",
            "type": "string",
            "enum": ["server", "client"],
            "default": "server",
        },
        "cert": d::certificate(),
        "key": d::private_key(),
        "sni": d::host(),
        "snis": {"type": "array", "items": d::host(), "minItems": 1},
        "certs": {"type": "array", "items": d::certificate()},
        "keys": {"type": "array", "items": d::private_key()},
        "client": {
            "type": "object",
            "properties": {
                "ca": d::certificate(),
                "depth": {"type": "integer", "minimum": 0, "default": 1},
                "skip_mtls_uri_regex": {
                    "type": "array",
                    "minItems": 1,
                    "uniqueItems": true,
                    "items": d::text("paths that need no client certificate"),
                },
            },
            "required": ["ca"],
        },
        "ocsp_stapling": {
            "type": "object",
            "properties": {
                "enabled": {"type": "boolean", "default": false},
                "skip_verify": {"type": "boolean", "default": false},
                "cache_ttl": {"type": "integer", "minimum": 60, "default": 3600},
                "response": d::text("a response in base64, in place of asking for one"),
            },
        },
        "status": d::status("1: the certificate is in use, 0: it is not"),
        "ssl_protocols": {
            "description": "versions of TLS that are offered",
            "type": "array",
            "maxItems": 3,
            "uniqueItems": true,
            "items": {"enum": ["TLSv1.1", "TLSv1.2", "TLSv1.3"]},
        },
    })
}
