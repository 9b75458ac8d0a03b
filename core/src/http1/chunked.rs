//! The chunked transfer coding (RFC 9112, section 7.1), decoded where the bytes lie.
//!
//! The decoder splits its input into [`Piece`]s. A relay that keeps the framing forwards the bytes
//! as they are, but for extensions, which are meant for one hop and are cut out.

use super::error::BodyError;
use super::fields::{Known, is_text_byte, is_token_byte};
use crate::limits::HttpLimits;

/// What a run of bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Chunk sizes and line ends; the terminating ones too.
    Framing,
    /// Chunk extensions.
    Extension,
    /// Payload.
    Data,
    /// Trailer fields.
    Trailer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SizeStart,
    Size,
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Enough for the longest of the forbidden names.
const NAME_KEPT: usize = 20;
/// Most digits of a chunk size. Leading zeros count: some readers take the last digits only.
const SIZE_DIGITS: u32 = 16;

/// Decoder state; small, and independent of the size of the body.
#[derive(Debug, Clone)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes of payload left in the current chunk.
    remaining: u64,
    /// Bytes of the current chunk-size line, or of the whole trailer section.
    line_bytes: u32,
    chunk_line_limit: u32,
    trailer_limit: u32,
    name: [u8; NAME_KEPT],
    name_len: u8,
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub fn new(limits: &HttpLimits) -> Self {
        let clamp = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        Self {
            state: State::SizeStart,
            remaining: 0,
            line_bytes: 0,
            chunk_line_limit: clamp(limits.chunk_line_bytes),
            trailer_limit: clamp(limits.trailer_bytes),
            name: [0; NAME_KEPT],
            name_len: 0,
        }
    }

    /// Whether the body, with its trailer section, has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The first run of equal kind in `input` and its length. `None`: `input` is empty or the body
    /// is over.
    pub fn next_piece(&mut self, input: &[u8]) -> Result<Option<(Piece, usize)>, BodyError> {
        if self.state == State::Data {
            return Ok(self.take_data(input.len()));
        }
        let Some(first) = input.first().filter(|_| !self.is_done()) else {
            return Ok(None);
        };
        let kind = self.kind_of(*first);
        let mut len = 0;
        for byte in input {
            if self.state == State::Data || self.is_done() || self.kind_of(*byte) != kind {
                break;
            }
            self.step(*byte)?;
            len += 1;
        }
        Ok(Some((kind, len)))
    }

    fn take_data(&mut self, available: usize) -> Option<(Piece, usize)> {
        let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(available);
        self.remaining -= len as u64;
        if self.remaining == 0 {
            self.state = State::DataCr;
        }
        (len > 0).then_some((Piece::Data, len))
    }

    fn kind_of(&self, byte: u8) -> Piece {
        match self.state {
            State::Data => Piece::Data,
            State::Size if matches!(byte, b';' | b' ' | b'\t') => Piece::Extension,
            State::Padding => Piece::Extension,
            State::Extension if byte != b'\r' => Piece::Extension,
            State::TrailerStart if byte != b'\r' => Piece::Trailer,
            State::TrailerName | State::TrailerValue | State::TrailerLf => Piece::Trailer,
            _ => Piece::Framing,
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), BodyError> {
        self.line_bytes = self.line_bytes.saturating_add(1);
        self.state = match self.state {
            State::SizeStart | State::Size | State::Padding | State::Extension => {
                if self.line_bytes > self.chunk_line_limit && byte != b'\r' {
                    return Err(BodyError::ChunkLineTooLong);
                }
                self.step_size_line(byte)?
            }
            State::SizeLf => {
                expect(byte, b'\n')?;
                self.line_bytes = 0;
                if self.remaining == 0 { State::TrailerStart } else { State::Data }
            }
            State::DataCr => {
                expect(byte, b'\r')?;
                State::DataLf
            }
            State::DataLf => {
                expect(byte, b'\n')?;
                self.line_bytes = 0;
                State::SizeStart
            }
            State::EndLf => {
                expect(byte, b'\n')?;
                State::Done
            }
            State::Data | State::Done => self.state,
            State::TrailerStart if byte == b'\r' => State::EndLf,
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                if self.line_bytes > self.trailer_limit {
                    return Err(BodyError::TrailersTooLarge);
                }
                self.step_trailer(byte)?
            }
        };
        Ok(())
    }

    fn step_size_line(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                // One nibble is kept free, so that sums with a size never overflow.
                if self.line_bytes > SIZE_DIGITS || self.remaining >> 56 != 0 {
                    return Err(BodyError::ChunkSizeOverflow);
                }
                self.remaining = self.remaining << 4 | u64::from(digit);
                Ok(State::Size)
            }
            (State::Size | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size | State::Padding, b' ' | b'\t') => Ok(State::Padding),
            (State::Size | State::Padding, b';') => Ok(State::Extension),
            (State::Extension, _) if is_text_byte(byte) => Ok(State::Extension),
            (State::Extension, _) => Err(BodyError::ChunkExtension),
            _ => Err(BodyError::ChunkSize),
        }
    }

    fn step_trailer(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                if self.state == State::TrailerStart {
                    self.name_len = 0;
                }
                if let Some(slot) = self.name.get_mut(usize::from(self.name_len)) {
                    *slot = byte;
                }
                self.name_len = self.name_len.saturating_add(1);
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => {
                let name = self.name.get(..usize::from(self.name_len)).unwrap_or_default();
                if is_forbidden_trailer(name) {
                    return Err(BodyError::ForbiddenTrailer);
                }
                Ok(State::TrailerValue)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_text_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::TrailerLf, _) => Err(BodyError::ChunkLineEnd),
            _ => Err(BodyError::Trailer),
        }
    }
}

fn expect(byte: u8, wanted: u8) -> Result<(), BodyError> {
    if byte == wanted { Ok(()) } else { Err(BodyError::ChunkLineEnd) }
}

/// Framing, routing, authentication and the form of the content must be known before the body
/// (RFC 9110, section 6.5.1). A reader that merges trailers into the head must not be misled.
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    const OTHERS: [&str; 9] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "max-forwards",
        "proxy-authorization",
        "set-cookie",
    ];
    !matches!(Known::of(name), Known::Other | Known::Date | Known::Server)
        || OTHERS.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(input: &[u8], split: usize) -> Result<(Vec<u8>, bool), BodyError> {
        let mut decoder = ChunkedDecoder::new(&HttpLimits::default());
        let mut data = Vec::new();
        for mut part in [&input[..split], &input[split..]] {
            while let Some((kind, len)) = decoder.next_piece(part)? {
                if kind == Piece::Data {
                    data.extend_from_slice(&part[..len]);
                }
                part = &part[len..];
            }
        }
        Ok((data, decoder.is_done()))
    }

    fn decode_all_splits(input: &[u8]) -> Result<(Vec<u8>, bool), BodyError> {
        let whole = decode(input, 0);
        for split in 1..=input.len() {
            assert_eq!(decode(input, split), whole, "split at {split}");
        }
        whole
    }

    #[test]
    fn accepts_extensions_and_trailers_however_split() {
        let body = b"5;a=\"b\";c\r\nhello\r\n6 ;x\r\n world\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n";
        assert_eq!(decode_all_splits(body), Ok((b"hello world".to_vec(), true)));
        assert_eq!(decode_all_splits(b"0\r\n\r\n"), Ok((vec![], true)));
        assert_eq!(decode_all_splits(b"00A\r\n0123456789\r\n0\r\n\r\n").map(|r| r.1), Ok(true));
    }

    #[test]
    fn refuses_what_parsers_could_read_differently() {
        let cases: [(&[u8], BodyError); 16] = [
            (b"\r\n", BodyError::ChunkSize),
            (b";x\r\n", BodyError::ChunkSize),
            (b"0x5\r\nhello\r\n", BodyError::ChunkSize),
            (b"+5\r\nhello\r\n", BodyError::ChunkSize),
            (b"-1\r\n", BodyError::ChunkSize),
            (b" 5\r\nhello\r\n", BodyError::ChunkSize),
            (b"5 \r\nhello\r\n", BodyError::ChunkSize),
            (b"5\nhello\r\n", BodyError::ChunkSize),
            (b"5\rhello\r\n", BodyError::ChunkLineEnd),
            (b"5;a\nb\r\nhello", BodyError::ChunkExtension),
            (b"5\r\nhello0\r\n\r\n", BodyError::ChunkLineEnd),
            (b"5\r\nhello\n0\r\n\r\n", BodyError::ChunkLineEnd),
            (b"fffffffffffffffff\r\n", BodyError::ChunkSizeOverflow),
            (b"0\r\nContent-Length: 5\r\n\r\n", BodyError::ForbiddenTrailer),
            (b"0\r\nX-A : 5\r\n\r\n", BodyError::Trailer),
            (b"0\r\nX: a\rb\r\n\r\n", BodyError::ChunkLineEnd),
        ];
        for (input, error) in cases {
            assert_eq!(decode_all_splits_err(input), Err(error), "{}", input.escape_ascii());
        }
    }

    fn decode_all_splits_err(input: &[u8]) -> Result<(), BodyError> {
        decode_all_splits(input).map(|_| ())
    }

    #[test]
    fn bounds_lines_and_trailers() {
        let limits = HttpLimits { chunk_line_bytes: 8, trailer_bytes: 8, ..HttpLimits::default() };
        let run = |mut input: &[u8]| -> Result<bool, BodyError> {
            let mut decoder = ChunkedDecoder::new(&limits);
            while let Some((_, len)) = decoder.next_piece(input)? {
                input = &input[len..];
            }
            Ok(decoder.is_done())
        };
        assert_eq!(run(b"5;aaaaaaaaaaaa\r\n"), Err(BodyError::ChunkLineTooLong));
        assert_eq!(run(b"000000000000001\r\n"), Err(BodyError::ChunkLineTooLong));
        assert_eq!(run(b"0\r\nA: 1234567\r\n\r\n"), Err(BodyError::TrailersTooLarge));
        assert_eq!(run(b"0\r\nA: 1\r\n\r\n"), Ok(true));
    }

    #[test]
    fn limits_are_exact() {
        let limits = HttpLimits { chunk_line_bytes: 8, trailer_bytes: 8, ..HttpLimits::default() };
        let run = |input: &str| {
            let mut decoder = ChunkedDecoder::new(&limits);
            let mut rest = input.as_bytes();
            while let Some((_, len)) = decoder.next_piece(rest)? {
                rest = &rest[len..];
            }
            Ok(decoder.is_done())
        };
        assert_eq!(run("00000001\r\nx\r\n0;123456\r\n\r\n"), Ok(true));
        assert_eq!(run("000000001"), Err(BodyError::ChunkLineTooLong));
        assert_eq!(run("0;1234567"), Err(BodyError::ChunkLineTooLong));
        assert_eq!(run("0\r\nA: 345\r\n\r\n"), Ok(true));
        assert_eq!(run("0\r\nA:\r\nB:\r\n\r\n"), Ok(true));
        assert_eq!(run("0\r\nA: 3456\r\n"), Err(BodyError::TrailersTooLarge));
        assert_eq!(run("0\r\nA:\r\nB:\r\nC"), Err(BodyError::TrailersTooLarge));
    }

    #[test]
    fn sizes_end_before_they_overflow() {
        let size = |line: &str| {
            let input = format!("{line}\r\n");
            let mut decoder = ChunkedDecoder::new(&HttpLimits::default());
            decoder.next_piece(input.as_bytes()).map(|_| decoder.remaining)
        };
        assert_eq!(size("0fffffffffffffff"), Ok((1 << 60) - 1));
        assert_eq!(size("fffffffffffffff"), Ok((1 << 60) - 1));
        assert_eq!(size("1000000000000000"), Err(BodyError::ChunkSizeOverflow));
        assert_eq!(size("0000000000000001"), Ok(1));
        assert_eq!(size("00000000000000001"), Err(BodyError::ChunkSizeOverflow));
    }

    #[test]
    fn trailers_hold_nothing_that_had_to_be_known_before() {
        let run = |name: &str| {
            let input = format!("0\r\n{name}: x\r\n\r\n");
            decode(input.as_bytes(), 0).map(|(_, done)| done)
        };
        for name in [
            "Host",
            "transfer-encoding",
            "Content-Length",
            "TE",
            "Trailer",
            "Connection",
            "Authorization",
            "Set-Cookie",
            "content-type",
            "X-Forwarded-For",
            "Proxy-Authorization",
        ] {
            assert_eq!(run(name), Err(BodyError::ForbiddenTrailer), "{name}");
        }
        let long = "x".repeat(300);
        for name in ["X-Sum", "Date", "Server-Timing", "Hosts", "grpc-status", &long] {
            assert_eq!(run(name), Ok(true), "{name}");
        }
    }

    proptest! {
        #[test]
        fn decodes_what_was_encoded(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
            cuts in prop::collection::vec(any::<u16>(), 0..8),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\nNEXT");
            let mut cuts: Vec<_> = cuts.iter().map(|c| usize::from(*c) % wire.len()).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let mut decoder = ChunkedDecoder::new(&HttpLimits::default());
            let (mut data, mut consumed) = (Vec::new(), 0);
            for pair in cuts.windows(2) {
                let mut part = &wire[pair[0]..pair[1]];
                while let Some((kind, len)) = decoder.next_piece(part).unwrap() {
                    if kind == Piece::Data { data.extend_from_slice(&part[..len]); }
                    part = &part[len..];
                    consumed += len;
                }
            }
            prop_assert!(decoder.is_done());
            prop_assert_eq!(consumed, wire.len() - 4);
            prop_assert_eq!(data, chunks.concat());
        }

        #[test]
        fn never_panics_and_never_overreads(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = ChunkedDecoder::new(&HttpLimits::default());
            let mut rest = &input[..];
            while let Ok(Some((_, len))) = decoder.next_piece(rest) {
                prop_assert!(len > 0 && len <= rest.len());
                rest = &rest[len..];
            }
        }
    }
}
