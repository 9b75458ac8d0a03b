//! Ports that are a test's own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// A port that nobody listens on, and that nobody else is given while this value lives: a socket is
/// bound to it without listening. The program under test may listen on it nevertheless, as it sets
/// `SO_REUSEADDR` too; until then connections are refused.
#[derive(Debug)]
pub struct Reserved {
    addr: SocketAddr,
    _socket: OwnedFd,
}

impl Reserved {
    /// A port of 127.0.0.1.
    pub fn new() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into()).unwrap()
    }

    /// A port of `ip`; fails where the machine lacks the address.
    pub fn on(ip: IpAddr) -> io::Result<Self> {
        // `TcpListener::bind` would listen as well, so the socket is made by hand.
        let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: no pointers; the result is checked.
        let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: a descriptor that was just opened and that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let on: libc::c_int = 1;
        // SAFETY: the pointer and the size are those of a `c_int` that outlives the call.
        check(unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_REUSEADDR,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        })?;
        bind(&socket, ip)?;
        let addr = TcpListener::from(socket.try_clone()?).local_addr()?;
        Ok(Self { addr, _socket: socket })
    }

    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }
}

impl Default for Reserved {
    fn default() -> Self {
        Self::new()
    }
}

/// Binds to any port of a loopback address.
fn bind(socket: &OwnedFd, ip: IpAddr) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    match ip {
        IpAddr::V4(ip) => {
            // SAFETY: a plain C struct for which zero is valid.
            let mut addr: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            addr.sin_family = libc::AF_INET as libc::sa_family_t;
            addr.sin_addr.s_addr = u32::from(ip).to_be();
            let len = size_of_val(&addr) as libc::socklen_t;
            // SAFETY: the pointer and the length are those of `addr`.
            check(unsafe { libc::bind(fd, (&raw const addr).cast(), len) })?;
        }
        IpAddr::V6(ip) => {
            // SAFETY: a plain C struct for which zero is valid.
            let mut addr: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            addr.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            addr.sin6_addr.s6_addr = ip.octets();
            let len = size_of_val(&addr) as libc::socklen_t;
            // SAFETY: the pointer and the length are those of `addr`.
            check(unsafe { libc::bind(fd, (&raw const addr).cast(), len) })?;
        }
    }
    Ok(())
}

/// A listener whose queue is full, so that further connections neither succeed nor fail: the kernel
/// drops their handshakes.
#[derive(Debug)]
pub struct Unanswering {
    addr: SocketAddr,
    _listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl Unanswering {
    /// A listener with a full queue.
    pub fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // SAFETY: no pointers; a second `listen` sets another length of the queue.
        check(unsafe { libc::listen(listener.as_raw_fd(), 0) }).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut filling = Vec::new();
        // A handshake on loopback takes no time; one that is not answered is what is wanted.
        while let Ok(stream) =
            TcpStream::connect_timeout(&addr, std::time::Duration::from_millis(300))
        {
            filling.push(stream);
        }
        Self { addr, _listener: listener, _filling: filling }
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Default for Unanswering {
    fn default() -> Self {
        Self::new()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
