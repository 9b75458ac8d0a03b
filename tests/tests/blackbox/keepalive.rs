//! How long a client's connection lives, and pipelining.

use osmia_tests::{Client, Config, End, Upstream, on_each_driver};

/// Whether the connection serves another request.
fn is_kept(client: &mut Client, upstream: &mut osmia_tests::Peer) -> bool {
    client.send_get("/again");
    let served = upstream.request_or_end().is_some();
    if served {
        upstream.answer("again");
        assert_eq!(client.response().text(), "again");
    }
    served
}

on_each_driver! {
    fn requests_follow_one_another(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send_get("/1");
        let mut peer = upstream.accept();
        peer.serve_one("one");
        assert_eq!(client.response().text(), "one");
        for _ in 0..3 {
            assert!(is_kept(&mut client, &mut peer));
        }
        assert!(upstream.is_untouched(), "the upstream's connection is kept as well");
    }

    /// RFC 9112, section 9.3.
    fn who_asks_to_close_and_who_to_keep(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).start();
        for (version, connection, kept, said) in [
            ("1.1", "", true, None),
            ("1.1", "Connection: keep-alive\r\n", true, None),
            ("1.1", "Connection: close\r\n", false, Some("close")),
            ("1.1", "Connection: x, CLOSE\r\n", false, Some("close")),
            ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false, Some("close")),
            ("1.0", "", false, Some("close")),
            ("1.0", "Connection: Keep-Alive\r\n", true, Some("keep-alive")),
            ("1.0", "Connection: close, keep-alive\r\n", false, Some("close")),
        ] {
            let case = format!("{version} {connection:?}");
            let mut client = gateway.client();
            let request = format!("GET / HTTP/{version}\r\nHost: a.test\r\n{connection}\r\n");
            let response = client.exchange(&request);
            assert_eq!(response.field("Connection"), said, "{case}");
            if kept {
                assert_eq!(client.exchange(&request).text(), "x", "{case}");
            } else {
                assert_eq!(client.expect_end(), End::Eof, "{case}");
            }
        }
    }

    fn many_requests_in_one_packet_are_answered_in_order(driver: Driver) {
        let upstream = Upstream::serving(|mut peer| {
            while let Some(request) = peer.request_or_end() {
                let target = request.target().to_owned();
                peer.answer(format!("{target} {}", request.text()));
            }
        });
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let requests = (0..50).map(|number| {
            match number % 3 {
                0 => format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
                1 => format!("POST /{number} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"),
                _ => format!(
                    "POST /{number} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                     2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
                ),
            }
        });
        client.send(requests.collect::<String>());
        for number in 0..50 {
            let body = ["", "abc", "def"][number % 3];
            assert_eq!(client.response().text(), format!("/{number} {body}"));
        }
        assert_eq!(client.get("/last").text(), "/last ");
    }

    fn pipelined_requests_wait_for_their_turn(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send_get("/first");
        let mut peer = upstream.accept();
        assert_eq!(peer.request().target(), "/first");
        client.send_get("/second");
        peer.answer("first");
        assert_eq!(client.response().text(), "first");
        assert_eq!(peer.request().target(), "/second");
        peer.answer("second");
        assert_eq!(client.response().text(), "second");
    }

    fn nothing_is_served_after_the_last_request(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send(
            "GET /last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n\
             GET /never HTTP/1.1\r\nHost: a.test\r\n\r\n",
        );
        let mut peer = upstream.accept();
        assert_eq!(peer.serve_one("last").target(), "/last");
        assert_eq!(client.response().text(), "last");
        client.finish();
        assert_eq!(client.expect_end(), End::Eof);
        assert!(peer.is_silent() && upstream.is_untouched());
    }

    /// Cut anywhere, also within the blank line.
    fn a_head_may_come_byte_by_byte(driver: Driver) {
        let upstream = Upstream::answering("slow");
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            for byte in b"GET /slow HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n" {
                client.send([*byte]);
            }
            assert_eq!(client.response().text(), "slow");
        }
    }

    fn blank_lines_before_a_request_are_passed_over(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        assert_eq!(client.exchange("\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n").status(), 200);
        assert_eq!(client.exchange("\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n").status(), 200);
    }

    fn the_number_of_requests_is_limited(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).set("osmia.keepalive_requests", 3).start();
        let mut client = gateway.client();
        assert_eq!(client.get("/").field("Connection"), None);
        assert_eq!(client.get("/").field("Connection"), None);
        assert_eq!(client.get("/").field("Connection"), Some("close"));
        assert_eq!(client.expect_end(), End::Eof);
    }

    /// The limit holds for replies of the gateway's own too.
    fn the_number_of_refused_requests_is_limited(driver: Driver) {
        let gateway = Config::new().driver(driver).set("osmia.keepalive_requests", 2).start();
        let mut client = gateway.client();
        assert_eq!(client.get("/").field("Connection"), None);
        assert_eq!(client.get("/").field("Connection"), Some("close"));
        assert_eq!(client.expect_end(), End::Eof);
    }

    fn an_idle_connection_is_closed_in_time(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).http("keepalive_timeout", "1s").start();
        let mut client = gateway.client();
        assert_eq!(client.get("/").status(), 200);
        assert_eq!(client.expect_end(), End::Eof);
    }

    fn zero_keeps_no_connection(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).http("keepalive_timeout", 0).start();
        let mut client = gateway.client();
        assert_eq!(client.get("/").field("Connection"), Some("close"));
        assert_eq!(client.expect_end(), End::Eof);
    }

    /// A connection that waits is set aside after a moment, and taken up again.
    fn a_connection_that_waited_serves_again(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut other = gateway.client();
        for _ in 0..3 {
            assert_eq!(client.get("/").status(), 200);
            // No event tells that it was set aside; that it serves must hold either way.
            std::thread::sleep(std::time::Duration::from_millis(600));
            assert_eq!(other.get("/").status(), 200);
        }
        // Two requests at once after the wait.
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "x");
        assert_eq!(client.response().text(), "x");
    }

    fn a_client_that_says_nothing_is_closed(driver: Driver) {
        let gateway = Config::new().driver(driver).http("client_header_timeout", "500ms").start();
        assert_eq!(gateway.client().expect_end(), End::Eof);
    }
}
