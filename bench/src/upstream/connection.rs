//! One client connection of the demo upstream.

use std::io::{self, ErrorKind};
use std::time::Duration;

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;

use super::reply::{self, BLOCK, BLOCK_BYTES};
use super::request::{self, Ask, Framing, Parsed, Request};

/// Largest request head or chunk-size line, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// Read buffer while waiting for a head, in bytes.
const READ_BYTES: usize = 4 * 1024;
/// Read buffer while a body is counted, in bytes.
const BODY_READ_BYTES: usize = 128 * 1024;
/// Size of the chunks of `/chunked/N`, in bytes.
const CHUNK_BYTES: usize = 8 * 1024;
/// Pause between two events of `/sse`.
const EVENT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until the client leaves or one of them ends the connection.
pub(super) async fn serve(stream: TcpStream) {
    let mut connection = Connection { stream, buffer: Vec::new(), at: 0 };
    // Resets and half requests are what clients do; there is nobody to tell.
    while let Ok(true) = connection.exchange().await {}
}

struct Connection {
    stream: TcpStream,
    /// Bytes read; those from `at` on are not used yet.
    buffer: Vec<u8>,
    at: usize,
}

impl Connection {
    /// One request and its answer; whether another may follow.
    async fn exchange(&mut self) -> io::Result<bool> {
        let request = loop {
            match request::parse(&self.buffer[self.at..]) {
                Parsed::Request(request) => break request,
                Parsed::Bad => return self.refuse().await,
                Parsed::Partial if self.unread() >= HEAD_BYTES => return self.refuse().await,
                Parsed::Partial => {}
            }
            if self.fill(READ_BYTES).await? == 0 {
                return Ok(false);
            }
        };
        self.at += request.head_len;
        if request.expects_continue {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n".as_slice()).await?;
        }
        let received = match request.framing {
            Framing::Length(0) => 0,
            Framing::Length(length) => self.skip(length).await?,
            Framing::Chunked => self.skip_chunks().await?,
        };
        self.answer(&request, received).await?;
        Ok(request.keep_alive)
    }

    async fn answer(&mut self, request: &Request, received: u64) -> io::Result<()> {
        let keep_alive = request.keep_alive;
        match request.ask {
            Ask::Bytes(bytes) => self.answer_bytes(request, bytes).await,
            Ask::Chunked(bytes) => self.answer_chunked(request, bytes).await,
            Ask::Events(events) => self.answer_events(request, events).await,
            Ask::Upload => {
                let body = format!("{received}\n");
                self.send(reply::text(body.as_bytes(), keep_alive, request.is_head)).await
            }
            Ask::Delay(ms) => {
                monoio::time::sleep(Duration::from_millis(ms)).await;
                let body = format!("waited {ms} ms\n");
                self.send(reply::text(body.as_bytes(), keep_alive, request.is_head)).await
            }
            Ask::Hello => self.send(reply::text(&request.hello, keep_alive, request.is_head)).await,
        }
    }

    async fn answer_bytes(&mut self, request: &Request, bytes: u64) -> io::Result<()> {
        if let (true, false, Some(message)) =
            (request.keep_alive, request.is_head, reply::prebuilt(bytes))
        {
            return self.send(message).await;
        }
        self.send(reply::sized_head(bytes, request.keep_alive)).await?;
        if request.is_head {
            return Ok(());
        }
        for piece in pieces(bytes, BLOCK_BYTES) {
            self.send(&BLOCK[..piece]).await?;
        }
        Ok(())
    }

    async fn answer_chunked(&mut self, request: &Request, bytes: u64) -> io::Result<()> {
        self.send(reply::chunked_head("text/plain", request.keep_alive)).await?;
        if request.is_head {
            return Ok(());
        }
        for piece in pieces(bytes, CHUNK_BYTES) {
            self.send_chunk(&BLOCK[..piece]).await?;
        }
        self.send(b"0\r\n\r\n".as_slice()).await
    }

    async fn answer_events(&mut self, request: &Request, events: Option<u64>) -> io::Result<()> {
        self.send(reply::chunked_head("text/event-stream", request.keep_alive)).await?;
        if request.is_head {
            return Ok(());
        }
        let mut sent = 0_u64;
        while events.is_none_or(|events| sent < events) {
            if sent > 0 {
                monoio::time::sleep(EVENT_PAUSE).await;
            }
            self.send_chunk(format!("id: {sent}\ndata: event {sent}\n\n").as_bytes()).await?;
            sent += 1;
        }
        self.send(b"0\r\n\r\n".as_slice()).await
    }

    async fn send_chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
        chunk.extend_from_slice(data);
        chunk.extend_from_slice(b"\r\n");
        self.send(chunk).await
    }

    async fn refuse(&mut self) -> io::Result<bool> {
        let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        self.send(answer.as_slice()).await?;
        Ok(false)
    }

    /// Reads and forgets `length` body bytes.
    async fn skip(&mut self, length: u64) -> io::Result<u64> {
        let mut left = length;
        loop {
            let here = left.min(self.unread() as u64);
            self.at += here as usize;
            left -= here;
            if left == 0 {
                return Ok(length);
            }
            self.fill_some(BODY_READ_BYTES).await?;
        }
    }

    /// Reads and forgets a chunked body with its trailers (RFC 9112, section 7.1); its length.
    async fn skip_chunks(&mut self) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let line = self.line().await?;
            let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
                .ok_or(ErrorKind::InvalidData)?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(total);
            }
            total += self.skip(size).await?;
            if !self.line().await?.is_empty() {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }

    /// Takes one line, without its CRLF.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let unread = &self.buffer[self.at..];
            if let Some(end) = unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = unread[..end].to_vec();
                self.at += end + 2;
                return Ok(line);
            }
            if unread.len() >= HEAD_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
            self.fill_some(READ_BYTES).await?;
        }
    }

    fn unread(&self) -> usize {
        self.buffer.len() - self.at
    }

    async fn fill_some(&mut self, room: usize) -> io::Result<()> {
        match self.fill(room).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads up to `room` more bytes; 0 at the end of the stream.
    async fn fill(&mut self, room: usize) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
        } else {
            self.buffer.drain(..self.at);
        }
        self.at = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.reserve(room);
        let filled = buffer.len();
        let (result, slice) = self.stream.read(buffer.slice_mut(filled..)).await;
        self.buffer = slice.into_inner();
        result
    }

    async fn send(&mut self, bytes: impl IoBuf + 'static) -> io::Result<()> {
        self.stream.write_all(bytes).await.0.map(drop)
    }
}

/// Splits `total` into sizes of at most `most`.
fn pieces(total: u64, most: usize) -> impl Iterator<Item = usize> {
    let mut left = total;
    std::iter::from_fn(move || {
        let piece = left.min(most as u64);
        left -= piece;
        (piece > 0).then_some(piece as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_add_up() {
        assert_eq!(pieces(20, 8).collect::<Vec<_>>(), [8, 8, 4]);
        assert_eq!(pieces(16, 8).collect::<Vec<_>>(), [8, 8]);
        assert_eq!(pieces(0, 8).count(), 0);
    }
}
