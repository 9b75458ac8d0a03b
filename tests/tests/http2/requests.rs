//! Section 8: which requests are malformed, and what reaches the upstream of the others.

use osmia_tests::h2::{Frame, H2, Outcome, get, hpack};
use osmia_tests::on_each_driver;

use super::{Case, Front, Look, MALFORMED, PROTOCOL, Request, STREAM_PROTOCOL, post, with};

/// Where none of these may arrive.
pub(super) const PATH: &str = "/malformed";

/// Malformed heads, whole: pseudo-header fields (section 8.3), names and values (section 8.2),
/// fields of a connection (section 8.2.2).
pub(super) const HEADS: &[Request] = &[
    // Missing.
    &[(":scheme", "http"), (":authority", "a"), (":path", PATH)],
    &[(":method", "GET"), (":authority", "a"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a")],
    &[],
    &[("host", "a")],
    // Twice.
    &[
        (":method", "GET"),
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", PATH),
    ],
    &[
        (":method", "GET"),
        (":method", "PUT"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", PATH),
    ],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", PATH),
    ],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":authority", "a"),
        (":path", PATH),
    ],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", PATH),
        (":path", PATH),
    ],
    // Unknown, or a response's.
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", PATH), (":foo", "x")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", PATH),
        (":status", "200"),
    ],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", PATH), (":", "x")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", PATH),
        (":protocol", "websocket"),
    ],
    // Behind others.
    &[("x", "y"), (":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), ("x", "y"), (":path", PATH)],
    // Paths.
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "")],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "malformed")],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "*")],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/malformed x")],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", " /malformed")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/malformed\r\nx: y"),
    ],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/malformed\0")],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/malformed\x7f")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "http://b/malformed"),
    ],
    // Methods.
    &[(":method", ""), (":scheme", "http"), (":authority", "a"), (":path", PATH)],
    &[(":method", "GE T"), (":scheme", "http"), (":authority", "a"), (":path", PATH)],
    &[(":method", "GET\r\n"), (":scheme", "http"), (":authority", "a"), (":path", PATH)],
    &[
        (":method", "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\nGET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", PATH),
    ],
    &[(":method", "G@T"), (":scheme", "http"), (":authority", "a"), (":path", PATH)],
    // Authorities.
    &[(":method", "GET"), (":scheme", "http"), (":authority", ""), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "u@a"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a b"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a/b"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a, b"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a:99999"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a\r\nx: y"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", PATH), ("host", "b")],
    &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", PATH), ("host", "")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", PATH),
        ("host", "a"),
        ("host", "b"),
    ],
    &[(":method", "GET"), (":scheme", "http"), (":path", PATH), ("host", "a"), ("host", "b")],
    // Schemes.
    &[(":method", "GET"), (":scheme", ""), (":authority", "a"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "ht tp"), (":authority", "a"), (":path", PATH)],
    &[(":method", "GET"), (":scheme", "http://x/"), (":authority", "a"), (":path", PATH)],
];

/// Fields that make any request malformed.
pub(super) const FIELDS: Request = &[
    // Fields of a connection.
    ("connection", "close"),
    ("connection", "keep-alive"),
    ("connection", "x"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "identity"),
    ("upgrade", "websocket"),
    ("upgrade", "h2c"),
    ("te", "gzip"),
    ("te", "trailers, gzip"),
    ("te", "chunked"),
    // Names.
    ("", "x"),
    ("X-Upper", "x"),
    ("x-uppeR", "x"),
    ("x y", "x"),
    ("x\r\ny", "x"),
    ("x\n", "x"),
    ("x\0", "x"),
    ("x:y", "x"),
    ("x\t", "x"),
    ("x\x7f", "x"),
    ("x\u{e9}", "x"),
    ("x(", "x"),
    ("transfer-encoding: chunked\r\nx", "x"),
    // Values.
    ("x", "a\r\nb: c"),
    ("x", "a\nb: c"),
    ("x", "a\rb: c"),
    ("x", "a\0b"),
    ("x", "a\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n"),
    ("x", "\n"),
    // Lengths.
    ("content-length", "-1"),
    ("content-length", "+0"),
    ("content-length", "0x0"),
    ("content-length", "1e0"),
    ("content-length", "0 0"),
    ("content-length", "99999999999999999999"),
    ("content-length", "0, 0"),
    ("content-length", "1"),
    ("content-length", ""),
];

/// What section 8.2.1 forbids, and a gateway may trim instead: nothing is hidden in it.
const AROUND_VALUES: Request = &[("x", " a"), ("x", "a "), ("x", "\ta"), ("x", "a\t")];

/// Requests with a body: lengths that do not fit (section 8.1.1), and bad trailers.
const BODIES: &[Case] = &[
    Case("shorter than it says", |h2| body(h2, "5", &["abc"]), MALFORMED),
    Case("longer than it says", |h2| body(h2, "3", &["abcde"]), MALFORMED),
    Case("longer by another frame", |h2| body(h2, "3", &["abc", "de"]), MALFORMED),
    Case("a body where there is none", |h2| body(h2, "0", &["x"]), MALFORMED),
    Case("no body where there is one", |h2| body(h2, "3", &[""]), MALFORMED),
    Case("trailers with upper case", |h2| trailers(h2, &[("X-Sum", "1")]), MALFORMED),
    Case("trailers with a line end", |h2| trailers(h2, &[("x", "a\r\nb")]), MALFORMED),
    Case("trailers of the connection", |h2| trailers(h2, &[("connection", "x")]), MALFORMED),
    Case(
        "trailers with a framing",
        |h2| trailers(h2, &[("transfer-encoding", "chunked")]),
        MALFORMED,
    ),
    Case(
        "trailers that do not end the stream",
        |h2| {
            let stream = h2.request_with_body(&post(PATH));
            h2.push(&[
                Frame::data(stream, *b"abc", false),
                Frame::headers(stream, hpack::block(&[("x", "y")]), false),
            ]);
            Look::Answer(stream)
        },
        MALFORMED,
    ),
];

fn body(h2: &mut H2, length: &str, parts: &[&str]) -> Look {
    let stream = h2.request_with_body(&with(&post(PATH), &[("content-length", length)]));
    for (number, part) in parts.iter().enumerate() {
        h2.push(&[Frame::data(stream, part.as_bytes(), number + 1 == parts.len())]);
    }
    Look::Answer(stream)
}

fn trailers(h2: &mut H2, fields: Request) -> Look {
    let stream = h2.request_with_body(&post(PATH));
    h2.push(&[
        Frame::data(stream, *b"abc", false),
        Frame::headers(stream, hpack::block(fields), true),
    ]);
    Look::Answer(stream)
}

/// The response to each, on connections of their own unless one goes on; complaints in one.
fn check_refused(
    front: &Front,
    requests: impl Iterator<Item = Vec<(String, String)>>,
    allowed: &[Outcome],
) {
    let mut failed = Vec::new();
    let mut h2 = front.connect();
    for request in requests {
        let fields: Vec<(&str, &str)> =
            request.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let stream = h2.open();
        h2.push(&[Frame::headers(stream, hpack::block(&fields), true)]);
        let outcome = h2.outcome(stream);
        if !allowed.contains(&outcome) {
            failed.push(format!("{outcome:?} for {request:?}"));
        }
        if matches!(outcome, Outcome::GoAway(_) | Outcome::Closed) {
            h2 = front.connect();
        }
    }
    assert!(failed.is_empty(), "{}:\n{}", failed.len(), failed.join("\n"));
    front.check_serves();
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Only the checks in between have arrived.
fn check_untouched(front: &Front) {
    let odd: Vec<_> = front.origin.seen().into_iter().filter(|seen| seen.target() != "/").collect();
    assert!(odd.is_empty(), "{odd:?}");
}

on_each_driver! {
    fn malformed_heads_are_refused(driver: Driver) {
        let front = Front::start(driver);
        check_refused(&front, HEADS.iter().map(|head| owned(head)), MALFORMED);
        check_untouched(&front);
    }

    fn malformed_fields_are_refused(driver: Driver) {
        let front = Front::start(driver);
        let requests = FIELDS.iter().map(|field| owned(&with(&get(PATH), &[*field])));
        check_refused(&front, requests, MALFORMED);
        check_untouched(&front);
    }

    fn space_around_values_goes_no_further(driver: Driver) {
        let front = Front::start(driver);
        let requests = AROUND_VALUES.iter().map(|field| owned(&with(&get("/space"), &[*field])));
        let allowed = [MALFORMED, &[Outcome::Response(200)]].concat();
        check_refused(&front, requests, &allowed);
        for seen in front.origin.seen().iter().filter(|seen| seen.target() == "/space") {
            assert_eq!(seen.field("x"), Some("a"));
        }
    }

    /// The `http` crate's type for targets, which `h2` makes, has no room for one.
    fn a_fragment_goes_no_further(driver: Driver) {
        let front = Front::start(driver);
        let request = get("/fragment#/hidden");
        let allowed = [MALFORMED, &[Outcome::Response(200)]].concat();
        check_refused(&front, [owned(&request)].into_iter(), &allowed);
        let seen = front.origin.seen();
        assert!(seen.iter().all(|seen| matches!(seen.target(), "/" | "/fragment")), "{seen:?}");
    }

    fn malformed_bodies_are_refused(driver: Driver) {
        let front = Front::start(driver);
        front.check(BODIES);
        // A request with a length of 0 is whole before the body comes that it must not have.
        for seen in front.origin.seen().iter().filter(|seen| seen.target() != "/") {
            assert_eq!((seen.field("content-length"), seen.text().as_str()), (Some("0"), ""));
        }
    }

    /// Two lengths, also equal ones: not one that a reader of HTTP/1 could take for another.
    fn two_lengths_are_refused(driver: Driver) {
        let front = Front::start(driver);
        for lengths in [["3", "3"], ["3", "4"]] {
            let mut h2 = front.connect();
            let fields = with(&post(PATH), &[("content-length", lengths[0]), ("content-length", lengths[1])]);
            let stream = h2.request_with_body(&fields);
            h2.push(&[Frame::data(stream, *b"abc", true)]);
            let outcome = h2.outcome(stream);
            assert!(MALFORMED.contains(&outcome), "{lengths:?}: {outcome:?}");
        }
        check_untouched(&front);
        front.check_serves();
    }

    /// Section 8.5: a gateway is no tunnel.
    fn connect_opens_no_tunnel(driver: Driver) {
        let front = Front::start(driver);
        let node = front.origin.upstream.node();
        let requests: &[Request] = &[
            &[(":method", "CONNECT"), (":authority", &node)],
            &[(":method", "CONNECT"), (":authority", &node), (":scheme", "http"), (":path", "/")],
            &[(":method", "CONNECT"), (":scheme", "http"), (":path", "/")],
            &[(":method", "CONNECT")],
        ];
        let allowed = [MALFORMED, &[Outcome::Response(405), Outcome::Response(501)]].concat();
        for request in requests {
            let mut h2 = front.connect();
            let stream = h2.request_with_body(request);
            let outcome = h2.outcome(stream);
            assert!(allowed.contains(&outcome), "{request:?}: {outcome:?}");
        }
        assert!(front.origin.seen().is_empty());
        front.check_serves();
    }

    /// Section 8.1: trailers have no pseudo-header fields. A gateway refuses them, or, where its
    /// library leaves them out before anybody sees them, as h2 does, nothing comes of them.
    fn pseudo_fields_in_trailers_go_nowhere(driver: Driver) {
        let front = Front::start(driver);
        let second = post("/hidden");
        let trailers: [Request; 4] = [&second, &[(":path", "/hidden")], &[(":status", "200")], &[(":foo", "x")]];
        let allowed = [MALFORMED, &[Outcome::Response(200)]].concat();
        for fields in trailers {
            let mut h2 = front.connect();
            let stream = h2.request_with_body(&post("/echo"));
            h2.push(&[Frame::headers(stream, hpack::block(fields), true)]);
            let outcome = h2.outcome(stream);
            assert!(allowed.contains(&outcome), "{fields:?}: {outcome:?}");
        }
        for seen in front.origin.seen() {
            assert_eq!((seen.target(), seen.trailers.len()), ("/echo", 0), "{seen}");
        }
        front.check_serves();
    }

    fn a_good_request_arrives_as_it_was(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.request(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "shop.test:8080"),
            (":path", "/good?a=b&c=%20"),
            ("x-one", "1"),
            ("x-empty", ""),
            ("x-utf8", "gr\u{fc}n"),
            ("x_under", "2"),
            ("te", "trailers"),
            ("cookie", "a=1"),
            ("x-two", "1"),
            ("cookie", "b=2"),
            ("cookie", "c=3; d=4"),
            ("x-two", "2"),
        ]);
        assert_eq!(h2.response(stream).status(), 200);
        let seen = front.origin.only("/good?a=b&c=%20");
        assert_eq!(seen.start, "GET /good?a=b&c=%20 HTTP/1.1");
        assert_eq!(seen.field("host"), Some("shop.test:8080"));
        assert_eq!(seen.field("cookie"), Some("a=1; b=2; c=3; d=4"), "section 8.2.3");
        assert_eq!(seen.field("x-one"), Some("1"));
        assert_eq!(seen.field("x-empty"), Some(""));
        assert_eq!(seen.all("x-two"), ["1", "2"]);
        assert_eq!(seen.field("x_under"), Some("2"));
        assert_eq!(seen.field("content-length"), None);
        assert_eq!(seen.field("transfer-encoding"), None);
        assert_eq!(seen.field("x-real-ip"), Some("127.0.0.1"));
        assert!(seen.fields.iter().all(|(name, _)| !name.starts_with(':')), "{seen}");
    }

    /// Host alone, and Host that says the same.
    fn host_may_stand_for_the_authority(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let alone = [(":method", "GET"), (":scheme", "http"), (":path", "/alone"), ("host", "b.test")];
        let stream = h2.request(&alone);
        assert_eq!(h2.response(stream).status(), 200);
        assert_eq!(front.origin.only("/alone").field("host"), Some("b.test"));
        let stream = h2.request(&with(&get("/both"), &[("host", "a.test")]));
        assert_eq!(h2.response(stream).status(), 200);
        assert_eq!(front.origin.only("/both").field("host"), Some("a.test"));
    }

    /// The one path without a slash (section 8.3.1).
    fn options_of_everything(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let request = [(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a"), (":path", "*")];
        let stream = h2.request(&request);
        let outcome = h2.outcome(stream);
        let allowed = [STREAM_PROTOCOL, PROTOCOL, &[Outcome::Response(200), Outcome::Response(400), Outcome::Response(404)]].concat();
        assert!(allowed.contains(&outcome), "{outcome:?}");
        front.check_serves();
    }
}
