//! Files that are made, replaced and moved aside as a whole. Only their owner may read them:
//! configuration has secrets in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates the folder that a file is in, unless it is there.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder_of(path))
}

/// Gives a file that cannot be used another name, for somebody to look at, and says so. `damage` is
/// a sentence without its full stop.
pub(super) fn move_aside(path: &Path, damage: &str) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let aside = beside(path, &format!(".damaged-{}", now.as_secs()));
    fs::rename(path, &aside)?;
    tracing::warn!("{damage}. It has been moved to {}, a new one is begun", aside.display());
    Ok(())
}

/// The name of a file in the making: under its own there is never a half-made one. The file is
/// removed when this is dropped before [`Temporary::install`].
pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// Makes a file for `path`. What an earlier process left of its own is removed.
    pub(super) fn create(path: &Path, options: &mut OpenOptions) -> io::Result<(Self, File)> {
        let name = beside(path, ".new");
        match fs::remove_file(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = options.create_new(true).mode(0o600).open(&name)?;
        Ok((Self(name), file))
    }

    /// Gives the file its name. What was there under it is gone.
    pub(super) fn install(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.0, path)?;
        File::open(folder_of(path))?.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
