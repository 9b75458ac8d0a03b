//! A line between the store and etcd that can be cut, and that can go silent.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Bytes pass.
    Open,
    /// Connections stay, and new ones are taken, but nothing passes.
    Stalled,
    /// Connections are closed, new ones at once.
    Cut,
}

/// The proxy. Dropping it closes all connections.
pub struct Proxy {
    addr: SocketAddr,
    /// The line, and how often it was broken: connections end when that changes.
    line: watch::Sender<(Line, u64)>,
}

impl Proxy {
    /// A line to `upstream`.
    pub async fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (line, state) = watch::channel((Line::Open, 0));
        tokio::spawn(async move {
            let mut closed = state.clone();
            loop {
                tokio::select! {
                    ended = closed.changed() => if ended.is_err() { return },
                    accepted = listener.accept() => {
                        let client = accepted.unwrap().0;
                        let state = state.clone();
                        if state.borrow().0 != Line::Cut {
                            tokio::spawn(carry(client, upstream, state));
                        }
                    }
                }
            }
        });
        Self { addr, line }
    }

    /// Where to connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn set(&self, line: Line) {
        self.line.send_modify(|state| state.0 = line);
    }

    /// Closes all connections; new ones pass.
    pub fn break_connections(&self) {
        self.line.send_modify(|state| state.1 += 1);
    }

    /// Closes all connections, and new ones at once.
    pub fn cut(&self) {
        self.set(Line::Cut);
        self.break_connections();
    }

    /// Nothing passes any more, in either direction.
    pub fn stall(&self) {
        self.set(Line::Stalled);
    }

    /// Ends [`Proxy::cut`] or [`Proxy::stall`]. What was held up passes now.
    pub fn resume(&self) {
        self.set(Line::Open);
    }
}

async fn carry(client: TcpStream, upstream: SocketAddr, mut state: watch::Receiver<(Line, u64)>) {
    let born = state.borrow().1;
    let broken = state.clone();
    let transfer = async {
        let _ = state.wait_for(|state| state.0 == Line::Open).await;
        let Ok(server) = TcpStream::connect(upstream).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = pump(from_client, to_server, state.clone()) => {}
            () = pump(from_server, to_client, state.clone()) => {}
        }
    };
    tokio::select! {
        () = transfer => {}
        () = until_broken(broken, born) => {}
    }
}

async fn until_broken(mut state: watch::Receiver<(Line, u64)>, born: u64) {
    let _ = state.wait_for(|state| state.1 != born).await;
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<(Line, u64)>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|state| state.0 == Line::Open).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
