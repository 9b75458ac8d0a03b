//! Schemas, plugins, and the check of a whole configuration.

use std::sync::Arc;

use axum::body::Body;
use osmia_core::plugin::{Descriptor, Registry};
use osmia_core::rules::Rules;
use serde_json::{Value, json};

use super::super::testing::{ADMIN_KEY, Bench, settings};
use super::route;

fn plugin(name: &'static str, priority: i32, auth: bool) -> Descriptor {
    Descriptor {
        name,
        priority,
        stream: false,
        schema: json!({"type": "object", "title": name}),
        consumer_schema: auth.then(|| json!({"type": "object", "title": "consumer"})),
        metadata_schema: None,
        check: None,
    }
}

fn with_plugins() -> Bench {
    let plugins = vec![
        plugin("limit-count", 1002, false),
        plugin("key-auth", 2500, true),
        plugin("cors", 4000, false),
    ];
    let plugins = Arc::new(Registry::new(plugins).unwrap());
    Bench::with(&settings(), Rules { plugins, ..Rules::default() })
}

#[tokio::test]
async fn schemas_are_served() {
    let bench = with_plugins();
    for name in ["route", "service", "upstream", "consumer", "ssl", "global_rule", "proto"] {
        let schema = bench.get(&format!("/schema/{name}")).await;
        assert_eq!((schema.status, &schema.json()["type"]), (200, &json!("object")), "{name}");
    }
    let unknown = bench.get("/schema/noexits").await;
    assert_eq!(unknown.error(), (400, "not found schema: noexits".to_owned()));
    let plugin = bench.get("/schema/plugins/limit-count").await;
    assert_eq!(plugin.json()["title"], "limit-count");
    let unknown = bench.get("/schema/plugins/no-exist").await;
    assert_eq!(unknown.error(), (404, "plugin not found in subsystem http".to_owned()));
}

#[tokio::test]
async fn a_body_is_checked_against_a_schema() {
    let bench = Bench::new();
    let good = bench.send("POST", "/schema/validate/routes", &route("/").to_string()).await;
    assert_eq!((good.status, good.body.as_str()), (200, ""));
    for (path, body, status, error) in [
        (
            "/schema/validate/routes",
            json!({"uri": 1}),
            400,
            "property \"uri\" validation failed: wrong type: expected string, got number",
        ),
        ("/schema/validate/routs", json!({}), 404, "Unsupported resource type: routs"),
        ("/schema/validate/secrets/x", json!({}), 400, "invalid secret manager: x"),
    ] {
        let answer = bench.send("POST", path, &body.to_string()).await;
        assert_eq!(answer.error(), (status, error.to_owned()), "{path}");
    }
    assert_eq!(bench.send("POST", "/schema/validate/routes", "").await.status, 400);
    assert_eq!(bench.send("POST", "/schema/validate/routes", "{").await.status, 400);
}

#[tokio::test]
async fn plugins_are_listed_by_priority() {
    let bench = with_plugins();
    let list = bench.get("/plugins/list").await;
    assert_eq!(list.json(), json!(["cors", "key-auth", "limit-count"]));
    assert_eq!(bench.get("/plugins/list?subsystem=stream").await.json(), json!([]));
    let wrong = bench.get("/plugins/list?subsystem=x").await;
    assert_eq!((wrong.status, wrong.body.as_str()), (400, "invalid subsystem passed"));

    assert_eq!(bench.get("/plugins/key-auth").await.json()["title"], "key-auth");
    let consumer = bench.get("/plugins/key-auth?schema_type=consumer").await;
    assert_eq!(consumer.json()["title"], "consumer");
    let none = bench.get("/plugins/cors?schema_type=consumer").await;
    assert_eq!(none.error(), (400, "not found schema".to_owned()));
    let stream = bench.get("/plugins/cors?subsystem=stream").await;
    assert_eq!(stream.error(), (404, "plugin not found in subsystem stream".to_owned()));
    let wrong = bench.get("/plugins/cors?subsystem=asdf").await;
    assert_eq!(wrong.error(), (400, "unsupported subsystem: asdf".to_owned()));

    let all = bench.get("/plugins?all=true").await.json();
    assert_eq!(all["cors"]["priority"], 4000);
    assert_eq!(all["key-auth"]["type"], "auth");
    assert_eq!(all["key-auth"]["consumer_schema"]["title"], "consumer");
}

#[tokio::test]
async fn plugins_are_reloaded_by_put_only() {
    let bench = Bench::new();
    let done = bench.send("PUT", "/plugins/reload", "").await;
    assert_eq!((done.status, done.body.as_str()), (200, "done"));
    for method in ["GET", "POST", "DELETE", "PATCH"] {
        let answer = bench.send(method, "/plugins/reload", "").await;
        let text =
            format!("please use PUT method to reload the plugins, {method} method is not allowed.");
        assert_eq!(answer.error(), (405, text));
    }
}

async fn validate(bench: &Bench, kind: &str, body: &str) -> (u16, Value) {
    let headers = [("x-api-key", ADMIN_KEY), ("content-type", kind)];
    let body = Body::from(body.to_owned());
    let answer = bench.raw("POST", "/configs/validate", &headers, body).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_whole_configuration_is_checked() {
    let bench = Bench::new();
    let mut r1 = route("/a");
    r1["id"] = json!("r1");
    let good = json!({"routes": [r1], "routes_conf_version": 3, "upstreams": [], "services": {}});
    assert_eq!(validate(&bench, "application/json", &good.to_string()).await, (200, json!({})));
    let yaml = "routes:\n  - id: r1\n    uri: /a\n    upstream:\n      nodes: {\"a:80\": 1}\n";
    assert_eq!(validate(&bench, "application/yaml", yaml).await, (200, json!({})));

    let bad = json!({
        "routes": [r1, r1], "routes_conf_version": "3", "secrets": [{"id": "1"}], "protos": "x",
        "consumers": [{"username": "c"}, {"username": "c"}, {"id": "c/credentials/1"}],
    });
    let (status, answer) = validate(&bench, "application/json", &bad.to_string()).await;
    assert_eq!((status, &answer["error_msg"]), (400, &json!("Configuration validation failed")));
    let errors = answer["errors"].as_array().unwrap();
    for expected in [
        json!({"resource_type": "routes", "error": "routes_conf_version must be a number, got string"}),
        json!({"resource_type": "routes", "resource_id": "r1", "index": 1,
            "error": "found duplicate id r1 in routes"}),
        json!({"resource_type": "consumers", "resource_id": "c", "index": 1,
            "error": "found duplicate username c in consumers"}),
        json!({"resource_type": "protos", "error": "protos must be an array, got string"}),
        json!({"resource_type": "secrets", "resource_id": "1", "index": 0,
            "error": "invalid secret id: 1"}),
    ] {
        assert!(errors.contains(&expected), "{expected} in {errors:?}");
    }
    assert_eq!(bench.store.paths(), [""; 0]);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_refused() {
    let bench = Bench::new();
    for (kind, body) in [
        ("application/json", ""),
        ("application/json", "{"),
        ("application/json", "[]"),
        ("application/yaml", "a: [1,"),
        ("application/yaml", "- 1"),
    ] {
        let (status, answer) = validate(&bench, kind, body).await;
        let text = answer["error_msg"].as_str().unwrap();
        assert!(status == 400 && text.starts_with("invalid request body: "), "{body}: {text}");
    }
    let (_, empty) = validate(&bench, "application/json", "").await;
    assert_eq!(empty["error_msg"], "invalid request body: empty request body");
}
