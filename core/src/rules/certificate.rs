//! Certificates and private keys (`apisix/ssl.lua`, `check_ssl_conf`).

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::keyring::Keyring;
use crate::resource::{Ssl, SslType, is_secret_ref};

/// What APISIX says, which has it from OpenSSL.
const BAD_CERTIFICATE: &str = "failed to parse cert: PEM_read_bio_X509_AUX() failed";
const BAD_KEY: &str = "failed to parse key: PEM_read_bio_PrivateKey() failed";

/// Checks all certificates and keys of an `ssl` resource. What refers to a secret is not known yet
/// and passes.
pub(super) fn check_ssl(keyring: &Keyring, ssl: &Ssl) -> Result<(), String> {
    pair(keyring, &ssl.cert, &ssl.key)?;
    if ssl.kind == SslType::Client {
        return Ok(());
    }
    if ssl.certs.len() != ssl.keys.len() {
        return Err("mismatched number of certs and keys".to_owned());
    }
    for (index, (certificate, key)) in ssl.certs.iter().zip(&ssl.keys).enumerate() {
        pair(keyring, certificate, key)
            .map_err(|error| format!("failed to handle cert-key pair[{}]: {error}", index + 1))?;
    }
    match &ssl.client {
        Some(client) if !is_secret_ref(&client.ca) => validate(keyring, &client.ca, None)
            .map_err(|error| format!("failed to validate client_cert: {error}")),
        _ => Ok(()),
    }
}

fn pair(keyring: &Keyring, certificate: &str, key: &str) -> Result<(), String> {
    if is_secret_ref(certificate) || is_secret_ref(key) {
        return Ok(());
    }
    validate(keyring, certificate, Some(key))
}

/// Checks a certificate, with its chain behind it, and the key to it, which may be encrypted.
pub(super) fn validate(
    keyring: &Keyring,
    certificate: &str,
    key: Option<&str>,
) -> Result<(), String> {
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| BAD_CERTIFICATE)?;
    let parsed = chain.iter().map(|der| match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(BAD_CERTIFICATE),
    });
    let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
    let leaf = parsed.first().ok_or(BAD_CERTIFICATE)?;
    let Some(key) = key else { return Ok(()) };
    let key = keyring.decrypt_pem(key).ok_or("failed to decrypt previous encrypted key")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| BAD_KEY)?;
    let Ok(signer) = rustls::crypto::ring::sign::any_supported_type(&key) else {
        // An algorithm or size that this TLS library does not use is not a reason to refuse what
        // another gateway on the same store may use; text that is no key at all is.
        return if is_sequence(key.secret_der()) { Ok(()) } else { Err(BAD_KEY.to_owned()) };
    };
    match signer.public_key() {
        Some(public) if public.as_ref() != leaf.public_key().raw => {
            Err("failed to parse key: it does not belong to the certificate".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether `der` is one ASN.1 sequence, as every private key is (RFC 5958, RFC 8017, RFC 5915).
fn is_sequence(der: &[u8]) -> bool {
    use x509_parser::asn1_rs::Sequence;
    matches!(Sequence::from_der(der), Ok(([], sequence)) if !sequence.content.is_empty())
}
