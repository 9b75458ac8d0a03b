//! Where a connection comes from, when that is more than one TCP address: a Unix domain socket, or
//! a proxy that announces its client with a PROXY protocol header.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

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
}
