//! The journal: who changed what, and when.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redb::{
    Durability, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, TableError, WriteTransaction,
};

use super::database::{Database, Finish, META};
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

impl From<redb::Error> for JournalError {
    fn from(error: redb::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// When, number of changes, and name and address of the author.
type Head<'a> = (u64, u32, Option<(&'a str, &'a str)>);
/// Path, text before, text after.
type Row<'a> = (&'a str, Option<&'a [u8]>, Option<&'a [u8]>);

/// By revision.
const HEADS: TableDefinition<u64, Head> = TableDefinition::new("journal");
/// By revision and position. In rows of their own, so that an entry of a hundred thousand changes
/// is written and removed piece by piece.
const ROWS: TableDefinition<(u64, u32), Row> = TableDefinition::new("journal_changes");
/// Key in [`META`]: the oldest revision that can be gone back to.
const OLDEST: &str = "journal_oldest";
/// Entries with at most so many changes are removed row by row, which is quicker than by range.
const FEW: u32 = 16;

/// How long a reader waits for what another thread has not recorded yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far a thread that records entries for others has come.
#[derive(Debug, Default)]
struct Progress {
    /// Batches of entries that it was to be given, and those that it has dealt with.
    counts: Mutex<(u64, u64)>,
    moved: Condvar,
}

impl Progress {
    fn counts(&self) -> MutexGuard<'_, (u64, u64)> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what is expected now has been dealt with.
    fn settle(&self) {
        let counts = self.counts();
        let target = counts.0;
        // Late or not: what is there is shown.
        drop(self.moved.wait_timeout_while(counts, PATIENCE, |(_, done)| *done < target));
    }
}

/// A handle to the journal. Cheap to clone; methods block on the disk for a moment and are called
/// through `spawn_blocking` or from a thread of their own.
#[derive(Debug, Clone)]
pub struct Journal {
    /// `None`: nothing can be kept.
    database: Option<Arc<Database>>,
    keep: u64,
    progress: Arc<Progress>,
}

impl Journal {
    /// Opens or creates a journal in a file of its own, keeping at most `keep` revisions. A file
    /// that is damaged is moved aside, with a warning, and begun anew.
    pub fn open(path: &Path, keep: u64) -> Result<Self, JournalError> {
        let database = Database::open_or_begin(path)
            .map_err(|error| JournalError::Database(error.to_string()))?;
        Ok(Self::within(Arc::new(database), keep))
    }

    /// The journal in a file that has other tables as well.
    pub(crate) fn within(database: Arc<Database>, keep: u64) -> Self {
        Self { database: Some(database), keep, progress: Arc::default() }
    }

    /// A journal that keeps nothing, where the disk cannot be written to.
    pub fn absent() -> Self {
        Self { database: None, keep: 0, progress: Arc::default() }
    }

    fn database(&self) -> Result<&Database, JournalError> {
        self.database.as_deref().ok_or_else(|| {
            let reason = "none is kept, since osmia.data_dir cannot be written to; see the log";
            JournalError::Database(reason.to_owned())
        })
    }

    /// Announces a batch of entries that another thread will record: who reads waits for it.
    pub(crate) fn expect(&self) {
        self.progress.counts().0 += 1;
    }

    /// So many of the batches that were announced have been recorded, or never will be.
    pub(crate) fn has_recorded(&self, batches: u64) {
        self.progress.counts().1 += batches;
        self.progress.moved.notify_all();
    }

    /// Adds entries, in the order of their revisions. They survive the end of the process, a crash
    /// only after [`Journal::flush`].
    ///
    /// A revision that is not above all before it says that the store was set back to an older
    /// state. What the journal has from that revision on belongs to a past that the store no longer
    /// knows, so it is removed, and nothing older can be gone back to.
    pub fn record(&self, entries: &[Entry]) -> Result<(), JournalError> {
        self.database()?.write(Durability::None, |transaction| {
            let mut meta = transaction.open_table(META)?;
            let mut tables = Tables::open(transaction)?;
            for entry in entries {
                let changes = entry.changes.iter().map(|change| {
                    (change.path.as_str(), change.before.as_deref(), change.after.as_deref())
                });
                let head = (entry.revision, entry.at_ms, entry.author.as_ref());
                tables.append(&mut meta, head, changes)?;
            }
            tables.trim(&mut meta, self.keep)?;
            Ok(Finish::Commit(()))
        })?;
        Ok(())
    }

    /// Waits until everything is on the disk. Call it now and then: what has been recorded since is
    /// what a crash takes away, and its pages are used again only afterwards.
    pub fn flush(&self) -> Result<(), JournalError> {
        self.database()?.write(Durability::Immediate, |_| Ok(Finish::Commit(())))?;
        Ok(())
    }

    /// Says that what was in the store before `revision` is not known: the journal of a store that
    /// has a past begins here. Nothing older can be gone back to.
    pub fn begin(&self, revision: u64) -> Result<(), JournalError> {
        self.database()?.write(Durability::Immediate, |transaction| {
            let mut meta = transaction.open_table(META)?;
            let known = meta.get(OLDEST)?.is_some_and(|oldest| oldest.value() >= revision);
            if known {
                return Ok(Finish::Abort(()));
            }
            meta.insert(OLDEST, revision)?;
            drop(meta);
            Ok(Finish::Commit(()))
        })?;
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
        self.progress.settle();
        let found = self.database()?.read(|transaction| {
            let Some((heads, rows)) = readable(transaction)? else { return Ok(Vec::new()) };
            let mut found = Vec::new();
            for head in heads.range(..=before.unwrap_or(u64::MAX))?.rev() {
                if found.len() == limit {
                    break;
                }
                let (revision, head) = head?;
                let revision = revision.value();
                if let Some(path) = path
                    && !touches(&rows, revision, path)?
                {
                    continue;
                }
                found.push(entry(&rows, revision, head.value())?);
            }
            Ok(found)
        })?;
        Ok(found)
    }

    /// All entries after `revision`, oldest first; fails when some of them are no longer kept.
    pub fn since(&self, revision: u64) -> Result<Vec<Entry>, JournalError> {
        self.progress.settle();
        let found = self.database()?.read(|transaction| {
            let oldest = transaction.open_table(META)?.get(OLDEST)?.map_or(0, |it| it.value());
            if revision < oldest {
                return Ok(Err(oldest));
            }
            let Some((heads, rows)) = readable(transaction)? else { return Ok(Ok(Vec::new())) };
            let mut found = Vec::new();
            for head in heads.range(revision.saturating_add(1)..)? {
                let (revision, head) = head?;
                found.push(entry(&rows, revision.value(), head.value())?);
            }
            Ok(Ok(found))
        })?;
        found.map_err(|oldest| JournalError::Forgotten { oldest })
    }
}

type ReadTables = (ReadOnlyTable<u64, Head<'static>>, ReadOnlyTable<(u64, u32), Row<'static>>);

/// The tables; `None` while nothing has been recorded.
fn readable(transaction: &ReadTransaction) -> Result<Option<ReadTables>, redb::Error> {
    match transaction.open_table(HEADS) {
        Ok(heads) => Ok(Some((heads, transaction.open_table(ROWS)?))),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn touches(
    rows: &impl ReadableTable<(u64, u32), Row<'static>>,
    revision: u64,
    path: &str,
) -> Result<bool, redb::Error> {
    for row in rows.range((revision, 0)..=(revision, u32::MAX))? {
        if row?.1.value().0 == path {
            return Ok(true);
        }
    }
    Ok(false)
}

fn entry(
    rows: &impl ReadableTable<(u64, u32), Row<'static>>,
    revision: u64,
    (at_ms, count, author): Head<'_>,
) -> Result<Entry, redb::Error> {
    let mut changes = Vec::with_capacity(count as usize);
    for row in rows.range((revision, 0)..=(revision, u32::MAX))? {
        let (_, row) = row?;
        let (path, before, after) = row.value();
        changes.push(EntryChange {
            path: path.to_owned(),
            before: before.map(Bytes::copy_from_slice),
            after: after.map(Bytes::copy_from_slice),
        });
    }
    let author =
        author.map(|(name, address)| Author { name: name.to_owned(), address: address.to_owned() });
    Ok(Entry { revision, at_ms, author, changes })
}

/// The table [`META`], opened for writing.
pub(crate) type MetaTable<'t> = Table<'t, &'static str, u64>;

/// The journal inside a write transaction: an entry and what it tells of are one commit.
pub(crate) struct Tables<'t> {
    heads: Table<'t, u64, Head<'static>>,
    rows: Table<'t, (u64, u32), Row<'static>>,
}

impl<'t> Tables<'t> {
    pub(crate) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self { heads: transaction.open_table(HEADS)?, rows: transaction.open_table(ROWS)? })
    }

    /// Adds an entry. Each change is a path with the text before and after.
    pub(crate) fn append<'a>(
        &mut self,
        meta: &mut MetaTable<'_>,
        (revision, at_ms, author): (u64, u64, Option<&Author>),
        changes: impl Iterator<Item = (&'a str, Option<&'a [u8]>, Option<&'a [u8]>)>,
    ) -> Result<(), redb::Error> {
        match self.newest()? {
            Some((newest, _)) if newest >= revision => {
                while let Some((newest, count)) = self.newest()?
                    && newest >= revision
                {
                    self.remove(newest, count)?;
                }
                meta.insert(OLDEST, revision)?;
            }
            Some(_) => {}
            None => {
                let oldest = meta.get(OLDEST)?.map(|oldest| oldest.value());
                if oldest.is_none_or(|oldest| oldest > revision) {
                    // The first entry tells what was there before it; one that is older than what
                    // is known to be forgotten begins anew.
                    let oldest = oldest.map_or(revision.saturating_sub(1), |_| revision);
                    meta.insert(OLDEST, oldest)?;
                }
            }
        }
        let mut count = 0;
        for row in changes {
            self.rows.insert((revision, count), row)?;
            count += 1;
        }
        let author = author.map(|author| (author.name.as_str(), author.address.as_str()));
        self.heads.insert(revision, (at_ms, count, author))?;
        Ok(())
    }

    /// Removes the oldest entries until at most `keep` are left.
    pub(crate) fn trim(&mut self, meta: &mut MetaTable<'_>, keep: u64) -> Result<(), redb::Error> {
        let mut removed = None;
        while self.heads.len()? > keep
            && let Some((revision, count)) = self.oldest()?
        {
            self.remove(revision, count)?;
            removed = Some(revision);
        }
        if let Some(revision) = removed
            && meta.get(OLDEST)?.is_none_or(|oldest| oldest.value() < revision)
        {
            meta.insert(OLDEST, revision)?;
        }
        Ok(())
    }

    /// The newest entry's revision and number of changes.
    fn newest(&self) -> Result<Option<(u64, u32)>, redb::Error> {
        Ok(self.heads.last()?.map(|(revision, head)| (revision.value(), head.value().1)))
    }

    /// The oldest entry's revision and number of changes.
    fn oldest(&self) -> Result<Option<(u64, u32)>, redb::Error> {
        Ok(self.heads.first()?.map(|(revision, head)| (revision.value(), head.value().1)))
    }

    fn remove(&mut self, revision: u64, count: u32) -> Result<(), redb::Error> {
        self.heads.remove(revision)?;
        if count <= FEW {
            for index in 0..count {
                self.rows.remove((revision, index))?;
            }
        } else {
            self.rows.retain_in((revision, 0)..=(revision, u32::MAX), |_, _| false)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(keep: u64) -> (Journal, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Journal::open(&folder.path().join("journal.redb"), keep).unwrap(), folder)
    }

    fn entry(revision: u64, paths: &[&str]) -> Entry {
        let change = |path: &&str| EntryChange {
            path: (*path).to_owned(),
            before: (revision > 1).then(|| Bytes::from(format!("{{\"v\":{}}}", revision - 1))),
            after: (!path.ends_with("gone")).then(|| Bytes::from(format!("{{\"v\":{revision}}}"))),
        };
        let author = (revision.is_multiple_of(2))
            .then(|| Author { name: "admin".to_owned(), address: "::1".to_owned() });
        let changes = paths.iter().map(change).collect();
        Entry { revision, at_ms: 1_700_000_000_000 + revision, author, changes }
    }

    fn revisions(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.revision).collect()
    }

    #[test]
    fn an_empty_journal() {
        let (journal, _folder) = journal(10);
        assert_eq!(journal.entries(None, None, 10), Ok(Vec::new()));
        assert_eq!(journal.since(0), Ok(Vec::new()));
        journal.record(&[]).unwrap();
        assert_eq!(journal.entries(None, Some("routes/1"), 10), Ok(Vec::new()));
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let (journal, folder) = journal(10);
        let one = entry(1, &["routes/1", "routes/2"]);
        let two = entry(2, &["routes/gone"]);
        let five = entry(5, &[]); // revisions of etcd have gaps
        journal.record(&[one.clone(), two.clone()]).unwrap();
        journal.record(std::slice::from_ref(&five)).unwrap();
        let check = |journal: &Journal| {
            assert_eq!(journal.since(0).unwrap(), [one.clone(), two.clone(), five.clone()]);
            assert_eq!(journal.since(1).unwrap(), [two.clone(), five.clone()]);
            assert_eq!(journal.since(5).unwrap(), []);
            assert_eq!(journal.since(u64::MAX).unwrap(), []);
        };
        check(&journal);
        drop(journal);
        check(&Journal::open(&folder.path().join("journal.redb"), 10).unwrap());
    }

    #[test]
    fn pages_and_paths() {
        let (journal, _folder) = journal(100);
        let entries: Vec<Entry> = (1..=9)
            .map(|n| entry(n, if n % 3 == 0 { &["routes/1", "routes/3"] } else { &["routes/1"] }))
            .collect();
        journal.record(&entries).unwrap();
        let page = |before, path, limit| revisions(&journal.entries(before, path, limit).unwrap());
        assert_eq!(page(None, None, 3), [9, 8, 7]);
        assert_eq!(page(Some(6), None, 2), [6, 5]);
        assert_eq!(page(None, Some("routes/3"), 10), [9, 6, 3]);
        assert_eq!(page(Some(8), Some("routes/3"), 1), [6]);
        assert!(page(None, Some("routes/"), 10).is_empty());
        assert!(page(Some(0), None, 10).is_empty());
        assert!(page(None, None, 0).is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (journal, _folder) = journal(3);
        journal.record(&(1..=5).map(|n| entry(n, &["a", "b"])).collect::<Vec<_>>()).unwrap();
        assert_eq!(revisions(&journal.entries(None, None, 10).unwrap()), [5, 4, 3]);
        assert_eq!(revisions(&journal.since(2).unwrap()), [3, 4, 5]);
        assert_eq!(journal.since(1), Err(JournalError::Forgotten { oldest: 2 }));
        // Nothing of them is left behind.
        let rows = journal
            .database()
            .unwrap()
            .read(|transaction| Ok(transaction.open_table(ROWS)?.len()?));
        assert_eq!(rows.unwrap(), 6);
    }

    #[test]
    fn an_entry_of_many_changes() {
        let (journal, _folder) = journal(1);
        let paths: Vec<String> = (0..20_000).map(|n| format!("routes/{n:05}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let large = entry(1, &paths);
        journal.record(std::slice::from_ref(&large)).unwrap();
        assert_eq!(journal.since(0).unwrap(), [large]);
        journal.record(&[entry(2, &["routes/1"])]).unwrap();
        let rows = journal
            .database()
            .unwrap()
            .read(|transaction| Ok(transaction.open_table(ROWS)?.len()?));
        assert_eq!(rows.unwrap(), 1);
    }

    #[test]
    fn a_store_that_was_set_back_begins_a_new_past() {
        let (journal, _folder) = journal(10);
        journal.record(&(1..=9).map(|n| entry(n, &["a", "b"])).collect::<Vec<_>>()).unwrap();
        let restored = entry(6, &["restored"]);
        journal.record(std::slice::from_ref(&restored)).unwrap();
        assert_eq!(revisions(&journal.entries(None, None, 10).unwrap()), [6, 5, 4, 3, 2, 1]);
        assert_eq!(journal.entries(None, None, 1).unwrap(), [restored]);
        assert_eq!(journal.since(5), Err(JournalError::Forgotten { oldest: 6 }));
        journal.record(&[entry(7, &["a"])]).unwrap();
        assert_eq!(revisions(&journal.since(6).unwrap()), [7]);
    }

    #[test]
    fn a_journal_that_begins_late() {
        let (journal, _folder) = journal(10);
        journal.begin(500).unwrap();
        assert_eq!(journal.since(499), Err(JournalError::Forgotten { oldest: 500 }));
        assert_eq!(journal.since(500), Ok(Vec::new()));
        journal.record(&[entry(510, &["a"])]).unwrap();
        assert_eq!(revisions(&journal.since(500).unwrap()), [510]);
        journal.begin(400).unwrap(); // says nothing new
        assert_eq!(journal.since(499), Err(JournalError::Forgotten { oldest: 500 }));
    }
}
