//! Header fields as offsets into the buffer they came in.

use super::error::HeadError;

/// A range of bytes in the buffer of its head. Heads are at most 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u16,
    /// One past the last byte.
    pub end: u16,
}

impl Span {
    /// The span that `part` takes in `whole`; `part` must be a slice of `whole`.
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
            Self::Connection | Self::KeepAlive | Self::ProxyConnection | Self::Te | Self::Upgrade
        )
    }
}

/// Fills `fields` from what `httparse` found in `buf`.
pub(super) fn collect(buf: &[u8], parsed: &[httparse::Header<'_>], fields: &mut Vec<Field>) {
    fields.clear();
    fields.extend(parsed.iter().map(|header| Field {
        name: Span::of(buf, header.name.as_bytes()),
        value: Span::of(buf, header.value),
        known: Known::of(header.name.as_bytes()),
    }));
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
    /// It names further fields, which are hop-by-hop for this message.
    pub(super) names_fields: bool,
}

impl ConnectionOptions {
    pub(super) fn add(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.names_fields = true;
            }
        }
    }
}

/// The members of a comma-separated list, without surrounding white space; empty ones are skipped.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Whether some `Connection` field names `name`.
pub(super) fn named_by_connection(fields: &[Field], buf: &[u8], name: &[u8]) -> bool {
    fields
        .iter()
        .filter(|field| field.known == Known::Connection)
        .any(|field| tokens(field.value.get(buf)).any(|token| token.eq_ignore_ascii_case(name)))
}

/// `Content-Length` as RFC 9110, section 8.6 defines it: decimal digits only.
pub(super) fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::InvalidContentLength);
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Every line of a head must end in CRLF; `httparse` also takes a bare LF.
pub(super) fn check_line_ends(head: &[u8]) -> Result<(), HeadError> {
    for at in memchr::memchr_iter(b'\n', head) {
        if at == 0 || head[at - 1] != b'\r' {
            return Err(HeadError::BareLineEnd);
        }
    }
    Ok(())
}

/// Whether `buf` contains the empty line that ends a head, looking only at what came after `from`.
pub(super) fn has_head_end(buf: &[u8], from: usize) -> bool {
    let start = from.saturating_sub(3);
    memchr::memchr_iter(b'\n', &buf[start..]).any(|at| {
        let rest = &buf[start + at + 1..];
        rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
    })
}

/// Maps `httparse`'s reasons to ours.
pub(super) fn map_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::FieldName,
        httparse::Error::HeaderValue => HeadError::FieldValue,
        httparse::Error::NewLine => HeadError::BareLineEnd,
        httparse::Error::Status | httparse::Error::Token => HeadError::StartLine,
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version => HeadError::Version,
    }
}
