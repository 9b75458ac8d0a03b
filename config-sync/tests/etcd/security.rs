//! Users and passwords, TLS and certificates of clients.

use osmia_config_sync::store::etcd::EtcdStore;
use osmia_config_sync::store::{Store as _, StoreError};
use osmia_core::settings::EtcdSettings;
use osmia_tests::etcd::{Certificates, Etcd};

use super::mirror::Mirror;
use super::{blocking, commit, put, settings, store};

#[tokio::test(flavor = "multi_thread")]
async fn users_log_in_and_again_when_etcd_forgets_them() {
    // Tokens of the simple kind live in memory, so a restart invalidates them.
    let mut etcd = blocking(Etcd::start).await;
    etcd.ctl(["user", "add", "root:secret"]);
    etcd.ctl(["user", "grant-role", "root", "root"]);
    etcd.ctl(["auth", "enable"]);
    etcd.log_in("root", "secret");
    let with = |password: &str| EtcdSettings {
        credentials: Some(("root".to_owned(), password.to_owned())),
        ..settings(&[etcd.url()])
    };
    let wrong = EtcdStore::new(&with("wrong")).unwrap();
    let error = wrong.get("routes/1").await.unwrap_err().to_string();
    assert!(error.contains("authentication failed"), "{error}");
    let nobody = store(&[etcd.url()]);
    let error = nobody.get("routes/1").await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Unavailable(reason) if reason.contains("user name")),
        "{error}"
    );
    let mut mirror = Mirror::unloaded(&nobody);
    mirror.until("told why", |mirror| !mirror.lost.is_empty()).await;
    assert!(mirror.lost[0].contains("user name"), "{:?}", mirror.lost);

    let store = EtcdStore::new(&with("secret")).unwrap();
    let mut mirror = Mirror::of(&store).await;
    commit(&store, vec![put("routes/1", "{}")]).await;
    let etcd = blocking(move || {
        etcd.kill();
        etcd.restart();
        etcd
    })
    .await;
    let revision = commit(&store, vec![put("routes/2", "{}")]).await;
    mirror.until("the second route", |mirror| mirror.revision == revision).await;
    assert_eq!(mirror.loads, 1);
    drop(etcd);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_etcd_does_not_ask_for_is_left_out() {
    let etcd = blocking(Etcd::start).await;
    let credentials = Some(("root".to_owned(), "secret".to_owned()));
    let store = EtcdStore::new(&EtcdSettings { credentials, ..settings(&[etcd.url()]) }).unwrap();
    commit(&store, vec![put("routes/1", "{}")]).await;
    assert_eq!(Mirror::of(&store).await.contents.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_verified_unless_told_otherwise() {
    let (etcd, certificates) = blocking(|| {
        let certificates = Certificates::make();
        (Etcd::start_tls(&certificates, false), certificates)
    })
    .await;
    let base = || settings(&[etcd.url()]);
    let trusted = Some(certificates.file("ca.crt"));
    let good = EtcdStore::new(&EtcdSettings { trusted: trusted.clone(), ..base() }).unwrap();
    commit(&good, vec![put("routes/1", "{}")]).await;
    assert_eq!(Mirror::of(&good).await.contents.len(), 1);

    let others = blocking(Certificates::make).await;
    let foreign = Some(others.file("ca.crt"));
    let unknown = EtcdStore::new(&EtcdSettings { trusted: foreign, ..base() }).unwrap();
    let error = unknown.get("routes/1").await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    let blind = EtcdStore::new(&EtcdSettings { verify: false, ..base() }).unwrap();
    assert!(blind.get("routes/1").await.unwrap().is_some());

    let named = |name: &str| EtcdSettings {
        trusted: trusted.clone(),
        server_name: Some(name.to_owned()),
        ..base()
    };
    let right = EtcdStore::new(&named("etcd.test")).unwrap();
    assert!(right.get("routes/1").await.unwrap().is_some());
    let error = EtcdStore::new(&named("other.test")).unwrap().get("routes/1").await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_their_certificate() {
    let (etcd, certificates) = blocking(|| {
        let certificates = Certificates::make();
        (Etcd::start_tls(&certificates, true), certificates)
    })
    .await;
    let base =
        || EtcdSettings { trusted: Some(certificates.file("ca.crt")), ..settings(&[etcd.url()]) };
    let anonymous = EtcdStore::new(&base()).unwrap();
    let error = anonymous.get("routes/1").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let shown = (certificates.file("client.crt"), certificates.file("client.key"));
    let client_certificate = Some(shown);
    let store = EtcdStore::new(&EtcdSettings { client_certificate, ..base() }).unwrap();
    commit(&store, vec![put("routes/1", "{}")]).await;
    assert_eq!(Mirror::of(&store).await.contents.len(), 1);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.pem");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let base = || settings(&["https://127.0.0.1:1".to_owned()]);
    let refused = |settings: EtcdSettings| EtcdStore::new(&settings).unwrap_err().to_string();
    for file in [&missing, &empty] {
        let error = refused(EtcdSettings { trusted: Some(file.clone()), ..base() });
        assert!(error.starts_with("apisix.ssl.ssl_trusted_certificate: "), "{error}");
        let pair = (file.clone(), file.clone());
        let error = refused(EtcdSettings { client_certificate: Some(pair), ..base() });
        assert!(error.starts_with("deployment.etcd.tls.cert: "), "{error}");
    }
}
