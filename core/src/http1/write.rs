//! Heads as they are forwarded.
//!
//! Fields that stay as they are keep their bytes, and neighbours are copied in one piece. What
//! frames the body is written anew when its form is unusual, so that no reader behind the gateway
//! can take it for something else.

use super::body::BodyLength;
use super::fields::{Field, Known, is_plain_framing};
use super::request::{RequestHead, split_port};
use super::response::ResponseHead;
use crate::forwarded::Trust;

/// Where a head is written.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What the gateway adds to a request (APISIX, `ngx_tpl.lua`: `proxy_set_header`).
#[derive(Debug, Clone, Copy)]
pub struct RequestRewrite<'a> {
    /// `Host` towards the upstream. HTTP/1.1 demands one: empty, the field is sent empty (RFC 9112,
    /// section 3.2).
    pub host: &'a [u8],
    /// Replaces path and query; `None`: as the client sent them. White space and control bytes in
    /// it are percent-encoded: it may be made of decoded parts.
    pub target: Option<&'a [u8]>,
    /// The client's address without port: `X-Real-IP`, and appended to `X-Forwarded-For`.
    pub client_ip: &'a [u8],
    /// `http` or `https`: `X-Forwarded-Proto`.
    pub scheme: &'a [u8],
    /// What the client's own `X-Forwarded-*` and `Forwarded` are worth.
    pub trust: Trust,
    /// The listener's port: `X-Forwarded-Port` unless `Host` names one. Empty: it has none, and the
    /// field is left out.
    pub server_port: &'a [u8],
    /// Pass the request for an Upgrade on.
    pub upgrade: bool,
}

/// Writes the head of `request` for an upstream, always as HTTP/1.1.
pub fn request_head(
    out: &mut impl Sink,
    request: &RequestHead,
    buf: &[u8],
    rewrite: &RequestRewrite<'_>,
) {
    out.put(request.method.get(buf));
    out.put(b" ");
    put_target(out, request, buf, rewrite);
    out.put(b" HTTP/1.1\r\nHost: ");
    out.put(rewrite.host);
    out.put(b"\r\nX-Real-IP: ");
    out.put(rewrite.client_ip);
    out.put(b"\r\nX-Forwarded-For: ");
    put_forwarded(out, request, buf, rewrite);
    let upgrade = rewrite.upgrade && request.upgrade;
    if upgrade {
        out.put(b"Connection: upgrade\r\n");
    }
    copy_fields(out, &request.fields, request.len, buf, |field| match field.known {
        Known::Host
        | Known::Expect
        | Known::XRealIp
        | Known::XForwardedFor
        | Known::XForwardedProto
        | Known::XForwardedHost
        | Known::XForwardedPort => false,
        Known::Forwarded => rewrite.trust == Trust::Trusted,
        Known::Upgrade => upgrade,
        Known::ContentLength | Known::TransferEncoding => {
            !request.odd_framing || is_plain_framing(field, buf)
        }
        known => !known.is_hop_by_hop(),
    });
    if request.odd_framing {
        put_odd_framing(out, &request.fields, buf, |_| true);
    }
    out.put(b"\r\n");
}

/// The rest of the line of `X-Forwarded-For`, and the lines of `-Proto`, `-Host` and `-Port`.
#[inline]
fn put_forwarded(
    out: &mut impl Sink,
    request: &RequestHead,
    buf: &[u8],
    rewrite: &RequestRewrite<'_>,
) {
    let trust = rewrite.trust;
    let is_chain = |field: &&Field| field.known == Known::XForwardedFor && trust.keeps_chain();
    for field in request.fields.iter().filter(is_chain) {
        if !field.value.is_empty() {
            out.put(field.value.get(buf));
            out.put(b", ");
        }
    }
    out.put(rewrite.client_ip);
    out.put(b"\r\nX-Forwarded-Proto: ");
    if !trust.put_sent(out, request, buf, Known::XForwardedProto) {
        out.put(rewrite.scheme);
    }
    let host = request.host.get(buf);
    out.put(b"\r\nX-Forwarded-Host: ");
    if !trust.put_sent(out, request, buf, Known::XForwardedHost) {
        out.put(host);
    }
    let port = split_port(host).1.filter(|port| !port.is_empty()).unwrap_or(rewrite.server_port);
    if trust == Trust::Trusted || !port.is_empty() {
        out.put(b"\r\nX-Forwarded-Port: ");
        if !trust.put_sent(out, request, buf, Known::XForwardedPort) {
            out.put(port);
        }
    }
    out.put(b"\r\n");
}

fn put_target(
    out: &mut impl Sink,
    request: &RequestHead,
    buf: &[u8],
    rewrite: &RequestRewrite<'_>,
) {
    if let Some(target) = rewrite.target {
        if target.first() != Some(&b'/') && target != b"*" {
            out.put(b"/");
        }
        return put_encoded(out, target);
    }
    let target = request.path_query.get(buf);
    // RFC 9112, section 3.2.4: an absolute form without a path asks about the whole server.
    if target.is_empty() && request.method.get(buf) == b"OPTIONS" {
        return out.put(b"*");
    }
    if !matches!(target.first(), Some(b'/' | b'*')) {
        out.put(b"/");
    }
    out.put(target);
}

/// A target in which nothing ends the request line, or its target, early.
fn put_encoded(out: &mut impl Sink, target: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let is_unsafe = |byte: &u8| matches!(byte, 0..=b' ' | 0x7f | b'#');
    let mut rest = target;
    while let Some(at) = rest.iter().position(is_unsafe) {
        let byte = usize::from(rest[at]);
        out.put(&rest[..at]);
        out.put(&[b'%', DIGITS[byte >> 4], DIGITS[byte & 15]]);
        rest = &rest[at + 1..];
    }
    out.put(rest);
}

/// The framing fields that [`copy_fields`] left out for their form, as far as `keep` approves.
fn put_odd_framing(
    out: &mut impl Sink,
    fields: &[Field],
    buf: &[u8],
    keep: impl Fn(&Field) -> bool,
) {
    let is_odd = |field: &&Field| !is_plain_framing(field, buf) && keep(field);
    for field in fields.iter().filter(is_odd) {
        match field.known {
            Known::TransferEncoding => out.put(b"Transfer-Encoding: chunked\r\n"),
            Known::ContentLength => {
                let digits = field.value.get(buf);
                let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
                out.put(b"Content-Length: ");
                out.put(&digits[zeros.min(digits.len().saturating_sub(1))..]);
                out.put(b"\r\n");
            }
            _ => {}
        }
    }
}

/// The `Connection` field of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionField {
    /// HTTP/1.1 keeps the connection without saying so.
    Implied,
    /// For an HTTP/1.0 client that asked to keep it.
    KeepAlive,
    /// The gateway closes it after this response.
    Close,
    /// The response switches protocols.
    Upgrade,
}

/// What the gateway changes in a response.
#[derive(Debug, Clone, Copy)]
pub struct ResponseRewrite<'a> {
    /// Replaces the upstream's `Server`.
    pub server: &'a [u8],
    /// An IMF-fixdate, used when the upstream sent no `Date` (RFC 9110, section 6.6.1).
    pub date: &'a [u8],
    /// See [`ConnectionField`].
    pub connection: ConnectionField,
    /// How the body goes out; framing fields that say otherwise are replaced.
    pub framing: BodyLength,
    /// Complete extra lines, each with its CRLF.
    pub extra: &'a [u8],
}

/// Writes the head of `response` for a client, always as HTTP/1.1.
pub fn response_head(
    out: &mut impl Sink,
    response: &ResponseHead,
    buf: &[u8],
    rewrite: &ResponseRewrite<'_>,
) {
    put_status_line(out, response, buf);
    let replace_framing = rewrite.framing != response.body;
    let keeps_framing = |field: &Field| {
        let keeps = match field.known {
            // A response to HEAD and a 304 carry the length of what they do not send.
            Known::ContentLength => true,
            // HEAD again; but not to a client of HTTP/1.0, and a 304 has no use for it.
            _ => {
                response.body == BodyLength::Chunked
                    || !(response.status == 304 || rewrite.connection == ConnectionField::KeepAlive)
            }
        };
        keeps && !replace_framing && !response.forbids_framing()
    };
    copy_fields(out, &response.fields, response.len, buf, |field| match field.known {
        Known::Server => false,
        Known::Upgrade => rewrite.connection == ConnectionField::Upgrade,
        Known::ContentLength | Known::TransferEncoding => {
            keeps_framing(field) && (!response.odd_framing || is_plain_framing(field, buf))
        }
        known => !known.is_hop_by_hop(),
    });
    if replace_framing {
        put_framing(out, response, rewrite.framing);
    } else if response.odd_framing {
        put_odd_framing(out, &response.fields, buf, keeps_framing);
    }
    if !rewrite.server.is_empty() {
        out.put(b"Server: ");
        out.put(rewrite.server);
        out.put(b"\r\n");
    }
    if !response.has_date && !rewrite.date.is_empty() {
        out.put(b"Date: ");
        out.put(rewrite.date);
        out.put(b"\r\n");
    }
    out.put(match rewrite.connection {
        ConnectionField::Implied => b"".as_slice(),
        ConnectionField::KeepAlive => b"Connection: keep-alive\r\n",
        ConnectionField::Close => b"Connection: close\r\n",
        ConnectionField::Upgrade => b"Connection: upgrade\r\n",
    });
    out.put(rewrite.extra);
    out.put(b"\r\n");
}

/// The status line of `response`, as HTTP/1.1. A space follows the status even where the upstream
/// left it out with the reason phrase (RFC 9112, section 4).
fn put_status_line(out: &mut impl Sink, response: &ResponseHead, buf: &[u8]) {
    const VERSION: usize = "HTTP/1.1".len();
    const STATUS: usize = "HTTP/1.1 200".len();
    let end = response.len.saturating_sub(2);
    let first = response.fields.first().map_or(end, |field| usize::from(field.name.start));
    out.put(b"HTTP/1.1");
    out.put(buf.get(VERSION..STATUS).unwrap_or_default());
    if buf.get(STATUS) != Some(&b' ') {
        out.put(b" ");
    }
    out.put(buf.get(STATUS..first).unwrap_or_default());
}

/// The field that says how the body goes out, when the upstream's do not.
fn put_framing(out: &mut impl Sink, response: &ResponseHead, framing: BodyLength) {
    match framing {
        _ if response.forbids_framing() => {}
        BodyLength::Chunked => out.put(b"Transfer-Encoding: chunked\r\n"),
        BodyLength::Known(length) => {
            let (digits, from) = decimal(length);
            out.put(b"Content-Length: ");
            out.put(&digits[from..]);
            out.put(b"\r\n");
        }
        BodyLength::UntilClose => {}
    }
}

/// `number` in decimal digits, right-aligned, and where they start.
fn decimal(number: u64) -> ([u8; 20], usize) {
    let mut digits = [b'0'; 20];
    let (mut at, mut rest) = (19, number);
    while rest > 9 {
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        at -= 1;
    }
    digits[at] = b'0' + rest as u8;
    (digits, at)
}

/// Copies the lines of the fields that `keep` approves of; adjacent ones in one piece.
fn copy_fields(
    out: &mut impl Sink,
    fields: &[Field],
    head_len: usize,
    buf: &[u8],
    keep: impl Fn(&Field) -> bool,
) {
    let mut run = None;
    for field in fields {
        let line = usize::from(field.name.start);
        match (keep(field), run) {
            (true, None) => run = Some(line),
            (false, Some(start)) => {
                out.put(buf.get(start..line).unwrap_or_default());
                run = None;
            }
            _ => {}
        }
    }
    if let Some(start) = run {
        out.put(buf.get(start..head_len.saturating_sub(2)).unwrap_or_default());
    }
}

/// The head of an interim response (103 and the like), forwarded without the gateway's own fields.
pub fn interim_head(out: &mut impl Sink, response: &ResponseHead, buf: &[u8]) {
    let bare = ResponseRewrite {
        server: b"",
        date: b"",
        connection: ConnectionField::Implied,
        framing: response.body,
        extra: b"",
    };
    response_head(out, response, buf, &bare);
}

/// The chunk-size line in front of `len` bytes of payload, right-aligned in a fixed array.
///
/// Returns the array and where the line starts in it. 8 hex digits are enough for any buffer.
pub fn chunk_size_line(len: usize) -> ([u8; 10], usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = *b"00000000\r\n";
    let (mut at, mut rest) = (8, len);
    while at > 0 && (rest > 0 || at == 8) {
        at -= 1;
        line[at] = DIGITS[rest & 15];
        rest >>= 4;
    }
    (line, at)
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
