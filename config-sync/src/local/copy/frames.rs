//! The file's format: frames, one behind the other, each with its length and its checksum.
//!
//! A frame is `length: u32`, `checksum: u32` (CRC-32 of what follows), both little-endian, and
//! `length` bytes that are a [`Row`] in postcard's encoding. Frames are only ever added at the end,
//! so that a crash can cost the last of them, and never one before.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::store::{Change, Commit, Item};

/// What the first row says, so that the file is known for what it is.
pub(super) const MAGIC: &str = "osmia: last good configuration";
/// Version of the rows. Raise it when one of them changes its meaning.
pub(super) const FORMAT: u32 = 1;

/// Length and checksum.
const HEADER: usize = 8;
/// How much is read at once.
const READ: usize = 64 * 1024;

/// What a frame says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Row<'a> {
    /// The first of the file.
    Head {
        magic: &'a str,
        format: u32,
        /// What the contents are a copy of.
        source: &'a str,
    },
    /// One of the contents as they were when the file was begun.
    Item(#[serde(borrow)] ItemRow<'a>),
    /// All items have been given. Commits follow.
    Whole { revision: u64 },
    /// What a commit did.
    Commit {
        revision: u64,
        #[serde(borrow)]
        changes: Vec<ChangeRow<'a>>,
    },
}

/// See [`Item`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct ItemRow<'a> {
    pub(super) path: &'a str,
    pub(super) created: u64,
    pub(super) modified: u64,
    #[serde(with = "serde_bytes")]
    pub(super) value: &'a [u8],
}

/// See [`Change`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum ChangeRow<'a> {
    Put(#[serde(borrow)] ItemRow<'a>),
    Delete(&'a str),
}

impl<'a> From<&'a Item> for ItemRow<'a> {
    fn from(item: &'a Item) -> Self {
        let Item { path, value, created, modified } = item;
        Self { path, created: *created, modified: *modified, value }
    }
}

impl<'a> From<&'a Change> for ChangeRow<'a> {
    fn from(change: &'a Change) -> Self {
        match change {
            Change::Put(item) => Self::Put(item.into()),
            Change::Delete { path } => Self::Delete(path),
        }
    }
}

impl<'a> From<&'a Commit> for Row<'a> {
    fn from(commit: &'a Commit) -> Self {
        let changes = commit.changes.iter().map(ChangeRow::from).collect();
        Self::Commit { revision: commit.revision, changes }
    }
}

/// Adds a frame. Fails when a row does not fit one (4 GiB), and adds nothing then.
pub(super) fn append(frames: &mut Vec<u8>, row: &Row<'_>) -> io::Result<()> {
    let start = frames.len();
    let mut buffer = std::mem::take(frames);
    buffer.extend_from_slice(&[0; HEADER]);
    *frames = postcard::to_extend(row, buffer).map_err(io::Error::other)?;
    let (header, body) = frames[start..].split_at_mut(HEADER);
    let Ok(length) = u32::try_from(body.len()) else {
        frames.truncate(start);
        return Err(io::Error::new(ErrorKind::FileTooLarge, "a commit of more than 4 GiB"));
    };
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Ok(())
}

/// Reads a file's frames from its beginning.
pub(super) struct Frames {
    input: BufReader<File>,
    /// Where the next frame begins.
    at: u64,
    /// Where to stop.
    end: u64,
    body: Vec<u8>,
}

impl Frames {
    /// Reads what the file has now; what is added later is not seen.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        Ok(Self { input: BufReader::with_capacity(READ, file), at: 0, end, body: Vec::new() })
    }

    /// The same, up to this byte at most.
    pub(super) fn up_to(self, end: u64) -> Self {
        Self { end: self.end.min(end), ..self }
    }

    /// Bytes of the frames that have been read.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Bytes of the file.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The next row, and where its frame ends; `None` at the end, or when what comes next was not
    /// written as a whole. Then [`Frames::position`] is less than [`Frames::end`], and nothing
    /// behind it can be used.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Row<'_>)>> {
        let Some(rest) = (self.end - self.at).checked_sub(HEADER as u64) else { return Ok(None) };
        let mut header = [0; HEADER];
        self.input.read_exact(&mut header)?;
        let [a, b, c, d, checksum @ ..] = header;
        let length = u32::from_le_bytes([a, b, c, d]);
        // Not more than there is: a length may be anything after a crash.
        if u64::from(length) > rest {
            return Ok(None);
        }
        self.body.resize(length as usize, 0);
        self.input.read_exact(&mut self.body)?;
        if crc32fast::hash(&self.body) != u32::from_le_bytes(checksum) {
            return Ok(None);
        }
        let Ok((row, [])) = postcard::take_from_bytes(&self.body) else { return Ok(None) };
        self.at += (HEADER + self.body.len()) as u64;
        Ok(Some((self.at, row)))
    }
}
