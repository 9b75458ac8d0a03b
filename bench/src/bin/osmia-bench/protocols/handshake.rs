//! A client that only shakes hands: connect, handshake, close. Several threads, each of which has
//! one connection at a time and sessions of its own.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
};

use super::material::NAME;
use super::measure::Counted;

/// Connections at a time.
const THREADS: usize = 16;
/// How long any read or write may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What TLS clients of ours offer: TLS 1.3, `TLS_AES_128_GCM_SHA256`, X25519, ECDSA on P-256.
pub(super) fn client_config() -> Result<ClientConfig> {
    let provider = CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    };
    Ok(ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth())
}

/// Clients that are kept over several runs, with the sessions that they have got.
pub(super) struct Clients {
    addr: SocketAddr,
    kind: HandshakeKind,
    configs: Vec<Arc<ClientConfig>>,
}

impl Clients {
    /// Clients that make full handshakes only.
    pub(super) fn full(addr: SocketAddr) -> Result<Self> {
        let mut config = client_config()?;
        config.resumption = Resumption::disabled();
        let config = Arc::new(config);
        let configs = (0..THREADS).map(|_| Arc::clone(&config)).collect();
        Ok(Self { addr, kind: HandshakeKind::Full, configs })
    }

    /// Clients that resume. Each makes one full handshake here.
    pub(super) fn resuming(addr: SocketAddr) -> Result<Self> {
        let config = || client_config().map(Arc::new);
        let configs = (0..THREADS).map(|_| config()).collect::<Result<Vec<_>>>()?;
        for config in &configs {
            let (kind, _) = shake(addr, config)?;
            ensure!(kind == HandshakeKind::Full, "a first handshake was {kind:?}");
        }
        Ok(Self { addr, kind: HandshakeKind::Resumed, configs })
    }

    /// Shakes hands for so many seconds. Handshakes of another kind than wanted are errors.
    pub(super) fn run(&self, seconds: u64) -> Result<Counted> {
        let until = Instant::now() + Duration::from_secs(seconds);
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .configs
                .iter()
                .map(|config| scope.spawn(|| self.run_one(config, until)))
                .collect();
            threads.into_iter().try_fold(Counted::default(), |sum, thread| {
                let one = thread.join().ok().context("a client ended with a panic")?;
                Ok(Counted { units: sum.units + one.units, errors: sum.errors + one.errors })
            })
        })
    }

    /// What is negotiated, by one more handshake.
    pub(super) fn negotiated(&self) -> Result<String> {
        let Some(config) = self.configs.first() else { return Ok(String::new()) };
        let (kind, connection) = shake(self.addr, config)?;
        let version = connection.protocol_version().and_then(|v| v.as_str());
        let suite = connection.negotiated_cipher_suite().and_then(|s| s.suite().as_str());
        let group = connection.negotiated_key_exchange_group().and_then(|g| g.name().as_str());
        let word = |word: Option<&'static str>| word.unwrap_or("unknown");
        Ok(format!("{}, {}, {}, {kind:?}", word(version), word(suite), word(group)))
    }

    fn run_one(&self, config: &Arc<ClientConfig>, until: Instant) -> Counted {
        let mut counted = Counted::default();
        while Instant::now() < until {
            match shake(self.addr, config) {
                Ok((kind, _)) if kind == self.kind => counted.units += 1,
                Ok(_) | Err(_) => counted.errors += 1,
            }
        }
        counted
    }
}

/// One connection: handshake, the client's closing alert, and what the server sends until it closes
/// as well, tickets among it. The server closes first, so that no port of ours has to wait.
fn shake(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Result<(HandshakeKind, ClientConnection)> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let name = ServerName::try_from(NAME)?;
    let mut connection = ClientConnection::new(Arc::clone(config), name)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let kind = connection.handshake_kind().context("a handshake of no kind")?;
    connection.send_close_notify();
    while connection.wants_write() {
        connection.write_tls(&mut stream)?;
    }
    // Not `complete_io`: it does not read after the closing alerts.
    while connection.read_tls(&mut stream)? > 0 {
        connection.process_new_packets()?;
        if !connection.wants_read() {
            drain(&mut stream)?;
            break;
        }
    }
    Ok((kind, connection))
}

/// Reads until the server closes.
fn drain(stream: &mut TcpStream) -> Result<()> {
    let mut rest = [0; 1024];
    while stream.read(&mut rest)? > 0 {}
    Ok(())
}

/// The certificate is the harness's own: looking at it would cost the load's core only.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 was not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
