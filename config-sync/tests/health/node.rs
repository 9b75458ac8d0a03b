//! Nodes that answer as a test wants, die and come back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::PATIENCE;

/// How a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With a status, and by closing.
    Status(u16),
    /// With 200, to all requests on a connection.
    Kept,
    /// Not at all; the connection stays open.
    Silence,
    /// With something that is not HTTP.
    Junk,
    /// By closing.
    Close,
}

/// A node on a port of its own.
#[derive(Debug)]
pub struct Node {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    /// Heads of requests.
    requests: Receiver<String>,
    sender: Sender<String>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<Answer>,
    stop: AtomicBool,
    connections: AtomicUsize,
    tls: Option<Arc<ServerConfig>>,
    /// Connections that are kept open.
    open: Mutex<Vec<TcpStream>>,
}

/// A certificate that nobody vouches for, for these names; the server's side, and its PEM.
pub fn self_signed(names: &[&str]) -> (Arc<ServerConfig>, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), cert.pem())
}

impl Node {
    /// A node that answers with 200.
    pub fn new() -> Self {
        Self::with(None)
    }

    /// A node that speaks TLS.
    pub fn with(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (sender, requests) = channel();
        let shared = Arc::new(Shared {
            answer: Mutex::new(Answer::Status(200)),
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            tls,
            open: Mutex::default(),
        });
        let addr = listener.local_addr().unwrap();
        let mut node = Self { addr, shared, requests, sender, thread: None };
        node.serve(listener);
        node
    }

    pub fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The head of the next request.
    pub fn request(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("a request in time")
    }

    /// Forgets requests that came before, and waits for one that did not.
    pub fn next_request(&self) -> String {
        while self.requests.try_recv().is_ok() {}
        self.request()
    }

    /// Connections are refused from now on.
    pub fn die(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread.
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Connections are accepted again.
    pub fn revive(&mut self) {
        self.shared.stop.store(false, Ordering::SeqCst);
        self.serve(TcpListener::bind(self.addr).unwrap());
    }

    fn serve(&mut self, listener: TcpListener) {
        let (shared, requests) = (Arc::clone(&self.shared), self.sender.clone());
        self.thread = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    let (shared, requests) = (Arc::clone(&shared), requests.clone());
                    std::thread::spawn(move || shared.take(stream, &requests));
                }
            }
        }));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.die();
        }
    }
}

impl Shared {
    /// Serves one connection. What goes wrong is the other side's business.
    fn take(&self, stream: TcpStream, requests: &Sender<String>) {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let Ok(kept) = stream.try_clone() else { return };
        let reset = match &self.tls {
            None => self.talk(stream, requests),
            Some(config) => {
                let Ok(session) = ServerConnection::new(Arc::clone(config)) else { return };
                self.talk(StreamOwned::new(session, stream), requests)
            }
        };
        match reset {
            Some(Answer::Silence) => self.open.lock().unwrap().push(kept),
            _ => {
                let _ = kept.shutdown(Shutdown::Both);
            }
        }
    }

    fn talk(&self, mut stream: impl Read + Write, requests: &Sender<String>) -> Option<Answer> {
        loop {
            let answer = self.talk_once(&mut stream, requests)?;
            if answer != Answer::Kept {
                return Some(answer);
            }
        }
    }

    fn talk_once(
        &self,
        stream: &mut (impl Read + Write),
        requests: &Sender<String>,
    ) -> Option<Answer> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            // A probe that only connects sends nothing.
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => break,
            }
        }
        let answer = *self.answer.lock().unwrap();
        if answer == Answer::Kept && head.is_empty() {
            return None;
        }
        let _ = requests.send(String::from_utf8_lossy(&head).into_owned());
        let text = match answer {
            Answer::Status(status) => {
                format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            }
            Answer::Kept => "HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok".to_owned(),
            Answer::Junk => "SSH-2.0-OpenSSH_9.7\r\n".to_owned(),
            Answer::Silence | Answer::Close => String::new(),
        };
        stream.write_all(text.as_bytes()).ok()?;
        stream.flush().ok()?;
        Some(answer)
    }
}
