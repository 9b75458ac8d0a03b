use std::sync::Arc;

use axum::http::StatusCode;
use osmia_core::rules::{Rules, UnknownPlugins};
use serde_json::{Value, json};

use super::router;
use crate::control::testing::{World, get, post};
use crate::plane::Plane;
use crate::store::{Op, Transaction};

fn upstream() -> Value {
    json!({"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}})
}

/// A route without an upstream is valid when it has plugins, even none.
fn route(uri: &str) -> Value {
    json!({"uri": uri, "plugins": {}})
}

fn put(key: &str, value: Value) -> Value {
    json!({ "key": key, "value": value })
}

fn errors(body: &Value) -> Vec<(&str, &str)> {
    let list = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter().map(|e| (e["key"].as_str().unwrap(), e["error"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_set_is_one_commit() {
    let world = World::new();
    world.put("routes/old", &json!({"uri": "/old", "id": "old"}));
    let router = router(world.plane.clone());
    let request = json!({
        "put": [
            put("routes/1", json!({"uri": "/", "upstream_id": "u"})),
            put("upstreams/u", upstream()),
        ],
        "delete": ["routes/old", "routes/never"],
    });
    let (status, body) = post(&router, "/transaction", &request).await;
    let expected = json!({
        "dry_run": false, "revision": 2, "unchanged": 1,
        "created": ["routes/1", "upstreams/u"], "updated": [], "deleted": ["routes/old"],
    });
    assert_eq!((status, &body["revision"]), (StatusCode::OK, &json!(2)), "{body}");
    let mut sorted = body.clone();
    sorted["created"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
    assert_eq!(sorted, expected);
    assert_eq!(world.store.commits(), 2);
    let stored = world.stored("routes/1").unwrap();
    assert_eq!((&stored["id"], &stored["upstream_id"]), (&json!("1"), &json!("u")));
    assert!(stored["create_time"].is_u64() && stored["update_time"].is_u64());
    assert_eq!(world.stored("routes/old"), None);
}

#[tokio::test]
async fn the_same_set_again_changes_nothing() {
    let world = World::new();
    let router = router(world.plane.clone());
    let mut changed = route("/");
    let set = |route: &Value| json!({"put": [put("routes/1", route.clone())]});
    post(&router, "/transaction", &set(&changed)).await;
    let (_, body) = post(&router, "/transaction", &set(&changed)).await;
    assert_eq!((&body["unchanged"], &body["revision"]), (&json!(1), &json!(1)));
    assert_eq!(world.store.commits(), 1);
    let created = world.stored("routes/1").unwrap()["create_time"].clone();
    changed["desc"] = "changed".into();
    let (_, body) = post(&router, "/transaction", &set(&changed)).await;
    assert_eq!(body["updated"], json!(["routes/1"]));
    assert_eq!(world.stored("routes/1").unwrap()["create_time"], created);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done() {
    let world = World::new();
    world.put("routes/1", &route("/old"));
    let router = router(world.plane.clone());
    let request = json!({
        "put": [put("routes/1", route("/")), put("routes/2", route("/2"))],
        "dry_run": true,
    });
    let (status, body) = post(&router, "/transaction", &request).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&body["created"], &body["updated"]), (&json!(["routes/2"]), &json!(["routes/1"])));
    assert_eq!(world.store.commits(), 1);
}

#[tokio::test]
async fn replacing_deletes_what_is_not_named() {
    let world = World::new();
    world.put("upstreams/u", &upstream());
    world.put("routes/1", &json!({"uri": "/", "upstream_id": "u"}));
    world.put("consumers/jack", &json!({"username": "jack"}));
    world.put("consumers/jack/credentials/c", &json!({"plugins": {}}));
    let router = router(world.plane.clone());
    let request = json!({"put": [put("routes/1", route("/"))], "replace": true});
    let (_, body) = post(&router, "/transaction", &request).await;
    let mut deleted: Vec<_> = body["deleted"].as_array().unwrap().clone();
    deleted.sort_by_key(ToString::to_string);
    assert_eq!(deleted, ["consumers/jack", "consumers/jack/credentials/c", "upstreams/u"]);
    assert_eq!(body["updated"], json!(["routes/1"]));
}

#[tokio::test]
async fn every_problem_is_named_and_nothing_is_written() {
    let world = World::new();
    world.put("upstreams/u", &upstream());
    world.put("routes/r", &json!({"uri": "/", "upstream_id": "u"}));
    let router = router(world.plane.clone());
    let request = json!({
        "put": [
            put("routes/1", json!({"uri": "/", "id": "2"})),
            put("routes/2", json!("x")),
            put("routes/3", json!({"uri": "/", "create_time": 1})),
            put("consumers/jack", json!({"username": "joe"})),
            put("routes/a b", route("/")),
            put("routes/good", route("/")),
        ],
    });
    let (status, body) = post(&router, "/transaction", &request).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["error_msg"], "5 resources are refused; nothing was written");
    let errors = errors(&body);
    let wrong_type = "invalid configuration: wrong type: expected object, got string";
    let begins = [
        ("routes/1", "wrong route id"),
        ("routes/2", wrong_type),
        ("routes/3", "the property is forbidden:  create_time"),
        ("consumers/jack", "wrong username"),
        ("routes/a b", "invalid configuration: property \"id\" validation failed"),
    ];
    assert_eq!(errors.len(), begins.len());
    for ((key, error), (expected, begin)) in errors.iter().zip(begins) {
        assert!(*key == expected && error.starts_with(begin), "{key}: {error}");
    }
    assert_eq!(world.store.commits(), 2);
}

#[tokio::test]
async fn references_must_hold_afterwards() {
    let world = World::new();
    world.put("upstreams/u", &upstream());
    world.put("routes/r", &json!({"uri": "/", "upstream_id": "u"}));
    let router = router(world.plane.clone());
    for (request, key, error) in [
        (
            json!({"put": [put("routes/1", json!({"uri": "/", "service_id": "s"}))]}),
            "routes/1",
            "it refers to services/s, which does not exist",
        ),
        (
            json!({"delete": ["upstreams/u"]}),
            "upstreams/u",
            "it cannot be deleted, routes/r still refers to it",
        ),
        (
            json!({
                "put": [put("routes/1", json!({"uri": "/", "upstream_id": "u"}))],
                "delete": ["upstreams/u", "routes/r"],
            }),
            "routes/1",
            "it refers to upstreams/u, which does not exist",
        ),
    ] {
        let (status, body) = post(&router, "/transaction", &request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(errors(&body), [(key, error)]);
    }
    let request = json!({"delete": ["upstreams/u", "routes/r"]});
    assert_eq!(post(&router, "/transaction", &request).await.0, StatusCode::OK);
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason() {
    let world = World::new();
    let router = router(world.plane.clone());
    let example =
        "it is not the key of a resource, such as routes/1 or consumers/jack/credentials/1";
    for (request, key, error) in [
        (json!({"delete": ["routes"]}), "routes", example),
        (json!({"put": [put("nonsense/1", json!({}))]}), "nonsense/1", example),
        (json!({"delete": ["routes/1", "/routes/1"]}), "/routes/1", "it is named more than once"),
    ] {
        let (status, body) = post(&router, "/transaction", &request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(errors(&body), [(key, error)]);
    }
    for request in [json!([]), json!({"puts": []}), json!({"put": [{"key": "a"}]}), json!(null)] {
        let (status, body) = post(&router, "/transaction", &request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let message = body["error_msg"].as_str().unwrap();
        assert!(message.starts_with("invalid request body: "), "{message}");
    }
    assert_eq!(world.store.commits(), 0);
}

fn somebody_else(path: &str) -> Transaction {
    let value = route("/else").to_string().into();
    let op = Op::Put { path: path.to_owned(), value, ttl: None };
    Transaction { ops: vec![op], ..Transaction::default() }
}

#[tokio::test]
async fn a_lost_race_is_run_again_unless_a_revision_is_expected() {
    let world = World::new();
    world.put("routes/1", &route("/old"));
    let router = router(world.plane.clone());
    let set = |uri: &str| json!({"put": [put("routes/1", route(uri))]});
    world.store.race(somebody_else("routes/1"));
    let (status, body) = post(&router, "/transaction", &set("/a")).await;
    assert_eq!((status, &body["revision"]), (StatusCode::OK, &json!(3)), "{body}");
    let mut expecting = set("/b");
    expecting["expect_revision"] = 3.into();
    world.store.race(somebody_else("routes/1"));
    let (status, _) = post(&router, "/transaction", &expecting).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(world.stored("routes/1").unwrap()["uri"], "/else");
    let (status, body) = post(&router, "/transaction", &expecting).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let text = "the configuration was changed after revision 3: now it is 4";
    assert_eq!(body["error_msg"], text);
    expecting["expect_revision"] = 4.into();
    let (status, body) = post(&router, "/transaction", &expecting).await;
    assert_eq!((status, &body["revision"]), (StatusCode::OK, &json!(5)));
}

#[tokio::test]
async fn an_export_can_be_applied_again() {
    let world = World::new();
    let router = router(world.plane.clone());
    let set = json!({"put": [
        put("routes/1", json!({"uri": "/", "upstream_id": "u"})),
        put("upstreams/u", upstream()),
        put("consumers/jack", json!({"username": "jack"})),
        put("secrets/vault/1", json!({"uri": "http://v", "prefix": "p", "token": "t"})),
    ]});
    assert_eq!(post(&router, "/transaction", &set).await.0, StatusCode::OK);
    let (status, exported) = get(&router, "/export").await;
    assert_eq!((status, &exported["revision"]), (StatusCode::OK, &json!(1)));
    let keys: Vec<_> = exported["items"].as_array().unwrap().iter().map(|i| &i["key"]).collect();
    assert_eq!(keys, ["secrets/vault/1", "upstreams/u", "consumers/jack", "routes/1"]);
    let again = json!({"put": exported["items"], "replace": true});
    let (status, body) = post(&router, "/transaction", &again).await;
    assert_eq!((status, &body["unchanged"]), (StatusCode::OK, &json!(4)), "{body}");
    assert_eq!(world.store.commits(), 1);
}

#[tokio::test]
async fn what_one_only_may_say_is_said_by_one_only() {
    let world = World::new();
    let rule = json!({"plugins": {"prometheus": {}}});
    world.put("global_rules/1", &rule);
    let rules = Rules { unknown: UnknownPlugins::Skip, ..Rules::default() };
    let router = router(Plane { rules: Arc::new(rules), ..world.plane.clone() });
    let taken = "plugin 'prometheus' already exists in global rule with id '1'";
    let request = json!({"put": [put("global_rules/2", rule.clone())]});
    let (status, body) = post(&router, "/transaction", &request).await;
    assert_eq!((status, errors(&body)), (StatusCode::BAD_REQUEST, vec![("global_rules/2", taken)]));
    let request = json!({
        "put": [put("global_rules/1", rule.clone()), put("global_rules/2", rule.clone())],
    });
    let (_, body) = post(&router, "/transaction", &request).await;
    assert_eq!(errors(&body), [("global_rules/2", taken)]);
    let request = json!({"put": [put("global_rules/2", rule)], "delete": ["global_rules/1"]});
    let (status, body) = post(&router, "/transaction", &request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}
