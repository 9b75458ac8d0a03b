//! TLS towards etcd: authorities, the client's certificate, and `verify: false`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use osmia_core::settings::EtcdSettings;
use osmia_core::tls::{AnyServer, provider};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::store::StoreError;
use crate::trusted;

/// What is needed to speak TLS with any of the endpoints. Reads the files that the settings name;
/// errors name the key of `config.yaml`.
pub(super) fn config(settings: &EtcdSettings) -> Result<ClientConfig, StoreError> {
    // First, so that its file is named first.
    let identity = settings.client_certificate.as_ref();
    let identity = identity.map(|(certificate, key)| identity_of(certificate, key)).transpose()?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("deployment.etcd.tls", &error))?;
    let builder = if settings.verify {
        builder.with_root_certificates(authorities(settings.trusted.as_deref())?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer))
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => builder
            .with_client_auth_cert(certificates, key)
            .map_err(|error| wrong("deployment.etcd.tls", &error))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn authorities(trusted: Option<&Path>) -> Result<RootCertStore, StoreError> {
    let key = "apisix.ssl.ssl_trusted_certificate";
    let Some(path) = trusted else {
        return trusted::roots(None).map_err(|error| wrong(key, &error));
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(key, path)?);
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity_of(certificate: &Path, key: &Path) -> Result<Identity, StoreError> {
    let certificates = certificates("deployment.etcd.tls.cert", certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem("deployment.etcd.tls.key", key)?)
        .map_err(|error| wrong("deployment.etcd.tls.key", &error))?;
    Ok((certificates, key))
}

fn wrong(key: &str, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Refused(format!("{key}: {reason}"))
}

fn pem(key: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|error| wrong(key, &format!("cannot read {}: {error}", path.display())))
}

/// The certificates in a file: at least one, and all of them can be read.
fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(key, path)?).collect();
    let all = all.map_err(|error| wrong(key, &error))?;
    if all.is_empty() {
        return Err(wrong(key, &"there is no certificate in the file"));
    }
    Ok(all)
}
