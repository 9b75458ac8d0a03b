//! A client.

use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};

use crate::FAILSAFE;
use crate::wire::{Message, Wire};

/// A client's connection.
#[derive(Debug)]
pub struct Client(Wire);

impl Client {
    /// Connects to `addr`.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, FAILSAFE);
        Self(Wire::new(stream.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"))))
    }

    /// Sends a `GET` for `target`.
    #[track_caller]
    pub fn send_get(&mut self, target: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    }

    /// Sends a `GET` for `target` and waits for the response.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Message {
        self.send_get(target);
        self.response()
    }

    /// Sends `request` and waits for the response.
    #[track_caller]
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> Message {
        let request = request.as_ref();
        // Whoever refuses a request may say so, and close, before all of it is sent.
        let _ = self.try_send(request);
        let method = request.split(|byte| *byte == b' ').next().unwrap_or_default();
        self.response_to(&String::from_utf8_lossy(method))
    }
}

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.0
    }
}

impl From<Client> for Wire {
    fn from(client: Client) -> Self {
        client.0
    }
}
