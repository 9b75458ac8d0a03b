//! What the stores in memory of the tests have in common.

use std::collections::BTreeMap;

use osmia_core::resource::Key;

use crate::references::Excerpt;
use crate::state::{State, Stored};
use crate::store::{Contents, Guard, Item, Op, Transaction};

/// The items of a store, and the revision of its last commit.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) revision: u64,
    pub(crate) items: BTreeMap<String, Item>,
}

impl Table {
    /// Whether all guards of a transaction hold.
    pub(crate) fn holds(&self, transaction: &Transaction) -> bool {
        transaction.guards.iter().all(|guard| match guard {
            Guard::Absent(path) => !self.items.contains_key(path),
            Guard::Exists(path) => self.items.contains_key(path),
            Guard::Unmodified(path, revision) => {
                self.items.get(path).is_some_and(|item| item.modified == *revision)
            }
        })
    }

    /// Writes at the revision that is current; what was there before.
    pub(crate) fn perform(&mut self, op: &Op) -> Option<Item> {
        match op {
            Op::Put { path, value, .. } => {
                let (path, value) = (path.clone(), value.clone());
                let created = self.items.get(&path).map_or(self.revision, |item| item.created);
                let item = Item { path: path.clone(), value, created, modified: self.revision };
                self.items.insert(path, item)
            }
            Op::Delete { path } => self.items.remove(path),
        }
    }

    pub(crate) fn contents(&self, prefix: &str) -> Contents {
        let items = self.items.values().filter(|item| item.path.starts_with(prefix));
        Contents { revision: self.revision, items: items.cloned().collect() }
    }

    /// Lets a plane's state follow. Indexed anew each time: the tests are small.
    pub(crate) fn index(&self, state: &mut State) {
        state.revision = self.revision;
        state.kinds.clear();
        state.users.clear();
        for item in self.items.values() {
            let Some(key) = Key::parse(&item.path) else { continue };
            for reference in Excerpt::of(&item.value).references(&key) {
                state.users.entry(reference.key).or_default().insert(key.clone());
            }
            let stored = Stored {
                value: item.value.clone(),
                created: item.created,
                modified: item.modified,
                order: item.created,
            };
            state.kinds.entry(key.kind).or_default().insert(key.id, stored);
        }
    }
}
