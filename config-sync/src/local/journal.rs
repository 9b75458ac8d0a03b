//! The journal: who changed what, and when.

use std::path::Path;

use bytes::Bytes;

use crate::store::Author;

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// The store's revision after it.
    pub revision: u64,
    /// When this process saw it: milliseconds since 1970.
    pub at_ms: u64,
    /// `None` when it was not made through Osmia.
    pub author: Option<Author>,
    /// What it did.
    pub changes: Vec<EntryChange>,
}

/// What a commit did to one key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EntryChange {
    /// Path relative to the prefix.
    pub path: String,
    /// The text before; `None`: created.
    pub before: Option<Bytes>,
    /// The text after; `None`: deleted.
    pub after: Option<Bytes>,
}

/// Why the journal cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("journal: {0}")]
    Database(String),
    /// The revisions asked for are older than what is kept.
    #[error("the journal begins at revision {oldest}")]
    Forgotten {
        /// The oldest revision that can be gone back to.
        oldest: u64,
    },
}

/// A handle to the journal. Cheap to clone; methods block on the disk for a moment and are called
/// through `spawn_blocking` or from a thread of their own.
#[derive(Debug, Clone)]
pub struct Journal {}

impl Journal {
    /// Opens or creates a journal in a file of its own, keeping at most `keep` revisions.
    pub fn open(path: &Path, keep: u64) -> Result<Self, JournalError> {
        let _ = (path, keep);
        Ok(Self {})
    }

    /// Adds entries, in the order of their revisions.
    pub fn record(&self, entries: &[Entry]) -> Result<(), JournalError> {
        let _ = entries;
        Ok(())
    }

    /// Up to `limit` entries with revisions of at most `before` (all, when `None`), the newest
    /// first; only those that touch `path` when it is given.
    pub fn entries(
        &self,
        before: Option<u64>,
        path: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        let _ = (before, path, limit);
        Ok(Vec::new())
    }

    /// All entries after `revision`, oldest first; fails when some of them are no longer kept.
    pub fn since(&self, revision: u64) -> Result<Vec<Entry>, JournalError> {
        let _ = revision;
        Ok(Vec::new())
    }
}
