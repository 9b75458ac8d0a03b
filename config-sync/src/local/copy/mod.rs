//! The last good contents of a store that may be away when Osmia starts.
//!
//! A file that grows by what each commit changed, and is written anew when half of it no longer
//! holds: a change costs its own bytes, however many items there are, and the disk sees them one
//! behind the other.

mod frames;
mod rewrite;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use ahash::{AHashMap, RandomState};
use bytes::Bytes;

use self::frames::{ChangeRow, FORMAT, Frames, ItemRow, MAGIC, Row};
use self::rewrite::{Draft, Names, Progress, Rewrite, Written, each_item};
use super::files::{create_folder, folder_of, move_aside};
use crate::store::{Commit, Contents, Item};

/// Bytes that may be added before the file is written anew, however small its contents are.
const SPARE: u64 = 8 * 1024 * 1024;

/// Why the copy cannot be read or written. What is served does not depend on it.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Another process has the folder.
    #[error(
        "{0} is in use by another process: stop that one, or give this one an osmia.data_dir of its own"
    )]
    Locked(String),
    /// The disk does not do what it should.
    #[error("copy of the configuration, {path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
}

/// How much there is to do for [`Copy::step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// Nothing.
    Nothing,
    /// Something that can be done bit by bit.
    Slow,
    /// Something that should be done soon: contents that came as a whole are not in the file yet.
    Urgent,
}

/// The last good contents of another store. Methods block on the disk for a moment and are called
/// from a thread of their own.
///
/// After a crash the copy is as it was after one of the calls, not necessarily the last.
/// [`Copy::flush`] brings all of them to the disk.
pub struct Copy {
    path: PathBuf,
    source: String,
    /// Held while the copy is open, so that no other process writes to it.
    _lock: File,
    log: Log,
    rewrite: Option<Rewrite>,
    /// Whether a change was missed, so that nothing can be added until contents come as a whole.
    is_behind: bool,
}

/// The file, and what is known of it.
struct Log {
    written: Written,
    /// Its last revision; `None` when it has no contents.
    revision: Option<u64>,
    /// Length from which on it is written anew.
    limit: u64,
    /// Whether something was added that a crash would take away.
    is_unsaved: bool,
}

impl Log {
    fn new(written: Written, revision: Option<u64>) -> Self {
        let limit = 2 * written.whole + SPARE;
        Self { written, revision, limit, is_unsaved: false }
    }

    fn is_long(&self) -> bool {
        self.revision.is_some() && self.written.len > self.limit
    }

    /// Adds frames, all or none.
    fn add(&mut self, frames: &[u8]) -> io::Result<()> {
        if let Err(error) = self.written.file.write_all(frames) {
            // Half a frame would hide all that come behind it.
            let _ = self.written.file.set_len(self.written.len);
            return Err(error);
        }
        self.written.len += frames.len() as u64;
        self.is_unsaved = true;
        Ok(())
    }
}

impl Copy {
    /// Opens or creates the file, for a copy of `source` (endpoints, prefix), and gives what it has
    /// of that source; `None` when there never was anything. What it has of another source is
    /// removed, with a warning. A file that is damaged is moved aside, with a warning, and begun
    /// anew: the other store has the contents.
    pub fn open(path: &Path, source: &str) -> Result<(Self, Option<Contents>), CopyError> {
        let io_error = |error| CopyError::Io { path: path.display().to_string(), error };
        let lock =
            create_folder(path).and_then(|()| File::open(folder_of(path))).map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CopyError::Locked(path.display().to_string()));
            }
            Err(TryLockError::Error(error)) => return Err(io_error(error)),
        }
        let (log, contents) = open_log(path, source).map_err(io_error)?;
        let (path, source) = (path.to_owned(), source.to_owned());
        let copy = Self { path, source, _lock: lock, log, rewrite: None, is_behind: false };
        Ok((copy, contents))
    }

    /// Makes the copy equal to `contents`. When that differs from what it has, a new file is begun,
    /// for [`Copy::step`] to finish; until then a crash leaves the copy as it was before.
    pub fn replace(&mut self, contents: Contents) -> Result<(), CopyError> {
        let revision = contents.revision;
        // What a rewrite was given is not in the file.
        let is_given = matches!(self.rewrite.take(), Some(Rewrite::Given(_)));
        let is_current = !self.is_behind && !is_given && self.log.revision.is_some();
        let outcome = if is_current && self.holds(&contents) {
            self.add(&[Commit { revision, ..Commit::default() }])
        } else {
            Rewrite::given(&self.path, &self.source, contents).map(|it| self.rewrite = Some(it))
        };
        self.is_behind = outcome.is_err();
        self.log.revision = Some(revision);
        outcome.map_err(|error| self.error(error))
    }

    /// Applies commits to the copy, all or none. They survive the end of the process, a crash only
    /// after [`Copy::flush`]. After a failure they are left out, until contents come as a whole:
    /// see [`Copy::is_behind`].
    pub fn apply(&mut self, commits: &[Commit]) -> Result<(), CopyError> {
        let Some(last) = commits.last() else { return Ok(()) };
        if self.is_behind {
            return Ok(());
        }
        let outcome = self.add(commits);
        self.is_behind = outcome.is_err();
        self.log.revision = Some(last.revision);
        outcome.map_err(|error| self.error(error))
    }

    /// Whether a change is missing, since it could not be written. The copy stays at what it was,
    /// and wants [`Copy::replace`].
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// What there is to do for [`Copy::step`].
    pub fn pending(&self) -> Pending {
        match &self.rewrite {
            Some(Rewrite::Given(_)) => Pending::Urgent,
            Some(Rewrite::Compaction(_)) => Pending::Slow,
            None if self.log.is_long() && !self.is_behind => Pending::Slow,
            None => Pending::Nothing,
        }
    }

    /// Does a piece of what is pending: a few milliseconds.
    pub fn step(&mut self) -> Result<(), CopyError> {
        if self.pending() == Pending::Nothing {
            return Ok(());
        }
        let is_given = matches!(self.rewrite, Some(Rewrite::Given(_)));
        let rewrite = match self.rewrite.take() {
            Some(rewrite) => Ok(rewrite),
            None => {
                let revision = self.log.revision.unwrap_or_default();
                Rewrite::compaction(&self.path, &self.source, revision)
            }
        };
        match rewrite.and_then(|rewrite| rewrite.step(&self.path)) {
            Ok(Progress::More(rewrite)) => self.rewrite = Some(rewrite),
            Ok(Progress::Done(written)) => self.log = Log::new(written, self.log.revision),
            Err(error) => {
                // When it was only to become shorter, the old file still holds, unless it is what
                // cannot be read.
                self.is_behind |= is_given || error.kind() == ErrorKind::InvalidData;
                self.log.limit = self.log.written.len + self.log.written.len / 2;
                return Err(self.error(error));
            }
        }
        Ok(())
    }

    /// Waits until everything that was added is on the disk. Call it when changes have paused for a
    /// second, and now and then among many. After a failure see [`Copy::is_behind`].
    pub fn flush(&mut self) -> Result<(), CopyError> {
        if !std::mem::take(&mut self.log.is_unsaved) {
            return Ok(());
        }
        // The system forgets what it could not write, and says so once.
        let outcome = self.log.written.file.sync_data();
        self.is_behind |= outcome.is_err();
        outcome.map_err(|error| self.error(error))
    }

    /// Ends it in good order: what came as a whole is written to its end.
    pub fn close(mut self) -> Result<(), CopyError> {
        while self.pending() == Pending::Urgent {
            self.step()?;
        }
        self.flush()
    }

    /// From now on the disk is full, for what is added to the file.
    #[cfg(test)]
    pub(crate) fn break_disk(&mut self) {
        self.log.written.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
    }

    fn add(&mut self, commits: &[Commit]) -> io::Result<()> {
        let mut frames = Vec::new();
        for commit in commits {
            frames::append(&mut frames, &commit.into())?;
        }
        if let Some(Rewrite::Given(given)) = &mut self.rewrite {
            given.since.append(&mut frames);
            return Ok(());
        }
        self.log.add(&frames)
    }

    /// Whether the file has these very items. Not, when it cannot be read.
    fn holds(&self, contents: &Contents) -> bool {
        let (names, texts) = (Names::default(), RandomState::new());
        let mut found = AHashMap::with_capacity(contents.items.len());
        let read = Frames::open(&self.path).and_then(|mut frames| {
            each_item(&mut frames, u64::MAX, |_, change| {
                match change {
                    ChangeRow::Put(ItemRow { path, created, modified, value }) => {
                        found.insert(names.of(path), texts.hash_one((created, modified, value)))
                    }
                    ChangeRow::Delete(path) => found.remove(&names.of(path)),
                };
                Ok(())
            })
        });
        let mut items = contents.items.iter();
        read.is_ok()
            && found.len() == items.len()
            && items.all(|Item { path, created, modified, value }| {
                let text = texts.hash_one((*created, *modified, &**value));
                found.get(&names.of(path)) == Some(&text)
            })
    }

    fn error(&self, error: io::Error) -> CopyError {
        CopyError::Io { path: self.path.display().to_string(), error }
    }
}

/// What a file was found to be.
enum Found {
    Contents(Option<Contents>, Written),
    /// A copy of this source.
    Other(String),
    Damaged(String),
}

fn open_log(path: &Path, source: &str) -> io::Result<(Log, Option<Contents>)> {
    if path.try_exists()? {
        match read(path, source)? {
            Found::Contents(contents, written) => {
                let revision = contents.as_ref().map(|contents| contents.revision);
                return Ok((Log::new(written, revision), contents));
            }
            Found::Other(other) => {
                tracing::warn!("the copy on disk is of {other} and is not used for {source}");
            }
            Found::Damaged(reason) => {
                let path_text = path.display();
                let damage = format!(
                    "{path_text} is damaged, or is not a copy of the configuration ({reason})"
                );
                move_aside(path, &damage)?;
            }
        }
    }
    Ok((Log::new(Draft::begin(path, source)?.install(path)?, None), None))
}

fn read(path: &Path, source: &str) -> io::Result<Found> {
    let mut frames = Frames::open(path)?;
    match frames.next()?.map(|(_, row)| row) {
        Some(Row::Head { magic: MAGIC, format: FORMAT, source: found }) if found == source => {}
        Some(Row::Head { magic: MAGIC, format: FORMAT, source: found }) => {
            return Ok(Found::Other(found.to_owned()));
        }
        Some(Row::Head { magic: MAGIC, format, .. }) => {
            let reason = format!("its format is {format}, this version of Osmia knows {FORMAT}");
            return Ok(Found::Damaged(reason));
        }
        _ => return Ok(Found::Damaged("it does not begin like one".to_owned())),
    }
    let mut items = AHashMap::<String, (u64, u64, Bytes)>::default();
    let (mut revision, mut whole) = (None, 0);
    let mut take = |change: ChangeRow<'_>| match change {
        ChangeRow::Put(ItemRow { path, created, modified, value }) => {
            let item = (created, modified, Bytes::copy_from_slice(value));
            items.insert(path.to_owned(), item);
        }
        ChangeRow::Delete(path) => {
            items.remove(path);
        }
    };
    // Items count once all of them are there.
    let mut is_open = false;
    while let Some((_, row)) = frames.next()? {
        match row {
            Row::Head { .. } => return Ok(Found::Damaged("it has two beginnings".to_owned())),
            Row::Item(item) => {
                take(ChangeRow::Put(item));
                is_open = true;
            }
            Row::Whole { revision: found } => {
                (revision, is_open) = (Some(found), false);
                whole = frames.position();
            }
            Row::Commit { revision: found, changes } => {
                changes.into_iter().for_each(&mut take);
                revision = Some(found);
            }
        }
    }
    let (len, end) = (frames.position(), frames.end());
    if is_open {
        return Ok(Found::Damaged(format!("it cannot be read from byte {len} on")));
    }
    let file = OpenOptions::new().append(true).open(path)?;
    if len < end {
        // What a crash left of the last commits.
        tracing::warn!(
            "{}: {} bytes at the end were not written as a whole and are dropped; the copy is of \
             revision {}",
            path.display(),
            end - len,
            revision.unwrap_or_default()
        );
        file.set_len(len)?;
    }
    let contents = revision.map(|revision| Contents { revision, items: sorted(items) });
    Ok(Found::Contents(contents, Written { file, len, whole }))
}

fn sorted(items: AHashMap<String, (u64, u64, Bytes)>) -> Vec<Item> {
    let item = |(path, (created, modified, value))| Item { path, value, created, modified };
    let mut items: Vec<Item> = items.into_iter().map(item).collect();
    items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    items
}

#[cfg(test)]
mod tests;
