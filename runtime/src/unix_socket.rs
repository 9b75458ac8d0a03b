//! Unix domain sockets that are listened on, and their files.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// As nginx has it: who may connect is decided by the directory.
const MODE: u32 = 0o666;

/// The file of a listening socket; removed when this is dropped, unless it is another one by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether there is a file that is not a socket.
pub fn is_other_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket())
}

/// Listens on `path`, non-blocking. A socket's file that nobody listens on is replaced; one that
/// somebody does is `AddrInUse`.
pub fn bind(path: &Path, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    let addr = SockAddr::unix(path)?;
    let new = || Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None);
    match new()?.connect(&addr) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Left behind by a process that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        // Somebody listens, perhaps without accepting.
        _ => return Err(io::ErrorKind::AddrInUse.into()),
    }
    let socket = new()?;
    socket.bind(&addr)?;
    let file = SocketFile::of(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}
