//! OCSP: what is asked about a certificate, and whether an answer may be stapled (RFC 6960).

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use sha1::{Digest as _, Sha1};
use webpki::RawPublicKeyEntity;
use x509_cert::der::asn1::{Null, ObjectIdentifier, OctetString};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspRequest, OcspResponse, OcspResponseStatus, Request,
    SingleResponse, TbsRequest, Version,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::provider;

/// `id-ad-ocsp` (RFC 5280, section 4.2.2.1).
const RESPONDER: &str = "1.3.6.1.5.5.7.48.1";
/// SHA-1, which responders know: it names certificates here and protects nothing.
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
/// How far clocks may be apart.
const SKEW: Duration = Duration::from_mins(5);

/// A question about one certificate.
#[derive(Debug, Clone)]
pub struct Question {
    /// The certificate.
    pub leaf: CertificateDer<'static>,
    issuer: CertificateDer<'static>,
    id: CertId,
    /// Where to ask: an `http` URL.
    pub url: Arc<str>,
    /// The body of the request, of type `application/ocsp-request`.
    pub request: Vec<u8>,
}

impl Question {
    /// The question about the first certificate of a chain. The error says what the chain lacks.
    pub fn about(chain: &[CertificateDer<'static>]) -> Result<Self, String> {
        let [leaf, issuer, ..] = chain else {
            return Err("the issuer's certificate is missing, put it behind the own".to_owned());
        };
        let url = responder(leaf).ok_or("the certificate names no http URL of a responder")?;
        let id = id(leaf, issuer).map_err(|error| format!("not a certificate: {error}"))?;
        let request = Request { req_cert: id.clone(), single_request_extensions: None };
        let request = OcspRequest {
            tbs_request: TbsRequest {
                version: Version::default(),
                requestor_name: None,
                request_list: vec![request],
                request_extensions: None,
            },
            optional_signature: None,
        };
        let request = request.to_der().map_err(|error| error.to_string())?;
        Ok(Self { leaf: leaf.clone(), issuer: issuer.clone(), id, url: url.into(), request })
    }

    /// Whether `response` says, signed by the issuer or for it, that the certificate is good at
    /// `now`, in time since the epoch. The error says why not.
    pub fn check(&self, response: &[u8], now: Duration) -> Result<(), String> {
        let malformed = |error| format!("malformed response: {error}");
        let response = OcspResponse::from_der(response).map_err(malformed)?;
        if response.response_status != OcspResponseStatus::Successful {
            return Err(format!("the responder says {:?}", response.response_status));
        }
        let bytes = response.response_bytes.ok_or("the response is empty")?;
        let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).map_err(malformed)?;
        let is_own = |single: &&SingleResponse| {
            single.cert_id.serial_number == self.id.serial_number
                && single.cert_id.issuer_name_hash == self.id.issuer_name_hash
                && single.cert_id.issuer_key_hash == self.id.issuer_key_hash
        };
        let single = basic.tbs_response_data.responses.iter().find(is_own);
        let single = single.ok_or("the response is about another certificate")?;
        match single.cert_status {
            CertStatus::Good(_) => {}
            CertStatus::Revoked(_) => return Err("the certificate is revoked".to_owned()),
            CertStatus::Unknown(_) => {
                return Err("the responder does not know the certificate".to_owned());
            }
        }
        let next = single.next_update.map(|next| next.0.to_unix_duration());
        if single.this_update.0.to_unix_duration() > now + SKEW {
            return Err("the response is from the future".to_owned());
        }
        if next.is_some_and(|next| next + SKEW < now) {
            return Err("the response has expired".to_owned());
        }
        if self.is_signed(&basic, now) {
            Ok(())
        } else {
            Err("the response's signature is not the issuer's".to_owned())
        }
    }

    /// Whether the issuer has signed a response, or somebody whom it has authorised to (RFC 6960,
    /// section 4.2.2.2).
    fn is_signed(&self, basic: &BasicOcspResponse, now: Duration) -> bool {
        let Ok(data) = basic.tbs_response_data.to_der() else { return false };
        let Ok(algorithm) = basic.signature_algorithm.to_der() else { return false };
        let signature = basic.signature.raw_bytes();
        let Ok((_, issuer)) = X509Certificate::from_der(&self.issuer) else { return false };
        let issuer = issuer.public_key().raw;
        if verifies(issuer, &algorithm, &data, signature) {
            return true;
        }
        basic.certs.iter().flatten().any(|delegate| {
            let der = (delegate.to_der(), delegate.signature_algorithm.to_der());
            let (Ok(der), Ok(signed_by)) = der else { return false };
            let Ok((_, delegate)) = X509Certificate::from_der(&der) else { return false };
            is_delegated(&delegate, now)
                && verifies(
                    issuer,
                    &signed_by,
                    delegate.tbs_certificate.as_ref(),
                    &delegate.signature_value.data,
                )
                && verifies(delegate.public_key().raw, &algorithm, &data, signature)
        })
    }
}

/// The first `http` URL of a responder in a certificate.
fn responder(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let access =
        leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(access),
            _ => None,
        })?;
    access.accessdescs.iter().find_map(|entry| match entry.access_location {
        GeneralName::URI(url) if entry.access_method.to_id_string() == RESPONDER => {
            url.starts_with("http://").then(|| url.to_owned())
        }
        _ => None,
    })
}

/// What names a certificate in OCSP.
fn id(leaf: &[u8], issuer: &[u8]) -> Result<CertId, x509_cert::der::Error> {
    let leaf = x509_cert::Certificate::from_der(leaf)?.tbs_certificate;
    let issuer = x509_cert::Certificate::from_der(issuer)?.tbs_certificate;
    let name: [u8; 20] = Sha1::digest(issuer.subject.to_der()?).into();
    let key = issuer.subject_public_key_info.subject_public_key;
    let key: [u8; 20] = Sha1::digest(key.raw_bytes()).into();
    Ok(CertId {
        hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(Null.into()) },
        issuer_name_hash: OctetString::new(name)?,
        issuer_key_hash: OctetString::new(key)?,
        serial_number: leaf.serial_number,
    })
}

/// Whether a certificate is one for signing responses, and in force.
fn is_delegated(delegate: &X509Certificate<'_>, now: Duration) -> bool {
    let usage = delegate.extended_key_usage().ok().flatten();
    let may_sign = usage.is_some_and(|usage| usage.value.ocsp_signing);
    let now = ASN1Time::from_timestamp(now.as_secs() as i64);
    may_sign && now.is_ok_and(|now| delegate.validity().is_valid_at(now))
}

/// Whether a key, with the algorithm in DER, has made a signature.
fn verifies(key: &[u8], algorithm: &[u8], message: &[u8], signature: &[u8]) -> bool {
    // Without tag and length: identifiers are short.
    let Some(identifier) = algorithm.get(2..) else { return false };
    let key = SubjectPublicKeyInfoDer::from(key);
    let Ok(entity) = RawPublicKeyEntity::try_from(&key) else { return false };
    provider()
        .signature_verification_algorithms
        .all
        .iter()
        .filter(|known| known.signature_alg_id().as_ref() == identifier)
        .any(|known| entity.verify_signature(*known, message, signature).is_ok())
}

#[cfg(test)]
mod tests;
