//! Certificates with their keys, read from resources.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{ClientAuth, provider};
use crate::keyring::Keyring;
use crate::resource::{Ssl, SslType, is_secret_ref};

/// What an `ssls` resource holds, read and ready for use. What can be wrong with one is found here.
#[derive(Debug, Clone)]
pub struct Material {
    /// `cert` with `key`, then `certs` with `keys`; at least one.
    pub(super) keys: Vec<Arc<CertifiedKey>>,
    /// `client`.
    pub(super) client: Option<ClientAuth>,
    /// `ssl_protocols`; empty: the settings' ones.
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    /// `snis` in lower case, without dots at their ends.
    pub(super) snis: Box<[Box<str>]>,
}

impl Material {
    /// Reads a resource of either type; `keyring` decrypts its keys. The error names the field.
    pub fn read(ssl: &Ssl, keyring: &Keyring) -> Result<Self, String> {
        let mut keys = vec![pair(keyring, &ssl.cert, &ssl.key, ("cert", "key"))?];
        if ssl.kind == SslType::Client {
            return Ok(Self { keys, client: None, versions: Vec::new(), snis: [].into() });
        }
        for (at, (cert, key)) in ssl.certs.iter().zip(&ssl.keys).enumerate() {
            let names = (format!("certs[{at}]"), format!("keys[{at}]"));
            keys.push(pair(keyring, cert, key, (&names.0, &names.1))?);
        }
        let versions: Vec<_> = ssl.ssl_protocols.iter().filter_map(|name| by_name(name)).collect();
        if versions.is_empty() && !ssl.ssl_protocols.is_empty() {
            let found = ssl.ssl_protocols.join(", ");
            return Err(format!("ssl_protocols: {found} is not supported, add TLSv1.2 or TLSv1.3"));
        }
        if let Some(client) = ssl.client.as_ref().filter(|client| is_secret_ref(&client.ca)) {
            return Err(unresolved("client.ca", &client.ca));
        }
        Ok(Self {
            keys,
            client: ssl.client.as_ref().map(ClientAuth::new).transpose()?,
            versions,
            snis: ssl.snis.iter().map(|sni| normal(sni)).collect(),
        })
    }

    /// The certificate that is shown to upstreams, and its key.
    pub fn identity(&self) -> Option<&Arc<CertifiedKey>> {
        self.keys.first()
    }
}

/// A version by its name in APISIX; `None` for those that rustls does not have.
pub(super) fn by_name(name: &str) -> Option<&'static SupportedProtocolVersion> {
    match name {
        "TLSv1.2" => Some(&version::TLS12),
        "TLSv1.3" => Some(&version::TLS13),
        _ => None,
    }
}

/// A name as it is looked up: in lower case, without a dot at its end.
fn normal(sni: &str) -> Box<str> {
    sni.strip_suffix('.').unwrap_or(sni).to_ascii_lowercase().into()
}

/// A certificate, its chain behind it, and its key; `names` are their fields.
pub(super) fn pair(
    keyring: &Keyring,
    cert: &str,
    key: &str,
    names: (&str, &str),
) -> Result<Arc<CertifiedKey>, String> {
    for (name, text) in [(names.0, cert), (names.1, key)] {
        if is_secret_ref(text) {
            return Err(unresolved(name, text));
        }
    }
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: not PEM: {error}", names.0))?;
    if chain.is_empty() {
        return Err(format!("{}: there is no certificate in it, put a PEM one there", names.0));
    }
    let name = names.1;
    let key = keyring.decrypt_pem(key).ok_or_else(|| {
        format!("{name}: encrypted with a key that apisix.data_encryption.keyring does not have")
    })?;
    // Not with the reason's text: it may quote what it could not read.
    let der = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| format!("{name}: not a private key in PEM"))?;
    let key = provider()
        .key_provider
        .load_private_key(der)
        .map_err(|_| format!("{name}: a private key of an unsupported algorithm or size"))?;
    let leaf = X509Certificate::from_der(&chain[0])
        .map_err(|error| format!("{}: not a certificate: {error}", names.0))?;
    if key.public_key().is_some_and(|public| public.as_ref() != leaf.1.public_key().raw) {
        return Err(format!("{name}: it does not belong to the certificate in {}", names.0));
    }
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

fn unresolved(name: &str, text: &str) -> String {
    format!("{name}: {text} refers to a secret, which this version cannot look up: put PEM there")
}
