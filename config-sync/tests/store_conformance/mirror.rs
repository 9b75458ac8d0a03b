//! The watcher of all cases: it follows a store's events and fails on what must never be seen.

use std::collections::BTreeMap;

use osmia_config_sync::store::{Change, Commit, Event, Events, Item, Store};
use tokio::time::timeout;

use crate::subject::LIMIT;

/// A store's contents as its events tell them.
pub struct Mirror {
    events: Events,
    pub revision: u64,
    pub items: BTreeMap<String, Item>,
    /// `Load` events so far.
    pub loads: usize,
    /// All commits since the last `Load`.
    pub commits: Vec<Commit>,
}

impl Mirror {
    /// Watches the store, and has its first contents.
    pub async fn of(store: &dyn Store) -> Self {
        let mut mirror = Self {
            events: store.watch(),
            revision: 0,
            items: BTreeMap::new(),
            loads: 0,
            commits: Vec::new(),
        };
        mirror.next().await;
        assert_eq!(mirror.loads, 1, "the first event is the whole contents");
        mirror
    }

    /// Waits for one event and takes it in.
    pub async fn next(&mut self) {
        let event = timeout(LIMIT, self.events.recv()).await.expect("an event in time");
        match event.expect("the watch goes on") {
            Event::Load(contents) => {
                assert!(contents.revision >= self.revision, "the revision went back");
                assert!(contents.items.is_sorted_by(|a, b| a.path < b.path), "sorted by path");
                self.revision = contents.revision;
                self.items =
                    contents.items.into_iter().map(|item| (item.path.clone(), item)).collect();
                self.loads += 1;
                self.commits.clear();
            }
            Event::Commits(commits) => {
                assert!(!commits.is_empty(), "an event without commits");
                assert!(self.loads > 0, "commits before the contents");
                for commit in commits {
                    self.take(commit);
                }
            }
            other => panic!("not expected here: {other:?}"),
        }
    }

    /// Waits until the mirror is as `wanted`.
    pub async fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            self.next().await;
        }
    }

    /// Waits until the mirror has what the store has now.
    pub async fn catch_up(&mut self, store: &dyn Store) {
        let contents = store.list("").await.unwrap();
        self.until(|mirror| mirror.revision >= contents.revision).await;
        assert_eq!(self.revision, contents.revision);
        let listed: Vec<&Item> = contents.items.iter().collect();
        assert_eq!(self.items.values().collect::<Vec<_>>(), listed);
    }

    fn take(&mut self, commit: Commit) {
        assert!(commit.revision > self.revision, "commits out of order");
        assert!(!commit.changes.is_empty(), "a commit without changes");
        for change in &commit.changes {
            match change {
                Change::Put(item) => {
                    assert_eq!(item.modified, commit.revision, "{}", item.path);
                    let before = self.items.insert(item.path.clone(), item.clone());
                    let created = before.map_or(commit.revision, |before| before.created);
                    assert_eq!(item.created, created, "{}", item.path);
                }
                Change::Delete { path } => {
                    assert!(self.items.remove(path).is_some(), "{path} was deleted twice");
                }
            }
        }
        self.revision = commit.revision;
        self.commits.push(commit);
    }
}
