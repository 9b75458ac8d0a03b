//! The disk thread: one thread that writes the access log, so that no worker ever waits for a disk.
//!
//! ```text
//! worker 0 ---\                                   /-- ring.rs   glommio: direct I/O on io_uring
//! worker 1 ----+-- queue.rs -- writer.rs (loop) --+
//! worker N ---/    bounded      | file.rs         \-- plain.rs  system calls: streams, fallback
//!      ^                        | rotation, reopen
//!      +---- empty buffers -----+ report.rs
//! ```
//!
//! A worker formats lines (`osmia_core::access_log`) into a buffer and hands it over whole; the
//! thread collects batches for a moment, appends them, and gives the buffers back. A slow disk
//! fills the queue; then batches are dropped and their lines counted.
//!
//! **Invariant:** the file holds exactly the bytes handed over, in whole lines, whatever happens to
//! the file, the disk or the process around it, or the loss is counted and logged.

mod file;
mod plain;
mod queue;
mod report;
mod ring;
#[cfg(test)]
mod tests;
mod wake;
mod writer;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use osmia_core::settings::AccessLog;

use self::file::{Kind, LogFile};
pub use self::queue::LogSink;
use self::queue::Shared;
use self::writer::{RotationRules, Writer};

/// Why the disk thread does not start, or what went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The directory of the log is missing and cannot be created.
    #[error("cannot create the directory {} for the access log: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The log cannot be opened for appending.
    #[error(
        "cannot open the access log {}: {source}; check nginx_config.http.access_log and the \
         permissions of the user osmia runs as",
        path.display()
    )]
    Open {
        /// The path as configured.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The log cannot be moved aside.
    #[error("cannot rotate the access log {}: {source}", path.display())]
    Rotate {
        /// The path as configured.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No thread or no descriptor for it.
    #[error("cannot start the disk thread: {0}")]
    Thread(#[source] io::Error),
    /// The thread ended before it was told to. It logged why.
    #[error("the disk thread ended by itself")]
    Died,
    /// Not everything was written in time: the disk, or the reader of a pipe, is stuck.
    #[error("the access log {} was not written within {waited:?}", path.display())]
    Deadline {
        /// The path as configured.
        path: PathBuf,
        /// How long the shutdown waited.
        waited: Duration,
    },
}

/// How the disk thread reaches the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// glommio on `io_uring`, with direct I/O where the file system has it.
    Ring,
    /// Plain system calls.
    Plain,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "glommio (io_uring)",
            Self::Plain => "plain writes",
        })
    }
}

/// The running disk thread. Dropping it asks the thread to write what it has and end, without
/// waiting for that; [`DiskThread::shutdown`] waits.
#[derive(Debug)]
pub struct DiskThread {
    sink: LogSink,
    shared: Arc<Shared>,
    path: PathBuf,
    backend: Backend,
    /// Disconnected when the thread is through.
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl DiskThread {
    /// Opens the log and starts the thread. To be called from an unpinned thread: the disk thread
    /// inherits its cores.
    ///
    /// # Errors
    /// [`DiskError::Directory`], [`DiskError::Open`] and [`DiskError::Thread`], before anything
    /// runs. A missing `io_uring` is none: plain writes take over, and the log says so.
    pub fn start(config: &AccessLog) -> Result<Self, DiskError> {
        Self::start_with(config, Hooks::default())
    }

    fn start_with(config: &AccessLog, hooks: Hooks) -> Result<Self, DiskError> {
        let log = LogFile::open(&config.path)?;
        let rules = RotationRules {
            bytes: config.rotate_bytes,
            interval: config.rotate_interval,
            max_kept: config.max_kept,
        };
        let (sink, inlet) =
            queue::queue(config.queue, config.buffer_bytes).map_err(DiskError::Thread)?;
        let shared = Arc::clone(&inlet.shared);
        let (ready, started) = bounded(1);
        let (running, done) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("osmia-disk".to_owned())
            .spawn(move || {
                let _running: Sender<()> = running;
                block_signals();
                let writer = &mut Writer::new(inlet, log, rules, hooks.clock);
                #[cfg(test)]
                {
                    writer.faults = hooks.faults;
                }
                run(writer, hooks.preference, &ready);
            })
            .map_err(DiskError::Thread)?;
        let mut disk = Self {
            sink,
            shared,
            path: config.path.clone(),
            backend: Backend::Plain,
            done,
            thread: Some(thread),
        };
        disk.backend = started.recv().map_err(|_| DiskError::Died)?;
        Ok(disk)
    }

    /// A sink for one worker.
    pub fn sink(&self) -> LogSink {
        self.sink.clone()
    }

    /// The backend the thread started with.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Opens the path anew, as after logrotate's `mv` (SIGUSR1). What was submitted before still
    /// goes to the old file. If the path cannot be opened, the old file stays in use and the log
    /// says why. Does not block.
    pub fn reopen(&self) {
        self.shared.reopen();
    }

    /// Writes everything submitted so far and ends the thread. Workers must have ended before, or
    /// what they submit is dropped.
    ///
    /// # Errors
    /// [`DiskError::Deadline`] when the thread is still busy after `deadline`; it is left alone and
    /// ends with the process. [`DiskError::Died`] when it had ended by itself.
    pub fn shutdown(mut self, deadline: Duration) -> Result<(), DiskError> {
        self.shared.stop();
        if self.done.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
            return Err(DiskError::Deadline { path: self.path.clone(), waited: deadline });
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(DiskError::Died),
            _ => Ok(()),
        }
    }
}

impl Drop for DiskThread {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// What the thread does: the preferred backend first, plain writes when that fails.
fn run(writer: &mut Writer, preference: Preference, ready: &Sender<Backend>) {
    let say = |backend| {
        move || {
            // `start` waits for the first message only.
            let _ = ready.try_send(backend);
        }
    };
    if writer.kind() == Kind::Regular && preference != Preference::Plain {
        let direct = preference == Preference::RingDirect;
        match ring::serve(writer, direct, say(Backend::Ring)) {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "disk thread: using plain writes instead"),
        }
    }
    if let Err(error) = plain::serve(writer, say(Backend::Plain)) {
        tracing::error!(%error, "disk thread ended; the access log is lost until a restart");
    }
}

/// Signals are for the main thread; here they would interrupt waiting for the disk.
fn block_signals() {
    const BLOCKED: [libc::c_int; 9] = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGCHLD,
        libc::SIGALRM,
        libc::SIGWINCH,
    ];
    // SAFETY: `sigset_t` is a plain C type that `sigemptyset` initialises.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for writing, the signal numbers are constants of the system, and a
    // null pointer for the old mask is allowed. Changes this thread's mask only.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in BLOCKED {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Which backend to use for regular files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(not(test), allow(dead_code, reason = "tests run each backend"))]
enum Preference {
    /// The ring with direct I/O, as far as possible.
    #[default]
    RingDirect,
    /// The ring through the page cache.
    RingBuffered,
    /// System calls.
    Plain,
}

/// Where the wall clock comes from; only rotation asks.
#[derive(Clone)]
struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    fn now(&self) -> SystemTime {
        (self.0)()
    }
}

/// What tests replace.
struct Hooks {
    preference: Preference,
    clock: Clock,
    #[cfg(test)]
    faults: tests::Faults,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            preference: Preference::default(),
            clock: Clock(Arc::new(SystemTime::now)),
            #[cfg(test)]
            faults: tests::Faults::default(),
        }
    }
}
