//! Invariants of the chunked coding.

use super::model::show;
use super::{Input, Outcome};
use crate::http1::chunked::{ChunkedDecoder, Piece};
use crate::http1::{Body, BodyError, BodyLength};
use crate::limits::HttpLimits;

/// The decoder agrees with a naive one, however the bytes are cut, and what is forwarded has the
/// same payload and no extensions.
pub fn chunked(data: &[u8]) -> Outcome {
    let Some(input) = Input::new(data) else { return Outcome::Incomplete };
    let [whole, bytewise, irregular] = input.cuts().map(|cuts| decode(&input, &cuts));
    assert_eq!(whole, bytewise, "{}", show(input.bytes));
    assert_eq!(whole, irregular, "{}", show(input.bytes));
    check_reference(&input, &whole);
    for keep_framing in [false, true] {
        for cuts in input.cuts() {
            check_forwarded(&input, &cuts, &whole, keep_framing);
        }
    }
    match whole {
        Decoded { error: Some(_), .. } => Outcome::Refused,
        Decoded { done: true, .. } => Outcome::Accepted,
        _ => Outcome::Incomplete,
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Decoded {
    payload: Vec<u8>,
    /// Everything but extensions.
    kept: Vec<u8>,
    consumed: usize,
    done: bool,
    error: Option<BodyError>,
}

fn decode(input: &Input<'_>, cuts: &[usize]) -> Decoded {
    let mut decoder = ChunkedDecoder::new(&input.limits);
    let mut decoded = Decoded::default();
    for end in cuts {
        loop {
            let piece = match decoder.next_piece(&input.bytes[decoded.consumed..*end]) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                // How much of a broken line was passed on before depends on the cut.
                Err(error) => return Decoded { error: Some(error), ..Decoded::default() },
            };
            let (kind, len) = piece;
            assert!(len > 0);
            let bytes = &input.bytes[decoded.consumed..decoded.consumed + len];
            if kind == Piece::Data {
                decoded.payload.extend_from_slice(bytes);
            }
            if kind != Piece::Extension {
                decoded.kept.extend_from_slice(bytes);
            }
            decoded.consumed += len;
        }
    }
    decoded.done = decoder.is_done();
    decoded
}

/// What a [`Body`] forwards is what the decoder finds, and is itself well-formed.
fn check_forwarded(input: &Input<'_>, cuts: &[usize], decoded: &Decoded, keep_framing: bool) {
    let mut body = Body::new(BodyLength::Chunked, keep_framing, &input.limits);
    let (mut out, mut consumed) = (Vec::new(), 0);
    for end in cuts {
        let mut piece = input.bytes[consumed..*end].to_vec();
        let Ok(accepted) = body.accept(&mut piece) else {
            assert!(decoded.error.is_some());
            return;
        };
        assert!(accepted.kept <= accepted.consumed && accepted.consumed <= piece.len());
        assert!(accepted.consumed == piece.len() || body.is_done());
        out.extend_from_slice(&piece[..accepted.kept]);
        consumed += accepted.consumed;
    }
    assert_eq!(decoded.error, None);
    assert_eq!((consumed, body.is_done()), (decoded.consumed, decoded.done));
    if !keep_framing {
        assert_eq!(out, decoded.payload);
        return;
    }
    assert_eq!(out, decoded.kept);
    let again = decode(&Input { bytes: &out, ..*input }, &[out.len()]);
    assert_eq!(again.payload, decoded.payload, "{}", show(&out));
    assert_eq!((again.done, again.error), (decoded.done, None), "{}", show(&out));
    assert_eq!(again.kept, out, "extensions forwarded: {}", show(&out));
}

fn check_reference(input: &Input<'_>, decoded: &Decoded) {
    match reference(input.bytes, &input.limits) {
        Reference::Complete { payload, used } => {
            assert_eq!(decoded.error, None, "{}", show(input.bytes));
            assert!(decoded.done);
            assert_eq!((&decoded.payload, decoded.consumed), (&payload, used));
        }
        Reference::Wrong => assert!(decoded.error.is_some(), "{}", show(input.bytes)),
        // The decoder may know of an error before the line is whole.
        Reference::Incomplete => assert!(!decoded.done, "{}", show(input.bytes)),
    }
}

enum Reference {
    Complete { payload: Vec<u8>, used: usize },
    Incomplete,
    Wrong,
}

/// Reads whole lines and whole chunks, by RFC 9112, section 7.1.
fn reference(input: &[u8], limits: &HttpLimits) -> Reference {
    let mut payload = Vec::new();
    let mut rest = input;
    loop {
        let Some((line, after)) = split_line(rest) else { return Reference::Incomplete };
        let Some(size) = chunk_size(line, limits) else { return Reference::Wrong };
        rest = after;
        if size == 0 {
            break;
        }
        let Some((chunk, after)) =
            usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size))
        else {
            return Reference::Incomplete;
        };
        payload.extend_from_slice(chunk);
        match after {
            [b'\r', b'\n', after @ ..] => rest = after,
            [] | [b'\r'] => return Reference::Incomplete,
            _ => return Reference::Wrong,
        }
    }
    let mut trailer_bytes = 0;
    loop {
        let Some((line, after)) = split_line(rest) else { return Reference::Incomplete };
        rest = after;
        if line.is_empty() {
            return Reference::Complete { payload, used: input.len() - rest.len() };
        }
        trailer_bytes += line.len() + 2;
        if trailer_bytes > limits.trailer_bytes || !is_trailer(line) {
            return Reference::Wrong;
        }
    }
}

fn split_line(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&input[..end], &input[end + 2..]))
}

fn chunk_size(line: &[u8], limits: &HttpLimits) -> Option<u64> {
    if line.len() > limits.chunk_line_bytes || line.iter().any(|byte| is_control(*byte)) {
        return None;
    }
    let size = match line.iter().position(|byte| *byte == b';') {
        Some(end) => line[..end].trim_ascii_end(),
        None => line,
    };
    let digits = std::str::from_utf8(size).ok()?;
    if !(1..=16).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|size| *size < 1 << 60)
}

fn is_trailer(line: &[u8]) -> bool {
    const FORBIDDEN: [&str; 25] = [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
    ];
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = line.split_at(colon);
    let is_token = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
    let is_odd = FORBIDDEN.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()));
    !name.is_empty()
        && name.iter().all(is_token)
        && !value.iter().any(|byte| is_control(*byte))
        && !is_odd
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}
