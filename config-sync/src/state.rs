//! The contents of the store as this process knows them, and how they are served.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use ahash::HashMap;
use bytes::Bytes;
use osmia_core::resource::{Key, Kind};

use crate::dns::Counters;

/// One resource as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The JSON text.
    pub value: Bytes,
    /// Revision that created it (`createdIndex`).
    pub created: u64,
    /// Revision that modified it last (`modifiedIndex`).
    pub modified: u64,
    /// Rank among resources that are otherwise equal: the older, or the earlier in a file, is
    /// smaller.
    pub order: u64,
}

/// What is served in place of a resource that cannot be used as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// The last version that was valid.
    LastValid,
    /// Nothing: there never was a valid version.
    Nothing,
    /// Requests that need it are answered with 503, since serving without it could pass what it
    /// forbids.
    Refusal,
}

/// A resource that cannot be used as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The revision that brought it.
    pub modified: u64,
    /// Field and reason.
    pub reason: String,
    /// What is served instead.
    pub serving: Serving,
}

/// How the store is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// Whether it is reached.
    pub reachable: bool,
    /// Whether what is served comes from the copy on disk.
    pub from_copy: bool,
    /// Why it is not reached, or why its contents were refused.
    pub problem: Option<String>,
    /// How often its contents were refused as a whole.
    pub refused: u64,
}

/// The contents of the store at one revision.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) revision: u64,
    pub(crate) kinds: HashMap<Kind, BTreeMap<Arc<str>, Stored>>,
    /// Who refers to a resource.
    pub(crate) users: HashMap<Key, BTreeSet<Key>>,
    pub(crate) quarantine: BTreeMap<Key, Quarantined>,
    /// The last valid text of what is not valid now.
    pub(crate) fallback: HashMap<Key, Bytes>,
    pub(crate) source: SourceStatus,
    /// What has been looked up so far.
    pub(crate) lookups: Arc<Counters>,
}

impl State {
    /// The store's revision that this is.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One resource.
    pub fn get(&self, key: &Key) -> Option<&Stored> {
        self.kinds.get(&key.kind)?.get(&key.id)
    }

    /// All resources of a kind, by id.
    pub fn items(&self, kind: Kind) -> impl Iterator<Item = (&Arc<str>, &Stored)> {
        self.kinds.get(&kind).into_iter().flatten()
    }

    /// Number of resources of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds.get(&kind).map_or(0, BTreeMap::len)
    }

    /// The resources that refer to this one by id (`upstream_id`, `service_id`, `plugin_config_id`,
    /// `group_id`).
    pub fn users(&self, key: &Key) -> impl Iterator<Item = &Key> {
        self.users.get(key).into_iter().flatten()
    }

    /// What cannot be used as it is stored.
    pub fn quarantine(&self) -> &BTreeMap<Key, Quarantined> {
        &self.quarantine
    }

    /// How the store is doing.
    pub fn source(&self) -> &SourceStatus {
        &self.source
    }

    /// The text that is in force for a key: the last valid one.
    pub(crate) fn effective(&self, key: &Key) -> Option<Bytes> {
        let stored = || self.get(key).map(|stored| stored.value.clone());
        self.fallback.get(key).cloned().or_else(stored)
    }

    /// Packs what was put in one by one. Trees that were filled in the order of their keys are half
    /// empty, which makes 7 MB of 100,000 routes.
    pub(crate) fn pack(&mut self) {
        for items in self.kinds.values_mut() {
            *items = mem::take(items).into_iter().collect();
        }
        for users in self.users.values_mut() {
            *users = mem::take(users).into_iter().collect();
        }
    }

    /// Notes that `key` refers to these.
    pub(crate) fn add_references(&mut self, key: &Key, references: &[Key]) {
        for to in references {
            self.users.entry(to.clone()).or_default().insert(key.clone());
        }
    }

    /// Notes that `key` does not refer to these any more.
    pub(crate) fn remove_references(&mut self, key: &Key, references: &[Key]) {
        for to in references {
            if let Some(users) = self.users.get_mut(to) {
                users.remove(key);
                if users.is_empty() {
                    self.users.remove(to);
                }
            }
        }
    }
}
