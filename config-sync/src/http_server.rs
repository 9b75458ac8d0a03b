//! Listeners of the Admin, Control and status API: HTTP/1.1 and HTTP/2, plain or TLS, on the sync
//! thread's runtime.
//!
//! Nothing here is on the path of proxied requests. What a client can occupy is bounded: the number
//! of connections, the time for a handshake, a head and a body, and the time without any byte.

mod io;
mod tls;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::io::Error as IoError;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use osmia_core::settings::AdminTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use io::{Deadline, IdleLimit};
use tls::TlsFiles;

/// Bounds on what clients of one listener can occupy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For the head of a request; also how long a kept connection may wait for the next one.
    pub head: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// What requests that are under way are given when the listener stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(60),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(75),
            grace: Duration::from_secs(5),
        }
    }
}

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("{setting}: cannot listen on {addr}: {reason}")]
    Address {
        /// The setting that names the address.
        setting: &'static str,
        /// The address.
        addr: SocketAddr,
        /// Why.
        reason: IoError,
    },
    /// The certificate, its key or the client authority cannot be used.
    #[error("deployment.admin.admin_api_mtls: {0}")]
    Tls(#[from] TlsError),
}

pub use tls::TlsError;

/// A bound listener that does not serve yet.
#[derive(Debug)]
pub struct HttpServer {
    setting: &'static str,
    addr: SocketAddr,
    listener: StdListener,
    tls: Option<TlsFiles>,
    limits: Limits,
}

impl HttpServer {
    /// Binds `addr`, which `setting` names (`deployment.admin.admin_listen`), and reads the files
    /// of `tls`. Serving needs a tokio runtime, this does not.
    pub fn bind(
        setting: &'static str,
        addr: SocketAddr,
        tls: Option<&AdminTls>,
    ) -> Result<Self, BindError> {
        let tls = tls.map(TlsFiles::open).transpose()?;
        let bound = StdListener::bind(addr).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (addr, listener) =
            bound.map_err(|reason| BindError::Address { setting, addr, reason })?;
        Ok(Self { setting, addr, listener, tls, limits: Limits::default() })
    }

    /// Replaces the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The address, with the port that was given when port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves `router` until `stop` completes, then lets the requests that are under way finish for
    /// a moment. Handlers find the client's address in [`ConnectInfo<SocketAddr>`].
    ///
    /// Fails when the runtime cannot take the socket.
    pub async fn serve(
        self,
        router: Router,
        stop: impl Future<Output = ()>,
    ) -> Result<(), IoError> {
        let listener = TcpListener::from_std(self.listener)?;
        let (stopping, stopped) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let mut server = Server {
            setting: self.setting,
            tls: self.tls,
            limits: self.limits,
            router,
            slots: Arc::clone(&slots),
            stopped,
        };
        tracing::info!(addr = %self.addr, setting = self.setting, "listening");
        tokio::select! {
            () = server.accept(&listener) => {}
            () = stop => {}
        }
        drop(listener);
        // Nobody listens when no connection is open.
        let _ = stopping.send(true);
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        // Fails when connections are still open; they end with the runtime.
        let _ = tokio::time::timeout(self.limits.grace, slots.acquire_many(all)).await;
        Ok(())
    }
}

/// What the connections of a listener share.
struct Server {
    setting: &'static str,
    tls: Option<TlsFiles>,
    limits: Limits,
    router: Router,
    slots: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

impl Server {
    /// Accepts until dropped.
    async fn accept(&mut self, listener: &TcpListener) {
        // Long enough not to spin when descriptors have run out.
        const PAUSE: Duration = Duration::from_millis(250);
        loop {
            // Never closed.
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let connection = self.connection(stream, peer);
                    tokio::spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(setting = self.setting, "accepting a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn connection(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let acceptor = self.tls.as_mut().map(TlsFiles::acceptor);
        let (limits, router, stopped) = (self.limits, self.router.clone(), self.stopped.clone());
        let setting = self.setting;
        // Answers are small; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        async move {
            let outcome = match acceptor {
                None => exchange(stream, peer, router, limits, stopped).await,
                Some(acceptor) => {
                    match tokio::time::timeout(limits.handshake, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => exchange(stream, peer, router, limits, stopped).await,
                        Ok(Err(error)) => Err(error.into()),
                        Err(_) => Err("no TLS handshake in time".into()),
                    }
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(setting, %peer, "connection ended: {error}");
            }
        }
    }
}

/// The answer to a request that others on its way may read differently: not exactly one `Host`
/// (RFC 9112 section 3.2), or a transfer coding besides one `chunked` (section 6.1). The connection
/// ends with it, so that nothing behind it is taken for another request.
fn refused<B>(request: &Request<B>) -> Option<Response<Body>> {
    let headers = request.headers();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (coding, further) = (codings.next(), codings.next());
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let (status, reason) = if further.is_some() || !coding.is_none_or(is_chunked) {
        (StatusCode::NOT_IMPLEMENTED, "the only transfer coding is chunked, once")
    } else if request.version() == Version::HTTP_11
        && headers.get_all(header::HOST).iter().count() != 1
    {
        (StatusCode::BAD_REQUEST, "a request has exactly one Host header")
    } else {
        return None;
    };
    let body = format!("{{\"error_msg\":\"{reason}\"}}\n");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}

/// Serves one connection.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Box<dyn StdError + Send + Sync>> {
    const MAX_STREAMS: u32 = 64;
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| Body::new(Deadline::new(body, limits.body)));
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = router.clone();
        async move {
            if let Some(refusal) = refused(&request) {
                return Ok::<_, Infallible>(refusal);
            }
            router.oneshot(request).await
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(limits.head / 2);
    let stream = TokioIo::new(IdleLimit::new(stream, limits.idle));
    let mut connection = pin!(builder.serve_connection(stream, service));
    tokio::select! {
        outcome = connection.as_mut() => return outcome,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

#[cfg(test)]
mod tests;
