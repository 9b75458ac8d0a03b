//! A new connection to a node, up to where requests can be sent on it.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::net::tls::handshake::HandshakeError;
use crate::net::{Conn, Transport};

/// Makes a handshake with a node that has to be `name`.
pub async fn secure<N: Transport>(
    conn: Conn<N>,
    config: Arc<ClientConfig>,
    name: &[u8],
) -> Result<Conn<N>, HandshakeError> {
    let name = String::from_utf8_lossy(name);
    // An IPv6 address is in brackets in a `Host`.
    N::secure_upstream(conn, config, name.trim_matches(['[', ']'])).await
}
