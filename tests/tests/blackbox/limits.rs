//! Limits on heads and bodies.

use osmia_tests::{Client, Config, Gateway, Upstream, on_each_driver};

/// Sends `request` on a new connection; the status, and whether the connection was closed with it.
fn status(gateway: &Gateway, request: &str) -> (u16, bool) {
    let mut client = gateway.client();
    client.send(request);
    finish(client)
}

fn finish(mut client: Client) -> (u16, bool) {
    let response = client.response();
    let closed = response.field("Connection") == Some("close");
    if closed {
        client.finish();
        client.expect_end();
    }
    (response.status(), closed)
}

const KEPT: (u16, bool) = (200, false);

on_each_driver! {
    fn the_request_line(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).set("osmia.limits.request_line_bytes", 100).start();
        let of = |len: usize| {
            let target = "x".repeat(len - "GET / HTTP/1.1".len());
            format!("GET /{target} HTTP/1.1\r\nHost: a.test\r\n\r\n")
        };
        assert_eq!(status(&gateway, &of(100)), KEPT);
        assert_eq!(status(&gateway, &of(101)), (414, true));
        assert_eq!(status(&gateway, &of(10_000)), (414, true));
        // Without its end.
        assert_eq!(status(&gateway, &of(5_000)[..4_000]), (414, true));
        let mut client = gateway.client();
        client.send(of(200));
        let response = client.response();
        assert_eq!(response.start, "HTTP/1.1 414 Request-URI Too Large");
        assert!(response.text().contains("414 Request-URI Too Large"));
    }

    fn the_bytes_of_a_head(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream)
            .set("osmia.limits.request_line_bytes", 100)
            .set("osmia.limits.head_bytes", 1000)
            .start();
        let of = |len: usize| {
            let fixed = "GET / HTTP/1.1\r\nHost: a.test\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", "x".repeat(len - fixed))
        };
        assert_eq!(status(&gateway, &of(990)), KEPT);
        assert_eq!(status(&gateway, &of(1010)), (431, true));
        assert_eq!(status(&gateway, &of(50_000)), (431, true));
        assert_eq!(status(&gateway, &of(5_000)[..4_000]), (431, true));
    }

    fn the_number_of_fields(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).set("osmia.limits.header_count", 10).start();
        let of = |count: usize| {
            format!("GET / HTTP/1.1\r\nHost: a.test\r\n{}\r\n", "X: y\r\n".repeat(count - 1))
        };
        assert_eq!(status(&gateway, &of(10)), KEPT);
        assert_eq!(status(&gateway, &of(11)), (431, true));
        assert_eq!(status(&gateway, &of(1000)), (431, true));
    }

    fn the_defaults_hold(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).start();
        let line = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(len - 14));
        assert_eq!(status(&gateway, &line(8192)), KEPT);
        assert_eq!(status(&gateway, &line(8193)), (414, true));
        let head = |len: usize| {
            let field = format!("X: {}\r\n", "x".repeat(8000));
            let fields = field.repeat(len / 8005);
            format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
        };
        assert_eq!(status(&gateway, &head(32_100)), KEPT);
        assert_eq!(status(&gateway, &head(40_100)), (431, true));
        let count = |count: usize| {
            format!("GET / HTTP/1.1\r\nHost: a.test\r\n{}\r\n", "X: y\r\n".repeat(count - 1))
        };
        assert_eq!(status(&gateway, &count(100)), KEPT);
        assert_eq!(status(&gateway, &count(101)), (431, true));
        let options = |count: usize| {
            format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: {}\r\n\r\n", "x,".repeat(count))
        };
        assert_eq!(status(&gateway, &options(32)), KEPT);
        assert_eq!(status(&gateway, &options(33)), (431, true));
    }

    /// Nobody keeps a gateway busy with a head that never ends.
    fn an_endless_head_is_cut_off(driver: Driver) {
        let gateway = Config::new().driver(driver).start();
        for (start, endless) in [
            ("", "x"),
            ("GET /", "x"),
            ("GET / HTTP/1.1\r\n", "x"),
            ("GET / HTTP/1.1\r\nX: ", "x"),
            ("GET / HTTP/1.1\r\n", "X: y\r\n"),
            ("", "\r\n"),
        ] {
            let mut client = gateway.client();
            let mut sender = client.second();
            sender.send(start);
            let sending = std::thread::spawn(move || {
                let block = endless.repeat(10_000);
                while sender.try_send(&block).is_ok() {}
            });
            let response = client.response();
            assert!(matches!(response.status(), 400 | 414 | 431), "{endless:?}: {response}");
            client.hang_up();
            sending.join().unwrap();
        }
        assert!(gateway.peak() < 64 << 20);
    }

    fn the_length_of_a_body(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).http("client_max_body_size", 10).start();
        let known = |len: usize| {
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {len}\r\n\r\n{}", "x".repeat(len))
        };
        assert_eq!(status(&gateway, &known(10)), KEPT);
        assert_eq!(status(&gateway, &known(11)).0, 413);
        // The announcement is enough.
        let announced = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n";
        assert_eq!(status(&gateway, announced), (413, true));
        let expecting = announced.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(status(&gateway, &expecting), (413, true));
    }

    /// The limit is on the content; its framing does not count.
    fn the_length_of_a_chunked_body(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).http("client_max_body_size", 10).start();
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = gateway.client();
        client.send(format!("{head}5\r\n12345\r\n5\r\n67890\r\n0\r\n\r\n"));
        assert_eq!(upstream.accept().serve_one("x").text(), "1234567890");
        assert_eq!(finish(client), KEPT);
        let mut client = gateway.client();
        client.send(head);
        let mut peer = upstream.accept();
        peer.head();
        client.send("8\r\n12345678\r\n");
        assert_eq!(peer.chunk().unwrap(), b"12345678");
        client.send("8\r\n12345678\r\n");
        assert_eq!(finish(client), (413, true));
        let (rest, _) = peer.rest();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
    }

    fn lines_and_trailers_of_a_chunked_body(driver: Driver) {
        let upstream = Upstream::serving(|mut peer| {
            // Whatever ends a connection that is given up is right here.
            let mut seen = peer.head();
            let (rest, _) = peer.rest();
            seen.body = rest;
        });
        let gateway = Config::proxy(driver, &upstream)
            .set("osmia.limits.chunk_line_bytes", 50)
            .set("osmia.limits.trailer_bytes", 60)
            .start();
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (body, expected) in [
            (format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(60)), 400),
            (format!("5;{}", "x".repeat(60)), 400),
            (format!("0\r\nX: {}\r\n\r\n", "x".repeat(60)), 431),
            (format!("0\r\n{}", "X: y\r\n".repeat(20)), 431),
        ] {
            // In one piece with the head, and behind it.
            assert_eq!(status(&gateway, &format!("{head}{body}")), (expected, true), "{body}");
            let mut client = gateway.client();
            client.send(head);
            client.send(&body);
            assert_eq!(finish(client), (expected, true), "{body}");
        }
    }

    fn lines_and_trailers_within_the_limits(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream)
            .set("osmia.limits.chunk_line_bytes", 50)
            .set("osmia.limits.trailer_bytes", 60)
            .start();
        let body = format!("5;{}\r\nhello\r\n0\r\nX: {}\r\n\r\n", "x".repeat(40), "x".repeat(50));
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(status(&gateway, &format!("{head}{body}")), KEPT);
    }
}
