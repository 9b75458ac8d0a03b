//! Which node a request goes to, and to which next.

use osmia_tests::config::upstream_of;
use osmia_tests::port::Reserved;
use osmia_tests::{Config, Upstream, on_each_driver};
use serde_json::json;

const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody";

on_each_driver! {
    fn weights_are_shares(driver: Driver) {
        let [one, two, never] = ["1", "2", "0"].map(Upstream::answering);
        let nodes = json!({one.node(): 1, two.node(): 3, never.node(): 0});
        let gateway = Config::new()
            .driver(driver)
            .route(json!({"uri": "/*", "upstream": {"type": "roundrobin", "nodes": nodes}}))
            .start();
        let mut client = gateway.client();
        let answers: Vec<String> = (0..40).map(|_| client.get("/").text()).collect();
        let share = |name: &str| answers.iter().filter(|answer| *answer == name).count();
        assert_eq!((share("1"), share("2")), (10, 30));
        for four in answers.chunks(4) {
            assert_eq!(four.iter().filter(|answer| *answer == "1").count(), 1, "evenly: {four:?}");
        }
    }

    fn a_refusing_node_is_passed_over(driver: Driver) {
        let nobody = Reserved::new();
        let good = Upstream::answering("good");
        let nodes = [nobody.addr().to_string(), good.node()];
        let gateway = Config::proxy_to_nodes(driver, &nodes, json!({})).start();
        let mut client = gateway.client();
        for _ in 0..10 {
            assert_eq!(client.get("/").text(), "good");
            // Nothing was sent, so this is safe as well.
            assert_eq!(client.exchange(POST).text(), "good");
        }
    }

    fn no_retries_means_one_try(driver: Driver) {
        let nobody = Reserved::new();
        let good = Upstream::answering("good");
        let nodes = [nobody.addr().to_string(), good.node()];
        let gateway = Config::proxy_to_nodes(driver, &nodes, json!({"retries": 0})).start();
        let mut client = gateway.client();
        let mut found: Vec<u16> = (0..4).map(|_| client.get("/").status()).collect();
        found.sort_unstable();
        assert_eq!(found, [200, 200, 502, 502]);
    }

    fn no_node_is_tried_twice(driver: Driver) {
        let [one, two] = [Reserved::new(), Reserved::new()];
        let nodes = [one.addr().to_string(), two.addr().to_string()];
        let gateway = Config::proxy_to_nodes(driver, &nodes, json!({"retries": 9})).start();
        assert_eq!(gateway.get("/").status(), 502);
        let log = gateway.log();
        log.wait_for(&[&nodes[0], "cannot connect"]);
        log.wait_for(&[&nodes[1], "cannot connect"]);
        assert_eq!(log.so_far().matches("cannot connect").count(), 2, "{}", log.so_far());
    }

    /// Node one takes the request and closes; what may be repeated goes to node two.
    fn idempotent_requests_go_to_the_next_node(driver: Driver) {
        let broken = Upstream::serving(|mut peer| drop(peer.request_or_end()));
        let good = Upstream::answering("good");
        for request in [
            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "OPTIONS / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "DELETE / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody",
        ] {
            let nodes = [broken.node(), good.node()];
            let gateway = Config::proxy_to_nodes(driver, &nodes, json!({})).start();
            let before = broken.connections();
            for _ in 0..4 {
                // HEAD's answer has no body, but `good` sends one with it: a connection each.
                assert_eq!(gateway.client().exchange(request).status(), 200, "{request}");
            }
            assert!(broken.connections() > before, "{request}");
        }
    }

    fn a_request_that_may_have_acted_is_not_repeated(driver: Driver) {
        let broken = Upstream::serving(|mut peer| drop(peer.request_or_end()));
        let good = Upstream::answering("good");
        let nodes = [broken.node(), good.node()];
        let gateway = Config::proxy_to_nodes(driver, &nodes, json!({})).start();
        let mut client = gateway.client();
        for request in [POST.to_owned(), POST.replace("POST", "PATCH"), POST.replace("POST", "LOCK")] {
            let mut found: Vec<u16> = (0..4).map(|_| client.exchange(&request).status()).collect();
            found.sort_unstable();
            assert_eq!(found, [200, 200, 502, 502], "{request}");
        }
        assert_eq!(broken.connections(), 6);
    }

    /// Nothing of it has gone to the client.
    fn a_head_that_is_cut_short_is_repeated(driver: Driver) {
        let broken = Upstream::serving(|mut peer| {
            // Also on a connection that was kept.
            while let Some(request) = peer.request_or_end() {
                if request.target() == "/first" {
                    peer.answer("first");
                    continue;
                }
                peer.send("HTTP/1.1 200 OK\r\nConte");
                return;
            }
        });
        let good = Upstream::answering("good");
        let nodes = [broken.node(), good.node()];
        let gateway = Config::proxy_to_nodes(driver, &nodes, json!({})).start();
        let mut client = gateway.client();
        for _ in 0..4 {
            for _ in 0..2 {
                assert_eq!(client.get("/first").status(), 200);
            }
            for _ in 0..2 {
                assert_eq!(client.get("/").text(), "good");
            }
            let mut found: Vec<u16> = (0..2).map(|_| client.exchange(POST).status()).collect();
            found.sort_unstable();
            assert_eq!(found, [200, 502], "it may have acted");
        }
    }

    /// What is complete is the answer, even if it makes no sense.
    fn a_wrong_response_is_not_repeated(driver: Driver) {
        let broken = Upstream::serving(|mut peer| {
            if peer.request_or_end().is_some() {
                peer.send("SSH-2.0-OpenSSH_9\r\n");
                peer.expect_end();
            }
        });
        let good = Upstream::answering("good");
        let nodes = [broken.node(), good.node()];
        let gateway = Config::proxy_to_nodes(driver, &nodes, json!({})).start();
        let mut client = gateway.client();
        let mut found: Vec<u16> = (0..4).map(|_| client.get("/").status()).collect();
        found.sort_unstable();
        assert_eq!(found, [200, 200, 502, 502]);
    }

    /// A status is an answer: APISIX retries on errors and timeouts only.
    fn an_error_status_is_not_repeated(driver: Driver) {
        let failing = Upstream::serving(|mut peer| {
            while peer.request_or_end().is_some() {
                peer.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let good = Upstream::answering("good");
        let nodes = [failing.node(), good.node()];
        let gateway = Config::proxy_to_nodes(driver, &nodes, json!({})).start();
        let mut client = gateway.client();
        let mut found: Vec<u16> = (0..4).map(|_| client.get("/").status()).collect();
        found.sort_unstable();
        assert_eq!(found, [200, 200, 503, 503]);
    }

    fn a_silent_node_is_passed_over(driver: Driver) {
        let silent = Upstream::serving(|mut peer| {
            peer.request_or_end();
            peer.expect_end();
        });
        let good = Upstream::answering("good");
        let nodes = [silent.node(), good.node()];
        let options = json!({"timeout": {"connect": 0.5, "send": 0.5, "read": 0.5}});
        let gateway = Config::proxy_to_nodes(driver, &nodes, options).start();
        let mut client = gateway.client();
        assert_eq!(client.get("/").text(), "good");
        assert_eq!(client.get("/").text(), "good");
        assert!(silent.connections() > 0, "it had its turn");
    }

    /// `retry_timeout`: no further try after this time.
    fn tries_end_in_time(driver: Driver) {
        let silent = Upstream::serving(|mut peer| {
            peer.request_or_end();
            peer.expect_end();
        });
        let good = Upstream::answering("good");
        let nodes = [silent.node(), good.node()];
        let options = json!({"timeout": {"connect": 1, "send": 1, "read": 1}, "retry_timeout": 0.2});
        let gateway = Config::proxy_to_nodes(driver, &nodes, options).start();
        let mut client = gateway.client();
        let mut found = [client.get("/").status(), client.get("/").status()];
        found.sort_unstable();
        assert_eq!(found, [200, 504]);
    }

    fn nodes_by_name_and_by_ipv6_address(driver: Driver) {
        let upstream = Upstream::answering("named");
        let node = format!("localhost:{}", upstream.addr().port());
        let gateway = Config::proxy_to_nodes(driver, &[node], json!({})).start();
        assert_eq!(gateway.get("/").text(), "named");
        if Reserved::on(std::net::Ipv6Addr::LOCALHOST.into()).is_err() {
            eprintln!("skipped in part: this machine has no IPv6");
            return;
        }
        let upstream = Upstream::on(std::net::Ipv6Addr::LOCALHOST.into());
        let nodes = json!([{"host": "::1", "port": upstream.addr().port(), "weight": 1}]);
        let route = json!({"uri": "/*", "upstream": {"nodes": nodes, "pass_host": "node"}});
        let gateway = Config::new().driver(driver).route(route).start();
        let mut client = gateway.client();
        client.send_get("/");
        let seen = upstream.accept().serve_one("six");
        assert_eq!(seen.field("Host"), Some(upstream.node().as_str()));
        assert_eq!(client.response().text(), "six");
    }

    /// Balancing is per upstream, whichever route leads there.
    fn routes_share_an_upstreams_turns(driver: Driver) {
        let [one, two] = ["1", "2"].map(Upstream::answering);
        let mut shared = upstream_of(&[one.node(), two.node()], json!({}));
        shared["id"] = json!(1);
        let gateway = Config::new()
            .driver(driver)
            .upstream(shared)
            .route(json!({"uri": "/a", "upstream_id": 1}))
            .route(json!({"uri": "/b", "upstream_id": 1}))
            .start();
        let mut client = gateway.client();
        assert_ne!(client.get("/a").text(), client.get("/b").text());
    }
}
