//! Messages that two readers could take for different ones are refused, and what follows them on
//! the connection is never read.

use osmia_tests::{Config, Upstream, on_each_driver};

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Heads that are refused as a whole.
const HEADS: &[(&str, u16)] = &[
    // Two framings.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\ntransfer-encoding: CHUNKED\r\n\r\n", 400),
    // Two lengths.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
    // No length.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nhello", 400),
    // Codings.
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    // Names.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\n Content-Length: 5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nno-colon\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nX[y]: z\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nX\0: z\r\n\r\n", 400),
    // Line ends.
    ("GET / HTTP/1.1\nHost: a\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 5\r\n\r\n", 400),
    ("GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x07b\r\n\r\n", 400),
    // Host.
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    ("GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n", 400),
    ("GET http:///x HTTP/1.1\r\nHost: b\r\n\r\n", 400),
    // Start lines.
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
    ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
];

/// Chunked bodies that are refused.
const BODIES: &[&str] = &[
    "\r\n",
    "x\r\n",
    "-1\r\n",
    "+1\r\na\r\n0\r\n\r\n",
    "0x1\r\na\r\n0\r\n\r\n",
    "1 \r\na\r\n0\r\n\r\n",
    " 1\r\na\r\n0\r\n\r\n",
    "1\na\r\n0\r\n\r\n",
    "1\r\na\n0\r\n\r\n",
    "1\r\nab\r\n0\r\n\r\n",
    "1\r\na0\r\n\r\n",
    "1;a\nb\r\na\r\n0\r\n\r\n",
    "1;a\rb\r\na\r\n0\r\n\r\n",
    "10000000000000000\r\n",
    "fffffffffffffffff\r\n",
    "0000000000000000000000001\r\na\r\n0\r\n\r\n",
    "0\r\nContent-Length: 5\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\nHost: b\r\n\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\r\n\n",
];

on_each_driver! {
    fn ambiguous_heads_are_refused(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for (head, expected) in HEADS {
            let mut client = gateway.client();
            client.send(format!("{head}{HIDDEN}"));
            let response = client.response();
            assert_eq!(response.status(), *expected, "{head:?}");
            assert_eq!(response.field("Connection"), Some("close"), "{head:?}");
            client.finish();
            client.expect_end();
            assert!(upstream.is_untouched(), "{head:?}");
        }
    }

    /// The head has gone to the upstream by then, or not: the body is not finished either way.
    fn ambiguous_bodies_are_refused(driver: Driver) {
        let upstream = Upstream::serving(|mut peer| {
            if peer.head_or_end().is_some() {
                let (rest, _) = peer.rest();
                assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
            }
        });
        let gateway = Config::proxy(driver, &upstream).start();
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in BODIES {
            for at_once in [true, false] {
                let mut client = gateway.client();
                if at_once {
                    client.send(format!("{head}{body}{HIDDEN}"));
                } else {
                    client.send(head);
                    client.send(format!("{body}{HIDDEN}"));
                }
                let response = client.response();
                assert_eq!(response.status(), 400, "{body:?}");
                assert_eq!(response.field("Connection"), Some("close"), "{body:?}");
                client.finish();
                client.expect_end();
            }
        }
    }

    /// What is odd but clear reaches the upstream in the plainest form.
    fn odd_framing_is_written_anew(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTRANSFER-encoding:\tChunked \r\n\r\n2\r\nhi\r\n0\r\n\r\n");
        let mut peer = upstream.accept();
        let seen = peer.serve_one("");
        assert!(seen.fields.contains(&("Transfer-Encoding".to_owned(), "chunked".to_owned())), "{seen}");
        assert_eq!(seen.text(), "hi");
        assert_eq!(client.response().status(), 200);
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length:   0002\t\r\n\r\nhi");
        let seen = peer.serve_one("");
        assert!(seen.fields.contains(&("Content-Length".to_owned(), "2".to_owned())), "{seen}");
        assert_eq!(client.response().status(), 200);
    }

    /// A body on a method that has none by custom is one nevertheless.
    fn any_method_may_have_a_body(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let body = format!("{HIDDEN}tail");
        client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let mut peer = upstream.accept();
        assert_eq!(peer.serve_one("one").text(), body);
        assert_eq!(client.response().text(), "one");
        client.send_get("/next");
        assert_eq!(peer.serve_one("two").target(), "/next");
        assert_eq!(client.response().text(), "two");
    }
}
