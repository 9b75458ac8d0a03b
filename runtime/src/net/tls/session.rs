//! One TLS connection without its I/O: records in, plaintext out, and the other way round.

use std::io;
use std::sync::Arc;

use osmia_core::http1::write::Sink;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, ServerConfig};

use crate::buf::{Buf, Class, RECORD_HEADROOM};

/// Bytes that sealing adds at the most, per 16 KiB: header, nonce, tag and content type.
const SEAL: usize = 5 + 8 + 16 + 16 + 1;
/// Room for an encrypted alert.
const ALERT: usize = 256;

/// Where a connection is after its input was processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The handshake needs more from the peer.
    Handshake,
    /// Data may flow.
    Open,
    /// Both sides have said that they are done.
    Closed,
}

/// Runs the state machine of either side over what was received.
macro_rules! run {
    ($session:ident, $status:ident => $then:expr) => {{
        let received = $session.received.bytes_mut();
        match &mut *$session.side {
            Side::Server(side) => {
                let $status = side.process_tls_records(received);
                $then
            }
            Side::Client(side) => {
                let $status = side.process_tls_records(received);
                $then
            }
        }
    }};
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// The state of a TLS connection.
pub struct Session {
    side: Box<Side>,
    /// Received and not consumed: complete records, or the beginning of one.
    received: Buf,
    /// Whether `received` may hold a complete record.
    fresh: bool,
    /// Decrypted, and more than there was room for.
    surplus: Option<Buf>,
    /// Handshake messages and alerts that are to be sent.
    control: Vec<u8>,
    peer_closed: bool,
    failed: bool,
}

impl Session {
    /// A connection that a client opened.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        UnbufferedServerConnection::new(config).map(|side| Self::new(Side::Server(side)))
    }

    /// A connection to the server called `name`.
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        UnbufferedClientConnection::new(config, name).map(|side| Self::new(Side::Client(side)))
    }

    fn new(side: Side) -> Self {
        Self {
            side: Box::new(side),
            received: Buf::none(),
            fresh: false,
            surplus: None,
            control: Vec::new(),
            peer_closed: false,
            failed: false,
        }
    }

    /// What was negotiated.
    pub fn common(&self) -> &CommonState {
        match &*self.side {
            Side::Server(server) => server,
            Side::Client(client) => client,
        }
    }

    /// A buffer for the next bytes of the peer, of which `want` are asked for.
    pub fn buffer(&self, want: usize) -> Buf {
        let large = want > 8 * 1024 || self.received.len() > crate::buf::HEADROOM;
        Buf::new(if large { Class::Records } else { Class::Small })
    }

    /// Takes what was received.
    pub fn feed(&mut self, mut buf: Buf) -> io::Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        if self.received.is_empty() || buf.prepend(self.received.bytes()) {
            self.received = buf;
        } else if self.received.len() > RECORD_HEADROOM {
            // A record is complete long before; this is a handshake message without an end.
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        } else {
            self.received.put(buf.bytes());
        }
        self.fresh = true;
        Ok(())
    }

    /// Whether something can be read without another receive.
    pub fn has_input(&self) -> bool {
        self.fresh || self.surplus.is_some() || self.peer_closed
    }

    /// Whether the peer has said that it sends no more.
    pub fn is_peer_closed(&self) -> bool {
        self.peer_closed && self.surplus.is_none()
    }

    /// Handshake messages and alerts to be sent, before anything sealed later.
    pub fn take_control(&mut self) -> Option<Buf> {
        if self.control.is_empty() {
            return None;
        }
        let buf = Buf::copy_of(&self.control);
        self.control.clear();
        Some(buf)
    }

    /// Decrypts what was received into the room of `into`.
    pub fn read(&mut self, into: &mut Buf) -> io::Result<Stage> {
        if let Some(surplus) = &mut self.surplus {
            let len = surplus.len().min(into.room());
            into.append(&surplus.bytes()[..len]);
            surplus.advance(len);
            if surplus.is_empty() {
                self.surplus = None;
            }
            return Ok(Stage::Open);
        }
        self.process(Some(into), None)
    }

    /// Goes on with the handshake.
    pub fn advance(&mut self) -> io::Result<Stage> {
        self.process(None, None)
    }

    /// `plain`, encrypted, behind what has to be sent before it.
    pub fn seal(&mut self, plain: &[u8]) -> io::Result<Buf> {
        let records = plain.len().div_ceil(16 * 1024);
        let room = plain.len() + records * SEAL + self.control.len() + 64;
        let mut sealed = if room <= crate::buf::SMALL - crate::buf::HEADROOM - 8 {
            Buf::new(Class::Small)
        } else if room <= crate::buf::RECORDS - crate::buf::RECORD_HEADROOM {
            Buf::new(Class::Records)
        } else {
            Buf::with_room(room)
        };
        sealed.append(&self.control);
        self.control.clear();
        match self.process(None, Some((plain, &mut sealed)))? {
            Stage::Open => Ok(sealed),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The alert that ends the connection in an orderly way; `None`: there is nobody to tell.
    pub fn close_notify(&mut self) -> Option<Vec<u8>> {
        if self.failed || self.common().is_handshaking() {
            return None;
        }
        let mut out = std::mem::take(&mut self.control);
        run!(self, status => match status.state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let start = out.len();
                out.resize(start + ALERT, 0);
                let len = traffic.queue_close_notify(&mut out[start..]).unwrap_or(0);
                out.truncate(start + len);
                Some(out)
            }
            _ => None,
        })
    }

    /// Runs the state machine over what was received until it wants more or data may be sent.
    fn process(
        &mut self,
        mut into: Option<&mut Buf>,
        mut seal: Option<(&[u8], &mut Buf)>,
    ) -> io::Result<Stage> {
        if self.failed {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            let step = Step {
                control: &mut self.control,
                surplus: &mut self.surplus,
                into: into.as_deref_mut(),
                seal: seal.as_mut().map(|(plain, sealed)| (*plain, &mut **sealed)),
                peer_closed: &mut self.peer_closed,
            };
            let (discard, outcome) = run!(self, status => step.take(status));
            self.received.advance(discard);
            let stage = match outcome {
                Ok(None) => continue,
                Ok(Some(stage)) => stage,
                Err(error) => {
                    self.collect_alert();
                    self.failed = true;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            };
            self.fresh = false;
            if self.received.is_empty() {
                self.received = Buf::none();
            }
            return Ok(stage);
        }
    }

    /// After an error: the alert that tells the peer of it.
    fn collect_alert(&mut self) {
        run!(self, status => if let Ok(ConnectionState::EncodeTlsData(data)) = status.state {
            self.control.extend(encoded(data));
        });
    }
}

/// What one turn of the state machine works on.
struct Step<'a> {
    control: &'a mut Vec<u8>,
    surplus: &'a mut Option<Buf>,
    into: Option<&'a mut Buf>,
    seal: Option<(&'a [u8], &'a mut Buf)>,
    peer_closed: &'a mut bool,
}

impl Step<'_> {
    /// How many bytes were consumed, and whether the machine has come to rest.
    fn take<D>(
        mut self,
        status: UnbufferedStatus<'_, '_, D>,
    ) -> (usize, Result<Option<Stage>, rustls::Error>) {
        let UnbufferedStatus { discard, state, .. } = status;
        let outcome = match state {
            Err(error) => Err(error),
            Ok(ConnectionState::EncodeTlsData(data)) => {
                let message = encoded(data);
                // What is sealed next may already be under the keys that this announces.
                match &mut self.seal {
                    Some((_, sealed)) => sealed.put(&message),
                    None => self.control.extend(message),
                }
                Ok(None)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(None)
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    Some(Ok(record)) => self.accept(record.payload),
                    Some(Err(error)) => break Err(error),
                    None => break Ok(None),
                }
            },
            Ok(ConnectionState::PeerClosed) => {
                *self.peer_closed = true;
                Ok(None)
            }
            Ok(ConnectionState::Closed) => Ok(Some(Stage::Closed)),
            Ok(ConnectionState::BlockedHandshake) => Ok(Some(Stage::Handshake)),
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match self.seal {
                None => Ok(Some(Stage::Open)),
                Some((plain, sealed)) => match traffic.encrypt(plain, sealed.spare()) {
                    Ok(len) => {
                        let _ = sealed.extend(len);
                        Ok(Some(Stage::Open))
                    }
                    // A message went before the data and took its room.
                    Err(EncryptError::InsufficientSize(needed)) => {
                        sealed.grow(needed.required_size);
                        Ok(None)
                    }
                    Err(_) => Err(rustls::Error::EncryptError),
                },
            },
            // Early data is not enabled (it could be replayed), and there are no further states.
            Ok(_) => Err(rustls::Error::General("unexpected state".to_owned())),
        };
        (discard, outcome)
    }

    fn accept(&mut self, plain: &[u8]) {
        let mut rest = plain;
        if self.surplus.is_none()
            && let Some(into) = &mut self.into
        {
            let len = plain.len().min(into.room());
            into.append(&plain[..len]);
            rest = &plain[len..];
        }
        if !rest.is_empty() {
            self.surplus.get_or_insert_with(|| Buf::new(Class::Large)).put(rest);
        }
    }
}

/// A handshake message or an alert.
fn encoded<D>(mut data: EncodeTlsData<'_, D>) -> Vec<u8> {
    let mut message = Vec::new();
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
        message.resize(needed.required_size, 0);
        let _ = data.encode(&mut message);
    }
    message
}
