//! Cases for every store.

use crate::mirror::Mirror;
use crate::subject::{Subject, delete, get, mark, paths, put, route};

/// Far more than the queue of a watcher holds.
const MANY: usize = 300;

pub async fn an_empty_store_is_empty(subject: impl Subject) {
    let store = subject.store();
    assert_eq!(get(&*store, "routes/1").await, None);
    assert!(paths(&*store, "").await.is_empty());
    assert!(!store.name().is_empty());
}

pub async fn what_is_written_is_read(subject: impl Subject) {
    let store = subject.store();
    let (one, two) = (route("one"), route("two"));
    subject.write(vec![put("routes/1", &one), put("routes/2", &two)]).await;
    let item = get(&*store, "routes/1").await.unwrap();
    assert_eq!(item.path, "routes/1");
    assert!(subject.same_value(&one, &item.value));
    assert!(item.created > 0 && item.created <= item.modified);
    let contents = store.list("routes/").await.unwrap();
    assert_eq!(contents.items.len(), 2);
    assert_eq!(contents.items[0], item);
    assert!(subject.same_value(&two, &contents.items[1].value));
    assert!(contents.items.iter().all(|item| item.modified <= contents.revision));
    // Neither a part of a path nor more than a path is the path.
    assert_eq!(get(&*store, "routes/").await, None);
    assert_eq!(get(&*store, "routes/11").await, None);
}

pub async fn a_write_replaces_and_a_delete_removes(subject: impl Subject) {
    let store = subject.store();
    subject.write(vec![put("routes/1", &route("old")), put("routes/2", &route("gone"))]).await;
    let before = store.list("").await.unwrap().revision;
    subject.write(vec![put("routes/1", &route("new")), delete("routes/2")]).await;
    let item = get(&*store, "routes/1").await.unwrap();
    assert_eq!(mark(&item.value), "new");
    assert_eq!(get(&*store, "routes/2").await, None);
    assert_eq!(paths(&*store, "").await, ["routes/1"]);
    assert!(store.list("").await.unwrap().revision > before);
}

pub async fn listing_takes_a_prefix_and_sorts(subject: impl Subject) {
    let store = subject.store();
    let value = route("listed");
    let written = ["services/1", "routes/b", "routes/a1", "routes/a", "routes/a2", "routes/B"];
    subject.write(written.iter().map(|path| put(path, &value)).collect()).await;
    let routes = ["routes/B", "routes/a", "routes/a1", "routes/a2", "routes/b"];
    assert_eq!(paths(&*store, "routes/").await, routes);
    assert_eq!(paths(&*store, "routes/a").await, routes[1..4]);
    assert_eq!(paths(&*store, "services/").await, ["services/1"]);
    assert_eq!(paths(&*store, "upstreams/").await, Vec::<String>::new());
    let mut all = routes.to_vec();
    all.push("services/1");
    assert_eq!(paths(&*store, "").await, all);
}

pub async fn unicode_is_kept(subject: impl Subject) {
    let store = subject.store();
    let text = "Grüße, 世界, \u{1F41D}, \u{0301}, \u{10FFFF}, \"\\ \t \u{7f}";
    subject.write(vec![put("routes/1", &route(text))]).await;
    let item = get(&*store, "routes/1").await.unwrap();
    assert_eq!(mark(&item.value), text);
    let mirror = Mirror::of(&*store).await;
    assert_eq!(mark(&mirror.items["routes/1"].value), text);
}

pub async fn a_watch_begins_with_the_contents(subject: impl Subject) {
    let store = subject.store();
    let empty = Mirror::of(&*store).await;
    assert!(empty.items.is_empty());
    subject.write((0..50).map(|n| put(&format!("routes/{n}"), &route("first"))).collect()).await;
    let mut mirror = Mirror::of(&*store).await;
    assert_eq!(mirror.items.len(), 50);
    mirror.catch_up(&*store).await;
    assert_eq!(mirror.loads, 1);
}

pub async fn a_watch_follows_changes(subject: impl Subject) {
    let store = subject.store();
    let mut mirror = Mirror::of(&*store).await;
    for n in 0..10 {
        let value = route(&n.to_string());
        subject.write(vec![put("routes/1", &value), put(&format!("routes/x{n}"), &value)]).await;
        mirror.catch_up(&*store).await;
        assert_eq!(mark(&mirror.items["routes/1"].value), n.to_string());
    }
    for n in 0..10 {
        subject.write(vec![delete(&format!("routes/x{n}"))]).await;
        mirror.catch_up(&*store).await;
    }
    assert_eq!(mirror.items.len(), 1);
}

pub async fn two_watchers_agree(subject: impl Subject) {
    let store = subject.store();
    let mut first = Mirror::of(&*store).await;
    subject.write(vec![put("routes/1", &route("one"))]).await;
    let mut second = Mirror::of(&*store).await;
    subject.write(vec![put("routes/2", &route("two")), delete("routes/1")]).await;
    first.catch_up(&*store).await;
    second.catch_up(&*store).await;
    assert_eq!(first.items, second.items);
    assert_eq!(first.revision, second.revision);
}

pub async fn a_dropped_watcher_is_forgotten(subject: impl Subject) {
    let store = subject.store();
    drop(store.watch()); // before its first event
    drop(Mirror::of(&*store).await); // and after it
    let mut mirror = Mirror::of(&*store).await;
    for n in 0..MANY {
        subject.write(vec![put("routes/1", &route(&n.to_string()))]).await;
    }
    mirror.catch_up(&*store).await;
}

pub async fn a_slow_watcher_catches_up(subject: impl Subject) {
    let store = subject.store();
    let mut slow = Mirror::of(&*store).await;
    let mut quick = Mirror::of(&*store).await;
    for n in 0..MANY {
        let path = format!("routes/{}", n % 7);
        subject.write(vec![put(&path, &route(&n.to_string()))]).await;
        quick.catch_up(&*store).await;
    }
    slow.catch_up(&*store).await;
    assert_eq!(slow.items, quick.items);
}

pub async fn reopening_keeps_the_contents(subject: impl Subject) {
    let written = (0..20).map(|n| put(&format!("routes/{n}"), &route("kept"))).collect();
    subject.write(written).await;
    subject.write(vec![delete("routes/7"), put("routes/8", &route("changed"))]).await;
    let before = subject.store().list("").await.unwrap();
    let subject = subject.reopen().await;
    let store = subject.store();
    let after = store.list("").await.unwrap();
    assert_eq!(before, after);
    assert_eq!(after.items.len(), 19);
    let mirror = Mirror::of(&*store).await;
    assert_eq!(mirror.revision, after.revision);
    assert_eq!(mirror.items.len(), 19);
}
