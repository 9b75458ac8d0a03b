//! What one resource only may say.

use std::sync::Arc;

use osmia_core::rules::{Rules, UnknownPlugins};
use serde_json::{Value, json};

use super::super::testing::{Bench, settings};

/// A gateway that lets every plugin pass: what plugins are is not asked here.
fn bench() -> Bench {
    Bench::with(&settings(), Rules { unknown: UnknownPlugins::Skip, ..Rules::default() })
}

fn global(plugin: &str) -> Value {
    json!({"plugins": {plugin: {}}})
}

fn key(key: &str) -> Value {
    json!({"plugins": {"key-auth": {"key": key}}})
}

fn consumer(name: &str, plugin: &str, field: &str, value: &str) -> Value {
    json!({"username": name, "plugins": {plugin: {field: value}}})
}

#[tokio::test]
async fn a_plugin_is_in_one_global_rule_only() {
    let bench = bench();
    assert_eq!(bench.put("/global_rules/1", &global("cors")).await.status, 201);
    assert_eq!(bench.put("/global_rules/1", &global("cors")).await.status, 200);
    assert_eq!(bench.put("/global_rules/2", &global("gzip")).await.status, 201);
    let text = "plugin 'cors' already exists in global rule with id '1'".to_owned();
    let refused = bench.put("/global_rules/3", &global("cors")).await;
    assert_eq!(refused.error(), (400, text.clone()));
    let patch = bench.send("PATCH", "/global_rules/2", &global("cors").to_string()).await;
    assert_eq!(patch.error(), (400, text));
    bench.send("DELETE", "/global_rules/1", "").await;
    assert_eq!(bench.put("/global_rules/3", &global("cors")).await.status, 201);
}

#[tokio::test]
async fn of_two_at_the_same_time_one_is_refused() {
    let bench = Arc::new(bench());
    let (waits, go) = bench.store.hold();
    let first = Arc::clone(&bench);
    let first =
        tokio::spawn(async move { first.put("/global_rules/1", &global("cors")).await.status });
    waits.await.unwrap();
    let second = bench.put("/global_rules/2", &global("cors")).await;
    assert_eq!(second.status, 400);
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap(), 201);
    assert_eq!(bench.store.paths(), ["global_rules/1"]);
}

#[tokio::test]
async fn a_claim_ends_with_its_writer() {
    let bench = bench();
    bench.store.trick(super::super::testing::Trick::Fail(crate::store::StoreError::Unavailable(
        "gone".to_owned(),
    )));
    assert_eq!(bench.put("/global_rules/1", &global("cors")).await.status, 503);
    assert_eq!(bench.put("/global_rules/2", &global("cors")).await.status, 201);
}

#[tokio::test]
async fn consumers_are_told_apart_by_their_keys() {
    for (plugin, field) in [
        ("key-auth", "key"),
        ("basic-auth", "username"),
        ("jwt-auth", "key"),
        ("hmac-auth", "key_id"),
        ("ldap-auth", "user_dn"),
        ("ldap-auth-advanced", "user_dn"),
    ] {
        let bench = bench();
        let put = async |name: &str, value: &str| {
            bench.put("/consumers", &consumer(name, plugin, field, value)).await
        };
        assert_eq!(put("case_a", "k").await.status, 201);
        assert_eq!(put("case_a", "k").await.status, 200);
        let text = format!("duplicate {field} of plugin {plugin} found with consumer: case_a");
        assert_eq!(put("case_b", "k").await.error(), (400, text));
        assert_eq!(put("case_b", "other").await.status, 201);
        // Not known before it is looked up, so that it cannot be compared.
        assert_eq!(put("case_c", "$env://KEY").await.status, 201);
        assert_eq!(put("case_d", "$env://KEY").await.status, 201);
        // The key is free when its consumer has another one, or is gone.
        assert_eq!(put("case_a", "new").await.status, 200);
        assert_eq!(put("case_b", "k").await.status, 200);
        bench.send("DELETE", "/consumers/case_b", "").await;
        assert_eq!(put("case_a", "k").await.status, 200);
    }
}

#[tokio::test]
async fn credentials_count_as_their_consumers_keys() {
    let bench = bench();
    for name in ["alex", "bob"] {
        bench.put("/consumers", &json!({"username": name})).await;
    }
    let own = "/consumers/alex/credentials/cred-alex-a";
    assert_eq!(bench.put(own, &key("a")).await.status, 201);
    assert_eq!(bench.put(own, &key("a")).await.status, 200);
    let text = "duplicate key of plugin key-auth found with credential: cred-alex-a of consumer: \
                alex";
    for path in ["/consumers/alex/credentials/cred-alex-b", "/consumers/bob/credentials/c"] {
        assert_eq!(bench.put(path, &key("a")).await.error(), (400, text.to_owned()));
    }
    let bob = consumer("bob", "key-auth", "key", "a");
    assert_eq!(bench.put("/consumers/bob", &bob).await.error(), (400, text.to_owned()));
    // A consumer may say what its own credential says.
    let alex = consumer("alex", "key-auth", "key", "a");
    assert_eq!(bench.put("/consumers/alex", &alex).await.status, 200);
    let bob = consumer("bob", "key-auth", "key", "b");
    assert_eq!(bench.put("/consumers/bob", &bob).await.status, 200);
    let taken = bench.put(own, &key("b")).await;
    let text = "duplicate key of plugin key-auth found with consumer: bob";
    assert_eq!(taken.error(), (400, text.to_owned()));
}
