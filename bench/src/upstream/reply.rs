//! Answers of the demo upstream: bodies that are built once, and heads.

use std::sync::LazyLock;

/// Size of the block that larger bodies are sent from, in bytes. A multiple of the pattern's
/// period, so that repeating it continues the pattern.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

const PERIOD: usize = 64;
const ALPHABET: &[u8; PERIOD] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
const _: () = assert!(BLOCK_BYTES.is_multiple_of(PERIOD));

/// Byte at `offset` of every `/bytes/N` and `/chunked/N` body, so that a client can verify them.
pub fn pattern_byte(offset: u64) -> u8 {
    ALPHABET[(offset % PERIOD as u64) as usize]
}

/// One block of the pattern.
pub(super) static BLOCK: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..BLOCK_BYTES as u64).map(pattern_byte).collect());

static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| whole(1024));
static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| whole(BLOCK_BYTES));

/// Head and body of `/bytes/N` in one piece, for the sizes the benchmarks use.
pub(super) fn prebuilt(bytes: u64) -> Option<&'static [u8]> {
    match bytes {
        1024 => Some(&SMALL),
        n if n == BLOCK_BYTES as u64 => Some(&LARGE),
        _ => None,
    }
}

fn whole(bytes: usize) -> Vec<u8> {
    let mut message = sized_head(bytes as u64, true);
    message.extend_from_slice(&BLOCK[..bytes]);
    message
}

const PERSIST: &str = "\r\n";
const CLOSE: &str = "Connection: close\r\n\r\n";

fn ending(keep_alive: bool) -> &'static str {
    if keep_alive { PERSIST } else { CLOSE }
}

/// Head of a response whose length is known.
pub(super) fn sized_head(bytes: u64, keep_alive: bool) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: osmia-demo-upstream\r\nContent-Type: text/plain\r\n\
         Content-Length: {bytes}\r\n{}",
        ending(keep_alive)
    )
    .into_bytes()
}

/// Head of a chunked response.
pub(super) fn chunked_head(content_type: &str, keep_alive: bool) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: osmia-demo-upstream\r\nContent-Type: {content_type}\r\n\
         Transfer-Encoding: chunked\r\n{}",
        ending(keep_alive)
    )
    .into_bytes()
}

/// A whole small text response.
pub(super) fn text(body: &[u8], keep_alive: bool, is_head: bool) -> Vec<u8> {
    let mut message = sized_head(body.len() as u64, keep_alive);
    if !is_head {
        message.extend_from_slice(body);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prebuilt_messages_carry_the_pattern() {
        for size in [1024_u64, 65536] {
            let message = prebuilt(size).expect("a prebuilt size");
            let head = message.windows(4).position(|w| w == b"\r\n\r\n").expect("an end of head");
            let body = &message[head + 4..];
            assert_eq!(body.len() as u64, size);
            assert!(body.iter().zip(0..).all(|(&byte, at)| byte == pattern_byte(at)));
        }
        assert!(prebuilt(1000).is_none());
    }

    #[test]
    fn a_closing_answer_says_so() {
        let closing = text(b"x", false, false);
        assert!(closing.ends_with(b"Connection: close\r\n\r\nx"));
        assert!(!text(b"x", true, true).ends_with(b"x"));
    }
}
