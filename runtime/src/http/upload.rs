//! The request body on its way to the upstream.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::time::Duration;

use osmia_core::http1::Body;
use osmia_core::reply::Failure;

use super::side::{self, wait_alone};
use crate::buf::{Buf, Class};
use crate::net::{Net, Rx, Tx};
use crate::worker::Worker;
use crate::worker::deadline::{Direction, Slot};
use crate::worker::upstreams::duration_ms;

/// What an upload works on.
pub struct Upload<'a, N: Net> {
    /// The worker.
    pub worker: &'a Worker<N>,
    /// The connection's slot.
    pub slot: &'a Slot,
    /// From here.
    pub client: &'a mut N::Rx,
    /// To here.
    pub upstream: &'a mut N::Tx,
    /// Progress through the body; its first part may already be under way.
    pub body: &'a mut Body,
    /// Takes bytes of the next request that came with the end of the body.
    pub early: &'a mut Option<Buf>,
    /// Silence allowed towards the upstream.
    pub send_timeout: Duration,
    /// Counts what was read of the body, with its framing.
    pub received: &'a mut u64,
    /// Set when all of it is on its way.
    pub complete: &'a Cell<bool>,
    /// Silence allowed in both directions at once, and when something came last of the upstream;
    /// `None`: the client's silence counts alone.
    pub idle: Option<(Duration, &'a Cell<u64>)>,
}

impl<N: Net> Upload<'_, N> {
    /// Moves the rest of the body, and then watches for the client going away. An upstream that
    /// stops taking it is no error here: it may have answered already, and what it said decides.
    pub async fn run(mut self) -> Result<(), Failure> {
        while !self.body.is_done() {
            let mut buf = self.receive().await?;
            let accepted = self.body.accept(buf.bytes_mut()).map_err(Failure::RequestBody)?;
            *self.received += accepted.consumed as u64;
            let limit = self.worker.settings.client_max_body_bytes;
            if limit > 0 && self.body.payload() > limit {
                return Err(Failure::BodyTooLarge);
            }
            if accepted.consumed < buf.len() {
                *self.early = Some(Buf::copy_of(&buf.bytes()[accepted.consumed..]));
            }
            buf.truncate(accepted.kept);
            if self.flush().await?.is_err() {
                return Ok(());
            }
            if !buf.is_empty() {
                self.upstream.start(buf);
            }
        }
        let _ = self.flush().await?;
        self.complete.set(true);
        self.slot.clear(Direction::Upload);
        self.watch().await
    }

    /// Waits for ever, unless the client goes away. What comes early of the next request is kept.
    async fn watch(&mut self) -> Result<(), Failure> {
        while self.early.is_none() {
            if !self.client.is_armed() {
                self.client.start(Buf::new(Class::Small), true);
            }
            let (received, buf) = poll_fn(|cx| self.client.poll(cx)).await;
            match received {
                Ok(received) if received > 0 => *self.early = Some(buf),
                _ => return Err(Failure::ClientGone),
            }
        }
        pending().await
    }

    async fn receive(&mut self) -> Result<Buf, Failure> {
        let timeout = self.idle.map_or(self.worker.settings.downstream.body, |(idle, _)| idle);
        self.slot.set(Direction::Upload, self.worker.clock.now_ms(), timeout);
        self.client.start(Buf::new(Class::Large), false);
        let (result, buf) = loop {
            let (client, upstream) = (&mut *self.client, &mut *self.upstream);
            let received = wait_alone(self.slot, Direction::Upload, Failure::ClientTimeout, |cx| {
                // What is being sent goes on meanwhile.
                if upstream.is_busy() && upstream.poll(cx).is_ready() {
                    // An error is seen by the next send, or in the response.
                }
                client.poll(cx)
            })
            .await;
            match (received, self.idle) {
                (Ok(done), _) => break done,
                (Err(Failure::CallTimeout), _) => return Err(Failure::CallTimeout),
                (Err(failure), Some((idle, heard))) => {
                    let left = (heard.get() + duration_ms(idle))
                        .saturating_sub(self.worker.clock.now_ms());
                    if left == 0 {
                        return Err(failure);
                    }
                    let left = Duration::from_millis(left);
                    self.slot.set(Direction::Upload, self.worker.clock.now_ms(), left);
                }
                (Err(failure), None) => return Err(failure),
            }
        };
        let received = result.map_err(|_| Failure::ClientGone)?;
        if received == 0 {
            return Err(Failure::ClientGone);
        }
        Ok(buf)
    }

    async fn flush(&mut self) -> Result<std::io::Result<()>, Failure> {
        let (direction, failure) = (Direction::Upload, Failure::SendTimeout);
        let timeout = self.send_timeout;
        side::flush(self.worker, self.slot, direction, self.upstream, timeout, failure).await
    }
}
