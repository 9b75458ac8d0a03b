//! Opening a connection to a node.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use osmia_core::origin::Origin;
use osmia_core::proxy_protocol;
use osmia_core::reply::Failure;
use osmia_core::snapshot::{Node, Upstream, UpstreamProtocol};

use super::connection::Downstream;
use super::side::{Limit, Watch, wait};
use crate::buf::Buf;
use crate::http2::client::{self, Claim, Key, Sessions};
use crate::net::{Conn, Net, Transport, Tx};
use crate::worker::Worker;
use crate::worker::deadline::Slot;
use crate::worker::upstreams::UpstreamConn;

/// What a connection to a node of `upstream` begins with, before anything else and before TLS: a
/// PROXY protocol header that names this client. `None`: nothing.
pub fn preamble<N: Net>(upstream: &Upstream, down: &Downstream<N>) -> Option<Buf> {
    let version = upstream.proxy_protocol?;
    let origin = down.origin.as_deref();
    let text = match origin.and_then(|origin| origin.announced) {
        Some((source, destination)) => proxy_protocol::proxied(version, source, destination),
        None if origin.is_some_and(Origin::is_nameless) => proxy_protocol::local(version),
        None => {
            // A listener on all addresses does not know which of them was used.
            let destination = down.conn.tx.local_addr().unwrap_or(down.listener.addr);
            proxy_protocol::proxied(version, down.client.addr, destination)
        }
    };
    Some(Buf::copy_of(text.as_bytes()))
}

/// Connects to `node` and sends `preamble`.
pub async fn connect<N: Net>(net: &N, node: &Node, preamble: Option<Buf>) -> io::Result<Conn<N>> {
    let mut conn = match &node.unix {
        None => net.connect(node.addr).await?,
        // Boxed, so that the usual case has a small future.
        Some(path) => Box::pin(net.connect_unix(path)).await?,
    };
    if let Some(preamble) = preamble {
        conn.tx.start(preamble);
        poll_fn(|cx| conn.tx.poll(cx)).await?;
    }
    Ok(conn)
}

/// What to connect to.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// The upstream.
    pub upstream: &'a Upstream,
    /// Its node.
    pub node: &'a Node,
    /// The name that the node's certificate has to be for; `None`: without TLS.
    pub name: Option<&'a [u8]>,
}

/// Makes the TLS handshake on a connection to a node, if there is to be one.
async fn secure<N: Transport>(conn: Conn<N>, to: Destination<'_>) -> Result<Conn<N>, Failure> {
    let (Some(tls), Some(name)) = (&to.upstream.tls, to.name) else { return Ok(conn) };
    let name = String::from_utf8_lossy(name);
    let config = match to.upstream.protocol {
        UpstreamProtocol::Http1 => &tls.config,
        UpstreamProtocol::Grpc | UpstreamProtocol::Http2 => &tls.h2,
    };
    // An IPv6 address is in brackets in a `Host`.
    let secured = N::secure_upstream(conn, config.clone(), name.trim_matches(['[', ']'])).await;
    secured.map_err(|error| {
        tracing::warn!(upstream = %to.upstream.id, node = %to.node.label, "TLS: {error}");
        Failure::Connect
    })
}

/// A connection that more than TCP was done for.
pub struct Opened<N: Transport> {
    /// The connection, or a stream on one.
    pub conn: UpstreamConn<N>,
    /// It was there before.
    pub reused: bool,
}

/// A connection under TLS, or a stream on one of HTTP/2; within `limit`, and only as long as the
/// client is there.
pub async fn layered<N: Transport>(
    worker: &Worker<N>,
    down: &mut Downstream<N>,
    to: Destination<'_>,
    preamble: Option<Buf>,
    limit: Limit,
) -> Result<Opened<N>, Failure> {
    let (mut side, slot) = watch(down);
    if to.upstream.protocol == UpstreamProtocol::Http1 {
        let mut opening = pin!(secured(worker, to, preamble));
        wait(worker, slot, &mut side, limit, |cx| opening.as_mut().poll(cx)).await?
    } else {
        let mut opening = pin!(stream(worker, to, preamble));
        wait(worker, slot, &mut side, limit, |cx| opening.as_mut().poll(cx)).await?
    }
}

/// Watches for the client going away while something is done towards a node; with the slot that
/// bounds it.
pub fn watch<N: Transport>(down: &mut Downstream<N>) -> (Watch<'_, N>, &Slot) {
    let Downstream { conn, early, slot, .. } = down;
    let slot: &Slot = slot;
    (Watch { client: &mut conn.rx, upstream: None, early, slot }, slot)
}

/// Connects, sends `preamble`, and makes the TLS handshake if there is to be one.
async fn dial<N: Transport>(
    worker: &Worker<N>,
    to: Destination<'_>,
    preamble: Option<Buf>,
) -> Result<Conn<N>, Failure> {
    let conn = connect(&worker.net, to.node, preamble).await;
    worker.stats.connects.add(1);
    secure(conn.map_err(|error| failure(&error))?, to).await
}

/// A new connection under TLS; it is none that was there before.
async fn secured<N: Transport>(
    worker: &Worker<N>,
    to: Destination<'_>,
    preamble: Option<Buf>,
) -> Result<Opened<N>, Failure> {
    let mut conn = UpstreamConn::new(dial(worker, to, preamble).await?);
    conn.name = to.name.map(Into::into);
    Ok(Opened { conn, reused: false })
}

/// A stream on a connection of HTTP/2 to the node: one that is there, or a new one.
async fn stream<N: Transport>(
    worker: &Worker<N>,
    to: Destination<'_>,
    mut preamble: Option<Buf>,
) -> Result<Opened<N>, Failure> {
    // A connection that names its client serves no other.
    let own = RefCell::default();
    let sessions = if preamble.is_some() { &own } else { &worker.sessions };
    let Destination { upstream, node, name } = to;
    let key = &Key { pool: node.pool, name: name.map(Into::into) };
    let grpc = upstream.protocol == UpstreamProtocol::Grpc;
    let mut reused = true;
    loop {
        let claim = poll_fn(|cx| match sessions.borrow_mut().claim(key, grpc, cx) {
            Claim::Wait => Poll::Pending,
            claim => Poll::Ready(claim),
        })
        .await;
        if let Claim::Stream(rx, tx) = claim {
            let mut conn = UpstreamConn::new(N::stream(rx, tx));
            conn.multiplexed = true;
            return Ok(Opened { conn, reused });
        }
        reused = false;
        let _dialing = Dialing { sessions, key };
        let conn = dial(worker, to, preamble.take()).await?;
        let begun =
            client::begin(&worker.net, sessions, conn, key.clone(), upstream.keepalive).await;
        begun.map_err(|error| {
            tracing::warn!(upstream = %upstream.id, node = %node.label, "HTTP/2: {error}");
            Failure::Connect
        })?;
    }
}

/// Tells those who wait, however dialling ends.
struct Dialing<'a> {
    sessions: &'a RefCell<Sessions>,
    key: &'a Key,
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.sessions.borrow_mut().dialed(self.key);
    }
}

/// What an error of connecting is to the request.
pub fn failure(error: &io::Error) -> Failure {
    const OUT_OF_RESOURCES: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    match error.raw_os_error() {
        Some(code) if OUT_OF_RESOURCES.contains(&code) => Failure::Overload,
        Some(libc::ETIMEDOUT) => Failure::ConnectTimeout,
        _ => Failure::Connect,
    }
}
