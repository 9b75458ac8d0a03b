//! Byte transports as the request's life sees them.
//!
//! The pipeline in `crate::http` is written against these traits. [`tcp`] implements them on
//! monoio; [`sim`] on a virtual link and clock, so that a client, the gateway and an upstream can
//! be joined in a test without a socket.
//!
//! The shape follows completion-based I/O: at most one receive and one send per direction are
//! under way, each owns its buffer until it completes, and both are polled in place rather than
//! held as futures, so that a receive stays armed while something else is awaited. A receive is
//! never dropped while it may still deliver: bytes would be lost.

pub mod sim;
pub mod stack;
pub mod tcp;
pub mod tls;

use std::cell::Ref;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::{ClientConfig, CommonState};

use crate::buf::Buf;
use crate::http2::stream::{StreamRx, StreamTx};
use tls::handshake::{Choice, HandshakeError};

/// What workers run on: the kernel's connections, with layers above them.
pub type Kernel = stack::Stack<tcp::Tcp>;

/// What a worker needs from the outside.
pub trait Net: 'static {
    /// Receiving half of a connection.
    type Rx: Rx;
    /// Sending half of a connection.
    type Tx: Tx;

    /// Opens a connection.
    fn connect(&self, addr: SocketAddr) -> impl Future<Output = io::Result<Conn<Self>>>;

    /// Opens a connection to a Unix domain socket.
    fn connect_unix(&self, path: &Path) -> impl Future<Output = io::Result<Conn<Self>>> {
        let _ = path;
        async { Err(io::ErrorKind::Unsupported.into()) }
    }

    /// Waits until something can be received, holding no buffer meanwhile. Nothing may be under way
    /// in either direction.
    fn park(conn: Conn<Self>) -> impl Future<Output = io::Result<Conn<Self>>> + 'static;

    /// Runs `task` on this thread.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
}

/// A network on whose connections there may be layers.
pub trait Transport: Net {
    /// Shakes hands with a client of which `received` was received; see
    /// [`tls::handshake::accept`].
    fn secure<T>(
        conn: Conn<Self>,
        received: Buf,
        choose: impl FnOnce(Option<&str>) -> Result<Choice<T>, HandshakeError>,
    ) -> impl Future<Output = Result<(Conn<Self>, T), HandshakeError>>;

    /// Shakes hands with a node that has to be `name`.
    fn secure_upstream(
        conn: Conn<Self>,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> impl Future<Output = Result<Conn<Self>, HandshakeError>>;

    /// A stream of HTTP/2 as a connection.
    fn stream(rx: StreamRx, tx: StreamTx) -> Conn<Self>;

    /// What a connection's handshake has come to; `None`: it is not under TLS.
    fn tls(conn: &Conn<Self>) -> Option<Ref<'_, CommonState>>;
}

/// Both halves of a connection.
pub struct Conn<N: Net + ?Sized> {
    /// Receiving half.
    pub rx: N::Rx,
    /// Sending half.
    pub tx: N::Tx,
}

/// Receives behind what `buf` holds, with nothing beside it. The end of the stream is an error.
pub async fn receive<N: Net>(conn: &mut Conn<N>, buf: Buf) -> io::Result<Buf> {
    conn.rx.start(buf, false);
    let (result, buf) = poll_fn(|cx| conn.rx.poll(cx)).await;
    match result? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(buf),
    }
}

/// Outcome of an operation with the buffer it used.
pub type Done<T> = (io::Result<T>, Buf);

/// The receiving half of a connection.
pub trait Rx: Unpin + 'static {
    /// Begins to receive behind what `buf` holds. Nothing else may be under way.
    ///
    /// `cancelable`: [`park`](Self::park) may be called before it completes.
    fn start(&mut self, buf: Buf, cancelable: bool);

    /// Whether a receive is under way (or completed and not taken).
    fn is_armed(&self) -> bool;

    /// Takes the completed receive: the bytes received (0: end of stream) and the buffer.
    /// Pending for ever if none was started.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done<usize>>;

    /// Whether the armed receive can be cancelled without losing bytes.
    fn is_cancelable(&self) -> bool;

    /// Asks for the armed receive to be cancelled; it then completes soon, with bytes or with
    /// `ECANCELED`.
    fn cancel(&mut self);
}

/// The sending half of a connection.
pub trait Tx: Unpin + 'static {
    /// Begins to send all of `buf`. Nothing else may be under way.
    ///
    /// The caller's task is not woken by its completion until [`poll`](Self::poll) has been called
    /// with its waker; a send is usually done by the time the answer to it arrives.
    fn start(&mut self, buf: Buf);

    /// Whether a send is under way (or completed and not taken).
    fn is_busy(&self) -> bool;

    /// Completes when all is sent or sending failed; at once if nothing is under way.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Bytes that the transport has taken so far: tells a slow receiver from one that stands still.
    fn sent(&self) -> u64;

    /// The local address of the connection; `None`: it has none that is known.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Breaks the connection off, visibly as a failure.
    fn reset(&mut self);

    /// Ends the sending direction.
    fn shutdown(&mut self);

    /// Sends a few last bytes before the end, now or not at all.
    fn send_last(&mut self, bytes: &[u8]);
}
