//! Opening a connection to a node.

use std::future::poll_fn;
use std::io;

use osmia_core::origin::Origin;
use osmia_core::proxy_protocol;
use osmia_core::snapshot::{Node, Upstream};

use super::connection::Downstream;
use crate::buf::Buf;
use crate::net::{Conn, Net, Tx};

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
