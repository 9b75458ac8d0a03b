//! `upstreams`, also within routes, services and stream routes.

use serde_json::{Value, json};

use super::{d, health};

pub(super) fn schema() -> Value {
    d::described(json!({
        "properties": properties(),
        "oneOf": [
            {"required": ["nodes"]},
            {"required": ["service_name", "discovery_type"]},
        ],
    }))
}

fn properties() -> Value {
    json!({
        "nodes": nodes(),
        "retries": {"type": "integer", "minimum": 0},
        "retry_timeout": {"type": "number", "minimum": 0},
        "timeout": d::timeout(),
        "tls": tls(),
        "proxy_protocol": {
            "description": "version of the PROXY protocol header that connections to the nodes \
                begin with",
            "type": "string",
            "enum": ["v1", "v2"],
        },
        "keepalive_pool": {
            "type": "object",
            "properties": {
                "size": {"type": "integer", "minimum": 1, "default": 320},
                "idle_timeout": {"type": "number", "minimum": 0, "default": 60},
                "requests": {"type": "integer", "minimum": 1, "default": 1000},
            },
        },
        "type": {
            "description": "how a node is chosen",
            "type": "string",
            "default": "roundrobin",
        },
        "checks": health::checks(),
        "hash_on": {
            "type": "string",
            "enum": ["vars", "header", "cookie", "consumer", "vars_combinations"],
            "default": "vars",
        },
        "key": d::text("what chash hashes"),
        "scheme": {
            "description": "protocol towards the nodes: grpc, grpcs, http, https for HTTP; \
                tcp, tls, udp for streams; kafka",
            "enum": ["grpc", "grpcs", "http", "https", "tcp", "tls", "udp", "kafka", "h2", "h2c"],
            "default": "http",
        },
        "discovery_type": d::text("the kind of registry that knows the nodes"),
        "discovery_args": {
            "type": "object",
            "properties": {
                "namespace_id": d::text("namespace in the registry"),
                "group_name": d::text("group in the registry"),
            },
        },
        "pass_host": {
            "description": "which host the nodes see",
            "type": "string",
            "enum": ["pass", "node", "rewrite"],
            "default": "pass",
        },
        "upstream_host": d::host(),
        "service_name": {"type": "string", "minLength": 1, "maxLength": 256},
    })
}

fn weight() -> Value {
    json!({"description": "weight of the node", "type": "integer", "minimum": 0})
}

/// A host, or `unix:` with the path of a Unix domain socket.
fn node_host() -> Value {
    json!({"type": "string", "pattern": format!("{}|^unix:/", d::HOST)})
}

/// A map of `host:port` to weight, or a list.
fn nodes() -> Value {
    json!({"anyOf": [
        {"type": "object", "patternProperties": {".*": weight()}},
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "host": node_host(),
                    "port": d::port("port of the node"),
                    "weight": weight(),
                    "priority": {
                        "description": "nodes of lower priority are used when no other is left",
                        "type": "integer",
                        "default": 0,
                    },
                    "metadata": {"description": "more about the node", "type": "object"},
                },
                "required": ["host", "weight"],
            },
        },
    ]})
}

/// The nodes that a registry reports.
pub(super) fn discovered_nodes() -> Value {
    json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "host": {"description": "name or address"},
                "port": d::port("port of the node"),
                "weight": weight(),
                "priority": {"description": "priority of the node", "type": "integer"},
                "metadata": {"description": "more about the node", "type": "object"},
            },
            "required": ["host", "weight"],
        },
    })
}

fn tls() -> Value {
    json!({
        "type": "object",
        "properties": {
            "client_cert_id": d::id(),
            "client_cert": d::certificate(),
            "client_key": d::private_key(),
            "verify": {
                "description": "whether the node's certificate is verified",
                "type": "boolean",
                "default": false,
            },
        },
        "dependencies": {
            "client_cert": {"required": ["client_key"]},
            "client_key": {"required": ["client_cert"]},
            "client_cert_id": {"not": {"required": ["client_cert", "client_key"]}},
        },
    })
}
