//! TLS of probes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use osmia_core::tls::{AnyServer, provider};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;

use crate::trusted;

/// What is needed for TLS with nodes; prepared when the first probe needs it.
#[derive(Debug)]
pub(super) struct Tls {
    /// `apisix.ssl.ssl_trusted_certificate`; `None`: the system's authorities.
    trusted: Option<PathBuf>,
    verifying: OnceCell<Connector>,
    trusting: OnceCell<Connector>,
}

#[derive(Clone)]
struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Tls {
    pub(super) fn new(trusted: Option<PathBuf>) -> Self {
        Self { trusted, verifying: OnceCell::new(), trusting: OnceCell::new() }
    }

    /// The way to speak TLS with a node, whose certificate is verified or not.
    pub(super) async fn connector(&self, verify: bool) -> io::Result<TlsConnector> {
        let cell = if verify { &self.verifying } else { &self.trusting };
        let connector = cell.get_or_try_init(|| async {
            let trusted = self.trusted.clone();
            // Reads files.
            let made = tokio::task::spawn_blocking(move || {
                if verify { verifying(trusted.as_deref()) } else { trusting() }
            });
            let config = made.await.map_err(io::Error::other)??;
            Ok::<_, io::Error>(Connector(TlsConnector::from(Arc::new(config))))
        });
        Ok(connector.await?.0.clone())
    }
}

fn verifying(trusted: Option<&Path>) -> io::Result<ClientConfig> {
    let roots = trusted::roots(trusted)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(for_probes(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn trusting() -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let verifier = Arc::new(AnyServer);
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(for_probes(builder.with_no_client_auth()))
}

/// A resumed session would not see a certificate that has changed or expired.
fn for_probes(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}
