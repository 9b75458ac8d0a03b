//! Health checks from a configuration to what workers see, with real nodes that die and come back.
//!
//! The shortest interval is a second, so a test takes a few. None measures time: each waits for
//! what has to happen, and fails when it does not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod gateway;
mod node;

use std::net::SocketAddr;
use std::time::Duration;

use gateway::{Gateway, down};
use node::{Answer, Node, self_signed};
use osmia_core::health::Outcome;
use osmia_tests::eventually;
use serde_json::{Value, json};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks every second: down after two failures, up after two successes.
fn checks(active: Value) -> Value {
    let mut all = json!({
        "healthy": {"interval": 1, "successes": 2},
        "unhealthy": {"interval": 1, "http_failures": 2, "tcp_failures": 2, "timeouts": 2},
    });
    merge(&mut all, active);
    json!({ "active": all })
}

fn merge(into: &mut Value, from: Value) {
    into.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
}

/// `/a` by the upstream `u` with these nodes and checks.
fn resources(nodes: &[&Node], checks: Value) -> Value {
    let nodes: Vec<Value> = nodes.iter().map(|node| entry("127.0.0.1", node.addr)).collect();
    json!({
        "routes": [{"id": "r", "uri": "/a", "upstream_id": "u"}],
        "upstreams": [{"id": "u", "nodes": nodes, "checks": checks}],
    })
}

fn entry(host: &str, addr: SocketAddr) -> Value {
    json!({"host": host, "port": addr.port(), "weight": 1})
}

#[test]
fn a_node_that_dies_is_down_until_it_has_recovered() {
    let (steady, mut mortal) = (Node::new(), Node::new());
    let gateway = Gateway::new(&resources(&[&steady, &mortal], checks(json!({}))));
    // Nobody has sent a request, and it is probed nevertheless.
    let request = mortal.request();
    assert!(request.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"), "{request}");
    assert!(down(&gateway.current(), "/a").is_empty());
    mortal.die();
    gateway.until_down("/a", &[mortal.addr]);
    let shown = gateway.nodes("/v1/healthcheck/upstreams/u");
    assert_eq!(shown[0]["status"], "healthy");
    let expected = json!({
        "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": mortal.addr.port(),
        "status": "unhealthy",
        "counter": {"success": 0, "http_failure": 0, "tcp_failure": 2, "timeout_failure": 0},
    });
    assert_eq!(shown[1], expected);
    let metric = gateway.metric("apisix_upstream_status{");
    let line = |node: &Node, up: u8| {
        let port = node.addr.port();
        format!(
            "apisix_upstream_status{{name=\"/upstreams/u\",ip=\"127.0.0.1\",port=\"{port}\"}} {up}"
        )
    };
    assert_eq!(metric, [line(&steady, 1), line(&mortal, 0)]);
    mortal.revive();
    gateway.until_down("/a", &[]);
    eventually("it is wholly healthy", || {
        let shown = gateway.nodes("/v1/healthcheck/upstreams/u");
        shown[1]["status"] == "healthy" && shown[1]["counter"]["success"] == 2
    });
}

#[test]
fn statuses_count_as_configured() {
    let (bad, odd, junk) = (Node::new(), Node::new(), Node::new());
    bad.answer(Answer::Status(418));
    odd.answer(Answer::Status(404));
    junk.answer(Answer::Junk);
    let unhealthy = json!({"interval": 1, "http_statuses": [418], "http_failures": 2});
    let checks = checks(json!({"unhealthy": unhealthy, "http_method": "POST",
                               "http_path": "/status", "http_req_body": "hello",
                               "req_headers": ["X-Probe: yes"]}));
    let gateway = Gateway::new(&resources(&[&bad, &odd, &junk], checks));
    let head = bad.request();
    for line in ["POST /status HTTP/1.1\r\n", "\r\nX-Probe: yes\r\n", "\r\nContent-Length: 5\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    gateway.until_down("/a", &[bad.addr, junk.addr]);
    let shown = gateway.nodes("/v1/healthcheck/upstreams/u");
    assert_eq!(shown[0]["counter"]["http_failure"], 2);
    assert_eq!(shown[1]["status"], "healthy", "404 is in neither list");
    bad.answer(Answer::Status(200));
    gateway.until_down("/a", &[junk.addr]);
}

#[test]
fn a_node_that_never_answers_runs_into_the_timeout() {
    let (silent, closing) = (Node::new(), Node::new());
    silent.answer(Answer::Silence);
    closing.answer(Answer::Close);
    let nodes = [&silent, &closing];
    let gateway = Gateway::new(&resources(&nodes, checks(json!({"timeout": 0.2}))));
    gateway.until_down("/a", &[silent.addr, closing.addr]);
    let shown = gateway.nodes("/v1/healthcheck/upstreams/u");
    let zero = json!({"success": 0, "http_failure": 0, "tcp_failure": 0, "timeout_failure": 0});
    for (node, counter) in shown.iter().zip(["timeout_failure", "tcp_failure"]) {
        let mut expected = zero.clone();
        expected[counter] = 2.into();
        assert_eq!(node["counter"], expected);
    }
}

#[test]
fn connecting_is_enough_for_tcp() {
    let (mut silent, steady) = (Node::new(), Node::new());
    silent.answer(Answer::Silence);
    let gateway = Gateway::new(&resources(&[&silent, &steady], checks(json!({"type": "tcp"}))));
    assert_eq!(silent.request(), "", "nothing is sent");
    silent.die();
    gateway.until_down("/a", &[silent.addr]);
    silent.revive();
    gateway.until_down("/a", &[]);
}

#[test]
fn certificates_are_verified_unless_told_otherwise() {
    let (tls, pem) = self_signed(&["node.test"]);
    let node = Node::with(Some(tls));
    let https = |verify: bool, host: &str| {
        checks(json!({"type": "https", "https_verify_certificate": verify, "host": host}))
    };
    let of = |checks| resources(&[&node], checks);
    let gateway = Gateway::new(&of(https(true, "node.test")));
    gateway.until_down("/a", &[node.addr]);
    let counter = &gateway.nodes("/v1/healthcheck/upstreams/u")[0]["counter"];
    assert_eq!(counter["tcp_failure"], 2, "as lua-resty-healthcheck counts it: {counter}");
    gateway.change(&of(https(false, "node.test")));
    gateway.until_down("/a", &[]);
    assert!(node.next_request().contains("\r\nHost: node.test\r\n"));
    drop(gateway);
    // Known to the operator it is as good as any, but only for its name.
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, pem).unwrap();
    let trusted = json!({"ssl": {"ssl_trusted_certificate": authority}});
    let gateway = Gateway::with(&of(https(true, "other.test")), &trusted);
    gateway.until_down("/a", &[node.addr]);
    gateway.change(&of(https(true, "node.test")));
    gateway.until_down("/a", &[]);
}

#[test]
fn connections_with_tls_are_kept_until_the_checks_change() {
    let (tls, _) = self_signed(&["node.test"]);
    let node = Node::with(Some(tls));
    node.answer(Answer::Kept);
    let of = |host: &str| {
        let https = json!({"type": "https", "https_verify_certificate": false, "host": host});
        resources(&[&node], checks(https))
    };
    let gateway = Gateway::new(&of("a.test"));
    for _ in 0..3 {
        assert!(node.request().contains("\r\nHost: a.test\r\n"));
    }
    assert_eq!(node.connections(), 1);
    gateway.change(&of("b.test"));
    eventually("it is asked for by its new name", || {
        node.next_request().contains("\r\nHost: b.test\r\n")
    });
    assert_eq!(node.connections(), 2);
    assert_eq!(gateway.nodes("/v1/healthcheck/upstreams/u")[0]["status"], "healthy");
}

#[test]
fn edits_keep_what_is_known_and_removal_forgets_it() {
    let (steady, mut mortal) = (Node::new(), Node::new());
    let gateway = Gateway::new(&resources(&[&steady, &mortal], checks(json!({}))));
    mortal.die();
    gateway.until_down("/a", &[mortal.addr]);
    // In the first snapshot with the change, not later. No probe can have ended in between that
    // would say otherwise: the node is still dead.
    gateway.change(&resources(&[&mortal, &steady], checks(json!({"http_path": "/other"}))));
    assert_eq!(down(&gateway.current(), "/a"), [mortal.addr]);
    assert!(steady.next_request().starts_with("GET /"));
    gateway.change(&resources(&[&mortal, &steady], Value::Null));
    assert!(down(&gateway.current(), "/a").is_empty());
    let (status, body) = gateway.control("/v1/healthcheck/upstreams/u", "*/*");
    assert_eq!((status, body.trim()), (404, r#"{"error_msg":"no checker for upstreams[u]"}"#));
    gateway.change(&resources(&[&mortal, &steady], checks(json!({}))));
    assert!(down(&gateway.current(), "/a").is_empty(), "it begins anew");
    gateway.until_down("/a", &[mortal.addr]);
}

#[test]
fn upstreams_inline_are_checked_like_others() {
    let (mut mortal, steady) = (Node::new(), Node::new());
    mortal.die();
    let upstream = |first: &Node| {
        let nodes = [entry("127.0.0.1", first.addr), entry("127.0.0.1", steady.addr)];
        json!({"nodes": nodes, "checks": checks(json!({}))})
    };
    let all = |first: &Node| {
        json!({
            "routes": [{"id": "r", "uri": "/a", "upstream": upstream(first)},
                       {"id": "s", "uri": "/b", "service_id": "v"}],
            "services": [{"id": "v", "upstream": upstream(first)}],
        })
    };
    let gateway = Gateway::new(&all(&mortal));
    gateway.until_down("/a", &[mortal.addr]);
    gateway.until_down("/b", &[mortal.addr]);
    for (path, name) in [("routes/r", "/routes/r"), ("services/v", "/services/v")] {
        let (_, body) = gateway.control(&format!("/v1/healthcheck/{path}"), "*/*");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["name"], &body["type"]), (&json!(name), &json!("http")));
        assert_eq!(body["nodes"][0]["status"], "unhealthy");
    }
    let (_, page) = gateway.control("/v1/healthcheck", "text/html");
    let row = format!("<td>{}</td><td>unhealthy</td>", mortal.addr);
    assert_eq!(page.matches(&row).count(), 2, "{page}");
    let (_, list) = gateway.control("/v1/healthcheck", "application/json");
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap().as_array().unwrap().len(), 2);
    gateway.change(&json!({"routes": [{"id": "r", "uri": "/a", "upstream": upstream(&steady)}]}));
    assert_eq!(gateway.metric("apisix_upstream_status{").len(), 1, "of what is left");
}

#[test]
fn nodes_are_asked_for_by_their_names() {
    let node = Node::new();
    let named = |host: &str, checks: Value| {
        let upstream = json!({"nodes": [entry(host, node.addr)], "checks": checks});
        json!({"routes": [{"id": "r", "uri": "/a", "upstream": upstream}]})
    };
    let gateway = Gateway::new(&named("localhost", checks(json!({}))));
    assert!(node.request().contains("\r\nHost: localhost\r\n"));
    let shown = gateway.nodes("/v1/healthcheck/routes/r");
    assert_eq!(shown[0]["hostheader"], "localhost");
    assert_eq!(shown[0]["hostname"], "127.0.0.1");
    gateway.change(&named("localhost", checks(json!({"host": "given.test"}))));
    eventually("the name that is given", || {
        node.next_request().contains("\r\nHost: given.test\r\n")
    });
    let elsewhere = Node::new();
    let port = json!({"port": elsewhere.addr.port()});
    gateway.change(&named("127.0.0.1", checks(port)));
    assert!(elsewhere.request().contains("\r\nHost: 127.0.0.1\r\n"), "at the port that is given");
}

#[test]
fn workers_reports_count() {
    let (node, other) = (Node::new(), Node::new());
    // Probes leave it alone: every status is in neither list.
    let none = json!({"interval": 1, "http_statuses": [599]});
    let mut checks = checks(json!({"healthy": none, "unhealthy": none}));
    checks["passive"] = json!({
        "healthy": {"http_statuses": [200], "successes": 2},
        "unhealthy": {"http_statuses": [503], "http_failures": 3, "tcp_failures": 1},
    });
    let gateway = Gateway::new(&resources(&[&node, &other], checks));
    let passive = gateway::upstream(&gateway.current(), "/a").passive.clone().unwrap();
    assert!(passive.judge(Outcome::Status(503)).is_some());
    gateway.report("/a", node.addr, Outcome::Status(503), 1);
    let slot = gateway::upstream(&gateway.current(), "/a").slot;
    gateway.until("successes are asked for", |snapshot| {
        snapshot.health.counted(slot).is_some_and(|counted| counted.contains(0))
    });
    assert!(down(&gateway.current(), "/a").is_empty());
    gateway.report("/a", node.addr, Outcome::Status(503), 2);
    gateway.until_down("/a", &[node.addr]);
    gateway.report("/a", other.addr, Outcome::TcpFailure, 1);
    gateway.until_down("/a", &[node.addr, other.addr]);
    gateway.report("/a", node.addr, Outcome::Status(200), 2);
    gateway.until_down("/a", &[other.addr]);
}

#[test]
fn checks_can_be_switched_off() {
    let mut dead = Node::new();
    dead.die();
    let mut checks = checks(json!({}));
    checks["passive"] = json!({"unhealthy": {"tcp_failures": 1}});
    let off = json!({"disable_upstream_healthcheck": true});
    let gateway = Gateway::with(&resources(&[&dead], checks), &off);
    assert!(gateway::upstream(&gateway.current(), "/a").passive.is_none());
    gateway.report("/a", dead.addr, Outcome::TcpFailure, 9);
    assert!(gateway.nodes("/v1/healthcheck/upstreams/u").is_empty());
    assert!(gateway.metric("apisix_upstream_status{").is_empty());
}
