//! Reads and writes, and their limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use osmia_config_sync::store::{Change, Guard, Op, Outcome, Store as _, StoreError, Transaction};
use osmia_tests::etcd::{Etcd, nobody, silent};

use super::mirror::Mirror;
use super::{author, blocking, commit, delete, put, settings, store, transaction};
use osmia_config_sync::store::etcd::EtcdStore;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_and_watched_with_its_author() {
    let etcd = blocking(Etcd::start).await;
    let store = store(&[etcd.url()]);
    let mut mirror = Mirror::of(&store).await;
    assert_eq!(mirror.contents, BTreeMap::new());

    let first = commit(&store, vec![put("routes/1", "{\"a\":1}"), put("routes/2", "{}")]).await;
    let second = commit(&store, vec![put("routes/1", "{}"), delete("routes/2")]).await;
    let nothing = commit(&store, vec![delete("routes/9")]).await;
    assert_eq!(nothing, second);
    etcd.ctl(["put", "/apisix/routes/3", "{\"b\":2}"]);
    mirror.until("all three", |mirror| mirror.commits.len() == 3).await;

    assert_eq!(mirror.revisions(), [first, second, second + 1]);
    let authors: Vec<_> = mirror.commits.iter().map(|commit| commit.author.clone()).collect();
    let tester = Some(author("tester"));
    assert_eq!(authors, [tester.clone(), tester, None]);
    assert!(mirror.commits[1].changes.contains(&Change::Delete { path: "routes/2".to_owned() }));

    let item = store.get("routes/1").await.unwrap().unwrap();
    assert_eq!((item.created, item.modified), (first, second));
    assert_eq!(store.get("routes/2").await.unwrap(), None);
    let list = store.list("").await.unwrap();
    let paths: Vec<&str> = list.items.iter().map(|item| item.path.as_str()).collect();
    assert_eq!(paths, ["routes/1", "routes/3"]);
    assert_eq!(list.revision, second + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_hold_or_nothing_is_written() {
    let etcd = blocking(Etcd::start).await;
    let store = store(&[etcd.url()]);
    let guarded = |guard: Guard, ops: Vec<Op>| Transaction {
        guards: vec![guard],
        ops,
        author: author("tester"),
    };
    let absent = || Guard::Absent("routes/1".to_owned());
    let created = store.commit(guarded(absent(), vec![put("routes/1", "1")])).await.unwrap();
    let Outcome::Committed { revision } = created else { panic!("{created:?}") };
    let again = store.commit(guarded(absent(), vec![put("routes/1", "2")])).await.unwrap();
    assert_eq!(again, Outcome::Conflict);
    let exists = Guard::Exists("routes/2".to_owned());
    let missing = store.commit(guarded(exists, vec![put("routes/2", "2")])).await.unwrap();
    assert_eq!(missing, Outcome::Conflict);

    let unmodified = || Guard::Unmodified("routes/1".to_owned(), revision);
    let ops = vec![delete("routes/3"), put("routes/1", "3"), put("routes/4", "4")];
    let replaced = store.commit(guarded(unmodified(), ops)).await.unwrap();
    let Outcome::Committed { revision: second } = replaced else { panic!("{replaced:?}") };
    let item = store.get("routes/1").await.unwrap().unwrap();
    assert_eq!((&item.value, item.created, item.modified), (&"3".into(), revision, second));
    let late = store.commit(guarded(unmodified(), vec![delete("routes/1")])).await.unwrap();
    assert_eq!(late, Outcome::Conflict);
    assert_eq!(etcd.contents("/apisix/routes/").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_runs_out_and_the_watcher_is_told() {
    let etcd = blocking(Etcd::start).await;
    let store = store(&[etcd.url()]);
    let mut mirror = Mirror::of(&store).await;
    let brief = |path: &str| Op::Put {
        path: path.to_owned(),
        value: Bytes::from_static(b"{}"),
        ttl: Some(1),
    };
    let ops = vec![brief("routes/1"), brief("routes/2"), put("routes/3", "{}")];
    commit(&store, ops).await;
    mirror.until("written", |mirror| mirror.contents.len() == 3).await;
    mirror.until("run out", |mirror| mirror.contents.len() == 1).await;
    assert_eq!(mirror.commits.last().unwrap().author, None);
    // A lease that was granted in vain is given back.
    let guards = vec![Guard::Exists("routes/9".to_owned())];
    let ops = vec![brief("routes/9")];
    let vain = store.commit(Transaction { guards, ops, author: author("tester") }).await.unwrap();
    assert_eq!(vain, Outcome::Conflict);
    osmia_tests::eventually("no lease is left", || {
        etcd.ctl(["lease", "list"]).contains("found 0 leases")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_etcd_say_what_to_raise() {
    let etcd = blocking(Etcd::start).await;
    let store = store(&[etcd.url()]);
    let many = (0..128).map(|id| put(&format!("routes/{id}"), "{}")).collect();
    let refused = store.commit(transaction(many)).await.unwrap_err();
    let StoreError::Refused(reason) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("--max-txn-ops=129"), "{reason}");
    let many = (0..128).map(|id| put(&format!("routes/{id}"), "{}")).collect();
    assert_eq!(store.rehearse(&transaction(many)).await, Err(StoreError::Refused(reason)));
    for megabytes in [2, 8] {
        let large = "x".repeat(megabytes << 20);
        let refused = store.commit(transaction(vec![put("routes/1", &large)])).await.unwrap_err();
        let StoreError::Refused(reason) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("--max-request-bytes"), "{reason}");
        let rehearsed = store.rehearse(&transaction(vec![put("routes/1", &large)])).await;
        assert_eq!(rehearsed, Err(StoreError::Refused(reason)));
    }
    let enough = (0..127).map(|id| put(&format!("routes/{id}"), "{}")).collect();
    assert_eq!(store.rehearse(&transaction(enough)).await, Ok(()));
    assert_eq!(etcd.contents("/apisix/"), BTreeMap::new());
    let enough = (0..127).map(|id| put(&format!("routes/{id}"), "{}")).collect();
    commit(&store, enough).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_and_large_values_are_read_in_pages_at_one_revision() {
    let etcd = blocking(Etcd::start).await;
    let store = store(&[etcd.url()]);
    let large = "x".repeat(1 << 20);
    let mut expected = BTreeMap::new();
    for id in 0..10 {
        commit(&store, vec![put(&format!("protos/{id}"), &large)]).await;
        expected.insert(format!("protos/{id}"), large.clone());
    }
    for batch in 0..30 {
        let paths: Vec<String> = (0..100).map(|id| format!("routes/{batch}-{id}")).collect();
        commit(&store, paths.iter().map(|path| put(path, "{}")).collect()).await;
        expected.extend(paths.into_iter().map(|path| (path, "{}".to_owned())));
    }
    let revision = commit(&store, vec![delete("routes/none")]).await;
    let mirror = Mirror::of(&store).await;
    assert_eq!(mirror.revision, revision);
    assert!(mirror.contents == expected, "the contents differ");
    assert_eq!(store.list("routes/7-").await.unwrap().items.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_others_and_markers_do_no_harm() {
    let etcd = blocking(Etcd::start).await;
    etcd.ctl(["put", "/apisix/routes/", "init_dir"]);
    etcd.ctl(["put", "/apisixother/routes/1", "{}"]);
    etcd.ctl(["put", "/apisix/routes/1", "{}"]);
    let store = store(&[etcd.url()]);
    let mut mirror = Mirror::of(&store).await;
    etcd.ctl(["put", "/apisixother/routes/2", "{}"]);
    etcd.ctl(["put", "/apisix/routes/2", "{}"]);
    mirror.until("the second route", |mirror| mirror.contents.contains_key("routes/2")).await;
    let paths: Vec<&str> = mirror.contents.keys().map(String::as_str).collect();
    assert_eq!(paths, ["routes/", "routes/1", "routes/2"]);
    assert_eq!(mirror.commits.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_do_not_serve_are_passed_over() {
    let etcd = blocking(Etcd::start).await;
    let (dead, mute) = (nobody(), silent());
    let endpoints = [
        format!("http://{}", dead.addr()),
        format!("http://{}", mute.local_addr().unwrap()),
        etcd.url(),
    ];
    // Where it begins is left to chance.
    for round in 0..3 {
        let store = store(&endpoints);
        let mut mirror = Mirror::unloaded(&store);
        let revision = commit(&store, vec![put(&format!("routes/{round}"), "{}")]).await;
        mirror.until("loaded", |mirror| mirror.revision >= revision).await;
        assert_eq!(mirror.lost, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_refused_with_their_key() {
    let cases = [
        (vec![], "deployment.etcd.host"),
        (vec!["127.0.0.1:2379".to_owned()], "deployment.etcd.host: 127.0.0.1:2379"),
        (vec!["http://a b".to_owned()], "deployment.etcd.host: http://a b"),
    ];
    for (endpoints, expected) in cases {
        let error = EtcdStore::new(&settings(&endpoints)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_requests_fail_with_the_reason() {
    let dead = nobody();
    let store = store(&[format!("http://{}", dead.addr())]);
    let error = store.get("routes/1").await.unwrap_err();
    let StoreError::Unavailable(reason) = &error else { panic!("{error:?}") };
    assert!(reason.contains(&dead.addr().to_string()), "{reason}");
    assert!(reason.contains("refused"), "{reason}");
    let error = store.commit(transaction(vec![put("routes/1", "{}")])).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_for_a_connection_share_its_failure() {
    let mute = silent();
    let store = std::sync::Arc::new(store(&[format!("http://{}", mute.local_addr().unwrap())]));
    let readers: Vec<_> = (0..30)
        .map(|_| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move { store.get("routes/1").await })
        })
        .collect();
    // One after the other they would take far longer than the test may.
    let all = async {
        for reader in readers {
            let error = reader.await.unwrap().unwrap_err();
            assert!(error.to_string().contains("no answer"), "{error}");
        }
    };
    tokio::time::timeout(osmia_tests::FAILSAFE, all).await.expect("all fail together");
}

/// Commits all at once; the outcomes in order.
async fn together(store: &Arc<EtcdStore>, transactions: Vec<Transaction>) -> Vec<Outcome> {
    let commits: Vec<_> = transactions
        .into_iter()
        .map(|transaction| {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.commit(transaction).await.unwrap() })
        })
        .collect();
    let mut outcomes = Vec::new();
    for commit in commits {
        outcomes.push(commit.await.unwrap());
    }
    outcomes
}

fn guarded(guard: Guard, op: Op) -> Transaction {
    Transaction { guards: vec![guard], ..transaction(vec![op]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_together_go_together_each_by_its_own_guards() {
    let etcd = Arc::new(blocking(Etcd::start).await);
    let store = Arc::new(store(&[etcd.url()]));
    let mut mirror = Mirror::of(&store).await;
    let path = |id: usize| format!("routes/{id}");
    let create = (0..64).map(|id| guarded(Guard::Absent(path(id)), put(&path(id), "1"))).collect();
    let mut revisions = Vec::new();
    for (id, outcome) in together(&store, create).await.into_iter().enumerate() {
        let Outcome::Committed { revision } = outcome else { panic!("{id}: {outcome:?}") };
        let item = store.get(&path(id)).await.unwrap().unwrap();
        assert_eq!((item.created, item.modified), (revision, revision));
        revisions.push(revision);
    }
    let distinct: BTreeSet<_> = revisions.iter().collect();
    assert!(distinct.len() < 64, "each went by itself");

    // Every third is there already, every third one goes, and the rest is changed.
    let change = (0..64).map(|id| match id % 3 {
        0 => guarded(Guard::Absent(path(id)), put(&path(id), "2")),
        1 => guarded(Guard::Exists(path(id)), delete(&path(id))),
        _ => guarded(Guard::Unmodified(path(id), revisions[id]), put(&path(id), "3")),
    });
    let outcomes = together(&store, change.collect()).await;
    for (id, outcome) in outcomes.iter().enumerate() {
        assert_eq!(id % 3 == 0, *outcome == Outcome::Conflict, "{id}: {outcome:?}");
        let value = store.get(&path(id)).await.unwrap().map(|item| item.value);
        assert_eq!(value, [Some("1".into()), None, Some("3".into())][id % 3], "{id}");
    }
    mirror.settle(&etcd).await;
    let tester = Some(author("tester"));
    assert!(mirror.commits.iter().all(|commit| commit.author == tester));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_create_the_same_one_wins() {
    let etcd = Arc::new(blocking(Etcd::start).await);
    let store = Arc::new(store(&[etcd.url()]));
    for round in 0..5 {
        let path = format!("routes/{round}");
        let all = (0..24).map(|id: usize| {
            guarded(Guard::Absent(path.clone()), put(&path, &format!("{{\"by\":{id}}}")))
        });
        let outcomes = together(&store, all.collect()).await;
        let winners: Vec<_> =
            outcomes.iter().filter(|outcome| **outcome != Outcome::Conflict).collect();
        assert_eq!(winners.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_together_is_written_one_by_one() {
    // Two writes are too many, an own one with its author is not.
    let etcd = blocking(|| Etcd::start_with(&["--max-txn-ops", "2"])).await;
    let store = Arc::new(store(&[etcd.url()]));
    let all = (0..24).map(|id: usize| transaction(vec![put(&format!("routes/{id}"), "{}")]));
    for outcome in together(&store, all.collect()).await {
        assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    }
    assert_eq!(store.list("routes/").await.unwrap().items.len(), 24);
}
