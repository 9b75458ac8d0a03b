//! Listening sockets, all bound before anything starts: for TCP one per worker and address, for a
//! Unix domain socket one that the workers share.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use osmia_core::settings::{ListenAddr, Listener};
use socket2::{Domain, Protocol, Socket as Socket2, Type};
use thiserror::Error;

use crate::unix_socket::{self, SocketFile};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another process has it.
    #[error(
        "cannot listen on {0}: the address is in use; stop the other program (ss -ltnp shows it) \
         or change apisix.node_listen"
    )]
    InUse(ListenAddr),
    /// Privileged port, or a directory that cannot be written.
    #[error(
        "cannot listen on {0}: permission denied; ports below 1024 need root or \
         CAP_NET_BIND_SERVICE, Unix domain sockets a directory that can be written, or choose \
         another in apisix.node_listen"
    )]
    Denied(ListenAddr),
    /// A file that is no socket.
    #[error(
        "cannot listen on unix:{}: there is a file that is not a socket; remove it or change \
         apisix.node_listen", .0.display()
    )]
    NotASocket(PathBuf),
    /// Anything else.
    #[error("cannot listen on {addr}: {source}")]
    Other {
        /// The address.
        addr: ListenAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix domain socket, always non-blocking: its workers share that property.
    Unix(UnixListener),
}

impl Socket {
    /// Another descriptor of the same socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// The sockets of one address.
#[derive(Debug)]
pub struct Bound {
    /// The settings; a port 0 in the address is resolved.
    pub listener: Listener,
    /// One socket per worker.
    pub sockets: Vec<Socket>,
    /// Removed in the end.
    pub file: Option<SocketFile>,
}

/// Binds `listener` for `workers` workers. `None`: the address family is missing, and the settings
/// allow that.
pub fn bind(listener: &Listener, workers: usize) -> Result<Option<Bound>, ListenError> {
    let describe = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(listener.addr.clone()),
        io::ErrorKind::PermissionDenied => ListenError::Denied(listener.addr.clone()),
        _ => ListenError::Other { addr: listener.addr.clone(), source },
    };
    match &listener.addr {
        ListenAddr::Tcp(addr) => {
            // With SO_REUSEPORT a second instance would quietly take a share of the connections.
            // Binding once without it finds any other user of the address.
            let addr = match probe(*addr) {
                Ok(addr) => addr,
                Err(error) if listener.optional && is_missing_family(&error) => return Ok(None),
                Err(error) => return Err(describe(error)),
            };
            let open = |_| open(addr, true).map(Socket::Tcp);
            let sockets = (0..workers).map(open).collect::<io::Result<_>>().map_err(describe)?;
            let listener = Listener { addr: ListenAddr::Tcp(addr), ..listener.clone() };
            Ok(Some(Bound { listener, sockets, file: None }))
        }
        ListenAddr::Unix(path) => {
            if unix_socket::is_other_file(path) {
                return Err(ListenError::NotASocket(path.clone()));
            }
            let (socket, file) = unix_socket::bind(path, BACKLOG).map_err(describe)?;
            let copy = |_| socket.try_clone().map(Socket::Unix);
            let sockets = (0..workers).map(copy).collect::<io::Result<_>>().map_err(describe)?;
            Ok(Some(Bound { listener: listener.clone(), sockets, file: Some(file) }))
        }
    }
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn probe(addr: SocketAddr) -> io::Result<SocketAddr> {
    open(addr, false)?.local_addr()
}

fn open(addr: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket2::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
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
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn listener(addr: ListenAddr) -> Listener {
        Listener {
            addr,
            access_log: true,
            optional: false,
            tls: false,
            http2: false,
            proxy_protocol: false,
        }
    }

    fn tcp(addr: &str) -> Listener {
        listener(ListenAddr::Tcp(addr.parse().unwrap()))
    }

    #[test]
    fn a_taken_port_is_refused_even_if_its_owner_shares() {
        let first = bind(&tcp("127.0.0.1:0"), 2).unwrap().unwrap();
        assert_eq!(first.sockets.len(), 2);
        let again = bind(&first.listener, 1);
        assert!(matches!(again, Err(ListenError::InUse(addr)) if addr == first.listener.addr));
    }

    #[test]
    fn a_foreign_address_names_itself() {
        let error = bind(&tcp("192.0.2.1:80"), 1).unwrap_err();
        assert!(error.to_string().contains("192.0.2.1:80"), "{error}");
    }

    #[test]
    fn a_unix_socket_is_for_everybody_and_gone_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("o.sock");
        let wanted = listener(ListenAddr::Unix(path.clone()));
        let bound = bind(&wanted, 2).unwrap().unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!((bound.sockets.len(), mode & 0o777), (2, 0o666));
        UnixStream::connect(&path).unwrap();
        assert!(matches!(bind(&wanted, 1), Err(ListenError::InUse(_))));
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_left_over_socket_is_replaced_and_another_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("o.sock");
        let wanted = listener(ListenAddr::Unix(path.clone()));
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind(&wanted, 1).unwrap().unwrap();
        UnixStream::connect(&path).unwrap();
        // Somebody else's by now: it stays.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "x").unwrap();
        drop(bound);
        let error = bind(&wanted, 1).unwrap_err();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }
}
