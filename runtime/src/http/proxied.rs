//! A connection that begins with a PROXY protocol header: it is read before anything else.

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use osmia_core::origin::Origin;
use osmia_core::proxy_protocol::{self, Header, HeaderError, V2_BYTES_MAX};

use super::connection::Idle;
use crate::buf::{Buf, Class, HEADROOM, SMALL, TAILROOM};
use crate::net::{Conn, Net, Rx};
use crate::worker::Worker;
use crate::worker::deadline::Direction;

/// Why a connection is not served.
enum Refusal {
    /// `osmia.proxy_protocol.trusted` does not name its peer.
    Untrusted,
    /// What came is no header.
    Header(HeaderError),
    /// There was no whole header in time.
    Timeout,
    /// The peer closed the connection within its header.
    Cut,
    /// It closed it, or the gateway is going down, before there was anything of a header: a probe
    /// of a load balancer, usually.
    Silent,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted => f.write_str(
                "its PROXY protocol header is not accepted, osmia.proxy_protocol.trusted does not \
                 name it",
            ),
            Self::Header(error) => error.fmt(f),
            Self::Timeout => f.write_str("no PROXY protocol header in time"),
            Self::Cut => f.write_str("the PROXY protocol header breaks off"),
            Self::Silent => f.write_str("no PROXY protocol header"),
        }
    }
}

/// Reads the header: the client that it names, and what came behind it. `None`: the connection is
/// over, and that has been told.
pub(super) async fn open<N: Net>(
    worker: &Worker<N>,
    conn: &mut Conn<N>,
    idle: Idle,
) -> Option<(Idle, Option<Buf>)> {
    match read(worker, conn, &idle).await {
        Ok((header, early)) => Some((introduce(idle, header), early)),
        Err(refusal) => {
            worker.stats.refused.add(1);
            if matches!(refusal, Refusal::Silent) {
                tracing::debug!(peer = %Peer(&idle), "closing a connection: {refusal}");
            } else {
                tracing::info!(peer = %Peer(&idle), "closing a connection: {refusal}");
            }
            None
        }
    }
}

/// Who really connected, for messages.
struct Peer<'a>(&'a Idle);

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.origin {
            Some(_) => f.write_str("unix:"),
            None => self.0.addr.fmt(f),
        }
    }
}

/// The connection as the one of the client that the header names.
fn introduce(idle: Idle, header: Header) -> Idle {
    let Header::Proxied { source, destination } = header else { return idle };
    let origin = match &idle.origin {
        Some(origin) => origin.announcing(source, destination),
        None => {
            let peer = Some(idle.addr);
            Origin { peer, ..Origin::default() }.announcing(source, destination)
        }
    };
    Idle { addr: source, origin: Some(Rc::new(origin)), ..idle }
}

/// The header, and what came behind it.
async fn read<N: Net>(
    worker: &Worker<N>,
    conn: &mut Conn<N>,
    idle: &Idle,
) -> Result<(Header, Option<Buf>), Refusal> {
    let trusted = worker.settings.proxy_protocol_trusted.as_ref();
    // Who may use a Unix domain socket is a matter of its directory.
    if idle.origin.is_none() && trusted.is_some_and(|set| !set.contains(idle.addr.ip())) {
        return Err(Refusal::Untrusted);
    }
    let slot = &idle.slot;
    slot.set(Direction::Main, worker.clock.now_ms(), worker.settings.downstream.header);
    let mut buf = Buf::new(Class::Small);
    loop {
        let empty = buf.is_empty();
        conn.rx.start(buf, false);
        let (received, filled) = poll_fn(|cx| {
            slot.attach(cx);
            if let Poll::Ready(done) = conn.rx.poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if slot.is_expired(Direction::Main) {
                return Poll::Ready(Err(Refusal::Timeout));
            }
            if worker.is_draining() {
                slot.want_nudge();
            }
            if worker.idle_grace_is_over() {
                Poll::Ready(Err(Refusal::Silent))
            } else {
                Poll::Pending
            }
        })
        .await?;
        buf = filled;
        match received {
            Ok(len) if len > 0 => {}
            _ if empty => return Err(Refusal::Silent),
            _ => return Err(Refusal::Cut),
        }
        if let Some((header, len)) = proxy_protocol::parse(buf.bytes()).map_err(Refusal::Header)? {
            buf.advance(len);
            return Ok((header, Some(buf).filter(|buf| !buf.is_empty())));
        }
    }
}

// A header that is not complete yet leaves room to receive the rest of it.
const _: () = assert!(SMALL - HEADROOM - TAILROOM > V2_BYTES_MAX);
