//! TLS on either side: what is decided about it, and what follows for a request. The handshakes
//! themselves are made where sockets are.
//!
//! - [`Certificates`]: which certificate belongs to the name that a client asks for;
//! - [`Material`]: what an `ssls` resource holds, read; [`ServerCompiler`] makes of it what
//!   handshakes are made with ([`ServerTls`]);
//! - [`ClientAuth`]: what is required of clients' certificates, at the handshake or per request;
//! - [`TlsPeer`]: what is known of a client after its handshake, for rules, logs and
//!   [admission](TlsPeer::admit);
//! - [`UpstreamTls`]: TLS towards nodes.

mod certificates;
mod client_auth;
mod distinguished_name;
mod material;
mod peer;
mod provider;
mod server;
mod sessions;
mod suites;
mod upstream;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::ServerConfig;

pub use certificates::Certificates;
pub use client_auth::ClientAuth;
pub use material::Material;
pub use peer::{ClientVerify, Handshake, TlsPeer};
pub use provider::provider;
use provider::ticketer;
pub use server::ServerCompiler;
pub use suites::{Ciphers, select as select_ciphers};
pub use upstream::{AnyServer, UpstreamTls, client_identity};

/// A certificate for clients (`ssls`, of type `server`), compiled.
#[derive(Debug)]
pub struct ServerTls {
    /// The resource id, as in `/apisix/admin/ssls/{id}`.
    pub id: Arc<str>,
    /// `snis`: names and `*` wildcards, in lower case.
    pub snis: Box<[Box<str>]>,
    /// Among several for one name the one with the smallest is used.
    pub order: u64,
    /// What handshakes are made with.
    pub config: Arc<ServerConfig>,
    /// `client`: what is required of a client's certificate; `None`: clients need none.
    pub client: Option<ClientAuth>,
}
