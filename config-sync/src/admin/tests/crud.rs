//! One resource: made, read, changed, deleted.

use serde_json::{Value, json};

use super::super::testing::Bench;
use super::{route, upstream};
use crate::store::{Op, StoreError};

#[tokio::test]
async fn a_route_is_made_read_changed_and_deleted() {
    let bench = Bench::new();
    let made = bench.put("/routes/1", &route("/a")).await;
    assert_eq!(made.status, 201);
    let body = made.json();
    assert_eq!(body["key"], "/apisix/routes/1");
    assert_eq!(body["value"]["id"], "1");
    assert!(body["value"]["create_time"].is_u64() && body["value"]["update_time"].is_u64());
    assert_eq!(bench.store.value("routes/1"), body["value"]);
    assert_eq!(bench.put("/routes/1", &route("/b")).await.status, 200);

    let read = bench.get("/routes/1").await;
    assert_eq!(read.status, 200);
    assert!(read.body.ends_with('\n'));
    let read = read.json();
    assert_eq!(read["value"]["uri"], "/b");
    assert_eq!((&read["createdIndex"], &read["modifiedIndex"]), (&json!(1), &json!(2)));

    let gone = bench.send("DELETE", "/routes/1", "").await;
    let expected = json!({"deleted": "1", "key": "/apisix/routes/1"});
    assert_eq!((gone.status, gone.json()), (200, expected));
    let gone = bench.send("DELETE", "/routes/1", "").await;
    assert_eq!((gone.status, gone.json()), (404, json!({"message": "Key not found"})));
    assert_eq!(bench.get("/routes/1").await.json(), json!({"message": "Key not found"}));
}

#[tokio::test]
async fn defaults_are_not_stored() {
    let bench = Bench::new();
    bench.put("/routes/1", &route("/a")).await;
    let mut expected = route("/a");
    let stored = bench.store.value("routes/1");
    for name in ["id", "create_time", "update_time"] {
        expected[name] = stored[name].clone();
    }
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn the_time_of_creation_stays() {
    let bench = Bench::new();
    bench.store.seed("routes/1", r#"{"uri":"/","create_time":17,"update_time":18}"#);
    let put = bench.put("/routes/1", &route("/a")).await.json();
    assert_eq!(put["value"]["create_time"], 17);
    assert!(put["value"]["update_time"].as_u64().unwrap() > 18);
    let patch = bench.send("PATCH", "/routes/1", r#"{"uri":"/b"}"#).await.json();
    assert_eq!(patch["value"]["create_time"], 17);
    let patch = bench.send("PATCH", "/routes/1", r#"{"update_time":99}"#).await.json();
    assert_eq!(patch["value"]["update_time"], 99);
    let patch = bench.send("PATCH", "/routes/1/uri", "\"/c\"").await.json();
    assert!(patch["value"]["update_time"].as_u64().unwrap() > 99);
}

#[tokio::test]
async fn the_id_is_the_paths_or_the_bodys() {
    let bench = Bench::new();
    let with = |id: Value| {
        let mut route = route("/a");
        route["id"] = id;
        route
    };
    assert_eq!(bench.put("/routes/1", &with(json!(1))).await.json()["value"]["id"], "1");
    assert_eq!(bench.put("/routes", &with(json!(2))).await.json()["value"]["id"], 2);
    assert_eq!(bench.put("/routes/", &with(json!("x"))).await.json()["key"], "/apisix/routes/x");
    for (path, body, error) in [
        ("/routes/1", with(json!("2")), "wrong route id"),
        ("/routes/1", with(json!({})), "wrong route id"),
        ("/routes", route("/a"), "missing route id"),
        ("/plugin_configs", json!({"plugins": {}}), "missing plugin config id"),
    ] {
        assert_eq!(bench.put(path, &body).await.error(), (400, error.to_owned()), "{path}");
    }
    assert_eq!(bench.store.paths(), ["routes/1", "routes/2", "routes/x"]);
}

#[tokio::test]
async fn post_gives_an_id() {
    let bench = Bench::new();
    let made = bench.send("POST", "/routes", &route("/a").to_string()).await;
    assert_eq!(made.status, 201);
    let id = made.json()["value"]["id"].as_str().unwrap().to_owned();
    assert_eq!((id.len(), id.parse::<u64>().unwrap()), (20, 1));
    assert_eq!(bench.store.paths(), ["gen_id".to_owned(), format!("routes/{id}")]);
    let second = bench.send("POST", "/routes", &route("/a").to_string()).await;
    assert_ne!(second.json()["value"]["id"], id);

    let text = "wrong route id, do not need it".to_owned();
    let named = bench.send("POST", "/routes/1", &route("/a").to_string()).await;
    assert_eq!(named.error(), (400, text.clone()));
    let mut body = route("/a");
    body["id"] = json!("1");
    assert_eq!(bench.send("POST", "/routes", &body.to_string()).await.error(), (400, text));
    assert_eq!(bench.store.paths().len(), 3);
}

#[tokio::test]
async fn patch_merges_or_replaces_a_node() {
    let bench = Bench::new();
    bench.put("/routes/1", &route("/a")).await;
    let change = r#"{"upstream":{"nodes":{"127.0.0.1:1980":null,"b:80":2}},"desc":"new"}"#;
    let patch = bench.send("PATCH", "/routes/1", change).await;
    assert_eq!((patch.status, &patch.json()["key"]), (200, &json!("/apisix/routes/1")));
    assert_eq!(bench.store.value("routes/1")["upstream"]["nodes"], json!({"b:80": 2}));
    let patch = bench.send("PATCH", "/routes/1", r#"{"desc":null}"#).await;
    assert!(patch.json()["value"].get("desc").is_none());
    bench.send("PATCH", "/routes/1/upstream/nodes", r#"{"c:80":1}"#).await;
    assert_eq!(bench.store.value("routes/1")["upstream"]["nodes"], json!({"c:80": 1}));
    for (path, body, status, error) in [
        ("/routes/1/uri/x", "1", 400, "invalid sub-path: /uri"),
        ("/routes/1", "", 400, "missing new configuration"),
        ("/routes/1", "[1]", 400, "invalid configuration"),
        ("/routes/1", r#"{"id":"2"}"#, 400, "wrong route id"),
        ("/routes", "{}", 400, "missing route id"),
        ("/secrets/vault", "{}", 400, "no secret id"),
    ] {
        let answer = bench.send("PATCH", path, body).await;
        assert_eq!(answer.error(), (status, error.to_owned()), "{path} {body}");
    }
    let missing = bench.send("PATCH", "/routes/9", "{}").await;
    assert_eq!((missing.status, missing.json()), (404, json!({"message": "Key not found"})));
}

#[tokio::test]
async fn ttl_becomes_a_lease() {
    let bench = Bench::new();
    let body = route("/a").to_string();
    bench.send("PUT", "/routes/1?ttl=7", &body).await;
    bench.send("POST", "/routes?ttl=8", &body).await;
    bench.send("PATCH", "/routes/1?ttl=9", "{}").await;
    bench.send("PUT", "/routes/1", &body).await;
    let (commits, _) = bench.store.traffic();
    let ttl = |op: &Op| match op {
        Op::Put { ttl, .. } => *ttl,
        Op::Delete { .. } => None,
    };
    let ttls: Vec<_> = commits.iter().map(|commit| ttl(&commit.ops[0])).collect();
    assert_eq!(ttls, [Some(7), None, Some(8), Some(9), None]);
    let wrong = bench.send("PUT", "/routes/1?ttl=abc", &body).await;
    let text = "invalid argument ttl: should be a number";
    assert_eq!(wrong.error(), (400, text.to_owned()));
}

#[tokio::test]
async fn references_must_exist() {
    let bench = Bench::new();
    let put = |path: &'static str, body: Value| {
        let bench = &bench;
        async move { bench.put(path, &body).await.error() }
    };
    let refused = |text: &str| (400, text.to_owned());
    assert_eq!(
        put("/routes/1", json!({"uri": "/", "upstream_id": "9999999999"})).await,
        refused("failed to fetch upstream info by upstream id [9999999999], response code: 404")
    );
    assert_eq!(
        put("/routes/1", json!({"uri": "/", "service_id": 7})).await,
        refused("failed to fetch service info by service id [7], response code: 404")
    );
    assert_eq!(
        put("/routes/1", json!({"uri": "/", "plugins": {}, "plugin_config_id": "not_found"})).await,
        refused(
            "failed to fetch plugin config info by plugin config id [not_found], response code: 404"
        )
    );
    assert_eq!(
        put("/services/1", json!({"upstream_id": "u"})).await,
        refused("failed to fetch upstream info by upstream id [u], response code: 404")
    );
    assert_eq!(
        put("/consumers", json!({"username": "jack", "group_id": "g"})).await,
        refused("failed to fetch consumer group info by consumer group id [g], response code: 404")
    );
    let mut tls = upstream();
    tls["tls"] = json!({"client_cert_id": "9999999"});
    assert_eq!(
        put("/upstreams/1", tls).await,
        refused("failed to fetch ssl info by ssl id [9999999], response code: 404")
    );
    assert_eq!(bench.store.paths(), [""; 0]);

    let post = json!({"uri": "/", "upstream_id": "9"}).to_string();
    assert_eq!(bench.send("POST", "/routes", &post).await.status, 400);
    assert_eq!(bench.store.paths(), [""; 0]);
}

#[tokio::test]
async fn a_client_certificate_is_one() {
    let bench = Bench::new();
    bench.store.seed("ssls/1", r#"{"id":"1","type":"server"}"#);
    bench.store.seed("ssls/2", r#"{"id":"2","type":"client"}"#);
    let with = |id: &str| {
        let mut tls = upstream();
        tls["tls"] = json!({"client_cert_id": id});
        tls
    };
    let text = "failed to fetch ssl info by ssl id [1], wrong ssl type";
    assert_eq!(bench.put("/upstreams/1", &with("1")).await.error(), (400, text.to_owned()));
    let other = bench.put("/upstreams/1", &with("2")).await.error();
    assert!(!other.1.contains("ssl id"), "{other:?}");
}

#[tokio::test]
async fn what_is_in_use_stays_unless_forced() {
    let bench = Bench::new();
    bench.put("/upstreams/1", &upstream()).await;
    bench.put("/services/1", &json!({"upstream_id": "1"})).await;
    bench.put("/plugin_configs/1", &json!({"plugins": {}})).await;
    let body = json!({"uri": "/", "upstream_id": 1, "service_id": "1", "plugin_config_id": "1"});
    assert_eq!(bench.put("/routes/1", &body).await.status, 201);
    for (path, error) in [
        ("/upstreams/1", "can not delete this upstream, route [1] is still using it now"),
        ("/services/1", "can not delete this service directly, route [1] is still using it now"),
        ("/plugin_configs/1", "can not delete this plugin config, route [1] is still using it now"),
    ] {
        let refused = bench.send("DELETE", path, "").await;
        assert_eq!(refused.error(), (400, error.to_owned()));
        let wrong = bench.send("DELETE", &format!("{path}?force=1"), "").await;
        assert_eq!(wrong.status, 400);
    }
    bench.send("DELETE", "/routes/1", "").await;
    let refused = bench.send("DELETE", "/upstreams/1", "").await;
    let error = "can not delete this upstream, service [1] is still using it now";
    assert_eq!(refused.error(), (400, error.to_owned()));
    let forced = bench.send("DELETE", "/upstreams/1?force=true", "").await;
    assert_eq!(forced.json(), json!({"deleted": "1", "key": "/apisix/upstreams/1"}));
    assert_eq!(bench.send("DELETE", "/services/1", "").await.status, 200);
}

#[tokio::test]
async fn a_plugin_that_names_an_upstream_or_proto_keeps_it() {
    let bench = Bench::new();
    bench.put("/upstreams/1", &upstream()).await;
    let split = r#"{"id":"1","plugins":{"traffic-split":{"rules":[{"weighted_upstreams":
        [{"upstream_id":1}]}]}}}"#;
    for (path, name) in [
        ("routes/1", "route [1]"),
        ("services/1", "service [1]"),
        ("plugin_configs/1", "plugin_config [1]"),
        ("consumers/test", "consumer [test]"),
        ("consumer_groups/1", "consumer_group [1]"),
        ("global_rules/1", "global_rules [1]"),
    ] {
        bench.store.seed(path, split);
        let refused = bench.send("DELETE", "/upstreams/1", "").await;
        let error = format!("can not delete this upstream, plugin in {name} is still using it now");
        assert_eq!(refused.error(), (400, error));
        assert_eq!(bench.send("DELETE", &format!("/{path}?force=true"), "").await.status, 200);
    }
    bench.store.seed("protos/1", r#"{"content":""}"#);
    bench.store.seed("routes/1", r#"{"plugins":{"grpc-transcode":{"proto_id":1}}}"#);
    let refused = bench.send("DELETE", "/protos/1", "").await;
    let error = "can not delete this proto, route [1] is still using it now";
    assert_eq!(refused.error(), (400, error.to_owned()));
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_said() {
    let body = route("/a").to_string();
    for (error, status, text) in [
        (StoreError::Unavailable("connection refused".to_owned()), 503, "connection refused"),
        (
            StoreError::ReadOnly("apisix.yaml".to_owned()),
            405,
            "the configuration comes from apisix.yaml and cannot be changed here",
        ),
        (StoreError::Refused("too large".to_owned()), 400, "too large"),
    ] {
        let bench = Bench::new();
        bench.store.go_down(error);
        for (method, path) in [("PUT", "/routes/1"), ("POST", "/routes"), ("DELETE", "/routes/1")] {
            let answer = bench.send(method, path, &body).await;
            assert_eq!(answer.error(), (status, text.to_owned()), "{method}");
        }
        for (method, path) in [("GET", "/routes/1"), ("GET", "/routes"), ("PATCH", "/routes/1")] {
            assert_eq!(bench.send(method, path, "{}").await.status, status, "{method}");
        }
    }
}
