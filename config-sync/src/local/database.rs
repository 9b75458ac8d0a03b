//! A redb file of Osmia's: how it is created, opened, and brought back after a failure.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    Builder, DatabaseError, Durability, ReadTransaction, ReadableDatabase, StorageError,
    TableDefinition, WriteTransaction,
};

use super::files::{Temporary, create_folder, move_aside};

/// Numbers of the whole file: its format, and revisions.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Key in [`META`].
const FORMAT: &str = "format";
/// Version of the tables of this folder and of the embedded store. Raise it when one of them
/// changes its meaning.
const FORMAT_VERSION: u64 = 1;
/// redb's cache of pages, in bytes. Small: what is served is in the snapshot, and the kernel has
/// the file's pages as well.
const CACHE: usize = 2 * 1024 * 1024;

/// Why a file cannot be opened, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "{0} is in use by another process: stop that one, or give this one an osmia.data_dir of its own"
    )]
    Locked(String),
    #[error(
        "{path} is damaged, or is not a database of Osmia ({reason}): restore it from a backup, or move it away to begin with an empty one"
    )]
    Damaged { path: String, reason: String },
    #[error(
        "{path} has format {found}, this version of Osmia knows format {FORMAT_VERSION}: use the version that wrote it"
    )]
    Format { path: String, found: u64 },
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
}

/// What a write does in the end.
pub(crate) enum Finish<T> {
    /// Keep what was written.
    Commit(T),
    /// Nothing was changed; saves the disk the work.
    Abort(T),
}

/// An open file. Reading goes on while somebody writes; two writers take turns.
///
/// After a failed write (a full disk) redb wants the file to be opened again, since only the disk
/// knows whether the write took effect. That is tried with the next call.
pub(crate) struct Database {
    path: PathBuf,
    /// `None` after a failed write, until it has been opened again.
    open: RwLock<Option<redb::Database>>,
}

impl Database {
    /// Opens the file, or creates it with its folder. Tells whether it was created.
    pub(crate) fn open(path: &Path) -> Result<(Self, bool), OpenError> {
        let (database, created) =
            if exists(path)? { (open_existing(path)?, false) } else { create(path)? };
        let open = RwLock::new(Some(database));
        Ok((Self { path: path.to_owned(), open }, created))
    }

    /// The same for what can do without the past: a file that is damaged is moved aside, with a
    /// warning, and begun anew.
    pub(crate) fn open_or_begin(path: &Path) -> Result<Self, OpenError> {
        match Self::open(path) {
            Ok((database, _)) => Ok(database),
            Err(damaged @ OpenError::Damaged { .. }) => {
                move_aside(path, &damaged.to_string()).map_err(|error| io_error(path, error))?;
                Ok(Self::open(path)?.0)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on the contents as they are now. Blocks on the disk.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        self.recover()?;
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let database = open.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        contained(|| work(&database.begin_read()?))
    }

    /// Runs `work` in a transaction of its own. When this fails the outcome is unknown.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<Finish<T>, redb::Error>,
    ) -> Result<T, redb::Error> {
        self.recover()?;
        let result = {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            let database = open.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            contained(|| {
                let mut transaction = database.begin_write()?;
                transaction.set_durability(durability)?;
                Ok(match work(&transaction)? {
                    Finish::Commit(result) => {
                        transaction.commit()?;
                        result
                    }
                    Finish::Abort(result) => {
                        transaction.abort()?;
                        result
                    }
                })
            })
        };
        if result.is_err() {
            *self.open.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    /// Opens the file again after a failed write; does nothing when there was none.
    pub(crate) fn recover(&self) -> Result<(), redb::Error> {
        if self.open.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            let opened = open_existing(&self.path)
                .map_err(|error| redb::Error::Io(io::Error::other(error.to_string())))?;
            *open = Some(opened);
        }
        Ok(())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

/// redb answers some damages of a file with a panic; here they are errors like all others.
fn contained<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("found while it was used".to_owned())))
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|error| io_error(path, error))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // Reads the whole file, so that a damage is found now and not in the middle of a request.
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

fn open_existing(path: &Path) -> Result<redb::Database, OpenError> {
    let opened = catch_unwind(AssertUnwindSafe(|| builder().open(path)));
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(error)) => return Err(open_error(path, error)),
        Err(_) => return Err(damaged(path, "its pages contradict each other")),
    };
    match contained(|| format_of(&database)) {
        Ok(FORMAT_VERSION) => Ok(database),
        Ok(found) => Err(OpenError::Format { path: path.display().to_string(), found }),
        Err(error) => Err(damaged(path, &error.to_string())),
    }
}

fn format_of(database: &redb::Database) -> Result<u64, redb::Error> {
    let format = database.begin_read()?.open_table(META)?.get(FORMAT)?.map(|found| found.value());
    format.ok_or_else(|| redb::Error::Corrupted("it does not say its format".to_owned()))
}

/// Makes the file under another name first: under its own name there is never a half-made one.
fn create(path: &Path) -> Result<(redb::Database, bool), OpenError> {
    let io_error = |error| io_error(path, error);
    create_folder(path).map_err(io_error)?;
    let (temporary, file) =
        Temporary::create(path, OpenOptions::new().read(true).write(true)).map_err(io_error)?;
    let database = FileBackend::new(file)
        .and_then(|backend| builder().create_with_backend(backend))
        .map_err(|error| open_error(path, error))?;
    contained(|| {
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert(FORMAT, FORMAT_VERSION)?;
        Ok(transaction.commit()?)
    })
    .map_err(|error| io_error(io::Error::other(error.to_string())))?;
    if exists(path)? {
        // Another process was quicker. It holds the file, and the error says so.
        drop((database, temporary));
        return Ok((open_existing(path)?, false));
    }
    temporary.install(path).map_err(io_error)?;
    Ok((database, true))
}

fn damaged(path: &Path, reason: &str) -> OpenError {
    OpenError::Damaged { path: path.display().to_string(), reason: reason.to_owned() }
}

fn io_error(path: &Path, error: io::Error) -> OpenError {
    OpenError::Io { path: path.display().to_string(), error }
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked(path.display().to_string())
        }
        DatabaseError::Storage(StorageError::Io(error))
            if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            io_error(path, error)
        }
        other => damaged(path, &other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn number(database: &Database) -> Option<u64> {
        let read = database.read(|transaction| {
            Ok(transaction.open_table(META)?.get("number")?.map(|number| number.value()))
        });
        read.unwrap()
    }

    fn set(database: &Database, number: u64) {
        let write = database.write(Durability::Immediate, |transaction| {
            transaction.open_table(META)?.insert("number", number)?;
            Ok(Finish::Commit(()))
        });
        write.unwrap();
    }

    #[test]
    fn created_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data").join("file.redb");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(folder.path().join("data/file.redb.new"), "left behind").unwrap();
        let (database, created) = Database::open(&path).unwrap();
        assert!(created);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        set(&database, 5);
        drop(database);
        let (database, created) = Database::open(&path).unwrap();
        assert!(!created);
        assert_eq!(number(&database), Some(5));
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.redb");
        let why = || Database::open(&path).unwrap_err();
        fs::write(&path, "routes:\n  - id: 1\n").unwrap();
        assert!(matches!(why(), OpenError::Damaged { .. }), "{}", why());
        fs::remove_file(&path).unwrap();
        drop(redb::Database::create(&path).unwrap());
        assert!(matches!(why(), OpenError::Damaged { .. }), "{}", why());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(why(), OpenError::Io { .. }), "{}", why());
        fs::remove_dir(&path).unwrap();
        let (database, _) = Database::open(&path).unwrap();
        assert!(matches!(why(), OpenError::Locked(_)), "{}", why());
        let newer = database.write(Durability::Immediate, |transaction| {
            transaction.open_table(META)?.insert(FORMAT, FORMAT_VERSION + 1)?;
            Ok(Finish::Commit(()))
        });
        newer.unwrap();
        drop(database);
        assert!(matches!(why(), OpenError::Format { found, .. } if found == FORMAT_VERSION + 1));
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_the_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.redb");
        let (database, _) = Database::open(&path).unwrap();
        set(&database, 1);
        let failed = database.write(Durability::Immediate, |transaction| {
            transaction.open_table(META)?.insert("number", 2)?;
            Err::<Finish<()>, _>(redb::Error::Corrupted("as a test".to_owned()))
        });
        assert!(failed.is_err());
        assert_eq!(number(&database), Some(1));
        let failed = database.write(Durability::Immediate, |transaction| {
            transaction.open_table(META)?.insert("number", 3)?;
            panic!("as a test")
        });
        assert!(matches!(failed, Err::<(), _>(redb::Error::Corrupted(_))));
        set(&database, number(&database).unwrap() + 10);
        assert_eq!(number(&database), Some(11));
    }

    #[test]
    fn nothing_is_written_by_what_is_aborted() {
        let folder = tempfile::tempdir().unwrap();
        let (database, _) = Database::open(&folder.path().join("file.redb")).unwrap();
        set(&database, 1);
        let aborted = database.write(Durability::Immediate, |transaction| {
            transaction.open_table(META)?.insert("number", 2)?;
            Ok(Finish::Abort("seen"))
        });
        assert_eq!(aborted.unwrap(), "seen");
        assert_eq!(number(&database), Some(1));
    }
}
