//! TCP on monoio.
//!
//! Each half drives one small coroutine that owns monoio's half and runs the operations handed to
//! it through a [`Mailbox`]. The coroutine is allocated once per connection; an operation then
//! costs no allocation, and stays armed while its owner awaits something else.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use monoio::io::{
    AsyncReadRent, AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, Canceller, OwnedReadHalf,
    OwnedWriteHalf, Splitable,
};
use monoio::net::{TcpStream, UnixStream};

use super::{Conn, Done, Net, Rx, Tx};
use crate::buf::Buf;

type Coroutine = Pin<Box<dyn Future<Output = ()>>>;

/// The kernel's TCP.
#[derive(Debug, Default)]
pub struct Tcp;

impl Net for Tcp {
    type Rx = TcpRx;
    type Tx = TcpTx;

    async fn connect(&self, addr: SocketAddr) -> io::Result<Conn<Self>> {
        let stream = TcpStream::connect_addr(addr).await?;
        stream.set_nodelay(true)?;
        Ok(split(stream))
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<Conn<Self>> {
        let stream = UnixStream::connect(path).await?;
        // SAFETY: the descriptor is open, and nobody else's: monoio has just given it up.
        let descriptor = unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) };
        // monoio's operations are the same for all stream sockets.
        Ok(split(TcpStream::from_std(descriptor.into())?))
    }

    fn park(conn: Conn<Self>) -> impl Future<Output = io::Result<Conn<Self>>> + 'static {
        // Not an `async fn`, and nothing is moved inside: either would be kept in its state twice.
        let read = conn.rx.into_half();
        let write = conn.tx.into_half();
        let stream = read.zip(write).and_then(|(read, write)| read.reunite(write).ok());
        async move {
            if let Some(stream) = &stream {
                stream.readable(true).await?;
            }
            stream.map(split).ok_or_else(|| io::Error::other("connection parked while in use"))
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        monoio::spawn(task);
    }
}

/// Both halves of an established stream.
pub fn split(stream: TcpStream) -> Conn<Tcp> {
    let fd = stream.as_raw_fd();
    let (read, write) = stream.into_split();
    Conn { rx: TcpRx::new(read), tx: TcpTx::new(write, fd) }
}

/// Hands operations to a coroutine, and their outcome back to its owner.
struct Mailbox<Request, Outcome, Half> {
    /// The next operation; `Some(None)` asks for the half back.
    #[allow(clippy::option_option, reason = "no request, and the request to give up, differ")]
    request: Cell<Option<Option<Request>>>,
    outcome: Cell<Option<Outcome>>,
    half: Cell<Option<Half>>,
    /// Bytes moved so far.
    moved: Cell<u64>,
}

impl<Request, Outcome, Half> Mailbox<Request, Outcome, Half> {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            request: Cell::new(None),
            outcome: Cell::new(None),
            half: Cell::new(None),
            moved: Cell::new(0),
        })
    }

    /// The coroutine's side: the next request. Its owner polls it right after posting one, so no
    /// waker is kept.
    async fn next(&self) -> Option<Request> {
        poll_fn(|_| self.request.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    fn post(&self, coroutine: &mut Coroutine, request: Option<Request>) {
        self.request.set(Some(request));
        let _ = coroutine.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

struct Receive {
    buf: Buf,
    cancel: Option<CancelHandle>,
}

type RxMailbox = Rc<Mailbox<Receive, Done<usize>, OwnedReadHalf<TcpStream>>>;

/// Receiving half of a TCP connection.
pub struct TcpRx {
    mailbox: RxMailbox,
    coroutine: Coroutine,
    canceller: Option<Canceller>,
    armed: bool,
}

impl TcpRx {
    fn new(half: OwnedReadHalf<TcpStream>) -> Self {
        let mailbox = Mailbox::new();
        let coroutine = Box::pin(receive_loop(half, Rc::clone(&mailbox)));
        Self { mailbox, coroutine, canceller: None, armed: false }
    }

    /// Takes the half back; `None` while a receive is under way.
    fn into_half(mut self) -> Option<OwnedReadHalf<TcpStream>> {
        if self.armed {
            return None;
        }
        self.mailbox.post(&mut self.coroutine, None);
        self.mailbox.half.take()
    }
}

async fn receive_loop(mut half: OwnedReadHalf<TcpStream>, mailbox: RxMailbox) {
    while let Some(Receive { buf, cancel }) = mailbox.next().await {
        let outcome = match cancel {
            None => half.read(buf).await,
            Some(handle) => half.cancelable_read(buf, handle).await,
        };
        mailbox.outcome.set(Some(outcome));
    }
    mailbox.half.set(Some(half));
}

impl Rx for TcpRx {
    fn start(&mut self, buf: Buf, cancelable: bool) {
        debug_assert!(!self.armed, "one receive at a time");
        self.armed = true;
        self.canceller = cancelable.then(Canceller::new);
        let cancel = self.canceller.as_ref().map(Canceller::handle);
        self.mailbox.post(&mut self.coroutine, Some(Receive { buf, cancel }));
    }

    fn is_armed(&self) -> bool {
        self.armed
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done<usize>> {
        if !self.armed {
            return Poll::Pending;
        }
        let mut outcome = self.mailbox.outcome.take();
        if outcome.is_none() {
            let _ = self.coroutine.as_mut().poll(cx);
            outcome = self.mailbox.outcome.take();
        }
        outcome.map_or(Poll::Pending, |outcome| {
            self.armed = false;
            Poll::Ready(outcome)
        })
    }

    fn is_cancelable(&self) -> bool {
        self.canceller.is_some()
    }

    fn cancel(&mut self) {
        if let Some(canceller) = self.canceller.take() {
            canceller.cancel();
        }
    }
}

impl fmt::Debug for TcpRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpRx").field("armed", &self.armed).finish_non_exhaustive()
    }
}

type TxMailbox = Rc<Mailbox<Buf, io::Result<()>, OwnedWriteHalf<TcpStream>>>;

/// Sending half of a TCP connection.
pub struct TcpTx {
    mailbox: TxMailbox,
    coroutine: Coroutine,
    fd: RawFd,
    busy: bool,
    /// The half is gone, and with it the coroutine has ended.
    closed: bool,
}

impl TcpTx {
    fn new(half: OwnedWriteHalf<TcpStream>, fd: RawFd) -> Self {
        let mailbox = Mailbox::new();
        let coroutine = Box::pin(send_loop(half, Rc::clone(&mailbox)));
        Self { mailbox, coroutine, fd, busy: false, closed: false }
    }

    fn into_half(mut self) -> Option<OwnedWriteHalf<TcpStream>> {
        if self.busy || self.closed {
            return None;
        }
        self.mailbox.post(&mut self.coroutine, None);
        self.mailbox.half.take()
    }
}

async fn send_loop(mut half: OwnedWriteHalf<TcpStream>, mailbox: TxMailbox) {
    while let Some(mut buf) = mailbox.next().await {
        let outcome = loop {
            let (result, returned) = half.write(buf).await;
            buf = returned;
            match result {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    mailbox.moved.set(mailbox.moved.get() + sent as u64);
                    buf.advance(sent);
                    if buf.is_empty() {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        drop(buf);
        mailbox.outcome.set(Some(outcome));
    }
    mailbox.half.set(Some(half));
}

impl Tx for TcpTx {
    fn start(&mut self, buf: Buf) {
        debug_assert!(!self.busy, "one send at a time");
        self.busy = true;
        if self.closed {
            self.mailbox.outcome.set(Some(Err(io::ErrorKind::BrokenPipe.into())));
            return;
        }
        self.mailbox.post(&mut self.coroutine, Some(buf));
    }

    fn is_busy(&self) -> bool {
        self.busy
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.busy {
            return Poll::Ready(Ok(()));
        }
        let mut outcome = self.mailbox.outcome.take();
        if outcome.is_none() {
            let _ = self.coroutine.as_mut().poll(cx);
            outcome = self.mailbox.outcome.take();
        }
        outcome.map_or(Poll::Pending, |outcome| {
            self.busy = false;
            Poll::Ready(outcome)
        })
    }

    fn sent(&self) -> u64 {
        self.mailbox.moved.get()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        if self.closed {
            return None;
        }
        // SAFETY: as for `reset`.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        rustix::net::getsockname(fd).ok()?.try_into().ok()
    }

    fn reset(&mut self) {
        if self.closed {
            return;
        }
        // SAFETY: unless `closed`, the coroutine holds monoio's half, which keeps the descriptor
        // open.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        // Dissolving the association sends a reset at once (connect(2), AF_UNSPEC); a close with
        // SO_LINGER would come after the orderly end that monoio's half sends when dropped.
        let _ = rustix::net::connect_unspec(fd);
    }

    fn shutdown(&mut self) {
        if self.busy || self.closed {
            return;
        }
        self.closed = true;
        self.mailbox.post(&mut self.coroutine, None);
        // monoio shuts the sending direction down when its write half is dropped.
        drop(self.mailbox.half.take());
    }

    fn send_last(&mut self, bytes: &[u8]) {
        use rustix::net::SendFlags;
        if self.busy || self.closed {
            return;
        }
        // SAFETY: as in `reset`.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        let _ = rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

impl fmt::Debug for TcpTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpTx").field("busy", &self.busy).finish_non_exhaustive()
    }
}
