//! Accepting connections: on a TCP socket of the worker's own, or on a Unix domain socket that the
//! workers share.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use monoio::net::{TcpListener, TcpStream};
use osmia_core::origin::UNSPECIFIED;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::driver::Kind;
use crate::listen::Socket;

/// A socket in the event loop that connections are accepted from.
pub enum Acceptor {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix domain socket.
    Unix {
        /// Its place in the event loop: monoio polls any descriptor that it is given as a stream.
        readiness: TcpStream,
        /// The socket.
        socket: UnixListener,
        /// The event loop.
        kind: Kind,
    },
}

impl Acceptor {
    /// A copy of `socket` in this thread's event loop.
    pub fn new(socket: &Socket, kind: Kind) -> io::Result<Self> {
        match socket {
            Socket::Tcp(socket) => {
                // epoll needs it; on io_uring it would make an accept fail rather than wait.
                socket.set_nonblocking(kind == Kind::Epoll)?;
                TcpListener::from_std(socket.try_clone()?).map(Self::Tcp)
            }
            Socket::Unix(socket) => {
                let descriptor = OwnedFd::from(socket.try_clone()?);
                let readiness = TcpStream::from_std(StdStream::from(descriptor))?;
                Ok(Self::Unix { readiness, socket: socket.try_clone()?, kind })
            }
        }
    }

    /// Whether other workers accept from the same socket.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Unix { .. })
    }

    /// The next connection with its client's address; of a Unix domain socket [`UNSPECIFIED`].
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().await,
            Self::Unix { readiness, socket, kind } => loop {
                match socket.accept() {
                    Ok((stream, _)) => return Ok((adopt(stream, *kind)?, UNSPECIFIED)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if has_ended(socket) {
                            return Err(io::Error::from_raw_os_error(libc::EINVAL));
                        }
                        readiness.readable(false).await?;
                    }
                    Err(error) => return Err(error),
                }
            },
        }
    }
}

/// Whether somebody has ended listening: a non-blocking accept does not tell.
fn has_ended(socket: &UnixListener) -> bool {
    let mut poll = [PollFd::new(socket, PollFlags::IN)];
    let polled = rustix::event::poll(&mut poll, Some(&Timespec::default()));
    polled.is_ok_and(|ready| ready > 0) && poll[0].revents().contains(PollFlags::HUP)
}

/// A connected Unix domain socket as a stream of the event loop: receiving, sending and shutting
/// down are the same for all of them.
fn adopt(stream: UnixStream, kind: Kind) -> io::Result<TcpStream> {
    stream.set_nonblocking(kind == Kind::Epoll)?;
    TcpStream::from_std(StdStream::from(OwnedFd::from(stream)))
}

/// Takes every connection that waits to be accepted.
pub fn take_waiting(socket: &Socket, kind: Kind, mut take: impl FnMut(TcpStream, SocketAddr)) {
    match socket {
        Socket::Tcp(socket) => {
            if socket.set_nonblocking(true).is_err() {
                return;
            }
            while let Ok((stream, peer)) = socket.accept() {
                // As for listeners: epoll must not block, `io_uring` must wait.
                if stream.set_nonblocking(kind == Kind::Epoll).is_err() {
                    continue;
                }
                if let Ok(stream) = TcpStream::from_std(stream) {
                    take(stream, peer);
                }
            }
        }
        Socket::Unix(socket) => {
            // Nobody connects between the last accept and the end of listening.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
            while let Ok((stream, _)) = socket.accept() {
                if let Ok(stream) = adopt(stream, kind) {
                    take(stream, UNSPECIFIED);
                }
            }
        }
    }
}
