//! Certificates for clients, from resource to handshake.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::StoresServerSessions;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version};

use super::sessions::Sessions;
use super::{Material, ServerTls, provider, ticketer};
use crate::settings::{TlsSettings, TlsVersion};

/// Most sessions kept for a certificate with `client`, which shares them with no other.
const OWN_SESSIONS: usize = 2_000;

/// Makes [`ServerTls`] of what resources hold, and keeps what these share: the provider, sessions
/// and the keys of tickets.
#[derive(Debug)]
pub struct ServerCompiler {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    tickets: bool,
    session_cache: usize,
    /// Or why there can be none: the system gives no random numbers.
    shared: Result<Resumption, String>,
}

/// Where sessions are kept.
#[derive(Debug, Clone)]
struct Resumption {
    sessions: Arc<dyn StoresServerSessions>,
    /// `None`: no tickets.
    ticketer: Option<Arc<dyn ProducesTickets>>,
}

impl ServerCompiler {
    /// A compiler by these settings.
    pub fn new(settings: &TlsSettings) -> Self {
        let mut crypto = (*provider()).clone();
        crypto.cipher_suites = suites(&crypto.cipher_suites, &settings.ciphers);
        let versions = settings.protocols.iter().map(|version| match version {
            TlsVersion::V12 => &version::TLS12,
            TlsVersion::V13 => &version::TLS13,
        });
        let names: &[&[u8]] = if settings.http2 {
            &[b"h2", b"http/1.1", b"http/1.0"]
        } else {
            &[b"http/1.1", b"http/1.0"]
        };
        Self {
            provider: Arc::new(crypto),
            versions: versions.collect(),
            alpn: names.iter().map(|name| name.to_vec()).collect(),
            tickets: settings.session_tickets,
            session_cache: settings.session_cache,
            shared: resumption(settings.session_cache, settings.session_tickets),
        }
    }

    /// The certificate `id`; of several for one name the one with the smallest `order` is used.
    pub fn compile(
        &self,
        id: Arc<str>,
        order: u64,
        material: &Material,
    ) -> Result<ServerTls, String> {
        let own = &material.versions;
        let versions = if own.is_empty() { &self.versions } else { own };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)
            .map_err(|error| format!("ssl_protocols: {error}"))?;
        let builder = match &material.client {
            Some(client) => builder.with_client_cert_verifier(client.verifier()),
            None => builder.with_no_client_auth(),
        };
        let keys = material.keys.clone();
        let suites = self.provider.cipher_suites.clone();
        let mut config = builder.with_cert_resolver(Arc::new(Keys { keys, suites }));
        config.alpn_protocols.clone_from(&self.alpn);
        // nginx: ssl_prefer_server_ciphers on.
        config.ignore_client_order = true;
        // A session stands for a verified certificate: what another authority has verified, or the
        // same one before it was changed, must not count here.
        let resumption = match &material.client {
            Some(_) => resumption(self.session_cache.min(OWN_SESSIONS), self.tickets)?,
            None => self.shared.clone()?,
        };
        config.session_storage = resumption.sessions;
        if let Some(ticketer) = resumption.ticketer {
            config.ticketer = ticketer;
        }
        Ok(ServerTls {
            id,
            snis: material.snis.clone(),
            order,
            config: Arc::new(config),
            client: material.client.clone(),
        })
    }
}

fn resumption(sessions: usize, tickets: bool) -> Result<Resumption, String> {
    let ticketer = if tickets { Some(ticketer()?) } else { None };
    let sessions: Arc<dyn StoresServerSessions> = if sessions == 0 {
        Arc::new(NoServerSessionStorage {})
    } else {
        Arc::new(Sessions::new(sessions))
    };
    Ok(Resumption { sessions, ticketer })
}

/// The suites of TLS 1.3, which `ssl_ciphers` says nothing about (as with OpenSSL), and the listed
/// ones of TLS 1.2 in the list's order.
fn suites(all: &[SupportedCipherSuite], listed: &[CipherSuite]) -> Vec<SupportedCipherSuite> {
    let newest = all.iter().filter(|suite| suite.tls13().is_some());
    let find = |name: &CipherSuite| all.iter().find(|s| s.tls13().is_none() && s.suite() == *name);
    newest.chain(listed.iter().filter_map(find)).copied().collect()
}

/// Certificates of several algorithms for the same names.
#[derive(Debug)]
struct Keys {
    keys: Vec<Arc<CertifiedKey>>,
    suites: Vec<SupportedCipherSuite>,
}

impl ResolvesServerCert for Keys {
    /// The first certificate whose key can sign as the client likes best, and for which there is a
    /// cipher suite that both sides have.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = hello.cipher_suites();
        let is_usable = |key: &CertifiedKey| {
            let algorithm = key.key.algorithm();
            self.suites.iter().any(|suite| {
                suite.usable_for_signature_algorithm(algorithm) && offered.contains(&suite.suite())
            })
        };
        let by_scheme = hello.signature_schemes().iter().find_map(|scheme| {
            let signs = |key: &&Arc<CertifiedKey>| {
                key.key.choose_scheme(&[*scheme]).is_some() && is_usable(key)
            };
            self.keys.iter().find(signs)
        });
        // None fits: the handshake fails with what the library says about the first.
        by_scheme.or(self.keys.first()).cloned()
    }
}
