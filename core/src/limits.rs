//! Every limit has a name. Defaults, units, and how the limits relate, in one place.

/// Largest request line (method, target, version, without CRLF), in bytes. Beyond it: 414.
pub const REQUEST_LINE_BYTES: usize = 8 * 1024;
/// Largest message head (start line and all header fields), in bytes. Beyond it: 431.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Most header fields in one head. Beyond it: 431.
pub const HEADER_COUNT: usize = 100;
/// Hard upper bound for a configured [`HttpLimits::header_count`]; sizes the parser's stack array.
pub const HEADER_COUNT_MAX: usize = 256;
/// Hard upper bound for a configured [`HttpLimits::head_bytes`]: offsets are kept in 16 bits.
pub const HEAD_BYTES_MAX: usize = u16::MAX as usize;
/// Most field names in the `Connection` fields of one head. Beyond it: 431. Each field of the head
/// is compared with each of them.
pub const CONNECTION_OPTIONS: usize = 32;
/// Longest host name (RFC 3986, section 3.2.2), without its port. Beyond it: 400.
pub const HOST_BYTES: usize = 255;
/// Most interim responses (1xx) before a final one. Beyond it: 502.
pub const INTERIM_RESPONSES: usize = 32;
/// Longest chunk-size line including extensions, without its CRLF, in bytes (RFC 9112, section
/// 7.1.1).
pub const CHUNK_LINE_BYTES: usize = 4 * 1024;
/// Largest trailer section of a chunked body (its fields with their CRLF), in bytes.
pub const TRAILER_BYTES: usize = 8 * 1024;

/// Limits on one HTTP/1 message, configurable under `osmia.limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpLimits {
    /// See [`REQUEST_LINE_BYTES`].
    pub request_line_bytes: usize,
    /// See [`HEAD_BYTES`]; at most [`HEAD_BYTES_MAX`].
    pub head_bytes: usize,
    /// See [`HEADER_COUNT`]; at most [`HEADER_COUNT_MAX`].
    pub header_count: usize,
    /// See [`CHUNK_LINE_BYTES`].
    pub chunk_line_bytes: usize,
    /// See [`TRAILER_BYTES`].
    pub trailer_bytes: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            request_line_bytes: REQUEST_LINE_BYTES,
            head_bytes: HEAD_BYTES,
            header_count: HEADER_COUNT,
            chunk_line_bytes: CHUNK_LINE_BYTES,
            trailer_bytes: TRAILER_BYTES,
        }
    }
}

const _: () = assert!(REQUEST_LINE_BYTES < HEAD_BYTES);
const _: () = assert!(HEAD_BYTES <= HEAD_BYTES_MAX);
const _: () = assert!(HEADER_COUNT <= HEADER_COUNT_MAX);
