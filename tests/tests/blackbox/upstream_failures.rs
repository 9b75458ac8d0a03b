//! What upstreams do wrong, and what clients are told.

use osmia_tests::port::{Reserved, Unanswering};
use osmia_tests::{Config, Gateway, Message, Peer, Upstream, Wire, on_each_driver};
use serde_json::{Value, json};

/// A gateway that waits half a second for anything, and tries a node once.
fn impatient(driver: osmia_tests::Driver, node: &str) -> Gateway {
    Config::proxy_to_nodes(driver, &[node.to_owned()], impatience()).start()
}

fn impatience() -> Value {
    json!({"timeout": {"connect": 0.5, "send": 0.5, "read": 0.5}, "retries": 0})
}

#[track_caller]
fn check_page(response: &Message, status: u16, title: &str) {
    assert_eq!(response.start, format!("HTTP/1.1 {status} {title}"));
    assert_eq!(response.field("Content-Type"), Some("text/html; charset=utf-8"));
    let heading = format!("<h1>{status} {title}</h1>");
    assert!(response.text().contains(&heading), "{response}");
    assert!(response.field("Server").unwrap().starts_with("Osmia/"));
}

/// Asks on a new connection, lets `fail` play the upstream, and returns the response; the client's
/// connection must serve another request.
#[track_caller]
fn failing(gateway: &Gateway, upstream: &Upstream, fail: impl FnOnce(Peer)) -> Message {
    let mut client = gateway.client();
    client.send_get("/");
    let mut peer = upstream.accept();
    peer.request();
    fail(peer);
    let response = client.response();
    client.send_get("/next");
    upstream.accept().serve_one("next");
    assert_eq!(client.response().text(), "next");
    response
}

on_each_driver! {
    fn a_refused_connection_is_a_bad_gateway(driver: Driver) {
        let nobody = Reserved::new();
        let gateway = Config::proxy_to_nodes(driver, &[nobody.addr().to_string()], json!({})).start();
        let mut client = gateway.client();
        for _ in 0..3 {
            check_page(&client.get("/"), 502, "Bad Gateway");
        }
        gateway.log().wait_for(&["WARN", &nobody.addr().to_string(), "cannot connect"]);
        let head = client.exchange("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(head.status(), 502);
        assert!(head.field("Content-Length").unwrap().parse::<u32>().unwrap() > 0);
    }

    fn closed_or_reset_before_a_response(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let response = failing(&gateway, &upstream, drop);
        check_page(&response, 502, "Bad Gateway");
        let response = failing(&gateway, &upstream, |peer| Wire::from(peer).reset());
        check_page(&response, 502, "Bad Gateway");
        let response = failing(&gateway, &upstream, |mut peer| {
            peer.finish();
            peer.expect_end();
        });
        check_page(&response, 502, "Bad Gateway");
    }

    fn closed_or_reset_within_the_head(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for part in ["H", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r"] {
            let response = failing(&gateway, &upstream, |mut peer| peer.send(part));
            check_page(&response, 502, "Bad Gateway");
            let response = failing(&gateway, &upstream, |mut peer| {
                peer.send(part);
                Wire::from(peer).reset();
            });
            check_page(&response, 502, "Bad Gateway");
        }
    }

    fn interim_responses_do_not_count_as_one(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let response = failing(&gateway, &upstream, |mut peer| peer.send("HTTP/1.1 100 Continue\r\n\r\n"));
        check_page(&response, 502, "Bad Gateway");
        let mut client = gateway.client();
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.request();
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
        assert_eq!(client.head().status(), 103);
        drop(peer);
        check_page(&client.response(), 502, "Bad Gateway");
    }

    fn garbage_is_a_bad_gateway(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for garbage in [
            "garbage\r\n\r\n",
            "\r\n\r\n",
            "\0\0\0\0\0\0\0\0\0",
            "SSH-2.0-OpenSSH_9\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 999 OK\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "HTTP/1.1 200 OK\r\nName with space: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nName : x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            let response = failing(&gateway, &upstream, |mut peer| {
                peer.send(garbage);
                // It is told to go away.
                peer.expect_end();
            });
            check_page(&response, 502, "Bad Gateway");
        }
        gateway.log().wait_for(&["WARN", &upstream.node(), "invalid response"]);
    }

    fn a_head_beyond_the_limits_is_a_bad_gateway(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: x\r\n".repeat(101));
        for head in [long, many] {
            let response = failing(&gateway, &upstream, |mut peer| {
                let _ = peer.try_send(head);
                peer.expect_end();
            });
            check_page(&response, 502, "Bad Gateway");
        }
    }

    /// The response has begun: the client must see that it does not end as it should.
    fn a_broken_chunked_body_is_cut_off(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for broken in ["x\r\n", "\r\n", "3\r\nabcd\r\n", "fffffffffffffffff\r\n", "0\r\nBad Trailer: x\r\n\r\n", "-1\r\n"] {
            let mut client = gateway.client();
            client.send_get("/");
            let mut peer = upstream.accept();
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
            client.head();
            assert_eq!(client.chunk().unwrap(), b"ok");
            peer.send(broken);
            peer.expect_end();
            let (rest, _) = client.rest();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{broken:?}: {}", rest.escape_ascii());
        }
    }

    fn what_follows_a_response_is_not_taken_for_the_next(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        for extra in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            client.send_get("/");
            let mut peer = upstream.accept();
            peer.request();
            peer.send(extra);
            assert_eq!(client.response().text(), "ok");
            peer.expect_end();
        }
        // It comes late, on the kept connection.
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.serve_one("ok");
        assert_eq!(client.response().text(), "ok");
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        peer.expect_end();
        client.send_get("/");
        upstream.accept().serve_one("good");
        assert_eq!(client.response().text(), "good");
    }

    fn connecting_in_vain_times_out(driver: Driver) {
        let deaf = Unanswering::new();
        let gateway = impatient(driver, &deaf.addr().to_string());
        check_page(&gateway.get("/"), 504, "Gateway Time-out");
    }

    fn a_response_in_vain_times_out(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = impatient(driver, &upstream.node());
        for part in ["", "HTTP/1.1 200 OK\r\nContent-"] {
            let mut client = gateway.client();
            client.send_get("/");
            let mut peer = upstream.accept();
            peer.request();
            peer.send(part);
            check_page(&client.response(), 504, "Gateway Time-out");
            peer.expect_end();
            // The client's connection goes on.
            client.send_get("/");
            upstream.accept().serve_one("next");
            assert_eq!(client.response().text(), "next");
        }
        gateway.log().wait_for(&["WARN", &upstream.node(), "timed out"]);
    }

    /// The rest of a body in vain: the response has begun, the client's connection is cut.
    fn a_body_in_vain_is_cut_off(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = impatient(driver, &upstream.node());
        let mut client = gateway.client();
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        client.head();
        assert_eq!(client.exactly(4), b"half");
        client.expect_end();
        peer.expect_end();
    }

    /// The upstream takes nothing of the upload.
    fn sending_in_vain_times_out(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = impatient(driver, &upstream.node());
        let mut client = gateway.client();
        client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000000\r\n\r\n");
        let mut sender = client.second();
        let sending = std::thread::spawn(move || {
            let block = vec![b'x'; 64 * 1024];
            while sender.try_send(&block).is_ok() {}
        });
        let _peer = upstream.accept();
        check_page(&client.response(), 504, "Gateway Time-out");
        client.hang_up();
        sending.join().unwrap();
    }

    /// Time counts from the last byte, not from the first.
    fn a_slow_but_steady_response_is_no_timeout(driver: Driver) {
        let upstream = Upstream::new();
        let options = json!({"timeout": {"connect": 5, "send": 5, "read": 2}});
        let gateway = Config::proxy_with(driver, &upstream, options).start();
        let mut client = gateway.client();
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n");
        client.head();
        for _ in 0..15 {
            peer.send("x");
            assert_eq!(client.exactly(1), b"x");
            // The pace of the response: longer in all than the time that silence may last.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        client.send_get("/");
        peer.serve_one("kept");
        assert_eq!(client.response().text(), "kept");
    }

    /// A response is not late while its request is still being sent.
    fn a_slow_upload_is_no_timeout(driver: Driver) {
        let upstream = Upstream::new();
        let options = json!({"timeout": {"connect": 5, "send": 5, "read": 1}});
        let gateway = Config::proxy_with(driver, &upstream, options).start();
        let mut client = gateway.client();
        client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n");
        let mut peer = upstream.accept();
        peer.head();
        for _ in 0..10 {
            client.send("x");
            assert_eq!(peer.exactly(1), b"x");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        peer.answer("patient");
        assert_eq!(client.response().text(), "patient");
    }

    fn a_routes_timeout_wins_over_its_upstreams(driver: Driver) {
        let upstream = Upstream::new();
        let patient = osmia_tests::config::upstream_of(
            &[upstream.node()],
            json!({"timeout": {"connect": 60, "send": 60, "read": 60}}),
        );
        let gateway = Config::new()
            .driver(driver)
            .route(json!({
                "uri": "/*", "upstream": patient, "timeout": {"connect": 1, "send": 1, "read": 0.5},
            }))
            .start();
        let mut client = gateway.client();
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.request();
        assert_eq!(client.response().status(), 504);
        peer.expect_end();
    }
}
