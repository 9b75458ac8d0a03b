//! Request heads (RFC 9112, section 3).

use std::mem::MaybeUninit;

use super::body::BodyLength;
use super::error::HeadError;
use super::fields::{self, ConnectionOptions, Field, Known, Span};
use crate::limits::{HEADER_COUNT_MAX, HttpLimits};

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
    /// All fields in order.
    pub fields: Vec<Field>,
    /// How the body is delimited.
    pub body: BodyLength,
    /// Whether the client wants to keep the connection.
    pub keep_alive: bool,
    /// Whether it waits for `100 Continue`.
    pub expect_continue: bool,
    /// Whether it asks for another protocol (`Connection: upgrade` and `Upgrade`).
    pub upgrade: bool,
    /// Whether `Connection` names fields of this message.
    pub(super) names_fields: bool,
    /// Bytes of an incomplete head that were already searched for its end.
    searched: usize,
}

impl RequestHead {
    /// Parses the head at the start of `buf`.
    ///
    /// `Ok(false)`: it is not complete yet; call again with more bytes appended. Call
    /// [`reset`](Self::reset) before another message.
    pub fn parse(&mut self, buf: &[u8], limits: &HttpLimits) -> Result<bool, HeadError> {
        if self.searched > 0 && !fields::has_head_end(buf, self.searched) {
            return self.incomplete(buf, limits);
        }
        let window = &buf[..buf.len().min(limits.head_bytes)];
        let mut slots = [const { MaybeUninit::uninit() }; HEADER_COUNT_MAX];
        let mut request = httparse::Request::new(&mut []);
        let slots = &mut slots[..limits.header_count.min(HEADER_COUNT_MAX)];
        let len = match request.parse_with_uninit_headers(window, slots) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return self.incomplete(buf, limits),
            Err(error) => return Err(map_request_error(error, window, limits)),
        };
        self.len = len;
        self.http11 = request.version == Some(1);
        self.method = Span::of(buf, request.method.unwrap_or_default().as_bytes());
        self.target = Span::of(buf, request.path.unwrap_or_default().as_bytes());
        fields::collect(buf, request.headers, &mut self.fields);
        if usize::from(self.target.end) + " HTTP/1.1".len() > limits.request_line_bytes {
            return Err(HeadError::RequestLineTooLong);
        }
        fields::check_line_ends(&buf[..len])?;
        self.interpret(buf)?;
        Ok(true)
    }

    /// Forgets the message, keeping the allocation.
    pub fn reset(&mut self) {
        self.searched = 0;
        self.len = 0;
        self.fields.clear();
    }

    fn incomplete(&mut self, buf: &[u8], limits: &HttpLimits) -> Result<bool, HeadError> {
        self.searched = buf.len();
        let line = &buf[..buf.len().min(limits.request_line_bytes)];
        if line.len() == limits.request_line_bytes && !line.trim_ascii_start().contains(&b'\n') {
            return Err(HeadError::RequestLineTooLong);
        }
        if buf.len() >= limits.head_bytes {
            return Err(HeadError::HeadTooLarge);
        }
        Ok(false)
    }

    /// Applies the rules of RFC 9112 that go beyond syntax.
    fn interpret(&mut self, buf: &[u8]) -> Result<(), HeadError> {
        let mut host = None;
        let mut length = None;
        let mut chunked = false;
        let mut has_upgrade = false;
        let mut connection = ConnectionOptions::default();
        self.expect_continue = false;
        for field in &self.fields {
            let value = field.value.get(buf);
            match field.known {
                Known::Other => {}
                Known::Host if host.replace(field.value).is_some() => {
                    return Err(HeadError::RepeatedHost);
                }
                Known::Host if !is_authority(value) => return Err(HeadError::InvalidHost),
                Known::ContentLength => {
                    if length.replace(fields::content_length(value)?).is_some() {
                        return Err(HeadError::RepeatedContentLength);
                    }
                }
                Known::TransferEncoding => {
                    check_transfer_encoding(value, chunked)?;
                    chunked = true;
                }
                Known::Connection => connection.add(value),
                Known::Upgrade => has_upgrade = true,
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
        self.upgrade = self.http11 && connection.upgrade && has_upgrade;
        self.names_fields = connection.names_fields;
        self.interpret_target(buf)
    }

    /// Splits the target by its form (RFC 9112, section 3.2). The authority of an absolute-form
    /// target replaces `Host` (section 3.2.2).
    fn interpret_target(&mut self, buf: &[u8]) -> Result<(), HeadError> {
        let target = self.target.get(buf);
        self.path_query = self.target;
        let method = self.method.get(buf);
        if target.first() == Some(&b'/') && method != b"CONNECT" {
            return Ok(());
        }
        if method == b"CONNECT" {
            return Err(HeadError::Connect);
        }
        if target == b"*" && method == b"OPTIONS" {
            return Ok(());
        }
        let rest = strip_scheme(target).ok_or(HeadError::Target)?;
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
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
        matches!(
            self.method.get(buf),
            b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE"
        )
    }

    /// Whether the method is `HEAD`: its response has no body.
    pub fn is_head(&self, buf: &[u8]) -> bool {
        self.method.get(buf) == b"HEAD"
    }
}

/// `httparse` stops at the first oddity, which in a window cut at the limit may be the cut.
fn map_request_error(error: httparse::Error, window: &[u8], limits: &HttpLimits) -> HeadError {
    let line_limit = window.len().min(limits.request_line_bytes);
    let line_is_cut = !window[..line_limit].contains(&b'\n');
    match error {
        _ if line_is_cut && window.len() >= limits.request_line_bytes => {
            HeadError::RequestLineTooLong
        }
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        other => fields::map_error(other),
    }
}

fn check_transfer_encoding(value: &[u8], seen: bool) -> Result<(), HeadError> {
    if !seen && value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    Err(HeadError::UnsupportedEncoding)
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })
}

/// `uri-host [":" port]` (RFC 9110, section 7.2), without user information.
pub fn is_authority(value: &[u8]) -> bool {
    let (host, port) = split_port(value);
    let host_ok = match host {
        [b'[', inner @ .., b']'] => {
            !inner.is_empty() && inner.iter().all(|b| is_host_byte(*b) || *b == b':')
        }
        _ => !host.is_empty() && host.iter().all(|b| is_host_byte(*b)),
    };
    host_ok && port.is_none_or(is_port)
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

/// `reg-name` of RFC 3986: unreserved, sub-delims and percent signs.
fn is_host_byte(byte: u8) -> bool {
    const ALLOWED: [bool; 256] = {
        let mut table = [false; 256];
        let list = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=%";
        let mut at = 0;
        while at < list.len() {
            table[list[at] as usize] = true;
            at += 1;
        }
        table
    };
    ALLOWED[usize::from(byte)]
}
