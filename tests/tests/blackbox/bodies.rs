//! How bodies are framed on their way, and bodies of any size.

use std::io::Write as _;

use osmia_tests::wire::Framing;
use osmia_tests::{
    Client, Config, End, Gateway, Message, Peer, Upstream, Wire, on_each_driver, pattern,
};

/// What a client with `version` receives when the upstream sends `response` and closes if `close`.
fn returned(
    gateway: &Gateway,
    upstream: &Upstream,
    version: &str,
    response: &str,
    close: bool,
) -> (Message, Client) {
    let mut client = gateway.client();
    client.send(format!("GET / HTTP/{version}\r\nHost: a.test\r\n\r\n"));
    let mut peer = upstream.accept();
    peer.request();
    peer.send(response);
    if close {
        drop(peer);
        return (client.response(), client);
    }
    let message = client.response();
    assert!(peer.is_silent());
    (message, client)
}

const MIB: usize = 1 << 20;
const PART: usize = 64 * 1024;

/// Sends `len` bytes of the pattern.
fn send_pattern(wire: &mut Wire, len: usize) {
    for at in (0..len).step_by(PART) {
        wire.send(pattern::bytes(at as u64, PART.min(len - at)));
    }
}

/// Receives `len` bytes of the pattern.
fn check_pattern(wire: &mut Wire, len: usize) {
    for at in (0..len).step_by(PART) {
        pattern::check(at as u64, &wire.exactly(PART.min(len - at)));
    }
}

/// `body` in chunks of a thousand bytes.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in body.chunks(1000) {
        write!(out, "{:x}\r\n", part.len()).unwrap();
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

const CHUNKED: usize = 16 * MIB;

/// Sends the pattern in chunks, without the last one.
fn send_chunks(wire: &mut Wire) {
    let (mut at, mut size) = (0, 1);
    while at < CHUNKED {
        let len = size.min(CHUNKED - at);
        let mut chunk = Vec::with_capacity(len + 32);
        write!(chunk, "{len:x}\r\n").unwrap();
        chunk.extend_from_slice(&pattern::bytes(at as u64, len));
        chunk.extend_from_slice(b"\r\n");
        wire.send(chunk);
        at += len;
        size = size * 7 % 99_991 + 1;
    }
}

/// Receives all that [`send_chunks`] sends, and the last chunk.
fn check_chunks(wire: &mut Wire) {
    let mut at = 0;
    while let Some(chunk) = wire.chunk() {
        pattern::check(at as u64, &chunk);
        at += chunk.len();
    }
    assert_eq!(at, CHUNKED);
    assert_eq!(wire.line(), "");
}

on_each_driver! {
    fn request_bodies_arrive_with_their_framing(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello");
        let mut peer = upstream.accept();
        let seen = peer.serve_one("");
        assert_eq!((seen.text().as_str(), &seen.framing), ("hello", &Framing::Length(5)));
        assert_eq!(client.response().status(), 200);

        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
        let seen = peer.serve_one("");
        assert_eq!((seen.text().as_str(), &seen.framing), ("", &Framing::Length(0)));
        assert_eq!(client.response().status(), 200);

        client.send("POST / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let seen = peer.serve_one("");
        assert_eq!((seen.text().as_str(), &seen.framing), ("", &Framing::None));
        assert_eq!(client.response().status(), 200);

        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                     5;ext=\"a;b\"\r\nhello\r\n006 ; x\r\n world\r\n0;last\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n");
        let seen = peer.serve_one("");
        assert_eq!(seen.text(), "hello world");
        assert!(matches!(seen.framing, Framing::Chunked(_)), "{seen}");
        let trailers = [("X-Sum", "1"), ("X-Two", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(seen.trailers, trailers);
        assert_eq!(client.response().status(), 200);
    }

    /// Around the sizes of buffers, in every framing, there and back.
    fn bodies_of_many_sizes_come_back(driver: Driver) {
        let upstream = Upstream::serving(|mut peer| {
            while let Some(request) = peer.request_or_end() {
                let body = &request.body;
                match request.target() {
                    "/length" => peer.answer(body),
                    "/chunked" => {
                        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                        peer.send([head.as_bytes(), &chunked(body)].concat());
                    }
                    _ => {
                        peer.send([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), body].concat());
                        return;
                    }
                }
            }
        });
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let around = |size: usize| [size - 200, size - 1, size, size + 1];
        let sizes = [1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072].map(around);
        for size in [0, 1, 2].into_iter().chain(sizes.into_iter().flatten()) {
            let body = pattern::bytes(size as u64, size);
            for target in ["/length", "/chunked", "/close"] {
                let head = format!("POST {target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n");
                client.send([head.as_bytes(), &body].concat());
                assert!(client.response().body == body, "{size} {target} by length");
                let head = format!("POST {target} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
                client.send([head.as_bytes(), &chunked(&body)].concat());
                assert!(client.response().body == body, "{size} {target} in chunks");
            }
        }
    }

    /// Heads that fill the buffers: what is added to them must find room.
    fn large_heads_arrive_whole(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = None;
        for size in [1000, 2000, 3900, 4000, 4090, 8000, 8190, 16_300, 32_000, 32_600] {
            let value = "x".repeat(size);
            client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nX: {value}\r\nContent-Length: 4\r\n\r\nbody"));
            let peer: &mut Peer = peer.get_or_insert_with(|| upstream.accept());
            let seen = peer.request();
            assert!(seen.field("X") == Some(&value), "{size}");
            assert_eq!(seen.text(), "body", "{size}");
            peer.send(format!("HTTP/1.1 200 OK\r\nX: {value}\r\nContent-Length: 4\r\n\r\nbody"));
            let response = client.response();
            assert!(response.field("X") == Some(&value), "{size}");
            assert!(response.field("Server").is_some() && response.text() == "body", "{size}");
        }
    }

    /// Any cut of a chunked body.
    fn a_chunked_body_may_come_byte_by_byte(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut peer = upstream.accept();
        let mut seen = peer.head();
        for byte in b"3;e=f\r\nabc\r\n00A\r\n0123456789\r\n0\r\nT: v\r\n\r\n" {
            client.send([*byte]);
        }
        peer.body(&mut seen);
        assert_eq!(seen.text(), "abc0123456789");
        assert_eq!(seen.trailers, [("T".to_owned(), "v".to_owned())]);
        for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n0\r\nU: w\r\n\r\n" {
            peer.send([*byte]);
        }
        let response = client.response();
        assert_eq!(response.text(), "hi");
        assert_eq!(response.trailers, [("U".to_owned(), "w".to_owned())]);
    }

    fn responses_keep_their_framing(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let (message, mut client) =
            returned(&gateway, &upstream, "1.1", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false);
        assert_eq!((message.text().as_str(), &message.framing), ("", &Framing::Length(0)));
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3;e\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n";
        client.send_get("/");
        // The first connection is gone with its `Peer`.
        let mut peer = upstream.accept();
        peer.request();
        peer.send(text);
        let message = client.response();
        assert_eq!(message.text(), "abcde");
        assert_eq!(message.trailers, [("X-T".to_owned(), "1".to_owned())]);
        // What frames is not touched by the chunked body before it.
        client.send_get("/");
        peer.serve_one("next");
        assert_eq!(client.response().text(), "next");
    }

    fn a_chunked_response_to_an_old_client_ends_with_the_connection(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3;e\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n";
        let (message, mut client) = returned(&gateway, &upstream, "1.0", text, false);
        assert_eq!((message.text().as_str(), &message.framing), ("abcde", &Framing::Close));
        assert_eq!(message.field("Connection"), Some("close"));
        client.expect_end();
    }

    fn a_response_that_ends_with_the_connection(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"] {
            let text = format!("{head}all of it");
            let (message, mut client) = returned(&gateway, &upstream, "1.1", &text, true);
            assert_eq!(message.text(), "all of it");
            assert!(matches!(message.framing, Framing::Chunked(_)), "{message}");
            assert_eq!(message.field("Connection"), None);
            assert!(message.trailers.is_empty());
            client.send_get("/");
            upstream.accept().serve_one("kept");
            assert_eq!(client.response().text(), "kept", "the client's connection is kept");

            let (message, _) = returned(&gateway, &upstream, "1.0", &text, true);
            assert_eq!((message.text().as_str(), &message.framing), ("all of it", &Framing::Close));
        }
        let (message, _) = returned(&gateway, &upstream, "1.1", "HTTP/1.1 200 OK\r\n\r\n", true);
        assert_eq!((message.text().as_str(), message.framing), ("", Framing::Chunked(vec![])));
    }

    /// RFC 9112, section 6.3, first two items: no body, whatever the fields say.
    fn responses_without_a_body(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        for (method, response, length, coding) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", Some("1000"), None),
            ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None, Some("chunked")),
            ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", None, None),
            ("HEAD", "HTTP/1.1 204 No Content\r\n\r\n", None, None),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None, None),
            ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None, None),
            ("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", None, None),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", Some("1000"), None),
            ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", None, None),
        ] {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            let mut peer = upstream.accept();
            peer.request();
            peer.send(response);
            let message = client.response_to(method);
            assert_eq!(message.field("Content-Length"), length, "{method} {response}");
            assert_eq!(message.field("Transfer-Encoding"), coding, "{method} {response}");
            // The connection is in step.
            client.send_get("/");
            drop(peer);
            upstream.accept().serve_one("next");
            assert_eq!(client.response().text(), "next", "{method} {response}");
        }
    }

    /// A kept upstream connection is in step after a response without a body.
    fn no_body_leaves_the_upstreams_connection_usable(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let mut peer = upstream.accept();
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        client.response_to("HEAD");
        client.send_get("/");
        peer.request();
        peer.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(client.response().status(), 304);
        client.send_get("/");
        peer.serve_one("same");
        assert_eq!(client.response().text(), "same");
    }

    fn a_big_upload_arrives_whole(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let before = gateway.peak();
        let mut client = gateway.client();
        client.send(format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", 64 * MIB));
        let mut sender = client.second();
        let sending = std::thread::spawn(move || send_pattern(&mut sender, 64 * MIB));
        let mut peer = upstream.accept();
        peer.head();
        check_pattern(&mut peer, 64 * MIB);
        sending.join().unwrap();
        peer.answer("got it");
        assert_eq!(client.response().text(), "got it");
        assert!(gateway.peak() - before < 8 * MIB as u64, "{} -> {}", before, gateway.peak());
    }

    fn a_big_download_arrives_whole(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let before = gateway.peak();
        let mut client = gateway.client();
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.request();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 * MIB));
        let sending = std::thread::spawn(move || {
            send_pattern(&mut peer, 64 * MIB);
            peer
        });
        client.head();
        check_pattern(&mut client, 64 * MIB);
        let mut peer = sending.join().unwrap();
        client.send_get("/");
        peer.serve_one("next");
        assert_eq!(client.response().text(), "next");
        assert!(gateway.peak() - before < 8 * MIB as u64, "{} -> {}", before, gateway.peak());
    }

    /// Chunked, with chunks of many sizes. The response ends after the request: the exchange is
    /// over with it.
    fn big_chunked_bodies_flow_both_ways_at_once(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut peer = upstream.accept();
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.head();
        let (mut from_client, mut from_peer) = (client.second(), peer.second());
        let uploading = std::thread::spawn(move || {
            send_chunks(&mut from_client);
            from_client.send("0\r\n\r\n");
        });
        let downloading = std::thread::spawn(move || send_chunks(&mut from_peer));
        let arriving = std::thread::spawn(move || {
            check_chunks(&mut peer);
            downloading.join().unwrap();
            peer.send("0\r\n\r\n");
            peer
        });
        check_chunks(&mut client);
        uploading.join().unwrap();
        let mut peer: Peer = arriving.join().unwrap();
        client.send_get("/");
        peer.serve_one("in step");
        assert_eq!(client.response().text(), "in step");
    }

    /// The client reads nothing: what the upstream sends must come to a halt instead of piling up.
    fn a_slow_reader_slows_the_upstream(driver: Driver) {
        const TOTAL: u64 = 256 << 20;
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let before = gateway.peak();
        let mut client = gateway.client();
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.request();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n"));
        let sent = peer.send_until_full(TOTAL);
        assert!(sent < 64 << 20, "{sent} bytes were taken that nobody read");
        assert!(gateway.peak() - before < 8 * MIB as u64, "{} -> {}", before, gateway.peak());
        // It goes on where it stood.
        client.head();
        pattern::check(0, &client.exactly(sent as usize));
    }

    /// The upstream reads nothing: the upload must come to a halt.
    fn a_slow_upstream_slows_the_client(driver: Driver) {
        const TOTAL: u64 = 256 << 20;
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let before = gateway.peak();
        let mut client = gateway.client();
        client.send(format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {TOTAL}\r\n\r\n"));
        let mut peer = upstream.accept();
        peer.head();
        let sent = client.send_until_full(TOTAL);
        assert!(sent < 64 << 20, "{sent} bytes were taken that nobody read");
        assert!(gateway.peak() - before < 8 * MIB as u64, "{} -> {}", before, gateway.peak());
        pattern::check(0, &peer.exactly(sent as usize));
    }

    /// An old client cannot be told of a cut in a close-delimited body but by a reset.
    fn a_cut_body_is_no_whole_body(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for (version, response) in [
            ("1.1", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
            ("1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            ("1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n"),
            ("1.0", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        ] {
            let mut client = gateway.client();
            client.send(format!("GET / HTTP/{version}\r\nHost: a.test\r\n\r\n"));
            let mut peer = upstream.accept();
            peer.request();
            peer.send(response);
            drop(peer);
            let head = client.head();
            let (rest, _) = client.rest();
            let rest = String::from_utf8(rest).unwrap();
            assert!(!rest.ends_with("0\r\n\r\n"), "{response}: {rest}");
            let length = head.field("Content-Length");
            assert!(length.is_none_or(|length| length != rest.len().to_string()), "{head} {rest}");
            assert!(rest.contains("half"), "{rest}");
        }
    }

    fn a_cut_chunked_body_for_an_old_client_ends_with_a_reset(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
        let mut peer = upstream.accept();
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        client.head();
        assert_eq!(client.exactly(4), b"half");
        drop(peer);
        assert_eq!(client.expect_end(), End::Reset, "an end in order would say that it was whole");
    }
}
