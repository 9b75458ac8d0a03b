//! An upstream of HTTP/1.1 that does what the path asks for, and remembers what it was asked.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::upstream::{Peer, Upstream};
use crate::wire::Message;
use crate::{FAILSAFE, eventually, pattern};

/// Paths: `/echo` returns the body; `/size/N` has N bytes of the pattern; `/chunked/N` the same in
/// chunks; `/status/N`; `/interim` has a 103 first; `/trailers` has trailers; `/hold` waits for
/// [`Origin::release`]; `/cut` ends within the body; `/slow` has its head and a byte, and the rest
/// after the release; all else answers "hello".
#[derive(Debug)]
pub struct Origin {
    /// The listener, for its address.
    pub upstream: Upstream,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Message>>,
    released: Mutex<bool>,
    gate: Condvar,
}

impl Default for Origin {
    fn default() -> Self {
        Self::new()
    }
}

impl Origin {
    /// A running one.
    pub fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let upstream = Upstream::serving(move |mut peer| {
            while let Some(request) = next(&mut peer, &theirs) {
                if !theirs.answer(&mut peer, &request) {
                    return;
                }
            }
        });
        Self { upstream, shared }
    }

    /// Requests so far. Those whose head has come, for `/hold` and `/slow`; whole ones otherwise.
    pub fn seen(&self) -> Vec<Message> {
        lock(&self.shared.seen).clone()
    }

    /// The only request for `target` so far.
    #[track_caller]
    pub fn only(&self, target: &str) -> Message {
        let mut seen = self.seen();
        seen.retain(|request| request.target() == target);
        assert_eq!(seen.len(), 1, "requests for {target}: {seen:?}");
        seen.remove(0)
    }

    /// Waits until `count` requests for `target` have come.
    #[track_caller]
    pub fn wait_for(&self, target: &str, count: usize) {
        eventually(&format!("{count} requests for {target}"), || {
            lock(&self.shared.seen).iter().filter(|seen| seen.target() == target).count() >= count
        });
    }

    /// Lets go what is held, now and later.
    pub fn release(&self) {
        *lock(&self.shared.released) = true;
        self.shared.gate.notify_all();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.release();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next request. The head of one is remembered before its body if it is to be held.
fn next(peer: &mut Peer, shared: &Shared) -> Option<Message> {
    let request = peer.request_or_end()?;
    lock(&shared.seen).push(request.clone());
    Some(request)
}

impl Shared {
    fn hold(&self) {
        let released = lock(&self.released);
        let waited = self.gate.wait_timeout_while(released, FAILSAFE, |released| !*released);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the connection goes on. Writing fails when the gateway has gone, which is its right.
    fn answer(&self, peer: &mut Peer, request: &Message) -> bool {
        let is_head = request.method() == "HEAD";
        let (path, number) = split(request.target());
        let sent = match path {
            "/echo" => whole(peer, 200, &request.body, is_head),
            "/size" => sized(peer, number, is_head),
            "/chunked" => chunked(peer, number),
            "/status" => {
                let bodiless = matches!(number, 204 | 304);
                let status = format!("HTTP/1.1 {number} X\r\n");
                let length = if bodiless { "" } else { "Content-Length: 0\r\n" };
                peer.try_send(status + length + "\r\n")
            }
            "/interim" => peer
                .try_send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
                .and_then(|()| whole(peer, 200, b"final", is_head)),
            "/trailers" => peer.try_send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                 4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n",
            ),
            "/hold" => {
                self.hold();
                whole(peer, 200, b"held", is_head)
            }
            "/slow" => {
                let sent = peer.try_send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ns");
                self.hold();
                sent.and_then(|()| peer.try_send("lowness"))
            }
            "/cut" => {
                let _ = peer.try_send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
                return false;
            }
            "/hop" => peer.try_send(
                "HTTP/1.1 200 OK\r\nConnection: x-private\r\nX-Private: 1\r\nKeep-Alive: \
                 timeout=9\r\nContent-Length: 2\r\nX-Kept: 1\r\n\r\nhi",
            ),
            _ => whole(peer, 200, b"hello", is_head),
        };
        sent.is_ok()
    }
}

/// The path up to a last segment that is a number, and the number.
fn split(target: &str) -> (&str, usize) {
    let path = target.split('?').next().unwrap_or_default();
    match path.rsplit_once('/') {
        Some((first, last)) if !first.is_empty() => (first, last.parse().unwrap_or(0)),
        _ => (path, 0),
    }
}

fn whole(peer: &mut Peer, status: u16, body: &[u8], is_head: bool) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
    let body = if is_head { &[] } else { body };
    peer.try_send([head.as_bytes(), body].concat())
}

const PART: usize = 64 * 1024;

fn sized(peer: &mut Peer, length: usize, is_head: bool) -> std::io::Result<()> {
    peer.try_send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
    let length = if is_head { 0 } else { length };
    (0..length)
        .step_by(PART)
        .try_for_each(|at| peer.try_send(pattern::bytes(at as u64, PART.min(length - at))))
}

fn chunked(peer: &mut Peer, length: usize) -> std::io::Result<()> {
    peer.try_send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    for at in (0..length).step_by(PART) {
        let part = pattern::bytes(at as u64, PART.min(length - at));
        peer.try_send([format!("{:x}\r\n", part.len()).as_bytes(), &part, b"\r\n"].concat())?;
    }
    peer.try_send("0\r\n\r\n")
}
