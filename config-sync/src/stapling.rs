//! OCSP stapling: responders are asked from the sync thread, and answers go into certificates.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ahash::HashMap;
use axum::body::{Body, to_bytes};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use osmia_core::tls::Question;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::pki_types::CertificateDer;

/// How long a responder may take.
const ANSWER: Duration = Duration::from_secs(10);
/// When a responder that has failed is asked again.
const RETRY: Duration = Duration::from_mins(1);
/// Longest response that is read, in bytes.
const LONGEST: usize = 64 << 10;
/// Most responders that are asked at once.
const AT_ONCE: usize = 16;

/// What is to be asked about a certificate, again and again.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The question.
    pub question: Question,
    /// Whether answers are verified.
    pub verify: bool,
    /// How long an answer is used.
    pub ttl: Duration,
}

/// What is to be stapled to a certificate of the resource `id` from now on; `None`: nothing.
#[derive(Debug)]
pub struct Staple {
    /// Id of the `ssls` resource.
    pub id: Arc<str>,
    /// The certificate.
    pub leaf: CertificateDer<'static>,
    /// The response, in DER.
    pub response: Option<Vec<u8>>,
}

/// Asks responders for all certificates that want it; one task for each certificate.
#[derive(Debug)]
pub(crate) struct Stapler {
    tasks: HashMap<Arc<str>, Vec<AbortHandle>>,
    free: Arc<Semaphore>,
    sender: mpsc::UnboundedSender<Staple>,
    answers: mpsc::UnboundedReceiver<Staple>,
}

impl Stapler {
    pub(crate) fn new() -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        let free = Arc::new(Semaphore::new(AT_ONCE));
        Self { tasks: HashMap::default(), free, sender, answers }
    }

    /// From now on asks this about the certificates of these resources.
    pub(crate) fn follow(&mut self, changes: Vec<(Arc<str>, Vec<Wanted>)>) {
        for (id, wanted) in changes {
            for task in self.tasks.remove(&id).into_iter().flatten() {
                task.abort();
            }
            let tasks = wanted.into_iter().map(|wanted| {
                let (free, sender) = (Arc::clone(&self.free), self.sender.clone());
                tokio::spawn(keep(Arc::clone(&id), wanted, free, sender)).abort_handle()
            });
            let tasks: Vec<_> = tasks.collect();
            if !tasks.is_empty() {
                self.tasks.insert(id, tasks);
            }
        }
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Staple {
        match self.answers.recv().await {
            Some(staple) => staple,
            // Not while `sender` is there.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Stapler {
    fn drop(&mut self) {
        self.tasks.values().flatten().for_each(AbortHandle::abort);
    }
}

/// Asks about one certificate for as long as somebody wants to know.
async fn keep(
    id: Arc<str>,
    wanted: Wanted,
    free: Arc<Semaphore>,
    sender: mpsc::UnboundedSender<Staple>,
) {
    loop {
        let permit = free.acquire().await;
        let asked = timeout(ANSWER, ask(&wanted)).await;
        drop(permit);
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")));
        let pause = if asked.is_ok() { wanted.ttl } else { RETRY };
        if let Err(reason) = &asked {
            let url = &*wanted.question.url;
            tracing::warn!(ssl = &*id, url, "no OCSP response is stapled: {reason}");
        }
        let (id, leaf) = (Arc::clone(&id), wanted.question.leaf.clone());
        if sender.send(Staple { id, leaf, response: asked.ok() }).is_err() {
            return;
        }
        sleep(pause).await;
    }
}

/// A response that may be stapled.
async fn ask(wanted: &Wanted) -> Result<Vec<u8>, String> {
    let response = post(&wanted.question.url, &wanted.question.request).await?;
    if wanted.verify {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        wanted.question.check(&response, now)?;
    }
    Ok(response)
}

/// Sends a request to a responder (RFC 6960, appendix A.1).
async fn post(url: &str, request: &[u8]) -> Result<Vec<u8>, String> {
    let url: Uri = url.parse().map_err(|_| format!("{url} is no URL"))?;
    let host = url.host().ok_or_else(|| format!("{url} names no host"))?;
    let port = url.port_u16().unwrap_or(80);
    // An IPv6 address is in brackets.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let failed = |error: hyper::Error| error.to_string();
    let stream = TcpStream::connect((name, port)).await.map_err(|error| error.to_string())?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let host = url.authority().map_or(host, |authority| authority.as_str());
    let request = Request::post(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/ocsp-request")
        .body(Body::from(request.to_vec()))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = client.send_request(request).await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(format!("the responder answers with {}", response.status()));
        }
        let body = to_bytes(Body::new(response.into_body()), LONGEST).await;
        let body = body.map_err(|error| error.to_string())?;
        if body.is_empty() { Err("the response is empty".to_owned()) } else { Ok(body.to_vec()) }
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // It may end as soon as all of the response is there.
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A question whose responder is `url`.
    fn question(url: &str) -> Question {
        let mut params = CertificateParams::new(vec!["ca".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
        let mut entry = vec![6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, url.len() as u8];
        entry.extend_from_slice(url.as_bytes());
        let mut access = vec![0x30, entry.len() as u8 + 2, 0x30, entry.len() as u8];
        access.append(&mut entry);
        let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
        params.custom_extensions.push(CustomExtension::from_oid_content(&oid, access));
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap();
        Question::about(&[leaf.der().clone(), ca.der().clone()]).unwrap()
    }

    /// Answers each connection's request with the next of these; the requests.
    async fn responder(answers: Vec<&'static str>) -> (String, mpsc::UnboundedReceiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ocsp", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                let is_whole = |request: &[u8]| {
                    let text = String::from_utf8_lossy(request).to_lowercase();
                    let head = request.windows(4).position(|four| four == b"\r\n\r\n");
                    let length = text.split("content-length: ").nth(1);
                    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
                    head.zip(length)
                        .is_some_and(|(head, n): (_, usize)| request.len() >= head + 4 + n)
                };
                while !is_whole(&request) {
                    stream.read_buf(&mut request).await.unwrap();
                }
                sender.send(request).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, requests)
    }

    fn wanted(url: &str, verify: bool) -> Wanted {
        Wanted { question: question(url), verify, ttl: Duration::from_hours(1) }
    }

    #[tokio::test]
    async fn an_answer_is_handed_over_and_asked_for_again() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nder";
        let (url, mut requests) = responder(vec![ok, ok]).await;
        let mut stapler = Stapler::new();
        let wanted = wanted(&url, false);
        let mut shorter = wanted.clone();
        shorter.ttl = Duration::from_millis(1);
        stapler.follow(vec![("1".into(), vec![shorter])]);
        for _ in 0..2 {
            let staple = stapler.answer().await;
            assert_eq!((&*staple.id, staple.response.as_deref()), ("1", Some(&b"der"[..])));
            assert_eq!(staple.leaf, wanted.question.leaf);
            let request = requests.recv().await.unwrap();
            let text = String::from_utf8_lossy(&request);
            assert!(text.starts_with("POST /ocsp HTTP/1.1\r\n"), "{text}");
            assert!(text.contains("content-type: application/ocsp-request\r\n"), "{text}");
            assert!(request.ends_with(&wanted.question.request));
        }
        stapler.follow(vec![("1".into(), vec![])]);
        assert!(stapler.tasks.is_empty());
    }

    #[tokio::test]
    async fn what_fails_is_not_stapled() {
        let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let wrong = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nder";
        let error = "HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nder";
        for (answer, reason) in
            [(empty, "empty"), (wrong, "malformed response"), (error, "500"), ("", "connection")]
        {
            let (url, _requests) = responder(vec![answer]).await;
            let found = ask(&wanted(&url, true)).await.unwrap_err();
            assert!(found.contains(reason), "{found}");
            let mut stapler = Stapler::new();
            // Nobody listens there any more.
            stapler.follow(vec![("1".into(), vec![wanted(&url, true)])]);
            assert_eq!(stapler.answer().await.response, None);
        }
    }
}
