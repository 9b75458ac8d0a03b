//! The event loop under a worker: `io_uring` with the best flags the kernel takes, else epoll.

use std::fmt;
use std::future::Future;
use std::io;

use io_uring::{IoUring, Probe, opcode};
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};
use osmia_core::settings::Driver;
use thiserror::Error;

/// Submission queue entries; more operations at once are submitted in several calls.
const ENTRIES: u32 = 1024;
/// Completion queue entries: one per connection may complete in the same turn.
const COMPLETIONS: u32 = 8192;

/// What a worker runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `io_uring`, with the flags that were accepted.
    IoUring(Flags),
    /// epoll.
    Epoll,
}

/// Ring set-up flags, best first. The difference is large: with `DEFER_TASKRUN` completions are
/// processed when the loop asks for them, and never interrupt it (see perf/README.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flags {
    /// `SINGLE_ISSUER | DEFER_TASKRUN`, Linux 6.1.
    Deferred,
    /// `COOP_TASKRUN`, Linux 5.19.
    Cooperative,
    /// None.
    Plain,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring(Flags::Deferred) => "io_uring (SINGLE_ISSUER|DEFER_TASKRUN)",
            Self::IoUring(Flags::Cooperative) => "io_uring (COOP_TASKRUN)",
            Self::IoUring(Flags::Plain) => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// Why there is no event loop.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The configuration insists on `io_uring`.
    #[error(
        "io_uring is not available: {0}. Allow it (sysctl kernel.io_uring_disabled=0, and a \
         seccomp profile that permits io_uring_setup), or set osmia.driver to auto or epoll"
    )]
    IoUring(io::Error),
    /// epoll cannot be set up either.
    #[error("cannot set up epoll: {0}")]
    Epoll(io::Error),
}

/// An event loop, bound to the thread that made it.
pub enum EventLoop {
    /// On `io_uring`.
    IoUring(Runtime<IoUringDriver>, Flags),
    /// On epoll.
    Epoll(Runtime<LegacyDriver>),
}

impl EventLoop {
    /// The best event loop that `choice` and the kernel allow. `fallback` is told why `io_uring`
    /// is not used.
    pub fn new(choice: Driver, fallback: impl FnOnce(&io::Error)) -> Result<Self, DriverError> {
        if choice != Driver::Epoll {
            match io_uring_loop() {
                Ok((runtime, flags)) => return Ok(Self::IoUring(runtime, flags)),
                Err(error) if choice == Driver::IoUring => return Err(DriverError::IoUring(error)),
                Err(error) => fallback(&error),
            }
        }
        let runtime = RuntimeBuilder::<LegacyDriver>::new().build().map_err(DriverError::Epoll)?;
        Ok(Self::Epoll(runtime))
    }

    /// What it runs on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::IoUring(_, flags) => Kind::IoUring(*flags),
            Self::Epoll(_) => Kind::Epoll,
        }
    }

    /// Runs `future` to its end, and the tasks it spawns beside it.
    pub fn run<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::IoUring(runtime, _) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

fn io_uring_loop() -> io::Result<(Runtime<IoUringDriver>, Flags)> {
    check_operations()?;
    let mut last = None;
    for flags in [Flags::Deferred, Flags::Cooperative, Flags::Plain] {
        let mut ring = IoUring::builder();
        ring.setup_cqsize(COMPLETIONS);
        match flags {
            Flags::Deferred => {
                ring.setup_single_issuer().setup_defer_taskrun();
            }
            Flags::Cooperative => {
                ring.setup_coop_taskrun();
            }
            Flags::Plain => {}
        }
        let built = RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(ENTRIES)
            .uring_builder(ring)
            .build();
        match built {
            Ok(runtime) => return Ok((runtime, flags)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
}

/// An old kernel may have rings, but not all operations that are used.
fn check_operations() -> io::Result<()> {
    let ring = IoUring::new(2)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::Accept::CODE,
        opcode::Connect::CODE,
        opcode::PollAdd::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Close::CODE,
    ];
    if needed.iter().all(|code| probe.is_supported(*code)) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel lacks operations (needs 5.6)"))
    }
}
