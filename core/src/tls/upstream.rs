//! TLS towards nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, PeerIncompatible, RootCertStore,
    SignatureScheme, version,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use webpki::RawPublicKeyEntity;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::material::pair;
use super::provider;
use crate::keyring::Keyring;

/// Sessions with nodes that one configuration remembers.
const SESSIONS: usize = 256;

/// TLS towards the nodes of an upstream. Upstreams that ask for the same share one.
#[derive(Debug)]
pub struct UpstreamTls {
    /// With HTTP/1.1 in its ALPN.
    pub config: Arc<ClientConfig>,
    /// With HTTP/2 in its ALPN.
    pub h2: Arc<ClientConfig>,
    number: u64,
}

impl UpstreamTls {
    /// What speaks with nodes: `identity` is shown to them if they ask, and their certificates have
    /// to lead to `authorities`; without these any certificate is taken, as with nginx's
    /// `proxy_ssl_verify off`.
    pub fn new(
        identity: Option<Arc<CertifiedKey>>,
        authorities: Option<Arc<RootCertStore>>,
    ) -> Result<Self, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| format!("tls: {error}"))?;
        let builder = match authorities {
            Some(authorities) => builder.with_root_certificates(authorities),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer)),
        };
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(Identity(identity))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut h2 = config.clone();
        h2.resumption = Resumption::in_memory_sessions(SESSIONS);
        h2.alpn_protocols = vec![b"h2".to_vec()];
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { config: Arc::new(config), h2: Arc::new(h2), number })
    }

    /// Which one it is: no other has had this number. Connections of one must not serve another.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl PartialEq for UpstreamTls {
    /// Equal ones are shared, so these are the same ones.
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for UpstreamTls {}

/// Reads `tls.client_cert` with `tls.client_key`; `keyring` decrypts the key. The error names the
/// field.
pub fn client_identity(
    keyring: &Keyring,
    cert: &str,
    key: &str,
) -> Result<Arc<CertifiedKey>, String> {
    pair(keyring, cert, key, ("tls.client_cert", "tls.client_key"))
}

/// Shows one certificate to whoever asks, whichever authorities the node names: as OpenSSL does.
#[derive(Debug)]
struct Identity(Arc<CertifiedKey>);

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).map(|_| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes any certificate, also one of X.509 version 1. Signatures are checked nevertheless, so that
/// the node at least holds the key of the certificate it shows.
#[derive(Debug)]
pub struct AnyServer;

impl AnyServer {
    fn algorithms() -> WebPkiSupportedAlgorithms {
        provider().signature_verification_algorithms
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = public_key(certificate)?;
        let entity = RawPublicKeyEntity::try_from(&key)
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        let mapping = Self::algorithms().mapping;
        let (_, algorithms) = mapping
            .iter()
            .find(|(scheme, _)| *scheme == signature.scheme)
            .ok_or(PeerIncompatible::NoSignatureSchemesInCommon)?;
        let verifies = algorithms.iter().any(|algorithm| {
            entity.verify_signature(*algorithm, message, signature.signature()).is_ok()
        });
        if verifies {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = public_key(certificate)?;
        verify_tls13_signature_with_raw_key(message, &key, signature, &Self::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::algorithms().supported_schemes()
    }
}

fn public_key(
    certificate: &CertificateDer<'_>,
) -> Result<SubjectPublicKeyInfoDer<'static>, rustls::Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed.public_key().raw.to_vec().into()),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}
