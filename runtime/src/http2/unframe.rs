//! Bodies of HTTP/1.1 without their framing, which HTTP/2 has its own for.

use std::io;

use http::HeaderMap;
use osmia_core::http1::BodyLength;
use osmia_core::http1::chunked::{ChunkedDecoder, Piece};
use osmia_core::limits::{HEAD_BYTES_MAX, HEADER_COUNT_MAX, HttpLimits};

use super::text::{self, TextError};
use crate::buf::Buf;

/// What heads of the gateway's own making are read with.
pub const OWN: HttpLimits = HttpLimits {
    request_line_bytes: HEAD_BYTES_MAX,
    head_bytes: HEAD_BYTES_MAX,
    header_count: HEADER_COUNT_MAX,
    chunk_line_bytes: 64,
    trailer_bytes: HEAD_BYTES_MAX,
};
/// How the body that leaves is framed in what is handed over.
pub enum Unframe {
    /// In chunks; with the trailers so far.
    Chunked(ChunkedDecoder, Vec<u8>),
    /// So much is still to come.
    Remaining(u64),
    /// It ends with the connection.
    Tunnel,
}

impl Unframe {
    /// Of a body that is this long.
    pub fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::Known(length) => Self::Remaining(length),
            BodyLength::Chunked => Self::Chunked(ChunkedDecoder::new(&OWN), Vec::new()),
            BodyLength::UntilClose => Self::Tunnel,
        }
    }

    /// Whether there is none.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Remaining(0))
    }

    /// Leaves the payload in `buf`. Whether that is the end, and what comes behind it.
    pub fn take(&mut self, buf: &mut Buf) -> io::Result<(bool, Option<HeaderMap>)> {
        match self {
            Self::Tunnel => Ok((false, None)),
            Self::Remaining(remaining) => {
                let len = (buf.len() as u64).min(*remaining);
                *remaining -= len;
                buf.truncate(len as usize);
                Ok((*remaining == 0, None))
            }
            Self::Chunked(decoder, trailers) => {
                let bytes = buf.bytes_mut();
                let (mut read, mut kept) = (0, 0);
                while let Some((piece, len)) = decoder
                    .next_piece(&bytes[read..])
                    .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, TextError::Form))?
                {
                    match piece {
                        Piece::Data => {
                            bytes.copy_within(read..read + len, kept);
                            kept += len;
                        }
                        Piece::Trailer => trailers.extend_from_slice(&bytes[read..read + len]),
                        Piece::Framing | Piece::Extension => {}
                    }
                    read += len;
                }
                buf.truncate(kept);
                if !decoder.is_done() {
                    return Ok((false, None));
                }
                trailers.extend_from_slice(b"\r\n");
                Ok((true, text::read_trailers(trailers)))
            }
        }
    }
}
