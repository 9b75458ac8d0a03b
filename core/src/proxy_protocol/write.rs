//! Writing a header.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{V1_BYTES_MAX, V2_PREFIX, V2_SIGNATURE, Version};

/// Bytes of the longest header that is written.
pub const LONGEST: usize = V1_BYTES_MAX;

/// A header to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Text {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn new() -> Self {
        Self { bytes: [0; LONGEST], len: 0 }
    }

    /// Every header fits.
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

/// A connection that the gateway opens on its own behalf, such as a health check.
pub fn local(version: Version) -> Text {
    let mut text = Text::new();
    match version {
        Version::V1 => text.put(b"PROXY UNKNOWN\r\n"),
        Version::V2 => {
            text.put(&V2_SIGNATURE);
            text.put(&[0x20, 0, 0, 0]);
        }
    }
    text
}

/// A connection on behalf of the client `source`, who connected to `destination`. When one of them
/// is IPv6, both are written so.
pub fn proxied(version: Version, source: SocketAddr, destination: SocketAddr) -> Text {
    let pair = (source.ip().to_canonical(), destination.ip().to_canonical());
    let ports = (source.port(), destination.port());
    match version {
        Version::V1 => v1(pair, ports),
        Version::V2 => v2(pair, ports),
    }
}

fn v1(ips: (IpAddr, IpAddr), (from, to): (u16, u16)) -> Text {
    let mut text = Text::new();
    let mut rest = &mut text.bytes[..];
    // The longest line has 104 bytes: two addresses of 39, two ports of 5.
    let written = match ips {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            write!(rest, "PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        (source, destination) => {
            let (source, destination) = (v6(source), v6(destination));
            write!(rest, "PROXY TCP6 {source} {destination} {from} {to}\r\n")
        }
    };
    let len = LONGEST - rest.len();
    if written.is_ok() {
        text.len = len;
    }
    text
}

fn v2(ips: (IpAddr, IpAddr), (from, to): (u16, u16)) -> Text {
    let mut text = Text::new();
    text.put(&V2_SIGNATURE);
    match ips {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            text.put(&[0x21, 0x11, 0, 12]);
            text.put(&source.octets());
            text.put(&destination.octets());
        }
        (source, destination) => {
            text.put(&[0x21, 0x21, 0, 36]);
            text.put(&v6(source).octets());
            text.put(&v6(destination).octets());
        }
    }
    text.put(&from.to_be_bytes());
    text.put(&to.to_be_bytes());
    text
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

const _: () = assert!(V2_PREFIX + 36 <= LONGEST);
