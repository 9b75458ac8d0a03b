//! Cases about what watchers see of concurrent writers.

use std::collections::BTreeMap;
use std::sync::Arc;

use osmia_config_sync::store::{Change, Commit, EVENT_QUEUE, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::mirror::Mirror;
use crate::subject::{LIMIT, Subject, author, committed, mark, put, route};

const WRITERS: usize = 8;

/// A writer of `count` versions of one key; returns the revisions. Each write waits until the
/// watcher has seen the one before, so that a watcher never has more waiting than there are
/// writers: no store has a reason to fall back to a whole load.
fn writer(
    store: Arc<dyn Store>,
    path: String,
    count: usize,
    seen: &watch::Sender<u64>,
) -> JoinHandle<Vec<u64>> {
    let mut seen = seen.subscribe();
    tokio::spawn(async move {
        let mut revisions = Vec::new();
        for version in 0..count {
            let revision = committed(&*store, vec![put(&path, &route(&version.to_string()))]).await;
            revisions.push(revision);
            let wait = seen.wait_for(|seen| *seen >= revision);
            timeout(LIMIT, wait).await.expect("the watcher sees it").unwrap();
        }
        revisions
    })
}

/// Starts the writers; follows them until all they wrote has been seen. Returns their revisions,
/// sorted, each once: writes that wait together may have one.
async fn follow(mirror: &mut Mirror, store: &Arc<dyn Store>, count: usize) -> Vec<u64> {
    let (seen, _) = watch::channel(mirror.revision);
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| writer(Arc::clone(store), format!("routes/{n}"), count, &seen))
        .collect();
    let changes = |mirror: &Mirror| -> usize {
        mirror.commits.iter().map(|commit| commit.changes.len()).sum()
    };
    let wanted = changes(mirror) + WRITERS * count;
    while changes(mirror) < wanted {
        mirror.next().await;
        assert_eq!(mirror.loads, 1, "a watcher that keeps up is not loaded anew");
        seen.send_replace(mirror.revision);
    }
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.extend(writer.await.unwrap());
    }
    revisions.sort_unstable();
    revisions.dedup();
    revisions
}

fn revisions(commits: &[Commit]) -> Vec<u64> {
    commits.iter().map(|commit| commit.revision).collect()
}

pub async fn no_commit_is_missing_under_concurrent_writers(subject: impl Subject) {
    let store = subject.store();
    let mut mirror = Mirror::of(&*store).await;
    let written = follow(&mut mirror, &store, 50).await;
    assert_eq!(revisions(&mirror.commits), written);
    // Each writer's versions came in its order.
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for change in mirror.commits.iter().flat_map(|commit| &commit.changes) {
        let Change::Put(item) = change else { panic!("nothing was deleted") };
        let version = versions.entry(&item.path).or_default();
        assert_eq!(mark(&item.value), version.to_string());
        *version += 1;
    }
    mirror.catch_up(&*store).await;
}

pub async fn two_watchers_see_the_same_commits(subject: impl Subject) {
    let store = subject.store();
    let mut first = Mirror::of(&*store).await;
    let mut second = Mirror::of(&*store).await;
    // Fewer than may wait: the second watcher looks only afterwards.
    let written = follow(&mut first, &store, EVENT_QUEUE / WRITERS - 1).await;
    let last = *written.last().unwrap();
    second.until(|mirror| mirror.revision >= last).await;
    assert_eq!(first.commits, second.commits);
}

pub async fn a_watch_that_begins_among_writes_misses_nothing(subject: impl Subject) {
    let store = subject.store();
    for _ in 0..5 {
        let mut mirror = Mirror::of(&*store).await;
        let late: Vec<_> = (0..4)
            .map(|turn| {
                let store = subject.store();
                tokio::spawn(async move {
                    for _ in 0..turn * 25 {
                        tokio::task::yield_now().await;
                    }
                    Mirror::of(&*store).await
                })
            })
            .collect();
        let written = follow(&mut mirror, &store, EVENT_QUEUE / WRITERS - 1).await;
        let last = *written.last().unwrap();
        for late in late {
            let mut late = late.await.unwrap();
            let begun = late.revision;
            late.until(|mirror| mirror.revision >= last).await;
            let after: Vec<u64> = written.iter().copied().filter(|r| *r > begun).collect();
            assert_eq!(revisions(&late.commits), after);
            assert_eq!(late.items, mirror.items);
        }
    }
}

pub async fn transactions_are_seen_whole(subject: impl Subject) {
    let store = subject.store();
    let mut mirror = Mirror::of(&*store).await;
    let writer = {
        let store = subject.store();
        tokio::spawn(async move {
            for round in 0..100 {
                let value = route(&round.to_string());
                let ops = (0..5).map(|n| put(&format!("routes/{n}"), &value)).collect();
                committed(&*store, ops).await;
            }
        })
    };
    let is_last = |mirror: &Mirror| {
        mirror.items.get("routes/0").is_some_and(|item| mark(&item.value) == "99")
    };
    while !is_last(&mirror) {
        mirror.next().await;
        let mut marks: Vec<_> = mirror.items.values().map(|item| mark(&item.value)).collect();
        marks.dedup();
        assert!(mirror.items.is_empty() || (mirror.items.len() == 5 && marks.len() == 1));
        assert!(mirror.commits.iter().all(|commit| commit.changes.len() == 5));
        let listed = store.list("routes/").await.unwrap();
        assert!(listed.items.iter().all(|item| item.modified == listed.items[0].modified));
    }
    writer.await.unwrap();
}

pub async fn authors_are_delivered(subject: impl Subject) {
    let store = subject.store();
    let mut mirror = Mirror::of(&*store).await;
    committed(&*store, vec![put("routes/1", &route("one"))]).await;
    mirror.until(|mirror| !mirror.commits.is_empty()).await;
    assert_eq!(mirror.commits[0].author, Some(author()));
}
