//! Bad input: a 4xx with a reason, and nothing stored.

use axum::body::Body;
use futures_util::stream;
use serde_json::{Value, json};

use super::super::testing::{ADMIN_KEY, Bench};
use super::route;

/// Paths and verbs that take a body.
const WRITES: [(&str, &str); 14] = [
    ("PUT", "/routes/1"),
    ("POST", "/routes"),
    ("PATCH", "/routes/1"),
    ("PATCH", "/routes/1/uri"),
    ("PUT", "/services/1"),
    ("PUT", "/upstreams/1"),
    ("PUT", "/consumers/jack"),
    ("PUT", "/consumers/jack/credentials/1"),
    ("PUT", "/consumer_groups/1"),
    ("PUT", "/global_rules/1"),
    ("PUT", "/plugin_configs/1"),
    ("PUT", "/plugin_metadata/x"),
    ("PUT", "/secrets/vault/1"),
    ("PUT", "/services/1/graphql_cost_decorations/1"),
];

async fn refused(bench: &Bench, method: &str, path: &str, body: Vec<u8>) {
    let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
    let headers = [("x-api-key", ADMIN_KEY)];
    let answer = bench.raw(method, path, &headers, Body::from(body)).await;
    assert!((400..500).contains(&answer.status), "{method} {path} {shown}: {answer:?}");
    let json = answer.json();
    let reason = json["error_msg"].as_str().or(json["message"].as_str());
    assert!(reason.is_some_and(|reason| !reason.is_empty()), "{method} {path} {shown}: {answer:?}");
}

#[tokio::test]
async fn bodies_that_are_not_json() {
    let bench = Bench::new();
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let nested = format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000));
    for (method, path) in WRITES {
        for body in [
            b"{".to_vec(),
            b"{abc}".to_vec(),
            b"{\"uri\":\"/\"} trailing".to_vec(),
            b"\xff\xfe".to_vec(),
            b"{\"uri\":\"\xff\"}".to_vec(),
            b"{\"priority\":1e999}".to_vec(),
            b"{\"uri\":\"\\ud800\"}".to_vec(),
            deep.clone().into_bytes(),
            nested.clone().into_bytes(),
        ] {
            refused(&bench, method, path, body).await;
        }
    }
    assert_eq!(bench.store.paths(), [""; 0]);
    let answer = bench.send("PUT", "/routes/1", "{abc}").await;
    assert!(answer.error().1.starts_with("invalid request body: "));
    assert_eq!(answer.json()["req_body"], "{abc}");
}

#[tokio::test]
async fn bodies_that_are_no_objects() {
    let bench = Bench::new();
    for (method, path) in WRITES {
        for body in ["", "null", "1", "\"text\"", "[]", "[{}]", "true"] {
            if path != "/routes/1/uri" || body.is_empty() {
                refused(&bench, method, path, body.as_bytes().to_vec()).await;
            }
        }
    }
    assert_eq!(bench.store.paths(), [""; 0]);
    let missing = bench.send("PUT", "/routes/1", "").await;
    assert_eq!(missing.error(), (400, "missing configurations".to_owned()));
}

#[tokio::test]
async fn ids_that_are_no_ids() {
    let bench = Bench::new();
    let body = route("/").to_string();
    for id in [
        "%24",
        "a%20b",
        "a%0Ab",
        "%E2%82%AC",
        "%00",
        "%ff",
        ".",
        "..",
        "%2e%2e",
        "a%2Fb",
        "a;b",
        &"x".repeat(65),
        &"x".repeat(5000),
        "%F0%9F%98%80",
        "a%22b",
        "%7B%7D",
        "a*",
    ] {
        let put = bench.send("PUT", &format!("/routes/{id}"), &body).await;
        assert!((400..500).contains(&put.status), "{id}: {put:?}");
        for method in ["GET", "DELETE", "PATCH"] {
            let answer = bench.send(method, &format!("/routes/{id}"), "{}").await;
            assert!((400..500).contains(&answer.status), "{method} {id}: {answer:?}");
        }
    }
    for id in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(""),
        json!("a b"),
        json!("a/b"),
        json!([]),
        json!({}),
        json!(null),
        json!(true),
        json!(".."),
        json!("\u{0}"),
    ] {
        let mut route = route("/");
        route["id"] = id.clone();
        let put = bench.put("/routes", &route).await;
        assert_eq!(put.status, 400, "{id}: {put:?}");
    }
    assert_eq!(bench.store.paths(), [""; 0]);
    let wrong = bench.send("PUT", "/routes/a%20b", &body).await;
    let text = "invalid configuration: property \"id\" validation failed: object matches none of \
                the required";
    assert_eq!(wrong.error(), (400, text.to_owned()));
}

#[tokio::test]
async fn times_are_the_servers() {
    let bench = Bench::new();
    for (body, name) in [
        (json!({"create_time": 1}), "create_time"),
        (json!({"update_time": 1}), "update_time"),
        (json!({"upstream": {"create_time": 1}}), "upstream.create_time"),
        (json!({"plugins": {"update_time": 1}}), "plugins.update_time"),
    ] {
        let text = format!("the property is forbidden:  {name}");
        assert_eq!(bench.put("/routes/1", &body).await.error(), (400, text.clone()));
        let post = bench.send("POST", "/routes", &body.to_string()).await;
        assert_eq!(post.error(), (400, text));
    }
    assert_eq!(bench.store.paths(), [""; 0]);
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let bench = Bench::new();
    let body = json!({"uri": "/", "desc": "x".repeat(1_600_000)}).to_string();
    let text = format!(
        "invalid request body: request size {} is greater than the maximum size 1572864 allowed",
        body.len()
    );
    assert_eq!(bench.send("PUT", "/routes/1", &body).await.error(), (400, text.clone()));

    let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
        body.as_bytes().chunks(10_000).map(|chunk| Ok(chunk.to_vec())).collect();
    let streamed = Body::from_stream(stream::iter(chunks));
    let headers = [("x-api-key", ADMIN_KEY)];
    let answer = bench.raw("PUT", "/routes/1", &headers, streamed).await;
    assert_eq!(answer.error(), (400, text));

    let announced = [("x-api-key", ADMIN_KEY), ("content-length", "9999999999")];
    let answer = bench.raw("PUT", "/routes/1", &announced, Body::empty()).await;
    assert_eq!(answer.status, 400);
    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 100_000]));
    let answer = bench.raw("PUT", "/routes/1", &headers, Body::from_stream(endless)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(bench.store.paths(), [""; 0]);
}

#[tokio::test]
async fn paths_that_do_not_exist() {
    let bench = Bench::new();
    let body = route("/").to_string();
    for (method, path, status) in [
        ("GET", "", 404),
        ("GET", "/", 404),
        ("PUT", "/routs/1", 404),
        ("PUT", "/routes/1/uri", 404),
        ("PUT", "/credentials/1", 404),
        ("POST", "/schema/route", 404),
        ("PUT", "/plugins/x", 404),
        ("HEAD", "/routes", 404),
        ("TRACE", "/routes/1", 404),
    ] {
        assert_eq!(bench.send(method, path, &body).await.status, status, "{method} {path}");
    }
    let wrong = bench.get("/routs").await;
    assert_eq!(wrong.error(), (404, "Unsupported resource type: routs".to_owned()));
    assert_eq!(bench.store.paths(), [""; 0]);
}

#[tokio::test]
async fn a_name_that_occurs_twice_counts_once() {
    let bench = Bench::new();
    let body = r#"{"uri":"/a","uri":"/b","upstream":{"nodes":{"a:80":1}}}"#;
    assert_eq!(bench.send("PUT", "/routes/1", body).await.status, 201);
    assert_eq!(bench.store.value("routes/1")["uri"], Value::from("/b"));
}
