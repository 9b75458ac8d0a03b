//! TLS towards nodes: which upstreams share what, and what client certificates there are.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use ahash::HashMap;
use osmia_core::keyring::Keyring;
use osmia_core::resource::{self, Scheme};
use osmia_core::tls::{UpstreamTls, client_identity};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::trusted;

/// The TLS configurations that are in use; equal ones are one.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// `apisix.ssl.ssl_trusted_certificate`; `None`: the system's authorities.
    pub(super) trusted: Option<PathBuf>,
    /// Read when the first upstream verifies.
    authorities: Option<Arc<RootCertStore>>,
    configs: HashMap<Content, Weak<UpstreamTls>>,
}

/// What makes configurations equal.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Content {
    /// The client certificate with its chain, in DER; empty: none. It belongs to one key.
    chain: Vec<u8>,
    verify: bool,
}

impl Shared {
    /// The configuration that shows this certificate and verifies nodes, or not.
    pub(super) fn config(
        &mut self,
        identity: Option<Arc<CertifiedKey>>,
        verify: bool,
    ) -> Result<Arc<UpstreamTls>, String> {
        let chain = identity.iter().flat_map(|identity| &identity.cert);
        let content = Content { chain: chain.flat_map(|der| der.to_vec()).collect(), verify };
        if let Some(known) = self.configs.get(&content).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let authorities = if verify { Some(self.authorities()?) } else { None };
        let config = Arc::new(UpstreamTls::new(identity, authorities)?);
        self.configs.insert(content, Arc::downgrade(&config));
        Ok(config)
    }

    /// Forgets what nobody uses any more.
    pub(super) fn settle(&mut self) {
        self.configs.retain(|_, config| config.strong_count() > 0);
    }

    fn authorities(&mut self) -> Result<Arc<RootCertStore>, String> {
        if let Some(known) = &self.authorities {
            return Ok(Arc::clone(known));
        }
        let read = trusted::roots(self.trusted.as_deref()).map_err(|error| error.to_string())?;
        let read = Arc::new(read);
        self.authorities = Some(Arc::clone(&read));
        Ok(read)
    }
}

/// Whether nodes are spoken to over TLS.
pub(super) fn is_tls(config: &resource::Upstream) -> bool {
    matches!(config.scheme, Scheme::Https | Scheme::Grpcs | Scheme::H2)
}

/// The certificate that is written in an upstream itself; `None`: there is none, or no use for it.
pub(super) fn inline_identity(
    config: &resource::Upstream,
    keyring: &Keyring,
) -> Result<Option<Arc<CertifiedKey>>, String> {
    let tls = config.tls.as_deref().filter(|_| is_tls(config));
    let pair = tls.and_then(|tls| tls.client_cert.as_ref().zip(tls.client_key.as_ref()));
    pair.map(|(cert, key)| client_identity(keyring, cert, key)).transpose()
}
