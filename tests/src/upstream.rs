//! An upstream node.
//!
//! [`Upstream::new`] is played by the test itself: it accepts a connection when the gateway should
//! have made one, reads, answers. [`Upstream::serving`] runs a function per connection, for tests
//! with many.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::FAILSAFE;
use crate::wire::{Message, Wire};

/// A connection from the gateway.
#[derive(Debug)]
pub struct Peer(Wire);

impl Peer {
    /// Sends a response with `body`.
    #[track_caller]
    pub fn answer(&mut self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send([head.as_bytes(), body].concat());
    }

    /// Reads a request and answers it with `body`.
    #[track_caller]
    pub fn serve_one(&mut self, body: impl AsRef<[u8]>) -> Message {
        let request = self.request();
        self.answer(body);
        request
    }

    /// Answers every request with `body`, until the gateway closes the connection.
    pub fn serve_all(&mut self, body: impl AsRef<[u8]>) {
        while self.request_or_end().is_some() {
            self.answer(&body);
        }
    }
}

impl Deref for Peer {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.0
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.0
    }
}

impl From<Peer> for Wire {
    fn from(peer: Peer) -> Self {
        peer.0
    }
}

/// A node that listens.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
    server: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self::new()
    }
}

impl Upstream {
    /// A node whose connections the test accepts.
    pub fn new() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into())
    }

    /// A node on a port of `ip`.
    pub fn on(ip: IpAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        Self { addr, listener, accepted: Arc::default(), server: None }
    }

    /// A node that runs `serve` for each connection, in a thread of its own. A panic in it is
    /// printed; the connection is closed then.
    pub fn serving(serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::serving_on(Ipv4Addr::LOCALHOST.into(), serve)
    }

    /// The same on a port of `ip`.
    pub fn serving_on(ip: IpAddr, serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let mut upstream = Self::on(ip);
        let listener = upstream.listener.try_clone().unwrap();
        let accepted = Arc::clone(&upstream.accepted);
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let serve = Arc::new(serve);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                accepted.fetch_add(1, Ordering::AcqRel);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(Peer(Wire::new(stream))));
            }
        });
        upstream.server = Some((stopped, thread));
        upstream
    }

    /// A node that answers every request with `body`.
    pub fn answering(body: &'static str) -> Self {
        Self::serving(move |mut peer| peer.serve_all(body))
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address as a key of `nodes`.
    pub fn node(&self) -> String {
        self.addr.to_string()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }

    /// The gateway's next connection.
    #[track_caller]
    pub fn accept(&self) -> Peer {
        assert!(self.server.is_none(), "its connections are served already");
        assert!(self.is_readable(FAILSAFE.as_millis() as libc::c_int), "no connection was made");
        let (stream, _) = self.listener.accept().unwrap();
        self.accepted.fetch_add(1, Ordering::AcqRel);
        Peer(Wire::new(stream))
    }

    /// Whether no connection is waiting to be accepted. No wait: of use where an earlier event says
    /// that it would have been made.
    pub fn is_untouched(&self) -> bool {
        !self.is_readable(0)
    }

    fn is_readable(&self, timeout_ms: libc::c_int) -> bool {
        let mut poll =
            libc::pollfd { fd: self.listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            // SAFETY: the pointer is to one `pollfd`, as the count says.
            let ready = unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
            if ready >= 0 {
                return ready > 0;
            }
            let error = std::io::Error::last_os_error();
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some((stopped, thread)) = self.server.take() {
            stopped.store(true, Ordering::Release);
            // Ends the wait for a connection.
            let _ = std::net::TcpStream::connect(self.addr);
            let _ = thread.join();
        }
    }
}
