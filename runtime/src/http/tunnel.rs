//! After `101 Switching Protocols`: bytes both ways until both sides are done.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use osmia_core::reply::Failure;

use super::side::wait_alone;
use crate::buf::{Buf, Class};
use crate::net::{Conn, Net, Rx, Tx};
use crate::worker::Worker;
use crate::worker::deadline::{Direction, Slot};

/// Bytes that went through a tunnel.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the client.
    pub from_client: Cell<u64>,
    /// To the client.
    pub to_client: Cell<u64>,
}

/// Relays between `client` and `upstream`. It ends when both directions have ended, when one
/// fails, or when both have been silent for `idle`.
pub async fn run<N: Net>(
    worker: &Worker<N>,
    slot: &Slot,
    client: &mut Conn<N>,
    upstream: &mut Conn<N>,
    early: Option<Buf>,
    idle: Duration,
    traffic: &Traffic,
) {
    let touch = || slot.set(Direction::Main, worker.clock.now_ms(), idle);
    touch();
    slot.clear(Direction::Upload);
    if let Some(early) = early {
        traffic.from_client.set(early.len() as u64);
        if wait_alone(slot, Direction::Main, Failure::SendTimeout, |cx| upstream.tx.poll(cx))
            .await
            .is_err()
        {
            return;
        }
        upstream.tx.start(early);
    }
    let there = pump(slot, &mut client.rx, &mut upstream.tx, &touch, &traffic.from_client);
    let back = pump(slot, &mut upstream.rx, &mut client.tx, &touch, &traffic.to_client);
    let (mut there, mut back) = (pin!(there), pin!(back));
    let (mut there_done, mut back_done) = (false, false);
    poll_fn(|cx| {
        for (future, done) in [
            (there.as_mut() as std::pin::Pin<&mut dyn Future<Output = bool>>, &mut there_done),
            (back.as_mut(), &mut back_done),
        ] {
            if *done {
                continue;
            }
            match future.poll(cx) {
                Poll::Ready(true) => *done = true,
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if there_done && back_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// One direction; `true`: it ended with the sender's end of stream, which was passed on.
async fn pump<R: Rx, T: Tx>(
    slot: &Slot,
    from: &mut R,
    to: &mut T,
    touch: &impl Fn(),
    count: &Cell<u64>,
) -> bool {
    loop {
        if !from.is_armed() {
            from.start(Buf::new(Class::Large), false);
        }
        let received =
            wait_alone(slot, Direction::Main, Failure::ReadTimeout, |cx| from.poll(cx)).await;
        let Ok((Ok(len), buf)) = received else { return false };
        touch();
        if wait_alone(slot, Direction::Main, Failure::SendTimeout, |cx| to.poll(cx))
            .await
            .is_ok_and(|sent| sent.is_ok())
        {
            if len == 0 {
                to.shutdown();
                return true;
            }
            count.set(count.get() + len as u64);
            to.start(buf);
        } else {
            return false;
        }
        // Nothing else would wake this direction for a send that takes its time.
        let sent = wait_alone(slot, Direction::Main, Failure::SendTimeout, |cx| to.poll(cx)).await;
        if !sent.is_ok_and(|sent| sent.is_ok()) {
            return false;
        }
        touch();
    }
}
