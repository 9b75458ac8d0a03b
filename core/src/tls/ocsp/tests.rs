//! Responses that are made here, and signed with keys of rcgen.

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SigningKey};
use x509_cert::der::asn1::{BitString, GeneralizedTime};
use x509_ocsp::{OcspGeneralizedTime, ResponderId, ResponseData};

use super::super::testing::{Authority, alone, handshake, material, params, revocable, root, ssl};
use super::super::{Material, ServerCompiler, UpstreamTls};
use super::*;
use crate::keyring::Keyring;
use crate::settings::TlsSettings;
use serde_json::json;

/// Within the time for which rcgen's certificates are good.
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn question(issuer: &Authority) -> Question {
    let (cert, key) = revocable("a.com", issuer, "http://ocsp.example:81/x");
    let ssl = ssl("a.com", &json!({"cert": cert, "key": key}));
    Question::about(&material(&ssl).keys[0].cert).unwrap()
}

fn time(at: Duration) -> OcspGeneralizedTime {
    OcspGeneralizedTime(GeneralizedTime::from_unix_duration(at).unwrap())
}

/// What a responder answers: an hour old, for two hours.
fn answer(question: &Question) -> SingleResponse {
    let hour = Duration::from_hours(1);
    SingleResponse {
        cert_id: question.id.clone(),
        cert_status: CertStatus::good(),
        this_update: time(NOW.saturating_sub(hour)),
        next_update: Some(time(NOW + hour)),
        single_extensions: None,
    }
}

/// Signs an answer with the key, and puts a certificate beside it.
fn signed(single: SingleResponse, key: &KeyPair, delegate: Option<&[u8]>) -> Vec<u8> {
    let name = x509_cert::name::Name::default();
    let data = ResponseData {
        version: Version::default(),
        responder_id: ResponderId::ByName(name),
        produced_at: time(NOW),
        responses: vec![single],
        response_extensions: None,
    };
    let signature = key.sign(&data.to_der().unwrap()).unwrap();
    // ecdsa-with-SHA256
    let oid = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
    let basic = BasicOcspResponse {
        tbs_response_data: data,
        signature_algorithm: AlgorithmIdentifierOwned { oid, parameters: None },
        signature: BitString::from_bytes(&signature).unwrap(),
        certs: delegate.map(|der| vec![x509_cert::Certificate::from_der(der).unwrap()]),
    };
    OcspResponse::successful(basic).unwrap().to_der().unwrap()
}

#[test]
fn asks_the_responder_that_the_certificate_names() {
    let question = question(&root("ca"));
    assert_eq!(&*question.url, "http://ocsp.example:81/x");
    let request = OcspRequest::from_der(&question.request).unwrap();
    assert_eq!(request.tbs_request.request_list[0].req_cert, question.id);
}

#[test]
fn what_cannot_be_asked_about_is_told() {
    let ca = root("ca");
    for (pair, reason) in [
        (alone("a.com"), "the issuer's certificate is missing, put it behind the own"),
        (revocable("a.com", &ca, "https://x"), "the certificate names no http URL of a responder"),
    ] {
        let stapling = json!({"enabled": true});
        let ssl = json!({"cert": pair.0, "key": pair.1, "ocsp_stapling": stapling});
        let material = material(&super::super::testing::ssl("a.com", &ssl));
        let found: Vec<_> = material.questions().map(Result::unwrap_err).collect();
        assert_eq!(found, [reason]);
    }
}

#[test]
fn an_answer_must_be_the_issuers_and_good() {
    let ca = root("ca");
    let question = question(&ca);
    let good = answer(&question);
    let check = |single: SingleResponse| question.check(&signed(single, ca.key(), None), NOW);
    assert_eq!(check(good.clone()), Ok(()));
    let other = super::tests::question(&ca).id;
    let revoked = x509_ocsp::RevokedInfo { revocation_time: time(NOW), revocation_reason: None };
    let late = Duration::from_hours(3);
    let cases = [
        (
            SingleResponse { cert_status: CertStatus::revoked(revoked), ..good.clone() },
            "the certificate is revoked",
        ),
        (
            SingleResponse { cert_status: CertStatus::unknown(), ..good.clone() },
            "the responder does not know the certificate",
        ),
        (
            SingleResponse { this_update: time(NOW + late), ..good.clone() },
            "the response is from the future",
        ),
        (
            SingleResponse { next_update: Some(time(NOW.saturating_sub(late))), ..good.clone() },
            "the response has expired",
        ),
        (
            SingleResponse {
                cert_id: CertId { issuer_key_hash: OctetString::new([1; 20]).unwrap(), ..other },
                ..good.clone()
            },
            "the response is about another certificate",
        ),
    ];
    for (single, reason) in cases {
        assert_eq!(check(single), Err(reason.to_owned()));
    }
    let stranger = KeyPair::generate().unwrap();
    let forged = question.check(&signed(good, &stranger, None), NOW);
    assert_eq!(forged, Err("the response's signature is not the issuer's".to_owned()));
    for bytes in [&b""[..], b"text", &[0x30, 3, 0x0a, 1, 6]] {
        assert!(question.check(bytes, NOW).is_err());
    }
}

#[test]
fn the_issuer_may_have_others_answer() {
    let ca = root("ca");
    let question = question(&ca);
    for (issuer, usage, is_good) in [
        (&ca, ExtendedKeyUsagePurpose::OcspSigning, true),
        (&ca, ExtendedKeyUsagePurpose::ServerAuth, false),
        (&root("ca"), ExtendedKeyUsagePurpose::OcspSigning, false),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&["responder"]);
        params.extended_key_usages = vec![usage];
        let delegate = params.signed_by(&key, issuer).unwrap();
        let response = signed(answer(&question), &key, Some(delegate.der()));
        assert_eq!(question.check(&response, NOW).is_ok(), is_good);
    }
}

#[test]
fn what_is_stapled_reaches_clients_and_sessions_go_on() {
    let (ca, keyring) = (root("ca"), Keyring::default());
    let (cert, key) = revocable("a.com", &ca, "http://x");
    let stapling = json!({"enabled": true});
    let all = json!({"cert": cert, "key": key, "ocsp_stapling": stapling});
    let mut material = Material::read(&ssl("a.com", &all), &keyring).unwrap();
    let compiler = ServerCompiler::new(&TlsSettings::default());
    let before = compiler.compile("1".into(), 0, &material).unwrap();
    let leaf = material.keys[0].cert[0].clone();
    assert!(material.staple(&leaf, Some(b"one")) && !material.staple(&leaf, Some(b"one")));
    let after = compiler.restaple(&before, &material);
    let client = UpstreamTls::new(None, None).unwrap().config;
    handshake(&client, &before.config, "a.com").unwrap();
    let again = handshake(&client, &after.config, "a.com").unwrap();
    assert_eq!(again.1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    assert_eq!(seen(&before.config), b"");
    assert_eq!(seen(&after.config), b"one");
    let mut renewed = Material::read(&ssl("a.com", &all), &keyring).unwrap();
    renewed.keep_staples(&material);
    assert_eq!(renewed.keys[0].ocsp.as_deref(), Some(&b"one"[..]));
    assert!(renewed.staple(&leaf, None) && renewed.keys[0].ocsp.is_none());
}

#[test]
fn a_configured_response_is_stapled_and_nobody_is_asked() {
    let with = |text: &str| {
        let stapling = json!({"enabled": true, "response": text});
        Material::read(&ssl("a.com", &json!({"ocsp_stapling": stapling})), &Keyring::default())
    };
    let material = with("b25l").unwrap();
    assert_eq!(material.keys[0].ocsp.as_deref(), Some(&b"one"[..]));
    assert_eq!(material.questions().count(), 0);
    assert!(with("*").unwrap_err().starts_with("ocsp_stapling.response: not base64"));
}

/// What a client sees stapled.
fn seen(server: &Arc<rustls::ServerConfig>) -> Vec<u8> {
    use rustls::client::danger::ServerCertVerifier;
    use std::sync::Mutex;

    #[derive(Debug)]
    struct Seen(Mutex<Vec<u8>>, crate::tls::AnyServer);
    impl ServerCertVerifier for Seen {
        fn verify_server_cert(
            &self,
            leaf: &CertificateDer<'_>,
            rest: &[CertificateDer<'_>],
            name: &rustls_pki_types::ServerName<'_>,
            ocsp: &[u8],
            now: rustls_pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            *self.0.lock().unwrap() = ocsp.to_vec();
            self.1.verify_server_cert(leaf, rest, name, ocsp, now)
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            self.1.verify_tls12_signature(message, leaf, signature)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            self.1.verify_tls13_signature(message, leaf, signature)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.1.supported_verify_schemes()
        }
    }
    let seen = Arc::new(Seen(Mutex::default(), crate::tls::AnyServer));
    let mut client = (*UpstreamTls::new(None, None).unwrap().config).clone();
    client.dangerous().set_certificate_verifier(Arc::clone(&seen) as _);
    handshake(&Arc::new(client), server, "a.com").unwrap();
    seen.0.lock().unwrap().clone()
}
