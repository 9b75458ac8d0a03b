//! Certificates, and a TLS client that may be told to accept anything.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};
use serde_json::{Value, json};

use crate::FAILSAFE;

/// A certificate with its key, as PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, without its authority's.
    pub cert: String,
    /// Its key.
    pub key: String,
}

impl Identity {
    /// An `ssl` resource with it, for `names`.
    pub fn resource(&self, id: &str, names: &[&str]) -> Value {
        json!({"id": id, "snis": names, "cert": self.cert, "key": self.key})
    }

    /// The certificate's bytes.
    pub fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap().to_vec()
    }
}

/// Who issues certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new("test authority")
    }
}

impl Authority {
    /// An authority with this common name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for servers called `names`.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(params(names))
    }

    /// The same, over since 2001.
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(params)
    }

    /// A certificate for a client.
    pub fn issue_client(&self, name: &str) -> Identity {
        let mut params = params(&[name]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let owned: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(owned).unwrap();
    params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("none"));
    params
}

/// A connection over TLS.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// How to connect over TLS. Any certificate is accepted; [`Tls::connect`] returns it to be looked
/// at.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    alpn: Vec<Vec<u8>>,
    version: Option<&'static SupportedProtocolVersion>,
    client: Option<Identity>,
}

impl Tls {
    /// Without ALPN, TLS 1.2 or 1.3.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers HTTP/2.
    pub fn h2() -> Self {
        Self::new().alpn(&["h2"])
    }

    /// Offers these protocols.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Speaks this version only.
    #[must_use]
    pub fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Shows this certificate when asked for one.
    #[must_use]
    pub fn client(mut self, identity: &Identity) -> Self {
        self.client = Some(identity.clone());
        self
    }

    /// Connects, asking for `name`, and completes the handshake.
    pub fn connect(&self, addr: SocketAddr, name: &str) -> std::io::Result<TlsStream> {
        let stream = TcpStream::connect_timeout(&addr, FAILSAFE)?;
        self.over(stream, name)
    }

    /// The same over a connection that is there.
    pub fn over(&self, mut stream: TcpStream, name: &str) -> std::io::Result<TlsStream> {
        stream.set_read_timeout(Some(FAILSAFE))?;
        stream.set_write_timeout(Some(FAILSAFE))?;
        let mut connection = self.connection(name);
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    /// The state of a connection that asks for `name`, for a test that moves the bytes itself.
    pub fn connection(&self, name: &str) -> ClientConnection {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        ClientConnection::new(Arc::new(self.config()), name).unwrap()
    }

    fn config(&self) -> ClientConfig {
        let provider = Arc::new(ring::default_provider());
        let one = self.version.map(|version| [version]);
        let versions = one.as_ref().map_or(rustls::DEFAULT_VERSIONS, |one| one.as_slice());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = vec![CertificateDer::from(identity.der())];
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }
}

/// The server's own certificate on a connection.
pub fn server_certificate(stream: &TlsStream) -> Vec<u8> {
    stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
}

/// Accepts any certificate, but not wrong signatures of the handshake.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
