//! One connection of the open loop: at most one request in flight.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Read buffer, in bytes; also the largest response head.
const BUFFER: usize = 64 * 1024;

pub(super) struct Connection {
    stream: TcpStream,
    /// When the request in flight should have left.
    intended: Option<Duration>,
    buffer: Vec<u8>,
    filled: usize,
    /// Once the head is read: whether it is a success, and the body bytes still to come.
    body: Option<(bool, u64)>,
}

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The answer is not complete.
    Pending,
    /// It is.
    Answered {
        /// When the request should have left.
        intended: Duration,
        /// Whether the status is 2xx.
        good: bool,
    },
    /// The connection ended, or an answer could not be understood.
    Lost,
}

impl Connection {
    pub(super) fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, intended: None, buffer: vec![0; BUFFER], filled: 0, body: None })
    }

    pub(super) fn intended(&self) -> Option<Duration> {
        self.intended
    }

    /// Sends a request. It fits into the socket's buffer, since nothing else is in flight.
    pub(super) fn send(&mut self, request: &[u8], intended: Duration) -> io::Result<()> {
        self.intended = Some(intended);
        self.stream.write_all(request)
    }

    /// Reads what is there.
    pub(super) fn progress(&mut self) -> Progress {
        loop {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Progress::Lost,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Pending,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Progress::Lost,
            }
            match self.digest() {
                Ok(Some(good)) => {
                    let Some(intended) = self.intended.take() else {
                        return Progress::Lost;
                    };
                    return Progress::Answered { intended, good };
                }
                Ok(None) => {}
                Err(Unreadable) => return Progress::Lost,
            }
        }
    }

    /// Uses up the buffer; the outcome once the answer is complete.
    fn digest(&mut self) -> Result<Option<bool>, Unreadable> {
        let (good, left, start) = match self.body {
            Some((good, left)) => (good, left, 0),
            None => match parse(&self.buffer[..self.filled])? {
                Some(head) => (head.good, head.length, head.len),
                None if self.filled == self.buffer.len() => return Err(Unreadable),
                None => return Ok(None),
            },
        };
        let here = (self.filled - start) as u64;
        self.filled = 0;
        if here > left {
            return Err(Unreadable);
        }
        let left = left - here;
        self.body = (left > 0).then_some((good, left));
        Ok((left == 0).then_some(good))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// An answer that is not HTTP/1.1 with a Content-Length, or more than was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

#[derive(Debug, PartialEq, Eq)]
struct Head {
    good: bool,
    /// Body length.
    length: u64,
    /// Length of the head itself.
    len: usize,
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, Unreadable> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(len) = response.parse(bytes).map_err(|_| Unreadable)? else {
        return Ok(None);
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
        .ok_or(Unreadable)?;
    let good = response.code.is_some_and(|code| (200..300).contains(&code));
    Ok(Some(Head { good, length, len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_need_a_length() {
        let head = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc").expect("a head");
        assert_eq!(head, Some(Head { good: true, length: 7, len: 38 }));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-"), Ok(None));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Err(Unreadable));
        let head = parse(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n").expect("a head");
        assert!(head.is_some_and(|head| !head.good));
    }
}
