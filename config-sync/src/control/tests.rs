use std::sync::Arc;

use axum::http::{Method, StatusCode};
use osmia_core::resource::{Key, Kind};
use osmia_core::snapshot::Snapshot;
use serde_json::{Value, json};

use super::testing::{World, call, get};
use super::{router, status_router};
use crate::state::{Quarantined, Serving};

const UPSTREAM: &str = r#"{"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}"#;

fn upstream() -> Value {
    serde_json::from_str(UPSTREAM).unwrap()
}

#[tokio::test]
async fn resources_are_shown_with_their_wrapping() {
    let world = World::new();
    world.put("services/200", &json!({"upstream": upstream(), "create_time": 5}));
    world.put("routes/1", &json!({"uris": ["/hello"], "upstream": upstream()}));
    world.put("upstreams/u", &json!({"nodes": [{"host": "foo.com", "port": 80, "weight": 1}]}));
    let router = router(world.plane.clone());
    let (status, routes) = get(&router, "/v1/routes").await;
    assert_eq!(status, StatusCode::OK);
    let nodes = json!([{"host": "127.0.0.1", "port": 1980, "weight": 1}]);
    assert_eq!(routes.as_array().unwrap().len(), 1);
    assert_eq!(routes[0]["key"], "/apisix/routes/1");
    assert_eq!(routes[0]["value"]["id"], "1");
    assert_eq!(routes[0]["value"]["uris"], json!(["/hello"]));
    assert_eq!(routes[0]["value"]["upstream"]["nodes"], nodes);
    let indexes = ["createdIndex", "modifiedIndex", "orig_modifiedIndex"];
    assert_eq!(indexes.map(|name| routes[0][name].clone()), [json!(2), json!(2), json!(2)]);
    assert_eq!(routes[0]["has_domain"], false);
    assert_eq!(get(&router, "/v1/route/1").await, (StatusCode::OK, routes[0].clone()));
    let (_, services) = get(&router, "/v1/services").await;
    assert_eq!(services[0]["value"]["create_time"], 5);
    assert_eq!(get(&router, "/v1/service/200").await.1, services[0]);
    let (_, shown) = get(&router, "/v1/upstream/u").await;
    assert_eq!(shown["has_domain"], true);
    assert_eq!(get(&router, "/v1/upstreams").await.1, json!([shown]));
}

#[tokio::test]
async fn what_does_not_exist_is_said_in_apisix_words() {
    let world = World::new();
    let router = router(world.plane.clone());
    for (uri, text) in [
        ("/v1/route/2", "route[2] not found"),
        ("/v1/service/2", "service[2] not found"),
        ("/v1/upstream/3", "upstream[3] not found"),
        ("/v1/plugin_metadata/batch-requests", "plugin metadata[batch-requests] not found"),
        ("/v1/healthcheck/routes/1", "routes[1] not found"),
        ("/v1/healthcheck/routes", "missing src id for src type routes"),
        ("/v1/discovery/eureka/dump", "discovery eureka is not enabled or has no dump"),
        ("/v2/routes", "no endpoint /v2/routes of the Control API"),
    ] {
        let answer = get(&router, uri).await;
        assert_eq!(answer, (StatusCode::NOT_FOUND, json!({ "error_msg": text })), "{uri}");
    }
    let (status, _) = call(&router, Method::DELETE, "/v1/routes", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "as APISIX's router, which knows no 405");
    for uri in ["/v1/routes", "/v1/services", "/v1/upstreams", "/v1/healthcheck"] {
        assert_eq!(call(&router, Method::GET, uri, None).await.1, "{}\n", "Lua's empty list");
    }
}

#[tokio::test]
async fn health_of_a_resource_with_checks() {
    let world = World::new();
    let checks = json!({"active": {"type": "tcp"}});
    world.put("upstreams/1", &json!({"nodes": {}, "checks": checks}));
    world.put("upstreams/2", &json!({"nodes": {}}));
    let router = router(world.plane.clone());
    let shown = json!({"name": "/apisix/upstreams/1", "nodes": {}, "type": "tcp"});
    assert_eq!(get(&router, "/v1/healthcheck").await.1, json!([shown]));
    assert_eq!(get(&router, "/v1/healthcheck/upstreams/1").await.1, shown);
    let error = json!({"error_msg": "no checker for upstreams[2]"});
    assert_eq!(get(&router, "/v1/healthcheck/upstreams/2").await.1, error);
    let error = json!({"error_msg": "invalid src type route"});
    let answer = get(&router, "/v1/healthcheck/route/1").await;
    assert_eq!(answer, (StatusCode::BAD_REQUEST, error));
}

#[tokio::test]
async fn gc_and_reload_are_accepted() {
    let world = World::new();
    let router = router(world.plane.clone());
    assert_eq!(call(&router, Method::POST, "/v1/gc", None).await.0, StatusCode::OK);
    let answer = call(&router, Method::PUT, "/v1/plugins/reload", None).await;
    assert_eq!(answer, (StatusCode::OK, "done".into()));
}

#[tokio::test]
async fn the_status_tells_of_store_workers_and_quarantine() {
    let world = World::new();
    world.put("routes/1", &json!({"uri": "/"}));
    let first = world.plane.publisher.subscribe().unwrap();
    let _second = world.plane.publisher.subscribe().unwrap();
    world.plane.publisher.publish(Arc::new(Snapshot { revision: 7, ..Snapshot::default() }));
    first.installed.set(7);
    let item = Quarantined {
        modified: 1,
        reason: "property \"uri\" is required".to_owned(),
        serving: Serving::LastValid,
    };
    let key = Key::new(Kind::Route, "1");
    world.plane.state.write().unwrap().quarantine.insert(key, item);
    let (_, status) = get(&router(world.plane.clone()), "/v1/osmia/status").await;
    let expected = json!({
        "store": {
            "name": "the store of this test", "writable": true, "reachable": true,
            "problem": null, "from_copy": false, "revision": 1,
        },
        "snapshot": {
            "revision": 7,
            "workers": [{"id": 0, "revision": 7}, {"id": 1, "revision": 0}],
        },
        "quarantined": [{
            "key": "routes/1", "revision": 1, "reason": "property \"uri\" is required",
            "serving": "last valid version",
        }],
    });
    assert_eq!(status, expected);
}

#[tokio::test]
async fn probes() {
    let world = World::new();
    let router = status_router(world.plane.clone(), 1);
    let ok = (StatusCode::OK, json!({"status": "ok"}));
    assert_eq!(get(&router, "/status").await, ok);
    let feed = world.plane.publisher.subscribe().unwrap();
    let (status, body) = get(&router, "/status/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let error = "worker id: 0 has not received configuration";
    assert_eq!(body, json!({"status": "error", "error": error}));
    feed.installed.set(1);
    assert_eq!(get(&router, "/status/ready").await, ok);
}

#[tokio::test]
async fn metrics_are_in_prometheus_text_format() {
    let world = World::new();
    world.put("routes/1", &json!({"uri": "/"}));
    world.put("upstreams/1", &json!({}));
    let feed = world.plane.publisher.subscribe().unwrap();
    feed.installed.set(3);
    let router = status_router(world.plane.clone(), 1);
    let (_, page) = call(&router, Method::GET, "/metrics", None).await;
    let page = String::from_utf8(page.to_vec()).unwrap();
    for line in [
        "# TYPE apisix_etcd_reachable gauge",
        "apisix_etcd_reachable 1",
        "apisix_etcd_modify_indexes{key=\"routes\"} 1",
        "apisix_etcd_modify_indexes{key=\"upstreams\"} 2",
        "apisix_etcd_modify_indexes{key=\"max_modify_index\"} 2",
        "osmia_config_revision 2",
        "osmia_config_snapshot_revision{worker=\"0\"} 3",
        "osmia_config_quarantined 0",
        "osmia_config_from_copy 0",
        "osmia_config_refused 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn schemas_are_shown_as_apisix_groups_them() {
    let world = World::new();
    let (_, shown) = get(&router(world.plane.clone()), "/v1/schema").await;
    for (name, kind) in [("consumer", "object"), ("plugins", "array"), ("route", "object")] {
        assert_eq!(shown["main"][name]["type"], kind, "{name}");
    }
    assert_eq!(shown["main"]["upstream_hash_vars_schema"]["type"], "string");
    assert_eq!(shown["main"].as_object().unwrap().len(), 14);
    assert_eq!((&shown["plugins"], &shown["stream_plugins"]), (&json!({}), &json!({})));
}
