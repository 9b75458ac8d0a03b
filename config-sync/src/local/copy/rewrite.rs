//! A new file in the place of the old one, a piece at a time: whoever waits for the thread that
//! does it, and whoever waits for the same disk, waits for a piece only.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use ahash::{AHashMap, RandomState};

use super::frames::{self, ChangeRow, FORMAT, Frames, MAGIC, Row};
use crate::local::files::Temporary;
use crate::store::{Contents, Item};

/// Bytes that one step reads or writes; few in tests, which have small files.
const STEP: u64 = if cfg!(test) { 1024 } else { 1024 * 1024 };

/// Paths as numbers of 128 bits, which no two of them share by chance; a fifth of the memory.
#[derive(Default)]
pub(super) struct Names([RandomState; 2]);

impl Names {
    pub(super) fn of(&self, path: &str) -> [u64; 2] {
        [self.0[0].hash_one(path), self.0[1].hash_one(path)]
    }
}

/// A file that is not yet under its name. Removed when it is dropped before.
pub(super) struct Draft {
    file: File,
    temporary: Temporary,
    /// What has not been written yet.
    buffer: Vec<u8>,
    written: u64,
    /// See [`Written`].
    whole: u64,
}

impl Draft {
    /// Begins one for `path`. What an earlier process left of its own is removed.
    pub(super) fn begin(path: &Path, source: &str) -> io::Result<Self> {
        let (temporary, file) = Temporary::create(path, OpenOptions::new().append(true))?;
        let mut draft = Self { file, temporary, buffer: Vec::new(), written: 0, whole: 0 };
        draft.add(&Row::Head { magic: MAGIC, format: FORMAT, source })?;
        Ok(draft)
    }

    fn add(&mut self, row: &Row<'_>) -> io::Result<()> {
        frames::append(&mut self.buffer, row)
    }

    /// Says that the contents have been added.
    fn end_contents(&mut self, revision: u64) -> io::Result<()> {
        self.add(&Row::Whole { revision })?;
        self.whole = self.written + self.buffer.len() as u64;
        Ok(())
    }

    /// Brings what was added to the disk: a little at a time, so that nobody meets all of it.
    fn save(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.file.sync_data()
    }

    /// Gives the file its name. What was there under it is gone.
    pub(super) fn install(mut self, path: &Path) -> io::Result<Written> {
        self.save()?;
        self.temporary.install(path)?;
        Ok(Written { file: self.file, len: self.written, whole: self.whole })
    }
}

/// A file that has its name, open for what comes next.
pub(super) struct Written {
    pub(super) file: File,
    /// Its length in bytes.
    pub(super) len: u64,
    /// Bytes up to the end of the contents that it was begun with; 0 when there were none.
    pub(super) whole: u64,
}

/// What a step has come to.
pub(super) enum Progress {
    More(Rewrite),
    Done(Written),
}

/// A file in the making.
pub(super) enum Rewrite {
    Given(Given),
    Compaction(Box<Compaction>),
}

/// From contents that were handed over as a whole.
pub(super) struct Given {
    draft: Draft,
    revision: u64,
    items: std::vec::IntoIter<Item>,
    /// Frames of the commits since.
    pub(super) since: Vec<u8>,
}

/// From the old file: what of it still holds.
pub(super) struct Compaction {
    draft: Draft,
    revision: u64,
    frames: Frames,
    names: Names,
    /// For each path that is there, the end of the frame that has its item.
    newest: AHashMap<[u64; 2], u64>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Finding out which items hold.
    Finding,
    /// Writing them.
    Writing,
    /// Adding what came meanwhile: from this place of the old file on.
    Following { from: u64 },
}

impl Rewrite {
    pub(super) fn given(path: &Path, source: &str, contents: Contents) -> io::Result<Self> {
        let draft = Draft::begin(path, source)?;
        let Contents { revision, items } = contents;
        Ok(Self::Given(Given { draft, revision, items: items.into_iter(), since: Vec::new() }))
    }

    /// Of the file under `path`, whose last commit is `revision`.
    pub(super) fn compaction(path: &Path, source: &str, revision: u64) -> io::Result<Self> {
        Ok(Self::Compaction(Box::new(Compaction {
            draft: Draft::begin(path, source)?,
            revision,
            frames: Frames::open(path)?,
            names: Names::default(),
            newest: AHashMap::default(),
            stage: Stage::Finding,
        })))
    }

    /// Goes one piece further; in the end the new file has taken the old one's place.
    pub(super) fn step(self, path: &Path) -> io::Result<Progress> {
        match self {
            Self::Given(given) => given.step(path),
            Self::Compaction(compaction) => compaction.step(path),
        }
    }
}

impl Given {
    fn step(mut self, path: &Path) -> io::Result<Progress> {
        while self.draft.buffer.len() < STEP as usize {
            let Some(item) = self.items.next() else {
                self.draft.end_contents(self.revision)?;
                self.draft.buffer.append(&mut self.since);
                return Ok(Progress::Done(self.draft.install(path)?));
            };
            self.draft.add(&Row::Item((&item).into()))?;
        }
        self.draft.save()?;
        Ok(Progress::More(Rewrite::Given(self)))
    }
}

impl Compaction {
    fn step(mut self: Box<Self>, path: &Path) -> io::Result<Progress> {
        match self.stage {
            Stage::Finding => {
                if self.find()? {
                    self.frames = Frames::open(path)?.up_to(self.frames.end());
                    self.stage = Stage::Writing;
                }
            }
            Stage::Writing => {
                if self.write()? {
                    self.draft.end_contents(self.revision)?;
                    self.newest = AHashMap::default();
                    self.stage = Stage::Following { from: self.frames.end() };
                }
                self.draft.save()?;
            }
            Stage::Following { from } => {
                let mut old = File::open(path)?;
                old.seek(SeekFrom::Start(from))?;
                let read = old.take(STEP).read_to_end(&mut self.draft.buffer)? as u64;
                if read < STEP {
                    return Ok(Progress::Done(self.draft.install(path)?));
                }
                self.draft.save()?;
                self.stage = Stage::Following { from: from + read };
            }
        }
        Ok(Progress::More(Rewrite::Compaction(self)))
    }

    /// Whether the end has been reached.
    fn find(&mut self) -> io::Result<bool> {
        let Self { frames, names, newest, .. } = self;
        each_item(frames, STEP, |at, change| {
            match change {
                ChangeRow::Put(item) => newest.insert(names.of(item.path), at),
                ChangeRow::Delete(path) => newest.remove(&names.of(path)),
            };
            Ok(())
        })
    }

    /// Whether the end has been reached.
    fn write(&mut self) -> io::Result<bool> {
        let Self { draft, frames, names, newest, .. } = self;
        each_item(frames, STEP, |at, change| match change {
            ChangeRow::Put(item) if newest.get(&names.of(item.path)) == Some(&at) => {
                draft.add(&Row::Item(item))
            }
            _ => Ok(()),
        })
    }
}

/// Hands over what the next frames say of items, and where each frame ends, until `piece` bytes
/// have been read. Whether that was all. Fails when the file cannot be read to its end.
pub(super) fn each_item(
    frames: &mut Frames,
    piece: u64,
    mut take: impl FnMut(u64, ChangeRow<'_>) -> io::Result<()>,
) -> io::Result<bool> {
    let stop = frames.position().saturating_add(piece);
    while frames.position() < stop {
        let Some((at, row)) = frames.next()? else {
            if frames.position() == frames.end() {
                return Ok(true);
            }
            let reason = format!("damaged at byte {}", frames.position());
            return Err(io::Error::new(ErrorKind::InvalidData, reason));
        };
        match row {
            Row::Item(item) => take(at, ChangeRow::Put(item))?,
            Row::Commit { changes, .. } => {
                changes.into_iter().try_for_each(|change| take(at, change))?;
            }
            Row::Head { .. } | Row::Whole { .. } => {}
        }
    }
    Ok(false)
}
