use super::*;
use crate::http1::response::Asked;
use crate::limits::HttpLimits;

const REWRITE: RequestRewrite<'_> = RequestRewrite {
    host: b"up.example",
    target: None,
    client_ip: b"192.0.2.9",
    scheme: b"http",
    server_port: b"9080",
    trust: Trust::Unset,
    upgrade: false,
};

/// What the gateway writes before the client's fields.
fn ours(host: &str, port: &str) -> String {
    format!(
        "Host: up.example\r\nX-Real-IP: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.9\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Port: {port}\r\n"
    )
}

fn forward_with(input: &str, rewrite: &RequestRewrite<'_>) -> String {
    let mut head = RequestHead::default();
    assert_eq!(head.parse(input.as_bytes(), &HttpLimits::default()), Ok(true), "{input}");
    let mut out = Vec::new();
    request_head(&mut out, &head, input.as_bytes(), rewrite);
    String::from_utf8(out).unwrap()
}

fn forward(input: &str) -> String {
    forward_with(input, &REWRITE)
}

/// Forwards `GET / HTTP/1.1` with `Host: a` and `lines`; what is left of the lines.
fn forward_lines(lines: &str) -> String {
    let out = forward(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    let start = format!("GET / HTTP/1.1\r\n{}", ours("a", "9080"));
    out.strip_prefix(&start).unwrap_or_else(|| panic!("{out}")).to_owned()
}

#[test]
fn a_request_is_forwarded_byte_for_byte() {
    let input = "GET /a?b=%20c HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\n\
                 user-agent:curl\r\nX-Odd: \t a  b \t\r\nX-Empty:\r\n\r\nnext";
    let expected = format!(
        "GET /a?b=%20c HTTP/1.1\r\n{}Accept: */*\r\nuser-agent:curl\r\nX-Odd: \t a  b \t\r\n\
         X-Empty:\r\n\r\n",
        ours("a.example:8080", "8080"),
    );
    assert_eq!(forward(input), expected);
}

#[test]
fn forwarded_addresses_are_appended_and_the_rest_replaced() {
    let out = forward(
        "GET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nHost: a\r\nX-Forwarded-For:\r\n\
         x-forwarded-for: 3.3.3.3\r\nX-Real-IP: 6\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=evil\r\nA: b\r\n\r\n",
    );
    let expected = "GET / HTTP/1.1\r\nHost: up.example\r\nX-Real-IP: 192.0.2.9\r\n\
         X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.9\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: a\r\nX-Forwarded-Port: 9080\r\nA: b\r\n\r\n";
    assert_eq!(out, expected);
}

#[test]
fn what_a_peer_says_of_others_counts_if_it_is_trusted() {
    let all = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: b\r\nX-Forwarded-Host:\r\nX-Forwarded-Host: c\r\nX-Forwarded-Port: 1\r\n\
         Forwarded: for=b\r\n\r\n";
    let start = "GET / HTTP/1.1\r\nHost: up.example\r\nX-Real-IP: 192.0.2.9\r\nX-Forwarded-For: ";
    let with = |input, trust| {
        let out = forward_with(input, &RequestRewrite { trust, ..REWRITE });
        out.strip_prefix(start).unwrap_or_else(|| panic!("{out}")).to_owned()
    };
    assert_eq!(
        with(all, Trust::Trusted),
        "1.1.1.1, 192.0.2.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b, c\r\n\
         X-Forwarded-Port: 1\r\nForwarded: for=b\r\n\r\n"
    );
    let own = "192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\
         X-Forwarded-Port: 9080\r\n\r\n";
    assert_eq!(with(all, Trust::Untrusted), own);
    // What a trusted peer does not say, or leaves empty, is the gateway's.
    let none = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto:\r\n\r\n";
    assert_eq!(with(none, Trust::Trusted), own);
}

#[test]
fn a_listener_without_a_port_forwards_none() {
    let forward = |host: &str| {
        let input = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let rewrite = RequestRewrite { server_port: b"", client_ip: b"unix:", ..REWRITE };
        let out = forward_with(&input, &rewrite);
        assert!(out.contains("\r\nX-Forwarded-For: unix:\r\n"), "{out}");
        let lines = out.lines().filter_map(|line| line.strip_prefix("X-Forwarded-Port: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(forward("a"), [""; 0]);
    assert_eq!(forward("a:81"), ["81"]);
}

#[test]
fn what_belongs_to_the_connection_is_not_forwarded() {
    let lines = "A: 1\r\nConnection: close, X-Hop\r\nKeep-Alive: 5\r\nB: 2\r\n\
                 Proxy-Connection: x\r\nTE: trailers\r\nx-hop: 3\r\nUpgrade: websocket\r\n\
                 Expect: 100-continue\r\nTrailer: X-Sum\r\nC: 4\r\n";
    assert_eq!(forward_lines(lines), "A: 1\r\nB: 2\r\nTrailer: X-Sum\r\nC: 4\r\n\r\n");
}

#[test]
fn connection_cannot_take_away_what_frames_or_routes() {
    let lines = "Connection: content-length, host, x-forwarded-for, x-real-ip, b\r\n\
                 Content-Length: 5\r\nB: 1\r\nX-Forwarded-For: 1.1.1.1\r\n";
    assert_eq!(forward_lines(lines), "Content-Length: 5\r\n\r\n");
}

#[test]
fn an_upgrade_is_passed_on_only_when_wanted_and_acceptable() {
    let with = |protocol: &str, upgrade: bool| {
        let input = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, X-Hop\r\nUpgrade: {protocol}\r\n\
             X-Hop: 1\r\nSec-WebSocket-Key: k\r\n\r\n"
        );
        let out = forward_with(&input, &RequestRewrite { upgrade, ..REWRITE });
        out[out.find("9080\r\n").unwrap() + 6..].to_owned()
    };
    let passed = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    assert_eq!(with("websocket", true), passed);
    assert_eq!(with("websocket", false), "Sec-WebSocket-Key: k\r\n\r\n");
    assert_eq!(with("h2c", true), "Sec-WebSocket-Key: k\r\n\r\n");
}

#[test]
fn framing_is_forwarded_in_one_form_only() {
    for (sent, forwarded) in [
        ("Transfer-Encoding: chunked\r\nA: 1\r\n", "Transfer-Encoding: chunked\r\nA: 1\r\n"),
        ("transfer-encoding: chunked\r\nA: 1\r\n", "transfer-encoding: chunked\r\nA: 1\r\n"),
        ("Transfer-Encoding:chunked\r\nA: 1\r\n", "A: 1\r\nTransfer-Encoding: chunked\r\n"),
        ("Transfer-Encoding:\tchunked\r\nA: 1\r\n", "A: 1\r\nTransfer-Encoding: chunked\r\n"),
        ("Transfer-Encoding: chunked \r\nA: 1\r\n", "A: 1\r\nTransfer-Encoding: chunked\r\n"),
        ("transfer-encoding: Chunked\r\nA: 1\r\n", "A: 1\r\nTransfer-Encoding: chunked\r\n"),
        ("Content-Length: 0\r\nA: 1\r\n", "Content-Length: 0\r\nA: 1\r\n"),
        ("Content-Length: 10\r\nA: 1\r\n", "Content-Length: 10\r\nA: 1\r\n"),
        ("Content-Length:10\r\nA: 1\r\n", "A: 1\r\nContent-Length: 10\r\n"),
        ("Content-Length: 010\r\nA: 1\r\n", "A: 1\r\nContent-Length: 10\r\n"),
        ("Content-Length: 000\r\nA: 1\r\n", "A: 1\r\nContent-Length: 0\r\n"),
        ("Content-Length: \t10 \t\r\nA: 1\r\n", "A: 1\r\nContent-Length: 10\r\n"),
    ] {
        assert_eq!(forward_lines(sent), format!("{forwarded}\r\n"), "{sent}");
    }
}

#[test]
fn targets_go_out_in_origin_form() {
    let line = |input: &str| forward(input).lines().next().unwrap_or_default().to_owned();
    let absolute = |target: &str| line(&format!("{target} HTTP/1.1\r\nHost: b\r\n\r\n"));
    assert_eq!(absolute("GET http://a/x?y"), "GET /x?y HTTP/1.1");
    assert_eq!(absolute("GET http://a"), "GET / HTTP/1.1");
    assert_eq!(absolute("GET http://a?y"), "GET /?y HTTP/1.1");
    assert_eq!(absolute("OPTIONS *"), "OPTIONS * HTTP/1.1");
    assert_eq!(absolute("OPTIONS http://a"), "OPTIONS * HTTP/1.1");
    assert_eq!(absolute("OPTIONS http://a/"), "OPTIONS / HTTP/1.1");
    assert_eq!(absolute("OPTIONS http://a?y"), "OPTIONS /?y HTTP/1.1");
    // The authority of the target wins over Host (RFC 9112, section 3.2.2).
    let out = forward("GET http://a:81/ HTTP/1.1\r\nHost: b:82\r\n\r\n");
    assert_eq!(out, format!("GET / HTTP/1.1\r\n{}\r\n", ours("a:81", "81")));
}

#[test]
fn a_rewritten_target_cannot_end_the_line() {
    let line = |target: &[u8]| {
        let rewrite = RequestRewrite { target: Some(target), ..REWRITE };
        let out = forward_with("GET /x HTTP/1.0\r\n\r\n", &rewrite);
        out.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(line(b"/y?z"), "GET /y?z HTTP/1.1");
    assert_eq!(line(b""), "GET / HTTP/1.1");
    assert_eq!(line(b"y"), "GET /y HTTP/1.1");
    assert_eq!(line(b"*"), "GET * HTTP/1.1");
    assert_eq!(
        line(b"/a b\r\nHost: evil\x00\x7f#\t"),
        "GET /a%20b%0D%0AHost:%20evil%00%7F%23%09 HTTP/1.1"
    );
}

#[test]
fn a_request_of_http_1_0_becomes_one_of_1_1() {
    let out = forward("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(out, format!("GET / HTTP/1.1\r\n{}\r\n", ours("", "9080")));
    let out = forward("GET / HTTP/1.0\r\nHost: [::1]:\r\n\r\n");
    assert_eq!(out, format!("GET / HTTP/1.1\r\n{}\r\n", ours("[::1]:", "9080")));
    let out = forward("GET / HTTP/1.0\r\nHost: [::1]:8080\r\n\r\n");
    assert_eq!(out, format!("GET / HTTP/1.1\r\n{}\r\n", ours("[::1]:8080", "8080")));
}

const KEEP: ResponseRewrite<'_> = ResponseRewrite {
    server: b"osmia",
    date: b"now",
    connection: ConnectionField::Implied,
    framing: BodyLength::Known(0),
    extra: b"",
};

fn parse_response(input: &str, asked: Asked) -> ResponseHead {
    let mut head = ResponseHead::default();
    assert_eq!(head.parse(input.as_bytes(), asked, &HttpLimits::default()), Ok(true), "{input}");
    head
}

/// Writes a response with the framing it came with.
fn respond(input: &str, asked: Asked, connection: ConnectionField) -> String {
    let head = parse_response(input, asked);
    let rewrite = ResponseRewrite { connection, framing: head.body, ..KEEP };
    let mut out = Vec::new();
    response_head(&mut out, &head, input.as_bytes(), &rewrite);
    String::from_utf8(out).unwrap()
}

fn respond_to_get(input: &str) -> String {
    respond(input, Asked::default(), ConnectionField::Implied)
}

#[test]
fn a_response_is_forwarded_byte_for_byte() {
    let out = respond_to_get(
        "HTTP/1.1 200 All  right\r\nServer: nginx\r\nContent-Length: 5\r\nX-A:b \r\nDate: d\r\n\
         Set-Cookie: 1\r\nSet-Cookie: 2\r\n\r\nhello",
    );
    let expected = "HTTP/1.1 200 All  right\r\nContent-Length: 5\r\nX-A:b \r\nDate: d\r\n\
         Set-Cookie: 1\r\nSet-Cookie: 2\r\nServer: osmia\r\n\r\n";
    assert_eq!(out, expected);
}

#[test]
fn a_response_gets_version_date_and_the_space_after_the_status() {
    let close = "HTTP/1.0 200 OK\r\n\r\n";
    assert_eq!(respond_to_get(close), "HTTP/1.1 200 OK\r\nServer: osmia\r\nDate: now\r\n\r\n");
    let bare = "HTTP/1.1 404\r\nContent-Length: 0\r\nDate: d\r\n\r\n";
    let expected = "HTTP/1.1 404 \r\nContent-Length: 0\r\nDate: d\r\nServer: osmia\r\n\r\n";
    assert_eq!(respond_to_get(bare), expected);
    assert_eq!(
        respond_to_get("HTTP/1.1 404\r\n\r\n"),
        "HTTP/1.1 404 \r\nServer: osmia\r\nDate: now\r\n\r\n"
    );
}

#[test]
fn what_belongs_to_the_upstream_connection_is_not_forwarded() {
    let out = respond(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Hop, Date\r\nX-Hop: 1\r\nDate: d\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nA: b\r\n\
         Content-Length: 1\r\n\r\n",
        Asked::default(),
        ConnectionField::Close,
    );
    let expected = "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 1\r\nServer: osmia\r\nDate: now\r\n\
                    Connection: close\r\n\r\n";
    assert_eq!(out, expected);
}

#[test]
fn a_response_to_head_keeps_its_framing_fields() {
    let head = Asked { head: true, upgrade: false };
    for line in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let input = format!("HTTP/1.1 200 OK\r\n{line}\r\nDate: d\r\n\r\n");
        let expected = format!("HTTP/1.1 200 OK\r\n{line}\r\nDate: d\r\nServer: osmia\r\n\r\n");
        assert_eq!(respond(&input, head, ConnectionField::Implied), expected);
    }
    // A client of HTTP/1.0 knows nothing of chunks.
    let input = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: d\r\n\r\n";
    assert_eq!(
        respond(input, head, ConnectionField::KeepAlive),
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: osmia\r\nConnection: keep-alive\r\n\r\n"
    );
}

#[test]
fn bodyless_statuses_carry_no_framing_that_a_client_could_wait_for() {
    let respond = |status: u16, line: &str| {
        let out = respond_to_get(&format!("HTTP/1.1 {status} X\r\nDate: d\r\n{line}\r\n\r\n"));
        out.contains(line)
    };
    assert!(!respond(204, "Content-Length: 5"));
    assert!(!respond(204, "Content-Length: 0"));
    assert!(!respond(204, "Transfer-Encoding: chunked"));
    assert!(!respond(103, "Content-Length: 5"));
    assert!(!respond(103, "Transfer-Encoding: chunked"));
    assert!(respond(304, "Content-Length: 5"));
    assert!(!respond(304, "Transfer-Encoding: chunked"));
}

#[test]
fn framing_is_replaced_when_the_body_goes_out_otherwise() {
    let replace = |line: &str, framing: BodyLength| {
        let input = format!("HTTP/1.1 200 OK\r\nA: 1\r\n{line}Date: d\r\n\r\n");
        let head = parse_response(&input, Asked::default());
        let mut out = Vec::new();
        let rewrite = ResponseRewrite { framing, server: b"", ..KEEP };
        response_head(&mut out, &head, input.as_bytes(), &rewrite);
        let out = String::from_utf8(out).unwrap();
        let rest = out.strip_prefix("HTTP/1.1 200 OK\r\nA: 1\r\nDate: d\r\n").unwrap();
        rest.strip_suffix("\r\n").unwrap().to_owned()
    };
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    assert_eq!(replace("", BodyLength::Chunked), chunked);
    assert_eq!(replace(length, BodyLength::Chunked), chunked);
    assert_eq!(replace(chunked, BodyLength::UntilClose), "");
    assert_eq!(replace(length, BodyLength::UntilClose), "");
    assert_eq!(replace(chunked, BodyLength::Known(0)), "Content-Length: 0\r\n");
    assert_eq!(replace(length, BodyLength::Known(120)), "Content-Length: 120\r\n");
    let most = format!("Content-Length: {}\r\n", u64::MAX);
    assert_eq!(replace("", BodyLength::Known(u64::MAX)), most);
    // The same framing in another form.
    assert_eq!(replace("Content-Length:\t05\r\n", BodyLength::Known(5)), length);
    assert_eq!(replace("transfer-encoding:CHUNKED\r\n", BodyLength::Chunked), chunked);
}

#[test]
fn a_switch_of_protocols_is_forwarded() {
    let input = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Content-Length: 0\r\nDate: d\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let out = respond(input, Asked { head: false, upgrade: true }, ConnectionField::Upgrade);
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nDate: d\r\n\
                    Sec-WebSocket-Accept: x\r\nServer: osmia\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(out, expected);
}

#[test]
fn interim_responses_get_nothing_of_the_gateway() {
    let input = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nServer: x\r\nConnection: close\r\n\r\n";
    let head = parse_response(input, Asked::default());
    let mut out = Vec::new();
    interim_head(&mut out, &head, input.as_bytes());
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
}

#[test]
fn extra_lines_come_last() {
    let input = "HTTP/1.1 502 X\r\nContent-Length: 0\r\nDate: d\r\n\r\n";
    let head = parse_response(input, Asked::default());
    let mut out = Vec::new();
    let rewrite = ResponseRewrite { extra: b"X-Up: 1\r\nX-B: 2\r\n", server: b"", ..KEEP };
    response_head(&mut out, &head, input.as_bytes(), &rewrite);
    let expected = "HTTP/1.1 502 X\r\nContent-Length: 0\r\nDate: d\r\nX-Up: 1\r\nX-B: 2\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn heads_that_were_never_parsed_are_harmless() {
    let mut out = Vec::new();
    request_head(&mut out, &RequestHead::default(), b"", &REWRITE);
    response_head(&mut out, &ResponseHead::default(), b"", &KEEP);
    assert!(out.starts_with(b" / HTTP/1.1\r\n"));
}

#[test]
fn chunk_size_lines() {
    let line = |len: usize| {
        let (line, from) = chunk_size_line(len);
        String::from_utf8(line[from..].to_vec()).unwrap()
    };
    assert_eq!(line(0), "0\r\n");
    assert_eq!(line(10), "a\r\n");
    assert_eq!(line(65_536), "10000\r\n");
    assert_eq!(line(0xffff_ffff), "ffffffff\r\n");
}
