use std::fs;
use std::time::Duration;

use bytes::Bytes;
use redb::Durability;
use tempfile::TempDir;

use super::*;
use crate::store::{Author, Change, Event};

fn store(keep: u64) -> (EmbeddedStore, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (store, opened) = EmbeddedStore::open(dir.path(), keep).unwrap();
    assert!(opened.created);
    (store, dir)
}

fn put(path: &str, value: &str, ttl: Option<u64>) -> Op {
    Op::Put { path: path.to_owned(), value: Bytes::from(value.to_owned()), ttl }
}

async fn commit(store: &EmbeddedStore, ops: Vec<Op>) -> u64 {
    let author = Author { name: "viewer".to_owned(), address: "::1".to_owned() };
    let transaction = Transaction { guards: Vec::new(), ops, author };
    match store.commit(transaction).await.unwrap() {
        Outcome::Committed { revision, .. } => revision,
        Outcome::Conflict => panic!("there were no guards"),
    }
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(Duration::from_secs(60), events.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_first_commit_has_revision_one() {
    let (store, dir) = store(10);
    assert_eq!(store.list("").await.unwrap(), Contents::default());
    assert_eq!(commit(&store, vec![put("routes/1", "{}", None)]).await, 1);
    assert_eq!(commit(&store, vec![put("routes/1", "{}", None)]).await, 2);
    assert_eq!(store.name(), format!("the embedded store {}/osmia.redb", dir.path().display()));
}

#[tokio::test]
async fn a_second_process_is_told() {
    let (_store, dir) = store(10);
    let error = EmbeddedStore::open(dir.path(), 10).unwrap_err().to_string();
    assert!(error.contains("osmia.redb is in use by another process"), "{error}");
}

#[tokio::test]
async fn changes_are_in_the_journal() {
    let (store, _dir) = store(2);
    commit(&store, vec![put("routes/1", "1", None), put("routes/2", "1", None)]).await;
    commit(&store, vec![put("routes/1", "2", None)]).await;
    let gone = Op::Delete { path: "routes/missing".to_owned() };
    let ops = vec![gone, Op::Delete { path: "routes/1".to_owned() }, put("routes/3", "3", None)];
    assert_eq!(commit(&store, ops).await, 3);
    let journal = store.journal().unwrap();
    let entries = journal.entries(None, None, 10).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.revision).collect::<Vec<_>>(), [3, 2]);
    let told: Vec<_> = entries[0]
        .changes
        .iter()
        .map(|change| (change.path.as_str(), change.before.as_deref(), change.after.as_deref()))
        .collect();
    let (two, three): (&[u8], &[u8]) = (b"2", b"3");
    assert_eq!(told, [("routes/1", Some(two), None), ("routes/3", None, Some(three))]);
    assert_eq!(entries[0].author.as_ref().unwrap().name, "viewer");
    assert!(entries[0].at_ms > 1_700_000_000_000);
    assert!(journal.since(1).is_ok());
    assert!(journal.since(0).is_err());
}

#[tokio::test]
async fn leases_go_on_while_the_store_is_closed() {
    let (store, dir) = store(10);
    let ops = vec![put("routes/1", "1", Some(1)), put("routes/2", "2", Some(10_000))];
    commit(&store, ops).await;
    drop(store);
    // Instead of waiting: the deadline is moved into the past.
    let (database, _) = Database::open(&dir.path().join(FILE)).unwrap();
    tables::set_deadline(&database, "routes/1", 1_000);
    drop(database);
    let (store, _) = EmbeddedStore::open(dir.path(), 10).unwrap();
    let contents = store.list("").await.unwrap();
    assert_eq!(contents.revision, 2, "an expiry is a commit");
    assert_eq!(contents.items.len(), 1);
    let Event::Load(loaded) = next(&mut store.watch()).await else { panic!("a load comes first") };
    assert_eq!(loaded, contents);
    let entry = store.journal().unwrap().entries(None, None, 1).unwrap().remove(0);
    assert_eq!((entry.revision, entry.author), (2, None));
    assert_eq!(entry.changes[0].after, None);
}

#[tokio::test]
async fn the_longest_ttl_does_not_overflow() {
    let (store, _dir) = store(10);
    commit(&store, vec![put("routes/1", "1", Some(u64::MAX))]).await;
    commit(&store, vec![put("routes/2", "2", None)]).await;
    assert_eq!(store.list("").await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_watcher_that_does_not_look_is_loaded_anew() {
    let (store, _dir) = store(10);
    let mut events = store.watch();
    assert!(matches!(next(&mut events).await, Event::Load(_)));
    let large = "x".repeat(1024 * 1024);
    while events.len() < QUEUE {
        commit(&store, vec![put("routes/1", &large, None)]).await;
    }
    for _ in 0..10 {
        // More than what is kept of recent commits.
        commit(&store, vec![put("routes/1", &large, None)]).await;
    }
    let revision = store.list("").await.unwrap().revision;
    let mut loads = 0;
    loop {
        let reached = match next(&mut events).await {
            Event::Load(contents) => {
                loads += 1;
                contents.revision
            }
            Event::Commits(commits) => commits.last().unwrap().revision,
            other => panic!("{other:?}"),
        };
        if reached == revision {
            break;
        }
    }
    assert!(loads > 0);
}

#[tokio::test]
async fn a_transaction_larger_than_what_is_kept_is_seen() {
    let (store, _dir) = store(10);
    let mut events = store.watch();
    assert!(matches!(next(&mut events).await, Event::Load(_)));
    let large = "x".repeat(1024 * 1024);
    let ops = (0..6).map(|n| put(&format!("routes/{n}"), &large, None)).collect();
    commit(&store, ops).await;
    let Event::Load(contents) = next(&mut events).await else { panic!("too much to be kept") };
    assert_eq!((contents.revision, contents.items.len()), (1, 6));
    commit(&store, vec![put("routes/1", "small", None)]).await;
    let Event::Commits(commits) = next(&mut events).await else { panic!("this one is kept") };
    assert!(matches!(&commits[0].changes[..], [Change::Put(item)] if item.path == "routes/1"));
}

#[tokio::test]
async fn a_disk_that_fails_and_comes_back() {
    let (store, dir) = store(10);
    commit(&store, vec![put("routes/1", "1", None)]).await;
    let mut events = store.watch();
    assert!(matches!(next(&mut events).await, Event::Load(_)));
    // A write fails, and the file cannot be opened again.
    let (file, away) = (dir.path().join(FILE), dir.path().join("away"));
    fs::rename(&file, &away).unwrap();
    let failed = store.database.write(Durability::Immediate, |_| {
        Err::<crate::local::database::Finish<()>, _>(redb::Error::PreviousIo)
    });
    assert!(failed.is_err());
    let ops = vec![put("routes/2", "2", None)];
    let outcome = store.commit(Transaction { ops, ..Transaction::default() }).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    assert!(matches!(next(&mut events).await, Event::Lost { .. }));
    assert!(matches!(store.get("routes/1").await, Err(StoreError::Unavailable(_))));
    fs::rename(&away, &file).unwrap();
    let Event::Load(contents) = next(&mut events).await else { panic!("the store is back") };
    assert_eq!((contents.revision, contents.items.len()), (1, 1));
    assert_eq!(commit(&store, vec![put("routes/3", "3", None)]).await, 2);
    assert!(matches!(next(&mut events).await, Event::Commits(_)));
}

#[tokio::test]
async fn a_watch_ends_with_the_store() {
    let (store, _dir) = store(10);
    let mut events = store.watch();
    assert!(matches!(next(&mut events).await, Event::Load(_)));
    drop(store);
    let end = tokio::time::timeout(Duration::from_secs(60), events.recv()).await.unwrap();
    assert_eq!(end, None);
}
