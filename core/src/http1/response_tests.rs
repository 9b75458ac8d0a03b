use super::*;

const GET: Asked = Asked { head: false, upgrade: false };
const HEAD: Asked = Asked { head: true, upgrade: false };
const UPGRADE: Asked = Asked { head: false, upgrade: true };

/// Feeds `bytes` one by one, and at once; both must say the same.
fn parse_with(
    bytes: &[u8],
    asked: Asked,
    limits: &HttpLimits,
) -> Result<Option<ResponseHead>, HeadError> {
    let mut head = ResponseHead::default();
    let whole = head.parse(bytes, asked, limits);
    let mut slow = ResponseHead::default();
    let slowly = (1..=bytes.len())
        .map(|end| slow.parse(&bytes[..end], asked, limits))
        .find(|verdict| *verdict != Ok(false))
        .unwrap_or(Ok(false));
    assert_eq!(whole, slowly, "{}", bytes.escape_ascii());
    whole.map(|complete| complete.then_some(head))
}

fn parse(asked: Asked, text: &str) -> ResponseHead {
    parse_with(text.as_bytes(), asked, &HttpLimits::default())
        .unwrap_or_else(|error| panic!("{error}: {text}"))
        .unwrap_or_else(|| panic!("incomplete: {text}"))
}

fn refuse(asked: Asked, bytes: &[u8]) -> HeadError {
    match parse_with(bytes, asked, &HttpLimits::default()) {
        Err(error) => error,
        Ok(head) => panic!("accepted: {} {head:?}", bytes.escape_ascii()),
    }
}

#[test]
fn is_refused_for_the_exact_reason() {
    let cases: &[(&[u8], HeadError)] = &[
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", HeadError::StartLine),
        (b"<html>", HeadError::StartLine),
        (b"HTTP/1.1  200 OK\r\n\r\n", HeadError::StartLine),
        (b"HTTP/1.1\t200 OK\r\n\r\n", HeadError::StartLine),
        (b"HTTP/1.1 20 OK\r\n\r\n", HeadError::StartLine),
        (b"HTTP/1.1 2000 OK\r\n\r\n", HeadError::StartLine),
        (b"HTTP/1.1 2xx OK\r\n\r\n", HeadError::StartLine),
        (b"HTTP/1.1 200 O\x00K\r\n\r\n", HeadError::StartLine),
        (b"HTTPS/1.1 200 OK\r\n\r\n", HeadError::StartLine),
        (b"HTTP/1.1\r\n", HeadError::StartLine),
        (b"HTTP/2.0 200 OK\r\n\r\n", HeadError::Version),
        (b"HTTP/1.2 200 OK\r\n\r\n", HeadError::Version),
        (b"HTTP/1.1 200 OK\n\n", HeadError::BareLineEnd),
        (b"HTTP/1.1 200\n\n", HeadError::BareLineEnd),
        (b"HTTP/1.1 200 OK\rX", HeadError::BareLineEnd),
        (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", HeadError::BareLineEnd),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\n", HeadError::BareLineEnd),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", HeadError::FieldName),
        (b"HTTP/1.1 200 OK\r\nA: \x01\r\n\r\n", HeadError::FieldValue),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", HeadError::FoldedLine),
        (b"HTTP/1.1 099 X\r\n\r\n", HeadError::UnexpectedStatus),
        (b"HTTP/1.1 600 X\r\n\r\n", HeadError::UnexpectedStatus),
        (b"HTTP/1.1 000 X\r\n\r\n", HeadError::UnexpectedStatus),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            HeadError::RepeatedContentLength,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\n", HeadError::InvalidContentLength),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::LengthAndEncoding,
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", HeadError::InvalidEncoding),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            HeadError::UnsupportedEncoding,
        ),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::EncodingInHttp10),
    ];
    for (bytes, error) in cases {
        assert_eq!(refuse(GET, bytes), *error, "{}", bytes.escape_ascii());
    }
}

#[test]
fn limits_are_exact() {
    let limits = HttpLimits { head_bytes: 40, header_count: 2, ..HttpLimits::default() };
    let of = |value: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(value));
    assert_eq!(of(16).len(), 40);
    let verdict = |text: &str| {
        parse_with(text.as_bytes(), GET, &limits).map(|head| head.map(|head| head.fields.len()))
    };
    assert_eq!(verdict(&of(16)), Ok(Some(1)));
    assert_eq!(verdict(&(of(16) + "body")), Ok(Some(1)));
    assert_eq!(verdict(&of(17)), Err(HeadError::HeadTooLarge));
    assert_eq!(verdict(&of(17)[..39]), Ok(None));
    assert_eq!(verdict("HTTP/1.1 200 OK\r\nA:\r\nB:\r\n\r\n"), Ok(Some(2)));
    assert_eq!(verdict("HTTP/1.1 200 OK\r\nA:\r\nB:\r\nC"), Err(HeadError::TooManyFields));
    let names = (0..33).map(|at| format!("x{at}")).collect::<Vec<_>>().join(",");
    let text = format!("HTTP/1.1 200 OK\r\nConnection: {names}\r\n\r\n");
    assert_eq!(refuse(GET, text.as_bytes()), HeadError::TooManyOptions);
}

#[test]
fn the_body_is_delimited_by_request_status_and_fields() {
    use BodyLength::{Chunked, Known, UntilClose};
    let body = |asked, status: u16, lines: &str| {
        parse(asked, &format!("HTTP/1.1 {status} X\r\n{lines}\r\n")).body
    };
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    assert_eq!(body(GET, 200, length), Known(5));
    assert_eq!(body(GET, 200, chunked), Chunked);
    assert_eq!(body(GET, 200, ""), UntilClose);
    assert_eq!(body(GET, 205, length), Known(5));
    for lines in [length, chunked, ""] {
        assert_eq!(body(HEAD, 200, lines), Known(0));
        for status in [100, 103, 199, 204, 304] {
            assert_eq!(body(GET, status, lines), Known(0), "{status}");
        }
    }
}

#[test]
fn interim_responses_are_told_from_final_ones() {
    for (status, interim) in [(100, true), (103, true), (199, true), (200, false), (500, false)] {
        let head = parse(GET, &format!("HTTP/1.1 {status} X\r\n\r\n"));
        assert_eq!((head.is_interim(), head.status), (interim, status));
    }
}

#[test]
fn a_switch_of_protocols_must_have_been_asked_for() {
    let full = "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let head = parse(UPGRADE, full);
    assert!(!head.is_interim());
    assert_eq!(head.body, BodyLength::Known(0));
    for (asked, text) in [
        (GET, full),
        (UPGRADE, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n"),
        (UPGRADE, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n"),
        (UPGRADE, "HTTP/1.1 101 X\r\n\r\n"),
    ] {
        assert_eq!(refuse(asked, text.as_bytes()), HeadError::UnexpectedStatus);
    }
}

#[test]
fn the_connection_is_kept_only_where_the_end_of_the_body_is_sure() {
    let keeps = |asked, head: &str| parse(asked, &format!("{head}\r\n\r\n")).keep_alive;
    assert!(keeps(GET, "HTTP/1.1 200 OK\r\nContent-Length: 0"));
    assert!(keeps(GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"));
    assert!(keeps(GET, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0"));
    assert!(keeps(HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5"));
    assert!(keeps(GET, "HTTP/1.1 304 X\r\nContent-Length: 5"));
    assert!(keeps(GET, "HTTP/1.1 204 X\r\nContent-Length: 0"));
    assert!(!keeps(GET, "HTTP/1.1 200 OK"), "until close");
    assert!(!keeps(GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close"));
    assert!(!keeps(GET, "HTTP/1.0 200 OK\r\nContent-Length: 0"));
    // The body that must not be there may follow; it would be read as the next response.
    assert!(!keeps(GET, "HTTP/1.1 204 X\r\nContent-Length: 5"));
    assert!(!keeps(GET, "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked"));
}

#[test]
fn a_date_named_by_connection_is_none() {
    assert!(parse(GET, "HTTP/1.1 200 OK\r\nDate: x\r\n\r\n").has_date);
    assert!(!parse(GET, "HTTP/1.1 200 OK\r\nDate: x\r\nConnection: date\r\n\r\n").has_date);
    assert!(!parse(GET, "HTTP/1.1 200 OK\r\n\r\n").has_date);
}

#[test]
fn reset_forgets_the_response_before() {
    let mut head = parse(GET, "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 3\r\n\r\n");
    head.reset();
    assert_eq!((head.status, head.len, head.has_date), (0, 0, false));
    let next = b"HTTP/1.1 500 X\r\n\r\n";
    assert_eq!(head.parse(&next[..5], GET, &HttpLimits::default()), Ok(false));
    assert_eq!(head.parse(next, GET, &HttpLimits::default()), Ok(true));
    assert_eq!((head.status, head.body), (500, BodyLength::UntilClose));
    assert_eq!(head.value(next, "date"), None);
}
