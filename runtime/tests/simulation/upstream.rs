//! An upstream that answers as the request's path asks for: `/{bytes}/{length|chunked|close}`.

use std::future::poll_fn;
use std::rc::Rc;

use osmia::buf::{Buf, Class};
use osmia::net::sim::SimNet;
use osmia::net::{Conn, Rx, Tx};

use crate::world::Shared;

/// Bytes received and not used yet.
pub struct Stream {
    pub conn: Conn<SimNet>,
    pub bytes: Vec<u8>,
}

impl Stream {
    pub fn new(conn: Conn<SimNet>) -> Self {
        Self { conn, bytes: Vec::new() }
    }

    /// Receives more; `false`: there is no more.
    pub async fn fill(&mut self) -> bool {
        if !self.conn.rx.is_armed() {
            self.conn.rx.start(Buf::new(Class::Small), false);
        }
        match poll_fn(|cx| self.conn.rx.poll(cx)).await {
            (Ok(len), buf) if len > 0 => {
                self.bytes.extend_from_slice(buf.bytes());
                true
            }
            _ => false,
        }
    }

    /// Takes everything up to and including `end`.
    pub async fn take_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|window| window == end) {
                return Some(self.bytes.drain(..at + end.len()).collect());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    pub async fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < len {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.bytes.drain(..len).collect())
    }

    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.conn.tx.start(Buf::copy_of(bytes));
        poll_fn(|cx| self.conn.tx.poll(cx)).await.is_ok()
    }

    /// The payload of a chunked body.
    pub async fn take_chunked(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_until(b"\r\n").await?;
            let size = std::str::from_utf8(&line[..line.len() - 2]).ok()?;
            let size = usize::from_str_radix(size, 16).ok()?;
            let data = self.take(size + 2).await?;
            if size == 0 {
                return Some(body);
            }
            body.extend_from_slice(&data[..size]);
        }
    }
}

/// The value of a field in a head, by lower-case name.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

/// The body that belongs to a request.
pub fn pattern(id: &str, len: usize) -> Vec<u8> {
    id.bytes().cycle().take(len).collect()
}

/// Serves one connection.
pub async fn serve(shared: Rc<Shared>, conn: Conn<SimNet>) {
    let mut stream = Stream::new(conn);
    while let Some(head) = stream.take_until(b"\r\n\r\n").await {
        if answer(&shared, &mut stream, &String::from_utf8_lossy(&head)).await.is_none() {
            return;
        }
        if shared.happens(shared.faults.idle_close) {
            return;
        }
    }
}

/// `None`: the connection is over.
async fn answer(shared: &Shared, stream: &mut Stream, head: &str) -> Option<()> {
    let id = field(head, "x-id")?.to_owned();
    let body = match (field(head, "content-length"), field(head, "transfer-encoding")) {
        (Some(length), None) => stream.take(length.parse().ok()?).await?,
        (None, Some("chunked")) => stream.take_chunked().await?,
        (None, None) => Vec::new(),
        _ => {
            shared.violation(format!("ambiguous framing forwarded for {id}"));
            return None;
        }
    };
    *shared.executed.borrow_mut().entry(id.clone()).or_default() += 1;
    if shared.happens(shared.faults.upstream_dies) {
        if shared.net.random(fastrand::Rng::bool) {
            stream.send(b"nonsense\r\n\r\n").await;
        }
        return None;
    }
    let mut line = head.lines().next()?.split(' ');
    let (method, path) = (line.next()?, line.next()?);
    let mut parts = path.trim_start_matches('/').split('/');
    let len: usize = parts.next()?.parse().ok()?;
    let framing = parts.next()?;
    let payload = pattern(&id, len);
    let mut out = format!(
        "HTTP/1.1 200 OK\r\nX-Id: {id}\r\nX-Received: {}-{}\r\nConnection: {}\r\n",
        body.len(),
        checksum(&body),
        if framing == "close" { "close" } else { "keep-alive" },
    )
    .into_bytes();
    if framing == "chunked" {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        let mut rest = &payload[..];
        while !rest.is_empty() && method != "HEAD" {
            let size = shared.net.random(|random| random.usize(1..=rest.len()));
            out.extend_from_slice(format!("{size:x};ext=1\r\n").as_bytes());
            out.extend_from_slice(&rest[..size]);
            out.extend_from_slice(b"\r\n");
            rest = &rest[size..];
        }
        if method != "HEAD" {
            out.extend_from_slice(b"0\r\nX-Trailer: t\r\n\r\n");
        }
    } else {
        if framing == "length" {
            out.extend_from_slice(format!("Content-Length: {len}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if method != "HEAD" {
            out.extend_from_slice(&payload);
        }
    }
    if !stream.send(&out).await || framing == "close" {
        return None;
    }
    Some(())
}
