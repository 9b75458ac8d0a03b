//! From HTTP/2 down to HTTP/1.1: whatever a client says, the upstream sees only whole requests that
//! were made, and no field that was none.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use osmia_tests::h2::{Frame, Outcome, get, hpack};
use osmia_tests::rawhttp::{self, Read};
use osmia_tests::{Config, Driver, Gateway, H2, Upstream, on_each_driver};

use super::{Request, post, requests, with};

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a.test\r\nX-Smuggled: 1\r\n\r\n";

type Bytes = Arc<Mutex<Vec<Vec<u8>>>>;

/// An upstream that keeps every byte, by connection, and answers each message with its target.
struct Recorder {
    upstream: Upstream,
    bytes: Bytes,
}

impl Recorder {
    fn new() -> Self {
        let bytes = Bytes::default();
        let theirs = Arc::clone(&bytes);
        let upstream = Upstream::serving(move |mut peer| {
            let connection = {
                let mut all = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(Vec::new());
                all.len() - 1
            };
            let mut waiting = Vec::new();
            loop {
                let some = peer.some();
                if some.is_empty() {
                    return;
                }
                waiting.extend_from_slice(&some);
                theirs.lock().unwrap_or_else(PoisonError::into_inner)[connection].extend(some);
                while let Read::Whole(message, used) = rawhttp::read(&waiting) {
                    waiting.drain(..used);
                    let line = message.start_line;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", line.len());
                    if peer.try_send(head + &line).is_err() {
                        return;
                    }
                }
            }
        });
        Self { upstream, bytes }
    }

    /// Checks that all is plain: one host, one framing, no field or request that was smuggled.
    /// Returns the start lines. A message may be cut off: then nothing may follow it.
    #[track_caller]
    fn check(&self, targets: &[&str]) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for bytes in self.bytes.lock().unwrap().iter() {
            let shown = bytes.escape_ascii().to_string();
            let (messages, rest) = rawhttp::read_all(bytes);
            assert!(!matches!(rawhttp::read(&rest), Read::Wrong(_)), "odd bytes: {shown}");
            for message in &messages {
                let mut parts = message.start_line.split(' ');
                let (_, target, version) = (parts.next(), parts.next(), parts.next());
                assert_eq!((version, parts.next()), (Some("HTTP/1.1"), None), "{shown}");
                assert!(target.is_some_and(|target| targets.contains(&target)), "{shown}");
                assert_eq!(message.values("host").len(), 1, "{shown}");
                let framings = message.values("content-length").len()
                    + message.values("transfer-encoding").len();
                assert!(framings <= 1, "{shown}");
                assert!(message.values("x-smuggled").is_empty(), "{shown}");
                assert!(message.fields.iter().all(|(name, _)| !name.contains(':')), "{shown}");
                lines.insert(message.start_line.clone());
            }
            let rest = String::from_utf8_lossy(&rest).into_owned();
            assert!(!rest.contains("/hidden") || rest.starts_with("POST "), "{shown}");
        }
        lines
    }
}

fn started(driver: Driver) -> (Recorder, Gateway) {
    let recorder = Recorder::new();
    let gateway = Config::proxy(driver, &recorder.upstream).start();
    (recorder, gateway)
}

/// A request on a new connection is answered with its own answer, also over a kept connection.
#[track_caller]
fn check_own_answer(gateway: &Gateway) {
    for path in ["/check-1", "/check-2", "/check-3"] {
        let mut h2 = H2::connect(gateway.addr());
        let stream = h2.get(path);
        assert_eq!(h2.response(stream).text(), format!("GET {path} HTTP/1.1"));
    }
}

const CHECKS: [&str; 3] = ["/check-1", "/check-2", "/check-3"];

/// More than the tables of malformed requests have: with a request or a field inside.
const HEADS: &[Request] = &[
    &[("x", "y\r\nx-smuggled: 1")],
    &[("x", "y\nx-smuggled: 1")],
    &[("x", "y\rx-smuggled: 1")],
    &[("x", "y\0x-smuggled: 1")],
    &[("x: y\r\nx-smuggled", "1")],
    &[("x\r\nx-smuggled", "1")],
    &[("x-smuggled: 1\r\nx", "1")],
    &[("transfer-encoding", "chunked")],
    &[("Transfer-Encoding", "chunked")],
    &[("transfer-encoding ", "chunked")],
    &[("transfer-encoding\t", "chunked")],
    &[("transfer_encoding", "chunked")],
    &[("connection", "x-real-ip, x-forwarded-for")],
    &[("connection", "upgrade"), ("upgrade", "websocket")],
    &[
        ("connection", "upgrade, http2-settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
    ],
    &[("content-length", "0"), ("content-length", "60")],
    &[("content-length", "60"), ("transfer-encoding", "chunked")],
    &[("content-length", "60\r\nx-smuggled: 1")],
    &[("host", "b.test")],
    &[("host", "a.test\r\nx-smuggled: 1")],
    &[("expect", "100-continue"), ("content-length", "60")],
    &[("trailer", "content-length")],
    &[("te", "chunked")],
    &[("x", "\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n")],
];

const PATHS: [&str; 10] = [
    "/a HTTP/1.1\r\nx-smuggled: 1\r\nx: ",
    "/a HTTP/1.1",
    "/a HTTP/1.1\r\n\r\nGET /hidden",
    "/a\r\n",
    "/a\tb",
    "//b.test/hidden",
    "http://b.test/hidden",
    "/a b",
    "\r\n/a",
    "/a\u{85}b",
];

on_each_driver! {
    fn tables_of_malformed_requests(driver: Driver) {
        let (recorder, gateway) = started(driver);
        let fields = requests::FIELDS.iter().map(|field| with(&get(requests::PATH), &[*field]));
        let heads = requests::HEADS.iter().map(|head| head.to_vec());
        for request in fields.chain(heads) {
            let mut h2 = H2::connect(gateway.addr());
            h2.push(&[Frame::headers(1, hpack::block(&request), true)]);
            let outcome = h2.outcome(1);
            assert!(outcome != Outcome::Response(200), "{request:?}");
        }
        check_own_answer(&gateway);
        recorder.check(&CHECKS);
    }

    fn fields_with_something_inside(driver: Driver) {
        let (recorder, gateway) = started(driver);
        for fields in HEADS {
            for (method, end) in [("GET", true), ("POST", false)] {
                let mut h2 = H2::connect(gateway.addr());
                let mut request = with(&get("/plain"), fields);
                request[0].1 = method;
                h2.push(&[Frame::headers(1, hpack::block(&request), end)]);
                if !end {
                    h2.push(&[Frame::data(1, HIDDEN.as_bytes(), true)]);
                }
                // Served, when the field means nothing, or refused.
                h2.outcome(1);
            }
        }
        check_own_answer(&gateway);
        recorder.check(&["/plain", CHECKS[0], CHECKS[1], CHECKS[2]]);
    }

    fn paths_with_something_inside(driver: Driver) {
        let (recorder, gateway) = started(driver);
        for path in PATHS {
            let mut h2 = H2::connect(gateway.addr());
            h2.push(&[Frame::headers(1, hpack::block(&get(path)), true)]);
            h2.outcome(1);
        }
        check_own_answer(&gateway);
        // A path that begins with two slashes is a path; bytes beyond ASCII may pass.
        recorder.check(&["//b.test/hidden", "/b.test/hidden", "/a\u{c2}\u{85}b", "/a%C2%85b", CHECKS[0], CHECKS[1], CHECKS[2]]);
    }

    fn methods_with_something_inside(driver: Driver) {
        let (recorder, gateway) = started(driver);
        for method in [
            "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\nGET",
            "GET /hidden",
            "GET\r\nx-smuggled: 1\r\n",
            "\r\nGET",
            "GET\0",
            "G\u{c9}T",
            "PRI",
        ] {
            let mut h2 = H2::connect(gateway.addr());
            let mut request = get("/method");
            request[0].1 = method;
            h2.push(&[Frame::headers(1, hpack::block(&request), true)]);
            let outcome = h2.outcome(1);
            assert!(outcome != Outcome::Response(200) || method == "PRI", "{method:?}");
        }
        check_own_answer(&gateway);
        recorder.check(&["/method", CHECKS[0], CHECKS[1], CHECKS[2]]);
    }

    /// Bodies that look like the end of one, and a request.
    fn bodies_with_a_request_inside(driver: Driver) {
        let (recorder, gateway) = started(driver);
        let chunked = format!("0\r\n\r\n{HIDDEN}");
        for body in [HIDDEN, chunked.as_str(), "\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"] {
            let length = body.len().to_string();
            for fields in [&[][..], &[("content-length", length.as_str())]] {
                for part in [1, 7, body.len()] {
                    let mut h2 = H2::connect(gateway.addr());
                    let stream = h2.request_with_body(&with(&post("/body"), fields));
                    let mut parts = body.as_bytes().chunks(part).peekable();
                    while let Some(part) = parts.next() {
                        h2.push(&[Frame::data(stream, part, parts.peek().is_none())]);
                    }
                    assert_eq!(h2.response(stream).text(), "POST /body HTTP/1.1");
                }
            }
        }
        check_own_answer(&gateway);
        recorder.check(&["/body", CHECKS[0], CHECKS[1], CHECKS[2]]);
    }

    /// A body that is not as long as it says: what follows is no request to the upstream, and no
    /// other request is put behind what is missing.
    fn lengths_that_lie(driver: Driver) {
        let (recorder, gateway) = started(driver);
        for length in ["0", "1", "10", "1000"] {
            let mut h2 = H2::connect(gateway.addr());
            let stream = h2.request_with_body(&with(&post("/lie"), &[("content-length", length)]));
            h2.push(&[Frame::data(stream, HIDDEN.as_bytes(), true)]);
            let outcome = h2.outcome(stream);
            assert!(crate::MALFORMED.contains(&outcome), "{length}: {outcome:?}");
            check_own_answer(&gateway);
        }
        recorder.check(&["/lie", CHECKS[0], CHECKS[1], CHECKS[2]]);
    }

    /// Trailers are written as such, or left out.
    fn trailers_with_something_inside(driver: Driver) {
        let (recorder, gateway) = started(driver);
        for fields in [
            &[("x", "a\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n")][..],
            &[("transfer-encoding", "chunked")],
            &[("content-length", "5")],
            &[("host", "b.test")],
            &[("x\r\nx-smuggled", "1")],
            &[(":path", "/hidden")],
        ] {
            let mut h2 = H2::connect(gateway.addr());
            let stream = h2.request_with_body(&post("/trailers"));
            h2.push(&[
                Frame::data(stream, *b"abc", false),
                Frame::headers(stream, hpack::block(fields), true),
            ]);
            h2.outcome(stream);
            check_own_answer(&gateway);
        }
        recorder.check(&["/trailers", CHECKS[0], CHECKS[1], CHECKS[2]]);
        for bytes in recorder.bytes.lock().unwrap().iter() {
            let text = String::from_utf8_lossy(bytes).into_owned();
            assert!(!text.contains("/hidden") && !text.contains("b.test"), "{text:?}");
        }
    }
}
