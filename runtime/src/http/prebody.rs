//! A request's body, read before it is known where the request goes: some routes look into it.

use std::borrow::Cow;

use osmia_core::http1::write::Sink;
use osmia_core::http1::{Body, BodyLength, RequestHead};
use osmia_core::limits::HttpLimits;
use osmia_core::reply::Failure;

use super::connection::Downstream;
use super::side::{flush, wait_alone};
use crate::buf::{Buf, Class};
use crate::net::{Net, Rx, Tx};
use crate::worker::Worker;
use crate::worker::deadline::Direction;

/// A body on its way into memory.
pub struct Reading<'a> {
    /// The request.
    pub request: &'a RequestHead,
    /// Progress through the body; its first part is behind the head.
    pub body: &'a mut Body,
    /// Counts what was read of the body, with its framing.
    pub received: &'a mut u64,
    /// Payload beyond which it is not looked into.
    pub most: u64,
}

impl Reading<'_> {
    /// Puts the rest of the body, framing included, behind what is in `buf`. Whether all of it is
    /// there; it is not when it is too long.
    pub async fn run<N: Net>(
        self,
        worker: &Worker<N>,
        down: &mut Downstream<N>,
        buf: &mut Buf,
    ) -> Result<bool, Failure> {
        if matches!(self.request.body, BodyLength::Known(length) if length > self.most) {
            return Ok(false);
        }
        if !self.body.is_done() && self.request.expect_continue {
            go_on(worker, down).await?;
        }
        while !self.body.is_done() {
            if self.body.payload() > self.most {
                return Ok(false);
            }
            let mut part = receive(worker, down).await?;
            let accepted = self.body.accept(part.bytes_mut()).map_err(Failure::RequestBody)?;
            *self.received += accepted.consumed as u64;
            let limit = worker.settings.client_max_body_bytes;
            if limit > 0 && self.body.payload() > limit {
                return Err(Failure::BodyTooLarge);
            }
            if accepted.consumed < part.len() {
                down.early = Some(Buf::copy_of(&part.bytes()[accepted.consumed..]));
            }
            buf.put(&part.bytes()[..accepted.kept]);
            if self.body.is_done() && down.early.is_none() {
                down.arm(worker);
            }
        }
        Ok(true)
    }
}

/// The payload in `framed`, which is a whole body as it was received.
pub fn payload<'b>(request: &RequestHead, framed: &'b [u8], limits: &HttpLimits) -> Cow<'b, [u8]> {
    if request.body != BodyLength::Chunked {
        return framed.into();
    }
    let mut payload = framed.to_vec();
    let accepted = Body::new(request.body, false, limits).accept(&mut payload);
    // It was accepted before, so that it is accepted now.
    payload.truncate(accepted.map_or(0, |accepted| accepted.kept));
    payload.into()
}

/// The client waits to be told to send it.
async fn go_on<N: Net>(worker: &Worker<N>, down: &mut Downstream<N>) -> Result<(), Failure> {
    let (timeout, failure) = (worker.settings.downstream.send, Failure::ClientTimeout);
    let direction = Direction::Main;
    flush(worker, &down.slot, direction, &mut down.conn.tx, timeout, failure)
        .await?
        .map_err(|_| Failure::ClientGone)?;
    down.conn.tx.start(Buf::copy_of(b"HTTP/1.1 100 Continue\r\n\r\n"));
    Ok(())
}

async fn receive<N: Net>(worker: &Worker<N>, down: &mut Downstream<N>) -> Result<Buf, Failure> {
    let timeout = worker.settings.downstream.body;
    down.slot.set(Direction::Upload, worker.clock.now_ms(), timeout);
    down.conn.rx.start(Buf::new(Class::Large), false);
    let (rx, tx) = (&mut down.conn.rx, &mut down.conn.tx);
    let (result, buf) = wait_alone(&down.slot, Direction::Upload, Failure::ClientTimeout, |cx| {
        // What is being sent goes on meanwhile; an error shows on the receiving side too.
        if tx.is_busy() {
            let _ = tx.poll(cx);
        }
        rx.poll(cx)
    })
    .await?;
    match result {
        Ok(received) if received > 0 => Ok(buf),
        _ => Err(Failure::ClientGone),
    }
}
