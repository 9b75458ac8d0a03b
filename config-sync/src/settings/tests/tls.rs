use osmia_core::settings::{TlsSettings, TlsVersion};

use tokio_rustls::rustls::CipherSuite;

use super::*;

fn tls(text: &str) -> (TlsSettings, Vec<String>) {
    let loaded = read(text).unwrap();
    (loaded.settings.tls, loaded.warnings)
}

#[test]
fn every_key_is_taken() {
    assert_eq!(tls(""), (TlsSettings::default(), vec![]));
    let (found, warnings) = tls(concat!(
        "apisix:\n  enable_http2: false\n  ssl:\n    fallback_sni: My.Default.\n",
        "    ssl_protocols: TLSv1.3\n    ssl_session_tickets: true\n",
        "    ssl_ciphers: ECDHE-RSA-AES128-GCM-SHA256\n",
        "osmia:\n  ssl_session_cache: 7\n"
    ));
    let expected = TlsSettings {
        fallback_sni: Some("my.default".into()),
        protocols: vec![TlsVersion::V13],
        ciphers: vec![CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256],
        session_tickets: true,
        session_cache: 7,
        http2: false,
    };
    assert_eq!((found, warnings), (expected, vec![]));
}

#[test]
fn the_defaults_of_apisix_are_taken() {
    let (found, warnings) = tls("apisix: {ssl: {ssl_protocols: [TLSv1.3, TLSv1.2, TLSv1.2]}}");
    assert_eq!(found.protocols, [TlsVersion::V13, TlsVersion::V12]);
    assert!(warnings.is_empty());
    let list = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
                DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384";
    let (found, warnings) = tls(&format!("apisix: {{ssl: {{ssl_ciphers: '{list}'}}}}"));
    assert_eq!(found.ciphers.len(), 2);
    assert_eq!(
        warnings,
        ["dir/config.yaml: apisix.ssl.ssl_ciphers: not supported, left out: \
             DHE-RSA-AES128-GCM-SHA256, DHE-RSA-AES256-GCM-SHA384"]
    );
}

#[test]
fn old_versions_are_left_out_or_refused() {
    let (found, warnings) = tls("apisix: {ssl: {ssl_protocols: TLSv1 TLSv1.1 TLSv1.2}}");
    assert_eq!(found.protocols, [TlsVersion::V12]);
    assert_eq!(
        warnings,
        ["dir/config.yaml: apisix.ssl.ssl_protocols: TLSv1, TLSv1.1 not spoken, versions are \
             1.2 and 1.3"]
    );
    for (ssl, expected) in [
        (
            "ssl_protocols: TLSv1.1",
            "apisix.ssl.ssl_protocols: TLSv1.1 is not spoken by this gateway: add TLSv1.2 or TLSv1.3",
        ),
        (
            "ssl_protocols: TLSv9",
            "apisix.ssl.ssl_protocols: expected versions such as TLSv1.2 TLSv1.3, found string \"TLSv9\"",
        ),
        (
            "ssl_ciphers: AES128-SHA",
            "apisix.ssl.ssl_ciphers: has no cipher suite of TLSv1.2 that is supported: add \
             ECDHE-ECDSA-AES128-GCM-SHA256 and ECDHE-RSA-AES128-GCM-SHA256, or leave it out",
        ),
    ] {
        let text = error(&format!("apisix: {{ssl: {{{ssl}}}}}"));
        assert_eq!(text, format!("dir/config.yaml: {expected}"));
    }
    // Where only TLS 1.3 is spoken the list says nothing.
    let ssl = "ssl_protocols: TLSv1.3, ssl_ciphers: AES128-SHA";
    assert!(tls(&format!("apisix: {{ssl: {{{ssl}}}}}")).0.ciphers.is_empty());
}
