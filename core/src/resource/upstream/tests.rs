use serde_json::json;

use super::*;

fn parse(value: &Value) -> Result<Upstream, Violation> {
    Upstream::from_json(value)
}

/// A valid upstream with the fields of `extra` over it.
fn with(extra: Value) -> Value {
    let mut upstream = json!({"nodes": {"127.0.0.1:80": 1}});
    let Value::Object(extra) = extra else { panic!("not an object") };
    upstream.as_object_mut().unwrap().extend(extra);
    upstream
}

fn addresses(nodes: &Value) -> Vec<(String, Option<u16>, u32)> {
    let upstream = parse(&json!({"nodes": nodes})).unwrap();
    upstream.nodes.into_iter().map(|n| (n.host, n.port, n.weight)).collect()
}

#[test]
fn takes_nodes_in_both_forms() {
    let map = json!({"10.0.0.1:8080": 2, "a.example": 0, "[::1]:81": 1, "::2": 3});
    let mut found = addresses(&map);
    found.sort();
    let expected = [
        ("10.0.0.1".to_owned(), Some(8080), 2),
        ("::1".to_owned(), Some(81), 1),
        ("::2".to_owned(), None, 3),
        ("a.example".to_owned(), None, 0),
    ];
    assert_eq!(found, expected);
    let array = json!([
        {"host": "10.0.0.1", "port": 1, "weight": 7, "priority": 5, "metadata": {"a": 1}},
        {"host": "[::1]", "weight": 0, "priority": 5},
        {"host": "10.0.0.2:90", "weight": 2, "priority": 5},
    ]);
    let expected = [
        ("10.0.0.1".to_owned(), Some(1), 7),
        ("::1".to_owned(), None, 0),
        ("10.0.0.2".to_owned(), Some(90), 2),
    ];
    assert_eq!(addresses(&array), expected);
    assert!(addresses(&json!([])).is_empty());
}

#[test]
fn fills_in_the_defaults() {
    let upstream = parse(&with(json!({}))).unwrap();
    assert_eq!(upstream.kind, UpstreamType::RoundRobin);
    assert_eq!(upstream.scheme, Scheme::Http);
    assert_eq!(upstream.pass_host, PassHost::Pass);
    assert_eq!((upstream.retries, upstream.retry_deadline()), (None, None));
    let pool = parse(&with(json!({"keepalive_pool": {}}))).unwrap().keepalive_pool.unwrap();
    assert_eq!(pool.compile(), crate::snapshot::KeepalivePool::default());
}

#[test]
fn converts_times() {
    let upstream = parse(&with(json!({
        "retry_timeout": 1.5, "timeout": {"connect": 0.25, "send": 2, "read": 3},
        "keepalive_pool": {"size": 1, "idle_timeout": 0, "requests": 2},
    })))
    .unwrap();
    assert_eq!(upstream.retry_deadline(), Some(Duration::from_millis(1500)));
    assert_eq!(upstream.timeout.unwrap().compile().connect, Duration::from_millis(250));
    assert_eq!(upstream.keepalive_pool.unwrap().compile().idle_timeout, Duration::ZERO);
    let zero = parse(&with(json!({"retry_timeout": 0}))).unwrap();
    assert_eq!(zero.retry_deadline(), None);
}

#[test]
fn survives_a_round_trip_through_json() {
    let upstream = parse(&with(json!({
        "id": "u", "type": "roundrobin", "pass_host": "rewrite", "upstream_host": "x.y",
        "retries": 0, "hash_on": "vars", "key": "uri", "nodes": {"[::1]:80": 1},
    })))
    .unwrap();
    let json = serde_json::to_value(&upstream).unwrap();
    assert_eq!(serde_json::from_value::<Upstream>(json).unwrap(), upstream);
}

#[test]
fn keeps_what_it_cannot_honour_and_names_it() {
    let discovery = |kind: &str| json!({"service_name": "a", "discovery_type": kind});
    let cases = [
        (with(json!({"type": "mine"})), "type", "\"mine\""),
        (with(json!({"scheme": "tls"})), "scheme", "\"tls\""),
        (with(json!({"scheme": "kafka"})), "scheme", "\"kafka\""),
        (with(json!({"service_name": "a"})), "service_name", "\"service_name\""),
        (discovery("nacos"), "discovery_type", "\"nacos\""),
    ];
    for (value, field, what) in cases {
        let expected = format!(
            "property \"{field}\" validation failed: {what} is not supported yet by this version"
        );
        let upstream = parse(&value).unwrap();
        assert_eq!(upstream.unsupported(), Some(expected), "{value}");
        let written = serde_json::to_value(&upstream).unwrap();
        let again = serde_json::from_value::<Upstream>(written);
        // `nodes` is written even when there is discovery instead.
        assert_eq!(again.is_ok_and(|again| again == upstream), value.get("nodes").is_some());
    }
}

#[test]
fn discovery_must_be_configured() {
    let upstream =
        parse(&json!({"service_name": "a", "discovery_type": "dns", "discovery_args": {}}));
    let upstream = upstream.unwrap();
    assert_eq!(upstream.unsupported(), None);
    assert!(upstream.undiscoverable(&["dns"]).is_none());
    let text = "property \"discovery_type\" validation failed: \"dns\" is not configured: set \
                discovery.dns in config.yaml";
    assert_eq!(upstream.undiscoverable(&[]).unwrap().to_string(), text);
    // Without a service there is nothing to discover.
    let nodes = parse(&with(json!({"discovery_type": "dns"}))).unwrap();
    assert!(nodes.undiscoverable(&[]).is_none());
}

#[test]
fn what_changes_nothing_is_supported() {
    for extra in [
        json!({"scheme": "https", "tls": {"verify": true, "client_cert_id": 1}}),
        json!({"scheme": "grpcs"}),
        json!({"scheme": "grpc"}),
        json!({"checks": null}),
        json!({"checks": {"active": {}, "passive": {}}}),
        json!({"tls": {"verify": true}}),
        json!({"hash_on": "header", "key": "x"}),
        json!({"nodes": {}}),
        json!({"labels": {"a": "b"}, "desc": "d"}),
        json!({"discovery_type": "nacos", "discovery_args": {"a": 1}}),
    ] {
        assert_eq!(parse(&with(extra.clone())).unwrap().unsupported(), None, "{extra}");
    }
}

#[test]
fn takes_health_checks_with_their_defaults() {
    let checks = json!({
        "active": {"http_path": "/status", "healthy": {"successes": 1}, "unhealthy": {},
                   "req_headers": ["User-Agent: curl"], "port": 8080},
        "passive": {"healthy": {}, "unhealthy": {"http_statuses": [500], "timeouts": 0}},
    });
    let checks = *parse(&with(json!({"checks": checks}))).unwrap().checks.unwrap();
    assert_eq!((checks.active.kind, checks.active.http_method), ("http", "GET"));
    assert_eq!((checks.active.timeout, checks.active.concurrency), (1.0, 10));
    assert!(checks.active.https_verify_certificate);
    let healthy = Outcome {
        interval: Some(1),
        http_statuses: vec![200, 302],
        successes: Some(1),
        ..Outcome::default()
    };
    assert_eq!(checks.active.healthy, Some(healthy));
    let unhealthy = checks.active.unhealthy.unwrap();
    assert_eq!(unhealthy.http_statuses.len(), 8);
    let counts = (unhealthy.http_failures, unhealthy.tcp_failures, unhealthy.timeouts);
    assert_eq!(counts, (Some(5), Some(2), Some(3)));
    let passive = checks.passive.unwrap();
    assert_eq!(passive.healthy.unwrap().successes, Some(5));
    let unhealthy = passive.unhealthy.unwrap();
    assert_eq!((unhealthy.timeouts, unhealthy.interval), (Some(0), None));
    assert_eq!(unhealthy.http_statuses, [500]);
}

#[test]
fn refuses_in_the_words_of_apisix() {
    let nodes = "property \"nodes\" validation failed: object matches none of the required";
    let cases = [
        (json!({"nodes": 1}), nodes),
        (json!({"nodes": {"a:80": -1}}), nodes),
        (json!({"nodes": {"a:80": "1"}}), nodes),
        (json!({"nodes": {"a:0": 1}}), nodes),
        (json!({"nodes": {"a:65536": 1}}), nodes),
        (json!({"nodes": {"a:+80": 1}}), nodes),
        (json!({"nodes": {"a:": 1}}), nodes),
        (json!({"nodes": {"[::1": 1}}), nodes),
        (json!({"nodes": {"[::1]x": 1}}), nodes),
        (json!({"nodes": {"a b:80": 1}}), nodes),
        (json!({"nodes": {"*.a:80": 1}}), nodes),
        (json!({"nodes": [{"host": "a"}]}), nodes),
        (json!({"nodes": [{"weight": 1}]}), nodes),
        (json!({"nodes": [{"host": "a", "weight": 1, "port": 0}]}), nodes),
        (json!({"nodes": [{"host": "*", "weight": 1}]}), nodes),
        (json!({"x": 1}), "additional properties forbidden, found x"),
        (
            json!({"retries": -1}),
            "property \"retries\" validation failed: expected -1 to be at least 0",
        ),
        (
            json!({"retry_timeout": -1}),
            "property \"retry_timeout\" validation failed: expected -1 to be at least 0",
        ),
        (
            json!({"keepalive_pool": {"size": 0}}),
            "property \"keepalive_pool\" validation failed: property \"size\" validation \
             failed: expected 0 to be at least 1",
        ),
        (
            json!({"timeout": {"connect": 1, "send": 1}}),
            "property \"timeout\" validation failed: property \"read\" is required",
        ),
        (
            json!({"timeout": {"connect": 1, "send": -1, "read": 1}}),
            "property \"timeout\" validation failed: property \"send\" validation failed: \
             expected -1 to be greater than 0",
        ),
        (
            json!({"timeout": {"connect": 1e300, "send": 1, "read": 1}}),
            "property \"timeout\" validation failed: property \"connect\" validation failed: \
             expected 1e+300 to be at most 1000000000",
        ),
        (
            json!({"hash_on": "x"}),
            "property \"hash_on\" validation failed: matches none of the enum values",
        ),
        (
            json!({"scheme": "ftp"}),
            "property \"scheme\" validation failed: matches none of the enum values",
        ),
        (
            json!({"service_name": "a", "discovery_type": "dns"}),
            "value should match only one schema, but matches both schemas 1 and 2",
        ),
        (
            json!({"checks": {"passive": {}}}),
            "property \"checks\" validation failed: object matches none of the required: \
             [\"active\"] or [\"active\",\"passive\"]",
        ),
        (
            json!({"checks": {"active": {"unhealthy": {"http_statuses": [600]}}}}),
            "property \"checks\" validation failed: property \"active\" validation failed: \
             property \"unhealthy\" validation failed: property \"http_statuses\" validation \
             failed: failed to validate item 1: expected 600 to be at most 599",
        ),
        (
            json!({"checks": {"active": {"healthy": {"http_statuses": [200, 200]}}}}),
            "property \"checks\" validation failed: property \"active\" validation failed: \
             property \"healthy\" validation failed: property \"http_statuses\" validation \
             failed: expected unique items but items 1 and 2 are equal",
        ),
        (
            json!({"checks": {"active": {"req_headers": []}}}),
            "property \"checks\" validation failed: property \"active\" validation failed: \
             property \"req_headers\" validation failed: expect array to have at least 1 items",
        ),
        (
            json!({"tls": {"client_cert": "x".repeat(128)}}),
            "property \"tls\" validation failed: failed to validate dependent schema for \
             \"client_cert\": property \"client_key\" is required",
        ),
        (
            json!({"tls": {"client_cert": "x".repeat(128), "client_key": "x".repeat(64),
                           "client_cert_id": 1}}),
            "property \"tls\" validation failed: failed to validate dependent schema for \
             \"client_cert_id\": value wasn't supposed to match schema",
        ),
        (
            json!({"pass_host": "rewrite"}),
            "`upstream_host` can't be empty when `pass_host` is `rewrite`",
        ),
    ];
    for (extra, expected) in cases {
        assert_eq!(parse(&with(extra.clone())).unwrap_err().to_string(), expected, "{extra}");
    }
    let none = "value should match only one schema, but matches none";
    assert_eq!(parse(&json!({})).unwrap_err().to_string(), none);
}

#[test]
fn alternate_text_names_the_node() {
    let error = parse(&with(json!({"nodes": [{"host": "a", "weight": "x"}]}))).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "property \"nodes\" validation failed: object matches none of the required (failed to \
         validate item 1: property \"weight\" validation failed: wrong type: expected integer, \
         got string)"
    );
}
