//! What a watcher knows, built from its events alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use osmia_config_sync::store::etcd::EtcdStore;
use osmia_config_sync::store::{Change, Commit, Contents, Event, Events, Store as _};
use osmia_tests::FAILSAFE;
use osmia_tests::etcd::Etcd;
use tokio::time::timeout;

use super::blocking;

/// Within this time of a fault's end the watcher knows all that etcd has.
const RECOVERY: Duration = Duration::from_secs(5);

/// A watcher.
pub struct Mirror {
    events: Events,
    /// By path.
    pub contents: BTreeMap<String, String>,
    /// Of the last load or commit.
    pub revision: u64,
    /// All commits, in order.
    pub commits: Vec<Commit>,
    pub loads: usize,
    is_lost: bool,
    pub lost: Vec<String>,
    pub restored: usize,
    pub refused: Vec<String>,
}

impl Mirror {
    /// Begins to watch, and waits for the first contents.
    pub async fn of(store: &EtcdStore) -> Self {
        let mut mirror = Self::unloaded(store);
        mirror.until("the first load", |mirror| mirror.loads == 1).await;
        mirror
    }

    /// Begins to watch.
    pub fn unloaded(store: &EtcdStore) -> Self {
        Self {
            events: store.watch(),
            contents: BTreeMap::new(),
            revision: 0,
            commits: Vec::new(),
            loads: 0,
            is_lost: false,
            lost: Vec::new(),
            restored: 0,
            refused: Vec::new(),
        }
    }

    /// Takes one event.
    async fn next(&mut self) {
        match self.events.recv().await.expect("the watch goes on") {
            Event::Load(contents) => self.load(contents),
            Event::Commits(commits) => {
                assert!(self.loads > 0 && !self.is_lost, "a load or a return comes first");
                assert!(!commits.is_empty());
                for commit in commits {
                    self.apply(commit);
                }
            }
            Event::Refused { reason } => {
                self.is_lost = false;
                self.refused.push(reason);
            }
            Event::Lost { reason } => {
                assert!(!self.is_lost, "{reason}: told twice");
                self.is_lost = true;
                self.lost.push(reason);
            }
            Event::Restored => {
                assert!(self.is_lost, "restored what was not lost");
                self.is_lost = false;
                self.restored += 1;
            }
        }
    }

    fn load(&mut self, contents: Contents) {
        self.loads += 1;
        self.is_lost = false;
        self.revision = contents.revision;
        let paths: Vec<&String> = contents.items.iter().map(|item| &item.path).collect();
        assert!(paths.is_sorted(), "{paths:?}");
        assert!(contents.items.iter().all(|item| item.modified <= contents.revision));
        let texts = contents.items.into_iter();
        self.contents = texts.map(|item| (item.path, text(&item.value))).collect();
    }

    fn apply(&mut self, commit: Commit) {
        assert!(commit.revision > self.revision, "{} after {}", commit.revision, self.revision);
        self.revision = commit.revision;
        for change in &commit.changes {
            match change.clone() {
                Change::Put(item) => {
                    assert_eq!(item.modified, commit.revision, "{}", item.path);
                    self.contents.insert(item.path, text(&item.value));
                }
                Change::Delete { path } => {
                    assert!(self.contents.remove(&path).is_some(), "{path} was not there");
                }
            }
        }
        self.commits.push(commit);
    }

    /// Takes events until something holds.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let all = async {
            while !holds(self) {
                self.next().await;
            }
        };
        let in_time = timeout(FAILSAFE, all).await.is_ok();
        assert!(
            in_time,
            "still not so: {what}; revision {}, {} loads, lost {:?}, restored {}, refused {:?}",
            self.revision, self.loads, self.lost, self.restored, self.refused
        );
    }

    /// Takes the events that come within a time, in which nothing need happen.
    pub async fn during(&mut self, time: Duration) {
        let _ = timeout(time, async {
            loop {
                self.next().await;
            }
        })
        .await;
    }

    /// Waits until this equals what etcd has, which must take no longer than [`RECOVERY`] from now.
    pub async fn settle(&mut self, etcd: &Arc<Etcd>) {
        let begun = Instant::now();
        let etcd = Arc::clone(etcd);
        let (mut expected, revision) =
            blocking(move || (etcd.contents("/apisix/"), etcd.revision())).await;
        expected.remove("/apisix/osmia/author");
        let expected: BTreeMap<String, String> = expected
            .into_iter()
            .map(|(key, value)| (key.trim_start_matches("/apisix/").to_owned(), value))
            .collect();
        // The revision as well: the contents may have been the same before the last commits.
        let known = |mirror: &Self| mirror.contents == expected && mirror.revision == revision;
        self.until("all is known", known).await;
        let taken = begun.elapsed();
        assert!(taken < RECOVERY, "recovery took {taken:?}");
    }

    /// Revisions of all commits.
    pub fn revisions(&self) -> Vec<u64> {
        self.commits.iter().map(|commit| commit.revision).collect()
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8(value.to_vec()).unwrap()
}
