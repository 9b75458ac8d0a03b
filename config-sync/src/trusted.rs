//! Certificate authorities for nodes.

use std::io;
use std::path::Path;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// The authorities in a file (`apisix.ssl.ssl_trusted_certificate`), or the system's. Reads files.
pub(crate) fn roots(trusted: Option<&Path>) -> io::Result<RootCertStore> {
    let authorities = match trusted {
        Some(path) => {
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| {
                let path = path.display();
                io::Error::other(format!("apisix.ssl.ssl_trusted_certificate: {path}: {error}"))
            })?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(authorities);
    if added == 0 {
        tracing::warn!("no certificate authority is known: no certificate of a node can be good");
    }
    Ok(roots)
}
