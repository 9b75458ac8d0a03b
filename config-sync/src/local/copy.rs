//! The last good contents of a store that may be away when Osmia starts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ahash::AHashSet;
use bytes::Bytes;
use redb::{
    Durability, ReadableTable, ReadableTableMetadata, Table, TableDefinition, TableError,
    WriteTransaction,
};

use super::Journal;
use super::database::{Database, Finish, META, OpenError};
use crate::store::{Change, Commit, Contents, Item};

/// Path to revision of creation, of modification, and text.
const ITEMS: TableDefinition<&str, (u64, u64, &[u8])> = TableDefinition::new("copy");
const TEXTS: TableDefinition<&str, &str> = TableDefinition::new("copy_texts");
/// Key in [`META`]: the revision of the copy. There when there is a copy.
const REVISION: &str = "copy_revision";
/// Key in [`TEXTS`].
const SOURCE: &str = "source";

/// Why the copy cannot be read or written. What is served does not depend on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The file cannot be used: it is locked, or the disk does not do what it should.
    #[error("copy of the configuration: {0}")]
    Database(String),
}

impl From<redb::Error> for CopyError {
    fn from(error: redb::Error) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<OpenError> for CopyError {
    fn from(error: OpenError) -> Self {
        Self::Database(error.to_string())
    }
}

/// The last good contents of another store. Cheap to clone; methods block on the disk for a moment
/// and are called through `spawn_blocking` or from a thread of their own.
///
/// Each method is one transaction: after a crash the copy is as it was after one of the calls, not
/// necessarily the last. [`Copy::flush`] brings all of them to the disk.
#[derive(Debug, Clone)]
pub struct Copy {
    database: Arc<Database>,
}

impl Copy {
    /// Opens or creates the file. One that is damaged is moved aside, with a warning, and begun
    /// anew: the other store has the contents.
    pub fn open(path: &Path) -> Result<Self, CopyError> {
        let database = match Database::open(path) {
            Ok((database, _)) => database,
            Err(error @ OpenError::Damaged { .. }) => {
                let aside = move_aside(path)
                    .map_err(|reason| CopyError::Database(format!("{error}; {reason}")))?;
                tracing::warn!(
                    "{error}. It has been moved to {}, a new one is begun",
                    aside.display()
                );
                Database::open(path)?.0
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { database: Arc::new(database) })
    }

    /// A journal in the same file, keeping at most `keep` revisions.
    pub fn journal(&self, keep: u64) -> Journal {
        Journal::within(Arc::clone(&self.database), keep)
    }

    /// The contents; `None` when there never were any.
    pub fn load(&self) -> Result<Option<Contents>, CopyError> {
        let contents = self.database.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let Some(revision) = meta.get(REVISION)?.map(|revision| revision.value()) else {
                return Ok(None);
            };
            let table = transaction.open_table(ITEMS)?;
            let mut items = Vec::with_capacity(table.len()? as usize);
            for row in table.iter()? {
                let (path, item) = row?;
                let (created, modified, value) = item.value();
                items.push(Item {
                    path: path.value().to_owned(),
                    value: Bytes::copy_from_slice(value),
                    created,
                    modified,
                });
            }
            Ok(Some(Contents { revision, items }))
        })?;
        Ok(contents)
    }

    /// Makes the copy equal to `contents`; only what differs is written.
    pub fn replace(&self, contents: &Contents) -> Result<(), CopyError> {
        self.database.write(Durability::Immediate, |transaction| {
            let mut table = transaction.open_table(ITEMS)?;
            let wanted: AHashSet<&str> =
                contents.items.iter().map(|item| item.path.as_str()).collect();
            // Looked at first: a table of which everything stays is not written to.
            let mut gone = Vec::new();
            for row in table.iter()? {
                let (path, _) = row?;
                if !wanted.contains(path.value()) {
                    gone.push(path.value().to_owned());
                }
            }
            for path in &gone {
                table.remove(path.as_str())?;
            }
            for item in &contents.items {
                let row = (item.created, item.modified, item.value.as_ref());
                let same = table.get(item.path.as_str())?.is_some_and(|old| old.value() == row);
                if !same {
                    table.insert(item.path.as_str(), row)?;
                }
            }
            transaction.open_table(META)?.insert(REVISION, contents.revision)?;
            Ok(Finish::Commit(()))
        })?;
        Ok(())
    }

    /// Applies commits to the copy, all or none. They survive the end of the process, a crash only
    /// after [`Copy::flush`].
    pub fn apply(&self, commits: &[Commit]) -> Result<(), CopyError> {
        let Some(last) = commits.last() else { return Ok(()) };
        self.database.write(Durability::None, |transaction| {
            let mut table = transaction.open_table(ITEMS)?;
            for change in commits.iter().flat_map(|commit| &commit.changes) {
                apply(&mut table, change)?;
            }
            transaction.open_table(META)?.insert(REVISION, last.revision)?;
            Ok(Finish::Commit(()))
        })?;
        Ok(())
    }

    /// Waits until everything is on the disk. Call it when changes have paused for a second, and
    /// now and then among many: what has been applied since is what a crash takes away, and its
    /// pages are used again only afterwards.
    pub fn flush(&self) -> Result<(), CopyError> {
        self.database.write(Durability::Immediate, |_| Ok(Finish::Commit(())))?;
        Ok(())
    }

    /// What the contents are a copy of, as it was given to [`Copy::set_source`].
    pub fn source(&self) -> Result<Option<String>, CopyError> {
        let source = self.database.read(|transaction| match transaction.open_table(TEXTS) {
            Ok(table) => Ok(table.get(SOURCE)?.map(|source| source.value().to_owned())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        Ok(source)
    }

    /// Names what the contents are a copy of: endpoints, prefix. When that is another source than
    /// before, the contents are removed: what is loaded always belongs to the source.
    pub fn set_source(&self, source: &str) -> Result<(), CopyError> {
        self.database.write(Durability::Immediate, |transaction| {
            let mut texts = transaction.open_table(TEXTS)?;
            if texts.get(SOURCE)?.is_some_and(|old| old.value() == source) {
                return Ok(Finish::Abort(()));
            }
            texts.insert(SOURCE, source)?;
            clear(transaction)?;
            Ok(Finish::Commit(()))
        })?;
        Ok(())
    }
}

fn clear(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(META)?.remove(REVISION)?;
    transaction.delete_table(ITEMS)?;
    Ok(())
}

fn apply(
    table: &mut Table<'_, &'static str, (u64, u64, &'static [u8])>,
    change: &Change,
) -> Result<(), redb::Error> {
    match change {
        Change::Put(item) => {
            let row = (item.created, item.modified, item.value.as_ref());
            table.insert(item.path.as_str(), row)?;
        }
        Change::Delete { path } => {
            table.remove(path.as_str())?;
        }
    }
    Ok(())
}

fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", now.as_secs()));
    let aside = PathBuf::from(name);
    fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::local::Entry;

    fn item(path: &str, created: u64, modified: u64) -> Item {
        let value = Bytes::from(format!("{{\"modified\":{modified}}}"));
        Item { path: path.to_owned(), value, created, modified }
    }

    fn contents(revision: u64, items: &[Item]) -> Contents {
        Contents { revision, items: items.to_vec() }
    }

    #[test]
    fn a_copy_is_what_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new folder").join("local.redb");
        let copy = Copy::open(&path).unwrap();
        assert_eq!(copy.load(), Ok(None));
        assert_eq!(copy.source(), Ok(None));
        let first = contents(7, &[item("routes/1", 2, 3), item("routes/2", 7, 7)]);
        copy.replace(&first).unwrap();
        assert_eq!(copy.load().unwrap(), Some(first.clone()));
        drop(copy);
        let copy = Copy::open(&path).unwrap();
        assert_eq!(copy.load().unwrap(), Some(first));
        let second = contents(4, &[item("routes/2", 4, 4), item("services/1", 1, 1)]);
        copy.replace(&second).unwrap();
        assert_eq!(copy.load().unwrap(), Some(second));
        copy.replace(&Contents { revision: 5, items: Vec::new() }).unwrap();
        assert_eq!(copy.load().unwrap(), Some(Contents { revision: 5, items: Vec::new() }));
    }

    #[test]
    fn commits_are_applied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.redb");
        let copy = Copy::open(&path).unwrap();
        let mut mirror = BTreeMap::new();
        copy.apply(&[]).unwrap();
        assert_eq!(copy.load(), Ok(None));
        for revision in 1..=50 {
            let put = item(&format!("routes/{}", revision % 7), revision, revision);
            let gone = format!("routes/{}", (revision + 3) % 7);
            mirror.insert(put.path.clone(), put.clone());
            mirror.remove(&gone);
            let changes = vec![Change::Put(put), Change::Delete { path: gone }];
            copy.apply(&[Commit { revision, author: None, changes }]).unwrap();
        }
        let items: Vec<Item> = mirror.into_values().collect();
        assert_eq!(copy.load().unwrap(), Some(contents(50, &items)));
        copy.flush().unwrap();
        drop(copy);
        assert_eq!(Copy::open(&path).unwrap().load().unwrap(), Some(contents(50, &items)));
    }

    #[test]
    fn another_source_is_not_served_from_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let copy = Copy::open(&folder.path().join("local.redb")).unwrap();
        copy.set_source("http://a:2379/apisix").unwrap();
        let kept = contents(7, &[item("routes/1", 2, 3)]);
        copy.replace(&kept).unwrap();
        copy.set_source("http://a:2379/apisix").unwrap();
        assert_eq!(copy.load().unwrap(), Some(kept));
        copy.set_source("http://b:2379/apisix").unwrap();
        assert_eq!(copy.load(), Ok(None));
        assert_eq!(copy.source().unwrap().as_deref(), Some("http://b:2379/apisix"));
    }

    #[test]
    fn a_journal_shares_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.redb");
        let copy = Copy::open(&path).unwrap();
        let entry = Entry { revision: 3, at_ms: 1, author: None, changes: Vec::new() };
        copy.journal(5).record(std::slice::from_ref(&entry)).unwrap();
        copy.replace(&contents(3, &[item("routes/1", 3, 3)])).unwrap();
        drop(copy);
        let copy = Copy::open(&path).unwrap();
        assert_eq!(copy.journal(5).since(2).unwrap(), [entry]);
        assert_eq!(copy.load().unwrap().unwrap().revision, 3);
    }

    #[test]
    fn a_damaged_file_is_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.redb");
        let copy = Copy::open(&path).unwrap();
        let items: Vec<Item> = (1..500).map(|n| item(&format!("routes/{n:03}"), n, n)).collect();
        copy.replace(&contents(500, &items)).unwrap();
        drop(copy);
        let good = fs::read(&path).unwrap();
        let mut torn = good.clone();
        torn[good.len() / 2..].fill(0xA5);
        let short = good[..good.len() / 3].to_vec();
        for (number, bad) in [torn, short, b"{}".to_vec(), Vec::new()].iter().enumerate() {
            fs::write(&path, bad).unwrap();
            let copy = Copy::open(&path).unwrap();
            assert_eq!(copy.load(), Ok(None), "damage {number}");
            drop(copy);
            let aside = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find(|found| found.to_string_lossy().contains("damaged"))
                .unwrap();
            fs::remove_file(aside).unwrap();
        }
    }

    #[test]
    fn a_file_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.redb");
        let copy = Copy::open(&path).unwrap();
        let error = Copy::open(&path).unwrap_err().to_string();
        assert!(error.contains("in use by another process"), "{error}");
        assert_eq!(copy.load(), Ok(None));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
