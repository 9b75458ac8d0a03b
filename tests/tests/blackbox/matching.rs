//! Router modes, options on paths, and what else a route may ask of a request.

use osmia_tests::config::upstream_of;
use osmia_tests::{Config, Gateway, Upstream, on_each_driver};
use serde_json::{Value, json};

/// Routes to upstreams that answer with the route's id.
fn routes(config: Config, routes: &[(&'static str, Value)]) -> (Config, Vec<Upstream>) {
    let mut upstreams = Vec::new();
    let mut config = config;
    for (id, extra) in routes {
        let upstream = Upstream::answering(id);
        let mut route = extra.clone();
        route["id"] = json!(id);
        route["upstream"] = upstream_of(&[upstream.node()], json!({}));
        config = config.route(route);
        upstreams.push(upstream);
    }
    (config, upstreams)
}

/// The id of the route that answers, or the status.
fn answer(gateway: &Gateway, request: &str) -> String {
    let response = gateway.client().exchange(request);
    match response.status() {
        200 => response.text(),
        status => status.to_string(),
    }
}

fn get(gateway: &Gateway, host: &str, target: &str) -> String {
    answer(gateway, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

on_each_driver! {
    /// The path decides first, the host is a test like others; a host may name a port.
    fn by_path_before_host(driver: Driver) {
        let config = Config::new().driver(driver).set("apisix.router.http", "radixtree_uri");
        let (config, _upstreams) = routes(config, &[
            ("host", json!({"uri": "/a/*", "host": "a.test"})),
            ("deep", json!({"uri": "/a/b/*"})),
            ("wild", json!({"uri": "/w", "hosts": ["*.test"]})),
            ("port", json!({"uri": "/p", "host": "a.test:81"})),
            ("literal", json!({"uri": "/n/:name"})),
        ]);
        let gateway = config.start();
        for (host, target, expected) in [
            ("a.test", "/a/x", "host"),
            ("A.Test:80", "/a/x", "host"),
            ("b.test", "/a/x", "404"),
            // By host first it would be the other one.
            ("a.test", "/a/b/c", "deep"),
            ("b.test", "/w", "wild"),
            ("test", "/w", "404"),
            ("a.test:81", "/p", "port"),
            ("a.test", "/p", "404"),
            ("a.test", "/n/1", "404"),
            ("a.test", "/n/:name", "literal"),
        ] {
            assert_eq!(get(&gateway, host, target), expected, "{host}{target}");
        }
    }

    fn parameters_in_paths(driver: Driver) {
        let config =
            Config::new().driver(driver).set("apisix.router.http", "radixtree_uri_with_parameter");
        let (config, _upstreams) = routes(config, &[
            ("user", json!({"uri": "/u/:id"})),
            ("posts", json!({"uri": "/u/:id/posts/*"})),
            ("me", json!({"uri": "/u/me"})),
            ("any", json!({"uri": "/u/*"})),
        ]);
        let gateway = config.start();
        for (target, expected) in [
            ("/u/7", "user"),
            ("/u/me", "me"),
            ("/u/7/posts/1/2", "posts"),
            ("/u/7/posts", "any"),
            ("/u/", "any"),
            ("/u", "404"),
        ] {
            assert_eq!(get(&gateway, "a.test", target), expected, "{target}");
        }
    }

    fn a_parameter_without_a_meaning_is_named(driver: Driver) {
        let config = Config::new()
            .driver(driver)
            .set("apisix.router.http", "radixtree_uri_with_parameter")
            .route(json!({"uri": "/a*/:id", "upstream": {"nodes": {"127.0.0.1:1": 1}}}));
        let ended = config.check();
        assert!(ended.complaint().contains("\"/a*/:id\""), "{}", ended.complaint());
    }

    fn tail_slash(driver: Driver) {
        let config = Config::new().driver(driver).set("apisix.delete_uri_tail_slash", true);
        let (config, _upstreams) =
            routes(config, &[("a", json!({"uri": "/a"})), ("root", json!({"uri": "/"}))]);
        let gateway = config.start();
        for (target, expected) in [("/a/", "a"), ("/a", "a"), ("/", "root"), ("/a/b", "404")] {
            assert_eq!(get(&gateway, "a.test", target), expected, "{target}");
        }
    }

    fn servlet_paths(driver: Driver) {
        let config = Config::new().driver(driver).set("apisix.normalize_uri_like_servlet", true);
        let upstream = Upstream::new();
        let config = config.route(json!({
            "uri": "/a/b", "upstream": upstream_of(&[upstream.node()], json!({})),
        }));
        let gateway = config.start();
        let mut client = gateway.client();
        client.send_get("/a;v=1/b;x?q=1");
        let forwarded = upstream.accept().serve_one("ok");
        assert_eq!(forwarded.start, "GET /a;v=1/b;x?q=1 HTTP/1.1", "parameters are the upstream's");
        assert_eq!(client.response().status(), 200);
        for target in ["/a/..;/a/b", "/a/.;x/b", "/;/a/b"] {
            assert_eq!(get(&gateway, "a.test", target), "400", "{target}");
        }
    }

    fn encoded_slashes(driver: Driver) {
        let config = Config::new()
            .driver(driver)
            .set("apisix.router.http", "radixtree_uri_with_parameter")
            .set("apisix.match_uri_encoded_slash", true);
        let (config, _upstreams) = routes(config, &[
            ("item", json!({"uri": "/v/:id/list"})),
            ("exact", json!({"uri": "/e%2Fx"})),
        ]);
        let gateway = config.start();
        for (target, expected) in [
            ("/v/a%2Fb/list", "item"),
            ("/v/a%2fb%2Fc/list", "item"),
            ("/v/%41/list", "item"),
            ("/v/a/b/list", "404"),
            ("/v/a%2Fb/../list", "item"),
            ("/v/a%2Fb/./list", "404"),
            ("/e%2fx", "exact"),
        ] {
            assert_eq!(get(&gateway, "a.test", target), expected, "{target}");
        }
    }
}

on_each_driver! {
    fn clients_by_address(driver: Driver) {
        let (config, _upstreams) = routes(Config::new().driver(driver), &[
            ("other", json!({"uri": "/a", "remote_addrs": ["10.0.0.0/8", "::2"], "priority": 9})),
            ("local", json!({"uri": "/a", "remote_addr": "127.0.0.0/8"})),
            ("never", json!({"uri": "/b", "remote_addr": "10.1.1.1"})),
        ]);
        let gateway = config.start();
        assert_eq!(get(&gateway, "a.test", "/a"), "local");
        assert_eq!(get(&gateway, "a.test", "/b"), "404");
    }

    fn variables_of_the_head(driver: Driver) {
        let vars = |vars: Value| json!({"uri": "/a", "vars": vars});
        let (config, _upstreams) = routes(Config::new().driver(driver), &[
            ("arg", vars(json!([["arg_n", "==", "x y"]]))),
            ("number", vars(json!([["arg_age", ">=", 18], ["arg_age", "<", 70]]))),
            ("cookie", vars(json!([["cookie_who", "in", ["bee", "wasp"]]]))),
            ("header", vars(json!([["http_x_kind", "~~", "^[a-c]+$"]]))),
            ("negated", vars(json!([["http_x_not", "!", "==", "z"], ["http_x_not", "has", "q"]]))),
            ("or", vars(json!(["OR", ["arg_one", "==", "1"], ["arg_two", "==", "2"]]))),
            ("ip", vars(json!([["remote_addr", "ipmatch", ["127.0.0.0/8"]], ["arg_ip", "1"]]))),
            ("wrong", vars(json!([["arg_n", "~~", "("]]))),
        ]);
        let gateway = config.start();
        for (target, fields, expected) in [
            ("/a?n=x%20y", "", "arg"),
            ("/a?n=x+y", "", "arg"),
            ("/a?N=x%20y", "", "404"),
            ("/a?age=18", "", "number"),
            ("/a?age=070", "", "404"),
            ("/a?age=old", "", "404"),
            ("/a", "Cookie: a=b; who=wasp\r\n", "cookie"),
            ("/a", "X-Kind: abc\r\n", "header"),
            ("/a", "X-Kind: abcd\r\n", "404"),
            ("/a?two=2", "", "or"),
            ("/a?two=1", "", "404"),
            ("/a?ip=1", "", "ip"),
            ("/a?n=(", "", "404"),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
            assert_eq!(answer(&gateway, &request), expected, "{target} {fields}");
        }
    }

    /// The body is read before the route is known, and forwarded as it came.
    fn variables_of_the_body(driver: Driver) {
        let upstream = Upstream::new();
        let target = upstream_of(&[upstream.node()], json!({}));
        let gateway = Config::new()
            .driver(driver)
            .route(json!({"id": 1, "uri": "/a", "upstream": target, "priority": 1,
                "vars": [["post_arg.model.name", "==", "bee"]]}))
            .route(json!({"id": 2, "uri": "/a", "upstream": target,
                "vars": [["post_arg_kind", "==", "form"]]}))
            .start();
        let json_body = format!("{{\"pad\": \"{}\", \"model\": {{\"name\": \"bee\"}}}}", "x".repeat(200_000));
        let bodies = [
            ("application/json", json_body.clone()),
            ("application/x-www-form-urlencoded", "a=1&kind=form".to_owned()),
        ];
        for (kind, body) in &bodies {
            let mut client = gateway.client();
            client.send(format!(
                "POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            let forwarded = upstream.accept().serve_one("ok");
            assert!(forwarded.body == body.as_bytes(), "{kind}: the body arrives whole");
            assert_eq!(client.response().text(), "ok", "{kind}");
        }
        // In chunks, told to go on, with another request behind it.
        let mut client = gateway.client();
        client.send("POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\n\
                     Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.line(), "HTTP/1.1 100 Continue");
        assert_eq!(client.line(), "");
        client.send("12\r\n{\"model\": {\"name\":\r\n8\r\n \"bee\"}}\r\n0\r\n\r\nGET /none HTTP/1.1\r\n\
                     Host: a.test\r\n\r\n");
        let forwarded = upstream.accept().serve_one("ok");
        assert_eq!(forwarded.body, b"{\"model\": {\"name\": \"bee\"}}");
        assert_eq!(client.response().text(), "ok");
        assert_eq!(client.response().status(), 404);
        // Nothing matches what is not there.
        for (kind, body) in [("application/json", "{\"model\": 1"), ("text/plain", "kind=form")] {
            let request = format!(
                "POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            assert_eq!(answer(&gateway, &request), "404", "{kind} {body}");
        }
    }

    /// A body longer than may be looked into counts as none, and still arrives.
    fn a_body_that_is_too_long_has_no_variables(driver: Driver) {
        let upstream = Upstream::new();
        let target = upstream_of(&[upstream.node()], json!({}));
        let gateway = Config::new()
            .driver(driver)
            .set("apisix.max_post_args_readable_size", 0)
            .set("graphql.max_size", 1000)
            .route(json!({"id": 1, "uri": "/a", "upstream": {"nodes": {}}, "priority": 1,
                "vars": [["graphql_operation", "==", "query"]]}))
            .route(json!({"id": 2, "uri": "/a", "upstream": target}))
            .start();
        let document = "query { bee }";
        let request = |body: &str| format!(
            "POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        assert_eq!(answer(&gateway, &request(document)), "503", "the route that has no node");
        let long = format!("{document}{}", " ".repeat(300_000));
        let mut client = gateway.client();
        client.send(request(&long));
        let forwarded = upstream.accept().serve_one("ok");
        assert!(forwarded.body == long.as_bytes());
        assert_eq!(client.response().text(), "ok");
    }
}
