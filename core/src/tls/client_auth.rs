//! Clients' certificates: `client` of an `ssls` resource.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{ClientVerify, provider};
use crate::expr::pattern::Pattern;
use crate::resource::ClientVerification;

/// What is required of a client's certificate.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    verifier: Arc<Verifier>,
    /// `skip_mtls_uri_regex`; with any the request decides, without the handshake does.
    skip: Arc<[Pattern]>,
}

impl ClientAuth {
    /// Compiles `client`. The error says which field is wrong.
    pub fn new(config: &ClientVerification) -> Result<Self, String> {
        let authorities = Authorities::parse(&config.ca)?;
        // An expression that is none matches nothing, as in APISIX: the certificate is required.
        let pattern = |text: &String| Pattern::compile(text, false).unwrap_or(Pattern::invalid());
        let skip: Arc<[Pattern]> = config.skip_mtls_uri_regex.iter().map(pattern).collect();
        let depth = config.depth;
        let verifier = Arc::new(Verifier { authorities, depth, per_request: !skip.is_empty() });
        Ok(Self { verifier, skip })
    }

    /// Whether handshakes succeed without a good certificate, since some paths need none.
    pub fn is_per_request(&self) -> bool {
        self.verifier.per_request
    }

    /// Whether requests of `path`, normalised, need no certificate.
    pub fn skips(&self, path: &str) -> bool {
        self.skip.iter().any(|pattern| pattern.is_match(path.as_bytes()))
    }

    /// What handshakes verify with.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier) as _
    }

    /// The verdict over the chain that a client has shown, its own certificate first.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> ClientVerify {
        let Some((leaf, intermediates)) = chain.split_first() else { return ClientVerify::None };
        match self.verifier.verify(leaf, intermediates, now) {
            Ok(()) => ClientVerify::Success,
            Err(error) => ClientVerify::Failed(reason(leaf, &error)),
        }
    }
}

/// `ca`, taken apart.
#[derive(Debug)]
struct Authorities {
    /// Where paths may end: those that sign themselves. If there are none, all.
    anchors: Vec<TrustAnchor<'static>>,
    /// The others: part of a path, and counted, as in OpenSSL.
    intermediates: Vec<CertificateDer<'static>>,
    /// Told to clients, so that they can choose.
    subjects: Vec<DistinguishedName>,
}

impl Authorities {
    fn parse(pem: &str) -> Result<Self, String> {
        let all: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("client.ca: not PEM: {error}"))?;
        let mut this =
            Self { anchors: Vec::new(), intermediates: Vec::new(), subjects: Vec::new() };
        for der in &all {
            let (_, certificate) = X509Certificate::from_der(der)
                .map_err(|error| format!("client.ca: not a certificate: {error}"))?;
            this.subjects.push(certificate.subject().as_raw().to_vec().into());
            if certificate.subject().as_raw() == certificate.issuer().as_raw() {
                this.anchors.push(anchor(der)?);
            } else {
                this.intermediates.push(der.clone());
            }
        }
        if this.anchors.is_empty() {
            this.anchors =
                this.intermediates.drain(..).map(|der| anchor(&der)).collect::<Result<_, _>>()?;
        }
        if this.anchors.is_empty() {
            return Err("client.ca: there is no certificate in it, put a PEM one there".to_owned());
        }
        Ok(this)
    }
}

fn anchor(der: &CertificateDer<'_>) -> Result<TrustAnchor<'static>, String> {
    webpki::anchor_from_trusted_cert(der)
        .map(|anchor| anchor.to_owned())
        .map_err(|error| format!("client.ca: cannot be used as an authority: {error}"))
}

/// Verifies paths to the authorities, and their depth.
#[derive(Debug)]
struct Verifier {
    authorities: Authorities,
    /// Most certificates between the client's own and the authority's (OpenSSL,
    /// `SSL_set_verify_depth`).
    depth: u32,
    per_request: bool,
}

impl Verifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let leaf = EndEntityCert::try_from(leaf)?;
        let intermediates: Vec<CertificateDer<'_>> =
            shown.iter().chain(&self.authorities.intermediates).map(borrowed).collect();
        let depth = |path: &webpki::VerifiedPath<'_>| {
            let long = path.intermediate_certificates().count() > self.depth as usize;
            if long { Err(webpki::Error::MaximumPathDepthExceeded) } else { Ok(()) }
        };
        let algorithms = provider().signature_verification_algorithms.all;
        leaf.verify_for_usage(
            algorithms,
            &self.authorities.anchors,
            &intermediates,
            now,
            KeyUsage::client_auth(),
            None,
            Some(&depth),
        )
        .map(|_| ())
    }
}

fn borrowed<'a>(der: &'a CertificateDer<'_>) -> CertificateDer<'a> {
    CertificateDer::from(der.as_ref())
}

/// What OpenSSL would say.
fn reason(leaf: &CertificateDer<'_>, error: &webpki::Error) -> String {
    use webpki::Error;
    let signs_itself =
        || X509Certificate::from_der(leaf).is_ok_and(|(_, leaf)| leaf.subject() == leaf.issuer());
    let text = match error {
        Error::CertExpired { .. } => "certificate has expired",
        Error::CertNotValidYet { .. } => "certificate is not yet valid",
        Error::MaximumPathDepthExceeded => "certificate chain too long",
        Error::UnknownIssuer if signs_itself() => "self-signed certificate",
        Error::UnknownIssuer => "unable to get local issuer certificate",
        Error::InvalidSignatureForPublicKey => "certificate signature failure",
        Error::RequiredEkuNotFoundContext(_) => "unsuitable certificate purpose",
        other => return other.to_string(),
    };
    text.to_owned()
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.per_request
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities.subjects
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.verify(leaf, intermediates, now) {
            Err(error) if !self.per_request => Err(match error {
                webpki::Error::CertExpired { .. } => CertificateError::Expired,
                webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
                webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
                _ => CertificateError::ApplicationVerificationFailure,
            }
            .into()),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
