//! Which route a request takes.

use osmia_tests::config::upstream_of;
use osmia_tests::{Config, Gateway, Upstream, on_each_driver};
use serde_json::{Value, json};

/// A route whose upstream answers with the name `node` has in `nodes`.
fn route(node: &Upstream, extra: Value) -> Value {
    let mut route = json!({"upstream": upstream_of(&[node.node()], json!({}))});
    let Value::Object(extra) = extra else { panic!("a route is a map") };
    route.as_object_mut().unwrap().extend(extra);
    route
}

fn answer(gateway: &Gateway, host: &str, method: &str, target: &str) -> String {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let response = gateway.client().exchange(request);
    match response.status() {
        200 => response.text(),
        status => status.to_string(),
    }
}

on_each_driver! {
    fn hosts_exact_and_wildcard(driver: Driver) {
        let (exact, wild, any) =
            (Upstream::answering("exact"), Upstream::answering("wild"), Upstream::answering("any"));
        let gateway = Config::new()
            .driver(driver)
            .route(route(&exact, json!({"id": 1, "uri": "/*", "hosts": ["a.test", "B.test"]})))
            .route(route(&wild, json!({"id": 2, "uri": "/*", "host": "*.test"})))
            .route(route(&any, json!({"id": 3, "uri": "/open"})))
            .start();
        let cases = [
            ("a.test", "/x", "exact"),
            ("A.TEST", "/x", "exact"),
            ("a.test:8080", "/x", "exact"),
            ("b.test", "/x", "exact"),
            ("c.test", "/x", "wild"),
            ("d.c.test", "/x", "wild"),
            ("a.example", "/x", "404"),
            ("a.example", "/open", "any"),
            ("127.0.0.1", "/open", "any"),
            ("[::1]:80", "/open", "any"),
        ];
        for (host, target, expected) in cases {
            assert_eq!(answer(&gateway, host, "GET", target), expected, "{host}{target}");
        }
    }

    fn methods_paths_and_priorities(driver: Driver) {
        let [get, post, prefix, deep, high] = ["get", "post", "prefix", "deep", "high"]
            .map(Upstream::answering);
        let gateway = Config::new()
            .driver(driver)
            .route(route(&get, json!({"id": 1, "uri": "/m", "methods": ["GET"]})))
            .route(route(&post, json!({"id": 2, "uri": "/m", "methods": ["POST", "PUT"]})))
            .route(route(&prefix, json!({"id": 3, "uri": "/p/*"})))
            .route(route(&deep, json!({"id": 4, "uris": ["/p/deep/*", "/q"]})))
            .route(route(&deep, json!({"id": 5, "uri": "/same"})))
            .route(route(&high, json!({"id": 6, "uri": "/same", "priority": 1})))
            .route(route(&high, json!({"id": 7, "uri": "/off", "status": 0})))
            .start();
        let cases = [
            ("GET", "/m", "get"),
            ("POST", "/m", "post"),
            ("PUT", "/m", "post"),
            ("DELETE", "/m", "404"),
            ("GET", "/m?x=/p/", "get"),
            ("GET", "/m/", "404"),
            ("GET", "/p/", "prefix"),
            ("GET", "/p/a/b", "prefix"),
            ("GET", "/p", "404"),
            ("GET", "/p/deep/er", "deep"),
            ("GET", "/q", "deep"),
            ("GET", "/same", "high"),
            ("GET", "/off", "404"),
            ("GET", "/", "404"),
        ];
        for (method, target, expected) in cases {
            assert_eq!(answer(&gateway, "a.test", method, target), expected, "{method} {target}");
        }
    }

    /// Routes see the normalised path, the upstream sees what the client sent.
    fn paths_are_normalised_for_matching_only(driver: Driver) {
        let upstream = Upstream::new();
        let gateway =
            Config::new().driver(driver).route(route(&upstream, json!({"uri": "/a/b"}))).start();
        let mut client = gateway.client();
        client.send_get("/a/b");
        let mut peer = upstream.accept();
        assert_eq!(peer.serve_one("").target(), "/a/b");
        assert_eq!(client.response().status(), 200);
        let same = ["//a//b", "/a/./b", "/x/../a/b", "/%61/b", "/a%2Fb", "/a/c/%2e%2e/b", "/a/b?q=/.."];
        for target in same {
            client.send_get(target);
            assert_eq!(peer.serve_one("").target(), target);
            assert_eq!(client.response().status(), 200, "{target}");
        }
        for other in ["/a/b/", "/A/b", "/a%252Fb", "/a/b/.", "/b"] {
            assert_eq!(client.get(other).status(), 404, "{other}");
        }
    }

    fn paths_that_cannot_be_normalised_are_refused(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for target in ["/..", "/a/../../b", "/%2e%2e/", "/%", "/%4", "/%zz", "/%00"] {
            let mut client = gateway.client();
            assert_eq!(client.get(target).status(), 400, "{target}");
        }
        assert!(upstream.is_untouched());
    }

    fn targets_in_absolute_and_asterisk_form(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::new()
            .driver(driver)
            .route(route(&upstream, json!({"uri": "/*", "host": "right.test"})))
            .start();
        let mut client = gateway.client();
        client.send("GET http://right.test:81/p?q HTTP/1.1\r\nHost: wrong.test\r\n\r\n");
        let mut peer = upstream.accept();
        let request = peer.serve_one("absolute");
        assert_eq!(request.start, "GET /p?q HTTP/1.1");
        // RFC 9112, section 3.2.2: the target's authority replaces the field.
        assert_eq!(request.field("Host"), Some("right.test:81"));
        assert_eq!(request.field("X-Forwarded-Host"), Some("right.test:81"));
        assert_eq!(request.field("X-Forwarded-Port"), Some("81"));
        assert_eq!(client.response().text(), "absolute");

        client.send("GET HTTP://right.test?q HTTP/1.1\r\nHost: right.test\r\n\r\n");
        assert_eq!(peer.serve_one("").start, "GET /?q HTTP/1.1");
        assert_eq!(client.response().status(), 200);

        let asterisk = client.exchange("OPTIONS * HTTP/1.1\r\nHost: right.test\r\n\r\n");
        assert_eq!(asterisk.status(), 404, "no route matches *");
    }

    fn no_route_is_told_as_apisix_does(driver: Driver) {
        let gateway = Config::new().driver(driver).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            let response = client.get("/nowhere");
            assert_eq!(response.start, "HTTP/1.1 404 Not Found");
            assert_eq!(response.text(), "{\"error_msg\":\"404 Route Not Found\"}\n");
            assert_eq!(response.field("Content-Type"), Some("text/plain; charset=utf-8"));
            let server = response.field("Server").unwrap();
            assert!(server.starts_with("Osmia/"), "{server}");
            assert!(response.field("Date").is_some());
            assert_eq!(response.field("Connection"), None, "the connection is kept");
        }
        let head = client.exchange("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(head.status(), 404);
        assert_eq!(head.field("Content-Length"), Some("36"));
        assert_eq!(client.get("/").status(), 404);
    }

    /// A body is not read for a reply that does not depend on it, but what follows it is not taken
    /// for a request either.
    fn no_route_for_a_request_with_a_body(driver: Driver) {
        let gateway = Config::new().driver(driver).start();
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response().status(), 404);
        assert_eq!(client.get("/").status(), 404, "a complete body was passed over");
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99\r\n\r\nGET / ");
        let response = client.response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.field("Connection"), Some("close"));
        client.finish();
        client.expect_end();
    }

    fn an_upstream_without_nodes_is_unavailable(driver: Driver) {
        let upstream = json!({"nodes": {}});
        let gateway = Config::new()
            .driver(driver)
            .route(json!({"uri": "/none", "upstream": upstream}))
            .route(json!({"uri": "/zero", "upstream": {"nodes": {"127.0.0.1:1": 0}}}))
            .start();
        let mut client = gateway.client();
        for target in ["/none", "/zero"] {
            let response = client.get(target);
            assert_eq!(response.start, "HTTP/1.1 503 Service Temporarily Unavailable", "{target}");
            assert!(response.text().contains("503 Service Temporarily Unavailable"));
        }
    }

    fn upstreams_are_found_by_id(driver: Driver) {
        let node = Upstream::answering("shared");
        let mut shared = upstream_of(&[node.node()], json!({}));
        shared["id"] = json!("shared");
        let gateway = Config::new()
            .driver(driver)
            .upstream(shared)
            .route(json!({"uri": "/a", "upstream_id": "shared"}))
            .route(json!({"uri": "/b", "upstream_id": "shared"}))
            .start();
        assert_eq!(answer(&gateway, "a.test", "GET", "/a"), "shared");
        assert_eq!(answer(&gateway, "a.test", "GET", "/b"), "shared");
    }
}
