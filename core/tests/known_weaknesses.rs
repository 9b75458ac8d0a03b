//! What other codecs got wrong, one test each: the weaknesses measured in monoio-http 0.3.12, and
//! those published for gateways (CVE-2026-2833, CVE-2026-2835, CVE-2023-45539, nghttp2 #2809).

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use osmia_core::http1::response::Asked;
use osmia_core::http1::write::{
    ConnectionField, RequestRewrite, ResponseRewrite, request_head, response_head,
};
use osmia_core::http1::{Body, BodyError, BodyLength, HeadError, RequestHead, ResponseHead};
use osmia_core::limits::{self, HttpLimits};

/// The verdict on a request with these lines after `Host`.
fn request(lines: &str) -> Result<RequestHead, HeadError> {
    raw_request(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes())
}

fn raw_request(bytes: &[u8]) -> Result<RequestHead, HeadError> {
    let mut head = RequestHead::default();
    assert!(head.parse(bytes, &HttpLimits::default())?, "incomplete");
    Ok(head)
}

fn response(asked: Asked, text: &str) -> Result<ResponseHead, HeadError> {
    let mut head = ResponseHead::default();
    assert!(head.parse(text.as_bytes(), asked, &HttpLimits::default())?, "incomplete");
    Ok(head)
}

/// Payload of a chunked body, and how much of the input it took.
fn dechunk(input: &[u8]) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let mut buf = input.to_vec();
    let mut body = Body::new(BodyLength::Chunked, false, &HttpLimits::default());
    let accepted = body.accept(&mut buf)?;
    buf.truncate(accepted.kept);
    Ok((buf, accepted.consumed, body.is_done()))
}

// Framing.

#[test]
fn transfer_encoding_with_content_length_is_refused() {
    let lines = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n";
    assert_eq!(request(lines).err(), Some(HeadError::LengthAndEncoding));
    let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
    assert_eq!(response(Asked::default(), &text).err(), Some(HeadError::LengthAndEncoding));
}

#[test]
fn two_lengths_are_refused() {
    let lines = "Content-Length: 3\r\nContent-Length: 4\r\n";
    assert_eq!(request(lines).err(), Some(HeadError::RepeatedContentLength));
}

#[test]
fn identity_then_chunked_is_refused() {
    let lines = "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(request(lines).err(), Some(HeadError::InvalidEncoding));
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    let head = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(raw_request(head).err(), Some(HeadError::EncodingInHttp10));
}

// Chunks.

#[test]
fn an_empty_size_line_does_not_end_the_body() {
    assert_eq!(dechunk(b"\r\n\r\nGET /evil HTTP/1.1\r\n"), Err(BodyError::ChunkSize));
    assert_eq!(dechunk(b"1\r\nx\r\n\r\n"), Err(BodyError::ChunkSize));
}

#[test]
fn extensions_and_trailers_are_accepted() {
    let body = b"3;a=b\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
    assert_eq!(dechunk(body), Ok((b"abc".to_vec(), body.len(), true)));
}

#[test]
fn another_coding_before_chunked_is_refused_as_not_implemented() {
    let error = request("Transfer-Encoding: gzip, chunked\r\n").err();
    assert_eq!(error, Some(HeadError::UnsupportedEncoding));
    assert_eq!(error.map(HeadError::status), Some(501));
}

#[test]
fn chunk_sizes_do_not_overflow() {
    for size in ["ffffffffffffffff", "10000000000000000", "fffffffffffffffff"] {
        let body = format!("{size}\r\nabc");
        assert_eq!(dechunk(body.as_bytes()), Err(BodyError::ChunkSizeOverflow), "{size}");
    }
}

// Host.

#[test]
fn a_missing_host_is_refused() {
    assert_eq!(raw_request(b"GET / HTTP/1.1\r\n\r\n").err(), Some(HeadError::MissingHost));
}

#[test]
fn a_repeated_host_is_refused() {
    assert_eq!(request("Host: a\r\n").err(), Some(HeadError::RepeatedHost));
    assert_eq!(request("Host: b\r\n").err(), Some(HeadError::RepeatedHost));
}

// Limits.

#[test]
fn heads_are_limited_in_bytes_however_many_fields_they_have() {
    let mut head = RequestHead::default();
    let mut buf = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    let verdict = loop {
        buf.extend_from_slice(&[b'v'; 1000]);
        match head.parse(&buf, &HttpLimits::default()) {
            Ok(complete) => assert!(!complete && buf.len() < limits::HEAD_BYTES),
            Err(error) => break error,
        }
    };
    assert_eq!((verdict, verdict.status()), (HeadError::HeadTooLarge, 431));
}

#[test]
fn a_name_of_64_kib_is_refused_and_harmless() {
    for len in [65_534, 65_535, 65_536, 65_537, 131_072] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: 1\r\n\r\n", "n".repeat(len));
        for head_bytes in [limits::HEAD_BYTES, limits::HEAD_BYTES_MAX, usize::MAX] {
            let limits = HttpLimits { head_bytes, ..HttpLimits::default() };
            let verdict = RequestHead::default().parse(head.as_bytes(), &limits);
            assert_eq!(verdict, Err(HeadError::HeadTooLarge), "{len} {head_bytes}");
        }
    }
}

// Responses.

#[test]
fn a_close_delimited_body_is_read() {
    let head = response(Asked::default(), "HTTP/1.1 200 OK\r\n\r\n").unwrap();
    assert_eq!((head.body, head.keep_alive), (BodyLength::UntilClose, false));
    let mut body = Body::new(head.body, true, &HttpLimits::default());
    let mut bytes = b"payload".to_vec();
    assert_eq!(body.accept(&mut bytes).map(|accepted| accepted.kept), Ok(7));
    assert!(body.ends_with_connection() && !body.is_done());
}

#[test]
fn responses_without_body_do_not_wait_for_one() {
    let head = Asked { head: true, upgrade: false };
    for (asked, status) in [(Asked::default(), 204), (Asked::default(), 304), (head, 200)] {
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
        let body = response(asked, &text).unwrap().body;
        assert!(Body::new(body, true, &HttpLimits::default()).is_done(), "{status}");
    }
}

#[test]
fn an_interim_response_is_not_final() {
    let head = response(Asked::default(), "HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    assert!(head.is_interim());
    assert_eq!(head.body, BodyLength::Known(0));
}

#[test]
fn protocols_can_be_switched_and_connect_is_refused() {
    let text = "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let upgrade = Asked { head: false, upgrade: true };
    assert!(response(upgrade, text).is_ok_and(|head| !head.is_interim()));
    let connect = b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(raw_request(connect).err(), Some(HeadError::Connect));
}

#[test]
fn no_length_is_invented_for_a_response_without_body() {
    let text = "HTTP/1.1 304 X\r\nETag: x\r\n\r\n";
    let head = response(Asked::default(), text).unwrap();
    let rewrite = ResponseRewrite {
        server: b"",
        date: b"",
        connection: ConnectionField::Implied,
        framing: head.body,
        extra: b"",
    };
    let mut out = Vec::new();
    response_head(&mut out, &head, text.as_bytes(), &rewrite);
    assert_eq!(out, text.as_bytes());
}

// Memory.

#[test]
fn bodies_of_any_size_pass_through_without_being_kept() {
    let mut fixed = Body::new(BodyLength::Known(300 << 20), true, &HttpLimits::default());
    let mut chunked = Body::new(BodyLength::Chunked, true, &HttpLimits::default());
    let mut size_line = *b"12c00000\r\n";
    assert!(chunked.accept(&mut size_line).is_ok());
    let mut buf = vec![b'x'; 64 << 10];
    for _ in 0..(300 << 20) / buf.len() {
        for body in [&mut fixed, &mut chunked] {
            let accepted = body.accept(&mut buf).unwrap();
            assert_eq!((accepted.consumed, accepted.kept), (buf.len(), buf.len()));
        }
    }
    assert!(fixed.is_done());
    assert_eq!(chunked.accept(&mut b"\r\n0\r\n\r\n".to_vec()).unwrap().kept, 7);
    assert!(chunked.is_done());
    assert!(size_of::<Body>() <= 64);
}

// Errors.

#[test]
fn errors_can_be_cloned() {
    #[allow(clippy::clone_on_copy, reason = "cloning is what once overflowed the stack")]
    fn clone<T: Clone + Copy>(error: &T) -> T {
        error.clone()
    }
    assert_eq!(clone(&HeadError::StartLine), HeadError::StartLine);
    assert_eq!(clone(&BodyError::ChunkSize), BodyError::ChunkSize);
}

// HTTP/2 has a codec of its own; here it is recognised and refused.

#[test]
fn the_preface_of_http_2_is_no_request() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(raw_request(preface).err(), Some(HeadError::Version));
}

// Published smuggling.

/// CVE-2026-2833: what follows an Upgrade request is the next request until a 101 says otherwise,
/// and nghttp2 #2809: never while the request has a body.
#[test]
fn an_upgrade_request_ends_with_its_head() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /admin";
    let head = raw_request(bytes).unwrap();
    assert!(head.upgrade && head.body == BodyLength::Known(0));
    assert_eq!(&bytes[head.len..], b"GET /admin");
    let with_body = "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n";
    assert!(!request(with_body).unwrap().upgrade);
    // A 200 to it does not switch anything.
    let upgrade = Asked { head: false, upgrade: true };
    let text = "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(response(upgrade, text).unwrap().body, BodyLength::Known(1));
}

/// CVE-2026-2835: forms of `Transfer-Encoding` that some reader does not take for chunked.
#[test]
fn odd_transfer_encodings_are_refused_or_forwarded_plain() {
    for value in ["chunkedx", "x chunked", "chunked, x", "\"chunked\"", "chunked;a", "chunked,"] {
        assert!(request(&format!("Transfer-Encoding: {value}\r\n")).is_err(), "{value}");
    }
    for name in ["Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding"] {
        assert!(request(&format!("{name}: chunked\r\n")).is_err(), "{name}");
    }
    for line in ["transfer-encoding:\tchunked", "TRANSFER-ENCODING: Chunked \t"] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
        let head = raw_request(bytes.as_bytes()).unwrap();
        let mut out = Vec::new();
        let rewrite = RequestRewrite {
            host: b"a",
            target: None,
            client_ip: b"::1",
            scheme: b"http",
            server_port: b"80",
            trust: osmia_core::forwarded::Trust::Unset,
            upgrade: false,
        };
        request_head(&mut out, &head, bytes.as_bytes(), &rewrite);
        assert!(out.ends_with(b"\r\nTransfer-Encoding: chunked\r\n\r\n"), "{}", out.escape_ascii());
    }
}

/// CVE-2023-45539: a fragment is no part of a target; servers disagree on what it hides.
#[test]
fn fragments_are_refused() {
    let head = b"GET /public#/../admin HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(raw_request(head).err(), Some(HeadError::Target));
}
