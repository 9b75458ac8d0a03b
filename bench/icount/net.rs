//! A network without a network: one client that asks again when it was answered, and an upstream
//! that answers when it was asked. Every receive is pending once, as on a real network, and then
//! complete; sends complete at once.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use osmia::buf::Buf;
use osmia::net::{Conn, Done, Net, Rx, Tx};

/// Polls of a task per exchange, beyond which it is stuck.
const POLLS: u32 = 100;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The scripted network. Clones are the same network.
#[derive(Clone)]
pub(crate) struct Scripted(Rc<Script>);

struct Script {
    response: Vec<u8>,
    task: RefCell<Option<Task>>,
    client: Rc<Peer>,
}

/// Somebody the gateway talks to.
struct Peer {
    says: Vec<u8>,
    /// Whether it has something to say.
    due: Cell<bool>,
    /// How often it will say something when it hears something.
    left: Cell<u32>,
}

impl Peer {
    /// Hears something.
    fn hear(&self) {
        let left = self.left.get();
        if left > 0 {
            self.left.set(left - 1);
            self.due.set(true);
        }
    }
}

impl Scripted {
    pub(crate) fn new(request: &[u8], response: Vec<u8>) -> Self {
        let client = Peer { says: request.to_vec(), due: Cell::new(false), left: Cell::new(0) };
        Self(Rc::new(Script { response, task: RefCell::new(None), client: Rc::new(client) }))
    }

    /// The gateway's end of the client's connection.
    pub(crate) fn client(&self) -> Conn<Self> {
        conn(&self.0.client)
    }

    /// Drives the gateway through `times` exchanges.
    pub(crate) fn exchanges(&self, times: u32) {
        let client = &self.0.client;
        client.left.set(times);
        client.hear();
        let mut cx = Context::from_waker(Waker::noop());
        let mut task = self.0.task.borrow_mut().take();
        for _ in 0..times * POLLS {
            let Some(running) = &mut task else { break };
            let ended = running.as_mut().poll(&mut cx).is_ready();
            assert!(!ended, "the gateway closed the connection");
            if client.left.get() == 0 && !client.due.get() && self.0.idle() {
                *self.0.task.borrow_mut() = task;
                return;
            }
        }
        panic!("{} of {times} exchanges are left", client.left.get());
    }
}

impl Script {
    /// Whether the client has heard the answer to all it said.
    fn idle(&self) -> bool {
        !self.client.due.get()
    }
}

fn conn(peer: &Rc<Peer>) -> Conn<Scripted> {
    Conn {
        rx: ScriptedRx { peer: Rc::clone(peer), armed: None, polled: false, cancelable: false },
        tx: ScriptedTx { peer: Rc::clone(peer), sent: 0 },
    }
}

impl Net for Scripted {
    type Rx = ScriptedRx;
    type Tx = ScriptedTx;

    async fn connect(&self, _: SocketAddr) -> io::Result<Conn<Self>> {
        let says = self.0.response.clone();
        let upstream = Peer { says, due: Cell::new(false), left: Cell::new(u32::MAX) };
        Ok(conn(&Rc::new(upstream)))
    }

    fn park(conn: Conn<Self>) -> impl Future<Output = io::Result<Conn<Self>>> + 'static {
        std::future::ready(Ok(conn))
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        *self.0.task.borrow_mut() = Some(Box::pin(task));
    }
}

/// Receiving half.
pub(crate) struct ScriptedRx {
    peer: Rc<Peer>,
    armed: Option<Buf>,
    polled: bool,
    cancelable: bool,
}

impl Rx for ScriptedRx {
    fn start(&mut self, buf: Buf, cancelable: bool) {
        self.armed = Some(buf);
        self.polled = false;
        self.cancelable = cancelable;
    }

    fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Done<usize>> {
        if !std::mem::replace(&mut self.polled, true) || !self.peer.due.get() {
            return Poll::Pending;
        }
        let Some(mut buf) = self.armed.take() else { return Poll::Pending };
        self.peer.due.set(false);
        assert!(buf.append(&self.peer.says), "a message fits into a buffer");
        Poll::Ready((Ok(self.peer.says.len()), buf))
    }

    fn is_cancelable(&self) -> bool {
        self.cancelable
    }

    fn cancel(&mut self) {}
}

/// Sending half.
pub(crate) struct ScriptedTx {
    peer: Rc<Peer>,
    sent: u64,
}

impl Tx for ScriptedTx {
    fn start(&mut self, buf: Buf) {
        self.sent += buf.len() as u64;
        self.peer.hear();
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn reset(&mut self) {}

    fn send_last(&mut self, _: &[u8]) {}

    fn shutdown(&mut self) {}
}
