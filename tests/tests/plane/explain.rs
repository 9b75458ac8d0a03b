//! `POST /apisix/admin/explain` and `osmia explain`.

use osmia_tests::config::upstream_of;
use osmia_tests::{Config, Gateway, Upstream};
use serde_json::{Value, json};

fn gateway(upstream: &Upstream) -> Gateway {
    let gateway = Config::new().plane("embedded").start();
    let admin = gateway.admin();
    admin.put("upstreams/u", &upstream_of(&[upstream.node()], json!({"type": "least_conn"})));
    admin.put("services/s", &json!({"upstream_id": "u"}));
    admin.put("routes/post", &json!({"uri": "/a", "methods": ["POST"], "service_id": "s"}));
    admin.put(
        "routes/vars",
        &json!({"uri": "/a", "service_id": "s", "priority": 2,
            "vars": [["arg_n", "==", "1"], ["http_x_kind", "in", ["a", "b"]]]}),
    );
    admin.put(
        "routes/far",
        &json!({"uri": "/a", "service_id": "s", "priority": 1, "remote_addrs": ["10.0.0.0/8"]}),
    );
    admin.put("routes/all", &json!({"name": "rest", "uri": "/*", "service_id": "s"}));
    admin.put("routes/none", &json!({"uri": "/none", "upstream": {"nodes": {}}, "status": 1}));
    gateway
}

fn explain(gateway: &Gateway, question: &Value) -> Value {
    let answer = gateway.admin().call("POST", "/apisix/admin/explain", &question.to_string());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

#[test]
fn each_route_says_why_it_does_not_match() {
    let upstream = Upstream::answering("there");
    let gateway = gateway(&upstream);
    let answer = explain(
        &gateway,
        &json!({"url": "http://a.test/a?n=1", "headers": {"X-Kind": "c"}, "client": "192.0.2.1"}),
    );
    let tried = json!([
        {"route": "vars", "uri": "/a", "matched": false, "failed": {"field": "vars",
            "wanted": ["http_x_kind", "in", ["a", "b"]], "saw": "c"}},
        {"route": "far", "uri": "/a", "matched": false, "failed": {"field": "remote_addrs",
            "wanted": ["10.0.0.0/8"], "saw": "192.0.2.1"}},
        {"route": "post", "uri": "/a", "matched": false,
            "failed": {"field": "methods", "wanted": ["POST"], "saw": "GET"}},
        {"route": "all", "uri": "/*", "matched": true},
    ]);
    assert_eq!(answer["candidates"], tried);
    assert_eq!(answer["route"], json!({"id": "all", "name": "rest", "priority": 0}));
    let node = upstream.node();
    assert_eq!(
        answer["upstream"],
        json!({"id": "u", "type": "least_conn", "host": "the client's", "retries": 0, "nodes": [
            {"node": node, "address": node, "weight": 1, "priority": 0, "status": "up"},
        ]})
    );
    // What it says is what happens.
    let request = "GET /a?n=1 HTTP/1.1\r\nHost: a.test\r\nX-Kind: c\r\n\r\n";
    assert_eq!(gateway.client().exchange(request).text(), "there");
}

#[test]
fn what_ends_without_an_upstream_is_told() {
    let upstream = Upstream::answering("there");
    let gateway = gateway(&upstream);
    gateway.admin().delete("routes/all");
    let answer = explain(&gateway, &json!({"url": "http://a.test/else"}));
    assert_eq!(answer["route"], Value::Null);
    assert_eq!(answer["answer"]["status"], 404);
    let answer = explain(&gateway, &json!({"url": "http://a.test/none"}));
    assert_eq!(answer["route"]["id"], "none");
    assert_eq!(answer["upstream"]["nodes"], json!([]));
}

#[test]
fn questions_that_make_no_request_name_the_field() {
    let upstream = Upstream::answering("there");
    let gateway = gateway(&upstream);
    for (question, part) in [
        (json!({}), "missing field `url`"),
        (json!({"url": "/a"}), "url: neither a host in it nor a Host header"),
        (json!({"url": "http://a b/"}), "url: "),
        (json!({"url": "http://a/", "method": "G T"}), "method: \"G T\" is not a token"),
        (json!({"url": "http://a/", "headers": {"a:b": "c"}}), "headers: \"a:b\" is not a token"),
        (json!({"url": "http://a/", "headers": {"a": "b\r\nc: d"}}), "headers: a: a line break"),
        (json!({"url": "http://a/", "headers": {"a": {}}}), "headers: a: expected a string"),
        (json!({"url": "http://a/%zz"}), "url: malformed percent-encoding"),
        (json!({"url": "http://a/", "client": "x"}), "invalid IP address"),
        (json!({"url": "http://a/", "nope": 1}), "unknown field `nope`"),
    ] {
        let answer = gateway.admin().call("POST", "/apisix/admin/explain", &question.to_string());
        assert_eq!(answer.status(), 400, "{question}");
        let message = super::json_of(&answer)["error_msg"].to_string();
        let quoted = part.replace('"', "\\\"");
        assert!(message.contains(&quoted), "{question}: {message}");
    }
}

#[test]
fn the_command_tells_it_in_words() {
    let upstream = Upstream::answering("there");
    let gateway = gateway(&upstream);
    let ended = gateway.command("explain", &["--url", "http://a.test/a?n=2", "-H", "X-Kind: a"]);
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    for line in [
        "GET /a for a.test from 127.0.0.1",
        "  route vars (/a): vars wants [\"arg_n\",\"==\",\"1\"], saw 2\n",
        "  route all (/*): matches\n",
        "upstream u (least_conn), 0 retries",
        "weight 1, priority 0: up",
    ] {
        assert!(ended.stdout.contains(line), "{line:?} in {}", ended.stdout);
    }
    gateway.admin().delete("routes/all");
    let ended = gateway.command("explain", &["--url", "http://a.test/nothing"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stdout.contains("tried, in this order: nothing\nanswered with 404"),
        "{}",
        ended.stdout
    );
}
