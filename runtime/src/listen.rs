//! Listening sockets: one per worker and address, all bound before anything starts.

use std::io;
use std::net::{SocketAddr, TcpListener};

use osmia_core::settings::Listener;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another process has it.
    #[error(
        "cannot listen on {0}: the address is in use; stop the other program (ss -ltnp shows it) \
         or change apisix.node_listen"
    )]
    InUse(SocketAddr),
    /// Privileged port.
    #[error(
        "cannot listen on {0}: permission denied; ports below 1024 need root or \
         CAP_NET_BIND_SERVICE, or choose another in apisix.node_listen"
    )]
    Denied(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {addr}: {source}")]
    Other {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// The sockets of one address.
#[derive(Debug)]
pub struct Bound {
    /// The bound address; its port is resolved if the settings had 0.
    pub addr: SocketAddr,
    /// Whether requests are logged.
    pub access_log: bool,
    /// One socket per worker.
    pub sockets: Vec<TcpListener>,
}

/// Binds `listener` for `workers` workers. `None`: the address family is missing, and the settings
/// allow that.
pub fn bind(listener: &Listener, workers: usize) -> Result<Option<Bound>, ListenError> {
    let describe = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(listener.addr),
        io::ErrorKind::PermissionDenied => ListenError::Denied(listener.addr),
        _ => ListenError::Other { addr: listener.addr, source },
    };
    // With SO_REUSEPORT a second instance would quietly take a share of the connections. Binding
    // once without it finds any other user of the address.
    let addr = match probe(listener.addr) {
        Ok(addr) => addr,
        Err(error) if listener.optional && is_missing_family(&error) => return Ok(None),
        Err(error) => return Err(describe(error)),
    };
    let sockets = (0..workers).map(|_| open(addr, true)).collect::<io::Result<_>>();
    let sockets = sockets.map_err(describe)?;
    Ok(Some(Bound { addr, access_log: listener.access_log, sockets }))
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn probe(addr: SocketAddr) -> io::Result<SocketAddr> {
    open(addr, false)?.local_addr()
}

fn open(addr: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(addr: &str) -> Listener {
        Listener { addr: addr.parse().unwrap(), access_log: true, optional: false }
    }

    #[test]
    fn a_taken_port_is_refused_even_if_its_owner_shares() {
        let first = bind(&listener("127.0.0.1:0"), 2).unwrap().unwrap();
        assert_eq!(first.sockets.len(), 2);
        let again = bind(&listener(&first.addr.to_string()), 1);
        assert!(matches!(again, Err(ListenError::InUse(addr)) if addr == first.addr));
    }

    #[test]
    fn a_foreign_address_names_itself() {
        let error = bind(&listener("192.0.2.1:80"), 1).unwrap_err();
        assert!(error.to_string().contains("192.0.2.1:80"), "{error}");
    }
}
