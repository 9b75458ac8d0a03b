//! One connection.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::frame::{Frame, PREFACE, code, flag, kind, setting};
use super::hpack::{self, Decoder};
use super::stream::Exchange;
use crate::FAILSAFE;

/// What a connection goes over.
pub trait Transport: Read + Write + Send {
    /// The socket below.
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Transport for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// What the server made of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A final response with this status, complete.
    Response(u16),
    /// `RST_STREAM` with this code.
    Reset(u32),
    /// GOAWAY with this code, which is not `NO_ERROR`.
    GoAway(u32),
    /// The connection ended without such a GOAWAY.
    Closed,
    /// Nothing: it answers PING afterwards.
    Ignored,
}

/// A client's connection. The state below is public: tests look at it, and may change it.
pub struct H2 {
    transport: Box<dyn Transport>,
    received: Vec<u8>,
    decoder: Decoder,
    /// A header block that is not complete: its stream, the flags of its HEADERS, its bytes.
    partial: Option<(u32, u8, Vec<u8>)>,
    next_stream: u32,
    /// What came on each stream.
    pub streams: BTreeMap<u32, Exchange>,
    /// The server's settings, by name.
    pub settings: BTreeMap<u16, u32>,
    /// Acknowledgements of SETTINGS.
    pub settings_acks: usize,
    /// Payloads of acknowledged PINGs.
    pub pongs: Vec<Vec<u8>>,
    /// Last stream and code of each GOAWAY.
    pub goaways: Vec<(u32, u32)>,
    /// Whether the connection has ended.
    pub ended: bool,
    /// Frames received.
    pub frames: usize,
    /// What may be sent in all.
    pub window: i64,
    /// What may be sent on a stream, beyond the initial window.
    pub stream_windows: BTreeMap<u32, i64>,
    /// Whether received DATA is given back by `WINDOW_UPDATE` at once.
    pub refills: bool,
    /// Whether SETTINGS and PING of the server are acknowledged.
    pub acknowledges: bool,
}

impl H2 {
    /// A connection on which nothing has been said.
    pub fn over(transport: impl Transport + 'static) -> Self {
        let socket = transport.socket();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(FAILSAFE)).unwrap();
        socket.set_write_timeout(Some(FAILSAFE)).unwrap();
        Self {
            transport: Box::new(transport),
            received: Vec::new(),
            decoder: Decoder::default(),
            partial: None,
            next_stream: 1,
            streams: BTreeMap::new(),
            settings: BTreeMap::new(),
            settings_acks: 0,
            pongs: Vec::new(),
            goaways: Vec::new(),
            ended: false,
            frames: 0,
            window: 65_535,
            stream_windows: BTreeMap::new(),
            refills: true,
            acknowledges: true,
        }
    }

    /// A TCP connection on which nothing has been said.
    #[track_caller]
    pub fn silent(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, FAILSAFE);
        Self::over(stream.unwrap_or_else(|error| panic!("connecting to {addr}: {error}")))
    }

    /// A connection by prior knowledge (RFC 9113, section 3.3), ready for requests.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, &[])
    }

    /// The same, with these settings of the client's.
    #[track_caller]
    pub fn connect_with(addr: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut connection = Self::silent(addr);
        connection.start(settings);
        connection
    }

    /// Sends the preface with `settings`, and waits for the server's: they must be its first frame.
    #[track_caller]
    pub fn start(&mut self, settings: &[(u16, u32)]) {
        self.send_bytes(&[PREFACE, &Frame::settings(settings).bytes()].concat());
        let first = self.next_frame();
        let first = first.unwrap_or_else(|| panic!("the connection ended before SETTINGS"));
        assert!(first.kind == kind::SETTINGS && !first.has(flag::ACK), "first frame: {first:?}");
        self.until("SETTINGS are acknowledged", |h2| h2.settings_acks > 0);
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        self.transport.socket()
    }

    /// Sends `bytes`.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_send_bytes(bytes) {
            panic!("sending {} bytes: {error}; {}", bytes.len(), self.describe());
        }
    }

    /// Sends as much of `bytes` as the server takes.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.transport.write_all(bytes)?;
        self.transport.flush()
    }

    /// Sends a frame.
    #[track_caller]
    pub fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.bytes());
    }

    /// Sends frames at once, as far as the server takes them: it may have closed already.
    pub fn push(&mut self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        let _ = self.try_send_bytes(&bytes);
    }

    /// The next identifier of a client's stream.
    pub fn open(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// Sends a request without a body, as literals; its stream.
    #[track_caller]
    pub fn request(&mut self, fields: &[(&str, &str)]) -> u32 {
        let stream = self.open();
        self.send(&Frame::headers(stream, hpack::block(fields), true));
        stream
    }

    /// Sends the head of a request with a body; its stream.
    #[track_caller]
    pub fn request_with_body(&mut self, fields: &[(&str, &str)]) -> u32 {
        let stream = self.open();
        self.send(&Frame::headers(stream, hpack::block(fields), false));
        stream
    }

    /// Sends a `GET` for `path`; its stream.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> u32 {
        self.request(&get(path))
    }

    /// Sends `body` as DATA, as the server's windows and frame size allow.
    #[track_caller]
    pub fn send_body(&mut self, stream: u32, mut body: &[u8], end: bool) {
        loop {
            let frame = self.setting(setting::MAX_FRAME_SIZE, 16_384);
            let free = self.free(stream).min(i64::from(frame)).max(0) as usize;
            let part = body.len().min(free);
            if part == 0 && !body.is_empty() {
                self.until_open(stream);
                continue;
            }
            let (now, rest) = body.split_at(part);
            self.send(&Frame::data(stream, now, end && rest.is_empty()));
            self.window -= part as i64;
            *self.stream_windows.entry(stream).or_default() -= part as i64;
            body = rest;
            if body.is_empty() {
                return;
            }
        }
    }

    #[track_caller]
    fn until_open(&mut self, stream: u32) {
        self.until("there is a window to send", |h2| {
            h2.free(stream) > 0 || h2.streams.get(&stream).is_some_and(|s| s.reset.is_some())
        });
        let reset = self.streams.get(&stream).and_then(|stream| stream.reset);
        assert_eq!(reset, None, "the upload on stream {stream} was ended");
    }

    /// How many bytes may be sent on `stream` now.
    pub fn free(&self, stream: u32) -> i64 {
        let initial = i64::from(self.setting(setting::INITIAL_WINDOW_SIZE, 65_535));
        let own = self.stream_windows.get(&stream).copied().unwrap_or_default();
        self.window.min(initial + own)
    }

    /// A setting of the server's, or what it is without (RFC 9113, section 6.5.2).
    pub fn setting(&self, name: u16, default: u32) -> u32 {
        self.settings.get(&name).copied().unwrap_or(default)
    }

    /// The next frame, after its effect; `None`: the connection has ended.
    #[track_caller]
    pub fn next_frame(&mut self) -> Option<Frame> {
        match self.next_within(FAILSAFE) {
            Ok(frame) => frame,
            Err(Late) => panic!("nothing was received in time; {}", self.describe()),
        }
    }

    /// The next frame, if it comes within `time`.
    #[track_caller]
    pub fn next_within(&mut self, time: Duration) -> Result<Option<Frame>, Late> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(frame) = Frame::take(&mut self.received) {
                self.frames += 1;
                self.apply(&frame);
                return Ok(Some(frame));
            }
            if self.ended {
                return Ok(None);
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), Late> {
        let mut part = [0; 16 * 1024];
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Late);
        }
        self.transport.socket().set_read_timeout(Some(left)).unwrap();
        match self.transport.read(&mut part) {
            Ok(0) => self.ended = true,
            Ok(len) => self.received.extend_from_slice(&part[..len]),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(Late),
                // A reset, an end of TLS without notice, or an alert.
                _ => self.ended = true,
            },
        }
        Ok(())
    }

    /// Receives until `condition` holds. Fails at the end of the connection.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + FAILSAFE;
        while !condition(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_within(left) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the connection ended before: {what}; {}", self.describe()),
                Err(Late) => panic!("still not so: {what}; {}", self.describe()),
            }
        }
    }

    /// Sends a PING and waits for its acknowledgement: all that was sent before has been read.
    #[track_caller]
    pub fn sync(&mut self) {
        let count = self.pongs.len() + 1;
        self.send(&Frame::ping((count as u64).to_be_bytes()));
        self.until("PING is acknowledged", |h2| h2.pongs.len() >= count);
    }

    /// Waits for the whole response on `stream`.
    #[track_caller]
    pub fn response(&mut self, stream: u32) -> Exchange {
        self.until(&format!("stream {stream} has ended"), |h2| {
            h2.streams.get(&stream).is_some_and(|stream| stream.ended || stream.reset.is_some())
        });
        let exchange = self.streams[&stream].clone();
        // A server may stop an upload that it no longer needs (section 8.1).
        let stopped = exchange.ended && exchange.reset == Some(code::NO_ERROR);
        assert!(exchange.reset.is_none() || stopped, "stream {stream}: {exchange:?}");
        exchange
    }

    /// Waits for what comes of `stream`: an answer, or an error.
    #[track_caller]
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            if let Some(outcome) = self.so_far(stream) {
                return outcome;
            }
            if self.next_frame().is_none() {
                return self.so_far(stream).unwrap_or(Outcome::Closed);
            }
        }
    }

    /// Waits for what the server makes of what was sent last, which may be nothing: it then answers
    /// PING. An error of `stream` counts, too; there is none of stream 0.
    #[track_caller]
    pub fn reaction(&mut self, stream: u32) -> Outcome {
        // An error of a stream may come behind the answer to the first.
        for _ in 0..3 {
            let answered = self.pongs.len() + 1;
            self.push(&[Frame::ping([0; 8])]);
            while self.pongs.len() < answered {
                if let Some(outcome) = self.so_far(stream) {
                    return outcome;
                }
                if self.next_frame().is_none() {
                    return self.so_far(stream).unwrap_or(Outcome::Closed);
                }
            }
        }
        self.so_far(stream).unwrap_or(Outcome::Ignored)
    }

    fn so_far(&self, stream: u32) -> Option<Outcome> {
        if let Some((_, code)) = self.goaways.iter().find(|(_, code)| *code != 0) {
            return Some(Outcome::GoAway(*code));
        }
        let exchange = self.streams.get(&stream)?;
        match exchange.reset {
            Some(code) if !exchange.ended => Some(Outcome::Reset(code)),
            _ if exchange.ended => Some(Outcome::Response(exchange.status())),
            _ => None,
        }
    }

    /// Waits for the connection's end; the code of the GOAWAY before it that is an error.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> Option<u32> {
        while self.next_frame().is_some() {}
        self.goaways.iter().map(|(_, code)| *code).find(|code| *code != 0)
    }

    /// What is known, for a message.
    pub fn describe(&self) -> String {
        let short = |exchange: &Exchange| {
            let (reset, length) = (exchange.reset, exchange.body.len());
            format!("{} {length} bytes, ended {}, {reset:?}", exchange.status(), exchange.ended)
        };
        let streams: Vec<_> =
            self.streams.iter().map(|(id, exchange)| (id, short(exchange))).take(10).collect();
        format!("goaways {:?}, ended {}, streams {streams:?}", self.goaways, self.ended)
    }

    #[track_caller]
    fn apply(&mut self, frame: &Frame) {
        if let Some((stream, ..)) = &self.partial {
            let goes_on = frame.kind == kind::CONTINUATION && frame.stream == *stream;
            assert!(goes_on, "within a header block: {frame:?}");
        }
        match frame.kind {
            kind::DATA => self.apply_data(frame),
            kind::HEADERS => {
                self.partial = Some((frame.stream, frame.flags, frame.content().to_vec()));
                self.finish_block(frame);
            }
            kind::CONTINUATION => {
                let (_, _, block) = self.partial.as_mut().expect("a HEADERS before CONTINUATION");
                block.extend_from_slice(&frame.payload);
                self.finish_block(frame);
            }
            kind::RST_STREAM => {
                self.streams.entry(frame.stream).or_default().reset = Some(frame.number(0));
            }
            kind::SETTINGS => self.apply_settings(frame),
            kind::PING if frame.has(flag::ACK) => self.pongs.push(frame.payload.clone()),
            kind::PING if self.acknowledges => {
                let ack = Frame::new(kind::PING, flag::ACK, 0, frame.payload.clone());
                self.push(&[ack]);
            }
            kind::GOAWAY => self.goaways.push((frame.number(0), frame.number(4))),
            kind::WINDOW_UPDATE => {
                let increment = i64::from(frame.number(0));
                assert!(increment > 0, "{frame:?}");
                match frame.stream {
                    0 => self.window += increment,
                    stream => *self.stream_windows.entry(stream).or_default() += increment,
                }
            }
            kind::PUSH_PROMISE => panic!("a server that pushes: {frame:?}"),
            _ => {}
        }
    }

    #[track_caller]
    fn apply_data(&mut self, frame: &Frame) {
        let exchange = self.streams.entry(frame.stream).or_default();
        assert!(!exchange.fields.is_empty() && !exchange.ended, "DATA out of place: {frame:?}");
        exchange.body.extend_from_slice(frame.content());
        exchange.ended = frame.has(flag::END_STREAM);
        let (ended, length) = (exchange.ended, frame.payload.len() as u32);
        if self.refills && length > 0 {
            let mut updates = vec![Frame::window(0, length)];
            if !ended {
                updates.push(Frame::window(frame.stream, length));
            }
            self.push(&updates);
        }
    }

    #[track_caller]
    fn apply_settings(&mut self, frame: &Frame) {
        assert_eq!(frame.stream, 0, "{frame:?}");
        if frame.has(flag::ACK) {
            assert!(frame.payload.is_empty(), "{frame:?}");
            self.settings_acks += 1;
            return;
        }
        self.settings.extend(frame.to_settings());
        if self.acknowledges {
            self.push(&[Frame::settings_ack()]);
        }
    }

    #[track_caller]
    fn finish_block(&mut self, frame: &Frame) {
        if !frame.has(flag::END_HEADERS) {
            return;
        }
        if let Some((stream, flags, block)) = self.partial.take() {
            let fields = self.decoder.decode(&block);
            let end = flags & flag::END_STREAM != 0;
            self.streams.entry(stream).or_default().add_block(fields, end);
        }
    }
}

/// Nothing came in the time that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

/// The pseudo-header fields of a `GET` for `path`.
pub fn get(path: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)]
}
