//! Handshakes, before there are requests.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::{Accepted, Acceptor};
use rustls::{ClientConfig, ServerConfig};
use thiserror::Error;

use super::session::{Session, Stage};
use super::{TlsRx, TlsTx, halves};
use crate::buf::Buf;
use crate::net::{Conn, Net, Tx, receive};

/// A first message longer than this is no `ClientHello` of this world.
const HELLO: usize = 64 * 1024;

/// Why a handshake came to nothing.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer broke the rules, or there is nothing that both sides support.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// No certificate for the name that the client asked for.
    #[error("no certificate for {0}")]
    NoCertificate(String),
    /// It took too long.
    #[error("the handshake took too long")]
    Timeout,
    /// The node's name cannot be a server's name.
    #[error("{0:?} is no server name")]
    Name(String),
}

/// Which configuration a client gets, by the name it asked for (lower-case, empty: it did not).
pub struct Choice<T> {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// What the caller wants to remember.
    pub of: T,
}

/// Shakes hands with a client of which `received` was received. `choose` gets the name that it
/// asked for.
pub async fn accept<N: Net, T>(
    mut conn: Conn<N>,
    received: Buf,
    choose: impl FnOnce(Option<&str>) -> Result<Choice<T>, HandshakeError>,
) -> Result<(TlsRx<N>, TlsTx<N>, T), HandshakeError> {
    let (hello, received) = client_hello(&mut conn, received).await?;
    let name = hello.client_hello().server_name().map(str::to_ascii_lowercase);
    drop(hello);
    let Choice { config, of } = match choose(name.as_deref()) {
        Ok(choice) => choice,
        Err(error) => {
            // unrecognized_name(112), fatal (RFC 6066, section 3).
            conn.tx.send_last(&[21, 3, 3, 0, 2, 2, 112]);
            return Err(error);
        }
    };
    let mut session = Session::server(config)?;
    session.feed(received)?;
    complete(&mut session, &mut conn).await?;
    let (rx, tx) = halves(session, conn);
    Ok((rx, tx, of))
}

/// Reads the client's first message. It is read a second time by the connection itself, whose
/// configuration depends on it.
async fn client_hello<N: Net>(
    conn: &mut Conn<N>,
    mut received: Buf,
) -> Result<(Accepted, Buf), HandshakeError> {
    let mut acceptor = Acceptor::default();
    let mut read = 0;
    loop {
        let mut unread = received.bytes().get(read..).unwrap_or_default();
        while !unread.is_empty() {
            let len = acceptor.read_tls(&mut unread)?;
            read += len;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok((accepted, received)),
                Ok(None) if len == 0 => break,
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    let _ = alert.write_all(&mut bytes);
                    conn.tx.send_last(&bytes);
                    return Err(error.into());
                }
            }
        }
        if received.len() > HELLO {
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        }
        if received.room() == 0 {
            received.grow(received.len());
        }
        received = receive(conn, received).await?;
    }
}

/// Shakes hands with the server called `name`.
pub async fn connect<N: Net>(
    mut conn: Conn<N>,
    config: Arc<ClientConfig>,
    name: &str,
) -> Result<(TlsRx<N>, TlsTx<N>), HandshakeError> {
    let server =
        ServerName::try_from(name.to_owned()).map_err(|_| HandshakeError::Name(name.to_owned()))?;
    let mut session = Session::client(config, server)?;
    complete(&mut session, &mut conn).await?;
    Ok(halves(session, conn))
}

/// Exchanges messages until data may flow.
async fn complete<N: Net>(session: &mut Session, conn: &mut Conn<N>) -> Result<(), HandshakeError> {
    loop {
        let stage = session.advance();
        if let Some(control) = session.take_control() {
            poll_fn(|cx| conn.tx.poll(cx)).await?;
            conn.tx.start(control);
            poll_fn(|cx| conn.tx.poll(cx)).await?;
        }
        match stage? {
            Stage::Open => return Ok(()),
            Stage::Closed => return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
            Stage::Handshake => {
                let buf = session.buffer(0);
                session.feed(receive(conn, buf).await?)?;
            }
        }
    }
}
