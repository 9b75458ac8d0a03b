//! Request heads (RFC 9112, section 3).

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use super::body::BodyLength;
use super::error::HeadError;
use super::fields::{self, ConnectionOptions, Field, Known, Span};
use super::scan::{Kind, Scan};
use crate::limits::{HEADER_COUNT_MAX, HOST_BYTES, HttpLimits};

/// A parsed request head: offsets into the buffer it was parsed from. Reused for every request of
/// a connection, so that its field table is allocated once.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// Bytes of the head, including the empty line.
    pub len: usize,
    /// `GET`, ... as sent.
    pub method: Span,
    /// The whole request target as sent.
    pub target: Span,
    /// Path and query: the target without scheme and authority. May be empty or start with `?` in
    /// absolute form; then a `/` is to be put in front.
    pub path_query: Span,
    /// `host[:port]` the request is for: the authority of an absolute-form target, else `Host`.
    /// Empty for an HTTP/1.0 request without one.
    pub host: Span,
    /// HTTP/1.1, not 1.0.
    pub http11: bool,
    /// It came over HTTP/2, and was written down as HTTP/1.1; set by whoever did that.
    pub http2: bool,
    /// All fields in order.
    pub fields: Vec<Field>,
    /// How the body is delimited.
    pub body: BodyLength,
    /// Whether the client wants to keep the connection.
    pub keep_alive: bool,
    /// Whether it waits for `100 Continue` before its body.
    pub expect_continue: bool,
    /// Whether it asks for another protocol that may be tunnelled (`Connection: upgrade` and
    /// `Upgrade`).
    ///
    /// Not with a body, which a server could take for the new protocol; and not for `h2c`, which
    /// would carry requests past the routes. Such a request is proxied without its `Upgrade`, as
    /// RFC 9110, section 7.8 allows.
    pub upgrade: bool,
    /// Whether framing fields are to be written anew, see [`fields::is_plain_framing`].
    pub(super) odd_framing: bool,
    /// Place in a head that is not complete.
    scan: Scan,
}

impl RequestHead {
    /// Parses the head at the start of `buf`.
    ///
    /// `Ok(false)`: it is not complete yet; call again with more bytes appended. The verdict does
    /// not depend on how the bytes were cut. Call [`reset`](Self::reset) before another message.
    pub fn parse(&mut self, buf: &[u8], limits: &HttpLimits) -> Result<bool, HeadError> {
        if self.scan.has_begun() && !self.scan.advance(Kind::Request, buf, limits)? {
            return Ok(false);
        }
        if !self.read(buf, limits) {
            let ended = self.scan.advance(Kind::Request, buf, limits)?;
            debug_assert!(!ended, "httparse refuses what the scan accepts");
            return if ended { Err(HeadError::StartLine) } else { Ok(false) };
        }
        self.interpret(buf)?;
        Ok(true)
    }

    /// Forgets the message, keeping the allocation.
    pub fn reset(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Reads a complete head within its limits. `false`: it is none, which leaves the reason open.
    fn read(&mut self, buf: &[u8], limits: &HttpLimits) -> bool {
        let (window, _) = fields::head_window(buf, limits);
        let mut slots = [const { MaybeUninit::uninit() }; HEADER_COUNT_MAX];
        let slots = &mut slots[..fields::count_limit(limits)];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(window, slots);
        // Also of a head that is refused, for the access log.
        self.method = request.method.map_or(Span::default(), |m| Span::of(buf, m.as_bytes()));
        self.target = request.path.map_or(Span::default(), |p| Span::of(buf, p.as_bytes()));
        let Ok(httparse::Status::Complete(len)) = parsed else {
            return false;
        };
        self.len = len;
        self.http11 = request.version == Some(1);
        let line = usize::from(self.target.end - self.method.start) + " HTTP/1.1".len();
        let strict = fields::collect(&buf[..len], request.headers, &mut self.fields);
        // Empty lines before the request line are rare; `httparse` takes a bare LF there too.
        let before = &buf[..usize::from(self.method.start)];
        let strict = strict && before.chunks(2).all(|line| line == b"\r\n");
        strict && line <= limits.request_line_bytes
    }

    /// Applies the rules of RFC 9112 that go beyond syntax.
    fn interpret(&mut self, buf: &[u8]) -> Result<(), HeadError> {
        let mut host = None;
        let mut length = None;
        let mut chunked = false;
        let mut upgrade = Offer::None;
        let mut connection = ConnectionOptions::default();
        self.expect_continue = false;
        self.odd_framing = false;
        for field in &self.fields {
            let value = field.value.get(buf);
            match field.known {
                Known::Host if host.replace(field.value).is_some() => {
                    return Err(HeadError::RepeatedHost);
                }
                Known::Host if !is_authority(value) => return Err(HeadError::InvalidHost),
                Known::ContentLength => {
                    if length.replace(fields::content_length(value)?).is_some() {
                        return Err(HeadError::RepeatedContentLength);
                    }
                    self.odd_framing |= !fields::is_plain_framing(field, buf);
                }
                Known::TransferEncoding => {
                    fields::transfer_encoding(value, chunked)?;
                    chunked = true;
                    self.odd_framing |= !fields::is_plain_framing(field, buf);
                }
                Known::Connection => connection.add(value)?,
                Known::Upgrade => upgrade = upgrade.and(value),
                Known::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                    self.expect_continue = self.http11;
                }
                Known::Expect => return Err(HeadError::UnsupportedExpect),
                _ => {}
            }
        }
        self.body = match (length, chunked) {
            (Some(_), true) => return Err(HeadError::LengthAndEncoding),
            (None, true) if !self.http11 => return Err(HeadError::EncodingInHttp10),
            (None, true) => BodyLength::Chunked,
            (Some(length), false) => BodyLength::Known(length),
            (None, false) => BodyLength::Known(0),
        };
        if host.is_none() && self.http11 {
            return Err(HeadError::MissingHost);
        }
        self.host = host.unwrap_or_default();
        self.keep_alive = !connection.close && (self.http11 || connection.keep_alive);
        let has_body = self.body != BodyLength::Known(0);
        self.expect_continue &= has_body;
        self.upgrade =
            self.http11 && !has_body && connection.upgrade && upgrade == Offer::Acceptable;
        if connection.named > 0 {
            fields::mark_named(&mut self.fields, buf);
        }
        self.interpret_target(buf)
    }

    /// Splits the target by its form (RFC 9112, section 3.2). The authority of an absolute-form
    /// target replaces `Host` (section 3.2.2).
    fn interpret_target(&mut self, buf: &[u8]) -> Result<(), HeadError> {
        let target = self.target.get(buf);
        self.path_query = self.target;
        let method = self.method.get(buf);
        match method {
            b"CONNECT" => return Err(HeadError::Connect),
            b"TRACE" => return Err(HeadError::Trace),
            // Some servers cut a fragment off, others take it for part of the path.
            _ if memchr::memchr(b'#', target).is_some() => return Err(HeadError::Target),
            _ if target.first() == Some(&b'/') => return Ok(()),
            b"OPTIONS" if target == b"*" => return Ok(()),
            _ => {}
        }
        let rest = strip_scheme(target).ok_or(HeadError::Target)?;
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path_query) = rest.split_at(end);
        if !is_authority(authority) {
            return Err(HeadError::InvalidHost);
        }
        self.host = Span::of(buf, authority);
        self.path_query = Span::of(buf, path_query);
        Ok(())
    }

    /// The value of the first field called `name` (lower-case).
    pub fn value<'a>(&'a self, buf: &'a [u8], name: &'a str) -> Option<&'a [u8]> {
        fields::values(&self.fields, buf, name).next()
    }

    /// Whether the method may be repeated without harm (RFC 9110, section 9.2.2).
    pub fn is_idempotent(&self, buf: &[u8]) -> bool {
        matches!(self.method.get(buf), b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS")
    }

    /// Whether the method is `HEAD`: its response has no body.
    pub fn is_head(&self, buf: &[u8]) -> bool {
        self.method.get(buf) == b"HEAD"
    }
}

/// What the `Upgrade` fields of a request offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    None,
    Acceptable,
    /// `h2c` is among it.
    Refused,
}

impl Offer {
    fn and(self, value: &[u8]) -> Self {
        let is_h2c = |token: &[u8]| token.eq_ignore_ascii_case(b"h2c");
        if self == Self::Refused || fields::tokens(value).any(is_h2c) {
            return Self::Refused;
        }
        Self::Acceptable
    }
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })
}

/// `uri-host [":" port]` (RFC 9110, section 7.2), without user information.
pub fn is_authority(value: &[u8]) -> bool {
    let rest = match value {
        [b'[', rest @ ..] => skip_ipv6(rest),
        _ => skip_reg_name(value),
    };
    match rest {
        Some([]) => true,
        Some([b':', port @ ..]) => is_port(port),
        _ => false,
    }
}

/// What follows an IPv6 address and its bracket.
fn skip_ipv6(value: &[u8]) -> Option<&[u8]> {
    let (address, rest) = value.split_at_checked(value.iter().position(|byte| *byte == b']')?)?;
    std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()?;
    rest.get(1..)
}

/// What follows a `reg-name` of RFC 3986, section 3.2.2, which is not empty (RFC 9110, section
/// 4.2.1). As in nginx, it has no empty label either.
fn skip_reg_name(value: &[u8]) -> Option<&[u8]> {
    const ALLOWED: [bool; 256] = fields::table(
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=%",
    );
    let (mut escapes, mut empty_label, mut last) = (false, false, 0);
    let len = value.iter().position(|byte| {
        escapes |= *byte == b'%';
        empty_label |= *byte == b'.' && last == b'.';
        last = *byte;
        !ALLOWED[usize::from(*byte)]
    });
    let (name, rest) = value.split_at(len.unwrap_or(value.len()));
    let fits = (1..=HOST_BYTES).contains(&name.len());
    (fits && !empty_label && (!escapes || has_whole_escapes(name))).then_some(rest)
}

/// Whether two hexadecimal digits follow each percent sign.
fn has_whole_escapes(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'%').skip(1).all(|part| {
        matches!(part, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}

/// Splits `host[:port]`; the port is without its colon.
pub fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let from = authority.iter().rposition(|b| *b == b']').map_or(0, |at| at + 1);
    match authority[from..].iter().position(|b| *b == b':') {
        Some(at) => (&authority[..from + at], Some(&authority[from + at + 1..])),
        None => (authority, None),
    }
}

fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0_u32, |sum, b| sum * 10 + u32::from(b - b'0')) <= 65_535
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
