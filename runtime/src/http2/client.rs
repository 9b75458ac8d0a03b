//! Connections of HTTP/2 to nodes, each for many requests at once.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ahash::HashMap;
use h2::client::{Builder, Connection, SendRequest};
use osmia_core::snapshot::{KeepalivePool, Slot};

use super::io::Io;
use super::stream::{self, Lease, StreamRx, StreamTx};
use crate::buf::Buf;
use crate::net::{Conn, Net};
use crate::worker::upstreams::duration_ms;

/// What a node may send on a stream before anything of it was passed on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Largest head of a response, in bytes.
const HEAD_BYTES: u32 = 64 * 1024;
/// Streams that may be opened before the node has said how many it accepts.
const FIRST_STREAMS: usize = 100;

/// Which connections serve a request: the pool of the node, and the name that its certificate is
/// for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The pool.
    pub pool: Slot,
    /// The name; `None`: without TLS.
    pub name: Option<Box<[u8]>>,
}

/// A connection.
struct Session {
    send: SendRequest<Buf>,
    /// Until its node closes it.
    open: Rc<Cell<bool>>,
    /// Streams in use.
    streams: Rc<Cell<usize>>,
    requests: u32,
    limits: KeepalivePool,
    idle_since_ms: Option<u64>,
}

impl Session {
    fn has_room(&mut self) -> bool {
        let most = self.send.current_max_send_streams();
        let mut cx = Context::from_waker(Waker::noop());
        self.open.get()
            && self.requests < self.limits.requests
            && self.streams.get() < most
            && matches!(self.send.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }
}

/// All connections of a worker.
#[derive(Default)]
pub struct Sessions {
    sessions: HashMap<Key, Vec<Session>>,
    /// Those who wait for a connection that somebody else opens.
    dialing: HashMap<Key, Vec<Waker>>,
}

/// What a request has to do for a connection.
pub enum Claim {
    /// Use this one, which has served others before.
    Stream(StreamRx, StreamTx),
    /// Open one, and tell [`Sessions::dialed`] what came of it.
    Dial,
    /// Somebody else opens one; ask again when woken.
    Wait,
}

impl Sessions {
    /// A stream on a connection for `key`, if there is room on one.
    pub fn claim(&mut self, key: &Key, grpc: bool, cx: &Context<'_>) -> Claim {
        let mut sessions = self.sessions.get_mut(key).into_iter().flatten();
        let free = sessions.find_map(|session| session.has_room().then_some(session));
        if let Some(session) = free {
            session.requests += 1;
            session.idle_since_ms = None;
            let lease = Lease::new(&session.streams);
            let (rx, tx) = stream::upstream(session.send.clone(), key.name.is_some(), grpc, lease);
            return Claim::Stream(rx, tx);
        }
        if let Some(waiting) = self.dialing.get_mut(key) {
            waiting.push(cx.waker().clone());
            return Claim::Wait;
        }
        self.dialing.insert(key.clone(), Vec::new());
        Claim::Dial
    }

    /// Lets those go on who wait for a connection, whether there is one now or not.
    pub fn dialed(&mut self, key: &Key) {
        for waker in self.dialing.remove(key).unwrap_or_default() {
            waker.wake();
        }
    }

    fn add(&mut self, key: Key, session: Session) {
        // A node that has another generation is another node.
        self.sessions.retain(|other, _| {
            other.pool.index != key.pool.index || other.pool.generation == key.pool.generation
        });
        self.sessions.entry(key).or_default().push(session);
    }

    /// Closes what is closed by its node, spent, or has been idle for too long.
    pub fn sweep(&mut self, now_ms: u64) {
        for sessions in self.sessions.values_mut() {
            sessions.retain_mut(|session| {
                if !session.open.get() || session.requests >= session.limits.requests {
                    return false;
                }
                if session.streams.get() > 0 {
                    session.idle_since_ms = None;
                    return true;
                }
                let since = *session.idle_since_ms.get_or_insert(now_ms);
                let timeout = duration_ms(session.limits.idle_timeout);
                timeout == 0 || now_ms.saturating_sub(since) < timeout
            });
        }
        self.sessions.retain(|_, sessions| !sessions.is_empty());
    }

    /// Closes all that serve nobody now; the others end with their streams.
    pub fn clear(&mut self) {
        self.sessions.clear();
    }
}

/// Begins HTTP/2 on a connection, and keeps it among `sessions`.
pub async fn begin<N: Net>(
    net: &N,
    sessions: &RefCell<Sessions>,
    conn: Conn<N>,
    key: Key,
    limits: KeepalivePool,
) -> Result<(), h2::Error> {
    let io = Io::new(conn, Buf::none(), false);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_BYTES)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_send_buffer_size(crate::buf::LARGE);
    let (send, connection) = builder.handshake::<_, Buf>(io).await?;
    let open = Rc::new(Cell::new(true));
    let session = Session {
        send,
        open: Rc::clone(&open),
        streams: Rc::default(),
        requests: 0,
        limits,
        idle_since_ms: None,
    };
    sessions.borrow_mut().add(key, session);
    net.spawn(drive(connection, open));
    Ok(())
}

/// Moves frames until the connection ends.
async fn drive<N: Net>(mut connection: Connection<Io<N>, Buf>, open: Rc<Cell<bool>>) {
    let ended = poll_fn(|cx| std::pin::Pin::new(&mut connection).poll(cx)).await;
    open.set(false);
    if let Err(error) = ended {
        tracing::debug!("HTTP/2 to a node: {error}");
    }
}
