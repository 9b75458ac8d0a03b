//! What goes on beside the main direction of an exchange, and the one way to wait.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use osmia_core::reply::Failure;

use crate::buf::Buf;
use crate::net::{Net, Rx, Tx};
use crate::worker::Worker;
use crate::worker::deadline::{Direction, Slot};

/// Whether the request is still being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Parts of the request body are still to come.
    Uploading,
    /// The whole request is on its way.
    Uploaded,
}

/// Something polled along with every wait.
pub trait Side {
    /// Makes progress. An error ends the exchange.
    fn poll(&mut self, cx: &mut Context<'_>) -> Result<Progress, Failure>;
}

/// The side of a request whose body is complete: notices that the client goes away, and keeps
/// bytes of a next request that come early.
pub struct Watch<'a, N: Net> {
    /// The client.
    pub client: &'a mut N::Rx,
    /// The upstream, whose pending send is looked after if it takes longer than a tick.
    pub upstream: Option<&'a mut N::Tx>,
    /// Early bytes of the next request.
    pub early: &'a mut Option<Buf>,
    /// The connection's slot.
    pub slot: &'a Slot,
}

impl<N: Net> Side for Watch<'_, N> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Result<Progress, Failure> {
        match self.client.poll(cx) {
            Poll::Pending => {}
            Poll::Ready((Ok(received), buf)) if received > 0 => *self.early = Some(buf),
            Poll::Ready(_) => return Err(Failure::ClientGone),
        }
        if let Some(upstream) = &mut self.upstream
            && upstream.is_busy()
            && self.slot.take_nudge()
        {
            // An error shows on the receiving side too, with whatever the node said before.
            let _ = upstream.poll(cx);
        }
        Ok(Progress::Uploaded)
    }
}

/// The side of a request with a body on its way.
pub struct Uploading<'a, F> {
    /// The upload.
    pub upload: Pin<&'a mut F>,
    /// It has ended: the upstream takes no more of it.
    pub ended: bool,
    /// All of the body is on its way.
    pub complete: &'a Cell<bool>,
}

impl<F: Future<Output = Result<(), Failure>>> Side for Uploading<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Result<Progress, Failure> {
        if !self.ended
            && let Poll::Ready(outcome) = self.upload.as_mut().poll(cx)
        {
            outcome?;
            self.ended = true;
        }
        let uploaded = self.ended || self.complete.get();
        Ok(if uploaded { Progress::Uploaded } else { Progress::Uploading })
    }
}

/// A limit on a wait of the main direction.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Silence allowed.
    pub timeout: Duration,
    /// What it means when it is exceeded.
    pub failure: Failure,
    /// Counts only while nothing is being uploaded: a response is not late before its request is
    /// sent.
    pub after_upload: bool,
}

/// Waits for `main`, driving `side`, for as long as `limit` allows.
pub async fn wait<N: Net, T>(
    worker: &Worker<N>,
    slot: &Slot,
    side: &mut impl Side,
    limit: Limit,
    mut main: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<T, Failure> {
    slot.set(Direction::Main, worker.clock.now_ms(), limit.timeout);
    let mut uploading = true;
    poll_fn(move |cx| {
        if let Poll::Ready(value) = main(cx) {
            return Poll::Ready(Ok(value));
        }
        let progress = match side.poll(cx) {
            Ok(progress) => progress,
            Err(failure) => return Poll::Ready(Err(failure)),
        };
        if limit.after_upload && uploading && progress == Progress::Uploaded {
            uploading = false;
            slot.set(Direction::Main, worker.clock.now_ms(), limit.timeout);
        }
        if slot.is_expired(Direction::Call) {
            return Poll::Ready(Err(Failure::CallTimeout));
        }
        if slot.is_expired(Direction::Main) {
            if limit.after_upload && progress == Progress::Uploading {
                slot.set(Direction::Main, worker.clock.now_ms(), limit.timeout);
            } else {
                return Poll::Ready(Err(limit.failure));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits until everything is sent, with nothing beside it. `timeout` bounds the time without any
/// progress, not the whole.
pub async fn flush<N: Net>(
    worker: &Worker<N>,
    slot: &Slot,
    direction: Direction,
    tx: &mut N::Tx,
    timeout: Duration,
    failure: Failure,
) -> Result<std::io::Result<()>, Failure> {
    loop {
        let before = tx.sent();
        slot.set(direction, worker.clock.now_ms(), timeout);
        let flushed = wait_alone(slot, direction, failure, |cx| tx.poll(cx)).await;
        if flushed.is_ok() || tx.sent() == before {
            return flushed;
        }
    }
}

/// Waits for one operation with nothing beside it, bounded by the slot's `direction`.
pub async fn wait_alone<T>(
    slot: &Slot,
    direction: Direction,
    failure: Failure,
    mut operation: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<T, Failure> {
    poll_fn(move |cx| match operation(cx) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending if slot.is_expired(direction) => Poll::Ready(Err(failure)),
        Poll::Pending if slot.is_expired(Direction::Call) => Poll::Ready(Err(Failure::CallTimeout)),
        Poll::Pending => Poll::Pending,
    })
    .await
}
