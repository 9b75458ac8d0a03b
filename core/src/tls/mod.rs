//! TLS on either side: what is decided about it, and what follows for a request. The handshakes
//! themselves are made where sockets are.
//!
//! - [`Certificates`]: which certificate belongs to the name that a client asks for;
//! - [`ServerCompiler`]: a `ssls` resource in the form in which it serves ([`ServerTls`]);
//! - [`ClientAuth`]: what is required of clients' certificates, at the handshake or per request;
//! - [`TlsPeer`]: what is known of a client after its handshake, for rules, logs and
//!   [admission](TlsPeer::admit);
//! - [`UpstreamTls`]: TLS towards nodes.

mod certificates;
mod client_auth;
mod distinguished_name;
mod peer;
mod provider;
mod suites;

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

pub use certificates::Certificates;
pub use client_auth::ClientAuth;
pub use peer::{ClientVerify, Handshake, TlsPeer};
pub use provider::provider;

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

/// TLS towards the nodes of an upstream. Upstreams that ask for the same share one.
#[derive(Debug)]
pub struct UpstreamTls {
    /// With HTTP/1.1 in its ALPN.
    pub config: Arc<ClientConfig>,
    /// With HTTP/2 in its ALPN.
    pub h2: Arc<ClientConfig>,
}

impl PartialEq for UpstreamTls {
    /// Equal ones are shared, so these are the same ones.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for UpstreamTls {}
