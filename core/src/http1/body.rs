//! Where a body ends, and its bytes made ready for the other side.

use super::chunked::{ChunkedDecoder, Piece};
use super::error::BodyError;
use crate::limits::HttpLimits;

/// How a body is delimited (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// By its length in bytes; 0: there is none.
    Known(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection (responses only).
    UntilClose,
}

impl Default for BodyLength {
    fn default() -> Self {
        Self::Known(0)
    }
}

/// What [`Body::accept`] did with a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes that belong to this body; what follows is the next message's.
    pub consumed: usize,
    /// Bytes at the start of the buffer that are to be forwarded.
    pub kept: usize,
}

/// Progress through one body.
#[derive(Debug)]
pub struct Body {
    state: State,
    payload: u64,
    /// Forward the chunked framing as it is, rather than the payload alone.
    keep_framing: bool,
}

#[derive(Debug)]
enum State {
    Remaining(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

impl Body {
    /// A body that begins now.
    pub fn new(length: BodyLength, keep_framing: bool, limits: &HttpLimits) -> Self {
        let state = match length {
            BodyLength::Known(bytes) => State::Remaining(bytes),
            BodyLength::Chunked => State::Chunked(ChunkedDecoder::new(limits)),
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state, payload: 0, keep_framing }
    }

    /// Whether all of it has been accepted. A close-delimited body never says so.
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Remaining(bytes) => *bytes == 0,
            State::Chunked(decoder) => decoder.is_done(),
            State::UntilClose => false,
        }
    }

    /// Bytes of payload accepted so far, without framing and trailers.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Whether the end of the connection is the end of this body, and not a truncation.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    /// Takes what belongs to this body from the start of `buf`, leaving what is to be forwarded at
    /// its very start. Nothing is moved unless something is cut out.
    pub fn accept(&mut self, buf: &mut [u8]) -> Result<Accepted, BodyError> {
        match &mut self.state {
            State::UntilClose => {
                self.payload += buf.len() as u64;
                Ok(Accepted { consumed: buf.len(), kept: buf.len() })
            }
            State::Remaining(bytes) => {
                let len = usize::try_from(*bytes).unwrap_or(usize::MAX).min(buf.len());
                *bytes -= len as u64;
                self.payload += len as u64;
                Ok(Accepted { consumed: len, kept: len })
            }
            State::Chunked(decoder) => {
                let (mut consumed, mut kept) = (0, 0);
                while let Some((kind, len)) = decoder.next_piece(&buf[consumed..])? {
                    let forward = match kind {
                        Piece::Data => {
                            self.payload += len as u64;
                            true
                        }
                        Piece::Extension => false,
                        Piece::Framing | Piece::Trailer => self.keep_framing,
                    };
                    if forward {
                        if kept != consumed {
                            buf.copy_within(consumed..consumed + len, kept);
                        }
                        kept += len;
                    }
                    consumed += len;
                }
                Ok(Accepted { consumed, kept })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(body: &mut Body, input: &[u8]) -> (Vec<u8>, usize) {
        let mut buf = input.to_vec();
        let accepted = body.accept(&mut buf).unwrap();
        buf.truncate(accepted.kept);
        (buf, accepted.consumed)
    }

    #[test]
    fn a_known_length_ends_where_it_says() {
        let mut body = Body::new(BodyLength::Known(5), true, &HttpLimits::default());
        assert_eq!(accept(&mut body, b"abc"), (b"abc".to_vec(), 3));
        assert!(!body.is_done());
        assert_eq!(accept(&mut body, b"deGET /"), (b"de".to_vec(), 2));
        assert!(body.is_done());
    }

    #[test]
    fn extensions_are_cut_out_of_kept_framing() {
        let mut body = Body::new(BodyLength::Chunked, true, &HttpLimits::default());
        let (kept, consumed) = accept(&mut body, b"3;q=1\r\nabc\r\n0\r\nT: x\r\n\r\nGET");
        assert_eq!(kept, b"3\r\nabc\r\n0\r\nT: x\r\n\r\n");
        assert_eq!(consumed, 23);
        assert!(body.is_done());
    }

    #[test]
    fn the_payload_is_counted_without_its_framing() {
        let mut body = Body::new(BodyLength::Chunked, true, &HttpLimits::default());
        accept(&mut body, b"3;q=1\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\nGET");
        assert_eq!(body.payload(), 5);
    }

    #[test]
    fn framing_is_removed_for_a_client_without_chunks() {
        let mut body = Body::new(BodyLength::Chunked, false, &HttpLimits::default());
        let (kept, _) = accept(&mut body, b"3;q=1\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n");
        assert_eq!(kept, b"abcde");
        assert!(body.is_done());
    }

    #[test]
    fn a_close_delimited_body_has_no_end_of_its_own() {
        let mut body = Body::new(BodyLength::UntilClose, true, &HttpLimits::default());
        assert_eq!(accept(&mut body, b"abc"), (b"abc".to_vec(), 3));
        assert!(!body.is_done());
        assert!(body.ends_with_connection());
    }
}
