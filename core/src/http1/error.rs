//! Why a message was refused: one variant per reason.

use thiserror::Error;

/// A message head that is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The start line is not one of HTTP/1 (RFC 9112, sections 3 and 4).
    #[error("malformed start line")]
    StartLine,
    /// A version other than 1.0 and 1.1.
    #[error("unsupported HTTP version")]
    Version,
    /// A field name that is no token, or is followed by white space (RFC 9112, section 5.1).
    #[error("malformed field name")]
    FieldName,
    /// A field value with control bytes (RFC 9110, section 5.5).
    #[error("malformed field value")]
    FieldValue,
    /// A line that begins with white space: a folded field, or space before the first one (RFC
    /// 9112, sections 2.2 and 5.2).
    #[error("folded line")]
    FoldedLine,
    /// A line that ends in LF without CR, or a CR without LF (RFC 9112, section 2.2).
    #[error("bare CR or LF")]
    BareLineEnd,
    /// The request line exceeds its limit.
    #[error("request line too long")]
    RequestLineTooLong,
    /// The head exceeds its limit in bytes.
    #[error("head too large")]
    HeadTooLarge,
    /// The head has too many fields.
    #[error("too many header fields")]
    TooManyFields,
    /// `Connection` names more fields than are looked up.
    #[error("too many connection options")]
    TooManyOptions,
    /// An HTTP/1.1 request without `Host` (RFC 9112, section 3.2).
    #[error("missing Host")]
    MissingHost,
    /// More than one `Host`.
    #[error("repeated Host")]
    RepeatedHost,
    /// A `Host` or target authority that is not `host[:port]`.
    #[error("malformed Host")]
    InvalidHost,
    /// A `Content-Length` that is not a decimal number (RFC 9110, section 8.6).
    #[error("malformed Content-Length")]
    InvalidContentLength,
    /// More than one `Content-Length`, equal or not.
    #[error("repeated Content-Length")]
    RepeatedContentLength,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112, section 6.3).
    #[error("Content-Length together with Transfer-Encoding")]
    LengthAndEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message (RFC 9112, section 6.1).
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    EncodingInHttp10,
    /// A `Transfer-Encoding` that does not end in `chunked`, or repeats it: the body has no
    /// reliable end (RFC 9112, section 6.3).
    #[error("malformed Transfer-Encoding")]
    InvalidEncoding,
    /// Another coding before the final `chunked`.
    #[error("unsupported Transfer-Encoding")]
    UnsupportedEncoding,
    /// An expectation other than `100-continue` (RFC 9110, section 10.1.1).
    #[error("unsupported Expect")]
    UnsupportedExpect,
    /// `CONNECT`: a gateway is no tunnel (RFC 9110, section 9.3.6).
    #[error("CONNECT is not supported")]
    Connect,
    /// `TRACE`: it would show what the gateway adds. nginx, and with it APISIX, refuses it too.
    #[error("TRACE is not supported")]
    Trace,
    /// A target in none of the forms of RFC 9112, section 3.2, with control bytes, a fragment, or
    /// bytes that are no UTF-8.
    #[error("malformed request target")]
    Target,
    /// A `101` that was not asked for, or a status outside 100-599.
    #[error("unexpected status")]
    UnexpectedStatus,
}

impl HeadError {
    /// The status a client is answered with.
    pub fn status(self) -> u16 {
        match self {
            Self::RequestLineTooLong => 414,
            Self::HeadTooLarge | Self::TooManyFields | Self::TooManyOptions => 431,
            Self::Version => 505,
            Self::UnsupportedEncoding => 501,
            Self::UnsupportedExpect => 417,
            Self::Connect | Self::Trace => 405,
            _ => 400,
        }
    }
}

/// A body that breaks its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// A chunk-size line without a hexadecimal number.
    #[error("malformed chunk size")]
    ChunkSize,
    /// A chunk size of 2^60 or more, or with more than 16 digits.
    #[error("chunk size too large")]
    ChunkSizeOverflow,
    /// A control byte in a chunk extension.
    #[error("malformed chunk extension")]
    ChunkExtension,
    /// A chunk-size line over its limit.
    #[error("chunk-size line too long")]
    ChunkLineTooLong,
    /// Chunk data or a line not followed by CRLF.
    #[error("missing CRLF in a chunked body")]
    ChunkLineEnd,
    /// A malformed trailer field.
    #[error("malformed trailer field")]
    Trailer,
    /// A field that must not be sent as a trailer (RFC 9110, section 6.5.1).
    #[error("forbidden trailer field")]
    ForbiddenTrailer,
    /// A trailer section over its limit.
    #[error("trailer section too large")]
    TrailersTooLarge,
}

impl BodyError {
    /// The status a client is answered with, if the response has not begun.
    pub fn status(self) -> u16 {
        match self {
            Self::TrailersTooLarge => 431,
            _ => 400,
        }
    }
}
