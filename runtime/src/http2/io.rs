//! A connection as the `h2` crate wants it.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use osmia_core::http1::write::Sink;
use osmia_core::http2::{FrameMeter, Misuse};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buf::{Buf, Class};
use crate::net::{Conn, Net, Rx, Tx};

/// A connection with its buffers. What streams write in one turn of the loop leaves in one send.
pub struct Io<N: Net> {
    conn: Conn<N>,
    /// Received and not read.
    received: Buf,
    ended: bool,
    /// The last receive filled its buffer: the next one is larger.
    busy: bool,
    /// Written and not sent.
    written: Buf,
    watch: Rc<Watch>,
}

/// What is known of a connection from outside of `h2`.
#[derive(Debug, Default)]
pub struct Watch {
    meter: Cell<FrameMeter>,
    /// What the peer has done that nobody may do.
    verdict: Cell<Option<Misuse>>,
}

impl Watch {
    /// What the peer has done that nobody may do, and that `h2` lets pass.
    pub fn verdict(&self) -> Option<Misuse> {
        self.verdict.get()
    }

    /// Whether anything is counted that a tick makes good.
    pub fn is_counting(&self) -> bool {
        self.meter.get().is_counting()
    }

    /// A tick has passed; see [`FrameMeter::refill`].
    pub fn refill(&self) {
        let mut meter = self.meter.get();
        meter.refill();
        self.meter.set(meter);
    }
}

impl<N: Net> Io<N> {
    /// A connection of which `received` was received. `preface`: what comes begins with a client's
    /// preface.
    pub fn new(conn: Conn<N>, received: Buf, preface: bool) -> Self {
        let watch = Watch { meter: Cell::new(FrameMeter::new(preface)), ..Watch::default() };
        let io = Self {
            conn,
            received,
            ended: false,
            busy: false,
            written: Buf::none(),
            watch: Rc::new(watch),
        };
        io.count();
        io
    }

    /// What can be seen from outside.
    pub fn watch(&self) -> Rc<Watch> {
        Rc::clone(&self.watch)
    }

    /// Looks at what was just received.
    fn count(&self) {
        let watch = &self.watch;
        let mut meter = watch.meter.get();
        if let Err(misuse) = meter.see(self.received.bytes()) {
            watch.verdict.set(Some(misuse));
        }
        watch.meter.set(meter);
    }

    /// Starts the send of what was written, if nothing else is being sent.
    fn start(&mut self) {
        let written = std::mem::replace(&mut self.written, Buf::none());
        self.conn.tx.start(written);
    }

    /// Makes room for more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.written.len() >= crate::buf::LARGE / 2 && self.written.room() < 16 * 1024 {
            if self.conn.tx.is_busy() {
                match self.conn.tx.poll(cx) {
                    Poll::Ready(Ok(())) => {}
                    outcome => return outcome,
                }
            }
            self.start();
        }
        if self.written.is_empty() {
            self.written = Buf::new(Class::Large);
        }
        Poll::Ready(Ok(()))
    }
}

impl<N: Net> AsyncRead for Io<N>
where
    Self: Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.received.is_empty() {
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            if !this.conn.rx.is_armed() {
                let class = if this.busy { Class::Large } else { Class::Small };
                this.conn.rx.start(Buf::new(class), false);
            }
            let Poll::Ready((result, buf)) = this.conn.rx.poll(cx) else { return Poll::Pending };
            let len = result?;
            this.ended = len == 0;
            this.busy = buf.room() == 0 || this.busy && len > crate::buf::SMALL;
            this.received = buf;
            this.count();
        }
        let len = this.received.len().min(into.remaining());
        into.put_slice(&this.received.bytes()[..len]);
        this.received.advance(len);
        if this.received.is_empty() {
            this.received = Buf::none();
        }
        Poll::Ready(Ok(()))
    }
}

impl<N: Net> AsyncWrite for Io<N>
where
    Self: Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = self.poll_room(cx) {
            return Poll::Ready(Err(error));
        }
        let mut taken = 0;
        for part in parts {
            let len = part.len().min(self.written.room());
            self.written.put(&part[..len]);
            taken += len;
        }
        if taken == 0 && parts.iter().any(|part| !part.is_empty()) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.conn.tx.is_busy() {
            match self.conn.tx.poll(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // More may be written meanwhile; whoever waits for all of it is woken.
                Poll::Pending if self.written.is_empty() => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        if !self.written.is_empty() {
            self.start();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.conn.tx.poll(cx) {
                Poll::Ready(Ok(())) if !self.written.is_empty() => self.start(),
                Poll::Ready(Ok(())) => break,
                outcome => return outcome,
            }
        }
        self.conn.tx.shutdown();
        Poll::Ready(Ok(()))
    }
}
