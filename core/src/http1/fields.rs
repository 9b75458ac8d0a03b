//! Header fields as offsets into the buffer they came in.

use super::error::HeadError;
use crate::limits::{CONNECTION_OPTIONS, HEAD_BYTES_MAX, HEADER_COUNT_MAX, HttpLimits};

/// A range of bytes in the buffer of its head. Heads are at most 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u16,
    /// One past the last byte.
    pub end: u16,
}

impl Span {
    /// The span that `part` takes in `whole`; `part` must be a slice of `whole`'s first 64 KiB.
    pub(super) fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Self { start: start as u16, end: (start + part.len()) as u16 }
    }

    /// The bytes of this span in `buf`; empty if `buf` is not the buffer it came from.
    #[inline]
    pub fn get(self, buf: &[u8]) -> &[u8] {
        buf.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        usize::from(self.end.saturating_sub(self.start))
    }

    /// Whether it covers nothing.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// One header field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The name as sent.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
    /// Which of the fields that a gateway acts on.
    pub known: Known,
}

/// Fields that the gateway reads, removes or sets itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of its name")]
pub enum Known {
    Other,
    /// Any field that `Connection` names: it belongs to this connection only.
    Named,
    Te,
    Host,
    Date,
    Expect,
    Server,
    Trailer,
    Upgrade,
    XRealIp,
    Forwarded,
    KeepAlive,
    Connection,
    ContentLength,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    ProxyConnection,
    XForwardedProto,
    TransferEncoding,
}

impl Known {
    /// Classifies a field name, ignoring case.
    pub fn of(name: &[u8]) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            4 if is("date") => Self::Date,
            6 if is("expect") => Self::Expect,
            6 if is("server") => Self::Server,
            7 if is("trailer") => Self::Trailer,
            7 if is("upgrade") => Self::Upgrade,
            9 if is("x-real-ip") => Self::XRealIp,
            9 if is("forwarded") => Self::Forwarded,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::KeepAlive,
            14 if is("content-length") => Self::ContentLength,
            15 if is("x-forwarded-for") => Self::XForwardedFor,
            16 if is("x-forwarded-host") => Self::XForwardedHost,
            16 if is("x-forwarded-port") => Self::XForwardedPort,
            16 if is("proxy-connection") => Self::ProxyConnection,
            17 if is("x-forwarded-proto") => Self::XForwardedProto,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            _ => Self::Other,
        }
    }

    /// Whether the field belongs to one connection and is never forwarded (RFC 9110, section
    /// 7.6.1). Framing fields are dealt with by the writers.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::Upgrade
                | Self::Named
        )
    }
}

/// The part of `buf` in which a head must end, and whether it is as long as a head may be.
pub(super) fn head_window<'a>(buf: &'a [u8], limits: &HttpLimits) -> (&'a [u8], bool) {
    let limit = limits.head_bytes.min(HEAD_BYTES_MAX);
    (&buf[..buf.len().min(limit)], buf.len() >= limit)
}

/// Most fields of one head.
pub(super) fn count_limit(limits: &HttpLimits) -> usize {
    limits.header_count.min(HEADER_COUNT_MAX)
}

/// Fills `fields` from what `httparse` found in `head`, which ends with the head's empty line.
///
/// `false`: some line ends in LF without CR, which `httparse` takes. It leaves out no line, so that
/// looking in front of each line is enough.
pub(super) fn collect(
    head: &[u8],
    parsed: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
) -> bool {
    let crlf_before = |at: usize| at >= 2 && head.get(at - 2..at) == Some(b"\r\n");
    let mut strict = crlf_before(head.len()) && crlf_before(head.len() - 2);
    fields.clear();
    fields.extend(parsed.iter().map(|header| {
        let name = Span::of(head, header.name.as_bytes());
        strict &= crlf_before(usize::from(name.start));
        let known = Known::of(header.name.as_bytes());
        Field { name, value: Span::of(head, header.value), known }
    }));
    strict
}

/// The values of all fields called `name`, which must be lower-case.
pub fn values<'a>(
    fields: &'a [Field],
    buf: &'a [u8],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.get(buf).eq_ignore_ascii_case(name.as_bytes()))
        .map(move |field| field.value.get(buf))
}

/// What the `Connection` fields of a head say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ConnectionOptions {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// How many further fields it names; they are hop-by-hop for this message.
    pub(super) named: usize,
}

impl ConnectionOptions {
    pub(super) fn add(&mut self, value: &[u8]) -> Result<(), HeadError> {
        // Nearly always it is this alone.
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.named += 1;
                if self.named > CONNECTION_OPTIONS {
                    return Err(HeadError::TooManyOptions);
                }
            }
        }
        Ok(())
    }
}

/// The members of a comma-separated list, without surrounding white space; empty ones are skipped.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Marks the fields that `Connection` names as [`Known::Named`] (RFC 9110, section 7.6.1). What
/// frames or routes the message is never taken for such.
pub(super) fn mark_named(fields: &mut [Field], buf: &[u8]) {
    for at in 0..fields.len() {
        if fields[at].known != Known::Connection {
            continue;
        }
        for token in tokens(fields[at].value.get(buf)) {
            for field in fields.iter_mut() {
                let name = field.name.get(buf);
                if may_be_named(field.known) && name.eq_ignore_ascii_case(token) {
                    field.known = Known::Named;
                }
            }
        }
    }
}

fn may_be_named(known: Known) -> bool {
    use Known::{Connection, ContentLength, Host, TransferEncoding, Upgrade};
    !matches!(known, Connection | ContentLength | Host | TransferEncoding | Upgrade)
}

/// `Content-Length` as RFC 9110, section 8.6 defines it: decimal digits only.
pub(super) fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::InvalidContentLength);
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Adds a `Transfer-Encoding` value to what was seen of it (RFC 9112, section 6.1).
pub(super) fn transfer_encoding(value: &[u8], seen: bool) -> Result<(), HeadError> {
    if !seen && value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |token: &[u8]| token.eq_ignore_ascii_case(b"chunked");
    let repeated = seen || tokens(value).filter(|token| is_chunked(token)).count() > 1;
    if repeated || !tokens(value).last().is_some_and(is_chunked) {
        return Err(HeadError::InvalidEncoding);
    }
    Err(HeadError::UnsupportedEncoding)
}

/// Whether a framing field is written so that no reader takes it for something else: one space
/// before the value, none behind it, a length without leading zeros, `chunked` in lower case.
pub(super) fn is_plain_framing(field: &Field, buf: &[u8]) -> bool {
    let value = field.value.get(buf);
    let (from, to) = (usize::from(field.name.end), usize::from(field.value.end));
    field.value.start == field.name.end.saturating_add(2)
        && buf.get(from + 1) == Some(&b' ')
        && buf.get(to) == Some(&b'\r')
        && match field.known {
            Known::TransferEncoding => value == b"chunked",
            _ => value.len() == 1 || value.first() != Some(&b'0'),
        }
}

/// `tchar` of RFC 9110, section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    const ALLOWED: [bool; 256] =
        table(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
    ALLOWED[usize::from(byte)]
}

/// What field values and reason phrases consist of (RFC 9110, section 5.5; RFC 9112, section 4).
pub(super) fn is_text_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A lookup table of the bytes in `list`.
pub(super) const fn table(list: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < list.len() {
        table[list[at] as usize] = true;
        at += 1;
    }
    table
}
