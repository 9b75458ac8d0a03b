//! The file behind the access log: what kind of thing the path is, opening it, rotating it.
//!
//! Everything here blocks on the file system; the backends run it where that is allowed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::DiskError;

/// Permissions of a new log file, before the umask: nginx's.
const FILE_MODE: u32 = 0o644;
/// Symbolic links followed in search of a standard stream.
const LINKS_MAX: usize = 8;

/// What writing to the path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file: appended to, rotated.
    Regular,
    /// A standard stream, pipe, terminal or device: written as it comes, never rotated.
    Stream,
}

/// An open log.
#[derive(Debug)]
pub(super) struct LogFile {
    /// As configured.
    pub(super) path: PathBuf,
    /// Where a regular file really is, symbolic links resolved: rotation works there.
    real: PathBuf,
    pub(super) file: File,
    pub(super) kind: Kind,
}

impl LogFile {
    /// Opens `path` for appending; creates it and its directory when missing. `/dev/stdout` and
    /// `/dev/stderr`, and links to them, are this process's own streams, whatever they are.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Open { path: path.to_owned(), source };
        let (file, kind) = if let Some(stream) = standard_stream(path) {
            // Even when it was redirected to a file, that file is not ours to rotate.
            (stream.map_err(failed)?, Kind::Stream)
        } else {
            create_parent(path)?;
            let file = open_path(path).map_err(failed)?;
            let is_file = file.metadata().map_err(failed)?.is_file();
            (file, if is_file { Kind::Regular } else { Kind::Stream })
        };
        Ok(Self {
            path: path.to_owned(),
            real: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
            file,
            kind,
        })
    }

    /// Bytes in the file now. Asked anew each time: others may truncate or append to it.
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// When the file was last written.
    pub(super) fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    /// What [`rotate`] needs to know, detached from `self` so that it may go to another thread.
    pub(super) fn rotation(&self, now: SystemTime, max_kept: usize) -> io::Result<Rotation> {
        let metadata = self.file.metadata()?;
        Ok(Rotation {
            path: self.path.clone(),
            real: self.real.clone(),
            identity: (metadata.dev(), metadata.ino()),
            stamp: local_stamp(now),
            max_kept,
        })
    }
}

/// The process's own stream when `path` is one, followed through symbolic links by name: opening
/// `/dev/stdout` fails when it is a socket, as under systemd.
fn standard_stream(path: &Path) -> Option<io::Result<File>> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match path.to_str() {
            Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => {
                return Some(io::stdout().as_fd().try_clone_to_owned().map(File::from));
            }
            Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => {
                return Some(io::stderr().as_fd().try_clone_to_owned().map(File::from));
            }
            _ => {}
        }
        let target = fs::read_link(&path).ok()?;
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    None
}

fn create_parent(path: &Path) -> Result<(), DiskError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::create_dir_all(parent)
            .map_err(|source| DiskError::Directory { path: parent.to_owned(), source }),
        _ => Ok(()),
    }
}

fn open_path(path: &Path) -> io::Result<File> {
    let is_fifo = fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo());
    let mut options = OpenOptions::new();
    if is_fifo {
        // Opened both ways it neither waits for a reader now nor breaks when the reader leaves.
        options.read(true).write(true);
    } else {
        options.append(true).create(true).mode(FILE_MODE);
    }
    options.open(path)
}

/// A rotation about to happen.
#[derive(Debug)]
pub(super) struct Rotation {
    path: PathBuf,
    real: PathBuf,
    /// Device and inode of the open file.
    identity: (u64, u64),
    stamp: String,
    max_kept: usize,
}

/// Moves the file at the path aside, opens a new one, and deletes rotated files beyond the newest
/// `max_kept`. On an error the open file is still the right one to write to.
pub(super) fn rotate(rotation: &Rotation) -> Result<LogFile, DiskError> {
    let failed = |source| DiskError::Rotate { path: rotation.path.clone(), source };
    // Somebody else may have moved the file away already: then a new one is all that is needed.
    let ours = fs::metadata(&rotation.real)
        .is_ok_and(|found| (found.dev(), found.ino()) == rotation.identity);
    let mut moved = None;
    if ours {
        let target = free_name(&rotation.real, &rotation.stamp);
        fs::rename(&rotation.real, &target).map_err(failed)?;
        moved = Some(target);
    }
    let opened = LogFile::open(&rotation.path);
    if opened.is_err()
        && let Some(target) = &moved
    {
        // Better an oversized log under its own name than one that nobody finds.
        let _ = fs::rename(target, &rotation.real);
        return opened;
    }
    if let Err(error) = prune(&rotation.real, rotation.max_kept) {
        tracing::warn!(
            path = %rotation.path.display(),
            %error,
            "access log: cannot delete old rotated files; check the directory's permissions"
        );
    }
    opened
}

/// `{path}.{stamp}`, or `{path}.{stamp}.{n}` when that is taken.
fn free_name(path: &Path, stamp: &str) -> PathBuf {
    let with_suffix = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut candidate = with_suffix(format!(".{stamp}"));
    let mut n = 1u32;
    while candidate.symlink_metadata().is_ok() {
        candidate = with_suffix(format!(".{stamp}.{n}"));
        n += 1;
    }
    candidate
}

/// Deletes all but the `keep` newest files that [`free_name`] named after `path`. The newest is the
/// one written last: names follow local time, which repeats an hour each autumn.
fn prune(path: &Path, keep: usize) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(());
    };
    let mut rotated = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let Some(order) = entry.file_name().to_str().and_then(|n| rotated_order(name, n)) else {
            continue;
        };
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            let written = (metadata.mtime(), metadata.mtime_nsec());
            rotated.push((written, order, entry.path()));
        }
    }
    rotated.sort();
    let excess = rotated.len().saturating_sub(keep);
    for (_, _, path) in &rotated[..excess] {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// The stamp and number in `candidate` when it is a rotated file of the log called `name`.
fn rotated_order(name: &str, candidate: &str) -> Option<(String, u32)> {
    let rest = candidate.strip_prefix(name)?.strip_prefix('.')?;
    let (stamp, n) = match rest.split_once('.') {
        Some((stamp, n)) => (stamp, n.parse().ok()?),
        None => (rest, 0),
    };
    let (date, time) = stamp.split_once('-')?;
    let digits = |s: &str, len| s.len() == len && s.bytes().all(|b| b.is_ascii_digit());
    (digits(date, 8) && digits(time, 6)).then(|| (stamp.to_owned(), n))
}

/// `YYYYMMDD-HHMMSS` in local time.
fn local_stamp(now: SystemTime) -> String {
    // A clock beyond the year 9999 still has to make a name.
    let now = jiff::Zoned::try_from(now).unwrap_or_default();
    now.strftime("%Y%m%d-%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_missing_directory_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/access.log");
        let log = LogFile::open(&path).unwrap();
        assert_eq!(log.kind, Kind::Regular);
        assert_eq!(log.len().unwrap(), 0);
        assert!(path.exists());
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = LogFile::open(dir.path()).unwrap_err();
        assert!(matches!(error, DiskError::Open { .. }), "{error:?}");
        assert!(error.to_string().contains(&*dir.path().to_string_lossy()));

        fs::write(dir.path().join("file"), "").unwrap();
        let error = LogFile::open(&dir.path().join("file/access.log")).unwrap_err();
        assert!(matches!(error, DiskError::Directory { .. }), "{error:?}");
    }

    #[test]
    fn standard_streams_are_found_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("access.log");
        std::os::unix::fs::symlink("/dev/stdout", &link).unwrap();
        assert!(standard_stream(&link).is_some());
        assert_eq!(LogFile::open(&link).unwrap().kind, Kind::Stream);
        assert_eq!(LogFile::open(Path::new("/dev/stderr")).unwrap().kind, Kind::Stream);
        assert_eq!(LogFile::open(Path::new("/dev/null")).unwrap().kind, Kind::Stream);

        let looped = dir.path().join("loop");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        assert!(standard_stream(&looped).is_none());
        assert!(LogFile::open(&looped).is_err());
    }

    fn rotate_now(log: &LogFile, keep: usize) -> LogFile {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        rotate(&log.rotation(now, keep).unwrap()).unwrap()
    }

    /// Names in `dir`, sorted.
    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn rotation_never_overwrites_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        fs::write(dir.path().join("access.log.20200101-000000.gz"), "packed").unwrap();
        fs::write(dir.path().join("access.log.20200101-00000x"), "other").unwrap();
        let mut log = LogFile::open(&path).unwrap();
        for n in 0..4 {
            fs::write(&path, n.to_string()).unwrap();
            log = rotate_now(&log, 10);
        }
        let stamp = local_stamp(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let rotated = |suffix: &str| dir.path().join(format!("access.log.{stamp}{suffix}"));
        for (suffix, text) in [("", "0"), (".1", "1"), (".2", "2"), (".3", "3")] {
            assert_eq!(fs::read_to_string(rotated(suffix)).unwrap(), text);
        }
        log = rotate_now(&log, 2);
        assert_eq!(
            names(dir.path()),
            [
                "access.log".to_owned(),
                "access.log.20200101-000000.gz".to_owned(),
                "access.log.20200101-00000x".to_owned(),
                format!("access.log.{stamp}.3"),
                format!("access.log.{stamp}.4"),
            ]
        );
        rotate_now(&log, 0);
        assert_eq!(names(dir.path()).len(), 3);
    }

    #[test]
    fn a_file_put_there_by_others_is_not_moved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = LogFile::open(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        fs::write(&path, "theirs").unwrap();
        let new = rotate_now(&log, 5);
        assert_eq!(new.len().unwrap(), 6);
        assert_eq!(names(dir.path()), ["access.log", "moved"]);
    }

    #[test]
    fn a_linked_log_is_rotated_where_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        let path = dir.path().join("access.log");
        std::os::unix::fs::symlink(real.join("data.log"), &path).unwrap();
        let log = LogFile::open(&path).unwrap();
        rotate_now(&log, 5);
        assert_eq!(names(dir.path()), ["access.log", "real"]);
        assert_eq!(names(&real).len(), 2);
    }

    #[test]
    fn stamps_have_their_form() {
        let stamp = local_stamp(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert!(stamp.starts_with("2023111"), "{stamp}");
        assert!(rotated_order("a.log", &format!("a.log.{stamp}")).is_some());
        for other in ["a.log", "a.log.", "a.log.20231114-22132", "a.log.20231114-221320.x", "b.log"]
        {
            assert_eq!(rotated_order("a.log", other), None, "{other}");
        }
    }
}
