//! A client's connection: requests one after another.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use osmia_core::forwarded::Trust;
use osmia_core::http2;
use osmia_core::origin::{Origin, UNIX_CLIENT};
use osmia_core::reply::Failure;
use osmia_core::tls::TlsPeer;

use super::attempts::Attempts;
use super::exchange::{self, Disposition};
use super::greet::{self, Greeted};
use super::response::Delivery;
use super::side::{self, wait_alone};
use super::{proxied, reply};
use crate::buf::{Buf, Class};
use crate::http2::server;
use crate::log::Record;
use crate::net::{Conn, Net, Rx, Transport, Tx};
use crate::worker::deadline::{Direction, SlotGuard};
use crate::worker::upstreams::duration_ms;
use crate::worker::{ListenerInfo, Scratch, Worker};

/// How long a closing connection may be silent while it is read on, so that the last reply is not
/// lost to a reset (nginx `lingering_timeout`).
const LINGER_SILENCE: Duration = Duration::from_secs(5);
/// How long a closing connection is read on at the most (nginx `lingering_time`).
const LINGER: Duration = Duration::from_secs(30);
/// How much is read on from a client that sends what is no HTTP. A body that is still on its way
/// when the response has ended has no such limit.
const REFUSED_LINGER_BYTES: u64 = 256 * 1024;
/// From this many requests per tick on a connection is in full swing.
const BUSY_ARMS_PER_TICK: u32 = 8;

/// The client's address, with its text made once.
#[derive(Debug)]
pub struct ClientAddr {
    /// The address.
    pub addr: SocketAddr,
    text: [u8; 46],
    text_len: u8,
}

impl ClientAddr {
    fn of(addr: SocketAddr, origin: Option<&Origin>) -> Self {
        if origin.is_some_and(Origin::is_nameless) {
            let mut text = [0; 46];
            text[..UNIX_CLIENT.len()].copy_from_slice(UNIX_CLIENT);
            return Self { addr, text, text_len: UNIX_CLIENT.len() as u8 };
        }
        Self::new(addr)
    }

    fn new(addr: SocketAddr) -> Self {
        let mut text = [0; 46];
        let mut rest = &mut text[..];
        // The longest IPv6 address has 45 bytes.
        let _ = match addr.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => write!(rest, "{ip}"),
            std::net::IpAddr::V6(ip) => write!(rest, "{ip}"),
        };
        let text_len = (46 - rest.len()) as u8;
        Self { addr, text, text_len }
    }

    /// The address without port, as text.
    #[inline]
    pub fn ip(&self) -> &[u8] {
        &self.text[..usize::from(self.text_len)]
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ip() == UNIX_CLIENT { f.write_str("unix:") } else { self.addr.fmt(f) }
    }
}

/// The client's side of exchanges.
pub struct Downstream<N: Net> {
    /// The transport.
    pub conn: Conn<N>,
    /// Its deadlines.
    pub slot: SlotGuard,
    /// Who it is.
    pub client: ClientAddr,
    /// What is special about the connection.
    pub origin: Option<Rc<Origin>>,
    /// Where it was accepted.
    pub listener: Rc<ListenerInfo>,
    /// Its TLS; `None`: it speaks without.
    pub tls: Option<Rc<TlsPeer>>,
    /// Requests begun.
    pub requests: u32,
    /// Bytes of the next request that came early.
    pub early: Option<Buf>,
    /// The send under way is too large to be left alone.
    pub eager_send: bool,
    /// The tick in which the receive was last armed, and how often it was in that tick.
    armed_tick: u32,
    armed_in_tick: u32,
}

impl<N: Net> Downstream<N> {
    /// A connection that was just accepted, or taken up again.
    pub fn new(worker: &Worker<N>, conn: Conn<N>, idle: Idle) -> Self {
        Self {
            conn,
            slot: idle.slot,
            client: ClientAddr::of(idle.addr, idle.origin.as_deref()),
            origin: idle.origin,
            listener: idle.listener,
            tls: idle.tls,
            requests: idle.requests,
            early: None,
            eager_send: false,
            armed_tick: worker.clock.tick(),
            armed_in_tick: 0,
        }
    }

    /// The current task is the one to be woken.
    pub async fn attach(&self) {
        poll_fn(|cx| {
            self.slot.attach(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Begins to receive the next request, so that it can be cancelled when the connection turns
    /// out to be idle. That has a price, which a connection in full swing is spared; if it falls
    /// silent at that moment it keeps its buffer until its next request or its end.
    pub fn arm(&mut self, worker: &Worker<N>) {
        let tick = worker.clock.tick();
        if std::mem::replace(&mut self.armed_tick, tick) != tick {
            self.armed_in_tick = 0;
        }
        self.armed_in_tick += 1;
        self.conn.rx.start(Buf::new(Class::Small), self.armed_in_tick <= BUSY_ARMS_PER_TICK);
    }

    /// What the client's own `X-Forwarded-*` are worth.
    #[inline]
    pub fn trust(&self, worker: &Worker<N>) -> Trust {
        let Some(trusted) = &worker.settings.trusted_addresses else { return Trust::Unset };
        let real = match &self.origin {
            None => Some(self.client.addr),
            Some(origin) => origin.peer,
        };
        Trust::of(Some(trusted), real.map(|real| real.ip()))
    }

    /// Whether the settings allow another request on this connection.
    pub fn may_stay(&self, worker: &Worker<N>) -> bool {
        let timeouts = &worker.settings.downstream;
        let limit = timeouts.keepalive_requests;
        (limit == 0 || self.requests < limit) && !timeouts.keepalive.is_zero()
    }

    /// Waits until everything is sent.
    pub async fn flush(&mut self, worker: &Worker<N>) -> Result<(), Failure> {
        let timeout = worker.settings.downstream.send;
        let (tx, failure) = (&mut self.conn.tx, Failure::ClientTimeout);
        side::flush(worker, &self.slot, Direction::Main, tx, timeout, failure)
            .await?
            .map_err(|_| Failure::ClientGone)
    }

    /// Sends a reply of the gateway's own.
    pub async fn send(&mut self, worker: &Worker<N>, reply: Buf) -> Result<(), Failure> {
        self.flush(worker).await?;
        self.conn.tx.start(reply);
        Ok(())
    }
}

/// What is kept of a connection that waits without a buffer.
pub struct Idle {
    /// Its deadlines.
    pub slot: SlotGuard,
    /// The client.
    pub addr: SocketAddr,
    /// What is special about the connection.
    pub origin: Option<Rc<Origin>>,
    /// Where it was accepted.
    pub listener: Rc<ListenerInfo>,
    /// Its TLS; `None`: it speaks without.
    pub tls: Option<Rc<TlsPeer>>,
    /// Requests so far.
    pub requests: u32,
}

impl Idle {
    /// The same client, for one of its streams.
    #[must_use]
    pub fn for_stream<N: Net>(&self, worker: &Worker<N>) -> Self {
        Self {
            slot: worker.deadlines.register(),
            addr: self.addr,
            origin: self.origin.clone(),
            listener: Rc::clone(&self.listener),
            tls: self.tls.clone(),
            requests: self.requests - 1,
        }
    }
}

/// Takes up a connection that was accepted.
pub fn accept<N: Transport>(
    worker: &Rc<Worker<N>>,
    conn: Conn<N>,
    addr: SocketAddr,
    listener: Rc<ListenerInfo>,
) {
    let slot = worker.deadlines.register();
    let origin = listener.origin.clone();
    let greeted = listener.tls || listener.proxy_protocol;
    let idle = Idle { slot, addr, origin, listener, tls: None, requests: 0 };
    worker.stats.accepted.add(1);
    worker.stats.open.add(1);
    if greeted {
        worker.net.spawn(contained(Rc::clone(worker), greet(Rc::clone(worker), conn, idle)));
    } else {
        start(worker, conn, idle, None);
    }
}

/// What comes before the first request. It is a task of its own, so that it takes no room in those
/// of requests.
async fn greet<N: Transport>(worker: Rc<Worker<N>>, mut conn: Conn<N>, idle: Idle) -> After<N> {
    let (idle, early) = if idle.listener.proxy_protocol {
        match proxied::open(&worker, &mut conn, idle).await {
            Some(opened) => opened,
            None => return After::Closed,
        }
    } else {
        (idle, None)
    };
    if !idle.listener.tls {
        return After::Serve(conn, idle, early);
    }
    match greet::run(&worker, conn, idle, early).await {
        Some(Greeted { conn, idle, http2: true }) => After::Http2(conn, idle, Buf::none()),
        Some(Greeted { conn, idle, http2: false }) => After::Serve(conn, idle, None),
        None => After::Closed,
    }
}

/// Runs `serve` as a task of its own, containing a panic to this connection.
fn start<N: Transport>(worker: &Rc<Worker<N>>, conn: Conn<N>, idle: Idle, early: Option<Buf>) {
    let mut down = Downstream::new(worker, conn, idle);
    down.early = early;
    let task = serve(Rc::clone(worker), down);
    worker.net.spawn(contained(Rc::clone(worker), task));
}

/// What `task` comes to; `None`: it ended in a panic, which is counted and told.
///
/// No `async fn`: that would hold `task` twice, as an argument and where it runs.
pub fn guarded<N: Net, T>(
    worker: Rc<Worker<N>>,
    task: impl Future<Output = T>,
) -> impl Future<Output = Option<T>> {
    AssertUnwindSafe(task).catch_unwind().map(move |outcome| {
        if outcome.is_err() {
            worker.stats.panics.add(1);
            tracing::error!(
                worker = worker.id,
                "a connection was ended by a panic in the gateway; this is a defect, please report \
                 it with the message above"
            );
        }
        outcome.ok()
    })
}

/// Runs a connection's task, and what follows it.
fn contained<N: Transport>(
    worker: Rc<Worker<N>>,
    task: impl Future<Output = After<N>>,
) -> impl Future<Output = ()> {
    guarded(Rc::clone(&worker), task).map(move |after| match after {
        Some(After::Park(conn, idle)) => {
            let readable = Box::pin(N::park(conn));
            worker.net.spawn(parked(Rc::clone(&worker), readable, idle));
        }
        Some(After::Serve(conn, idle, early)) => start(&worker, conn, idle, early),
        Some(After::Http2(conn, idle, received)) => {
            let task = server::serve(Rc::clone(&worker), conn, idle, received);
            let closed = Rc::clone(&worker);
            let task = guarded(Rc::clone(&worker), task).map(move |_| closed.stats.open.sub(1));
            worker.net.spawn(task);
        }
        Some(After::Closed) | None => worker.stats.open.sub(1),
    })
}

/// What follows when the task of an active connection ends.
enum After<N: Net> {
    /// It waits without a buffer.
    Park(Conn<N>, Idle),
    /// Requests may come; some bytes of the first one have come.
    Serve(Conn<N>, Idle, Option<Buf>),
    /// It speaks HTTP/2, and this much of it has come.
    Http2(Conn<N>, Idle, Buf),
    Closed,
}

/// A connection without a buffer, until its client says something. Kept small: there may be very
/// many.
async fn parked<N: Transport, F>(worker: Rc<Worker<N>>, mut readable: Pin<Box<F>>, idle: Idle)
where
    F: Future<Output = io::Result<Conn<N>>>,
{
    // The deadline is the one that the wait began with.
    let woken = {
        let mut attached = false;
        poll_fn(|cx| {
            if !std::mem::replace(&mut attached, true) {
                idle.slot.attach(cx);
            }
            match readable.as_mut().poll(cx) {
                Poll::Ready(conn) => Poll::Ready(conn.ok()),
                Poll::Pending if idle.slot.is_expired(Direction::Main) => Poll::Ready(None),
                Poll::Pending if worker.is_draining() => {
                    idle.slot.want_nudge();
                    if worker.idle_grace_is_over() { Poll::Ready(None) } else { Poll::Pending }
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    };
    match woken {
        Some(conn) => start(&worker, conn, idle, None),
        None => worker.stats.open.sub(1),
    }
}

async fn serve<N: Transport>(worker: Rc<Worker<N>>, mut down: Downstream<N>) -> After<N> {
    down.attach().await;
    let mut scratch = worker.take_scratch();
    let after = loop {
        let disposition = match next_request(&worker, &mut down, &mut scratch).await {
            Next::Request(buf) => exchange::run(&worker, &mut down, &mut scratch, buf).await,
            Next::Refused(failure, buf) => {
                refuse(&worker, &mut down, &mut scratch, failure, &buf).await
            }
            Next::Close => break After::Closed,
            Next::Http2(received) => {
                let Downstream { conn, slot, client, origin, listener, tls, requests, .. } = down;
                let idle = Idle { slot, addr: client.addr, origin, listener, tls, requests };
                worker.give_scratch(scratch);
                return After::Http2(conn, idle, received);
            }
            Next::Park => {
                let Downstream { conn, slot, client, origin, listener, tls, requests, .. } = down;
                let idle = Idle { slot, addr: client.addr, origin, listener, tls, requests };
                worker.give_scratch(scratch);
                return After::Park(conn, idle);
            }
        };
        match disposition {
            Disposition::KeepAlive => {}
            Disposition::Close => {
                if down.flush(&worker).await.is_ok() && down.early.is_some() {
                    linger(&worker, &mut down, REFUSED_LINGER_BYTES).await;
                }
                break After::Closed;
            }
            Disposition::Linger(most) => {
                linger(&worker, &mut down, most).await;
                break After::Closed;
            }
            Disposition::Abort => break After::Closed,
            Disposition::Reset => {
                down.conn.tx.reset();
                break After::Closed;
            }
        }
    };
    worker.give_scratch(scratch);
    after
}

enum Next {
    /// A head was parsed; the buffer begins with it.
    Request(Buf),
    /// What came is no acceptable head.
    Refused(Failure, Buf),
    /// The client speaks HTTP/2 without having asked (RFC 9113, section 3.3).
    Http2(Buf),
    /// The connection is over.
    Close,
    /// Nothing came for a tick.
    Park,
}

async fn next_request<N: Net>(
    worker: &Worker<N>,
    down: &mut Downstream<N>,
    scratch: &mut Scratch,
) -> Next {
    let mut buf = match down.early.take() {
        Some(buf) => buf,
        None => match first_bytes(worker, down).await {
            Ok(buf) => buf,
            Err(next) => return next,
        },
    };
    scratch.request.reset();
    let limits = &worker.settings.limits;
    let mut waiting = false;
    loop {
        // Under TLS it is agreed on before.
        let either = down.requests == 0 && down.listener.http2 && down.tls.is_none();
        let is_http2 = if either { http2::begins(buf.bytes()) } else { Some(false) };
        match is_http2 {
            Some(true) => return Next::Http2(buf),
            Some(false) => match scratch.request.parse(buf.bytes(), limits) {
                Ok(true) => return Next::Request(buf),
                Ok(false) => {}
                Err(error) => return Next::Refused(Failure::RequestHead(error), buf),
            },
            None => {}
        }
        if !std::mem::replace(&mut waiting, true) {
            // One deadline for the whole head, however slowly it trickles in.
            let timeout = worker.settings.downstream.header;
            down.slot.set(Direction::Main, worker.clock.now_ms(), timeout);
        }
        if buf.room() == 0 {
            buf.grow(buf.len());
        }
        down.conn.rx.start(buf, false);
        let Downstream { conn, slot, .. } = down;
        let received =
            wait_alone(slot, Direction::Main, Failure::ClientTimeout, |cx| conn.rx.poll(cx)).await;
        buf = match received {
            // What came is with the receive that is still under way.
            Err(failure) => return Next::Refused(failure, Buf::with_room(0)),
            Ok((Ok(len), buf)) if len > 0 => buf,
            Ok(_) => return Next::Close,
        };
    }
}

/// The first bytes of the next request. Meanwhile the last response may still be on its way out.
async fn first_bytes<N: Net>(worker: &Worker<N>, down: &mut Downstream<N>) -> Result<Buf, Next> {
    if !down.conn.rx.is_armed() {
        down.arm(worker);
    }
    let timeouts = &worker.settings.downstream;
    let timeout = if down.requests == 0 { timeouts.header } else { timeouts.keepalive };
    down.slot.set(Direction::Main, worker.clock.now_ms(), timeout);
    down.slot.want_nudge();
    let Downstream { conn, slot, eager_send, .. } = down;
    let mut parking = false;
    poll_fn(|cx| {
        let nudged = slot.take_nudge();
        if conn.tx.is_busy()
            && (*eager_send || nudged)
            && let Poll::Ready(Err(_)) = conn.tx.poll(cx)
        {
            return Poll::Ready(Err(Next::Close));
        }
        match conn.rx.poll(cx) {
            Poll::Ready((Ok(len), buf)) if len > 0 => return Poll::Ready(Ok(buf)),
            Poll::Ready((Err(error), _)) if parking && is_cancelled(&error) => {
                return Poll::Ready(Err(Next::Park));
            }
            Poll::Ready(_) => return Poll::Ready(Err(Next::Close)),
            Poll::Pending => {}
        }
        if slot.is_expired(Direction::Main) || worker.idle_grace_is_over() {
            return Poll::Ready(Err(Next::Close));
        }
        if nudged && !parking && !conn.tx.is_busy() && conn.rx.is_cancelable() {
            parking = true;
            conn.rx.cancel();
        } else if conn.tx.is_busy() || worker.is_draining() {
            slot.want_nudge();
        }
        Poll::Pending
    })
    .await
}

fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECANCELED)
}

/// Answers a head that is not accepted.
pub async fn refuse<N: Net>(
    worker: &Worker<N>,
    down: &mut Downstream<N>,
    scratch: &mut Scratch,
    failure: Failure,
    buf: &Buf,
) -> Disposition {
    worker.stats.refused.add(1);
    tracing::info!(client = %down.client, "{failure}");
    let reply = reply::build(worker, failure, true, false, "");
    let delivery = Delivery {
        status: failure.status(),
        body_bytes: failure.body().1.len() as u64,
        sent_bytes: reply.len() as u64,
        ..Delivery::default()
    };
    if let Some(log) = worker.log.as_ref().filter(|_| down.listener.access_log) {
        let now = Instant::now();
        log.write(&Record {
            client: &down.client,
            listener: &down.listener,
            origin: down.origin.as_deref(),
            connection_requests: down.requests + 1,
            tls: down.tls.as_deref(),
            request: &scratch.request,
            response: &scratch.response,
            buf: buf.bytes(),
            delivery: &delivery,
            attempts: &Attempts::default(),
            body_received: 0,
            started: now,
            ended: now,
            unix_seconds: worker.clock.unix_seconds(),
            hostname: &worker.settings.hostname,
            server: &worker.settings.server,
        });
    }
    match down.send(worker, reply).await {
        // Whoever was too slow is not waited for any longer.
        Ok(()) if failure == Failure::ClientTimeout => Disposition::Close,
        Ok(()) => Disposition::Linger(REFUSED_LINGER_BYTES),
        Err(_) => Disposition::Abort,
    }
}

/// Says that nothing more will come, and reads on for a while: closing with unread bytes would
/// reset the connection, and the client might never see the reply (RFC 9112, section 9.6).
async fn linger<N: Net>(worker: &Worker<N>, down: &mut Downstream<N>, most: u64) {
    if down.flush(worker).await.is_err() {
        return;
    }
    down.conn.tx.shutdown();
    let Downstream { conn, slot, .. } = down;
    let end = worker.clock.now_ms() + duration_ms(LINGER);
    let mut buf = Some(Buf::new(Class::Large));
    let mut discarded = 0;
    while worker.clock.now_ms() < end && discarded < most && !worker.is_draining() {
        if !conn.rx.is_armed() {
            conn.rx.start(buf.take().unwrap_or_else(|| Buf::new(Class::Large)), false);
        }
        slot.set(Direction::Main, worker.clock.now_ms(), LINGER_SILENCE);
        let received =
            wait_alone(slot, Direction::Main, Failure::ClientTimeout, |cx| conn.rx.poll(cx)).await;
        match received {
            Ok((Ok(len), mut used)) if len > 0 => {
                discarded += len as u64;
                used.clear();
                buf = Some(used);
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Kernel;
    use crate::net::tcp::Tcp;

    /// What an idle connection costs is these sizes, the boxes of the transport and the kernel's
    /// part; perf/results has the sum as measured.
    /// The size of the future that `make` would make; it is never called.
    fn future_size<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_parked_connection_is_small() {
        let waiting = future_size(|conn: Conn<Kernel>, (): (), (): ()| Kernel::park(conn));
        let parked = future_size(|worker: Rc<Worker<Kernel>>, conn: Conn<Kernel>, idle: Idle| {
            parked(worker, Box::pin(Kernel::park(conn)), idle)
        });
        let active = future_size(|worker: Rc<Worker<Kernel>>, down: Downstream<Kernel>, (): ()| {
            contained(Rc::clone(&worker), serve(worker, down))
        });
        let raw = future_size(|conn: Conn<Tcp>, (): (), (): ()| Tcp::park(conn));
        println!("parked {parked} + {waiting} + {raw} bytes, active {active} bytes");
        assert!(parked + waiting + raw <= 512, "{parked} + {waiting} + {raw}");
        assert!(active <= 3 * 1024, "{active}");
    }
}
