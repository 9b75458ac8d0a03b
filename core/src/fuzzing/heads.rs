//! Invariants of request and response heads.

use super::model::{Model, show};
use super::{Input, Outcome};
use crate::forwarded::Trust;
use crate::http1::response::Asked;
use crate::http1::write::{self, ConnectionField, RequestRewrite, ResponseRewrite};
use crate::http1::{BodyLength, Field, HeadError, Known, RequestHead, ResponseHead};
use crate::limits::{HEAD_BYTES_MAX, HEADER_COUNT_MAX, HttpLimits};

/// For what the gateway itself writes.
const WIDE: HttpLimits = HttpLimits {
    request_line_bytes: HEAD_BYTES_MAX,
    head_bytes: HEAD_BYTES_MAX,
    header_count: HEADER_COUNT_MAX,
    chunk_line_bytes: HEAD_BYTES_MAX,
    trailer_bytes: HEAD_BYTES_MAX,
};

/// The verdict on a request does not depend on how its bytes are cut; what is accepted reads the
/// same to a naive parser; what is forwarded reads the same again, and holds nothing that belongs
/// to one connection.
pub fn request_head(data: &[u8]) -> Outcome {
    let Some(input) = Input::new(data) else { return Outcome::Incomplete };
    let [whole, bytewise, irregular] = input.cuts().map(|cuts| read_request(&input, &cuts));
    assert_eq!(whole, bytewise, "{}", show(input.bytes));
    assert_eq!(whole, irregular, "{}", show(input.bytes));
    let mut head = RequestHead::default();
    match head.parse(input.bytes, &input.limits) {
        Err(_) => Outcome::Refused,
        Ok(false) => Outcome::Incomplete,
        Ok(true) => {
            check_request(&head, &input);
            let once = forward_request(&head, input.bytes);
            let twice = reparse_and_forward(&once);
            check_forwarded_request(&head, input.bytes, &once, &twice);
            Outcome::Accepted
        }
    }
}

/// Everything that a parsed head says, for comparison.
type Reading = Result<Option<String>, HeadError>;

fn read_request(input: &Input<'_>, cuts: &[usize]) -> Reading {
    let mut head = RequestHead::default();
    for end in cuts {
        let buf = &input.bytes[..*end];
        if head.parse(buf, &input.limits)? {
            return Ok(Some(describe_request(&head, buf)));
        }
    }
    Ok(None)
}

fn describe_request(head: &RequestHead, buf: &[u8]) -> String {
    let spans = [head.method, head.target, head.path_query, head.host];
    let flags = [head.http11, head.keep_alive, head.expect_continue, head.upgrade];
    let fields = describe_fields(&head.fields, buf);
    format!("{} {spans:?} {flags:?} {:?} {fields}", head.len, head.body)
}

fn describe_fields(fields: &[Field], buf: &[u8]) -> String {
    let each = fields.iter().map(|field| {
        let (name, value) = (field.name.get(buf), field.value.get(buf));
        format!("{}: {} ({:?})", show(name), show(value), field.known)
    });
    each.collect::<Vec<_>>().join(", ")
}

fn check_request(head: &RequestHead, input: &Input<'_>) {
    let buf = input.bytes;
    assert!(head.len <= buf.len() && head.len <= input.limits.head_bytes);
    assert!(head.fields.len() <= input.limits.header_count);
    let model = Model::read(&buf[..head.len]);
    model.check(head.http11);
    check_fields(&head.fields, &model, buf);
    assert!(model.start_line.len() <= input.limits.request_line_bytes);
    let version: &[u8] = if head.http11 { b"HTTP/1.1" } else { b"HTTP/1.0" };
    let line = [head.method.get(buf), head.target.get(buf), version].join(&b' ');
    assert_eq!(model.start_line, line);
    let hosts = model.values("host");
    assert!(hosts.len() == 1 || hosts.is_empty() && !head.http11);
    if head.target.get(buf).first() == Some(&b'/') {
        assert_eq!(head.host.get(buf), hosts.first().copied().unwrap_or_default());
        assert_eq!(head.path_query, head.target);
    }
    assert_eq!(head.body == BodyLength::Chunked, !model.values("transfer-encoding").is_empty());
    if let Some(length) = model.values("content-length").first() {
        assert_eq!(Some(head.body), parse_length(length));
    }
}

fn parse_length(digits: &[u8]) -> Option<BodyLength> {
    std::str::from_utf8(digits).ok()?.parse().ok().map(BodyLength::Known)
}

fn check_fields(fields: &[Field], model: &Model<'_>, buf: &[u8]) {
    let read: Vec<_> = fields.iter().map(|f| (f.name.get(buf), f.value.get(buf))).collect();
    assert_eq!(read, model.fields);
}

fn forward_request(head: &RequestHead, buf: &[u8]) -> Vec<u8> {
    let host = head.host.get(buf);
    let rewrite = RequestRewrite {
        host: if host.is_empty() { b"upstream.example" } else { host },
        target: None,
        client_ip: b"192.0.2.1",
        scheme: b"http",
        server_port: b"9080",
        trust: Trust::Unset,
        upgrade: true,
    };
    let mut out = Vec::new();
    write::request_head(&mut out, head, buf, &rewrite);
    out
}

fn reparse_and_forward(once: &[u8]) -> Vec<u8> {
    let mut head = RequestHead::default();
    let read = head.parse(once, &WIDE);
    assert_eq!((read, head.len), (Ok(true), once.len()), "{}", show(once));
    forward_request(&head, once)
}

fn check_forwarded_request(head: &RequestHead, buf: &[u8], once: &[u8], twice: &[u8]) {
    let mut again = RequestHead::default();
    assert_eq!(again.parse(once, &WIDE), Ok(true));
    let model = Model::read(once);
    model.check(true);
    Model::check_plain_framing(once);
    assert!(again.http11 && again.keep_alive && !again.expect_continue);
    assert_eq!(again.method.get(once), head.method.get(buf));
    assert_eq!((again.body, again.upgrade), (head.body, head.upgrade));
    let path_query = again.path_query.get(once);
    assert!(matches!(path_query, [b'/', ..] | b"*"), "{}", show(once));
    let sent = head.path_query.get(buf);
    assert!(path_query.ends_with(sent) && path_query.len() <= sent.len() + 1);
    let host = head.host.get(buf);
    assert!(host.is_empty() || again.host.get(once) == host);
    check_end_to_end(&head.fields, buf, &again.fields, once);
    for field in &again.fields {
        let is_upgrade = matches!(field.known, Known::Connection | Known::Upgrade);
        assert!(!field.known.is_hop_by_hop() || head.upgrade && is_upgrade, "{}", show(once));
    }
    // Once more changes nothing but the list of addresses; and the host, if there was none.
    let rest = |out: &[u8]| {
        let text = show(out).replace("192.0.2.1, ", "");
        text.replacen("\\r\\nX-Forwarded-For: 192.0.2.1", "", 1)
    };
    assert!(host.is_empty() || rest(twice) == rest(once), "{}", show(twice));
}

/// Fields that are not the gateway's business arrive as they were, and in order.
fn check_end_to_end(fields: &[Field], buf: &[u8], again: &[Field], out: &[u8]) {
    let ours = |known: Known| matches!(known, Known::Other | Known::Trailer);
    let list = |fields: &[Field], buf: &[u8]| -> Vec<String> {
        let kept = fields.iter().filter(|field| ours(field.known)).copied();
        kept.map(|field| describe_fields(&[field], buf)).collect()
    };
    assert_eq!(list(fields, buf), list(again, out));
    let named = Model::read(out).connection_options();
    assert!(named.iter().all(|name| name == b"upgrade"), "{}", show(out));
}

/// As [`request_head`], for responses to GET and HEAD, with and without an Upgrade.
pub fn response_head(data: &[u8]) -> Outcome {
    let Some(input) = Input::new(data) else { return Outcome::Incomplete };
    let asked = Asked { head: input.flag(1), upgrade: input.flag(2) };
    let [whole, bytewise, irregular] = input.cuts().map(|cuts| read_response(&input, asked, &cuts));
    assert_eq!(whole, bytewise, "{}", show(input.bytes));
    assert_eq!(whole, irregular, "{}", show(input.bytes));
    let mut head = ResponseHead::default();
    match head.parse(input.bytes, asked, &input.limits) {
        Err(_) => Outcome::Refused,
        Ok(false) => Outcome::Incomplete,
        Ok(true) => {
            check_response(&head, asked, &input);
            for framing in framings(&head) {
                check_forwarded_response(&head, asked, input.bytes, framing);
            }
            Outcome::Accepted
        }
    }
}

fn read_response(input: &Input<'_>, asked: Asked, cuts: &[usize]) -> Reading {
    let mut head = ResponseHead::default();
    for end in cuts {
        let buf = &input.bytes[..*end];
        if head.parse(buf, asked, &input.limits)? {
            let flags = [head.http11, head.keep_alive, head.has_date];
            let numbers = (head.len, head.status, head.body);
            return Ok(Some(format!(
                "{numbers:?} {flags:?} {}",
                describe_fields(&head.fields, buf)
            )));
        }
    }
    Ok(None)
}

fn check_response(head: &ResponseHead, asked: Asked, input: &Input<'_>) {
    let buf = input.bytes;
    assert!(head.len <= buf.len() && head.len <= input.limits.head_bytes);
    assert!(head.fields.len() <= input.limits.header_count);
    assert!((100..600).contains(&head.status) && (head.status != 101 || asked.upgrade));
    let model = Model::read(&buf[..head.len]);
    model.check(head.http11);
    check_fields(&head.fields, &model, buf);
    assert!(
        buf.starts_with(format!("HTTP/1.{} {}", u8::from(head.http11), head.status).as_bytes())
    );
    let is_bodyless = asked.head || head.status < 200 || matches!(head.status, 204 | 304);
    let expected = match model.values("content-length").first() {
        _ if is_bodyless => BodyLength::Known(0),
        Some(length) => parse_length(length).unwrap_or_default(),
        None if model.values("transfer-encoding").is_empty() => BodyLength::UntilClose,
        None => BodyLength::Chunked,
    };
    assert_eq!(head.body, expected);
    assert!(!(head.keep_alive && head.body == BodyLength::UntilClose));
}

/// Ways in which the body may go out.
fn framings(head: &ResponseHead) -> Vec<BodyLength> {
    match head.body {
        BodyLength::Chunked => vec![BodyLength::Chunked, BodyLength::UntilClose],
        BodyLength::UntilClose => vec![BodyLength::UntilClose, BodyLength::Chunked],
        // As when a plugin replaced the body.
        BodyLength::Known(length) if length > 0 => vec![head.body, BodyLength::Known(length - 1)],
        BodyLength::Known(_) => vec![head.body],
    }
}

fn check_forwarded_response(head: &ResponseHead, asked: Asked, buf: &[u8], framing: BodyLength) {
    let connection =
        if head.status == 101 { ConnectionField::Upgrade } else { ConnectionField::Implied };
    let rewrite = ResponseRewrite {
        server: b"osmia",
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
        connection,
        framing,
        extra: b"X-Extra: 1\r\n",
    };
    let mut out = Vec::new();
    write::response_head(&mut out, head, buf, &rewrite);
    let mut again = ResponseHead::default();
    let read = again.parse(&out, asked, &WIDE);
    assert_eq!((read, again.len), (Ok(true), out.len()), "{}", show(&out));
    let model = Model::read(&out);
    model.check(true);
    Model::check_plain_framing(&out);
    assert_eq!((again.status, again.body), (head.status, framing), "{}", show(&out));
    assert!(again.http11 && again.has_date);
    assert_eq!(model.values("server"), [b"osmia"]);
    let has_framing =
        !model.values("content-length").is_empty() || !model.values("transfer-encoding").is_empty();
    assert!(!(has_framing && (head.status < 200 || head.status == 204)), "{}", show(&out));
    if asked.head && head.status >= 200 && !matches!(head.status, 204 | 304) {
        let had = Model::read(&buf[..head.len]);
        assert_eq!(had.values("content-length").len(), model.values("content-length").len());
        assert_eq!(had.values("transfer-encoding").len(), model.values("transfer-encoding").len());
    }
    let is_extra = |field: &Field| field.name.get(&out) == b"X-Extra";
    let (extra, passed): (Vec<_>, Vec<_>) = again.fields.iter().partition(|f| is_extra(f));
    assert!(!extra.is_empty());
    let passed: Vec<Field> = passed.into_iter().copied().collect();
    if !head.fields.iter().any(|field| field.name.get(buf) == b"X-Extra") {
        check_end_to_end(&head.fields, buf, &passed, &out);
    }
    for field in &again.fields {
        let is_upgrade = matches!(field.known, Known::Connection | Known::Upgrade);
        assert!(!field.known.is_hop_by_hop() || head.status == 101 && is_upgrade);
    }
}
