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
