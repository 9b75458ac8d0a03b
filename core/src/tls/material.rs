//! Certificates with their keys, read from resources.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::sign::CertifiedKey;
use rustls::{SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{ClientAuth, Question, provider};
use crate::keyring::Keyring;
use crate::resource::{OcspStapling, Ssl, SslType, is_secret_ref};

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
    /// `ocsp_stapling`, when responses are to be asked for.
    pub stapling: Option<OcspStapling>,
}

impl Material {
    /// Reads a resource of either type; `keyring` decrypts its keys. The error names the field.
    pub fn read(ssl: &Ssl, keyring: &Keyring) -> Result<Self, String> {
        let mut keys = vec![pair(keyring, &ssl.cert, &ssl.key, ("cert", "key"))?];
        if ssl.kind == SslType::Client {
            return Ok(Self {
                keys,
                client: None,
                versions: Vec::new(),
                snis: [].into(),
                stapling: None,
            });
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
        let stapling = ssl.ocsp_stapling.as_ref().filter(|stapling| stapling.enabled);
        if let Some(response) = stapling.and_then(|stapling| stapling.response.as_ref()) {
            let reason =
                "ocsp_stapling.response: not base64, put a response in DER in base64 there";
            let der = STANDARD.decode(response).map_err(|_| reason.to_owned())?;
            Arc::make_mut(&mut keys[0]).ocsp = Some(der);
        }
        Ok(Self {
            stapling: stapling.filter(|stapling| stapling.response.is_none()).cloned(),
            keys,
            client: ssl.client.as_ref().map(ClientAuth::new).transpose()?,
            versions,
            snis: ssl.snis.iter().map(|sni| normal(sni)).collect(),
        })
    }

    /// What is to be asked about its certificates, or why not.
    pub fn questions(&self) -> impl Iterator<Item = Result<Question, String>> {
        let keys = self.stapling.iter().flat_map(|_| &self.keys);
        keys.map(|key| Question::about(&key.cert))
    }

    /// Staples `response` to a certificate, or takes the last one away. Whether that changes
    /// anything.
    pub fn staple(&mut self, leaf: &CertificateDer<'_>, response: Option<&[u8]>) -> bool {
        let mut changed = false;
        for key in self.keys.iter_mut().filter(|key| key.cert.first() == Some(leaf)) {
            if key.ocsp.as_deref() != response {
                Arc::make_mut(key).ocsp = response.map(<[u8]>::to_vec);
                changed = true;
            }
        }
        changed
    }

    /// Takes over what was stapled to the same certificates before, until it is asked for again.
    pub fn keep_staples(&mut self, before: &Self) {
        if self.stapling.is_none() {
            return;
        }
        for key in before.keys.iter().filter(|key| key.ocsp.is_some()) {
            if let Some(leaf) = key.cert.first() {
                self.staple(leaf, key.ocsp.as_deref());
            }
        }
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
