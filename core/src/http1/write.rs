//! Heads as they are forwarded.
//!
//! Fields that stay as they are keep their bytes, and neighbours are copied in one piece.

use super::fields::{Field, Known, named_by_connection};
use super::request::{RequestHead, split_port};
use super::response::ResponseHead;
use super::body::BodyLength;

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
    /// `Host` towards the upstream; empty: none is sent.
    pub host: &'a [u8],
    /// Replaces path and query; `None`: as the client sent them.
    pub target: Option<&'a [u8]>,
    /// The client's address without port: `X-Real-IP`, and appended to `X-Forwarded-For`.
    pub client_ip: &'a [u8],
    /// `http` or `https`: `X-Forwarded-Proto`.
    pub scheme: &'a [u8],
    /// The listener's port: `X-Forwarded-Port` unless `Host` names one.
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
    for field in request.fields.iter().filter(|field| field.known == Known::XForwardedFor) {
        if !field.value.is_empty() {
            out.put(field.value.get(buf));
            out.put(b", ");
        }
    }
    out.put(rewrite.client_ip);
    out.put(b"\r\nX-Forwarded-Proto: ");
    out.put(rewrite.scheme);
    let host = request.host.get(buf);
    out.put(b"\r\nX-Forwarded-Host: ");
    out.put(host);
    out.put(b"\r\nX-Forwarded-Port: ");
    out.put(split_port(host).1.filter(|port| !port.is_empty()).unwrap_or(rewrite.server_port));
    out.put(b"\r\n");
    if rewrite.upgrade {
        out.put(b"Connection: upgrade\r\n");
    }
    let named = request.names_fields;
    copy_fields(out, &request.fields, request.len, buf, |field| match field.known {
        Known::Host
        | Known::Expect
        | Known::XRealIp
        | Known::XForwardedFor
        | Known::XForwardedProto
        | Known::XForwardedHost
        | Known::XForwardedPort
        | Known::Forwarded => false,
        Known::Upgrade => rewrite.upgrade,
        Known::ContentLength | Known::TransferEncoding => true,
        known if known.is_hop_by_hop() => false,
        _ => !named || !named_by_connection(&request.fields, buf, field.name.get(buf)),
    });
    out.put(b"\r\n");
}

fn put_target(
    out: &mut impl Sink,
    request: &RequestHead,
    buf: &[u8],
    rewrite: &RequestRewrite<'_>,
) {
    let target = rewrite.target.unwrap_or_else(|| request.path_query.get(buf));
    if !matches!(target.first(), Some(b'/' | b'*')) {
        out.put(b"/");
    }
    out.put(target);
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
    const VERSION: usize = "HTTP/1.1".len();
    let first = response.fields.first().map_or(response.len - 2, |f| usize::from(f.name.start));
    out.put(b"HTTP/1.1");
    out.put(buf.get(VERSION..first).unwrap_or_default());
    let replace_framing = rewrite.framing != response.body;
    let named = response.names_fields;
    copy_fields(out, &response.fields, response.len, buf, |field| match field.known {
        Known::Server => false,
        Known::Upgrade => rewrite.connection == ConnectionField::Upgrade,
        Known::ContentLength => {
            // A response to HEAD and a 304 carry the length of what they do not send.
            !replace_framing && response.status != 101
        }
        Known::TransferEncoding => !replace_framing && response.body == BodyLength::Chunked,
        known if known.is_hop_by_hop() => false,
        _ => !named || !named_by_connection(&response.fields, buf, field.name.get(buf)),
    });
    if replace_framing && rewrite.framing == BodyLength::Chunked {
        out.put(b"Transfer-Encoding: chunked\r\n");
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
