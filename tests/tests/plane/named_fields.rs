//! Whoever is refused is told which field it was: by the Admin API, and of a file in the status.

use std::collections::HashMap;

use osmia_tests::{Config, eventually};
use serde_json::{Value, json};

use super::refusal;

/// Wrong values of an upstream's fields, each with the names that the refusal must have.
fn upstreams() -> Vec<(Value, &'static [&'static str])> {
    let active = |fields: Value| json!({"checks": {"active": fields}});
    let passive = |fields: Value| json!({"checks": {"active": {}, "passive": fields}});
    let chash = |on: &str, key: &str| json!({"type": "chash", "hash_on": on, "key": key});
    vec![
        (json!({"nodes": {"a:80": -1}}), &["nodes"]),
        (json!({"nodes": {"a:0": 1}}), &["nodes"]),
        (json!({"nodes": {"a:65536": 1}}), &["nodes"]),
        (json!({"nodes": {"a b:80": 1}}), &["nodes"]),
        (json!({"nodes": "a:80"}), &["nodes"]),
        (json!({"nodes": [{"host": "a", "port": 80}]}), &["nodes"]),
        (json!({"nodes": [{"port": 80, "weight": 1}]}), &["nodes"]),
        (json!({"nodes": [{"host": "a", "port": 0, "weight": 1}]}), &["nodes"]),
        (json!({"nodes": [{"host": "a", "weight": 1, "priority": "x"}]}), &["nodes"]),
        (json!({"nodes": [{"host": "a", "weight": 1, "metadata": 1}]}), &["nodes"]),
        (json!({"type": 1}), &["type"]),
        (json!({"type": "mine"}), &["type"]),
        (json!({"scheme": "ftp"}), &["scheme"]),
        (json!({"scheme": "udp"}), &["scheme"]),
        (json!({"hash_on": "x"}), &["hash_on"]),
        (json!({"type": "chash", "hash_on": "header"}), &["key"]),
        (json!({"key": 1}), &["key"]),
        (chash("vars", "no such variable"), &["key"]),
        (chash("header", "a b"), &["key"]),
        (json!({"retries": -1}), &["retries"]),
        (json!({"retry_timeout": -1}), &["retry_timeout"]),
        (json!({"timeout": 1}), &["timeout"]),
        (json!({"timeout": {"connect": 1, "send": 1}}), &["timeout", "read"]),
        (json!({"timeout": {"connect": 0, "send": 1, "read": 1}}), &["timeout", "connect"]),
        (json!({"timeout": {"connect": 1, "send": "1", "read": 1}}), &["timeout", "send"]),
        (json!({"keepalive_pool": {"size": 0}}), &["keepalive_pool", "size"]),
        (json!({"keepalive_pool": {"idle_timeout": -1}}), &["keepalive_pool", "idle_timeout"]),
        (json!({"keepalive_pool": {"requests": 0}}), &["keepalive_pool", "requests"]),
        (json!({"pass_host": "x"}), &["pass_host"]),
        (json!({"pass_host": "rewrite"}), &["pass_host", "upstream_host"]),
        (json!({"upstream_host": "a b"}), &["upstream_host"]),
        (json!({"proxy_protocol": "v3"}), &["proxy_protocol"]),
        (json!({"tls": {"client_cert": "short"}}), &["tls", "client_cert"]),
        (json!({"tls": {"client_cert": "x".repeat(200)}}), &["tls", "client_key"]),
        (json!({"tls": {"client_cert_id": "a/b"}}), &["tls", "client_cert_id"]),
        (json!({"tls": {"verify": 1}}), &["tls", "verify"]),
        (json!({"service_name": "a", "discovery_type": "dns"}), &["nodes", "service_name"]),
        (json!({"nodes": null, "service_name": "a", "discovery_type": "dns"}), &["discovery_type"]),
        (json!({"nodes": null, "service_name": "a", "discovery_type": "x"}), &["discovery_type"]),
        (json!({"discovery_args": 1}), &["discovery_args"]),
        (json!({"nodes": null}), &["nodes"]),
        (json!({"labels": {"a": 1}}), &["labels"]),
        (json!({"surprise": 1}), &["surprise"]),
        (json!({"checks": {"passive": {}}}), &["checks", "active"]),
        (json!({"checks": {}}), &["checks", "active"]),
        (active(json!({"type": "x"})), &["checks", "active", "type"]),
        (active(json!({"timeout": "1"})), &["checks", "active", "timeout"]),
        (active(json!({"concurrency": "x"})), &["checks", "active", "concurrency"]),
        (active(json!({"host": "a b"})), &["checks", "active", "host"]),
        (active(json!({"port": 0})), &["checks", "active", "port"]),
        (active(json!({"http_path": 1})), &["checks", "active", "http_path"]),
        (active(json!({"http_method": "X"})), &["checks", "active", "http_method"]),
        (active(json!({"http_req_body": 1})), &["checks", "active", "http_req_body"]),
        (active(json!({"req_headers": []})), &["checks", "active", "req_headers"]),
        (active(json!({"https_verify_certificate": 1})), &["https_verify_certificate"]),
        (active(json!({"healthy": {"interval": 0}})), &["healthy", "interval"]),
        (active(json!({"healthy": {"successes": 255}})), &["healthy", "successes"]),
        (active(json!({"healthy": {"http_statuses": [1]}})), &["healthy", "http_statuses"]),
        (active(json!({"unhealthy": {"interval": 0}})), &["unhealthy", "interval"]),
        (active(json!({"unhealthy": {"http_statuses": [600]}})), &["unhealthy", "http_statuses"]),
        (active(json!({"unhealthy": {"http_failures": 0}})), &["unhealthy", "http_failures"]),
        (active(json!({"unhealthy": {"tcp_failures": 0}})), &["unhealthy", "tcp_failures"]),
        (active(json!({"unhealthy": {"timeouts": 0}})), &["unhealthy", "timeouts"]),
        (passive(json!({"type": "x"})), &["checks", "passive", "type"]),
        (passive(json!({"healthy": {"successes": 255}})), &["passive", "healthy", "successes"]),
        (passive(json!({"healthy": {"http_statuses": []}})), &["passive", "http_statuses"]),
        (passive(json!({"unhealthy": {"http_statuses": [1]}})), &["passive", "http_statuses"]),
        (passive(json!({"unhealthy": {"http_failures": -1}})), &["passive", "http_failures"]),
        (passive(json!({"unhealthy": {"tcp_failures": -1}})), &["passive", "tcp_failures"]),
        (passive(json!({"unhealthy": {"timeouts": 255}})), &["passive", "timeouts"]),
    ]
}

/// Wrong values of a route's fields.
fn routes() -> Vec<(Value, &'static [&'static str])> {
    vec![
        (json!({"uri": ""}), &["uri"]),
        (json!({"uri": 1}), &["uri"]),
        (json!({"uri": null}), &["uri"]),
        (json!({"uri": null, "uris": []}), &["uris"]),
        (json!({"uri": null, "uris": ["/a", "/a"]}), &["uris"]),
        (json!({"uris": ["/b"]}), &["uri", "uris"]),
        (json!({"host": "a b"}), &["host"]),
        (json!({"hosts": []}), &["hosts"]),
        (json!({"hosts": ["a", "b c"]}), &["hosts"]),
        (json!({"host": "a", "hosts": ["b"]}), &["host", "hosts"]),
        (json!({"remote_addr": "127.0.0."}), &["remote_addr"]),
        (json!({"remote_addrs": ["::1", "10.0.0.0/33"]}), &["remote_addrs"]),
        (json!({"remote_addr": "::1", "remote_addrs": ["::1"]}), &["remote_addr", "remote_addrs"]),
        (json!({"methods": ["get"]}), &["methods"]),
        (json!({"methods": "GET"}), &["methods"]),
        (json!({"priority": "1"}), &["priority"]),
        (json!({"status": 2}), &["status"]),
        (json!({"vars": "a"}), &["vars"]),
        (json!({"vars": [["arg_a", "no", "1"]]}), &["vars"]),
        (json!({"timeout": {"connect": 0, "send": 1, "read": 1}}), &["timeout", "connect"]),
        (json!({"enable_websocket": 1}), &["enable_websocket"]),
        (json!({"name": ""}), &["name"]),
        (json!({"desc": 1}), &["desc"]),
        (json!({"labels": "a"}), &["labels"]),
        (json!({"plugins": 1}), &["plugins"]),
        (json!({"service_id": "a/b"}), &["service_id"]),
        (json!({"plugin_config_id": {}}), &["plugin_config_id"]),
        (json!({"filter_func": "x"}), &["filter_func"]),
        (json!({"filter_func": "function() return true end"}), &["filter_func"]),
        (json!({"script": "local a = 1 return a"}), &["script"]),
        (json!({"script": "local a = 1 return a", "plugins": {}}), &["script"]),
        (json!({"surprise": 1}), &["surprise"]),
        (json!({"upstream": null, "upstream_id": "a/b"}), &["upstream_id"]),
        (json!({"upstream": null}), &["upstream"]),
        (json!({"upstream": {"nodes": {}, "retries": -1}}), &["upstream", "retries"]),
    ]
}

/// Wrong values of a service's fields.
fn services() -> Vec<(Value, &'static [&'static str])> {
    vec![
        (json!({"hosts": ["a b"]}), &["hosts"]),
        (json!({"enable_websocket": "yes"}), &["enable_websocket"]),
        (json!({"upstream_id": "a/b"}), &["upstream_id"]),
        (json!({"upstream": {"nodes": {}, "retries": -1}}), &["upstream", "retries"]),
        (json!({"plugins": 1}), &["plugins"]),
        (json!({"script": 1}), &["script"]),
        (json!({"name": 1}), &["name"]),
        (json!({"surprise": 1}), &["surprise"]),
    ]
}

/// Every case: collection, resource, names.
fn cases() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let upstream = json!({"nodes": {"127.0.0.1:80": 1}});
    let route = json!({"uri": "/a", "upstream": upstream});
    let kinds = [
        ("upstreams", upstream.clone(), upstreams()),
        ("routes", route, routes()),
        ("services", json!({"upstream": upstream}), services()),
    ];
    let mut cases = Vec::new();
    for (collection, base, wrong) in kinds {
        for (fields, names) in wrong {
            let mut value = base.clone();
            value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            value.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            cases.push((collection, value, names));
        }
    }
    cases
}

/// Answers of the Admin API that APISIX's own tests want to the letter: they show the value and
/// not the field (t/node/invalid-port.t, t/admin/upstream3.t, t/admin/routes4.t).
const TO_THE_LETTER: [&str; 3] = [
    "invalid port ",
    "invalid configuration: failed to match pattern ",
    "invalid configuration: value wasn't supposed to match schema",
];

fn check(refusals: impl Iterator<Item = (String, Value, &'static [&'static str])>) {
    let mut nameless = Vec::new();
    for (reason, value, names) in refusals {
        // Whole names: `uri` is not to be found in `uris`.
        let words: Vec<&str> =
            reason.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        if !names.iter().all(|name| words.contains(name)) {
            nameless.push(format!("{value}\n    {names:?}: {reason}"));
        }
    }
    assert!(nameless.is_empty(), "\n{}", nameless.join("\n"));
}

#[test]
fn by_the_admin_api() {
    let gateway = Config::new().plane("embedded").start();
    let refusals = cases().into_iter().map(|(collection, value, names)| {
        let path = format!("/apisix/admin/{collection}/1");
        let (status, reason) = refusal(&gateway.admin().call("PUT", &path, &value.to_string()));
        assert_eq!(status, 400, "{value}: {reason}");
        let is_given = TO_THE_LETTER.iter().any(|text| reason.starts_with(text));
        (reason, value, if is_given { &[] } else { names })
    });
    check(refusals);
}

#[test]
fn of_a_file() {
    let cases = cases();
    let mut collections: HashMap<&str, Vec<Value>> = HashMap::new();
    for (index, (collection, value, _)) in cases.iter().enumerate() {
        let mut value = value.clone();
        value["id"] = json!(format!("case{index}"));
        collections.entry(collection).or_default().push(value);
    }
    let text = format!("{:#}\n#END\n", json!(collections));
    let gateway = Config::new().plane("yaml").routes_text(text).start();
    let mut told = Value::Null;
    eventually("all are refused", || {
        told = gateway.control().json("/v1/osmia/status");
        told["quarantined"].as_array().is_some_and(|all| all.len() >= cases.len())
    });
    let reason = |index: usize| {
        let id = format!("/case{index}");
        let all = told["quarantined"].as_array().unwrap();
        let found =
            all.iter().find(|one| one["key"].as_str().is_some_and(|key| key.ends_with(&id)));
        found.unwrap_or_else(|| panic!("{id} in {told}"))["reason"].as_str().unwrap().to_owned()
    };
    check(
        cases.iter().enumerate().map(|(i, (_, value, names))| (reason(i), value.clone(), *names)),
    );
}
