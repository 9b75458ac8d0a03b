//! The PROXY protocol, versions 1 and 2: a header in front of a connection with which a proxy says
//! on whose behalf it connects (`proxy-protocol.txt` of `HAProxy`).
//!
//! Reading decides on what has arrived so far and keeps no state: a connection has one header, and
//! it is usually there at once. It allocates nothing.

mod read;
mod write;

use std::net::SocketAddr;

use thiserror::Error;

pub use read::parse;
pub use write::{LONGEST, Text, local, proxied};

/// Longest header of version 1, with its CRLF (`proxy-protocol.txt`, section 2.1).
pub const V1_BYTES_MAX: usize = 107;
/// Longest header of version 2 that is accepted, with its TLVs; nginx has the same limit.
pub const V2_BYTES_MAX: usize = 4096;

/// `\r\n\r\n\0\r\nQUIT\n`: what version 2 begins with.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const V2_PREFIX: usize = 16;

/// The two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself (`LOCAL`), or does not say for whom (`UNKNOWN`, an unspecified
    /// family, Unix domain sockets, datagrams): the addresses of the connection count.
    Local,
    /// On behalf of a client.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
}

/// Why what came is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Something else, such as a request.
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    /// More than [`V1_BYTES_MAX`] or [`V2_BYTES_MAX`].
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// The line of version 1 is not as it should be.
    #[error("the PROXY protocol header of version 1 is malformed")]
    Line,
    /// Version 2 with a version, command, family or transport that does not exist.
    #[error("the PROXY protocol header of version 2 has an unknown version, command or family")]
    Kind,
    /// Version 2 whose lengths do not fit what they describe.
    #[error("the PROXY protocol header of version 2 is malformed")]
    Lengths,
}

#[cfg(test)]
mod tests;
