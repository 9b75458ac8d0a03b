//! TLS between a transport and the requests on it: rustls over any [`Net`]'s connection.
//!
//! Both halves share one [`Session`]: reading may have something to send (a key update, an alert),
//! and sending may find records that were received. What is received is decrypted when it is asked
//! for, and what is sent is encrypted into one buffer and leaves in one send.

pub mod handshake;
pub mod session;
#[cfg(test)]
mod tests;

use std::cell::{Ref, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustls::CommonState;
use session::Session;

use super::{Conn, Done, Net, Rx, Tx};
use crate::buf::Buf;

/// A connection under TLS; shared by its halves.
struct Shared<N: Net> {
    session: Session,
    /// Absent while the connection is parked.
    conn: Option<Conn<N>>,
    /// To be sent as soon as what is under way has left.
    queued: Option<Buf>,
    /// Nothing more can be sent.
    closed: bool,
    /// Nothing more can be received.
    failed: bool,
}

/// Receiving half of a connection under TLS.
pub struct TlsRx<N: Net> {
    shared: Rc<RefCell<Shared<N>>>,
    /// To be filled.
    want: Option<Buf>,
    cancelable: bool,
}

/// Sending half of a connection under TLS.
pub struct TlsTx<N: Net> {
    shared: Rc<RefCell<Shared<N>>>,
}

/// Both halves of a connection whose handshake is done.
fn halves<N: Net>(session: Session, conn: Conn<N>) -> (TlsRx<N>, TlsTx<N>) {
    let shared = Shared { session, conn: Some(conn), queued: None, closed: false, failed: false };
    let shared = Rc::new(RefCell::new(shared));
    let rx = TlsRx { shared: Rc::clone(&shared), want: None, cancelable: false };
    (rx, TlsTx { shared })
}

/// What is left of a connection while its transport is parked.
pub struct Parked<N: Net> {
    rx: TlsRx<N>,
    tx: TlsTx<N>,
}

impl<N: Net> Parked<N> {
    /// Takes the transport out; `None`: an operation is under way.
    pub fn new(rx: TlsRx<N>, tx: TlsTx<N>) -> Option<(Self, Conn<N>)> {
        let conn = {
            let mut shared = rx.shared.borrow_mut();
            if shared.session.has_input() || shared.queued.is_some() {
                return None;
            }
            shared.conn.take()?
        };
        Some((Self { rx, tx }, conn))
    }

    /// Goes on with the transport, which has something to receive.
    pub fn resume(self, conn: Conn<N>) -> (TlsRx<N>, TlsTx<N>) {
        self.rx.shared.borrow_mut().conn = Some(conn);
        (self.rx, self.tx)
    }
}

impl<N: Net> TlsRx<N> {
    /// What was negotiated.
    pub fn common(&self) -> Ref<'_, CommonState> {
        Ref::map(self.shared.borrow(), |shared| shared.session.common())
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl<N: Net> Shared<N> {
    /// Begins to receive records, unless that is under way.
    fn arm(&mut self, want: usize, cancelable: bool) {
        if let Some(conn) = &mut self.conn
            && !conn.rx.is_armed()
        {
            conn.rx.start(self.session.buffer(want), cancelable);
        }
    }

    /// Sends `buf` as soon as possible.
    fn send(&mut self, buf: Buf) {
        let Some(conn) = &mut self.conn else { return };
        if conn.tx.is_busy() {
            debug_assert!(self.queued.is_none(), "one send at a time");
            self.queued = Some(buf);
        } else {
            conn.tx.start(buf);
        }
    }

    fn send_control(&mut self) {
        if self.queued.is_none()
            && let Some(control) = self.session.take_control()
        {
            self.send(control);
        }
    }

    /// Plaintext for `buf`, if there is any at hand.
    fn read(&mut self, buf: &mut Buf) -> Option<io::Result<usize>> {
        if !self.session.has_input() {
            return None;
        }
        let before = buf.len();
        let stage = self.session.read(buf);
        self.send_control();
        match stage {
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
            Ok(_) if buf.len() > before => Some(Ok(buf.len() - before)),
            Ok(_) if self.session.is_peer_closed() => Some(Ok(0)),
            Ok(_) => None,
        }
    }

    fn poll_receive(
        &mut self,
        buf: &mut Buf,
        cancelable: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.failed {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if let Some(outcome) = self.read(buf) {
                return Poll::Ready(outcome);
            }
            self.arm(buf.room(), cancelable);
            let Some(conn) = &mut self.conn else { return Poll::Ready(Err(gone())) };
            let Poll::Ready((result, records)) = conn.rx.poll(cx) else { return Poll::Pending };
            match result {
                // Without the alert that says so, this may be somebody cutting the connection
                // (RFC 8446, section 6.1).
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => self.session.feed(records)?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(conn) = &mut self.conn else { return Poll::Ready(Err(gone())) };
            match conn.tx.poll(cx) {
                Poll::Ready(Ok(())) => match self.queued.take() {
                    Some(queued) => conn.tx.start(queued),
                    None => return Poll::Ready(Ok(())),
                },
                outcome => return outcome,
            }
        }
    }
}

impl<N: Net> Rx for TlsRx<N> {
    fn start(&mut self, buf: Buf, cancelable: bool) {
        let mut shared = self.shared.borrow_mut();
        if !shared.session.has_input() {
            shared.arm(buf.room(), cancelable);
        }
        self.cancelable = cancelable;
        self.want = Some(buf);
    }

    fn is_armed(&self) -> bool {
        self.want.is_some()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done<usize>> {
        let Some(mut buf) = self.want.take() else { return Poll::Pending };
        match self.shared.borrow_mut().poll_receive(&mut buf, self.cancelable, cx) {
            Poll::Ready(result) => Poll::Ready((result, buf)),
            Poll::Pending => {
                self.want = Some(buf);
                Poll::Pending
            }
        }
    }

    fn is_cancelable(&self) -> bool {
        self.shared.borrow().conn.as_ref().is_some_and(|conn| conn.rx.is_cancelable())
    }

    fn cancel(&mut self) {
        if let Some(conn) = &mut self.shared.borrow_mut().conn {
            conn.rx.cancel();
        }
    }
}

impl<N: Net> Tx for TlsTx<N> {
    fn start(&mut self, buf: Buf) {
        let mut shared = self.shared.borrow_mut();
        match shared.session.seal(buf.bytes()) {
            Ok(sealed) => shared.send(sealed),
            Err(_) => shared.closed = true,
        }
    }

    fn is_busy(&self) -> bool {
        let shared = self.shared.borrow();
        shared.closed || shared.conn.as_ref().is_some_and(|conn| conn.tx.is_busy())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        if shared.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        shared.poll_sent(cx)
    }

    fn sent(&self) -> u64 {
        self.shared.borrow().conn.as_ref().map_or(0, |conn| conn.tx.sent())
    }

    fn reset(&mut self) {
        let mut shared = self.shared.borrow_mut();
        shared.closed = true;
        if let Some(conn) = &mut shared.conn {
            conn.tx.reset();
        }
    }

    fn shutdown(&mut self) {
        let mut shared = self.shared.borrow_mut();
        shared.say_goodbye();
        if let Some(conn) = &mut shared.conn {
            conn.tx.shutdown();
        }
    }

    fn send_last(&mut self, _: &[u8]) {}
}

impl<N: Net> Shared<N> {
    /// Tells the peer that the end is no accident; at once or not at all.
    fn say_goodbye(&mut self) {
        let Some(conn) = self.conn.as_mut().filter(|conn| !conn.tx.is_busy()) else { return };
        if !std::mem::replace(&mut self.closed, true)
            && self.queued.is_none()
            && let Some(alert) = self.session.close_notify()
        {
            conn.tx.send_last(&alert);
        }
    }
}

impl<N: Net> Drop for Shared<N> {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}
