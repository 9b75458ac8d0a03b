use std::path::Path;
use std::time::SystemTime;

use axum::routing::{get, post};
use hyper::client::conn;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A listener at work.
struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), IoError>>,
}

impl Running {
    fn start(tls: Option<&AdminTls>, limits: Limits) -> Self {
        let router = Router::new()
            .route(
                "/",
                get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
                    format!("hello {}", peer.ip())
                }),
            )
            .route("/echo", post(|body: String| async move { body }));
        let server = HttpServer::bind("test", LOCAL.into(), tls).unwrap().with_limits(limits);
        let addr = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(router, async move { drop(stopped.await) }));
        Self { addr, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

const CLOSING: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn serves_http_1_and_knows_the_client() {
    let running = Running::start(None, Limits::default());
    let text = answer(&mut running.connect().await, CLOSING).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.ends_with("\r\n\r\nhello 127.0.0.1"), "{text}");
    running.stop().await;
}

#[tokio::test]
async fn what_others_may_read_differently_is_refused_and_ends_the_connection() {
    let running = Running::start(None, Limits::default());
    for (head, status) in [
        ("GET / HTTP/1.1\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", "400"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n", "501"),
        (
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
             Transfer-Encoding: chunked\r\n",
            "501",
        ),
    ] {
        let requests = format!("{head}\r\n{CLOSING}");
        let text = answer(&mut running.connect().await, &requests).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {text}");
        assert!(text.contains("error_msg") && !text.contains("hello"), "{head}: {text}");
    }
    let old = answer(&mut running.connect().await, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
    running.stop().await;
}

#[tokio::test]
async fn serves_http_2_in_plain() {
    let running = Running::start(None, Limits::default());
    let stream = TokioIo::new(running.connect().await);
    let (mut client, connection) =
        conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder().uri("http://a/").body(Body::empty()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    drop(client);
    connection.await.unwrap().unwrap();
    running.stop().await;
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_setting() {
    let first = HttpServer::bind("a", LOCAL.into(), None).unwrap();
    let error = HttpServer::bind("apisix.control", first.local_addr(), None).unwrap_err();
    let text = error.to_string();
    let begin = format!("apisix.control: cannot listen on {}: ", first.local_addr());
    assert!(text.starts_with(&begin), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_let_go() {
    let running = Running::start(None, Limits::default());
    for sent in
        ["", "P", "GET / HTT", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"]
    {
        let mut stream = running.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // Ends: with an answer or without one.
        let _ = stream.read_to_end(&mut rest).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let running = Running::start(None, Limits { connections: 1, ..Limits::default() });
    let mut first = running.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    first.read_u8().await.unwrap();
    let mut second = running.connect().await;
    second.write_all(CLOSING.as_bytes()).await.unwrap();
    // The server runs on this thread: it has every chance to answer the second one first.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut byte = [0];
    let early = second.try_read(&mut byte).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "answered beyond the limit");
    drop(first);
    assert!(answer(&mut second, "").await.starts_with("HTTP/1.1 200"));
    running.stop().await;
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_closes_idle_connections() {
    let running = Running::start(None, Limits::default());
    let mut idle = running.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    idle.read_u8().await.unwrap();
    let mut busy = running.connect().await;
    busy.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1").await.unwrap();
    // Taken by the server before it stops: connections are accepted in order.
    let mut last = running.connect().await;
    assert!(answer(&mut last, CLOSING).await.contains(" 200 "));
    running.stop.send(()).unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(answer(&mut busy, "2").await.ends_with("\r\n\r\n12"));
    running.task.await.unwrap().unwrap();
}

/// An authority and what it has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn sign(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a server's certificate for `name` into the files.
    fn write(&self, files: &AdminTls, name: &str) {
        let (certificate, key) = self.sign(name);
        write(&files.certificate.0, &certificate.pem());
        write(&files.certificate.1, &key.serialize_pem());
    }

    /// A client that trusts this authority.
    fn client(&self, identity: Option<(Certificate, KeyPair)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// Writes a file with a time of its own, so that a change within the clock's resolution is one.
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let random = u64::from(rand_byte()) + 1;
    file.set_modified(SystemTime::now() - Duration::from_secs(random)).unwrap();
}

fn rand_byte() -> u8 {
    let mut byte = [0];
    getrandom::fill(&mut byte).unwrap();
    byte[0]
}

fn files(directory: &Path) -> AdminTls {
    let certificate = (directory.join("cert.pem"), directory.join("key.pem"));
    AdminTls { certificate, client_authority: None }
}

async fn handshake(
    running: &Running,
    client: &TlsConnector,
    name: &'static str,
) -> Result<TlsStream<TcpStream>, IoError> {
    client.connect(ServerName::try_from(name).unwrap(), running.connect().await).await
}

#[tokio::test]
async fn tls_and_a_certificate_that_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, files) = (Authority::new(), files(directory.path()));
    authority.write(&files, "one.test");
    let mut tls = TlsFiles::open(&files).unwrap();
    let client = authority.client(None);
    let running = Running::start(Some(&files), Limits::default());
    let mut stream = handshake(&running, &client, "one.test").await.unwrap();
    assert!(answer(&mut stream, CLOSING).await.contains(" 200 "));
    running.stop().await;

    let first = Arc::clone(&tls.config);
    tls.refresh();
    assert!(Arc::ptr_eq(&first, &tls.config), "nothing has changed");
    write(&files.certificate.0, "rubbish");
    tls.refresh();
    assert!(Arc::ptr_eq(&first, &tls.config), "unusable files leave what is in use");
    authority.write(&files, "two.test");
    tls.refresh();
    assert!(!Arc::ptr_eq(&first, &tls.config));
    let running = Running::start(Some(&files), Limits::default());
    assert!(handshake(&running, &client, "one.test").await.is_err());
    handshake(&running, &client, "two.test").await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn mutual_tls_needs_a_certificate_of_the_authority() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut files = files(directory.path());
    authority.write(&files, "a.test");
    let path = directory.path().join("ca.pem");
    write(&path, &authority.issuer.pem());
    files.client_authority = Some(path);
    let running = Running::start(Some(&files), Limits::default());
    let client = authority.client(Some(authority.sign("client")));
    let mut stream = handshake(&running, &client, "a.test").await.unwrap();
    assert!(answer(&mut stream, CLOSING).await.contains(" 200 "));
    for identity in [None, Some(stranger.sign("client"))] {
        let client = authority.client(identity);
        // In TLS 1.3 the client learns of the refusal with its first read.
        let refused = match handshake(&running, &client, "a.test").await {
            Err(_) => true,
            Ok(mut stream) => {
                let _ = stream.write_all(CLOSING.as_bytes()).await;
                stream.read_u8().await.is_err()
            }
        };
        assert!(refused);
    }
    running.stop().await;
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let missing = TlsFiles::open(&files).unwrap_err().to_string();
    assert!(missing.contains("cert.pem"), "{missing}");
    let authority = Authority::new();
    authority.write(&files, "a");
    write(&files.certificate.0, "");
    let empty = TlsFiles::open(&files).unwrap_err();
    assert!(matches!(empty, TlsError::NoCertificate(_)), "{empty}");
    let (other, _) = authority.sign("a");
    write(&files.certificate.0, &other.pem());
    let mismatch = TlsFiles::open(&files).unwrap_err();
    assert!(matches!(mismatch, TlsError::Certificate { .. }), "{mismatch}");
}
