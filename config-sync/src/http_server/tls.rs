//! Certificates of a listener, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use osmia_core::settings::AdminTls;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{Error as RustlsError, RootCertStore, ServerConfig};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: pem::Error,
    },
    /// A file has no certificate in it.
    #[error("{path}: no certificate in it", path = .0.display())]
    NoCertificate(PathBuf),
    /// The certificate and the key cannot be used together.
    #[error("{path}: {reason}", path = path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        reason: RustlsError,
    },
    /// The client authority cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    Authority {
        /// The authority's file.
        path: PathBuf,
        /// Why.
        reason: VerifierBuilderError,
    },
}

/// When each file was written and how long it is.
type Stamps = Vec<Option<(SystemTime, u64)>>;

/// Certificates from files.
#[derive(Debug)]
pub(super) struct TlsFiles {
    files: AdminTls,
    stamps: Stamps,
    looked: Instant,
    pub(super) config: Arc<ServerConfig>,
}

impl TlsFiles {
    /// Reads the files.
    pub(super) fn open(files: &AdminTls) -> Result<Self, TlsError> {
        // Before the contents, so that a change in between is seen later.
        let stamps = stamps(files);
        let config = Arc::new(load(files)?);
        Ok(Self { files: files.clone(), stamps, looked: Instant::now(), config })
    }

    /// For the next handshake. Looks for changed files, but not more often than each second; files
    /// that cannot be used leave the certificate that is in use.
    pub(super) fn acceptor(&mut self) -> TlsAcceptor {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.refresh();
        }
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    pub(super) fn refresh(&mut self) {
        let stamps = stamps(&self.files);
        if stamps == self.stamps {
            return;
        }
        self.stamps = stamps;
        match load(&self.files) {
            Ok(config) => {
                self.config = Arc::new(config);
                tracing::info!("the Admin API's certificate was read again");
            }
            Err(error) => tracing::error!(
                "the Admin API's certificate has changed but cannot be used, keeping the one in \
                 use: {error}"
            ),
        }
    }
}

fn stamps(files: &AdminTls) -> Stamps {
    let stamp = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    let (certificate, key) = &files.certificate;
    [certificate, key].into_iter().chain(&files.client_authority).map(stamp).collect()
}

fn load(files: &AdminTls) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let (certificate, key) = &files.certificate;
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|reason| TlsError::File { path: key.clone(), reason })?;
    let unusable = |reason| TlsError::Certificate { path: certificate.clone(), reason };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &files.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |reason| TlsError::File { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(unreadable)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}

fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        let unusable = |reason| TlsError::Certificate { path: path.to_owned(), reason };
        roots.add(authority).map_err(unusable)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|reason| TlsError::Authority { path: path.to_owned(), reason })
}
