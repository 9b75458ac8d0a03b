//! The sync thread: follows the store and serves the Admin, Control and status API.
//!
//! One thread with a tokio runtime of its own. It may be slow, it may not be wrong, and no worker
//! ever waits for it.

mod follow;
mod open;
mod serve;

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use osmia_core::reply::Failure;
use osmia_core::settings::Settings;
use osmia_core::snapshot::Snapshot;
use tokio::sync::mpsc;

use crate::compile;
use crate::health;
use crate::publish::{Publisher, WorkerFeed};
use crate::store::StoreError;
use follow::Command;

/// By how much the sync thread, and what it starts, is nicer (`nice(1)`) than the workers.
const NICER: i32 = 10;

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be used with these settings.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The first configuration cannot be used.
    #[error("{source_name}: {reason}")]
    Load {
        /// The store.
        source_name: String,
        /// What is wrong.
        reason: String,
    },
    /// An API cannot listen, or its certificate cannot be used; the message names the setting.
    #[error("{0}")]
    Listen(String),
    /// The thread, its runtime or an eventfd cannot be created.
    #[error("cannot start the sync thread: {0}")]
    Thread(#[from] io::Error),
}

/// The line to the sync thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SyncHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::UnboundedSender<Command>,
    publisher: Arc<Publisher>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Starts the sync thread. Returns when the first configuration is there, or, with etcd, when it is
/// clear that it has to be waited for; until then requests are answered with 503. `workers` is how
/// many workers there will be.
pub fn start(settings: &Settings, workers: usize) -> Result<SyncHandle, StartError> {
    let first =
        Snapshot { router: compile::refusing(Failure::NotConfigured), ..Snapshot::default() };
    let (publisher, retired) = Publisher::new(Arc::new(first));
    let (reports, reported) = health::channel();
    let publisher = Arc::new(publisher.with_reports(reports));
    let (commands, received) = mpsc::unbounded_channel();
    let (started, outcome) = crossbeam_channel::bounded(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .thread_name("osmia-blocking")
        .build()?;
    let (settings, to_workers) = (settings.clone(), Arc::clone(&publisher));
    let thread = std::thread::Builder::new().name("osmia-sync".to_owned()).spawn(move || {
        give_way();
        let tell: Sender<Result<(), StartError>> = started;
        let ends = follow::Ends { commands: received, retired, reported, started: tell };
        let run = follow::run(settings, workers, to_workers, ends);
        if std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run))).is_err() {
            tracing::error!(
                "the sync thread has panicked: the configuration stays as it is until a restart"
            );
        }
        runtime.shutdown_background();
    })?;
    let stopped = || io::Error::other("it ended before it was ready; see the messages above");
    match outcome.recv() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let _ = thread.join();
            return Err(error);
        }
        Err(_) => return Err(StartError::Thread(stopped())),
    }
    let thread = Mutex::new(Some(thread));
    Ok(SyncHandle { shared: Arc::new(Shared { commands, publisher, thread }) })
}

/// Lets the calling thread, and those that it starts, go behind the workers on the cores that they
/// share. When all cores are busy they still have a tenth of one.
fn give_way() {
    // The operator's own `nice` stays what it was for the workers.
    let nice = rustix::process::getpriority_process(None)
        .and_then(|nice| rustix::process::setpriority_process(None, (nice + NICER).min(19)));
    if let Err(error) = nice {
        tracing::debug!("the sync thread keeps its priority: {error}");
    }
}

impl SyncHandle {
    /// Adds a worker, at any time. The current snapshot is waiting in the feed.
    ///
    /// Fails when no file descriptor is left for the eventfd.
    pub fn subscribe(&self) -> io::Result<WorkerFeed> {
        self.shared.publisher.subscribe()
    }

    /// Looks at the store again at once, and asks for the addresses of all names again.
    pub fn reload(&self) {
        // Nobody listens only when the thread has ended, which was reported then.
        let _ = self.shared.commands.send(Command::Reload);
    }

    /// Revision of the current snapshot.
    pub fn revision(&self) -> u64 {
        self.shared.publisher.current().revision
    }

    /// The current snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.shared.publisher.current()
    }

    /// Ends the thread and waits for it: what was acknowledged is on disk, what serves has ended.
    pub fn stop(&self) {
        let _ = self.shared.commands.send(Command::Stop);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// Reads what [`start`] would read from this machine's files, and says what is wrong with it.
/// Databases and etcd are not looked at: they may be in use, or elsewhere. Returns warnings.
pub fn check(settings: &Settings) -> Result<Vec<String>, StartError> {
    open::check(settings)
}
