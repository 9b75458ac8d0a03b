//! Where a connection comes from, when that is more than one TCP address: a Unix domain socket, or
//! a proxy that announces its client with a PROXY protocol header.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::request::number;
use crate::vars::Variable;

/// Stands for the address of whoever has none.
pub const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What nginx shows for the client of a Unix domain socket.
pub const UNIX_CLIENT: &[u8] = b"unix:";

/// What is special about a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Who really connected; `None`: over a Unix domain socket.
    pub peer: Option<SocketAddr>,
    /// The listening Unix domain socket as nginx shows it (`unix:/path`); `None`: TCP.
    pub socket: Option<Box<str>>,
    /// Source and destination in the PROXY protocol header; `None`: it named none.
    pub announced: Option<(SocketAddr, SocketAddr)>,
}

impl Origin {
    /// A connection to the Unix domain socket at `path`.
    pub fn unix(path: &Path) -> Self {
        let socket = format!("unix:{}", path.display()).into();
        Self { socket: Some(socket), ..Self::default() }
    }

    /// Whether the client has no address: it came over a Unix domain socket, and nobody announced
    /// another.
    pub fn is_nameless(&self) -> bool {
        self.peer.is_none() && self.announced.is_none()
    }

    /// The same connection, with what its PROXY protocol header says.
    #[must_use]
    pub fn announcing(&self, source: SocketAddr, destination: SocketAddr) -> Self {
        Self { announced: Some((source, destination)), ..self.clone() }
    }

    /// Appends the address of who really connected, without port.
    pub(crate) fn append_peer(&self, out: &mut Vec<u8>) -> bool {
        match self.peer {
            Some(peer) => append_ip(out, peer),
            None => {
                out.extend_from_slice(UNIX_CLIENT);
                true
            }
        }
    }

    /// Appends one of the variables of the PROXY protocol; `false`: no header named addresses.
    pub(crate) fn append_announced(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let Some((source, destination)) = self.announced else { return false };
        match variable {
            Variable::ProxyProtocolAddr => append_ip(out, source),
            Variable::ProxyProtocolPort => number(out, source.port().into()),
            Variable::ProxyProtocolServerAddr => append_ip(out, destination),
            Variable::ProxyProtocolServerPort => number(out, destination.port().into()),
            _ => false,
        }
    }
}

fn append_ip(out: &mut Vec<u8>, addr: SocketAddr) -> bool {
    out.extend_from_slice(addr.ip().to_canonical().to_string().as_bytes());
    true
}
