//! Traffic and health checks together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use osmia_tests::config::upstream_of;
use osmia_tests::{Config, Gateway, Peer, Upstream, eventually, on_each_driver};
use serde_json::{Value, json};

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

/// A gateway that probes this node every second. A single failure is final, and told in the log.
fn probing(node: &Upstream) -> Gateway {
    let checks = json!({"active": {"healthy": {"interval": 1, "successes": 1},
        "unhealthy": {"interval": 3600, "http_failures": 1, "tcp_failures": 1, "timeouts": 1}}});
    let upstream = upstream_of(&[node.node()], json!({"checks": checks}));
    let route = json!({"id": "r", "uri": "/*", "upstream": upstream});
    Config::new().plane("yaml").route(route).start()
}

fn checked(gateway: &Gateway) -> Value {
    gateway.control().json("/v1/healthcheck/routes/r")["nodes"][0].clone()
}

/// A node whose connections are served by this; it is told how many requests there have been.
fn counting(
    serve: impl Fn(&mut Peer, &AtomicUsize) + Send + Sync + 'static,
) -> (Upstream, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    (Upstream::serving(move |mut peer| serve(&mut peer, &counted)), seen)
}

fn next(peer: &mut Peer, seen: &AtomicUsize) -> bool {
    let came = peer.request_or_end().is_some();
    seen.fetch_add(usize::from(came), Ordering::AcqRel);
    came
}

#[test]
fn probes_share_a_connection() {
    let (node, seen) = counting(|peer, seen| {
        while next(peer, seen) {
            peer.answer("up");
        }
    });
    let gateway = probing(&node);
    eventually("it is probed again", || seen.load(Ordering::Acquire) == 3);
    assert_eq!(node.connections(), 1);
    assert_eq!(checked(&gateway)["status"], "healthy");
}

/// However a node ends the connection, it is the answer on a new one that counts.
#[test]
fn a_kept_connection_that_ends_says_nothing_about_the_node() {
    let between = counting(|peer, seen| {
        next(peer, seen);
        peer.answer("up");
    });
    let instead_of_an_answer = counting(|peer, seen| {
        next(peer, seen);
        peer.answer("up");
        next(peer, seen);
    });
    let at_once = counting(|peer, seen| {
        next(peer, seen);
        peer.answer("up");
        // With a byte unread it is a reset.
        peer.some();
    });
    for (node, seen) in [between, instead_of_an_answer, at_once] {
        let gateway = probing(&node);
        eventually("it is connected to again", || node.connections() >= 3);
        eventually("and probed", || seen.load(Ordering::Acquire) >= 3);
        assert_eq!(checked(&gateway)["status"], "healthy");
        assert_eq!(checked(&gateway)["counter"]["tcp_failure"], 0);
    }
}

/// What follows an answer, at once or later, is not taken for the next one.
#[test]
fn only_whole_answers_and_nothing_more_keep_a_connection() {
    const WRONG: &str = "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n";
    let chunked = counting(|peer, seen| {
        while next(peer, seen) {
            peer.send("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        }
    });
    let surplus = counting(|peer, seen| {
        while next(peer, seen) {
            peer.send(format!("HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n{WRONG}"));
        }
    });
    let unasked = counting(|peer, seen| {
        while next(peer, seen) {
            peer.answer("up");
            peer.send(WRONG);
        }
    });
    let old = counting(|peer, seen| {
        while next(peer, seen) {
            peer.send("HTTP/1.0 200 X\r\nContent-Length: 0\r\n\r\n");
        }
    });
    for (node, seen) in [chunked, surplus, unasked, old] {
        let gateway = probing(&node);
        eventually("it is probed again", || seen.load(Ordering::Acquire) >= 3);
        assert!(node.connections() >= 3, "{} connections", node.connections());
        assert_eq!(checked(&gateway)["status"], "healthy");
    }
}

/// What is asked on the last connection would be answered for ever.
#[test]
fn a_node_that_takes_no_new_connections_is_found() {
    let node = Upstream::new();
    let gateway = probing(&node);
    let mut peer = node.accept();
    drop(node);
    // It ends when the gateway gives the connection up.
    peer.serve_all("alive");
    eventually("it is found", || checked(&gateway)["status"] == "unhealthy");
}
