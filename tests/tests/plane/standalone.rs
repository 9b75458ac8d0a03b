//! Standalone mode: a file of YAML or JSON, and the standalone Admin API.

use std::fs;

use osmia_tests::admin::KEY;
use osmia_tests::{Client, Config, Gateway, Message, Upstream, eventually};
use serde_json::{Value, json};

use crate::{json_of, refusal, serves};

const CONFIGS: &str = "/apisix/admin/configs";

fn item(id: &str, uri: &str, upstream: &Upstream) -> Value {
    json!({"id": id, "uri": uri, "upstream": {"nodes": {upstream.node(): 1}}})
}

/// Replaces a file in one step.
fn replace(gateway: &Gateway, name: &str, text: &str) {
    let fresh = gateway.file("fresh");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, gateway.file(name)).unwrap();
}

fn problem(gateway: &Gateway) -> Value {
    gateway.control().json("/v1/osmia/status")["store"]["problem"].clone()
}

/// Changes, mistakes and their correction in a file called `name`, whose text `write` makes.
fn follow_file(
    gateway: &Gateway,
    name: &str,
    write: &dyn Fn(&Value) -> String,
    upstream: &Upstream,
) {
    assert_eq!(gateway.get("/one").text(), "x");
    let one = item("1", "/one", upstream);
    replace(gateway, name, &write(&json!({"routes": [one, item("2", "/two", upstream)]})));
    serves(gateway, "/two", 200);
    assert_eq!(gateway.get("/one").status(), 200);
    // By the signal, without waiting for the next look.
    replace(gateway, name, &write(&json!({"routes": [item("2", "/three", upstream)]})));
    gateway.signal(libc::SIGHUP);
    serves(gateway, "/three", 200);
    assert_eq!((gateway.get("/one").status(), gateway.get("/two").status()), (404, 404));
    // A file that cannot be read as a whole changes nothing, and it is said.
    for broken in ["{\"routes\": [", "", "{\"routes\": 7}", "[1]"] {
        replace(gateway, name, broken);
        gateway.signal(libc::SIGHUP);
        eventually(&format!("{broken:?} is refused"), || problem(gateway).is_string());
        assert_eq!(gateway.get("/three").status(), 200, "{broken:?}");
        assert!(problem(gateway).as_str().unwrap().contains(name), "{}", problem(gateway));
        replace(gateway, name, &write(&json!({"routes": [item("2", "/three", upstream)]})));
        gateway.signal(libc::SIGHUP);
        eventually("it is right again", || problem(gateway).is_null());
    }
    fs::remove_file(gateway.file(name)).unwrap();
    gateway.signal(libc::SIGHUP);
    eventually("the file is missed", || problem(gateway).is_string());
    assert_eq!(gateway.get("/three").status(), 200);
    // One resource that is wrong keeps its last version; all others go on.
    let mut wrong = item("2", "/three", upstream);
    wrong["uri"] = json!(7);
    replace(gateway, name, &write(&json!({"routes": [wrong, item("4", "/four", upstream)]})));
    serves(gateway, "/four", 200);
    assert_eq!(gateway.get("/three").status(), 200);
    let status = gateway.control().json("/v1/osmia/status");
    assert_eq!(status["quarantined"][0]["key"], "routes/2");
    assert_eq!(status["quarantined"][0]["serving"], "last valid version");
    assert_eq!(status["store"]["writable"], false);
}

#[test]
fn a_yaml_file_is_followed() {
    let upstream = Upstream::answering("x");
    let gateway = Config::new().plane("yaml").route(item("1", "/one", &upstream)).start();
    let write = |document: &Value| format!("{document:#}\n#END\n");
    follow_file(&gateway, "apisix.yaml", &write, &upstream);
    // Without the mark at its end it may be half a file.
    let text = json!({"routes": [item("5", "/five", &upstream)]}).to_string();
    replace(&gateway, "apisix.yaml", &text);
    gateway.signal(libc::SIGHUP);
    eventually("half a file is refused", || {
        problem(&gateway).as_str().is_some_and(|reason| reason.contains("#END"))
    });
    assert_eq!((gateway.get("/five").status(), gateway.get("/four").status()), (404, 200));
}

#[test]
fn a_json_file_is_followed() {
    let upstream = Upstream::answering("x");
    let config = Config::new().plane("json");
    let text = json!({"routes": [item("1", "/one", &upstream)]}).to_string();
    fs::write(config.file("apisix.json"), text).unwrap();
    let gateway = config.start();
    follow_file(&gateway, "apisix.json", &|document: &Value| document.to_string(), &upstream);
}

#[test]
fn every_kind_may_be_in_a_file() {
    let upstream = Upstream::answering("x");
    let text = format!(
        "upstreams:\n  - id: u\n    type: roundrobin\n    nodes: {{'{}': 1}}\n\
         services:\n  - id: s\n    upstream_id: u\n\
         routes:\n  - uri: /hello\n    service_id: s\n\
         consumers:\n  - username: jack\n\
         consumer_groups:\n  - id: g\n    plugins: {{}}\n\
         plugin_configs:\n  - id: p\n    plugins: {{}}\n\
         global_rules:\n  - id: 1\n    plugins: {{}}\n\
         secrets:\n  - id: vault/1\n    uri: http://127.0.0.1:1\n    prefix: kv/a\n    token: t\n\
         protos:\n  - id: 1\n    content: 'syntax = \"proto3\"; message A {{ string b = 1; }}'\n\
         #END\n",
        upstream.node()
    );
    let gateway = Config::new().plane("yaml").routes_text(text).start();
    assert_eq!(gateway.get("/hello").text(), "x");
    let status = gateway.control().json("/v1/osmia/status");
    assert_eq!(status["quarantined"], json!([]));
    let export = gateway.admin().json("/apisix/admin/export");
    assert_eq!(export["items"].as_array().unwrap().len(), 9, "{export}");
    assert_eq!(gateway.control().json("/v1/upstreams")[0]["key"], "/upstreams/u");
}

#[test]
fn a_file_is_not_written_to() {
    let upstream = Upstream::answering("x");
    let gateway = Config::new().plane("yaml").route(item("1", "/one", &upstream)).start();
    let text = fs::read_to_string(gateway.file("apisix.yaml")).unwrap();
    let put = json!({"put": [{"key": "routes/2", "value": {"uri": "/", "upstream_id": "u"}}]});
    for (method, path, body) in [
        ("PUT", "routes/2", item("2", "/two", &upstream).to_string()),
        ("POST", "routes", json!({"uri": "/", "upstream": {"nodes": {"a:1": 1}}}).to_string()),
        ("PATCH", "routes/1", json!({"uri": "/other"}).to_string()),
        ("DELETE", "routes/1", String::new()),
        ("POST", "transaction", put.to_string()),
        ("POST", "transaction", json!({"delete": ["routes/1"]}).to_string()),
    ] {
        let answer = gateway.admin().call(method, &format!("/apisix/admin/{path}"), &body);
        let (status, reason) = refusal(&answer);
        assert!((400..500).contains(&status), "{method} {path}: {answer}");
        assert!(!reason.is_empty());
    }
    assert_eq!(gateway.admin().json("/apisix/admin/routes")["total"], 1);
    assert_eq!(fs::read_to_string(gateway.file("apisix.yaml")).unwrap(), text);
    assert_eq!(gateway.get("/one").status(), 200);
}

fn start_empty() -> Gateway {
    let config = Config::new().plane("yaml").routes_text("#END\n");
    let gateway = config.start();
    assert_eq!(gateway.get("/").status(), 404);
    gateway
}

fn put(gateway: &Gateway, digest: &str, body: &str, kind: &str) -> Message {
    let headers = [("X-API-KEY", KEY), ("X-Digest", digest), ("Content-Type", kind)];
    gateway.admin().send("PUT", CONFIGS, &headers, body.as_bytes())
}

fn put_json(gateway: &Gateway, digest: &str, body: &Value) -> Message {
    put(gateway, digest, &body.to_string(), "application/json")
}

#[test]
fn a_whole_configuration_is_put() {
    let (one, two) = (Upstream::answering("one"), Upstream::answering("two"));
    let gateway = start_empty();
    let accepted = put_json(&gateway, "d1", &json!({"routes": [item("1", "/one", &one)]}));
    assert_eq!((accepted.status(), accepted.field("X-Digest")), (202, Some("d1")), "{accepted}");
    assert!(accepted.field("X-Last-Modified").unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    // An answer means that it is effective.
    assert_eq!(gateway.get("/one").text(), "one");
    let shown = gateway.admin().call("GET", CONFIGS, "");
    assert_eq!((shown.status(), shown.field("X-Digest")), (200, Some("d1")));
    let shown = json_of(&shown);
    assert_eq!((&shown["X-Digest"], &shown["routes_conf_version"]), (&json!("d1"), &json!(1)));
    assert_eq!(shown["routes"][0]["uri"], "/one");
    let mut head = Client::connect(gateway.admin().addr);
    let head =
        head.exchange(format!("HEAD {CONFIGS} HTTP/1.1\r\nHost: a\r\nX-API-KEY: {KEY}\r\n\r\n"));
    assert_eq!((head.status(), head.field("X-Digest")), (200, Some("d1")));
    // The same digest: nothing to do, whatever the body.
    let same = put_json(&gateway, "d1", &json!({"routes": [item("1", "/other", &two)]}));
    assert_eq!(same.status(), 204, "{same}");
    assert_eq!(gateway.get("/one").text(), "one");
    // Another one replaces everything.
    let next = json!({"routes": [item("2", "/two", &two)], "services": [{"id": "s"}]});
    assert_eq!(put_json(&gateway, "d2", &next).status(), 202);
    assert_eq!((gateway.get("/one").status(), gateway.get("/two").text().as_str()), (404, "two"));
    let shown = gateway.admin().json(CONFIGS);
    assert_eq!(shown["routes_conf_version"], 2);
    // In YAML as well, there and back.
    let yaml = format!(
        "routes:\n  - id: 3\n    uri: /three\n    upstream:\n      nodes: {{'{}': 1}}\n",
        one.node()
    );
    assert_eq!(put(&gateway, "d3", &yaml, "application/yaml").status(), 202);
    assert_eq!(gateway.get("/three").text(), "one");
    let headers = [("X-API-KEY", KEY), ("Accept", "application/yaml")];
    let shown = gateway.admin().send("GET", CONFIGS, &headers, b"");
    assert_eq!(shown.field("Content-Type"), Some("application/yaml"));
    assert!(shown.text().contains("/three"), "{shown}");
    // Without anything: everything goes.
    assert_eq!(put_json(&gateway, "d4", &json!({})).status(), 202);
    assert_eq!(gateway.get("/three").status(), 404);
}

#[test]
fn versions_only_grow_and_the_same_one_keeps() {
    let upstream = Upstream::answering("x");
    let gateway = start_empty();
    let config = |uri: &str, version: u64| json!({"routes": [item("1", uri, &upstream)], "routes_conf_version": version});
    assert_eq!(put_json(&gateway, "a", &config("/a", 100)).status(), 202);
    let lower = put_json(&gateway, "b", &config("/b", 99));
    let text = "routes_conf_version must be greater than or equal to (100)";
    assert_eq!(refusal(&lower), (400, text.to_owned()));
    // The same version: what was there stays.
    assert_eq!(put_json(&gateway, "c", &config("/c", 100)).status(), 202);
    assert_eq!((gateway.get("/a").status(), gateway.get("/c").status()), (200, 404));
    assert_eq!(put_json(&gateway, "d", &config("/d", 101)).status(), 202);
    assert_eq!((gateway.get("/a").status(), gateway.get("/d").status()), (404, 200));
    let control = gateway.control().json("/v1/routes");
    assert_eq!(control[0]["value"]["uri"], "/d", "{control}");
}

#[test]
fn configurations_that_are_refused() {
    let upstream = Upstream::answering("x");
    let gateway = start_empty();
    let good = json!({"routes": [item("1", "/good", &upstream)]});
    assert_eq!(put_json(&gateway, "good", &good).status(), 202);
    let before = gateway.admin().json(CONFIGS);
    let refused = |answer: &Message, what: &str| {
        let (status, reason) = refusal(answer);
        assert!(status == 400 && !reason.is_empty(), "{what}: {answer}");
    };
    let headers = [("X-API-KEY", KEY)];
    let answer = gateway.admin().send("PUT", CONFIGS, &headers, good.to_string().as_bytes());
    assert_eq!(refusal(&answer), (400, "missing digest header".to_owned()));
    let deep = "[".repeat(100_000);
    let deep_inside = format!("{{\"routes\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for body in ["", "{", "{abc}", "null", "7", "\"x\"", "[1]", "\0", &deep, &deep_inside] {
        refused(&put(&gateway, "next", body, "application/json"), body);
    }
    for body in ["a: [", "a: 1\na: 2\n", "just text", "- 1\n", "a:\n\t- x", &deep, &deep_inside] {
        refused(&put(&gateway, "next", body, "application/yaml"), body);
    }
    let latin = [("X-API-KEY", KEY), ("X-Digest", "n"), ("Content-Type", "application/yaml")];
    refused(&gateway.admin().send("PUT", CONFIGS, &latin, b"a: \xff\n"), "not UTF-8");
    let route = item("1", "/", &upstream);
    for body in [
        json!({"routes": 7}),
        json!({"routes": {"1": {}}}),
        json!({"routes": [7]}),
        json!({"routes": [null]}),
        json!({"routes": [route, route]}),
        json!({"routes": [{"id": "1", "uri": 7}]}),
        json!({"routes": [{"id": "a/b", "uri": "/"}]}),
        json!({"routes": [{"id": "..", "uri": "/", "surprise": 1}]}),
        json!({"routes": [route], "routes_conf_version": "1"}),
        json!({"routes": [route], "routes_conf_version": [1]}),
        json!({"routes": [route], "routes_conf_version": -1}),
        json!({"consumers": [{"username": "a b"}]}),
        json!({"consumers": [{"username": "a"}, {"username": "a"}]}),
        json!({"global_rules": [{"id": "1", "plugins": {"no-such-plugin": {}}}]}),
        json!({"secrets": [{"id": "1", "uri": "http://a", "prefix": "p", "token": "t"}]}),
    ] {
        refused(&put_json(&gateway, "next", &body), &body.to_string());
    }
    for method in ["POST", "PATCH", "DELETE", "TRACE"] {
        let answer = gateway.admin().send(method, CONFIGS, &headers, b"{}");
        assert!([404, 405].contains(&answer.status()), "{method}: {answer}");
    }
    let answer = gateway.admin().send("PUT", CONFIGS, &[("X-Digest", "x")], b"{}");
    assert_eq!(answer.status(), 401);
    assert_eq!(gateway.admin().json(CONFIGS), before);
    assert_eq!(gateway.get("/good").status(), 200);
}

#[test]
fn the_standalone_api_is_for_files_only() {
    let gateway = Config::new().plane("embedded").start();
    for method in ["GET", "PUT", "HEAD"] {
        let request = format!(
            "{method} {CONFIGS} HTTP/1.1\r\nHost: a\r\nX-API-KEY: {KEY}\r\nX-Digest: d\r\n\
             Content-Length: 2\r\n\r\n{{}}"
        );
        let answer = Client::connect(gateway.admin().addr).exchange(request);
        assert_eq!(answer.status(), 404, "{method}");
    }
}
