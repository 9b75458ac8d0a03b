//! Who may, and what every answer carries.

use axum::body::Body;
use osmia_core::rules::Rules;
use osmia_core::settings::AdminSettings;
use serde_json::json;

use super::super::testing::{ADMIN_KEY, Bench, VIEWER_KEY, settings};
use super::route;

fn refused(reason: &str) -> serde_json::Value {
    json!({"error_msg": "failed to check token", "description": reason})
}

#[tokio::test]
async fn the_key_is_taken_from_three_places() {
    let bench = Bench::new();
    let cookie = format!("a=b; x_api_key={ADMIN_KEY}");
    let argument = format!("/routes?api_key={ADMIN_KEY}");
    for (path, headers) in [
        ("/routes", vec![("X-API-KEY", ADMIN_KEY)]),
        ("/routes", vec![("cookie", cookie.as_str())]),
        (argument.as_str(), vec![]),
        // The argument counts before the header.
        (argument.as_str(), vec![("X-API-KEY", "wrong")]),
    ] {
        let answer = bench.raw("GET", path, &headers, Body::empty()).await;
        assert_eq!(answer.status, 200, "{path} {headers:?}");
    }
    let none = bench.raw("GET", "/routes", &[], Body::empty()).await;
    assert_eq!((none.status, none.json()), (401, refused("missing apikey")));
    for wrong in ["", "wrong", &ADMIN_KEY[1..], "\u{e9}"] {
        let answer = bench.raw("GET", "/routes", &[("x-api-key", wrong)], Body::empty()).await;
        assert_eq!((answer.status, answer.json()), (401, refused("wrong apikey")));
    }
}

#[tokio::test]
async fn every_path_is_behind_the_key() {
    let bench = Bench::new();
    for (method, path) in [
        ("GET", "/plugins/list"),
        ("PUT", "/plugins/reload"),
        ("GET", "/schema/route"),
        ("POST", "/schema/validate/routes"),
        ("POST", "/configs/validate"),
        ("GET", "/nothing"),
        ("PUT", "/routes/1"),
        ("HEAD", "/routes"),
    ] {
        let answer = bench.raw(method, path, &[], Body::from("{}")).await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
    assert_eq!(bench.raw("HEAD", "", &[], Body::empty()).await.status, 200);
}

#[tokio::test]
async fn a_viewer_only_looks() {
    let bench = Bench::new();
    let headers = [("x-api-key", VIEWER_KEY)];
    assert_eq!(bench.raw("GET", "/routes", &headers, Body::empty()).await.status, 200);
    for (method, path) in [
        ("PUT", "/routes/1"),
        ("POST", "/routes"),
        ("PATCH", "/routes/1"),
        ("DELETE", "/routes/1"),
        ("PUT", "/plugins/reload"),
        ("POST", "/configs/validate"),
    ] {
        let body = Body::from(route("/").to_string());
        let answer = bench.raw(method, path, &headers, body).await;
        let expected = (401, refused("invalid method for role viewer"));
        assert_eq!((answer.status, answer.json()), expected, "{method}");
    }
    assert_eq!(bench.store.paths(), [""; 0]);
}

#[tokio::test]
async fn keys_can_be_switched_off() {
    let open = AdminSettings { key_required: false, ..settings() };
    let bench = Bench::with(&open, Rules::default());
    let answer = bench.raw("PUT", "/routes/1", &[], Body::from(route("/").to_string())).await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn networks_that_are_not_allowed_get_403() {
    for (allow, status) in [
        (vec!["127.0.0.0/24"], 200),
        (vec!["10.0.0.0/8", "127.0.0.1"], 200),
        (vec!["10.0.0.0/8"], 403),
        (vec!["not a network"], 403),
    ] {
        let allow = allow.into_iter().map(str::to_owned).collect();
        let bench = Bench::with(&AdminSettings { allow, ..settings() }, Rules::default());
        assert_eq!(bench.get("/routes").await.status, status);
        let preflight = bench.raw("OPTIONS", "/routes", &[], Body::empty()).await;
        assert_eq!(preflight.status, status);
    }
}

#[tokio::test]
async fn every_answer_carries_the_headers() {
    let bench = Bench::new();
    let wrong = bench.raw("GET", "/routes", &[], Body::empty()).await;
    for answer in [bench.get("/routes").await, bench.get("/nothing").await, wrong] {
        let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("server"), Some("APISIX/3.18.0"));
        assert_eq!(header("x-api-version"), Some("v3"));
        assert_eq!(header("content-type"), Some("application/json"));
        assert_eq!(header("access-control-allow-origin"), Some("*"));
        assert_eq!(header("access-control-allow-credentials"), Some("true"));
        assert_eq!(header("access-control-expose-headers"), Some("*"));
        assert_eq!(header("access-control-max-age"), Some("3600"));
    }
}

#[tokio::test]
async fn a_browser_may_ask_first() {
    let bench = Bench::new();
    let answer = bench.raw("OPTIONS", "/routes/1", &[], Body::empty()).await;
    let header = |name: &str| answer.headers.get(name).unwrap().to_str().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let methods = "POST, GET, PUT, OPTIONS, DELETE, PATCH";
    assert_eq!(header("access-control-allow-methods"), methods);
    assert_eq!(header("access-control-allow-headers"), "*");
    assert_eq!(header("access-control-allow-origin"), "*");

    let plain = Bench::with(&AdminSettings { cors: false, ..settings() }, Rules::default());
    let answer = plain.raw("OPTIONS", "/routes/1", &[], Body::empty()).await;
    assert_eq!(answer.status, 401);
    assert!(plain.get("/routes").await.headers.get("access-control-allow-origin").is_none());
}
