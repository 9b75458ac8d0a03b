//! What lies between the kernel's connection and the requests on it.
//!
//! A connection is plain, or under TLS, or a stream on one of HTTP/2. The choice is made per
//! connection and looked at once per operation, so that the life of a request is written, and
//! compiled, once.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;

use super::tls::handshake::{self, Choice, HandshakeError};
use super::tls::{Parked, TlsRx, TlsTx};
use super::{Conn, Done, Net, Rx, Transport, Tx};
use crate::buf::Buf;
use crate::http2::stream::{StreamRx, StreamTx};

/// Connections of `N`, with layers above them.
#[derive(Debug, Default, Clone)]
pub struct Stack<N>(pub N);

/// Receiving half.
pub enum StackRx<N: Net> {
    /// As the network has it.
    Plain(N::Rx),
    /// Under TLS.
    Tls(TlsRx<N>),
    /// One of the streams on a connection.
    Stream(StreamRx),
}

/// Sending half.
pub enum StackTx<N: Net> {
    /// As the network has it.
    Plain(N::Tx),
    /// Under TLS.
    Tls(TlsTx<N>),
    /// One of the streams on a connection.
    Stream(StreamTx),
}

impl<N: Net> Stack<N> {
    /// A connection without layers.
    pub fn plain(conn: Conn<N>) -> Conn<Self> {
        Conn { rx: StackRx::Plain(conn.rx), tx: StackTx::Plain(conn.tx) }
    }

    fn raw(conn: Conn<Self>) -> Option<Conn<N>> {
        match (conn.rx, conn.tx) {
            (StackRx::Plain(rx), StackTx::Plain(tx)) => Some(Conn { rx, tx }),
            _ => None,
        }
    }
}

impl<N: Net> Net for Stack<N> {
    type Rx = StackRx<N>;
    type Tx = StackTx<N>;

    async fn connect(&self, addr: SocketAddr) -> io::Result<Conn<Self>> {
        self.0.connect(addr).await.map(Self::plain)
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<Conn<Self>> {
        self.0.connect_unix(path).await.map(Self::plain)
    }

    fn park(conn: Conn<Self>) -> impl Future<Output = io::Result<Conn<Self>>> + 'static {
        let (layer, raw) = match (conn.rx, conn.tx) {
            (StackRx::Plain(rx), StackTx::Plain(tx)) => (None, Some(Conn { rx, tx })),
            (StackRx::Tls(rx), StackTx::Tls(tx)) => {
                let (layer, raw) = Parked::new(rx, tx).unzip();
                (layer.map(Box::new), raw)
            }
            _ => (None, None),
        };
        // A pointer to it is all that is kept in this future, which has it twice.
        let parked = raw.map(|raw| Box::pin(N::park(raw)));
        async move {
            let Some(parked) = parked else { return Err(io::ErrorKind::NotConnected.into()) };
            let raw = parked.await?;
            Ok(match layer {
                None => Self::plain(raw),
                Some(layer) => {
                    let (rx, tx) = layer.resume(raw);
                    Conn { rx: StackRx::Tls(rx), tx: StackTx::Tls(tx) }
                }
            })
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task);
    }
}

impl<N: Net> Transport for Stack<N> {
    async fn secure<T>(
        conn: Conn<Self>,
        received: Buf,
        choose: impl FnOnce(Option<&str>) -> Result<Choice<T>, HandshakeError>,
    ) -> Result<(Conn<Self>, T), HandshakeError> {
        let raw = Self::raw(conn).ok_or_else(layered)?;
        let (rx, tx, of) = handshake::accept(raw, received, choose).await?;
        Ok((Conn { rx: StackRx::Tls(rx), tx: StackTx::Tls(tx) }, of))
    }

    async fn secure_upstream(
        conn: Conn<Self>,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> Result<Conn<Self>, HandshakeError> {
        let raw = Self::raw(conn).ok_or_else(layered)?;
        let (rx, tx) = handshake::connect(raw, config, name).await?;
        Ok(Conn { rx: StackRx::Tls(rx), tx: StackTx::Tls(tx) })
    }

    fn stream(rx: StreamRx, tx: StreamTx) -> Conn<Self> {
        Conn { rx: StackRx::Stream(rx), tx: StackTx::Stream(tx) }
    }

    fn tls(conn: &Conn<Self>) -> Option<std::cell::Ref<'_, rustls::CommonState>> {
        match &conn.rx {
            StackRx::Tls(rx) => Some(rx.common()),
            StackRx::Plain(_) | StackRx::Stream(_) => None,
        }
    }
}

fn layered() -> HandshakeError {
    io::Error::other("TLS within TLS").into()
}

/// Calls `$method` on whichever half there is.
macro_rules! half {
    ($half:expr, $kind:ident, $it:ident => $call:expr) => {
        match $half {
            $kind::Plain($it) => $call,
            $kind::Tls($it) => $call,
            $kind::Stream($it) => $call,
        }
    };
}

impl<N: Net> Rx for StackRx<N> {
    #[inline]
    fn start(&mut self, buf: Buf, cancelable: bool) {
        half!(self, StackRx, rx => rx.start(buf, cancelable));
    }

    #[inline]
    fn is_armed(&self) -> bool {
        half!(self, StackRx, rx => rx.is_armed())
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done<usize>> {
        half!(self, StackRx, rx => rx.poll(cx))
    }

    #[inline]
    fn is_cancelable(&self) -> bool {
        half!(self, StackRx, rx => rx.is_cancelable())
    }

    fn cancel(&mut self) {
        half!(self, StackRx, rx => rx.cancel());
    }
}

impl<N: Net> Tx for StackTx<N> {
    #[inline]
    fn start(&mut self, buf: Buf) {
        half!(self, StackTx, tx => tx.start(buf));
    }

    #[inline]
    fn is_busy(&self) -> bool {
        half!(self, StackTx, tx => tx.is_busy())
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        half!(self, StackTx, tx => tx.poll(cx))
    }

    fn sent(&self) -> u64 {
        half!(self, StackTx, tx => tx.sent())
    }

    fn reset(&mut self) {
        half!(self, StackTx, tx => tx.reset());
    }

    fn shutdown(&mut self) {
        half!(self, StackTx, tx => tx.shutdown());
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        half!(self, StackTx, tx => tx.local_addr())
    }

    fn send_last(&mut self, bytes: &[u8]) {
        half!(self, StackTx, tx => tx.send_last(bytes));
    }
}
