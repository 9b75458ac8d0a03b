//! One probe of one node: a connection of its own, a request, the status line.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use osmia_core::health::Outcome;
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

/// Longest status line, and what is read at once.
const WINDOW: usize = 1024;
/// Most bytes of a response that are read so that the node may close first.
const DISCARDED: usize = 64 << 10;
/// How long a node may take to close after its answer.
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
}

/// What a probe found.
#[derive(Debug)]
pub(super) enum Found {
    /// Something about the node, and why, for the operator.
    Node(Outcome, Option<io::Error>),
    /// Something about this machine: the node is not judged.
    Local(io::Error),
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

/// Makes a probe.
pub(super) async fn probe(job: Job, tls: Arc<Tls>) -> (Job, Found) {
    // Closing takes time that must not count: what was found before stays.
    let mut answer = None;
    let attempt = timeout(job.plan.timeout, attempt(&job, &tls, &mut answer)).await;
    let found = match (answer, attempt) {
        (Some(outcome), _) => Found::Node(outcome, None),
        (None, Ok(Err(Trouble::Local(error)))) => Found::Local(error),
        (None, Ok(Err(Trouble::Node(error)))) => {
            let is_timeout = error.kind() == io::ErrorKind::TimedOut;
            let outcome = if is_timeout { Outcome::Timeout } else { Outcome::TcpFailure };
            Found::Node(outcome, Some(error))
        }
        (None, _) => Found::Node(Outcome::Timeout, None),
    };
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

/// Connects and asks; says in `answer` what it is as soon as it is known.
async fn attempt(job: &Job, tls: &Tls, answer: &mut Option<Outcome>) -> Result<(), Trouble> {
    match &job.unix {
        Some(path) => talk(UnixStream::connect(path).await?, job, tls, answer).await,
        None => talk(TcpStream::connect(job.addr).await?, job, tls, answer).await,
    }
}

/// Asks on a connection.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    job: &Job,
    tls: &Tls,
    answer: &mut Option<Outcome>,
) -> Result<(), Trouble> {
    if let Some(version) = job.proxy_protocol {
        stream.write_all(proxy_protocol::local(version).as_bytes()).await?;
    }
    match (job.plan.protocol, &job.name) {
        (Protocol::Tcp, _) => {
            *answer = Some(Outcome::Connected);
            close(stream, 0).await;
            Ok(())
        }
        (Protocol::Https { verify }, Some(name)) => {
            let connector = tls.connector(verify).await.map_err(Trouble::Local)?;
            let stream = connector.connect(name.clone(), stream).await?;
            exchange(stream, job, answer).await
        }
        _ => exchange(stream, job, answer).await,
    }
}

/// Sends the request and reads the status line.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    job: &Job,
    answer: &mut Option<Outcome>,
) -> Result<(), Trouble> {
    stream.write_all(&job.request).await?;
    stream.flush().await?;
    let mut window = [0; WINDOW];
    let mut filled = 0;
    let status = loop {
        let read = stream.read(&mut window[filled..]).await?;
        if read == 0 {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(kind, "closed without an answer").into());
        }
        filled += read;
        if let Some(end) = window[..filled].iter().position(|b| *b == b'\n') {
            break status_of(&window[..end]).unwrap_or(0);
        }
        if filled == WINDOW {
            break 0;
        }
    };
    *answer = Some(Outcome::Status(status));
    if !is_complete(&window[..filled], job.plan.head) {
        close(stream, filled).await;
    }
    Ok(())
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

/// Whether the whole response has been read, so that closing now resets nothing.
fn is_complete(read: &[u8], head: bool) -> bool {
    let mut response = ResponseHead::default();
    let asked = Asked { head, ..Asked::default() };
    let Ok(true) = response.parse(read, asked, &HttpLimits::default()) else { return false };
    match response.body {
        BodyLength::Known(length) => (read.len() - response.len) as u64 >= length,
        _ => false,
    }
}

/// Closes in order: the node is told that nothing more comes, and what it still sends is read, so
/// that it sees an end and no reset. Not for long.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, mut read: usize) {
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

    #[test]
    fn complete_responses_need_no_lingering() {
        let complete: [(&[u8], bool); 3] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
            (b"HTTP/1.1 204 No Content\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
        ];
        for (response, head) in complete {
            assert!(is_complete(response, head));
        }
        let open: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\n\r\nok",
            b"junk\r\n\r\n",
        ];
        for response in open {
            assert!(!is_complete(response, false));
        }
    }

    #[test]
    fn running_out_of_descriptors_is_nobodys_failure() {
        for code in [24, 23, 99] {
            assert!(is_local(&io::Error::from_raw_os_error(code)));
        }
        assert!(!is_local(&io::Error::from_raw_os_error(111)));
    }
}
