//! TLS towards etcd: authorities, the client's certificate, and `verify: false`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use osmia_core::settings::EtcdSettings;
use osmia_core::tls::AnyServer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::store::StoreError;

/// What is needed to speak TLS with any of the endpoints.
pub(super) struct Tls {
    config: ClientTlsConfig,
    verify: bool,
}

impl Tls {
    /// Reads the files that the settings name. Errors name the key of `config.yaml`.
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, StoreError> {
        let mut config = ClientTlsConfig::new();
        if let Some(name) = &settings.server_name {
            config = config.domain_name(name);
        }
        if let Some((certificate, key)) = &settings.client_certificate {
            let certificate = pem("deployment.etcd.tls.cert", certificate)?;
            certificates("deployment.etcd.tls.cert", &certificate)?;
            let key = pem("deployment.etcd.tls.key", key)?;
            PrivateKeyDer::from_pem_slice(&key)
                .map_err(|error| wrong("deployment.etcd.tls.key", &error))?;
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if settings.verify {
            config = match &settings.trusted {
                Some(path) => {
                    let authorities = pem("apisix.ssl.ssl_trusted_certificate", path)?;
                    certificates("apisix.ssl.ssl_trusted_certificate", &authorities)?;
                    config.ca_certificate(Certificate::from_pem(authorities))
                }
                None => config.with_native_roots(),
            };
        }
        Ok(Self { config, verify: settings.verify })
    }

    /// Adds TLS to an endpoint.
    pub(super) fn apply(&self, endpoint: Endpoint) -> Result<Endpoint, StoreError> {
        let config = self.config.clone();
        if self.verify {
            endpoint.tls_config(config)
        } else {
            endpoint.tls_config_with_verifier(config, Arc::new(AnyServer))
        }
        .map_err(|error| wrong("deployment.etcd.tls", &super::link::deepest(&error)))
    }
}

fn wrong(key: &str, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Refused(format!("{key}: {reason}"))
}

fn pem(key: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|error| wrong(key, &format!("cannot read {}: {error}", path.display())))
}

/// Fails unless there is at least one certificate and all of them can be read.
fn certificates(key: &str, pem: &[u8]) -> Result<(), StoreError> {
    let mut any = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificate.map_err(|error| wrong(key, &error))?;
        any = true;
    }
    if any { Ok(()) } else { Err(wrong(key, &"there is no certificate in the file")) }
}
