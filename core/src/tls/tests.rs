//! Handshakes in memory between rustls's client and what resources are compiled to.

use std::sync::Arc;

use rustls::{CipherSuite, ClientConfig, Error, HandshakeKind, ProtocolVersion};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use super::testing::{
    Authority, alone, below, client, compiled, handshake, leaf, material, root, ssl,
};
use super::*;
use crate::keyring::Keyring;
use crate::reply::Failure;
use crate::resource::Ssl;
use crate::settings::TlsSettings;
use crate::vars::Variable;

const RSA: (&str, &str) =
    (include_str!("../rules/testdata/rsa.crt"), include_str!("../rules/testdata/rsa.key"));

/// A client that offers only these.
fn only(client: &ClientConfig, suites: &[CipherSuite]) -> Arc<ClientConfig> {
    let mut crypto = (**client.crypto_provider()).clone();
    crypto.cipher_suites.retain(|suite| suites.contains(&suite.suite()));
    let version: &[_] = if suites.iter().any(|suite| suite.as_str().unwrap().starts_with("TLS13")) {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS12]
    };
    let config = ClientConfig::builder_with_provider(Arc::new(crypto))
        .with_protocol_versions(version)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    Arc::new(config)
}

fn any_client() -> Arc<ClientConfig> {
    Arc::new(client(None))
}

/// What the server knows of a client whose handshake is done.
fn peer(ends: &testing::Ends, sni: &str, server: &Arc<ServerTls>) -> TlsPeer {
    let connection = &ends.1;
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    let handshake = Handshake {
        protocol: connection.protocol_version(),
        cipher: suite,
        alpn: connection.alpn_protocol(),
        server_name: connection.server_name(),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        certificates: connection.peer_certificates(),
    };
    TlsPeer::of(&handshake, sni, Arc::clone(server), UnixTime::now())
}

fn value(peer: &TlsPeer, name: &str) -> Option<String> {
    let mut out = Vec::new();
    let variable = Variable::parse(name).unwrap();
    peer.append(&variable, &mut out).then(|| String::from_utf8(out).unwrap())
}

fn mutual(authority: &Authority, depth: u32, skip: &[&str]) -> Ssl {
    let mut client = json!({"ca": authority.pem(), "depth": depth});
    if !skip.is_empty() {
        client["skip_mtls_uri_regex"] = json!(skip);
    }
    ssl("a.com", &json!({"client": client}))
}

#[test]
fn the_certificate_is_chosen_by_what_the_client_can_verify() {
    let ssl = ssl("a.com", &json!({"certs": [RSA.0], "keys": [RSA.1]}));
    let server = compiled(&ssl);
    let rsa = only(&client(None), &[CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
    let ecdsa = only(&client(None), &[CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]);
    let material = material(&ssl);
    for (client, index, cipher) in
        [(rsa, 1, "ECDHE-RSA-AES128-GCM-SHA256"), (ecdsa, 0, "ECDHE-ECDSA-AES128-GCM-SHA256")]
    {
        let ends = handshake(&client, &server.config, "a.com").unwrap();
        assert_eq!(ends.0.peer_certificates().unwrap(), material.keys[index].cert);
        let peer = peer(&ends, "a.com", &server);
        assert_eq!((peer.cipher, peer.protocol), (cipher, "TLSv1.2"));
    }
}

#[test]
fn a_key_of_another_algorithm_than_the_suites_fails_the_handshake() {
    let server = compiled(&ssl("a.com", &json!({})));
    let rsa = only(&client(None), &[CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
    assert!(handshake(&rsa, &server.config, "a.com").is_err());
}

#[test]
fn versions_are_those_of_the_resource_then_of_the_settings() {
    let newest = only(&client(None), &[CipherSuite::TLS13_AES_128_GCM_SHA256]);
    let older = only(&client(None), &[CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]);
    let is_spoken = |extra: Value, client: &Arc<ClientConfig>| {
        handshake(client, &compiled(&ssl("a.com", &extra)).config, "a.com").is_ok()
    };
    assert!(is_spoken(json!({}), &newest) && is_spoken(json!({}), &older));
    let only_12 = json!({"ssl_protocols": ["TLSv1.1", "TLSv1.2"]});
    assert!(!is_spoken(only_12.clone(), &newest) && is_spoken(only_12, &older));
    let only_13 = json!({"ssl_protocols": ["TLSv1.3"]});
    assert!(is_spoken(only_13.clone(), &newest) && !is_spoken(only_13, &older));
    let reason =
        Material::read(&ssl("a.com", &json!({"ssl_protocols": ["TLSv1.1"]})), &Keyring::default());
    assert_eq!(
        reason.unwrap_err(),
        "ssl_protocols: TLSv1.1 is not supported, add TLSv1.2 or TLSv1.3"
    );
}

#[test]
fn http2_is_offered_when_it_is_enabled() {
    let ssl = ssl("a.com", &json!({}));
    for (http2, expected) in [(true, &b"h2"[..]), (false, b"http/1.1")] {
        let compiler = ServerCompiler::new(&TlsSettings { http2, ..TlsSettings::default() });
        let server = Arc::new(compiler.compile("1".into(), 0, &material(&ssl)).unwrap());
        let mut client = client(None);
        client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let ends = handshake(&Arc::new(client), &server.config, "a.com").unwrap();
        assert_eq!(ends.1.alpn_protocol(), Some(expected));
        assert_eq!(
            value(&peer(&ends, "a.com", &server), "ssl_alpn_protocol").unwrap().as_bytes(),
            expected
        );
    }
}

#[test]
fn a_client_certificate_is_required_in_the_handshake() {
    let authority = root("ca");
    let server = compiled(&mutual(&authority, 1, &[]));
    let good = leaf("client", &authority);
    let ends = handshake(&Arc::new(client(Some(&good))), &server.config, "a.com").unwrap();
    assert_eq!(peer(&ends, "a.com", &server).verify, ClientVerify::Success);
    let absent = handshake(&any_client(), &server.config, "a.com").map(|_| ());
    assert_eq!(absent.unwrap_err(), Error::NoCertificatesPresented);
    let wrong = leaf("client", &root("ca"));
    for pair in [wrong, alone("client")] {
        let error = handshake(&Arc::new(client(Some(&pair))), &server.config, "a.com");
        assert!(matches!(error.map(|_| ()), Err(Error::InvalidCertificate(_))));
    }
}

#[test]
fn paths_to_the_authority_have_a_depth() {
    let (ca, skip) = (root("ca"), ["^/open"]);
    let first = below("i1", &ca);
    let second = below("i2", &first);
    let (cert, key) = leaf("client", &second);
    let pair = (cert + &second.pem() + &first.pem(), key);
    let client = Arc::new(client(Some(&pair)));
    for (depth, is_good) in [(0, false), (1, false), (2, true), (9, true)] {
        let strict = compiled(&mutual(&ca, depth, &[]));
        assert_eq!(handshake(&client, &strict.config, "a.com").is_ok(), is_good, "{depth}");
        let lenient = compiled(&mutual(&ca, depth, &skip));
        let ends = handshake(&client, &lenient.config, "a.com").unwrap();
        let expected = if is_good { "SUCCESS" } else { "FAILED:certificate chain too long" };
        let verify = value(&peer(&ends, "a.com", &lenient), "ssl_client_verify");
        assert_eq!(verify.as_deref(), Some(expected), "{depth}");
    }
}

#[test]
fn intermediates_beside_the_authority_count_and_alone_are_one() {
    let ca = root("ca");
    let middle = below("middle", &ca);
    let client = Arc::new(client(Some(&leaf("client", &middle))));
    let verdict = |pem: String, depth: u32| {
        let ssl = ssl("a.com", &json!({"client": {"ca": pem, "depth": depth}}));
        handshake(&client, &compiled(&ssl).config, "a.com").is_ok()
    };
    let both = format!("{}{}", middle.pem(), ca.pem());
    assert!(verdict(both.clone(), 1) && !verdict(both, 0));
    assert!(verdict(middle.pem(), 0) && !verdict(ca.pem(), 1));
}

#[test]
fn the_request_decides_where_paths_are_excepted() {
    let ca = root("ca");
    let server = compiled(&mutual(&ca, 1, &["^/open/", "(unbalanced"]));
    let mut table = Certificates::default();
    table.insert(&server);
    let admits = |identity: Option<&(String, String)>, path: &str| {
        let ends = handshake(&Arc::new(client(identity)), &server.config, "a.com").unwrap();
        peer(&ends, "a.com", &server).admit(&table, "a.com", path)
    };
    let (good, wrong) = (leaf("client", &ca), leaf("client", &root("other")));
    assert_eq!(admits(Some(&good), "/shut"), Ok(()));
    assert_eq!(admits(Some(&wrong), "/open/x"), Ok(()));
    assert_eq!(admits(None, "/open/x"), Ok(()));
    assert_eq!(admits(None, "/shut"), Err(Failure::NoClientCertificate));
    assert_eq!(admits(Some(&wrong), "/shut"), Err(Failure::BadClientCertificate));
    assert_eq!(admits(Some(&wrong), "/x/open/"), Err(Failure::BadClientCertificate));
    assert_eq!(Failure::BadClientCertificate.status(), 400);
}

#[test]
fn host_and_name_agree_where_certificates_are_required() {
    let ca = root("ca");
    let open = compiled(&ssl("open.com", &json!({})));
    let strict = compiled(&Ssl { snis: vec!["*.shut.com".into()], ..mutual(&ca, 1, &[]) });
    let mut table = Certificates::default();
    table.insert(&open);
    table.insert(&strict);
    let ends = handshake(&any_client(), &open.config, "open.com").unwrap();
    let without = peer(&ends, "open.com", &open);
    assert_eq!(without.admit(&table, "open.com", "/"), Ok(()));
    assert_eq!(without.admit(&table, "unknown.com", "/"), Ok(()));
    for host in ["a.shut.com", "a.shut.com.", "A.Shut.com"] {
        assert_eq!(without.admit(&table, host, "/"), Err(Failure::WrongServerName));
    }
    let good = Arc::new(client(Some(&leaf("client", &ca))));
    let ends = handshake(&good, &strict.config, "a.shut.com").unwrap();
    let with = peer(&ends, "a.shut.com", &strict);
    assert_eq!(with.admit(&table, "a.shut.com", "/"), Ok(()));
    assert_eq!(with.admit(&table, "b.shut.com", "/"), Err(Failure::WrongServerName));
    assert_eq!(with.admit(&table, "open.com", "/"), Ok(()));
    // The requirement came after the connection.
    let now_strict = compiled(&Ssl { snis: vec!["open.com".into()], ..mutual(&ca, 1, &[]) });
    table.remove(&open);
    table.insert(&now_strict);
    assert_eq!(without.admit(&table, "open.com", "/"), Err(Failure::NoClientCertificate));
    table.remove(&now_strict);
    assert!(table.require_any());
    table.remove(&strict);
    assert!(!table.require_any());
}

/// Whether a second handshake resumes the session of the first.
fn resumes(client: &Arc<ClientConfig>, first: &ServerTls, second: &ServerTls) -> bool {
    let ends = handshake(client, &first.config, "a.com").unwrap();
    assert_ne!(ends.1.handshake_kind(), Some(HandshakeKind::Resumed));
    let again = handshake(client, &second.config, "a.com");
    again.is_ok_and(|ends| ends.1.handshake_kind() == Some(HandshakeKind::Resumed))
}

#[test]
fn sessions_are_shared_by_certificates_without_client_and_by_no_others() {
    let ca = root("ca");
    let (open, strict) = (ssl("a.com", &json!({})), mutual(&ca, 1, &[]));
    let changed = mutual(&root("ca"), 1, &["/open"]);
    let good = leaf("client", &ca);
    for tickets in [false, true] {
        let settings = TlsSettings { session_tickets: tickets, ..TlsSettings::default() };
        let compiler = ServerCompiler::new(&settings);
        let compile = |ssl: &Ssl| compiler.compile("1".into(), 0, &material(ssl)).unwrap();
        let fresh = || Arc::new(client(Some(&good)));
        assert!(resumes(&fresh(), &compile(&open), &compile(&open)), "tickets {tickets}");
        let one = compile(&strict);
        assert!(resumes(&fresh(), &one, &one));
        assert!(!resumes(&fresh(), &one, &compile(&strict)));
        assert!(!resumes(&fresh(), &one, &compile(&changed)));
        assert!(!resumes(&fresh(), &compile(&open), &compile(&strict)));
    }
}

#[test]
fn sessions_are_not_kept_when_there_is_no_place_for_them() {
    let settings = TlsSettings { session_cache: 0, ..TlsSettings::default() };
    let compiler = ServerCompiler::new(&settings);
    let server = compiler.compile("1".into(), 0, &material(&ssl("a.com", &json!({})))).unwrap();
    assert!(!resumes(&any_client(), &server, &server));
    // Tickets need none.
    let settings = TlsSettings { session_tickets: true, ..settings };
    let compiler = ServerCompiler::new(&settings);
    let server = compiler.compile("1".into(), 0, &material(&ssl("a.com", &json!({})))).unwrap();
    assert!(resumes(&any_client(), &server, &server));
}

#[test]
fn a_resumed_session_keeps_the_clients_certificate() {
    let ca = root("ca");
    let server = compiled(&mutual(&ca, 1, &["/open"]));
    let client = Arc::new(client(Some(&leaf("client", &ca))));
    for expected in [".", "r"] {
        let ends = handshake(&client, &server.config, "a.com").unwrap();
        let peer = peer(&ends, "a.com", &server);
        assert_eq!(value(&peer, "ssl_session_reused").unwrap(), expected);
        assert_eq!(peer.verify, ClientVerify::Success);
        assert!(peer.certificate.is_some());
    }
}

#[test]
fn variables_are_those_of_nginx() {
    let ca = root("The, CA");
    let server = compiled(&mutual(&ca, 1, &[]));
    let pair = leaf("client", &ca);
    let ends = handshake(&Arc::new(client(Some(&pair))), &server.config, "a.com").unwrap();
    let known = peer(&ends, "a.com", &server);
    let pem = pair.0.replace("\r\n", "\n");
    for (name, expected) in [
        ("ssl_protocol", "TLSv1.3"),
        ("ssl_cipher", "TLS_AES_256_GCM_SHA384"),
        ("ssl_server_name", "a.com"),
        ("ssl_session_reused", "."),
        ("ssl_client_verify", "SUCCESS"),
        ("ssl_client_s_dn", "CN=client"),
        ("ssl_client_i_dn", "CN=The\\, CA"),
        ("ssl_client_serial", "0AFF"),
        ("ssl_client_raw_cert", &pem),
        ("ssl_client_cert", &pem.trim_end().replace('\n', "\n\t")),
    ] {
        assert_eq!(value(&known, name).as_deref(), Some(expected), "{name}");
    }
    let fingerprint = value(&known, "ssl_client_fingerprint").unwrap();
    assert!(fingerprint.len() == 40 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()));
    let escaped = value(&known, "ssl_client_escaped_cert").unwrap();
    assert!(escaped.starts_with("-----BEGIN%20CERTIFICATE-----%0A"), "{escaped}");
    let ends = handshake(&any_client(), &compiled(&ssl("a.com", &json!({}))).config, "a.com");
    let unknown = peer(&ends.unwrap(), "a.com", &server);
    assert_eq!(value(&unknown, "ssl_client_verify").as_deref(), Some("NONE"));
    assert_eq!(value(&unknown, "ssl_client_s_dn"), None);
}

#[test]
fn every_suite_has_a_name_in_openssl() {
    for suite in &provider().cipher_suites {
        let name = suites::openssl_name(suite.suite());
        assert!(!name.is_empty(), "{suite:?}");
        let listed = select_ciphers(name);
        let is_newest = suite.version().version == ProtocolVersion::TLSv1_3;
        let expected = if is_newest { vec![] } else { vec![suite.suite()] };
        assert_eq!(listed, Ciphers { suites: expected, unknown: vec![] }, "{name}");
    }
    let count = TlsSettings::default().ciphers.len();
    assert_eq!(count, provider().cipher_suites.iter().filter(|s| s.tls13().is_none()).count());
}

#[test]
fn ciphers_are_listed_as_openssl_does() {
    let list = "ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:ECDHE+AES128:AES256-SHA:\
                HIGH:!aRSA:!aNULL:-CHACHA20:@STRENGTH";
    let found = select_ciphers(list);
    let names: Vec<_> = found.suites.iter().map(|suite| suites::openssl_name(*suite)).collect();
    assert_eq!(names, ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]);
    assert_eq!(found.unknown, ["DHE-RSA-AES128-GCM-SHA256", "AES256-SHA"]);
}

#[test]
fn what_cannot_be_used_is_named() {
    let keyring = Keyring::default();
    let good = ssl("a.com", &json!({}));
    let other = ssl("a.com", &json!({}));
    let p521 = (
        include_str!("../rules/testdata/p521.crt").to_owned(),
        include_str!("../rules/testdata/p521.key").to_owned(),
    );
    let with_ca = |ca: &str| {
        let client = json!({"ca": format!("{ca}{}", " ".repeat(128))});
        ssl("a.com", &json!({"client": client}))
    };
    let secret = "$env://CERT";
    let cases = [
        (Ssl { cert: secret.into(), ..good.clone() }, "cert: $env://CERT refers to a secret"),
        (Ssl { key: other.key.clone(), ..good.clone() }, "key: it does not belong"),
        (
            Ssl { certs: vec![other.cert], keys: vec![good.key.clone()], ..good.clone() },
            "keys[0]: ",
        ),
        (Ssl { key: "c2VjcmV0".into(), ..good.clone() }, "key: not a private key in PEM"),
        (Ssl { cert: p521.0, key: p521.1, ..good }, "key: a private key of an unsupported"),
        (with_ca(""), "client.ca: there is no certificate"),
        (
            with_ca("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "client.ca: not",
        ),
    ];
    for (ssl, start) in cases {
        let reason = Material::read(&ssl, &keyring).unwrap_err();
        assert!(reason.starts_with(start), "{reason}");
    }
}

#[test]
fn keys_at_rest_are_decrypted() {
    let keyring = Keyring::new(vec!["qeddd145sfvddff3".into()]);
    let mut ssl = ssl("a.com", &json!({}));
    ssl.key = keyring.encrypt_pem(&ssl.key);
    assert!(Material::read(&ssl, &keyring).is_ok());
    let other = Keyring::new(vec!["0123456789abcdef".into()]);
    let reason = Material::read(&ssl, &other).unwrap_err();
    assert!(reason.contains("apisix.data_encryption.keyring"), "{reason}");
}

#[test]
fn nodes_are_verified_or_not() {
    let ca = root("ca");
    let (cert, key) = leaf("a.com", &ca);
    let server = compiled(&ssl("a.com", &json!({"cert": cert, "key": key})));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let any = UpstreamTls::new(None, None).unwrap();
    let verifying = UpstreamTls::new(None, Some(Arc::new(roots))).unwrap();
    assert_ne!(any, verifying);
    for (tls, name, is_good) in
        [(&any, "b.com", true), (&verifying, "a.com", true), (&verifying, "b.com", false)]
    {
        assert_eq!(handshake(&tls.config, &server.config, name).is_ok(), is_good, "{name}");
    }
    let ends = handshake(&any.h2, &server.config, "a.com").unwrap();
    assert_eq!(ends.1.alpn_protocol(), Some(&b"h2"[..]));
    let strange = compiled(&ssl("x.com", &json!({})));
    let error = handshake(&verifying.config, &strange.config, "x.com").map(|_| ());
    assert!(matches!(error, Err(Error::InvalidCertificate(_))), "{error:?}");
}
