//! Traffic and health checks together.

use osmia_tests::config::upstream_of;
use osmia_tests::{Config, Upstream, eventually, on_each_driver};
use serde_json::json;

on_each_driver! {
    /// A node that refuses connections is found without any traffic, and none of it goes there.
    fn a_dead_node_is_left_before_traffic_comes(driver: Driver) {
        let up = Upstream::answering("up");
        let dead = Upstream::new();
        let nodes = [up.node(), dead.node()];
        drop(dead);
        let checks = json!({"active": {"type": "tcp", "healthy": {"interval": 1, "successes": 1},
            "unhealthy": {"interval": 1, "tcp_failures": 1}}});
        let options = json!({"checks": checks, "retries": 0});
        let gateway = Config::new()
            .driver(driver)
            .plane("yaml")
            .route(json!({"id": "r", "uri": "/*", "upstream": upstream_of(&nodes, options)}))
            .start();
        let control = gateway.control();
        eventually("the dead node is noticed", || {
            control.call("GET", "/v1/healthcheck/routes/r", "").text().contains("\"unhealthy\"")
        });
        // Every worker has the snapshot once it serves by it.
        eventually("workers pass it over", || {
            let mut client = gateway.client();
            (0..8).all(|_| client.get("/").status() == 200)
        });
        for _ in 0..40 {
            assert_eq!(gateway.get("/").text(), "up");
        }
    }

    /// Failures in the traffic count, and success brings the node back.
    fn failing_answers_take_a_node_out(driver: Driver) {
        let good = Upstream::answering("good");
        let bad = Upstream::serving(|mut peer| {
            while let Some(request) = peer.request_or_end() {
                let status = if request.target() == "/probe" { 200 } else { 500 };
                peer.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        let checks = json!({
            "active": {"http_path": "/probe", "healthy": {"interval": 3600, "successes": 1},
                "unhealthy": {"interval": 3600}},
            "passive": {"healthy": {"http_statuses": [200], "successes": 1},
                "unhealthy": {"http_statuses": [500], "http_failures": 2}},
        });
        let nodes = [good.node(), bad.node()];
        let gateway = Config::new()
            .driver(driver)
            .route(json!({"uri": "/*", "upstream": upstream_of(&nodes, json!({"checks": checks}))}))
            .start();
        let mut client = gateway.client();
        eventually("only the good node is left", || {
            (0..10).all(|_| client.get("/").status() == 200)
        });
    }

    /// With all nodes down all are used.
    fn the_last_ones_serve_whatever_is_said_of_them(driver: Driver) {
        let node = Upstream::answering("alive");
        let checks = json!({"active": {"http_path": "/probe", "http_statuses": [204],
            "healthy": {"interval": 1, "http_statuses": [204], "successes": 1},
            "unhealthy": {"interval": 1, "http_statuses": [200], "http_failures": 1}}});
        let mut checks = checks;
        checks["active"].as_object_mut().unwrap().remove("http_statuses");
        let options = json!({"checks": checks});
        let gateway = Config::new()
            .driver(driver)
            .plane("yaml")
            .route(json!({"id": "r", "uri": "/*", "upstream": upstream_of(&[node.node()], options)}))
            .start();
        let control = gateway.control();
        eventually("the node is taken to be down", || {
            control.call("GET", "/v1/healthcheck/routes/r", "").text().contains("\"unhealthy\"")
        });
        assert_eq!(gateway.get("/").text(), "alive");
    }
}
