//! One probe of one node: a request on the connection of the last one or a new one, the status
//! line, and the rest of the answer if it is short.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use osmia_core::health::{Event, Outcome};
use osmia_core::http1::response::Asked;
use osmia_core::http1::{BodyLength, ResponseHead};
use osmia_core::limits::HttpLimits;
use osmia_core::proxy_protocol::{self, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::plan::{Plan, Protocol};
use super::tls::Tls;

/// What is read at once. A head that is longer ends its connection.
const WINDOW: usize = 4096;
/// Most bytes of a response that are read so that the node may close first, or the connection can
/// be kept.
const DISCARDED: usize = 64 << 10;
/// How long a node may take for the rest of its answer, and to close after it.
const LINGER: Duration = Duration::from_millis(250);

/// A probe to be made.
#[derive(Debug)]
pub(super) struct Job {
    /// The target's number.
    pub(super) target: u64,
    /// The upstream's id.
    pub(super) checker: Arc<str>,
    pub(super) plan: Arc<Plan>,
    pub(super) addr: SocketAddr,
    /// The Unix domain socket that `addr` stands for.
    pub(super) unix: Option<Arc<Path>>,
    /// The header that the node expects first.
    pub(super) proxy_protocol: Option<Version>,
    pub(super) request: Arc<[u8]>,
    /// For TLS.
    pub(super) name: Option<ServerName<'static>>,
    /// The connection of the last probe; after the probe, what the next one may use.
    pub(super) kept: Option<Connection>,
}

/// What a probe found.
#[derive(Debug)]
pub(super) enum Found {
    /// Something about the node, and why, for the operator.
    Node(Outcome, Option<io::Error>),
    /// Something about this machine: the node is not judged.
    Local(io::Error),
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A connection with a node, ready for a request.
pub(super) struct Connection(Box<dyn Stream>);

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// One on which nothing comes.
    #[cfg(test)]
    pub(super) fn silent() -> Self {
        Self(Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink())))
    }

    /// Whether the node has neither closed it nor sent anything since its last answer, as far as
    /// has been noticed. Takes no system call unless something has come.
    fn is_quiet(&mut self) -> bool {
        self.0.read(&mut [0]).now_or_never().is_none()
    }
}

/// Why there is no answer.
enum Trouble {
    Local(io::Error),
    Node(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if is_local(&error) { Self::Local(error) } else { Self::Node(error) }
    }
}

/// How far a probe got.
#[derive(Default)]
struct Progress {
    /// A byte of the answer has come.
    begun: bool,
    /// What the answer is, as soon as that is known. Reading the rest of it and closing take time
    /// that must not count.
    answer: Option<Outcome>,
    /// The connection, when the next probe may use it.
    kept: Option<Connection>,
}

/// Makes a probe.
pub(super) async fn probe(mut job: Job, tls: Arc<Tls>) -> (Job, Found) {
    let mut progress = Progress::default();
    let kept = job.kept.take();
    let attempt = timeout(job.plan.timeout, attempt(&job, kept, &tls, &mut progress)).await;
    let found = match (progress.answer, attempt) {
        (Some(outcome), _) => Found::Node(outcome, None),
        (None, Ok(Err(Trouble::Local(error)))) => Found::Local(error),
        (None, Ok(Err(Trouble::Node(error)))) => {
            let is_timeout = error.kind() == io::ErrorKind::TimedOut;
            let outcome = if is_timeout { Outcome::Timeout } else { Outcome::TcpFailure };
            Found::Node(outcome, Some(error))
        }
        (None, _) => Found::Node(Outcome::Timeout, None),
    };
    job.kept = progress.kept;
    (job, found)
}

/// Whether a failure to connect says nothing about the node: descriptors, memory or local ports
/// have run out.
fn is_local(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const LOCAL: [Errno; 5] =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| LOCAL.iter().any(|errno| errno.raw_os_error() == code))
}

/// Asks, on the kept connection first. One that ends before any answer tells nothing about the
/// node, which may close it when it likes: what counts is the answer on a new one.
async fn attempt(
    job: &Job,
    kept: Option<Connection>,
    tls: &Tls,
    progress: &mut Progress,
) -> Result<(), Trouble> {
    if let Some(mut kept) = kept
        && kept.is_quiet()
    {
        let exchanged = exchange(kept, job, progress).await;
        if exchanged.is_ok() || progress.begun {
            return Ok(exchanged?);
        }
    }
    let stream = connect(job).await?;
    let connection = match (job.plan.protocol, &job.name) {
        (Protocol::Tcp, _) => {
            progress.answer = Some(Outcome::Connected);
            close(Connection(stream), 0).await;
            return Ok(());
        }
        (Protocol::Https { verify }, Some(name)) => {
            let connector = tls.connector(verify).await.map_err(Trouble::Local)?;
            Connection(Box::new(connector.connect(name.clone(), stream).await?))
        }
        _ => Connection(stream),
    };
    Ok(exchange(connection, job, progress).await?)
}

/// A new connection, on which all but TLS and the request has been said.
async fn connect(job: &Job) -> Result<Box<dyn Stream>, Trouble> {
    let mut stream: Box<dyn Stream> = match &job.unix {
        Some(path) => Box::new(UnixStream::connect(path).await?),
        None => Box::new(TcpStream::connect(job.addr).await?),
    };
    if let Some(version) = job.proxy_protocol {
        stream.write_all(proxy_protocol::local(version).as_bytes()).await?;
    }
    Ok(stream)
}

/// Sends the request and reads the answer.
async fn exchange(
    mut connection: Connection,
    job: &Job,
    progress: &mut Progress,
) -> io::Result<()> {
    let stream = &mut connection.0;
    stream.write_all(&job.request).await?;
    stream.flush().await?;
    let mut window = [0; WINDOW];
    let mut filled = 0;
    let status = loop {
        let read = stream.read(&mut window[filled..]).await?;
        if read == 0 {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(kind, "closed without an answer"));
        }
        progress.begun = true;
        filled += read;
        if let Some(end) = window[..filled].iter().position(|b| *b == b'\n') {
            break status_of(&window[..end]).unwrap_or(0);
        }
        if filled == WINDOW {
            break 0;
        }
    };
    let outcome = Outcome::Status(status);
    progress.answer = Some(outcome);
    let rest = rest(stream, &mut window, filled, job.plan.head);
    match timeout(LINGER, rest).await {
        Ok(Rest::Complete { reusable }) => {
            let judged = job.plan.active.judge(outcome);
            if reusable && job.plan.keeps && judged != Some(Event::HttpFailure) {
                progress.kept = Some(connection);
            }
        }
        Ok(Rest::Open { read }) => close(connection, read).await,
        Ok(Rest::Gone) | Err(_) => {}
    }
    Ok(())
}

/// What became of the rest of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    /// It has been read, and nothing came after it: closing now resets nothing.
    Complete { reusable: bool },
    /// Its end cannot be told, or is too far away, or more came than belongs to it.
    Open { read: usize },
    /// The connection has ended.
    Gone,
}

/// Reads the rest of an answer of which `filled` bytes are in the window.
async fn rest(
    stream: &mut Box<dyn Stream>,
    window: &mut [u8; WINDOW],
    mut filled: usize,
    head: bool,
) -> Rest {
    let mut response = ResponseHead::default();
    let asked = Asked { head, ..Asked::default() };
    let limits = HttpLimits::default();
    loop {
        match response.parse(&window[..filled], asked, &limits) {
            Ok(true) => break,
            Ok(false) if filled < WINDOW => {}
            _ => return Rest::Open { read: filled },
        }
        match stream.read(&mut window[filled..]).await {
            Ok(read) if read > 0 => filled += read,
            _ => return Rest::Gone,
        }
    }
    let end = match response.body {
        BodyLength::Known(length) if !response.is_interim() => {
            length.saturating_add(response.len as u64)
        }
        _ => return Rest::Open { read: filled },
    };
    let mut read = filled;
    while (read as u64) < end && read < DISCARDED {
        // Always with all the room, so that surplus bytes are seen.
        match stream.read(window).await {
            Ok(more) if more > 0 => read += more,
            _ => return Rest::Gone,
        }
    }
    if read as u64 == end {
        Rest::Complete { reusable: response.keep_alive }
    } else {
        Rest::Open { read }
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

/// Closes in order: the node is told that nothing more comes, and what it still sends is read, so
/// that it sees an end and no reset. Not for long.
async fn close(Connection(mut stream): Connection, mut read: usize) {
    let drain = async {
        // A node that has gone already has closed.
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut scrap = [0; WINDOW];
        while read < DISCARDED
            && let Ok(more) = stream.read(&mut scrap).await
            && more > 0
        {
            read += more;
        }
    };
    let _ = timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests {
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
        let mut script = scripted(more);
        let mut window = [0; WINDOW];
        window[..first.len()].copy_from_slice(first);
        rest(&mut script, &mut window, first.len(), head).await
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
        assert_eq!(rest_of(long, &[&[b'x'; 20000]], false).await, kept);
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
        assert_eq!(rest_of(ok, &[b"o"], false).await, Rest::Gone);
        assert_eq!(rest_of(&ok[..20], &[], false).await, Rest::Gone);
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
            assert!(matches!(end, Rest::Open { .. }), "{end:?}: {text}");
        }
        let endless = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
        let end = rest_of(endless, &[&[b'x'; 2 * DISCARDED]], false).await;
        assert!(matches!(end, Rest::Open { .. }), "{end:?}");
    }

    #[test]
    fn running_out_of_descriptors_is_nobodys_failure() {
        for code in [24, 23, 99] {
            assert!(is_local(&io::Error::from_raw_os_error(code)));
        }
        assert!(!is_local(&io::Error::from_raw_os_error(111)));
    }
}
