//! The resources' schemas against what APISIX's own tests (t/admin, t/secret) expect.

use osmia_core::resource::{Kind, Route, Upstream};
use osmia_core::schema;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn checked(kind: Kind, mut value: Value) -> Result<Value, String> {
    schema::validator(kind).check(&mut value).map(|()| value)
}

#[track_caller]
fn refuses(kind: Kind, value: Value, text: &str) {
    assert_eq!(checked(kind, value), Err(text.to_owned()));
}

fn pem(length: usize) -> String {
    "x".repeat(length)
}

#[test]
fn every_schema_compiles() {
    for kind in Kind::ALL {
        let shown = format!("{:?}", schema::validator(kind));
        assert!(shown.contains("unusable: None"), "{kind}: {shown}");
        assert!(schema::Validator::new(schema::of(kind)).is_ok());
    }
    for manager in ["vault", "aws", "gcp"] {
        let shown = format!("{:?}", schema::validator_of_secret(manager).unwrap());
        assert!(shown.contains("unusable: None"), "{manager}: {shown}");
        assert_eq!(schema::of_secret(manager).unwrap()["type"], "object");
    }
    assert!(schema::of_secret("azure").is_none());
}

#[test]
fn schemas_are_served_by_the_names_of_apisix() {
    for name in [
        "consumer",
        "consumer_group",
        "credential",
        "global_rule",
        "graphql_cost_decoration",
        "plugin_config",
        "proto",
        "route",
        "service",
        "ssl",
        "stream_route",
        "upstream",
    ] {
        let schema = schema::named(name).unwrap();
        assert_eq!(schema["type"], "object", "{name}");
        assert_eq!(schema["additionalProperties"], false, "{name}");
        let text = schema.to_string();
        for time in
            ["\"create_time\":{\"type\":\"integer\"}", "\"update_time\":{\"type\":\"integer\"}"]
        {
            assert!(text.contains(time), "{name}");
        }
        assert!(schema["properties"]["id"].is_object(), "{name}");
    }
    assert_eq!(schema::named("plugins").unwrap()["type"], "array");
    assert_eq!(schema::named("upstream_hash_vars_schema").unwrap()["type"], "string");
    assert_eq!(schema::named("upstream_hash_header_schema").unwrap()["type"], "string");
    assert!(schema::named("ip_def").unwrap().is_array());
    for name in ["noexits", "secret", "plugin_metadata", "routes", ""] {
        assert!(schema::named(name).is_none(), "{name}");
    }
    assert!(
        schema::named("route").unwrap().to_string().contains("\"plugins\":{\"type\":\"object\"}")
    );
    assert!(schema::named("service").unwrap().get("anyOf").is_none());
}

#[test]
fn every_part_is_a_schema() {
    for name in [
        "anonymous_consumer_schema",
        "discovery_nodes",
        "health_checker",
        "health_checker_active",
        "health_checker_passive",
        "host_def",
        "id_schema",
        "label_value_def",
        "method_schema",
        "upstream_hash_header_schema",
        "upstream_hash_vars_combinations_schema",
        "upstream_hash_vars_schema",
        "uri_def",
    ] {
        let part = schema::Validator::new(schema::named(name).unwrap());
        assert!(part.is_ok(), "{name}: {part:?}");
    }
}

#[test]
fn a_plugins_schema_takes_meta() {
    let plugin = json!({"type": "object", "properties": {"i": {"type": "integer"}},
        "required": ["i"], "additionalProperties": false});
    let schema = schema::with_meta(&plugin);
    assert!(schema.to_string().contains("\"disable\":{\"type\":\"boolean\"}"));
    let validator = schema::Validator::new(&schema).unwrap();
    let meta = json!({"disable": true, "priority": 1, "error_response": {"message": "no"},
        "filter": [["arg_a", "==", "1"]]});
    assert_eq!(validator.check(&mut json!({"i": 1, "_meta": meta})), Ok(()));
    let outcome = validator.check(&mut json!({"i": 1, "_meta": {"disable": "yes"}}));
    let text = "property \"_meta\" validation failed: property \"disable\" validation failed: \
        wrong type: expected boolean, got string";
    assert_eq!(outcome, Err(text.to_owned()));
    assert!(schema::with_meta(&json!({}))["properties"]["_meta"].is_object());
}

#[test]
fn a_route_gets_its_defaults() {
    let route =
        json!({"uri": "/a", "upstream": {"nodes": [{"host": "a", "port": 80, "weight": 1}]}});
    let filled = json!({
        "uri": "/a", "priority": 0, "status": 1,
        "upstream": {
            "nodes": [{"host": "a", "port": 80, "weight": 1, "priority": 0}],
            "type": "roundrobin", "hash_on": "vars", "scheme": "http", "pass_host": "pass",
        },
    });
    assert_eq!(checked(Kind::Route, route), Ok(filled.clone()));
    assert_eq!(checked(Kind::Route, filled.clone()), Ok(filled));
}

#[test]
fn nested_defaults_of_an_upstream() {
    let upstream = json!({
        "nodes": {"127.0.0.1:80": 1},
        "keepalive_pool": {},
        "tls": {},
        "checks": {"active": {"healthy": {}, "unhealthy": {"timeouts": 9}}, "passive": {}},
    });
    let filled = json!({
        "nodes": {"127.0.0.1:80": 1},
        "type": "roundrobin", "hash_on": "vars", "scheme": "http", "pass_host": "pass",
        "keepalive_pool": {"size": 320, "idle_timeout": 60, "requests": 1000},
        "tls": {"verify": false},
        "checks": {
            "active": {
                "type": "http", "timeout": 1, "concurrency": 10, "http_method": "GET",
                "http_path": "/", "http_req_body": "", "https_verify_certificate": true,
                "healthy": {"interval": 1, "http_statuses": [200, 302], "successes": 2},
                "unhealthy": {
                    "interval": 1, "http_statuses": [429, 404, 500, 501, 502, 503, 504, 505],
                    "http_failures": 5, "tcp_failures": 2, "timeouts": 9,
                },
            },
            "passive": {"type": "http"},
        },
    });
    assert_eq!(checked(Kind::Upstream, upstream), Ok(filled));
}

#[test]
fn defaults_of_the_other_kinds() {
    let cost = checked(Kind::GraphqlCost, json!({"field_path": "Query.a"}));
    assert_eq!(cost, Ok(json!({"field_path": "Query.a", "add_value": 1, "mul_value": 1})));
    let ssl = json!({"sni": "a.com", "cert": pem(128), "key": pem(64)});
    let filled = checked(Kind::Ssl, ssl).unwrap();
    assert_eq!((&filled["type"], &filled["status"]), (&json!("server"), &json!(1)));
    let config = json!({"client_email": "a", "private_key": "b", "project_id": "c"});
    let mut gcp = json!({"auth_config": config});
    schema::validator_of_secret("gcp").unwrap().check(&mut gcp).unwrap();
    assert_eq!(gcp["ssl_verify"], true);
    assert_eq!(gcp["auth_config"]["scope"][0], "https://www.googleapis.com/auth/cloud-platform");
}

#[test]
fn routes() {
    let route = |field: &str, value: Value| {
        let mut route = json!({"uri": "/a", "upstream_id": 1});
        route[field] = value;
        route
    };
    let cases = [
        ("methods", json!(["GETX"]), "failed to validate item 1: matches none of the enum values"),
        ("service_id", json!("invalid id$"), "object matches none of the required"),
        ("id", json!(0), "object matches none of the required"),
        ("upstream_id", json!(""), "object matches none of the required"),
        ("plugin_config_id", json!("not valid"), "object matches none of the required"),
        ("remote_addr", json!("127.0.0."), "object matches none of the required"),
        ("uri", json!(1), "wrong type: expected string, got number"),
        ("uri", json!(""), "string too short, expected at least 1, got 0"),
        ("uris", json!("/a"), "wrong type: expected array, got string"),
        ("uris", json!([]), "expect array to have at least 1 items"),
        ("uris", json!({}), "expect array to have at least 1 items"),
        ("uris", json!(["/a", "/a"]), "expected unique items but items 1 and 2 are equal"),
        ("status", json!(100), "matches none of the enum values"),
        (
            "labels",
            json!({"env": {"a": "b"}}),
            "failed to validate env (matching \".*\"): wrong type: expected string, got table",
        ),
        (
            "host",
            json!("a b"),
            "failed to match pattern \"^\\\\*$|^\\\\*?[0-9a-zA-Z-._\\\\[\\\\]:]+$\" with \"a b\"",
        ),
        ("name", json!(pem(257)), "string too long, expected at most 256, got 257"),
        ("timeout", json!({"connect": 1}), "property \"send\" is required"),
    ];
    for (field, value, text) in cases {
        let text = format!("property \"{field}\" validation failed: {text}");
        refuses(Kind::Route, route(field, value), &text);
    }
    refuses(Kind::Route, route("other", json!(1)), "additional properties forbidden, found other");
}

#[test]
fn what_a_route_must_have() {
    let none = "allOf 1 failed: value should match only one schema, but matches none";
    refuses(Kind::Route, json!({"upstream_id": 1}), none);
    refuses(
        Kind::Route,
        json!({"uri": "/a", "uris": ["/b"], "upstream_id": 1}),
        "allOf 1 failed: value should match only one schema, but matches both schemas 1 and 2",
    );
    refuses(
        Kind::Route,
        json!({"uri": "/a", "upstream_id": 1, "host": "a", "hosts": ["b"]}),
        "allOf 2 failed: value should match only one schema, but matches both schemas 2 and 3",
    );
    refuses(
        Kind::Route,
        json!({"uri": "/a"}),
        "object matches none of the required: [\"plugins\",\"uri\"] or [\"upstream\",\"uri\"] or \
         [\"upstream_id\",\"uri\"] or [\"service_id\",\"uri\"] or [\"plugins\",\"uris\"] or \
         [\"upstream\",\"uris\"] or [\"upstream_id\",\"uris\"] or [\"service_id\",\"uris\"] or \
         [\"script\",\"uri\"] or [\"script\",\"uris\"]",
    );
    refuses(
        Kind::Route,
        json!({"uri": "/a", "plugins": {}, "script": "return {} -- nothing"}),
        "value wasn't supposed to match schema",
    );
    for address in ["1.2.3.4", "1.2.3.0/24", "::1", "2001:db8::/32"] {
        let route = json!({"uri": "/a", "upstream_id": "a.b-c", "remote_addrs": [address]});
        assert!(checked(Kind::Route, route).is_ok(), "{address}");
    }
}

#[test]
fn upstreams() {
    let upstream = |field: &str, value: Value| {
        let mut upstream = json!({"nodes": {"127.0.0.1:8080": 1}});
        upstream[field] = value;
        upstream
    };
    let certificates = json!({"client_cert_id": 1, "client_cert": pem(128), "client_key": pem(64)});
    let no_alternative = "object matches none of the required";
    let cases = [
        ("id", json!("invalid$"), no_alternative),
        ("id", json!(-100), no_alternative),
        ("nodes", json!({"127.0.0.1:8080": "1"}), no_alternative),
        ("nodes", json!({"127.0.0.1:8080": -100}), no_alternative),
        ("nodes", json!([{"host": "127.0.0.1", "port": 0, "weight": 1}]), no_alternative),
        ("nodes", json!([{"host": "127.0.0.1", "port": 80}]), no_alternative),
        ("nodes", json!([1]), no_alternative),
        ("hash_on", json!("aabbcc"), "matches none of the enum values"),
        ("retries", json!(-1), "expected -1 to be at least 0"),
        ("retry_timeout", json!(-1), "expected -1 to be at least 0"),
        (
            "timeout",
            json!({"connect": 0, "send": 0, "read": 0}),
            "property \"connect\" validation failed: expected 0 to be greater than 0",
        ),
        (
            "tls",
            json!({"client_cert": pem(128)}),
            "failed to validate dependent schema for \"client_cert\": \
             property \"client_key\" is required",
        ),
        (
            "tls",
            certificates,
            "failed to validate dependent schema for \"client_cert_id\": \
             value wasn't supposed to match schema",
        ),
    ];
    for (field, value, text) in cases {
        let text = format!("property \"{field}\" validation failed: {text}");
        refuses(Kind::Upstream, upstream(field, value), &text);
    }
    let text = "additional properties forbidden, found _";
    refuses(Kind::Upstream, upstream("_", json!(1)), text);
    let text = "value should match only one schema, but matches none";
    refuses(Kind::Upstream, json!({"type": "chash"}), text);
    for nodes in [json!([]), json!({}), json!({"a:1": 0})] {
        assert!(checked(Kind::Upstream, upstream("nodes", nodes)).is_ok());
    }
}

#[test]
fn health_checks() {
    let cases = [
        (
            json!({"active": {"healthy": {"successes": 255}}}),
            "property \"active\" validation failed: property \"healthy\" validation failed: \
             property \"successes\" validation failed: expected 255 to be at most 254",
        ),
        (
            json!({"active": {"healthy": {"successes": 0}}}),
            "property \"active\" validation failed: property \"healthy\" validation failed: \
             property \"successes\" validation failed: expected 0 to be at least 1",
        ),
        (
            json!({"active": {}, "passive": {"unhealthy": {"http_statuses": [500, 600]}}}),
            "property \"passive\" validation failed: property \"unhealthy\" validation failed: \
             property \"http_statuses\" validation failed: failed to validate item 2: \
             expected 600 to be at most 599",
        ),
        (
            json!({"active": {"type": "udp"}}),
            "property \"active\" validation failed: property \"type\" validation failed: \
             matches none of the enum values",
        ),
        (
            json!({"active": {"healthy": {"http_statuses": [200, 200]}}}),
            "property \"active\" validation failed: property \"healthy\" validation failed: \
             property \"http_statuses\" validation failed: \
             expected unique items but items 1 and 2 are equal",
        ),
        (
            json!({"active": {"unhealthy": {"http_failures": 3.1}}}),
            "property \"active\" validation failed: property \"unhealthy\" validation failed: \
             property \"http_failures\" validation failed: \
             wrong type: expected integer, got number",
        ),
        (
            json!({"active": {"req_headers": ["User-Agent: curl/7.29.0", 2]}}),
            "property \"active\" validation failed: property \"req_headers\" validation failed: \
             failed to validate item 2: wrong type: expected string, got number",
        ),
        (
            json!({"passive": {}}),
            "object matches none of the required: [\"active\"] or [\"active\",\"passive\"]",
        ),
    ];
    for (checks, text) in cases {
        let route = json!({"uri": "/a", "upstream": {"nodes": {"a:1": 1}, "checks": checks}});
        let text =
            "property \"upstream\" validation failed: property \"checks\" validation failed: "
                .to_owned()
                + text;
        refuses(Kind::Route, route, &text);
    }
}

#[test]
fn consumers_and_what_belongs_to_them() {
    refuses(Kind::Consumer, json!({"plugins": {}}), "property \"username\" is required");
    refuses(
        Kind::Consumer,
        json!({"username": "a b"}),
        "property \"username\" validation failed: \
         failed to match pattern \"^[a-zA-Z0-9_\\\\-]+$\" with \"a b\"",
    );
    refuses(
        Kind::Credential,
        json!({"plugins": {"key-auth": {}, "basic-auth": {}}}),
        "property \"plugins\" validation failed: expect object to have at most 1 properties",
    );
    assert!(checked(Kind::Credential, json!({"id": "jack/credentials/34010989"})).is_ok());
    assert!(checked(Kind::Credential, json!({"id": "34010989"})).is_ok());
    refuses(
        Kind::Credential,
        json!({"id": "jack/other/1"}),
        "property \"id\" validation failed: value should match only one schema, but matches none",
    );
    let labels = "property \"labels\" validation failed: wrong type: expected object, got string";
    for kind in [Kind::ConsumerGroup, Kind::PluginConfig] {
        refuses(kind, json!({"id": "1", "plugins": {}, "labels": "a"}), labels);
        refuses(kind, json!({"plugins": {}}), "property \"id\" is required");
    }
    refuses(Kind::GlobalRule, json!({"id": "1"}), "property \"plugins\" is required");
}

#[test]
fn ssls() {
    let then = "then clause did not match";
    refuses(Kind::Ssl, json!({"cert": pem(128), "key": pem(64)}), then);
    let both = json!({"cert": pem(128), "key": pem(64), "sni": "a", "snis": ["b"]});
    refuses(Kind::Ssl, both, then);
    let client = json!({"type": "client", "cert": pem(128)});
    refuses(Kind::Ssl, client, "else clause did not match");
    let ssl = |field: &str, value: Value| {
        let mut ssl = json!({"sni": "a.com", "cert": pem(128), "key": pem(64)});
        ssl[field] = value;
        ssl
    };
    let cases = [
        (
            "certs",
            json!(["MIIEojCCAwqgAwIBAgIJAK253pMhg"]),
            "failed to validate item 1: string too short, expected at least 128, got 29",
        ),
        ("snis", json!([]), "expect array to have at least 1 items"),
        (
            "ssl_protocols",
            json!(["TLSv1.999"]),
            "failed to validate item 1: matches none of the enum values",
        ),
        ("client", json!({"depth": 1}), "property \"ca\" is required"),
    ];
    for (field, value, text) in cases {
        let text = format!("property \"{field}\" validation failed: {text}");
        refuses(Kind::Ssl, ssl(field, value), &text);
    }
    let secrets = json!({
        "sni": "a.com",
        "cert": "$secret://vault/test/ssl/a.crt", "key": "$env://A_KEY",
        "certs": ["$secret://vault/test/ssl/b.crt"], "keys": ["$secret://vault/test/ssl/b.key"],
    });
    assert!(checked(Kind::Ssl, secrets).is_ok());
}

#[test]
fn the_remaining_kinds() {
    refuses(Kind::Proto, json!({}), "property \"content\" is required");
    refuses(
        Kind::Plugins,
        json!([{"name": "a", "stream": "mqtt"}]),
        "failed to validate item 1: property \"stream\" validation failed: \
         wrong type: expected boolean, got string",
    );
    refuses(
        Kind::StreamRoute,
        json!({"upstream_id": 1, "server_port": 65536}),
        "property \"server_port\" validation failed: expected 65536 to be at most 65535",
    );
    refuses(
        Kind::StreamRoute,
        json!({"protocol": {"name": "redis", "logger": [{"name": "syslog"}]}}),
        "property \"protocol\" validation failed: property \"logger\" validation failed: \
         failed to validate item 1: property \"conf\" is required when \"name\" is set",
    );
    refuses(
        Kind::GraphqlCost,
        json!({"field_path": "Query.a", "add_value": -1}),
        "property \"add_value\" validation failed: expected -1 to be at least 0",
    );
    assert!(checked(Kind::Secret, json!({"anything": 1})).is_ok());
}

#[test]
fn secrets() {
    let check = |manager: &str, mut value: Value| {
        schema::validator_of_secret(manager).unwrap().check(&mut value)
    };
    let refused = |text: &str| Err(text.to_owned());
    assert_eq!(
        check("vault", json!({"uri": "127.0.0.1:8200", "prefix": "a", "token": "b"})),
        refused(
            "property \"uri\" validation failed: failed to match pattern \
             \"^[^\\\\/]+:\\\\/\\\\/([\\\\da-zA-Z.-]+|\\\\[[\\\\da-fA-F:]+\\\\])(:\\\\d+)?\" \
             with \"127.0.0.1:8200\"",
        )
    );
    assert_eq!(
        check("vault", json!({"uri": "http://[::1]:8200", "prefix": "a", "token": "b"})),
        Ok(())
    );
    assert_eq!(
        check("aws", json!({"access_key_id": "a"})),
        refused("property \"secret_access_key\" is required")
    );
    assert_eq!(
        check("gcp", json!({})),
        refused("value should match only one schema, but matches none")
    );
    assert_eq!(
        check("gcp", json!({"auth_config": {"client_email": "a", "private_key": "b"}})),
        refused("property \"auth_config\" validation failed: property \"project_id\" is required")
    );
}

/// JSON with a taste for what resources hold.
fn resource_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1..70_000i64).prop_map(Value::from),
        (0..3i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[*/a:.\\[\\]0-9 é$]{0,8}".prop_map(Value::from),
        proptest::sample::select(vec![
            "GET",
            "http",
            "https",
            "roundrobin",
            "chash",
            "rewrite",
            "/a",
            "a:80",
            "$env://A"
        ])
        .prop_map(Value::from),
    ];
    let names = vec![
        "id",
        "name",
        "desc",
        "labels",
        "uri",
        "uris",
        "host",
        "hosts",
        "methods",
        "priority",
        "status",
        "timeout",
        "upstream",
        "upstream_id",
        "nodes",
        "retries",
        "retry_timeout",
        "keepalive_pool",
        "type",
        "scheme",
        "pass_host",
        "upstream_host",
        "weight",
        "port",
        "connect",
        "send",
        "read",
        "plugins",
        "checks",
        "active",
        "tls",
        "size",
        "other",
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        let entry = (proptest::sample::select(names.clone()), inner.clone());
        let object = proptest::collection::vec(entry, 0..6).prop_map(|entries| {
            let own = |(name, value): (&str, Value)| (name.to_owned(), value);
            Value::Object(entries.into_iter().map(own).collect::<Map<_, _>>())
        });
        prop_oneof![proptest::collection::vec(inner, 0..4).prop_map(Value::from), object]
    })
}

/// A few fields, each likely to fit somewhere.
fn fields() -> impl Strategy<Value = Value> {
    let fitting = proptest::sample::select(vec![
        ("id", json!("a.b-c_1")),
        ("id", json!(7.0)),
        ("name", json!("é".repeat(256))),
        ("desc", json!("")),
        ("labels", json!({"env": "a", "": "b"})),
        ("priority", json!(-1.0)),
        ("status", json!(0)),
        ("status", json!(1.0)),
        ("host", json!("*.a.com")),
        ("host", json!("[::1]:80")),
        ("hosts", json!(["a", "*"])),
        ("methods", json!(["GET", "PURGE"])),
        ("methods", json!([])),
        ("timeout", json!({"connect": 0.5, "send": 1, "read": 1e9})),
        ("plugins", json!({})),
        ("nodes", json!([{"host": "a", "weight": 0}, {"host": "b", "port": 1, "weight": 2.0}])),
        ("nodes", json!({"a:1": 0, "b": 1})),
        ("retries", json!(0)),
        ("retry_timeout", json!(0.5)),
        ("keepalive_pool", json!({"size": 1, "idle_timeout": 0})),
        ("pass_host", json!("node")),
        ("scheme", json!("http")),
        ("type", json!("roundrobin")),
        ("create_time", json!(1)),
    ]);
    let own = |(name, value): (&str, Value)| (name.to_owned(), value);
    let fitting = fitting.prop_map(own);
    let random = (
        proptest::sample::select(vec!["name", "labels", "host", "nodes", "timeout"]),
        resource_json(),
    )
        .prop_map(own);
    let field = prop_oneof![6 => fitting, 1 => random];
    proptest::collection::vec(field, 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
}

/// With what a route or upstream cannot do without.
fn framed(mut value: Value, frame: Value) -> Value {
    if let (Value::Object(map), Value::Object(frame)) = (&mut value, frame) {
        for (name, needed) in frame {
            map.entry(name).or_insert(needed);
        }
    }
    value
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 65_536, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn any_json_is_taken_or_refused_with_a_reason(value in resource_json()) {
        for kind in Kind::ALL {
            let mut value = value.clone();
            match schema::validator(kind).check(&mut value) {
                Err(reason) => prop_assert!(!reason.is_empty()),
                Ok(()) => {
                    let filled = value.clone();
                    prop_assert_eq!(schema::validator(kind).check(&mut value), Ok(()));
                    prop_assert_eq!(value, filled, "defaults are written once");
                }
            }
        }
    }

    #[test]
    fn what_the_type_of_a_route_takes_the_schema_takes(fields in fields()) {
        let frame = json!({"uri": "/a*", "upstream": {"nodes": {"127.0.0.1:80": 1}}});
        let route = framed(fields, frame);
        prop_assume!(Route::from_json(&route).is_ok());
        prop_assert_eq!(checked(Kind::Route, route).map(|_| ()), Ok(()));
    }

    #[test]
    fn what_the_type_of_an_upstream_takes_the_schema_takes(fields in fields()) {
        let upstream = framed(fields, json!({"nodes": {"127.0.0.1:80": 1}}));
        prop_assume!(Upstream::from_json(&upstream).is_ok());
        prop_assert_eq!(checked(Kind::Upstream, upstream).map(|_| ()), Ok(()));
    }
}
