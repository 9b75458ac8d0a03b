//! One probe of one node: a request on the connection of the last one or on a new one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use osmia_core::health::{Event, Outcome};
use osmia_core::proxy_protocol::{self, Version};
use osmia_core::snapshot::Upstream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::answer::{Answer, Rest};
use super::plan::{Place, Plan, Protocol};
use super::tls::Tls;

/// Most bytes that are read so that the node may close first.
const DISCARDED: usize = 64 << 10;
/// How long a node may take for the rest of its answer, and to close after it.
const LINGER: Duration = Duration::from_millis(250);

/// Whom to ask for what, and how. A change of any of it makes a new one.
#[derive(Debug)]
pub(super) struct Aim {
    /// The upstream's id.
    pub(super) checker: Arc<str>,
    pub(super) plan: Arc<Plan>,
    pub(super) place: Place,
    /// The header that the node expects first.
    pub(super) proxy_protocol: Option<Version>,
    pub(super) request: Box<[u8]>,
    /// For TLS.
    pub(super) server_name: Option<ServerName<'static>>,
}

impl Aim {
    /// To ask a node of the upstream that is at this place.
    pub(super) fn new(
        checker: &Arc<str>,
        upstream: &Upstream,
        plan: &Arc<Plan>,
        place: &Place,
    ) -> Self {
        let is_https = matches!(plan.protocol, Protocol::Https { .. });
        Self {
            checker: Arc::clone(checker),
            plan: Arc::clone(plan),
            place: place.clone(),
            proxy_protocol: upstream.proxy_protocol,
            request: plan.request(&place.name),
            server_name: is_https.then(|| place.server_name()),
        }
    }
}

/// A probe to be made.
#[derive(Debug)]
pub(super) struct Job {
    /// The target's number.
    pub(super) target: u64,
    pub(super) aim: Arc<Aim>,
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

/// What probes speak over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

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
    let limit = job.aim.plan.timeout;
    let attempt = timeout(limit, attempt(&job.aim, kept, &tls, &mut progress)).await;
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
    aim: &Aim,
    kept: Option<Connection>,
    tls: &Tls,
    progress: &mut Progress,
) -> Result<(), Trouble> {
    if let Some(mut kept) = kept
        && kept.is_quiet()
    {
        let exchanged = exchange(kept, aim, progress).await;
        if exchanged.is_ok() || progress.begun {
            return Ok(exchanged?);
        }
    }
    // On the heap, since it is large, and most probes do without.
    Box::pin(attempt_anew(aim, tls, progress)).await
}

/// Asks on a new connection.
async fn attempt_anew(aim: &Aim, tls: &Tls, progress: &mut Progress) -> Result<(), Trouble> {
    let stream = connect(aim).await?;
    let connection = match (aim.plan.protocol, &aim.server_name) {
        (Protocol::Tcp, _) => {
            progress.answer = Some(Outcome::Connected);
            close(Connection(stream)).await;
            return Ok(());
        }
        (Protocol::Https { verify }, Some(name)) => {
            let connector = tls.connector(verify).await.map_err(Trouble::Local)?;
            Connection(Box::new(connector.connect(name.clone(), stream).await?))
        }
        _ => Connection(stream),
    };
    Ok(exchange(connection, aim, progress).await?)
}

/// A new connection, on which all but TLS and the request has been said.
async fn connect(aim: &Aim) -> Result<Box<dyn Stream>, Trouble> {
    let mut stream: Box<dyn Stream> = match &aim.place.unix {
        Some(path) => Box::new(UnixStream::connect(path).await?),
        None => Box::new(TcpStream::connect(aim.place.addr).await?),
    };
    if let Some(version) = aim.proxy_protocol {
        stream.write_all(proxy_protocol::local(version).as_bytes()).await?;
    }
    Ok(stream)
}

/// Sends the request and reads the answer.
async fn exchange(
    mut connection: Connection,
    aim: &Aim,
    progress: &mut Progress,
) -> io::Result<()> {
    let stream = &mut connection.0;
    stream.write_all(&aim.request).await?;
    stream.flush().await?;
    let mut answer = Answer::new(aim.plan.head);
    let status = loop {
        if answer.read(stream).await? == 0 {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(kind, "closed without an answer"));
        }
        progress.begun = true;
        if let Some(status) = answer.status() {
            break status;
        }
    };
    let outcome = Outcome::Status(status);
    progress.answer = Some(outcome);
    let rest = match answer.rest() {
        Rest::Missing => Box::pin(timeout(LINGER, answer.read_rest(stream))).await,
        rest => Ok(rest),
    };
    match rest {
        Ok(Rest::Complete { reusable }) => {
            let judged = aim.plan.active.judge(outcome);
            if reusable && aim.plan.keeps() && judged != Some(Event::HttpFailure) {
                progress.kept = Some(connection);
            }
        }
        Ok(Rest::Open) => Box::pin(close(connection)).await,
        Ok(Rest::Missing) | Err(_) => {}
    }
    Ok(())
}

/// Closes in order: the node is told that nothing more comes, and what it still sends is read, so
/// that it sees an end and no reset. Not for long.
async fn close(Connection(mut stream): Connection) {
    let drain = async {
        // A node that has gone already has closed.
        if stream.shutdown().await.is_err() {
            return;
        }
        let (mut scrap, mut read) = ([0; 1024], 0);
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
    fn running_out_of_descriptors_is_nobodys_failure() {
        for code in [24, 23, 99] {
            assert!(is_local(&io::Error::from_raw_os_error(code)));
        }
        assert!(!is_local(&io::Error::from_raw_os_error(111)));
    }
}
