//! Certificates and TLS towards nodes in snapshots.

use osmia_core::snapshot::UpstreamProtocol;
use osmia_core::tls::ServerTls;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use super::*;

/// Certificate and key for a name, in PEM.
fn pair(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn ssl(sni: &str) -> Value {
    let (cert, key) = pair(sni);
    json!({"cert": cert, "key": key, "snis": [sni]})
}

fn client_ssl() -> Value {
    let (cert, key) = pair("client");
    json!({"type": "client", "cert": cert, "key": key})
}

fn certificate(snapshot: &Snapshot, sni: &str) -> Option<Arc<ServerTls>> {
    snapshot.certificates.find(sni).cloned()
}

#[test]
fn certificates_come_and_go_by_themselves() {
    let mut fixture = Fixture::default();
    fixture.put("ssls/1", ssl("A.com."));
    let first = fixture.put("ssls/2", ssl("*.b.com"));
    let (a, b) = (certificate(&first, "a.com").unwrap(), certificate(&first, "x.b.com").unwrap());
    assert_eq!((&*a.id, &*b.id), ("1", "2"));
    // Another one changes, and routes do.
    let second = fixture.put("ssls/2", ssl("c.com"));
    let third = fixture.put("routes/1", json!({"uri": "/a", "upstream": node("10.0.0.1:80")}));
    for snapshot in [&second, &third] {
        assert!(Arc::ptr_eq(&a, &certificate(snapshot, "a.com").unwrap()));
        assert!(certificate(snapshot, "x.b.com").is_none());
        assert_eq!(&*certificate(snapshot, "c.com").unwrap().id, "2");
    }
    assert!(certificate(&first, "x.b.com").is_some(), "a snapshot stays as it is");
    assert!(Arc::ptr_eq(&third, &fixture.load()), "the same contents");
    let mut disabled = ssl("a.com");
    disabled["status"] = json!(0);
    assert!(certificate(&fixture.put("ssls/1", disabled), "a.com").is_none());
    fixture.put("ssls/3", client_ssl());
    assert!(fixture.delete("ssls/2").certificates.is_empty());
    assert_eq!(fixture.quarantined(), []);
    drop((first, second, third, b));
    assert_eq!(Arc::strong_count(&a), 1, "nobody holds what is gone");
}

#[test]
fn of_several_certificates_for_a_name_the_oldest_counts() {
    let mut fixture = Fixture::default();
    fixture.put("ssls/z", ssl("a.com"));
    let both = fixture.put("ssls/a", ssl("a.com"));
    assert_eq!(&*certificate(&both, "a.com").unwrap().id, "z");
    assert_eq!(&*certificate(&fixture.delete("ssls/z"), "a.com").unwrap().id, "a");
}

#[test]
fn a_bad_certificate_takes_no_other_along() {
    let mut fixture = Fixture::default();
    fixture.put("ssls/1", ssl("a.com"));
    let good = certificate(&fixture.put("ssls/2", ssl("b.com")), "b.com").unwrap();
    let mut bad = ssl("b.com");
    bad["key"] = json!("$env://KEY");
    let after = fixture.put("ssls/2", bad.clone());
    assert_eq!(certificate(&after, "b.com").unwrap().snis, good.snis);
    assert!(certificate(&after, "a.com").is_some());
    let [(path, serving, reason)] = &fixture.quarantined()[..] else { panic!("one") };
    assert_eq!((&**path, *serving), ("ssls/2", Serving::LastValid));
    assert!(reason.starts_with("key: $env://KEY refers to a secret"), "{reason}");
    bad["snis"] = json!(["c.com"]);
    let never = fixture.put("ssls/3", bad);
    assert!(certificate(&never, "c.com").is_none());
    assert_eq!(fixture.quarantined()[1].1, Serving::Nothing);
    fixture.put("ssls/2", ssl("b.com"));
    fixture.delete("ssls/3");
    assert_eq!(fixture.quarantined(), []);
}

#[test]
fn a_changed_certificate_serves_the_new_one() {
    let mut fixture = Fixture::default();
    let before = certificate(&fixture.put("ssls/1", ssl("a.com")), "a.com").unwrap();
    let mut strict = ssl("a.com");
    strict["client"] = json!({"ca": pair("ca").0});
    let after = certificate(&fixture.put("ssls/1", strict), "a.com").unwrap();
    assert!(before.client.is_none() && after.client.is_some());
    assert!(!Arc::ptr_eq(&before.config.session_storage, &after.config.session_storage));
}

fn https(address: &str, tls: Value) -> Value {
    json!({"scheme": "https", "nodes": {address: 1}, "tls": tls})
}

fn routed(upstream: Value) -> Value {
    json!({"uri": "/a", "upstream": upstream})
}

#[test]
fn schemes_say_what_is_spoken_and_where() {
    let mut fixture = Fixture::default();
    for (scheme, protocol, is_tls, port) in [
        ("http", UpstreamProtocol::Http1, false, 80),
        ("https", UpstreamProtocol::Http1, true, 443),
        ("grpc", UpstreamProtocol::Grpc, false, 80),
        ("grpcs", UpstreamProtocol::Grpc, true, 443),
    ] {
        let nodes = json!([{"host": "10.0.0.1", "weight": 1}]);
        let route = routed(json!({"scheme": scheme, "nodes": nodes}));
        let upstream = upstream(&fixture.put("routes/1", route), "/a");
        assert_eq!((upstream.protocol, upstream.tls.is_some()), (protocol, is_tls), "{scheme}");
        assert_eq!((upstream.nodes[0].addr.port(), upstream.scheme()), (port, scheme));
        assert_eq!(&*upstream.nodes[0].authority, "10.0.0.1");
    }
}

#[test]
fn equal_tls_is_shared_and_pools_of_different_tls_never_mix() {
    let mut fixture = Fixture::default();
    let (one, two) = (pair("one"), pair("two"));
    let identity = |(cert, key): &(String, String)| json!({"client_cert": cert, "client_key": key});
    let address = "10.0.0.1:443";
    let upstreams = [
        ("a", https(address, json!({}))),
        ("b", https(address, json!({"verify": false}))),
        ("c", https(address, json!({"verify": true}))),
        ("d", https(address, identity(&one))),
        ("e", https(address, identity(&two))),
        ("f", https(address, identity(&one))),
        ("g", node(address)),
        ("h", json!({"scheme": "grpcs", "nodes": {address: 1}})),
    ];
    for (id, upstream) in upstreams {
        fixture.commit(&[
            (&format!("upstreams/{id}"), Some(upstream)),
            (&format!("routes/{id}"), Some(json!({"uri": format!("/{id}"), "upstream_id": id}))),
        ]);
    }
    let snapshot = fixture.load();
    let get = |path: &str| upstream(&snapshot, path);
    let tls = |path: &str| get(path).tls.clone().unwrap();
    let pool = |path: &str| get(path).nodes[0].pool;
    assert!(Arc::ptr_eq(&tls("/a"), &tls("/b")) && Arc::ptr_eq(&tls("/d"), &tls("/f")));
    assert!(Arc::ptr_eq(&tls("/a"), &tls("/h")));
    assert_eq!((pool("/a"), pool("/d")), (pool("/b"), pool("/f")));
    let mut pools: Vec<_> = ["/a", "/c", "/d", "/e", "/g", "/h"].map(pool).to_vec();
    pools.sort_by_key(|slot| slot.index);
    pools.dedup();
    assert_eq!(pools.len(), 6);
}

#[test]
fn a_client_certificate_by_id_is_followed() {
    let mut fixture = Fixture::default();
    let by_id = routed(https("10.0.0.1:443", json!({"client_cert_id": "c"})));
    let missing = fixture.put("routes/1", by_id);
    assert_eq!(failure(&missing, "/a"), Failure::NoCertificate);
    assert_eq!(Failure::NoCertificate.status(), 502);
    assert!(fixture.quarantined()[0].2.contains("there is no usable ssl [c]"));
    let first = upstream(&fixture.put("ssls/c", client_ssl()), "/a");
    assert_eq!(fixture.quarantined(), []);
    let second = upstream(&fixture.put("ssls/c", client_ssl()), "/a");
    assert_ne!(first.tls, second.tls);
    assert_ne!(first.nodes[0].pool, second.nodes[0].pool);
    let wrong_type = fixture.put("ssls/c", ssl("a.com"));
    assert_eq!(failure(&wrong_type, "/a"), Failure::NoCertificate);
    let again = upstream(&fixture.put("ssls/c", client_ssl()), "/a");
    assert!(again.tls.is_some());
    assert_eq!(failure(&fixture.delete("ssls/c"), "/a"), Failure::NoCertificate);
}

#[test]
fn a_bad_client_certificate_keeps_the_last_good_one() {
    let mut fixture = Fixture::default();
    let ((cert, key), (_, other)) = (pair("one"), pair("two"));
    let with = |key: &str| {
        routed(https("10.0.0.1:443", json!({"client_cert": cert.clone(), "client_key": key})))
    };
    let good = upstream(&fixture.put("routes/1", with(&key)), "/a");
    let after = upstream(&fixture.put("routes/1", with(&other)), "/a");
    assert_eq!(good.tls, after.tls);
    let reason = &fixture.quarantined()[0].2;
    assert!(reason.starts_with("upstream.tls.client_key: it does not belong"), "{reason}");
}

#[test]
fn staples_are_wanted_and_taken() {
    let mut fixture = Fixture::default();
    let wanted = |fixture: &mut Fixture| {
        let changes = fixture.engine.take_staple_changes();
        changes.iter().map(|(id, wanted)| (id.to_string(), wanted.len())).collect::<Vec<_>>()
    };
    let mut with = ssl("a.com");
    with["ocsp_stapling"] = json!({"enabled": true, "cache_ttl": 60});
    // The chain lacks the issuer: nobody can be asked.
    let first = certificate(&fixture.put("ssls/1", with.clone()), "a.com").unwrap();
    assert_eq!(wanted(&mut fixture), [("1".to_owned(), 0)]);
    let leaf = |value: &Value| {
        let pem = value["cert"].as_str().unwrap().as_bytes();
        CertificateDer::from_pem_slice(pem).unwrap()
    };
    let staple = |leaf, response: Option<&[u8]>| Staple {
        id: "1".into(),
        leaf,
        response: response.map(<[u8]>::to_vec),
    };
    fixture.engine.stapled(&staple(leaf(&with), Some(b"one")));
    let second = certificate(&fixture.snapshot(), "a.com").unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&first.config.session_storage, &second.config.session_storage));
    // The same again, one for another certificate, and one for nothing there is.
    let before = fixture.snapshot();
    fixture.engine.stapled(&staple(leaf(&with), Some(b"one")));
    fixture.engine.stapled(&staple(leaf(&ssl("a.com")), Some(b"two")));
    fixture.engine.stapled(&Staple { id: "9".into(), ..staple(leaf(&with), None) });
    assert!(Arc::ptr_eq(&before, &fixture.snapshot()));
    with.as_object_mut().unwrap().remove("ocsp_stapling");
    fixture.put("ssls/1", with.clone());
    assert_eq!(wanted(&mut fixture), [("1".to_owned(), 0)]);
    fixture.engine.stapled(&staple(leaf(&with), None));
    fixture.delete("ssls/1");
    assert_eq!(wanted(&mut fixture), []);
}
