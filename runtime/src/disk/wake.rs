//! The bell between workers and the disk thread: an eventfd.
//!
//! Both backends can wait for it (`poll` and a read through the ring), and ringing it runs nothing
//! but one `write` on the worker's thread: no code of the other side's runtime.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

/// An eventfd. Rings before the next wait are kept, several count as one.
#[derive(Debug)]
pub(super) struct Wake {
    file: File,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        // Blocking on purpose: `io_uring` answers a read of a non-blocking file at once with EAGAIN.
        // SAFETY: `eventfd` takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { file: fd.into() })
    }

    /// Rings. Never blocks: the counter would have to reach 2^64 - 1 first.
    pub(super) fn notify(&self) {
        // The only errors are those of a closed or foreign descriptor, and this one is ours.
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }

    /// Blocks until the bell rings, or for `timeout`.
    pub(super) fn wait(&self, timeout: Option<Duration>) {
        if wait_for(&self.file, libc::POLLIN, timeout) {
            let _ = (&self.file).read(&mut [0; 8]);
        }
    }

    /// The descriptor, for a ring that wants one of its own.
    pub(super) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(Into::into)
    }
}

/// Waits until `file` is ready for `events` (`POLLIN`, `POLLOUT`); `false` after `timeout`, and
/// when a signal came first.
pub(super) fn wait_for(file: &File, events: libc::c_short, timeout: Option<Duration>) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 };
    // Rounded up: waking just before a deadline would only poll again.
    let milliseconds = timeout.map_or(-1, |t| {
        libc::c_int::try_from(t.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: `poll` is one valid pollfd that lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) > 0 }
}
