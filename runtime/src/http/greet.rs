//! What comes before the first request of a connection under TLS.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use osmia_core::reply::Failure;
use osmia_core::tls::{Handshake, TlsPeer};
use rustls::HandshakeKind;
use rustls::pki_types::UnixTime;

use super::connection::Idle;
use super::reply;
use crate::buf::{Buf, Class};
use crate::net::tls::handshake::{Choice, HandshakeError};
use crate::net::{Conn, Transport, Tx, receive};
use crate::worker::Worker;
use crate::worker::deadline::{Direction, Slot};

/// The type of a record that begins a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// What ALPN calls HTTP/2 (RFC 9113, section 3.2).
const H2: &[u8] = b"h2";

/// A connection that is ready for requests.
pub struct Greeted<N: Transport> {
    /// Under TLS.
    pub conn: Conn<N>,
    /// Who it is, and when it may fall silent.
    pub idle: Idle,
    /// The client chose HTTP/2.
    pub http2: bool,
}

/// Shakes hands. `None`: the connection is over, and that has been told.
pub async fn run<N: Transport>(
    worker: &Worker<N>,
    mut conn: Conn<N>,
    mut idle: Idle,
    early: Option<Buf>,
) -> Option<Greeted<N>> {
    // One deadline for all of it: a handshake that trickles in is none.
    idle.slot.set(Direction::Main, worker.clock.now_ms(), worker.settings.downstream.header);
    let first = match early {
        Some(early) => early,
        None => within(&idle.slot, first_bytes(&mut conn)).await?.ok()?,
    };
    if first.bytes().first() != Some(&HANDSHAKE_RECORD) {
        refuse_plain(worker, conn, &idle, &first).await;
        return None;
    }
    let local = worker.snapshot();
    let fallback = worker.settings.fallback_sni.as_deref();
    let choose = |name: Option<&str>| {
        let name = name.map(|name| name.trim_end_matches('.'));
        let sni = name.or(fallback).unwrap_or_default();
        let server = local.get().and_then(|snapshot| snapshot.certificates.find(sni));
        let server = server.ok_or_else(|| HandshakeError::NoCertificate(sni.to_owned()))?;
        let names = (name.map(str::to_owned), sni.to_owned());
        Ok(Choice { config: server.config.clone(), of: (names, server.clone()) })
    };
    let shaken = within(&idle.slot, N::secure(conn, first, choose)).await;
    let (conn, ((name, sni), server)) = match shaken.unwrap_or(Err(HandshakeError::Timeout)) {
        Ok(shaken) => shaken,
        Err(error) => {
            worker.stats.refused.add(1);
            tracing::info!(client = %idle.addr, listener = %idle.listener.addr, "TLS: {error}");
            return None;
        }
    };
    let peer = {
        let common = N::tls(&conn)?;
        let handshake = Handshake {
            protocol: common.protocol_version(),
            cipher: common.negotiated_cipher_suite().map(|suite| suite.suite()),
            alpn: common.alpn_protocol(),
            server_name: name.as_deref(),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            certificates: common.peer_certificates(),
        };
        TlsPeer::of(&handshake, &sni, server, UnixTime::now())
    };
    let http2 = &*peer.alpn == H2;
    idle.tls = Some(Rc::new(peer));
    Some(Greeted { conn, idle, http2 })
}

/// What `future` comes to, unless the slot's deadline passes before.
pub async fn within<F: Future>(slot: &Slot, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        slot.attach(cx);
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if slot.is_expired(Direction::Main) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn first_bytes<N: Transport>(conn: &mut Conn<N>) -> io::Result<Buf> {
    receive(conn, Buf::new(Class::Small)).await
}

/// Tells a client that speaks HTTP without TLS so; to anything else nothing can be said.
async fn refuse_plain<N: Transport>(
    worker: &Worker<N>,
    mut conn: Conn<N>,
    idle: &Idle,
    first: &Buf,
) {
    worker.stats.refused.add(1);
    let failure = Failure::PlainHttp;
    tracing::info!(client = %idle.addr, listener = %idle.listener.addr, "{failure}");
    if !first.bytes().first().is_some_and(u8::is_ascii_uppercase) {
        return;
    }
    conn.tx.start(reply::build(worker, failure, true, false, ""));
    let _ = within(&idle.slot, poll_fn(|cx| conn.tx.poll(cx))).await;
    // Until the client closes: closing with unread bytes would reset the connection, and the
    // reply might never be seen.
    conn.tx.shutdown();
    while matches!(within(&idle.slot, first_bytes(&mut conn)).await, Some(Ok(_))) {}
}
