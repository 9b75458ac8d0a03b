//! A small blocking HTTP/1.1 client for checks, idle connections and bulk transfers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use osmia_bench::upstream::pattern_byte;

/// How long any read or write may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest response head, in bytes.
const HEAD_BYTES: u64 = 64 * 1024;

/// A port nobody listens on at the moment.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

/// What a response head says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// `None`: chunked.
    pub(crate) length: Option<u64>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        Self::with_buffer(addr, 16 * 1024)
    }

    /// A connection that reads `buffer` bytes at a time.
    pub(crate) fn with_buffer(addr: SocketAddr, buffer: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream: BufReader::with_capacity(buffer, stream), host: addr })
    }

    /// Sends a GET request.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.writer().write_all(request.as_bytes())
    }

    /// The side to write request bytes to.
    pub(crate) fn writer(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    /// The address that goes into `Host`.
    pub(crate) fn host(&self) -> SocketAddr {
        self.host
    }

    /// Reads a response head.
    pub(crate) fn head(&mut self) -> Result<Head> {
        let mut bytes = Vec::with_capacity(512);
        let mut limited = (&mut self.stream).take(HEAD_BYTES);
        while !bytes.ends_with(b"\r\n\r\n") {
            if limited.read_until(b'\n', &mut bytes)? == 0 {
                bail!("the connection ended within a response head of {} bytes", bytes.len());
            }
        }
        parse_head(&bytes)
    }

    /// Reads the whole body after `head`.
    pub(crate) fn body(&mut self, head: &Head) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = head.length {
            (&mut self.stream).take(length).read_to_end(&mut body)?;
            ensure!(body.len() as u64 == length, "the body ended after {} bytes", body.len());
            return Ok(body);
        }
        loop {
            let size = self.line()?;
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                .with_context(|| format!("{size:?} is no chunk size"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            (&mut self.stream).take(size).read_to_end(&mut body)?;
            ensure!(self.line()?.is_empty(), "a chunk does not end where it should");
        }
    }

    /// The next body bytes, as they come; empty at the end of the connection.
    pub(crate) fn chunk(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    /// Marks bytes of [`Client::chunk`] as used.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.stream.consume(bytes);
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        (&mut self.stream).take(HEAD_BYTES).read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).context("a line without CRLF")
    }
}

/// Reads a whole response head.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Head> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    ensure!(response.parse(bytes)?.is_complete(), "half a response head");
    let value = |name: &str| {
        response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    };
    let length = if let Some(length) = value("content-length") {
        Some(std::str::from_utf8(length)?.parse()?)
    } else {
        ensure!(value("transfer-encoding").is_some(), "a response without a length");
        None
    };
    Ok(Head { status: response.code.context("no status")?, length })
}

/// Checks that `/bytes/N` gives the right N bytes.
pub(crate) fn check_body(addr: SocketAddr, bytes: u64) -> Result<()> {
    let mut client = Client::connect(addr)?;
    check_body_on(&mut client, bytes)
}

fn check_body_on(client: &mut Client, bytes: u64) -> Result<()> {
    client.get(&format!("/bytes/{bytes}"))?;
    let head = client.head()?;
    let body = client.body(&head)?;
    ensure!(head.status == 200, "status {}: {}", head.status, String::from_utf8_lossy(&body));
    let right = body.len() as u64 == bytes
        && body.iter().zip(0..).all(|(&byte, offset)| byte == pattern_byte(offset));
    ensure!(right, "a body of {} bytes is not the {bytes} asked for", body.len());
    Ok(())
}

/// Checks that requests of several kinds reach the upstream and come back, on one connection.
pub(crate) fn check_forwarding(addr: SocketAddr) -> Result<()> {
    let mut client = Client::connect(addr)?;
    for bytes in [1024, 64 * 1024, 1024] {
        check_body_on(&mut client, bytes)?;
    }
    client.get("/who?is=there")?;
    let head = client.head()?;
    let body = client.body(&head)?;
    let text = String::from_utf8_lossy(&body);
    ensure!(
        text.contains("Osmia demo upstream") && text.contains("path: /who?is=there\n"),
        "an answer that is not the upstream's: {text}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_tell_status_and_length() {
        let head = parse_head(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\n").expect("a head");
        assert_eq!(head, Head { status: 200, length: Some(5) });
        let head = parse_head(b"HTTP/1.1 502 x\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(head.expect("a head"), Head { status: 502, length: None });
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_wrong_body_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            for body in [b"0123".as_slice(), b"0124"] {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).expect("a request");
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).expect("a head sent");
                stream.write_all(body).expect("a body sent");
            }
        });
        assert!(check_body(addr, 4).is_ok());
        assert!(check_body(addr, 4).is_err());
        server.join().expect("a server that ends");
    }
}
