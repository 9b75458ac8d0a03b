//! A stream of HTTP/2 that looks like a connection of HTTP/1.1 with one request on it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use osmia_core::http1::response::Asked;
use osmia_core::http1::write::{self, Sink};
use osmia_core::http1::{RequestHead, ResponseHead};

use super::text::{self, TextError};
use super::unframe::{OWN, Unframe};
use crate::buf::Buf;
use crate::net::{Done, Rx, Tx};

/// Bytes that framing adds to a piece of a body: its size, two line ends, and some.
const CHUNK: usize = 24;

/// How a body lies between head and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// In chunks, with trailers.
    Chunked,
    /// As it is: its length is known, or it is a tunnel.
    Raw,
}

/// What arrives.
enum Incoming {
    /// A response is waited for.
    Response(ResponseFuture),
    /// Its body, or the request's.
    Body(RecvStream),
    /// It has ended.
    Ended,
}

/// What leaves.
enum Outgoing {
    /// The head of a response is to come.
    Respond(SendResponse<Buf>),
    /// The head of a request is to come.
    Request(SendRequest<Buf>),
    /// A body.
    Body(SendStream<Buf>),
    /// Nothing any more.
    Ended(SendStream<Buf>),
    /// Neither: it failed.
    Failed,
}

struct Shared {
    incoming: Incoming,
    framing: Framing,
    /// Bytes of it that are still to come, if that was said.
    remaining: Option<u64>,
    /// Received and not yet asked for.
    left: Bytes,
    outgoing: Outgoing,
    /// A head that is not complete.
    head: Option<Buf>,
    unframe: Unframe,
    /// A part of the body that there is no window for, whether it is the last, and its trailers.
    held: Option<(Buf, bool, Option<HeaderMap>)>,
    /// Bytes that were accepted for sending.
    sent: u64,
    asked: Asked,
    /// Of a request to a node: over TLS, and with gRPC's rules.
    https: bool,
    grpc: bool,
    /// What the other side is told when it ends early.
    cut_short: Reason,
    /// The place on a connection that it takes.
    #[allow(dead_code, reason = "held until the stream ends")]
    lease: Option<Lease>,
}

/// A place on a connection, until it is dropped.
pub struct Lease(Rc<Cell<usize>>);

impl Lease {
    /// One more than were taken of `places`.
    pub fn new(places: &Rc<Cell<usize>>) -> Self {
        places.set(places.get() + 1);
        Self(Rc::clone(places))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The receiving half.
pub struct StreamRx {
    shared: Rc<RefCell<Shared>>,
    want: Option<Buf>,
}

/// The sending half.
pub struct StreamTx {
    shared: Rc<RefCell<Shared>>,
}

/// A stream that a client opened: its head has been written down, its body comes from `body` and
/// has `length` if the head says one.
pub fn downstream(
    body: RecvStream,
    length: Option<u64>,
    respond: SendResponse<Buf>,
    asked: Asked,
) -> (StreamRx, StreamTx) {
    let ended = body.is_end_stream();
    let mut shared = Shared::new(Outgoing::Respond(respond), asked);
    shared.incoming = if ended { Incoming::Ended } else { Incoming::Body(body) };
    let chunked = !ended && length.is_none() && !asked.upgrade;
    shared.framing = if chunked { Framing::Chunked } else { Framing::Raw };
    shared.remaining = length;
    halves(shared)
}

/// A stream to a node, on which one request is going to be sent.
pub fn upstream(
    send: SendRequest<Buf>,
    https: bool,
    grpc: bool,
    lease: Lease,
) -> (StreamRx, StreamTx) {
    let mut shared = Shared::new(Outgoing::Request(send), Asked::default());
    shared.lease = Some(lease);
    (shared.https, shared.grpc, shared.cut_short) = (https, grpc, Reason::CANCEL);
    halves(shared)
}

fn halves(shared: Shared) -> (StreamRx, StreamTx) {
    let shared = Rc::new(RefCell::new(shared));
    (StreamRx { shared: Rc::clone(&shared), want: None }, StreamTx { shared })
}

fn broken(error: h2::Error) -> io::Error {
    // The peer vouches that it has done nothing (RFC 9113, section 8.7): it says so of a stream, or
    // it goes away and this is one of the streams that it leaves behind.
    let left_behind = error.is_go_away() && error.is_remote();
    if left_behind || error.reason() == Some(Reason::REFUSED_STREAM) {
        return io::Error::new(io::ErrorKind::ConnectionRefused, error);
    }
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

fn malformed(error: TextError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Shared {
    fn new(outgoing: Outgoing, asked: Asked) -> Self {
        Self {
            incoming: Incoming::Ended,
            framing: Framing::Raw,
            remaining: None,
            left: Bytes::new(),
            outgoing,
            head: None,
            unframe: Unframe::Tunnel,
            held: None,
            sent: 0,
            asked,
            https: false,
            grpc: false,
            cut_short: Reason::INTERNAL_ERROR,
            lease: None,
        }
    }

    fn poll_receive(&mut self, into: &mut Buf, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = into.len();
        loop {
            if !self.left.is_empty() {
                match self.poll_whole(cx) {
                    Poll::Ready(whole) => whole?,
                    Poll::Pending => return Poll::Pending,
                }
                self.put_data(into);
                return Poll::Ready(Ok(into.len() - before));
            }
            match &mut self.incoming {
                Incoming::Response(response) => {
                    let arrived = match Self::poll_response(response, into, cx) {
                        Poll::Ready(arrived) => arrived?,
                        Poll::Pending => return Poll::Pending,
                    };
                    if let Some(response) = arrived {
                        self.take_response(response, into);
                    }
                    return Poll::Ready(Ok(into.len() - before));
                }
                Incoming::Body(body) => match body.poll_data(cx) {
                    Poll::Ready(Some(Ok(data))) => self.left = data,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(error))),
                    Poll::Ready(None) => match body.poll_trailers(cx) {
                        Poll::Ready(Ok(trailers)) => {
                            self.incoming = Incoming::Ended;
                            if self.framing == Framing::Chunked {
                                text::trailers(into, trailers.as_ref());
                            } else if !self.asked.upgrade {
                                // Its length was known, so that nobody asks for an end.
                                continue;
                            }
                            return Poll::Ready(Ok(into.len() - before));
                        }
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(error))),
                        Poll::Pending => return Poll::Pending,
                    },
                    Poll::Pending => return Poll::Pending,
                },
                // Nothing comes any more, but that the other side gives up may be told.
                Incoming::Ended => {
                    let reset = match &mut self.outgoing {
                        Outgoing::Respond(respond) => respond.poll_reset(cx),
                        Outgoing::Body(body) | Outgoing::Ended(body) => body.poll_reset(cx),
                        Outgoing::Request(_) => return Poll::Pending,
                        Outgoing::Failed => {
                            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                        }
                    };
                    return match reset {
                        Poll::Ready(_) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Waits before the last bytes of a body whose length is known until that is its end, too:
    /// what is longer than it says must not be passed on as if it were in order (RFC 9113,
    /// section 8.1.1).
    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.remaining.is_none_or(|remaining| remaining > self.left.len() as u64) {
            return Poll::Ready(Ok(()));
        }
        let Incoming::Body(body) = &mut self.incoming else { return Poll::Ready(Ok(())) };
        loop {
            if body.is_end_stream() {
                return Poll::Ready(Ok(()));
            }
            match body.poll_data(cx) {
                Poll::Ready(Some(Ok(more))) if more.is_empty() => {}
                Poll::Ready(Some(Ok(_))) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Puts what was received into the room there is, and lets the peer send as much again.
    fn put_data(&mut self, into: &mut Buf) {
        let chunked = self.framing == Framing::Chunked;
        let room = into.room().saturating_sub(if chunked { CHUNK } else { 0 });
        let data = self.left.split_to(self.left.len().min(room));
        if chunked && !data.is_empty() {
            let (line, start) = write::chunk_size_line(data.len());
            into.put(&line[start..]);
            into.put(&data);
            into.put(b"\r\n");
        } else {
            into.put(&data);
        }
        self.remaining = self.remaining.map(|remaining| remaining - data.len() as u64);
        if let Incoming::Body(body) = &mut self.incoming {
            let _ = body.flow_control().release_capacity(data.len());
        }
    }

    /// A final response; `None`: an interim one was written down.
    fn poll_response(
        response: &mut ResponseFuture,
        into: &mut Buf,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<http::Response<RecvStream>>>> {
        use std::future::Future as _;
        if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            text::response(into, &interim, false, false);
            return Poll::Ready(Ok(None));
        }
        match std::pin::Pin::new(response).poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(Some(response))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(broken(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn take_response(&mut self, response: http::Response<RecvStream>, into: &mut Buf) {
        let (parts, body) = response.into_parts();
        let head = http::Response::from_parts(parts, ());
        let ended = body.is_end_stream();
        let status = head.status().as_u16();
        let no_body = self.asked.head || matches!(status, 204 | 304);
        let known = head.headers().contains_key(http::header::CONTENT_LENGTH);
        let chunked = !ended && !known && !no_body;
        self.framing = if chunked { Framing::Chunked } else { Framing::Raw };
        text::response(into, &head, ended && !no_body, chunked);
        self.incoming = if ended { Incoming::Ended } else { Incoming::Body(body) };
    }

    /// Sends what HTTP/1.1 would send.
    fn send(&mut self, mut buf: Buf) -> io::Result<()> {
        self.sent += buf.len() as u64;
        if matches!(self.outgoing, Outgoing::Respond(_) | Outgoing::Request(_)) {
            if let Some(mut head) = self.head.take() {
                head.put(buf.bytes());
                buf = head;
            }
            if !self.send_head(&mut buf)? {
                return Ok(());
            }
        }
        self.send_body(buf)
    }

    /// Reads a head and sends it; `false`: it is not complete, or what comes next is another.
    fn send_head(&mut self, buf: &mut Buf) -> io::Result<bool> {
        match &mut self.outgoing {
            Outgoing::Respond(_) => self.send_response(buf),
            Outgoing::Request(_) => self.send_request(buf),
            _ => Ok(true),
        }
    }

    fn keep(&mut self, buf: &mut Buf) -> bool {
        if !buf.is_empty() {
            self.head = Some(std::mem::replace(buf, Buf::none()));
        }
        false
    }

    fn send_response(&mut self, buf: &mut Buf) -> io::Result<bool> {
        let mut head = ResponseHead::default();
        loop {
            head.reset();
            let parsed = head.parse(buf.bytes(), self.asked, &OWN);
            if !parsed.map_err(|_| malformed(TextError::Form))? {
                return Ok(self.keep(buf));
            }
            let response = text::to_response(&head, buf.bytes()).map_err(malformed)?;
            buf.advance(head.len);
            let Outgoing::Respond(respond) = &mut self.outgoing else { return Ok(true) };
            if head.is_interim() {
                respond.send_informational(response).map_err(broken)?;
                continue;
            }
            self.unframe = match (head.status, head.body) {
                (101, _) => Unframe::Tunnel,
                (_, length) => Unframe::new(length),
            };
            if head.status == 101 {
                self.framing = Framing::Raw;
            }
            let ended = self.unframe.is_done();
            let body = respond.send_response(response, ended).map_err(broken)?;
            self.outgoing = if ended { Outgoing::Ended(body) } else { Outgoing::Body(body) };
            return Ok(true);
        }
    }

    fn send_request(&mut self, buf: &mut Buf) -> io::Result<bool> {
        let mut head = RequestHead::default();
        let parsed = head.parse(buf.bytes(), &OWN);
        if !parsed.map_err(|_| malformed(TextError::Form))? {
            return Ok(self.keep(buf));
        }
        let request = text::to_request(&head, buf.bytes(), self.https, self.grpc);
        let request = request.map_err(malformed)?;
        self.asked.head = head.is_head(buf.bytes());
        buf.advance(head.len);
        self.unframe = Unframe::new(head.body);
        let ended = self.unframe.is_done();
        let Outgoing::Request(send) = &mut self.outgoing else { return Ok(true) };
        let (response, body) = send.send_request(request, ended).map_err(broken)?;
        self.incoming = Incoming::Response(response);
        self.outgoing = if ended { Outgoing::Ended(body) } else { Outgoing::Body(body) };
        Ok(true)
    }

    fn send_body(&mut self, mut buf: Buf) -> io::Result<()> {
        if !matches!(self.outgoing, Outgoing::Body(_)) {
            return Ok(());
        }
        let (ended, trailers) = self.unframe.take(&mut buf)?;
        if buf.is_empty() && !ended {
            return Ok(());
        }
        debug_assert!(self.held.is_none(), "one send at a time");
        self.held = Some((buf, ended, trailers));
        self.send_held();
        Ok(())
    }

    /// Sends what is held if there is a window for any of it. What there is no window for after
    /// all waits in `h2`: that is one buffer at the most.
    fn send_held(&mut self) {
        let Outgoing::Body(stream) = &mut self.outgoing else { return };
        let Some((buf, ..)) = &self.held else { return };
        if !buf.is_empty() {
            stream.reserve_capacity(buf.len());
            if stream.capacity() == 0 {
                return;
            }
        }
        let Some((buf, ended, trailers)) = self.held.take() else { return };
        let sent = match trailers {
            Some(trailers) => {
                let data = if buf.is_empty() { Ok(()) } else { stream.send_data(buf, false) };
                data.and_then(|()| stream.send_trailers(trailers))
            }
            None => stream.send_data(buf, ended),
        };
        if sent.is_err() {
            self.outgoing = Outgoing::Failed;
        } else if ended {
            let outgoing = std::mem::replace(&mut self.outgoing, Outgoing::Failed);
            if let Outgoing::Body(stream) = outgoing {
                self.outgoing = Outgoing::Ended(stream);
            }
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.send_held();
            if matches!(self.outgoing, Outgoing::Failed) {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if self.held.is_none() {
                return Poll::Ready(Ok(()));
            }
            let Outgoing::Body(stream) = &mut self.outgoing else { return Poll::Ready(Ok(())) };
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => self.outgoing = Outgoing::Failed,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.outgoing {
            Outgoing::Respond(respond) => respond.send_reset(reason),
            Outgoing::Body(stream) => stream.send_reset(reason),
            _ => {}
        }
        self.held = None;
        self.outgoing = Outgoing::Failed;
    }

    /// The end of what is sent. A body without its end is cut short, which has to be seen.
    fn finish(&mut self) {
        match (&mut self.outgoing, &self.unframe) {
            (Outgoing::Body(_), Unframe::Tunnel) if self.held.is_none() => {
                self.held = Some((Buf::none(), true, None));
                self.send_held();
            }
            (Outgoing::Body(_) | Outgoing::Respond(_), _) => self.reset(self.cut_short),
            _ => {}
        }
    }
}

impl Rx for StreamRx {
    fn start(&mut self, buf: Buf, _: bool) {
        self.want = Some(buf);
    }

    fn is_armed(&self) -> bool {
        self.want.is_some()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done<usize>> {
        let Some(mut buf) = self.want.take() else { return Poll::Pending };
        if buf.room() < CHUNK * 2 {
            buf.grow(crate::buf::SMALL);
        }
        match self.shared.borrow_mut().poll_receive(&mut buf, cx) {
            Poll::Ready(result) => Poll::Ready((result, buf)),
            Poll::Pending => {
                self.want = Some(buf);
                Poll::Pending
            }
        }
    }

    fn is_cancelable(&self) -> bool {
        false
    }

    fn cancel(&mut self) {}
}

impl Tx for StreamTx {
    fn start(&mut self, buf: Buf) {
        let mut shared = self.shared.borrow_mut();
        if let Err(error) = shared.send(buf) {
            tracing::debug!("HTTP/2 stream: {error}");
            let reason = shared.cut_short;
            shared.reset(reason);
        }
    }

    fn is_busy(&self) -> bool {
        let shared = self.shared.borrow();
        shared.held.is_some() || matches!(shared.outgoing, Outgoing::Failed)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.borrow_mut().poll_sent(cx)
    }

    fn sent(&self) -> u64 {
        self.shared.borrow().sent
    }

    fn reset(&mut self) {
        let mut shared = self.shared.borrow_mut();
        let reason = shared.cut_short;
        shared.reset(reason);
    }

    fn shutdown(&mut self) {
        self.shared.borrow_mut().finish();
    }

    fn send_last(&mut self, _: &[u8]) {}
}

impl Drop for StreamTx {
    fn drop(&mut self) {
        // A response that ends early must not look complete; a request that nobody waits for any
        // more is given up by `h2`.
        self.shared.borrow_mut().finish();
    }
}

// `h2` takes the payload from the gateway's buffers as they are.
impl bytes::Buf for Buf {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes()
    }

    fn advance(&mut self, count: usize) {
        Buf::advance(self, count);
    }
}
