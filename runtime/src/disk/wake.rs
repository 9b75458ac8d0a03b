//! The bell between workers and the disk thread: an eventfd.
//!
//! Both backends can wait for it (`poll` and a read through the ring), and ringing it runs nothing
//! but one `write` on the worker's thread: no code of the other side's runtime.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// An eventfd. Rings before the next wait are kept, several count as one.
#[derive(Debug)]
pub(super) struct Wake {
    file: File,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        // Blocking on purpose: `io_uring` answers a read of a non-blocking file at once with
        // EAGAIN.
        let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self { file: fd.into() })
    }

    /// Rings. Never blocks: the counter would have to reach 2^64 - 1 first.
    pub(super) fn notify(&self) {
        // The only errors are those of a closed or foreign descriptor, and this one is ours.
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }

    /// Blocks until the bell rings, or for `timeout`.
    pub(super) fn wait(&self, timeout: Option<Duration>) {
        if wait_for(&self.file, PollFlags::IN, timeout) {
            let _ = (&self.file).read(&mut [0; 8]);
        }
    }

    /// The descriptor, for a ring that wants one of its own.
    pub(super) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(Into::into)
    }
}

/// Waits until `file` is ready for `events`; `false` after `timeout`, and when a signal came first.
pub(super) fn wait_for(file: &File, events: PollFlags, timeout: Option<Duration>) -> bool {
    // A timeout too long for the kernel is as good as none.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    poll(&mut [PollFd::new(file, events)], timeout.as_ref()).is_ok_and(|ready| ready > 0)
}
