use axum::http::StatusCode;
use serde_json::{Value, json};

use super::router;
use crate::control::testing::{KEPT, World, get, post};

fn route(uri: &str) -> Value {
    json!({"uri": uri, "plugins": {}})
}

fn vault(token: &str) -> Value {
    json!({"id": "vault/1", "uri": "http://v", "prefix": "p", "token": token})
}

/// Revisions: 1 creates routes/1, 2 changes it, 3 creates secrets/vault/1, 4 deletes routes/1.
fn world() -> World {
    let world = World::new();
    world.put("routes/1", &route("/one"));
    world.put("routes/1", &route("/two"));
    world.put("secrets/vault/1", &vault("secret"));
    world.delete("routes/1");
    world
}

#[tokio::test]
async fn the_history_is_listed_newest_first() {
    let world = world();
    let router = router(world.plane.clone());
    let (status, body) = get(&router, "/history").await;
    assert_eq!(status, StatusCode::OK);
    let list = body["list"].as_array().unwrap();
    let short: Vec<Value> = list.iter().map(|e| json!([e["revision"], e["changes"]])).collect();
    let change = |key: &str, action: &str| json!([{"key": key, "action": action}]);
    let expected = [
        json!([4, change("routes/1", "deleted")]),
        json!([3, change("secrets/vault/1", "created")]),
        json!([2, change("routes/1", "updated")]),
        json!([1, change("routes/1", "created")]),
    ];
    assert_eq!(short, expected);
    assert_eq!(list[0]["time_ms"], 4000);
    assert_eq!(list[0]["author"], json!({"name": "", "address": ""}));
    assert_eq!(body["next_before"], Value::Null);
    let (_, body) = get(&router, "/history?limit=2").await;
    assert_eq!(body["next_before"], 3);
    let (_, body) = get(&router, "/history?limit=2&before=3").await;
    assert_eq!(body["list"][0]["revision"], 2);
    let (_, body) = get(&router, "/history?key=secrets/vault/1").await;
    assert_eq!(body["list"].as_array().unwrap().len(), 1);
    for query in ["limit=0", "limit=501", "limit=x", "key=nothing", "other=1"] {
        let (status, body) = get(&router, &format!("/history?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(body["error_msg"].is_string());
    }
}

#[tokio::test]
async fn an_entry_is_shown_with_values_but_without_secrets() {
    let world = world();
    let router = router(world.plane.clone());
    let (_, body) = get(&router, "/history/2").await;
    let change = json!({
        "key": "routes/1", "action": "updated", "before": route("/one"), "after": route("/two"),
    });
    assert_eq!(body["changes"], json!([change]));
    world.put("secrets/vault/1", &vault("other"));
    let (_, body) = get(&router, "/history/5").await;
    let shown = vault("(hidden)");
    let change = json!({
        "key": "secrets/vault/1", "action": "updated", "before": shown, "after": shown,
        "hidden_changed": true,
    });
    assert_eq!(body["changes"], json!([change]));
    assert_eq!(get(&router, "/history/77").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&router, "/history/x").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_diff_is_the_net_change() {
    let world = world();
    let router = router(world.plane.clone());
    let (_, body) = get(&router, "/history/diff?from=1&to=2").await;
    let change = json!({
        "key": "routes/1", "action": "updated", "before": route("/one"), "after": route("/two"),
    });
    assert_eq!(body, json!({"from": 1, "to": 2, "changes": [change]}));
    let (_, body) = get(&router, "/history/diff?from=2&to=1").await;
    assert_eq!(body["changes"][0]["after"], route("/one"));
    let (_, body) = get(&router, "/history/diff?from=1").await;
    let actions: Vec<_> =
        body["changes"].as_array().unwrap().iter().map(|c| &c["action"]).collect();
    assert_eq!(actions, ["deleted", "created"]);
    let (_, body) = get(&router, "/history/diff?from=0&to=4").await;
    assert_eq!(body["changes"].as_array().unwrap().len(), 1, "routes/1 came and went");
    let (status, body) = get(&router, "/history/diff?from=1&to=9").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["error_msg"], "revision 9 does not exist, the newest is 4");
}

#[tokio::test]
async fn rolling_back_is_one_commit() {
    let world = world();
    let router = router(world.plane.clone());
    let request = json!({"revision": 1, "dry_run": true});
    let (status, body) = post(&router, "/rollback", &request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        (&body["created"], &body["deleted"]),
        (&json!(["routes/1"]), &json!(["secrets/vault/1"]))
    );
    assert_eq!(world.store.commits(), 4);
    let (_, body) = post(&router, "/rollback", &json!({"revision": 1})).await;
    assert_eq!((&body["revision"], &body["rolled_back_to"]), (&json!(5), &json!(1)));
    assert_eq!(world.stored("routes/1"), Some(route("/one")));
    assert_eq!(world.stored("secrets/vault/1"), None);
    let (_, entry) = get(&router, "/history/5").await;
    assert_eq!(entry["author"]["name"], "rollback to 1 by ");
    // And back again.
    post(&router, "/rollback", &json!({"revision": 4})).await;
    assert_eq!(world.stored("routes/1"), None);
    assert_eq!(world.stored("secrets/vault/1").unwrap()["token"], "secret");
    let (_, body) = post(&router, "/rollback", &json!({"revision": 6})).await;
    assert_eq!((&body["revision"], &body["created"]), (&json!(6), &json!([])));
    assert_eq!(world.store.commits(), 6, "nothing to do is no commit");
}

#[tokio::test]
async fn what_cannot_be_rolled_back_to_is_refused() {
    let world = world();
    let router = router(world.plane.clone());
    let (status, body) = post(&router, "/rollback", &json!({"revision": 9})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["error_msg"], "revision 9 does not exist, the newest is 4");
    for round in 0..2 * KEPT {
        world.put("routes/2", &route(&format!("/{round}")));
    }
    let (status, body) = post(&router, "/rollback", &json!({"revision": 1})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = body["error_msg"].as_str().unwrap();
    assert!(message.contains("is the oldest that can be asked for"), "{message}");
    assert_eq!(post(&router, "/rollback", &json!({})).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn references_hold_after_a_rollback() {
    let world = World::new();
    world.put("upstreams/u", &json!({"nodes": {}}));
    world.put("routes/1", &json!({"uri": "/", "upstream_id": "u"}));
    // As etcdctl would, which asks nobody.
    world.put("routes/1", &route("/"));
    world.delete("upstreams/u");
    let router = router(world.plane.clone());
    assert_eq!(post(&router, "/rollback", &json!({"revision": 3})).await.0, StatusCode::OK);
    world.put("routes/2", &json!({"uri": "/", "upstream_id": "u"}));
    let (status, body) = post(&router, "/rollback", &json!({"revision": 4})).await;
    assert_eq!(status, StatusCode::OK, "what refers to it goes with it: {body}");
    world.put("services/s", &json!({}));
    let revision = world.plane.state().revision();
    world.delete("services/s");
    assert_eq!(
        post(&router, "/rollback", &json!({ "revision": revision })).await.0,
        StatusCode::OK
    );
    world.put("routes/3", &json!({"uri": "/", "service_id": "s"}));
    let (_, entries) = get(&router, "/history?key=services/s&limit=1").await;
    let restored = entries["list"][0]["revision"].as_u64().unwrap();
    let (status, _) = post(&router, "/rollback", &json!({"revision": restored - 1})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(world.stored("services/s"), None);
    assert_eq!(world.stored("routes/3"), None);
}
