//! A file whose changes are noticed by looking at it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ahash::RandomState;

/// A file modified less than this before it was read may have been written to again without its
/// time stamp changing (file systems count in ticks, some in seconds).
const UNSETTLED: Duration = Duration::from_secs(2);

/// What tells one state of a file from another; symbolic links are followed, so that a link that is
/// pointed elsewhere (a Kubernetes `ConfigMap`) is a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The file, and what was seen of it last.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    /// The state that was read last; `None`: look again.
    seen: Option<Stamp>,
    /// The text that was read last; `None` when it could not be read.
    text: Option<u64>,
    /// Makes fingerprints of texts, which are not kept: they can be large.
    hasher: RandomState,
}

impl WatchedFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, seen: None, text: None, hasher: RandomState::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's text.
    pub(crate) fn read(&mut self) -> io::Result<String> {
        self.seen = None;
        self.text = None;
        // The stamp is older than the text: a change in between is seen the next time.
        let metadata = fs::metadata(&self.path)?;
        let text = fs::read_to_string(&self.path)?;
        self.seen = is_settled(&metadata).then(|| Stamp::of(&metadata));
        self.text = Some(self.hasher.hash_one(&text));
        Ok(text)
    }

    /// The file's text when it differs from what was read last, or could not be read then.
    pub(crate) fn read_if_changed(&mut self) -> io::Result<Option<String>> {
        if let (Some(seen), Ok(metadata)) = (self.seen, fs::metadata(&self.path))
            && seen == Stamp::of(&metadata)
        {
            return Ok(None);
        }
        let known = self.text.take();
        let text = self.read()?;
        Ok((known != self.text).then_some(text))
    }
}

fn is_settled(metadata: &Metadata) -> bool {
    let modified = metadata.modified().ok();
    let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age > UNSETTLED)
}
