//! Health checks of an upstream.

use serde_json::{Value, json};

use super::d;

pub(super) fn checks() -> Value {
    json!({
        "type": "object",
        "properties": {"active": active(), "passive": passive()},
        "anyOf": [{"required": ["active"]}, {"required": ["active", "passive"]}],
    })
}

fn kind() -> Value {
    json!({"type": "string", "enum": ["http", "https", "tcp"], "default": "http"})
}

fn statuses(default: &[u16]) -> Value {
    json!({
        "type": "array",
        "minItems": 1,
        "items": {"type": "integer", "minimum": 200, "maximum": 599},
        "uniqueItems": true,
        "default": default,
    })
}

fn count(minimum: u8, default: u8) -> Value {
    json!({"type": "integer", "minimum": minimum, "maximum": 254, "default": default})
}

fn interval() -> Value {
    json!({"type": "integer", "minimum": 1, "default": 1})
}

/// Probes that the gateway sends.
pub(super) fn active() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": kind(),
            "timeout": {"type": "number", "default": 1},
            "concurrency": {"type": "integer", "default": 10},
            "host": d::host(),
            "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "http_method": {"type": "string", "enum": d::methods(), "default": "GET"},
            "http_path": {"type": "string", "default": "/"},
            "http_req_body": {"type": "string", "default": ""},
            "https_verify_certificate": {"type": "boolean", "default": true},
            "healthy": {
                "type": "object",
                "properties": {
                    "interval": interval(),
                    "http_statuses": statuses(&[200, 302]),
                    "successes": count(1, 2),
                },
            },
            "unhealthy": {
                "type": "object",
                "properties": {
                    "interval": interval(),
                    "http_statuses": statuses(&[429, 404, 500, 501, 502, 503, 504, 505]),
                    "http_failures": count(1, 5),
                    "tcp_failures": count(1, 2),
                    "timeouts": count(1, 3),
                },
            },
            "req_headers": {
                "type": "array",
                "minItems": 1,
                // The flag is without effect on a string; APISIX serves it here.
                "items": {"type": "string", "uniqueItems": true},
            },
        },
    })
}

/// What is learnt from proxied requests.
pub(super) fn passive() -> Value {
    const GOOD: [u16; 19] = [
        200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307,
        308,
    ];
    json!({
        "type": "object",
        "properties": {
            "type": kind(),
            "healthy": {
                "type": "object",
                "properties": {"http_statuses": statuses(&GOOD), "successes": count(0, 5)},
            },
            "unhealthy": {
                "type": "object",
                "properties": {
                    "http_statuses": statuses(&[429, 500, 503]),
                    "tcp_failures": count(0, 2),
                    "timeouts": count(0, 7),
                    "http_failures": count(0, 5),
                },
            },
        },
    })
}
