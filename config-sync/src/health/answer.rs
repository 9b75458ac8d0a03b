//! The answer to a probe: its status line, and whether its connection can serve another one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use osmia_core::http1::response::Asked;
use osmia_core::http1::{BodyLength, ResponseHead};
use osmia_core::limits::HttpLimits;
use tokio::io::{AsyncRead, ReadBuf};

use super::probe::Stream;

/// What is read at once, and how much is looked at. A head that is longer ends its connection.
const WINDOW: usize = 4096;
/// The longest answer that is read so that its connection can be kept.
const WHOLE: u64 = 64 << 10;

thread_local! {
    /// What is read into. All probes are made on one thread, and nothing stays here.
    static SCRATCH: RefCell<[u8; WINDOW]> = const { RefCell::new([0; WINDOW]) };
}

/// An answer as far as it has come.
#[derive(Debug)]
pub(super) struct Answer {
    /// It answers `HEAD`.
    head: bool,
    /// How much has been read.
    read: u64,
    /// The first of it.
    bytes: Vec<u8>,
}

/// What there is besides what has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing, so that closing now resets nothing.
    Complete {
        /// The node keeps the connection.
        reusable: bool,
    },
    /// More of the answer.
    Missing,
    /// The end cannot be told, or is too far away, or more came than belongs to the answer.
    Open,
}

impl Answer {
    pub(super) fn new(head: bool) -> Self {
        Self { head, read: 0, bytes: Vec::new() }
    }

    /// Reads some of it; zero is the end of the connection. Always asks for more than there should
    /// be, so that surplus bytes are seen.
    pub(super) async fn read(&mut self, stream: &mut Box<dyn Stream>) -> io::Result<usize> {
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut scratch = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut scratch))?;
                let bytes = scratch.filled();
                self.read += bytes.len() as u64;
                let wanted = bytes.len().min(WINDOW - self.bytes.len());
                self.bytes.extend_from_slice(&bytes[..wanted]);
                Poll::Ready(Ok(bytes.len()))
            })
        })
        .await
    }

    /// The status, once its line is there; zero: it is none.
    pub(super) fn status(&self) -> Option<u16> {
        match self.bytes.iter().position(|b| *b == b'\n') {
            Some(end) => Some(status_of(&self.bytes[..end]).unwrap_or(0)),
            None => (self.bytes.len() == WINDOW).then_some(0),
        }
    }

    /// What there is besides.
    pub(super) fn rest(&self) -> Rest {
        let mut response = ResponseHead::default();
        let asked = Asked { head: self.head, ..Asked::default() };
        match response.parse(&self.bytes, asked, &HttpLimits::default()) {
            Ok(true) => {}
            Ok(false) if self.bytes.len() < WINDOW => return Rest::Missing,
            _ => return Rest::Open,
        }
        let end = match response.body {
            BodyLength::Known(length) if !response.is_interim() => {
                length.saturating_add(response.len as u64)
            }
            _ => return Rest::Open,
        };
        if self.read == end {
            Rest::Complete { reusable: response.keep_alive }
        } else if self.read < end && end <= WHOLE {
            Rest::Missing
        } else {
            Rest::Open
        }
    }

    /// Reads until nothing is missing, or the connection ends.
    pub(super) async fn read_rest(&mut self, stream: &mut Box<dyn Stream>) -> Rest {
        loop {
            match self.rest() {
                Rest::Missing => {}
                rest => return rest,
            }
            match self.read(stream).await {
                Ok(read) if read > 0 => {}
                _ => return Rest::Missing,
            }
        }
    }
}

/// The status in a status line, as `lua-resty-healthcheck` finds it.
fn status_of(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let (version, rest) = line.strip_prefix("HTTP/")?.split_once([' ', '\t'])?;
    let (major, minor) = version.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(major) || !digits(minor) {
        return None;
    }
    let rest = rest.trim_start();
    let end = rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn status_lines() {
        let cases: [(&[u8], _); 10] = [
            (b"HTTP/1.1 200 OK\r", Some(200)),
            (b"HTTP/1.0 503", Some(503)),
            (b"HTTP/1.1  404 x", Some(404)),
            (b"HTTP/10.0 204\r", Some(204)),
            (b"HTTP/1.1 99999999 x", None),
            (b"HTTP/1.1 abc", None),
            (b"HTTP/1 200", None),
            (b"SSH-2.0-OpenSSH", None),
            (b"\xff\xfe", None),
            (b"", None),
        ];
        for (line, expected) in cases {
            assert_eq!(status_of(line), expected, "{line:?}");
        }
    }

    /// What becomes of an answer that comes in these pieces, each when the one before was read.
    async fn rest_of(first: &[u8], more: &[&[u8]], head: bool) -> Rest {
        let mut script = scripted(&[&[first], more].concat());
        let mut answer = Answer::new(head);
        assert_eq!(answer.read(&mut script).await.unwrap(), first.len());
        answer.read_rest(&mut script).await
    }

    fn scripted(pieces: &[&[u8]]) -> Box<dyn Stream> {
        let read = pieces.iter().fold(
            Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Send + Sync + Unpin>,
            |before, piece| Box::new(before.chain(std::io::Cursor::new(piece.to_vec()))),
        );
        Box::new(tokio::io::join(read, tokio::io::sink()))
    }

    #[tokio::test]
    async fn whole_answers_keep_the_connection() {
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        let kept = Rest::Complete { reusable: true };
        assert_eq!(rest_of(&[&ok[..], b"ok"].concat(), &[], false).await, kept);
        assert_eq!(rest_of(&ok[..20], &[&ok[20..], b"o", b"k"], false).await, kept);
        assert_eq!(rest_of(b"HTTP/1.1 204 No Content\r\n\r\n", &[], false).await, kept);
        assert_eq!(rest_of(ok, &[], true).await, kept, "HEAD");
        let long = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n";
        assert_eq!(rest_of(long, &[&vec![b'x'; 20000]], false).await, kept);
        let old = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(rest_of(old, &[], false).await, kept);
        let spent = Rest::Complete { reusable: false };
        for last in [
            &b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert_eq!(rest_of(last, &[], false).await, spent);
        }
    }

    #[tokio::test]
    async fn other_answers_do_not() {
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(rest_of(ok, &[b"o"], false).await, Rest::Missing);
        assert_eq!(rest_of(&ok[..20], &[], false).await, Rest::Missing);
        let long = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; WINDOW]].concat();
        let open: [(&[u8], &[&[u8]]); 7] = [
            (ok, &[b"ok!"]),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n", &[]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[]),
            (b"HTTP/1.1 200 OK\r\n\r\nok", &[]),
            (b"HTTP/1.1 103 Early Hints\r\n\r\n", &[]),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", &[]),
            (&long[..WINDOW], &[]),
        ];
        for (first, more) in open {
            let end = rest_of(first, more, false).await;
            let text = String::from_utf8_lossy(first);
            assert!(matches!(end, Rest::Open), "{end:?}: {text}");
        }
        let endless = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
        let end = rest_of(endless, &[&vec![b'x'; 1 << 17]], false).await;
        assert!(matches!(end, Rest::Open), "{end:?}");
    }
}
