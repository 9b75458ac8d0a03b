use super::*;

const WIDE: HttpLimits = HttpLimits {
    request_line_bytes: 65_535,
    head_bytes: 65_535,
    header_count: 256,
    chunk_line_bytes: 64,
    trailer_bytes: 64,
};

/// Feeds `bytes` one by one, and at once; both must say the same.
fn parse_with(bytes: &[u8], limits: &HttpLimits) -> Result<Option<RequestHead>, HeadError> {
    let mut head = RequestHead::default();
    let whole = head.parse(bytes, limits);
    let mut slow = RequestHead::default();
    let slowly = (1..=bytes.len())
        .map(|end| slow.parse(&bytes[..end], limits))
        .find(|verdict| *verdict != Ok(false))
        .unwrap_or(Ok(false));
    assert_eq!(whole, slowly, "{}", bytes.escape_ascii());
    whole.map(|complete| complete.then_some(head))
}

fn parse(bytes: &[u8]) -> RequestHead {
    parse_with(bytes, &HttpLimits::default())
        .unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()))
        .unwrap_or_else(|| panic!("incomplete: {}", bytes.escape_ascii()))
}

fn refuse(bytes: &[u8]) -> HeadError {
    match parse_with(bytes, &HttpLimits::default()) {
        Err(error) => error,
        Ok(head) => panic!("accepted: {} {head:?}", bytes.escape_ascii()),
    }
}

/// `GET / HTTP/1.1` with `Host` and these lines.
fn get(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

#[test]
fn reads_the_parts_of_a_head() {
    let buf =
        b"POST /a?b=c HTTP/1.1\r\nHost: h.example:80\r\nX-Empty:\r\nX-A: \t b c \t\r\n\r\nrest";
    let head = parse(buf);
    assert_eq!(head.len, buf.len() - 4);
    assert_eq!(head.method.get(buf), b"POST");
    assert_eq!(head.target.get(buf), b"/a?b=c");
    assert_eq!(head.path_query.get(buf), b"/a?b=c");
    assert_eq!(head.host.get(buf), b"h.example:80");
    assert_eq!(head.value(buf, "x-empty"), Some(&b""[..]));
    assert_eq!(head.value(buf, "x-a"), Some(&b"b c"[..]));
    assert_eq!(head.value(buf, "x-b"), None);
    assert!(head.http11 && head.keep_alive && !head.upgrade && !head.expect_continue);
    assert_eq!(head.body, BodyLength::Known(0));
}

#[test]
fn syntax_is_refused_for_the_exact_reason() {
    let cases: &[(&[u8], HeadError)] = &[
        // The start line.
        (b"\x16\x03\x01\x02\x00\x01", HeadError::StartLine),
        (b" GET / HTTP/1.1\r\n", HeadError::StartLine),
        (b"G\x80T / HTTP/1.1\r\n", HeadError::StartLine),
        (b"GET\t/ HTTP/1.1\r\n", HeadError::StartLine),
        (b"GET  / HTTP/1.1\r\n", HeadError::StartLine),
        (b"GET /\r\n", HeadError::StartLine),
        (b"GET /  HTTP/1.1\r\n", HeadError::StartLine),
        (b"GET / HTTP/1.1 \r\n", HeadError::StartLine),
        (b"GET / http/1.1\r\n", HeadError::StartLine),
        (b"GET / HTTP/1.11\r\n", HeadError::StartLine),
        (b"GET / HTTP/11\r\n", HeadError::StartLine),
        (b"GET / HTTP/x.1\r\n", HeadError::StartLine),
        (b"GET / ICAP/1.0\r\n", HeadError::StartLine),
        (b"GET / HTTP/2.0\r\n", HeadError::Version),
        (b"GET / HTTP/1.2\r\n", HeadError::Version),
        (b"GET / HTTP/0.9\r\n", HeadError::Version),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::Version),
        // Line ends.
        (b"\nGET / HTTP/1.1\r\n", HeadError::BareLineEnd),
        (b"\r\n\nGET / HTTP/1.1\r\n", HeadError::BareLineEnd),
        (b"\rGET / HTTP/1.1\r\n", HeadError::BareLineEnd),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", HeadError::BareLineEnd),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", HeadError::BareLineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", HeadError::BareLineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX:\n\r\n", HeadError::BareLineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", HeadError::BareLineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", HeadError::BareLineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", HeadError::BareLineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n", HeadError::BareLineEnd),
        // Fields.
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeadError::FieldName),
        (b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", HeadError::FieldName),
        (b"GET / HTTP/1.1\r\n: a\r\n\r\n", HeadError::FieldName),
        (b"GET / HTTP/1.1\r\nX(y): a\r\n\r\n", HeadError::FieldName),
        (b"GET / HTTP/1.1\r\nX\x00: a\r\n\r\n", HeadError::FieldName),
        (b"GET / HTTP/1.1\r\nX\x80: a\r\n\r\n", HeadError::FieldName),
        (b"GET / HTTP/1.1\r\nHost\r\n\r\n", HeadError::FieldName),
        (b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n", HeadError::FieldValue),
        (b"GET / HTTP/1.1\r\nX: a\x0bb\r\n\r\n", HeadError::FieldValue),
        (b"GET / HTTP/1.1\r\nX: \x7f\r\n\r\n", HeadError::FieldValue),
        (b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", HeadError::FoldedLine),
        (b"GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n", HeadError::FoldedLine),
        (b"GET / HTTP/1.1\r\n X: a\r\n\r\n", HeadError::FoldedLine),
    ];
    for (bytes, error) in cases {
        assert_eq!(refuse(bytes), *error, "{}", bytes.escape_ascii());
    }
}

#[test]
fn meaning_is_refused_for_the_exact_reason() {
    let cases: &[(&[u8], HeadError)] = &[
        // The target.
        (b"GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET http://a#b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        (b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::InvalidHost),
        (b"GET http://u@a/b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::InvalidHost),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Connect),
        (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Connect),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Trace),
        // Host.
        (b"GET / HTTP/1.1\r\n\r\n", HeadError::MissingHost),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", HeadError::MissingHost),
        (b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", HeadError::RepeatedHost),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", HeadError::RepeatedHost),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", HeadError::InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HeadError::InvalidHost),
        // Framing.
        (&get("Content-Length: 1\r\nContent-Length: 2\r\n"), HeadError::RepeatedContentLength),
        (&get("Content-Length: 1\r\nContent-Length: 1\r\n"), HeadError::RepeatedContentLength),
        (&get("Content-Length: 1, 1\r\n"), HeadError::InvalidContentLength),
        (&get("Content-Length:\r\n"), HeadError::InvalidContentLength),
        (&get("Content-Length: +1\r\n"), HeadError::InvalidContentLength),
        (&get("Content-Length: -1\r\n"), HeadError::InvalidContentLength),
        (&get("Content-Length: 0x1\r\n"), HeadError::InvalidContentLength),
        (&get("Content-Length: 1 1\r\n"), HeadError::InvalidContentLength),
        (&get("Content-Length: 1.0\r\n"), HeadError::InvalidContentLength),
        (&get("Content-Length: 18446744073709551617\r\n"), HeadError::InvalidContentLength),
        (&get("Content-Length: 1000000000000000000\r\n"), HeadError::InvalidContentLength),
        (&get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), HeadError::LengthAndEncoding),
        (&get("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), HeadError::LengthAndEncoding),
        (&get("Transfer-Encoding: identity\r\n"), HeadError::InvalidEncoding),
        (&get("Transfer-Encoding:\r\n"), HeadError::InvalidEncoding),
        (&get("Transfer-Encoding: chunked, identity\r\n"), HeadError::InvalidEncoding),
        (&get("Transfer-Encoding: chunked, chunked\r\n"), HeadError::InvalidEncoding),
        (&get("Transfer-Encoding: xchunked\r\n"), HeadError::InvalidEncoding),
        (&get("Transfer-Encoding: chunked;q=1\r\n"), HeadError::InvalidEncoding),
        (&get("Transfer-Encoding: \"chunked\"\r\n"), HeadError::InvalidEncoding),
        (
            &get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            HeadError::InvalidEncoding,
        ),
        (
            &get("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
            HeadError::InvalidEncoding,
        ),
        (&get("Transfer-Encoding: gzip, chunked\r\n"), HeadError::UnsupportedEncoding),
        (&get("Transfer-Encoding: ,chunked\r\n"), HeadError::UnsupportedEncoding),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::EncodingInHttp10),
        (&get("Expect: 200-ok\r\n"), HeadError::UnsupportedExpect),
        (&get("Expect: 100-continue, x\r\n"), HeadError::UnsupportedExpect),
    ];
    for (bytes, error) in cases {
        assert_eq!(refuse(bytes), *error, "{}", bytes.escape_ascii());
    }
}

#[test]
fn reasons_map_to_statuses() {
    let expected = [
        (HeadError::StartLine, 400),
        (HeadError::BareLineEnd, 400),
        (HeadError::FoldedLine, 400),
        (HeadError::MissingHost, 400),
        (HeadError::LengthAndEncoding, 400),
        (HeadError::InvalidEncoding, 400),
        (HeadError::Target, 400),
        (HeadError::Connect, 405),
        (HeadError::Trace, 405),
        (HeadError::RequestLineTooLong, 414),
        (HeadError::UnsupportedExpect, 417),
        (HeadError::HeadTooLarge, 431),
        (HeadError::TooManyFields, 431),
        (HeadError::TooManyOptions, 431),
        (HeadError::UnsupportedEncoding, 501),
        (HeadError::Version, 505),
    ];
    for (error, status) in expected {
        assert_eq!(error.status(), status, "{error:?}");
    }
}

#[test]
fn the_request_line_limit_is_exact() {
    let limits = HttpLimits { request_line_bytes: 24, ..HttpLimits::default() };
    let line = |len: usize, before: &str| {
        let path = "a".repeat(len - "GET / HTTP/1.1".len());
        format!("{before}GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
    };
    for before in ["", "\r\n", "\r\n\r\n"] {
        assert!(parse_with(&line(24, before), &limits).unwrap().is_some());
        let verdict = parse_with(&line(25, before), &limits).map(|head| head.is_some());
        assert_eq!(verdict, Err(HeadError::RequestLineTooLong));
    }
    // Known as soon as the first byte too many is there, and not before.
    let unfinished = |len: usize| [&b"GET /"[..], &vec![b'a'; len - 5]].concat();
    assert!(parse_with(&unfinished(24), &limits).unwrap().is_none());
    let verdict = parse_with(&unfinished(25), &limits).map(|head| head.is_some());
    assert_eq!(verdict, Err(HeadError::RequestLineTooLong));
}

#[test]
fn the_head_limit_is_exact() {
    let limits = HttpLimits { head_bytes: 60, request_line_bytes: 30, ..HttpLimits::default() };
    let head = |len: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        get(&format!("X: {}\r\n", "b".repeat(len - rest)))
    };
    assert_eq!(head(60).len(), 60);
    assert!(parse_with(&head(60), &limits).unwrap().is_some());
    let with_body = [head(60), vec![b'z'; 100]].concat();
    assert!(parse_with(&with_body, &limits).unwrap().is_some());
    for bytes in [head(61), head(62), head(90)] {
        let verdict = parse_with(&bytes, &limits).map(|head| head.is_some());
        assert_eq!(verdict, Err(HeadError::HeadTooLarge));
    }
    assert!(parse_with(&head(61)[..59], &limits).unwrap().is_none());
}

#[test]
fn the_field_count_limit_is_exact() {
    let limits = HttpLimits { header_count: 3, ..HttpLimits::default() };
    assert!(parse_with(&get("A: 1\r\nB: 2\r\n"), &limits).unwrap().is_some());
    for lines in ["A: 1\r\nB: 2\r\nC: 3\r\n", "A: 1\r\nB: 2\r\nC"] {
        let verdict = parse_with(&get(lines), &limits).map(|head| head.is_some());
        assert_eq!(verdict, Err(HeadError::TooManyFields));
    }
}

#[test]
fn configured_limits_beyond_the_hard_ones_are_cut_down() {
    let limits = HttpLimits { head_bytes: usize::MAX, header_count: usize::MAX, ..WIDE };
    let many = get(&"A: 1\r\n".repeat(255));
    assert_eq!(parse_with(&many, &limits).unwrap().unwrap().fields.len(), 256);
    let verdict = parse_with(&get(&"A: 1\r\n".repeat(256)), &limits).map(|head| head.is_some());
    assert_eq!(verdict, Err(HeadError::TooManyFields));
    let verdict =
        RequestHead::default().parse(&get(&format!("A: {}\r\n", "a".repeat(70_000))), &limits);
    assert_eq!(verdict, Err(HeadError::HeadTooLarge));
}

#[test]
fn offsets_reach_the_end_of_the_largest_head() {
    let rest = get("First: 1\r\nX: \r\nLast: 2\r\n").len();
    let lines = format!("First: 1\r\nX: {}\r\nLast: 2\r\n", "b".repeat(65_535 - rest));
    let buf = get(&lines);
    assert_eq!(buf.len(), 65_535);
    let mut head = RequestHead::default();
    assert_eq!(head.parse(&buf, &WIDE), Ok(true));
    assert_eq!(head.value(&buf, "last"), Some(&b"2"[..]));
    assert_eq!(head.value(&buf, "x").map(<[u8]>::len), Some(65_535 - rest));
    let name = "n".repeat(65_535 - get(": 1\r\n").len());
    let buf = get(&format!("{name}: 1\r\n"));
    head.reset();
    assert_eq!(head.parse(&buf, &WIDE), Ok(true));
    assert_eq!(head.value(&buf, &name), Some(&b"1"[..]));
}

#[test]
fn a_slow_head_is_looked_at_once() {
    // Each call takes up where the last one ended; `httparse` waits for the end of the head.
    let buf = get(&format!("A: {}\r\nB: {}\r\n", "a".repeat(16_000), "b".repeat(15_000)));
    let mut head = RequestHead::default();
    for end in 1..buf.len() {
        assert_eq!(head.parse(&buf[..end], &HttpLimits::default()), Ok(false));
        assert_eq!(head.scan.offset(), end);
    }
    assert_eq!(head.parse(&buf, &HttpLimits::default()), Ok(true));
}

#[test]
fn reset_forgets_the_request_before() {
    let mut head = parse(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    head.reset();
    let buf = b"\x00";
    assert_eq!(head.parse(buf, &HttpLimits::default()), Err(HeadError::StartLine));
    assert!(head.method.is_empty() && head.target.is_empty() && head.host.is_empty());
    head.reset();
    let buf = b"GET /2 HTTP/1.1\r\nX : \r\n";
    assert_eq!(head.parse(buf, &HttpLimits::default()), Err(HeadError::FieldName));
    // What the access log shows of it.
    assert_eq!((head.method.get(buf), head.target.get(buf)), (&b"GET"[..], &b"/2"[..]));
}

#[test]
fn forms_of_the_target() {
    let read = |line: &str| {
        let buf = format!("{line} HTTP/1.1\r\nHost: b\r\n\r\n").into_bytes();
        let head = parse(&buf);
        let text = |span: Span| String::from_utf8_lossy(span.get(&buf)).into_owned();
        (text(head.host), text(head.path_query))
    };
    let pair = |host: &str, path: &str| (host.to_owned(), path.to_owned());
    assert_eq!(read("GET /x"), pair("b", "/x"));
    assert_eq!(read("GET //x/http://y"), pair("b", "//x/http://y"));
    assert_eq!(read("GET /ü"), pair("b", "/ü"));
    assert_eq!(read("OPTIONS *"), pair("b", "*"));
    assert_eq!(read("GET http://a.example:81/x?y"), pair("a.example:81", "/x?y"));
    assert_eq!(read("GET HTTPS://a"), pair("a", ""));
    assert_eq!(read("GET http://a?y=/z"), pair("a", "?y=/z"));
    assert_eq!(read("GET http://[::1]:80/x"), pair("[::1]:80", "/x"));
    assert_eq!(read("m-SEARCH /x"), pair("b", "/x"));
}

#[test]
fn hosts_are_names_or_addresses() {
    for host in [
        "a",
        "A.b-c_d~.example",
        "192.0.2.1",
        "a:80",
        "a:",
        "a:65535",
        "[::1]",
        "[::1]:443",
        "[2001:db8::192.0.2.1]",
        "a%2Db",
        "x!$&'()*+,;=y",
    ] {
        assert!(is_authority(host.as_bytes()), "{host}");
    }
    for host in [
        "",
        ":80",
        "a:65536",
        "a:-1",
        "a:8o",
        "a:80:80",
        "a:000080",
        "a b",
        "a/b",
        "a@b",
        "a\\b",
        "[::1",
        "::1",
        "[]",
        "[::g]",
        "[::1]x",
        "[::1]:x",
        "x[::1]",
        "[fe80::1%25eth0]",
        "[v1.a]",
        "a%2",
        "a%zz",
        "a%",
        "a\tb",
        "a\u{e9}",
        "a?b",
        "a#b",
        "\"a\"",
        "<a>",
        "a,b c",
        "a..b",
        "..",
    ] {
        assert!(!is_authority(host.as_bytes()), "{host}");
    }
    assert!(is_authority("a".repeat(255).as_bytes()) && !is_authority("a".repeat(256).as_bytes()));
}

#[test]
fn ports_are_split_off() {
    assert_eq!(split_port(b"a"), (&b"a"[..], None));
    assert_eq!(split_port(b"a:"), (&b"a"[..], Some(&b""[..])));
    assert_eq!(split_port(b"a:80"), (&b"a"[..], Some(&b"80"[..])));
    assert_eq!(split_port(b"[::1]"), (&b"[::1]"[..], None));
    assert_eq!(split_port(b"[::1]:80"), (&b"[::1]"[..], Some(&b"80"[..])));
}

#[test]
fn framing_and_expectations() {
    let body = |lines: &str| parse(&get(lines)).body;
    assert_eq!(body(""), BodyLength::Known(0));
    assert_eq!(body("Content-Length: 0\r\n"), BodyLength::Known(0));
    assert_eq!(body("content-length:007\r\n"), BodyLength::Known(7));
    assert_eq!(
        body("Content-Length: 999999999999999999\r\n"),
        BodyLength::Known(10_u64.pow(18) - 1)
    );
    assert_eq!(body("Transfer-Encoding: CHUNKED\r\n"), BodyLength::Chunked);
    let expects = |lines: &str| parse(&get(lines)).expect_continue;
    assert!(expects("Expect: 100-Continue\r\nContent-Length: 1\r\n"));
    assert!(expects("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"));
    assert!(!expects("Expect: 100-continue\r\n"), "nothing to wait for");
    assert!(!expects("Expect: 100-continue\r\nContent-Length: 0\r\n"));
    let old = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    assert!(!parse(old).expect_continue, "HTTP/1.0 has no interim responses");
}

#[test]
fn keep_alive_by_version_and_options() {
    let keeps = |version: &str, lines: &str| {
        parse(format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n").as_bytes()).keep_alive
    };
    assert!(keeps("1.1", ""));
    assert!(!keeps("1.1", "Connection: close\r\n"));
    assert!(!keeps("1.1", "Connection: x\r\nConnection: , Close\r\n"));
    assert!(!keeps("1.1", "Connection: keep-alive, close\r\n"));
    assert!(keeps("1.1", "Proxy-Connection: close\r\n"));
    assert!(!keeps("1.0", ""));
    assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
    assert!(!keeps("1.0", "Keep-Alive: timeout=5\r\n"));
}

#[test]
fn an_upgrade_is_taken_up_only_where_it_is_safe() {
    let upgrades = |lines: &str| parse(&get(lines)).upgrade;
    assert!(upgrades("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    assert!(upgrades("Connection: keep-alive, upgrade\r\nUpgrade: a/1, b\r\n"));
    assert!(!upgrades("Connection: Upgrade\r\n"));
    assert!(!upgrades("Upgrade: websocket\r\n"));
    assert!(!upgrades("Connection: Upgrade\r\nUpgrade: h2c\r\n"), "a tunnel past the routes");
    assert!(!upgrades("Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n"));
    assert!(!upgrades("Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n"));
    let with_body = "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n";
    assert!(!upgrades(with_body), "the body could be read as the new protocol");
    let old = b"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(!parse(old).upgrade);
}

#[test]
fn fields_named_by_connection_are_marked() {
    let buf = get("X-A: 1\r\nConnection: x-a, close\r\nx-A: 2\r\nConnection: Date,,cookie\r\n\
         Cookie: 3\r\nDate: 4\r\nX-B: 5\r\n");
    let head = parse(&buf);
    let named: Vec<_> = head
        .fields
        .iter()
        .filter(|field| field.known == Known::Named)
        .map(|field| field.value.get(&buf))
        .collect();
    assert_eq!(named, [b"1", b"2", b"3", b"4"]);
    // What frames and routes a message cannot be talked away.
    let buf = get("Connection: host, content-length, connection\r\nContent-Length: 1\r\n");
    let head = parse(&buf);
    assert!(head.fields.iter().all(|field| field.known != Known::Named));
    assert_eq!(head.body, BodyLength::Known(1));
}

#[test]
fn the_number_of_named_fields_is_limited() {
    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|at| format!("x{at}")).collect();
        get(&format!("Connection: close, {}\r\n", names.join(",")))
    };
    assert!(!parse(&names(32)).keep_alive);
    assert_eq!(refuse(&names(33)), HeadError::TooManyOptions);
    let lines = "Connection: a, b, c, d, e, f, g, h, i, j, k\r\n".repeat(3);
    assert_eq!(refuse(&get(&lines)), HeadError::TooManyOptions);
}

#[test]
fn methods() {
    let of = |method: &str| parse(format!("{method} / HTTP/1.0\r\n\r\n").as_bytes());
    for (method, idempotent) in [
        ("GET", true),
        ("HEAD", true),
        ("PUT", true),
        ("DELETE", true),
        ("OPTIONS", true),
        ("POST", false),
        ("PATCH", false),
        ("get", false),
        ("X", false),
    ] {
        let buf = format!("{method} / HTTP/1.0\r\n\r\n");
        assert_eq!(of(method).is_idempotent(buf.as_bytes()), idempotent, "{method}");
        assert_eq!(of(method).is_head(buf.as_bytes()), method == "HEAD");
    }
}
