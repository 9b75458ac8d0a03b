//! Faults, each followed by a comparison of all that the watcher knows with all that etcd has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use osmia_config_sync::store::Store as _;
use osmia_config_sync::store::etcd::EtcdStore;
use osmia_core::settings::EtcdSettings;
use osmia_tests::etcd::Etcd;

use super::mirror::Mirror;
use super::proxy::Proxy;
use super::{blocking, commit, delete, put, settings, store, transaction};

/// Gives the process to a blocking closure and takes it back.
async fn with(etcd: Arc<Etcd>, work: impl FnOnce(&mut Etcd) + Send + 'static) -> Arc<Etcd> {
    blocking(move || {
        let mut etcd = Arc::into_inner(etcd).expect("nobody else holds it");
        work(&mut etcd);
        Arc::new(etcd)
    })
    .await
}

/// The same etcd with nothing in it.
async fn wiped(etcd: Arc<Etcd>) -> Arc<Etcd> {
    with(etcd, |etcd| {
        etcd.kill();
        etcd.wipe();
        etcd.restart();
    })
    .await
}

async fn start() -> Arc<Etcd> {
    Arc::new(blocking(Etcd::start).await)
}

/// A route that is written around the store.
async fn foreign(etcd: &Arc<Etcd>, id: &str) {
    let (etcd, key) = (Arc::clone(etcd), format!("/apisix/routes/{id}"));
    blocking(move || etcd.ctl(["put", &key, "{\"foreign\":true}"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_again() {
    let mut etcd = start().await;
    let store = store(&[etcd.url()]);
    let mut mirror = Mirror::of(&store).await;
    commit(&store, vec![put("routes/1", "{}")]).await;
    for round in 0..3 {
        etcd = with(etcd, Etcd::kill).await;
        mirror.until("lost", |mirror| mirror.lost.len() == round + 1).await;
        etcd = with(etcd, Etcd::restart).await;
        foreign(&etcd, &format!("after-{round}")).await;
        mirror.settle(&etcd).await;
        assert_eq!((mirror.loads, mirror.restored), (1, round + 1), "nothing was missed");
    }
    assert!(mirror.lost[0].contains("refused"), "{:?}", mirror.lost);
    commit(&store, vec![delete("routes/1")]).await;
    mirror.settle(&etcd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn away_when_the_watch_begins() {
    let etcd = start().await;
    let etcd = with(etcd, Etcd::kill).await;
    let store = store(&[etcd.url()]);
    let mut mirror = Mirror::unloaded(&store);
    mirror.until("lost", |mirror| mirror.lost.len() == 1).await;
    let etcd = with(etcd, Etcd::restart).await;
    foreign(&etcd, "1").await;
    mirror.settle(&etcd).await;
    assert_eq!((mirror.loads, mirror.restored), (1, 0), "a load says that it is back");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_and_continued() {
    let etcd = start().await;
    let store = store(&[etcd.url()]);
    let mut mirror = Mirror::of(&store).await;
    commit(&store, vec![put("routes/1", "{}")]).await;
    etcd.freeze();
    mirror.until("lost", |mirror| mirror.lost.len() == 1).await;
    assert!(mirror.lost[0].contains("answer"), "{:?}", mirror.lost);
    let error = store.commit(transaction(vec![put("routes/2", "{}")])).await.unwrap_err();
    assert!(error.to_string().contains("answer"), "{error}");
    etcd.thaw();
    mirror.settle(&etcd).await;
    commit(&store, vec![put("routes/3", "{}")]).await;
    mirror.settle(&etcd).await;
    assert_eq!((mirror.loads, mirror.restored), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_goes_silent() {
    let etcd = start().await;
    let proxy = Proxy::to(etcd.addr()).await;
    let store = store(&[proxy.url()]);
    let mut mirror = Mirror::of(&store).await;
    for round in 0..2 {
        proxy.stall();
        foreign(&etcd, &format!("{round}-early")).await;
        mirror.until("lost", |mirror| mirror.lost.len() == round + 1).await;
        foreign(&etcd, &format!("{round}-late")).await;
        proxy.resume();
        mirror.settle(&etcd).await;
        assert_eq!((mirror.loads, mirror.restored), (1, round + 1));
    }
    assert_eq!(mirror.commits.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brief_silence_is_not_an_outage() {
    let etcd = start().await;
    let proxy = Proxy::to(etcd.addr()).await;
    let store = store(&[proxy.url()]);
    let mut mirror = Mirror::of(&store).await;
    proxy.stall();
    foreign(&etcd, "1").await;
    proxy.resume();
    mirror.settle(&etcd).await;
    // Longer than it takes to notice that nobody answers.
    mirror.during(Duration::from_secs(4)).await;
    assert_eq!((mirror.loads, mirror.lost.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_while_cut_off() {
    let etcd = start().await;
    let proxy = Proxy::to(etcd.addr()).await;
    let direct = store(&[etcd.url()]);
    commit(&direct, vec![put("routes/1", "{}"), put("routes/2", "{}")]).await;
    let store = store(&[proxy.url()]);
    let mut mirror = Mirror::of(&store).await;
    proxy.cut();
    mirror.until("lost", |mirror| mirror.lost.len() == 1).await;
    commit(&direct, vec![delete("routes/1"), put("routes/3", "{}")]).await;
    commit(&direct, vec![put("routes/2", "{\"changed\":1}")]).await;
    blocking({
        let etcd = Arc::clone(&etcd);
        move || etcd.compact()
    })
    .await;
    proxy.resume();
    mirror.settle(&etcd).await;
    assert_eq!((mirror.loads, mirror.restored), (2, 0));
    // Compacting what was seen already is nothing to reload for.
    commit(&direct, vec![put("routes/4", "{}")]).await;
    mirror.settle(&etcd).await;
    let compacted = Arc::clone(&etcd);
    blocking(move || compacted.compact()).await;
    proxy.break_connections();
    commit(&direct, vec![put("routes/5", "{}")]).await;
    mirror.settle(&etcd).await;
    assert_eq!(mirror.loads, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_to_an_older_state() {
    let etcd = start().await;
    let store = store(&[etcd.url()]);
    commit(&store, vec![put("routes/1", "{}"), put("routes/2", "{}")]).await;
    let mut mirror = Mirror::of(&store).await;
    let snapshot = etcd.file("snapshot");
    let etcd = with(etcd, move |etcd| etcd.snapshot(&snapshot)).await;
    commit(&store, vec![put("routes/3", "{}"), delete("routes/1")]).await;
    mirror.settle(&etcd).await;
    let snapshot = etcd.file("snapshot");
    let etcd = with(etcd, move |etcd| {
        etcd.kill();
        etcd.restore(&snapshot);
        etcd.restart();
    })
    .await;
    mirror.settle(&etcd).await;
    assert_eq!(mirror.loads, 2);
    assert!(mirror.contents.contains_key("routes/1"));
    commit(&store, vec![put("routes/4", "{}")]).await;
    mirror.settle(&etcd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_and_written_to_beyond_what_was_seen() {
    let etcd = start().await;
    let proxy = Proxy::to(etcd.addr()).await;
    let direct = store(&[etcd.url()]);
    let store = store(&[proxy.url()]);
    commit(&direct, vec![put("routes/1", "{}")]).await;
    let mut mirror = Mirror::of(&store).await;
    let snapshot = etcd.file("snapshot");
    let etcd = with(etcd, move |etcd| etcd.snapshot(&snapshot)).await;
    commit(&direct, vec![put("routes/2", "{}")]).await;
    mirror.settle(&etcd).await;
    proxy.cut();
    let snapshot = etcd.file("snapshot");
    let etcd = with(etcd, move |etcd| {
        etcd.kill();
        etcd.restore(&snapshot);
        etcd.restart();
        // Several terms later, at a higher revision, with other contents.
        for id in 0..3 {
            etcd.kill();
            etcd.restart();
            etcd.ctl(["put", &format!("/apisix/services/{id}"), "{}"]);
        }
    })
    .await;
    proxy.resume();
    mirror.settle(&etcd).await;
    assert_eq!(mirror.loads, 2);
    assert!(!mirror.contents.contains_key("routes/2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_and_filled_again() {
    let etcd = start().await;
    let store = store(&[etcd.url()]);
    commit(&store, vec![put("routes/1", "{}")]).await;
    let mut mirror = Mirror::of(&store).await;
    let etcd = wiped(etcd).await;
    mirror.until("refused", |mirror| mirror.refused.len() == 1).await;
    assert!(mirror.refused[0].contains("accept_empty"), "{:?}", mirror.refused);
    assert_eq!(mirror.contents.len(), 1, "the old contents stay");
    // What `apisix init_etcd` writes is no configuration.
    let etcd = with(etcd, |etcd| drop(etcd.ctl(["put", "/apisix/routes/", "init_dir"]))).await;
    let etcd = with(etcd, |etcd| {
        etcd.kill();
        etcd.restart();
    })
    .await;
    foreign(&etcd, "2").await;
    mirror.settle(&etcd).await;
    assert!(mirror.contents.contains_key("routes/2"));
    commit(&store, vec![put("routes/3", "{}")]).await;
    mirror.settle(&etcd).await;
}

/// A gateway's view of an etcd that held ten routes, was wiped and has been given one of them.
async fn wiped_with_one_of_ten() -> (Arc<Etcd>, EtcdStore, Mirror) {
    let etcd = start().await;
    let store = store(&[etcd.url()]);
    commit(&store, (0..10).map(|id| put(&format!("routes/{id}"), "{}")).collect()).await;
    let mut mirror = Mirror::of(&store).await;
    let etcd = wiped(etcd).await;
    mirror.until("refused", |mirror| mirror.refused.len() == 1).await;
    foreign(&etcd, "0").await;
    (etcd, store, mirror)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_in_an_emptied_store_is_no_configuration() {
    let (etcd, store, mut mirror) = wiped_with_one_of_ten().await;
    for id in 1..4 {
        foreign(&etcd, &id.to_string()).await;
    }
    mirror.during(Duration::from_secs(1)).await;
    drop(store);
    assert_eq!((mirror.contents.len(), mirror.loads), (10, 1));
    foreign(&etcd, "4").await;
    mirror.settle(&etcd).await;
    assert_eq!((mirror.contents.len(), mirror.loads), (5, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_want_next_to_nothing() {
    let (etcd, store, mut mirror) = wiped_with_one_of_ten().await;
    assert_eq!(mirror.loads, 1);
    // To look again is not to want what is there.
    store.refresh();
    mirror.during(Duration::from_secs(1)).await;
    assert_eq!((mirror.contents.len(), mirror.loads), (10, 1));
    store.accept();
    mirror.settle(&etcd).await;
    assert_eq!((mirror.contents.len(), mirror.loads), (1, 2));
    // What was said then does not count for the next time.
    let etcd = wiped(etcd).await;
    mirror.until("refused again", |mirror| mirror.refused.len() == 2).await;
    drop(etcd);
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_by_deletes_or_with_consent() {
    let etcd = start().await;
    let accept_empty = EtcdSettings { accept_empty: true, ..settings(&[etcd.url()]) };
    let store = EtcdStore::new(&accept_empty).unwrap();
    let strict = super::store(&[etcd.url()]);
    let (mut mirror, mut other) = (Mirror::of(&store).await, Mirror::of(&strict).await);
    commit(&store, vec![put("routes/1", "{}")]).await;
    commit(&store, vec![delete("routes/1")]).await;
    other.until("both", |mirror| mirror.commits.len() == 2).await;
    assert_eq!((other.contents.len(), other.refused.len()), (0, 0));
    commit(&store, vec![put("routes/1", "{}")]).await;
    mirror.settle(&etcd).await;
    let etcd = wiped(etcd).await;
    mirror.settle(&etcd).await;
    assert_eq!((mirror.contents.len(), mirror.loads, mirror.refused.len()), (0, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_cluster_fail_one_after_another() {
    let members: Vec<Arc<Etcd>> =
        blocking(|| Etcd::cluster(3)).await.into_iter().map(Arc::new).collect();
    let urls: Vec<String> = members.iter().map(|member| member.url()).collect();
    let store = store(&urls);
    let mut mirror = Mirror::of(&store).await;
    let mut written = vec![commit(&store, vec![put("routes/0", "{}")]).await];
    for (id, member) in members.iter().enumerate() {
        member.freeze();
        // The rest may have to choose a leader first; and a write to a member that stops answering
        // has an unknown end, so it is repeated as any client would.
        let op = || vec![put("routes/1", &format!("{{\"id\":{id}}}"))];
        let revision = loop {
            match store.commit(transaction(op())).await {
                Ok(osmia_config_sync::store::Outcome::Committed { revision, .. }) => {
                    break revision;
                }
                other => eprintln!("{other:?}"),
            }
        };
        written.push(revision);
        mirror.until("the write is seen", |mirror| mirror.revision >= revision).await;
        member.thaw();
        let member = Arc::clone(member);
        blocking(move || member.await_healthy()).await;
    }
    mirror.settle(&members[0]).await;
    let seen = mirror.revisions();
    assert!(written.iter().all(|revision| seen.contains(revision)), "{written:?} {seen:?}");
    assert_eq!(mirror.loads, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_break_at_random_under_a_writer() {
    const BREAKS: usize = 40;
    let etcd = start().await;
    let proxy = Proxy::to(etcd.addr()).await;
    let direct = Arc::new(store(&[etcd.url()]));
    let store = store(&[proxy.url()]);
    let mut mirror = Mirror::of(&store).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (direct, stop) = (Arc::clone(&direct), Arc::clone(&stop));
        async move {
            let mut written = Vec::new();
            for id in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let path = format!("routes/{}", id % 50);
                let other = format!("services/{}", id % 7);
                let value = format!("{{\"id\":{id}}}");
                let ops = vec![put(&path, &value), put(&other, &value)];
                written.push(commit(&direct, ops).await);
            }
            written
        }
    });
    // The seed is the process id: as random as it need be, and printed when something fails.
    let mut random = u64::from(std::process::id());
    eprintln!("seed {random}");
    for _ in 0..BREAKS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        mirror.during(Duration::from_millis((random >> 33) % 150)).await;
        proxy.break_connections();
    }
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    mirror.settle(&etcd).await;
    assert_eq!(mirror.loads, 1);
    assert_eq!(mirror.revisions(), written, "none lost, none twice");
    assert!(mirror.commits.iter().all(|commit| commit.changes.len() == 2), "none in parts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_watch_ends() {
    let etcd = start().await;
    let store = store(&[etcd.url()]);
    drop(store.watch());
    let mirror = Mirror::of(&store).await;
    let watchers = |etcd: &Etcd| -> String {
        let mut stream = std::net::TcpStream::connect(etcd.addr()).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let metrics = std::io::read_to_string(stream).unwrap();
        let name = "etcd_debugging_mvcc_watcher_total ";
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
    };
    osmia_tests::eventually("one watch", || watchers(&etcd) == "1");
    drop(mirror);
    osmia_tests::eventually("no watch", || watchers(&etcd) == "0");
}
