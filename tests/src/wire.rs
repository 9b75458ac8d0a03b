//! One side of an HTTP/1 connection, read strictly: what the gateway sends must be right to the
//! byte.

use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::{FAILSAFE, pattern};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order.
    Eof,
    /// With a reset.
    Reset,
}

/// How a message's body was delimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// There is none, by its status or method.
    None,
    /// `Content-Length`.
    Length(u64),
    /// Chunked; the sizes of the chunks.
    Chunked(Vec<usize>),
    /// The end of the connection.
    Close,
}

/// A request or response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Request line or status line.
    pub start: String,
    /// Header fields in order, as sent.
    pub fields: Vec<(String, String)>,
    /// The payload.
    pub body: Vec<u8>,
    /// How the body was delimited.
    pub framing: Framing,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// The value of the only field called `name`; `None` if there is none. Fails if it is repeated.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is repeated in {self}");
        all.first().copied()
    }

    /// The values of all fields called `name`.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The status of a response.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let rest = self.start.strip_prefix("HTTP/1.1 ").expect("a status line of HTTP/1.1");
        rest[..3].parse().unwrap()
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.start)?;
        self.fields.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))?;
        writeln!(f, "{}", self.body.escape_ascii())
    }
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Received and not taken.
    buf: Vec<u8>,
}

impl Wire {
    /// Takes over `stream`.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Takes over a Unix domain socket: sending and receiving are the same.
    pub fn unix(stream: UnixStream) -> Self {
        Self::over(OwnedFd::from(stream).into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(FAILSAFE)).unwrap();
        stream.set_write_timeout(Some(FAILSAFE)).unwrap();
        Self { stream, buf: Vec::new() }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// This side's address.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// A second handle on the connection, for another thread. Received bytes stay with this one.
    #[must_use]
    pub fn second(&self) -> Self {
        Self::over(self.stream.try_clone().unwrap())
    }

    /// Sends all of `bytes`.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.stream.write_all(bytes.as_ref()) {
            panic!("sending {} bytes: {error}", bytes.as_ref().len());
        }
    }

    /// Sends as much of `bytes` as the other side takes.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends up to `limit` bytes of the pattern until nothing more is taken; returns how many were.
    /// The socket is blocking again afterwards.
    pub fn send_until_full(&mut self, limit: u64) -> u64 {
        let mut sent = 0;
        self.stream.set_nonblocking(true).unwrap();
        while sent < limit {
            match self.stream.write(&pattern::bytes(sent, 64 * 1024)) {
                Ok(len) => sent += len as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.is_writable_within(std::time::Duration::from_secs(1)) {
                        break;
                    }
                }
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        self.stream.set_nonblocking(false).unwrap();
        sent
    }

    fn is_writable_within(&self, time: std::time::Duration) -> bool {
        let mut poll =
            libc::pollfd { fd: self.stream.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: the pointer is to one `pollfd`, as the count says.
        unsafe { libc::poll(&raw mut poll, 1, time.as_millis() as libc::c_int) > 0 }
    }

    /// Receives more. `None`: the connection has ended.
    #[track_caller]
    fn fill(&mut self) -> Option<()> {
        let mut part = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return None,
                Ok(len) => {
                    self.buf.extend_from_slice(&part[..len]);
                    return Some(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => {
                    panic!("{error}; received so far, and not used: {:?}", excerpt(&self.buf))
                }
            }
        }
    }

    #[track_caller]
    fn need(&mut self, what: &str) {
        let filled = self.fill().is_some();
        assert!(filled, "the connection ended within {what}, after {:?}", excerpt(&self.buf));
    }

    /// A line without its CRLF. A bare LF or CR fails.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let end = loop {
            if let Some(end) = self.buf.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            self.need("a line");
        };
        let line: Vec<u8> = self.buf.drain(..=end).collect();
        let line = line
            .strip_suffix(b"\r\n")
            .unwrap_or_else(|| panic!("a line without CR: {:?}", line.escape_ascii().to_string()));
        assert!(!line.contains(&b'\r'), "a bare CR in {:?}", line.escape_ascii().to_string());
        String::from_utf8_lossy(line).into_owned()
    }

    #[track_caller]
    fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return fields;
            }
            let (name, value) = line.split_once(':').expect("a field");
            assert!(!name.is_empty() && !name.contains([' ', '\t']), "odd field {line:?}");
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// A message's head.
    #[track_caller]
    pub fn head(&mut self) -> Message {
        let start = self.line();
        let fields = self.fields();
        Message { start, fields, body: Vec::new(), framing: Framing::None, trailers: Vec::new() }
    }

    /// A message's head; `None` if the connection ends, or is reset, before it.
    #[track_caller]
    pub fn head_or_end(&mut self) -> Option<Message> {
        if self.buf.is_empty() {
            self.fill()?;
        }
        Some(self.head())
    }

    /// A request with its body.
    #[track_caller]
    pub fn request(&mut self) -> Message {
        let mut message = self.head();
        self.body_of_request(&mut message);
        message
    }

    /// A request with its body; `None` if the connection ends before one.
    #[track_caller]
    pub fn request_or_end(&mut self) -> Option<Message> {
        let mut message = self.head_or_end()?;
        self.body_of_request(&mut message);
        Some(message)
    }

    #[track_caller]
    fn body_of_request(&mut self, message: &mut Message) {
        if has_body_fields(message) {
            self.body(message);
        }
    }

    /// The final response to a request other than `HEAD`, with its body.
    #[track_caller]
    pub fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// The response to a request with `method`, with its body. Interim responses fail.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Message {
        let mut message = self.head();
        let status = message.status();
        assert!(status >= 200, "an interim response: {message}");
        if method != "HEAD" && status != 204 && status != 304 {
            self.body(&mut message);
        }
        message
    }

    /// The body that the head of `message` announces.
    #[track_caller]
    pub fn body(&mut self, message: &mut Message) {
        let coding = message.field("Transfer-Encoding").map(str::to_owned);
        let length = message.field("Content-Length").map(|text| text.parse::<u64>().unwrap());
        match (coding.as_deref(), length) {
            (Some("chunked"), None) => self.chunked_body(message),
            (None, Some(length)) => {
                message.body = self.exactly(length as usize);
                message.framing = Framing::Length(length);
            }
            (None, None) => {
                let (body, end) = self.rest();
                assert_eq!(end, End::Eof, "a body that ends with the connection was cut off");
                message.body = body;
                message.framing = Framing::Close;
            }
            _ => panic!("odd framing in {message}"),
        }
    }

    #[track_caller]
    fn chunked_body(&mut self, message: &mut Message) {
        let mut sizes = Vec::new();
        while let Some(chunk) = self.chunk() {
            sizes.push(chunk.len());
            message.body.extend_from_slice(&chunk);
        }
        message.trailers = self.fields();
        message.framing = Framing::Chunked(sizes);
    }

    /// The next chunk; `None` for the last, whose trailer section is left. Extensions fail: they
    /// are for one hop.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line();
        let size = usize::from_str_radix(&line, 16)
            .unwrap_or_else(|_| panic!("not a plain chunk size: {line:?}"));
        if size == 0 {
            return None;
        }
        let data = self.exactly(size);
        assert_eq!(self.line(), "", "after a chunk");
        Some(data)
    }

    /// Exactly `len` bytes.
    #[track_caller]
    pub fn exactly(&mut self, len: usize) -> Vec<u8> {
        while self.buf.len() < len {
            self.need("a body");
        }
        let rest = self.buf.split_off(len);
        std::mem::replace(&mut self.buf, rest)
    }

    /// At least one byte, and what else is there; empty at the end of the connection.
    #[track_caller]
    pub fn some(&mut self) -> Vec<u8> {
        if self.buf.is_empty() {
            let _ = self.fill();
        }
        std::mem::take(&mut self.buf)
    }

    /// Everything until the connection ends.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let mut part = vec![0; 64 * 1024];
        let end = loop {
            match self.stream.read(&mut part) {
                Ok(0) => break End::Eof,
                Ok(len) => self.buf.extend_from_slice(&part[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break End::Reset,
                Err(error) => panic!("{error} instead of an end, after {:?}", excerpt(&self.buf)),
            }
        };
        (std::mem::take(&mut self.buf), end)
    }

    /// Waits for the connection to end without another byte.
    #[track_caller]
    pub fn expect_end(&mut self) -> End {
        let (rest, end) = self.rest();
        assert!(rest.is_empty(), "more was sent: {:?}", rest.escape_ascii().to_string());
        end
    }

    /// Whether nothing has arrived so far. No wait: of use where an earlier event says that it
    /// would have.
    pub fn is_silent(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        self.buf.is_empty() && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Ends the sending direction.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends both directions, for clones too: a thread that sends on one of them fails to.
    pub fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the pointer and the size are those of `linger`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Makes the socket's receive buffer small, so that a sender soon has to wait.
    pub fn shrink_receive_buffer(&self) {
        let size: libc::c_int = 4096;
        // SAFETY: the pointer and the size are those of `size`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUF,
                (&raw const size).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}

/// The beginning of what was received, for a message.
fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 300;
    let shown = bytes[..bytes.len().min(SHOWN)].escape_ascii();
    format!("{shown} ({} bytes)", bytes.len())
}

fn has_body_fields(message: &Message) -> bool {
    !message.all("Content-Length").is_empty() || !message.all("Transfer-Encoding").is_empty()
}
