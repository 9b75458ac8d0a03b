//! Writers that meet.

use std::sync::Arc;

use serde_json::json;

use super::super::testing::{Bench, Trick};
use super::{route, upstream};
use crate::store::{Guard, StoreError};

#[tokio::test]
async fn a_plain_put_is_one_round_trip() {
    let bench = Bench::new();
    bench.put("/upstreams/1", &upstream()).await;
    bench.put("/routes/1", &json!({"uri": "/", "upstream_id": "1"})).await;
    bench.put("/routes/1", &json!({"uri": "/", "upstream_id": 1})).await;
    let (commits, gets) = bench.store.traffic();
    assert_eq!((commits.len(), gets), (3, 0));
    let author = &commits[2].author;
    assert_eq!((author.name.as_str(), author.address.as_str()), ("boss", "127.0.0.1"));
    let upstream = Guard::Exists("upstreams/1".to_owned());
    assert_eq!(commits[1].guards, [upstream, Guard::Absent("routes/1".to_owned())]);
    assert_eq!(commits[2].guards, [Guard::Unmodified("routes/1".to_owned(), 2)]);
}

#[tokio::test]
async fn only_what_was_not_referred_to_before_is_guarded() {
    let bench = Bench::new();
    for id in ["1", "2"] {
        bench.put(&format!("/upstreams/{id}"), &upstream()).await;
        bench.put(&format!("/services/{id}"), &json!({ "upstream_id": id })).await;
    }
    let refers =
        |upstream, service| json!({"uri": "/", "upstream_id": upstream, "service_id": service});
    bench.put("/routes/1", &refers("1", "1")).await;
    bench.put("/routes/1", &refers("2", "1")).await;
    bench.put("/routes/1", &json!({"uri": "/", "service_id": 2})).await;
    let patch = json!({"service_id": "1", "desc": "x"}).to_string();
    assert_eq!(bench.send("PATCH", "/routes/1", &patch).await.status, 200);
    assert_eq!(bench.send("PATCH", "/routes/1", r#"{"desc":"y"}"#).await.status, 200);
    let (commits, _) = bench.store.traffic();
    let exists = |path: &str| Guard::Exists(path.to_owned());
    let route = |revision| Guard::Unmodified("routes/1".to_owned(), revision);
    let guards: Vec<_> = commits.into_iter().skip(4).map(|commit| commit.guards).collect();
    assert_eq!(
        guards,
        [
            vec![exists("upstreams/1"), exists("services/1"), Guard::Absent("routes/1".to_owned())],
            vec![exists("upstreams/2"), route(5)],
            vec![exists("services/2"), route(6)],
            vec![exists("services/1"), route(7)],
            vec![route(8)],
        ]
    );
    // What is known to be gone is missed all the same.
    bench.store.trick(Trick::Overtake("services/1", None));
    bench.put("/routes/2", &json!({"uri": "/", "service_id": 2})).await;
    let put = bench.put("/routes/1", &json!({"uri": "/", "service_id": 1})).await;
    let text = "failed to fetch service info by service id [1], response code: 404";
    assert_eq!(put.error(), (400, text.to_owned()));
}

#[tokio::test]
async fn a_put_that_is_overtaken_looks_again() {
    let bench = Bench::new();
    bench.store.trick(Trick::Overtake("routes/1", Some(json!({"create_time": 5}))));
    let put = bench.put("/routes/1", &route("/a")).await;
    assert_eq!((put.status, &put.json()["value"]["create_time"]), (200, &json!(5)));
    bench.store.trick(Trick::Overtake("routes/1", None));
    let put = bench.put("/routes/1", &route("/a")).await;
    assert_eq!(put.status, 201);
    assert_ne!(put.json()["value"]["create_time"], 5);
}

#[tokio::test]
async fn a_put_that_is_overtaken_for_ever_gives_up() {
    let bench = Bench::new();
    for _ in 0..100 {
        bench.store.trick(Trick::Overtake("routes/1", Some(json!({}))));
    }
    let put = bench.put("/routes/1", &route("/a")).await;
    assert_eq!(put.error(), (503, "value changed before overwritten".to_owned()));
}

#[tokio::test]
async fn a_patch_that_is_overtaken_is_refused() {
    let bench = Bench::new();
    bench.put("/routes/1", &route("/a")).await;
    bench.store.trick(Trick::Overtake("routes/1", Some(route("/b"))));
    let patch = bench.send("PATCH", "/routes/1", r#"{"desc":"x"}"#).await;
    assert_eq!(patch.error(), (503, "value changed before overwritten".to_owned()));
    assert_eq!(bench.store.value("routes/1"), route("/b"));
}

#[tokio::test]
async fn a_reference_that_vanishes_meanwhile_is_missed() {
    let bench = Bench::new();
    bench.put("/upstreams/1", &upstream()).await;
    bench.store.trick(Trick::Overtake("upstreams/1", None));
    let put = bench.put("/routes/1", &json!({"uri": "/", "upstream_id": "1"})).await;
    let text = "failed to fetch upstream info by upstream id [1], response code: 404";
    assert_eq!(put.error(), (400, text.to_owned()));
    assert_eq!(bench.store.paths(), [""; 0]);
}

#[tokio::test]
async fn a_reference_of_before_that_vanishes_meanwhile_is_no_worse_than_before() {
    let bench = Bench::new();
    bench.put("/upstreams/1", &upstream()).await;
    let route = json!({"uri": "/", "upstream_id": "1"});
    bench.put("/routes/1", &route).await;
    // By force, or past the Admin API: the route refers to nothing, with or without this write.
    bench.store.trick(Trick::Overtake("upstreams/1", None));
    assert_eq!(bench.put("/routes/1", &route).await.status, 200);
    assert_eq!(bench.store.paths(), ["routes/1"]);
    assert_eq!(bench.put("/routes/1", &route).await.status, 400, "it is known now");
}

#[tokio::test]
async fn a_write_that_fails_is_not_answered_with_success() {
    let bench = Bench::new();
    bench.store.trick(Trick::Fail(StoreError::Unavailable("timed out".to_owned())));
    let put = bench.put("/routes/1", &route("/a")).await;
    assert_eq!(put.error(), (503, "timed out".to_owned()));
}

#[tokio::test]
async fn many_writers_of_one_key_all_succeed() {
    let bench = Arc::new(Bench::new());
    let writers = (0..32).map(|n| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.put("/routes/1", &route(&format!("/{n}"))).await.status })
    });
    let mut created = 0;
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.unwrap() {
            201 => created += 1,
            status => assert_eq!(status, 200),
        }
    }
    assert_eq!(created, 1);
}

#[tokio::test]
async fn what_is_about_to_be_used_is_not_deleted() {
    let bench = Arc::new(Bench::new());
    bench.put("/upstreams/1", &upstream()).await;
    let (waits, go) = bench.store.hold();
    let spawn = |bench: &Arc<Bench>| Arc::clone(bench);
    let writer = spawn(&bench);
    let put = tokio::spawn(async move {
        writer.put("/routes/1", &json!({"uri": "/", "upstream_id": "1"})).await.status
    });
    waits.await.unwrap();
    let deleter = spawn(&bench);
    let delete = tokio::spawn(async move { deleter.send("DELETE", "/upstreams/1", "").await });
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert_eq!(put.await.unwrap(), 201);
    let text = "can not delete this upstream, route [1] is still using it now";
    assert_eq!(delete.await.unwrap().error(), (400, text.to_owned()));
    assert_eq!(bench.store.paths(), ["routes/1", "upstreams/1"]);
}

#[tokio::test]
async fn sets_and_single_resources_are_written_one_after_the_other() {
    let bench = Arc::new(Bench::new());
    bench.put("/upstreams/1", &upstream()).await;
    let (waits, go) = bench.store.hold();
    let writer = Arc::clone(&bench);
    let put = tokio::spawn(async move {
        writer.put("/routes/1", &json!({"uri": "/", "upstream_id": "1"})).await.status
    });
    waits.await.unwrap();
    let other = Arc::clone(&bench);
    let set = tokio::spawn(async move {
        other.send("POST", "/transaction", r#"{"delete":["upstreams/1"]}"#).await
    });
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert_eq!(put.await.unwrap(), 201);
    let set = set.await.unwrap();
    assert!((400..500).contains(&set.status), "{set:?}");
    assert_eq!(bench.store.paths(), ["routes/1", "upstreams/1"]);
}
