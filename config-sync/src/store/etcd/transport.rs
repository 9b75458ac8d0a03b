//! The transport below etcd's generated clients: HTTP/2, on which a request leaves in one piece.
//!
//! tonic's own hands head, message and end of a request to its connection one after the other, and
//! each is a write, a packet and a turn of the event loop of its own. etcd begins when it has the
//! end. Here all three are there before the connection is asked to write.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{Request, Response, Uri, request};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use hyper::body::{Body, Frame};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::ConnectError;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service};

use super::link::deepest;

/// Bytes that etcd may send of one answer, and of all together, before they are taken: a page of
/// many keys is not held up (`load::PAGE_BYTES`).
const WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;

/// As tonic's generated clients take it.
pub(super) type Channel =
    BoxCloneSyncService<Request<tonic::body::Body>, Response<tonic::body::Body>, BoxError>;

/// One member.
pub(super) struct Member {
    host: String,
    port: u16,
    authority: Authority,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Member {
    /// `tls` and the name that the certificate has to be for (by default that of the URL) for a URL
    /// with `https`. The error says what is wrong with the URL.
    pub(super) fn new(
        uri: &Uri,
        tls: Option<(Arc<ClientConfig>, Option<String>)>,
    ) -> Result<Self, String> {
        let authority = uri.authority().ok_or("there is no host in it")?.clone();
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let named = |(config, name): (_, Option<String>)| {
            let name = name.unwrap_or_else(|| host.clone());
            ServerName::try_from(name).map(|name| (config, name)).map_err(|e| e.to_string())
        };
        let tls = tls.map(named).transpose()?;
        Ok(Self { host, port, authority, tls })
    }

    /// Connects; the connection ends with the last clone of what is returned. TCP itself notices
    /// when nothing comes from an idle member any more: it asks that often.
    pub(super) async fn connect(&self, keepalive: Duration) -> Result<Channel, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .and_then(|stream| prepare(&stream, keepalive).map(|()| stream))
            .map_err(|error| error.to_string())?;
        let Some((config, name)) = &self.tls else {
            return self.greet(stream, Scheme::HTTP).await;
        };
        let stream = TlsConnector::from(Arc::clone(config))
            .connect(name.clone(), stream)
            .await
            .map_err(|error| error.to_string())?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("there is no HTTP/2 (ALPN h2)".to_owned());
        }
        self.greet(stream, Scheme::HTTPS).await
    }

    async fn greet<S>(&self, stream: S, scheme: Scheme) -> Result<Channel, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|error| deepest(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("etcd: a connection has ended: {error}");
            }
        });
        Ok(Channel::new(Transport { sender, scheme, authority: self.authority.clone() }))
    }
}

fn prepare(stream: &TcpStream, keepalive: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, keepalive)?;
    sockopt::set_tcp_keepintvl(stream, keepalive)?;
    sockopt::set_tcp_keepcnt(stream, 2)?;
    Ok(())
}

/// A connection that has been opened.
#[derive(Clone)]
struct Transport {
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    authority: Authority,
}

type Answer = Result<Response<tonic::body::Body>, BoxError>;

impl Service<Request<tonic::body::Body>> for Transport {
    type Response = Response<tonic::body::Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    /// Always: of what failed here the generated clients would keep the text only.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let (scheme, authority) = (self.scheme.clone(), self.authority.clone());
        Box::pin(exchange(self.sender.clone(), request, scheme, authority))
    }
}

async fn exchange(
    sender: SendRequest<Bytes>,
    request: Request<tonic::body::Body>,
    scheme: Scheme,
    authority: Authority,
) -> Answer {
    let (head, mut body) = request.into_parts();
    let head = addressed(head, scheme, authority).map_err(not_sent)?;
    // At once, unless the connection has ended or etcd limits its streams.
    let mut sender = sender.ready().await.map_err(not_sent)?;
    let (answer, mut stream) = sender.send_request(head, false).map_err(not_sent)?;
    let ended = send_ready(&mut stream, &mut body).await?;
    if !ended {
        tokio::spawn(send_rest(stream, body));
    }
    let (head, body) = answer.await?.into_parts();
    Ok(Response::from_parts(head, tonic::body::Body::new(Incoming { stream: body, ended: false })))
}

/// The generated clients leave out whom they speak with.
fn addressed(
    head: request::Parts,
    scheme: Scheme,
    authority: Authority,
) -> Result<Request<()>, axum::http::Error> {
    let path = head.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build()?;
    let mut request = Request::from_parts(head, ());
    *request.uri_mut() = uri;
    Ok(request)
}

/// Sends what is there of a request; whether that was all. A single message always is.
async fn send_ready(
    stream: &mut SendStream<Bytes>,
    body: &mut tonic::body::Body,
) -> Result<bool, BoxError> {
    let mut last = None;
    loop {
        let frame = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await;
        let ended = matches!(frame, Poll::Ready(None));
        // The end goes with the last part.
        if last.is_some() || ended {
            stream.send_data(last.take().unwrap_or_default(), ended)?;
        }
        match frame {
            Poll::Ready(Some(frame)) => last = frame?.into_data().ok(),
            Poll::Ready(None) => return Ok(true),
            Poll::Pending => return Ok(false),
        }
    }
}

/// Sends what comes later: the watch asks for its progress. Small messages, so that etcd's windows
/// are not waited for.
async fn send_rest(mut stream: SendStream<Bytes>, mut body: tonic::body::Body) {
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.into_data() else { continue };
        if stream.send_data(data, false).is_err() {
            return; // who waits for the answer is told
        }
    }
    let _ = stream.send_data(Bytes::new(), true);
}

/// What tells `link::Failure` that etcd has seen nothing of it.
fn not_sent(error: impl Into<BoxError>) -> BoxError {
    Box::new(ConnectError(error.into()))
}

/// The body of an answer.
struct Incoming {
    stream: RecvStream,
    ended: bool,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(data) = ready!(self.stream.poll_data(cx)) {
            let taken = data.and_then(|data| {
                self.stream.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            });
            return Poll::Ready(Some(taken));
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.ended = true;
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::HeaderMap;
    use h2::server;
    use tokio::io::{DuplexStream, ReadBuf, duplex};
    use tokio::sync::mpsc;
    use tower::ServiceExt as _;

    use super::*;

    /// A stream that counts how often it is written to.
    struct Counting {
        stream: DuplexStream,
        writes: Arc<AtomicUsize>,
    }

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.stream).poll_write(cx, data)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    fn member() -> Member {
        Member::new(&Uri::from_static("http://etcd.test:2379"), None).unwrap()
    }

    /// A channel to a server that answers each request with what it was sent, and how often the
    /// channel has written.
    async fn echoing() -> (Channel, Arc<AtomicUsize>) {
        let (client, server) = duplex(1 << 20);
        tokio::spawn(async move {
            let mut connection = server::handshake(server).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(echo(request, respond));
            }
        });
        let writes = Arc::new(AtomicUsize::new(0));
        let counting = Counting { stream: client, writes: Arc::clone(&writes) };
        (member().greet(counting, Scheme::HTTP).await.unwrap(), writes)
    }

    async fn echo(request: Request<RecvStream>, mut respond: server::SendResponse<Bytes>) {
        let uri = request.uri().to_string();
        let response = Response::builder().header("asked", uri).body(()).unwrap();
        let mut answer = respond.send_response(response, false).unwrap();
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            answer.send_data(data.unwrap(), false).unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        answer.send_trailers(trailers).unwrap();
    }

    fn request<B>(body: B) -> Request<tonic::body::Body>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let body = tonic::body::Body::new(body);
        Request::post("/etcdserverpb.KV/Txn").body(body).unwrap()
    }

    /// A body of what comes through a channel.
    struct Parts(mpsc::UnboundedReceiver<&'static str>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let part = ready!(self.0.poll_recv(cx));
            Poll::Ready(part.map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
        }
    }

    fn parts() -> (mpsc::UnboundedSender<&'static str>, Parts) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Parts(receiver))
    }

    async fn next(body: &mut tonic::body::Body) -> Option<Frame<Bytes>> {
        poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.map(Result::unwrap)
    }

    /// All of an answer, and whether it ended with etcd's status.
    async fn whole(mut body: tonic::body::Body) -> (Vec<u8>, bool) {
        let (mut data, mut status) = (Vec::new(), false);
        while let Some(frame) = next(&mut body).await {
            match frame.into_data() {
                Ok(more) => data.extend_from_slice(&more),
                Err(frame) => status = frame.trailers_ref().unwrap()["grpc-status"] == "0",
            }
        }
        (data, status)
    }

    #[tokio::test]
    async fn a_request_is_one_write() {
        let (channel, writes) = echoing().await;
        for round in 0..3 {
            // What both sides say about themselves at first has been written.
            let before = writes.load(Ordering::Relaxed);
            let (sender, body) = parts();
            sender.send("one").unwrap();
            sender.send(" and two").unwrap();
            drop(sender);
            let answer = channel.clone().oneshot(request(body)).await.unwrap();
            let written = writes.load(Ordering::Relaxed) - before;
            assert_eq!(answer.headers()["asked"], "http://etcd.test:2379/etcdserverpb.KV/Txn");
            assert_eq!(whole(answer.into_body()).await, (b"one and two".to_vec(), true));
            assert!(round == 0 || written == 1, "{written} writes");
        }
    }

    #[tokio::test]
    async fn an_empty_request_ends_as_well() {
        let (channel, _) = echoing().await;
        let (sender, body) = parts();
        drop(sender);
        let answer = channel.oneshot(request(body)).await.unwrap();
        assert_eq!(whole(answer.into_body()).await, (Vec::new(), true));
    }

    #[tokio::test]
    async fn what_comes_later_is_sent_later() {
        let (channel, _) = echoing().await;
        let (sender, body) = parts();
        sender.send("create").unwrap();
        let mut answer = channel.oneshot(request(body)).await.unwrap().into_body();
        assert_eq!(next(&mut answer).await.unwrap().into_data().unwrap(), "create");
        sender.send("progress").unwrap();
        assert_eq!(next(&mut answer).await.unwrap().into_data().unwrap(), "progress");
        drop(sender);
        assert_eq!(whole(answer).await, (Vec::new(), true));
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_sends_nothing() {
        let (client, server) = duplex(1 << 16);
        let channel = member().greet(client, Scheme::HTTP).await.unwrap();
        drop(server);
        // The connection learns it with its next turn.
        let end = async {
            loop {
                let (sender, body) = parts();
                drop(sender);
                let Err(error) = channel.clone().oneshot(request(body)).await else { continue };
                if error.is::<ConnectError>() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), end).await.unwrap();
    }

    #[test]
    fn members_are_urls() {
        let member = |url: &str| Member::new(&url.parse().unwrap(), None);
        let ipv6 = member("http://[::1]:2379").unwrap();
        assert_eq!((ipv6.host.as_str(), ipv6.port), ("::1", 2379));
        assert_eq!(member("http://etcd.test").unwrap().port, 80);
        assert!(member("/only/a/path").is_err());
    }
}
