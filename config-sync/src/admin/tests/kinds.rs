//! The kinds that differ from the others.

use osmia_core::rules::Rules;
use serde_json::{Value, json};

use super::super::testing::{Bench, settings};
use super::upstream;

#[tokio::test]
async fn verbs_that_a_kind_does_not_have() {
    let bench = Bench::with(&settings(), Rules { stream: true, ..Rules::default() });
    for (method, path, kind) in [
        ("POST", "/consumers", "consumer"),
        ("PATCH", "/consumers/jack", "consumer"),
        ("POST", "/consumers/jack/credentials", "credential"),
        ("PATCH", "/consumers/jack/credentials/1", "credential"),
        ("POST", "/consumer_groups", "consumer group"),
        ("POST", "/plugin_configs", "plugin config"),
        ("POST", "/global_rules", "global rule"),
        ("POST", "/plugin_metadata/x", "plugin_metadata"),
        ("PATCH", "/plugin_metadata/x", "plugin_metadata"),
        ("POST", "/secrets/vault", "secret"),
        ("PATCH", "/protos/1", "proto"),
        ("PATCH", "/stream_routes/1", "stream route"),
    ] {
        let answer = bench.send(method, path, "{}").await;
        let text = format!("not supported `{method}` method for {kind}");
        assert_eq!(answer.error(), (405, text), "{path}");
    }
}

#[tokio::test]
async fn members_of_every_kind_are_made_and_deleted() {
    let bench = Bench::with(&settings(), Rules { stream: true, ..Rules::default() });
    for (path, key, value) in [
        ("/services/1", "services/1", json!({"upstream": upstream()})),
        ("/upstreams/1", "upstreams/1", upstream()),
        ("/consumers/jack", "consumers/jack", json!({"username": "jack"})),
        ("/consumer_groups/1", "consumer_groups/1", json!({"plugins": {}})),
        ("/global_rules/1", "global_rules/1", json!({"plugins": {}})),
        ("/plugin_configs/1", "plugin_configs/1", json!({"plugins": {}})),
    ] {
        assert_eq!(bench.put(path, &value).await.status, 201, "{path}");
        assert_eq!(bench.put(path, &value).await.status, 200, "{path}");
        assert_eq!(bench.get(path).await.json()["key"], format!("/apisix/{key}"));
        let gone = bench.send("DELETE", path, "").await;
        assert_eq!(gone.json(), json!({"deleted": "1", "key": format!("/apisix/{key}")}));
    }
    assert_eq!(bench.store.paths(), [""; 0]);
}

#[tokio::test]
async fn a_consumer_is_named_by_its_username() {
    let bench = Bench::new();
    let made = bench.put("/consumers", &json!({"username": "jack"})).await;
    assert_eq!((made.status, &made.json()["key"]), (201, &json!("/apisix/consumers/jack")));
    assert_eq!(bench.put("/consumers/jack", &json!({"username": "jack"})).await.status, 200);
    for (path, body, error) in [
        ("/consumers/jill", json!({"username": "jack"}), "wrong username"),
        ("/consumers", json!({}), "invalid configuration: property \"username\" is required"),
        (
            "/consumers",
            json!({"username": 1}),
            "invalid configuration: property \"username\" validation failed: wrong type: expected \
             string, got number",
        ),
        (
            "/consumers",
            json!({"username": "a.b"}),
            "invalid configuration: property \"username\" validation failed: failed to match \
             pattern \"^[a-zA-Z0-9_\\-]+$\" with \"a.b\"",
        ),
    ] {
        assert_eq!(bench.put(path, &body).await.error(), (400, error.to_owned()));
    }
    assert_eq!(bench.store.paths(), ["consumers/jack"]);
    assert!(bench.store.value("consumers/jack").get("id").is_none());
}

#[tokio::test]
async fn credentials_live_and_die_with_their_consumer() {
    let bench = Bench::new();
    let credential = json!({"plugins": {}});
    let orphan = bench.put("/consumers/jack/credentials/c1", &credential).await;
    assert_eq!(orphan.error(), (404, "consumer not found".to_owned()));
    assert_eq!(bench.get("/consumers/jack/credentials").await.status, 404);

    bench.put("/consumers", &json!({"username": "jack"})).await;
    let made = bench.put("/consumers/jack/credentials/c1", &credential).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.json()["key"], "/apisix/consumers/jack/credentials/c1");
    assert_eq!(bench.get("/consumers/jack/credentials/c1").await.status, 200);
    let nameless = bench.put("/consumers/jack/credentials", &credential).await;
    assert_eq!(nameless.error(), (400, "missing credential id".to_owned()));
    bench.put("/consumers/jack/credentials/c2", &credential).await;
    assert_eq!(bench.send("DELETE", "/consumers/jack/credentials/c2", "").await.status, 200);

    bench.send("DELETE", "/consumers/jack", "").await;
    assert_eq!(bench.store.paths(), [""; 0]);
    let (commits, _) = bench.store.traffic();
    assert_eq!(commits.last().unwrap().ops.len(), 2);
}

#[tokio::test]
async fn secrets_belong_to_a_manager() {
    let bench = Bench::new();
    let vault = json!({"uri": "http://127.0.0.1:8200", "prefix": "kv", "token": "t"});
    let made = bench.put("/secrets/vault/1", &vault).await;
    assert_eq!((made.status, &made.json()["key"]), (201, &json!("/apisix/secrets/vault/1")));
    assert_eq!(bench.store.value("secrets/vault/1")["id"], "vault/1");
    assert_eq!(bench.get("/secrets").await.json()["total"], 1);
    let patch = bench.send("PATCH", "/secrets/vault/1/token", "\"u\"").await;
    assert_eq!((patch.status, &patch.json()["value"]["token"]), (200, &json!("u")));
    for (method, path, body, error) in [
        ("PUT", "/secrets/vault", vault.clone(), "missing secret id"),
        ("PUT", "/secrets", vault.clone(), "missing secret type"),
        ("DELETE", "/secrets/vault", Value::Null, "missing secret id"),
        ("PUT", "/secrets/vault/1", json!({"id": "vault/2"}), "wrong secret id"),
    ] {
        let answer = bench.send(method, path, &body.to_string()).await;
        assert_eq!(answer.error(), (400, error.to_owned()), "{method} {path}");
    }
    assert_eq!(bench.send("DELETE", "/secrets/vault/1", "").await.status, 200);
}

#[tokio::test]
async fn stream_routes_need_stream_mode() {
    let bench = Bench::new();
    let text = "stream mode is disabled, can not add stream routes";
    for method in ["GET", "PUT", "POST", "DELETE"] {
        let answer = bench.send(method, "/stream_routes/1", "{}").await;
        assert_eq!(answer.error(), (400, text.to_owned()));
    }
}

#[tokio::test]
async fn a_subordinate_stream_route_matches_its_superior() {
    let bench = Bench::with(&settings(), Rules { stream: true, ..Rules::default() });
    bench.store.seed("stream_routes/1", r#"{"id":"1","protocol":{"name":"redis"}}"#);
    let with = |name: &str, superior: &str| json!({"protocol": {"name": name, "superior_id": superior}, "upstream": upstream()});
    for (path, body, error) in [
        ("/stream_routes/2", with("redis", "2"), "stream route can not set itself as superior_id"),
        (
            "/stream_routes/2",
            with("redis", "999"),
            "failed to fetch stream routes[999], response code: 404",
        ),
        (
            "/stream_routes/2",
            with("dubbo", "1"),
            "protocol mismatch: subordinate protocol [dubbo] does not match superior protocol \
             [redis]",
        ),
    ] {
        let answer = bench.put(path, &body).await.error();
        assert_eq!(answer.0, 400, "{answer:?}");
        // No protocol exists in this version; its name is looked at before the superior is.
        let protocol = body["protocol"]["name"].as_str().unwrap();
        assert!([error, &format!("unknown protocol [{protocol}]")].contains(&answer.1.as_str()));
    }
    bench
        .store
        .seed("stream_routes/2", r#"{"id":"2","protocol":{"name":"redis","superior_id":"1"}}"#);
    let refused = bench.send("DELETE", "/stream_routes/1", "").await;
    let error = "can not delete this stream route directly, stream route [2] is still using it as \
                 superior_id";
    assert_eq!(refused.error(), (400, error.to_owned()));
}

#[tokio::test]
async fn cost_decorations_belong_to_a_service() {
    let bench = Bench::new();
    let decoration = json!({"field_path": "Query.products"});
    let path = "/services/1/graphql_cost_decorations";
    let orphan = bench.send("POST", path, &decoration.to_string()).await;
    assert_eq!(orphan.error(), (404, "service not found".to_owned()));
    bench.put("/services/1", &json!({})).await;
    let d1 = format!("{path}/d1");
    let body = json!({"field_path": "Query.products"});
    let made = bench.put(&d1, &body).await;
    assert_eq!((made.status, &made.json()["value"]["service_id"]), (201, &json!("1")), "{made:?}");
    let twice = bench.send("POST", path, &body.to_string()).await;
    let text = "field_path Query.products is already decorated on this service by [d1]";
    assert_eq!(twice.error(), (400, text.to_owned()));
    let other = bench.send("POST", path, r#"{"field_path":"Query.users"}"#).await;
    assert_eq!(other.status, 201);
    for (method, path, body, error) in [
        (
            "PUT",
            d1.clone(),
            r#"{"field_path":"Query.x","service_id":"2"}"#,
            "wrong service_id, it is taken from the path",
        ),
        ("PATCH", d1.clone(), r#"{"service_id":"1"}"#, "service_id can not be patched"),
        (
            "PATCH",
            d1.clone(),
            r#"{"field_path":"Query.users"}"#,
            "field_path Query.users is already decorated on this service by [",
        ),
        ("GET", "/graphql_cost_decorations".to_owned(), "", "missing service id"),
    ] {
        let (status, text) = bench.send(method, &path, body).await.error();
        assert!(status == 400 && text.starts_with(error), "{method} {path}: {text}");
    }
    assert_eq!(bench.send("PATCH", &d1, r#"{"field_path":"Query.x"}"#).await.status, 200);
    assert_eq!(bench.get(path).await.json()["total"], 2);
    bench.send("DELETE", "/services/1", "").await;
    assert_eq!(bench.store.paths(), ["gen_id"]);
}

#[tokio::test]
async fn plugin_metadata_is_named_by_its_plugin() {
    let bench = Bench::new();
    let nameless = bench.put("/plugin_metadata", &json!({})).await;
    assert_eq!(nameless.error(), (400, "missing plugin name".to_owned()));
    let odd = bench.put("/plugin_metadata/a%20b", &json!({})).await;
    assert_eq!(odd.error(), (400, "invalid plugin name".to_owned()));
    assert_eq!(bench.store.paths(), [""; 0]);
}

#[tokio::test]
async fn upstreams_are_spoken_to_over_tls() {
    let bench = Bench::new();
    let pair = || {
        let made = rcgen::generate_simple_self_signed(vec!["a.com".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let ((cert, key), (_, other)) = (pair(), pair());
    let with =
        |scheme: &str, tls: &Value| json!({"nodes": {"a:1": 1}, "scheme": scheme, "tls": tls});
    let own = json!({"client_cert": cert, "client_key": key});
    for (id, scheme, tls) in [
        ("1", "https", json!({})),
        ("2", "grpcs", json!({"verify": true})),
        ("3", "grpc", json!({})),
        ("4", "https", own),
    ] {
        let answer = bench.put(&format!("/upstreams/{id}"), &with(scheme, &tls)).await;
        assert_eq!(answer.status, 201, "{scheme} {:?}", answer.json());
    }
    let mixed = json!({"client_cert": cert, "client_key": other});
    let refused = bench.put("/upstreams/5", &with("https", &mixed)).await.error();
    assert_eq!(refused.0, 400);
    assert!(refused.1.contains("it does not belong to the certificate"), "{}", refused.1);
    let by_id = with("https", &json!({"client_cert_id": "c"}));
    assert_eq!(bench.put("/upstreams/6", &by_id).await.status, 400);
    let mut ssl = json!({"cert": cert, "key": key, "sni": "a.com"});
    assert_eq!(bench.put("/ssls/c", &ssl).await.status, 201);
    let refused = bench.put("/upstreams/6", &by_id).await.error();
    assert_eq!(refused, (400, "failed to fetch ssl info by ssl id [c], wrong ssl type".to_owned()));
    ssl["type"] = json!("client");
    assert_eq!(bench.put("/ssls/c", &ssl).await.status, 200);
    assert_eq!(bench.put("/upstreams/6", &by_id).await.status, 201);
    // As in APISIX, one in use can be deleted; requests that need it are answered with 502.
    assert_eq!(bench.send("DELETE", "/ssls/c", "").await.status, 200);
}
