//! The thread that keeps the workers' configuration current.

mod file;

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use osmia_core::settings::ConfigProvider;
use osmia_core::snapshot::Snapshot;

use crate::builtin;
use crate::compile::{Compiled, Compiler};
use crate::publish::{Publisher, WorkerFeed};
use crate::resources::Resources;
use crate::standalone::{self, LoadError};
use file::WatchedFile;

/// How often the standalone file is looked at, as APISIX does.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// After how many looks a configuration that was refused is tried again although it did not change:
/// the reason may be gone, such as a name that could not be resolved.
const RETRY_TICKS: u32 = 10;

/// Why the first configuration could not be loaded. Nothing has been started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{source_name}: {reason}")]
    Load {
        /// The file, or `built-in configuration`.
        source_name: String,
        /// What is wrong with it.
        reason: LoadError,
    },
    /// The thread could not be started.
    #[error("cannot start the sync thread: {0}")]
    Thread(io::Error),
}

/// What a reload did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// A new snapshot with this revision was published.
    Published(u64),
    /// The configuration means the same as before.
    Unchanged,
}

/// Why a reload did nothing; the last good configuration stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// What the source says is wrong; the text names the source and the reason.
    #[error("{0}")]
    Refused(String),
    /// The sync thread has stopped.
    #[error("the sync thread has stopped")]
    Stopped,
}

/// Controls the sync thread. When the last handle is dropped the thread ends.
#[derive(Debug, Clone)]
pub struct SyncHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: Sender<Command>,
    publisher: Arc<Publisher>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Command {
    Reload(Option<Sender<Result<Reloaded, ReloadError>>>),
    Stop,
}

/// Loads the first configuration from `provider` and starts the thread `osmia-sync`, which follows
/// its changes.
pub fn start(provider: &ConfigProvider) -> Result<SyncHandle, StartError> {
    let mut source = Source::new(provider);
    let mut compiler = Compiler::default();
    let first = source.load().and_then(|resources| Ok(compiler.compile(resources, 1)?));
    let first = match first {
        Ok(Compiled::Changed(snapshot)) => snapshot,
        Ok(Compiled::Unchanged) => Arc::new(Snapshot { revision: 1, ..Snapshot::default() }),
        Err(reason) => return Err(StartError::Load { source_name: source.name(), reason }),
    };
    let routes = first.router.len();
    tracing::info!(source = source.name(), revision = 1, routes, "configuration loaded");
    let (publisher, retired) = Publisher::new(first);
    let publisher = Arc::new(publisher);
    let (commands, received) = crossbeam_channel::unbounded();
    let sync = SyncThread::new(source, compiler, Arc::clone(&publisher));
    let thread = std::thread::Builder::new()
        .name("osmia-sync".to_owned())
        .spawn(move || sync.run_guarded(&received, &retired))
        .map_err(StartError::Thread)?;
    let thread = Mutex::new(Some(thread));
    Ok(SyncHandle { shared: Arc::new(Shared { commands, publisher, thread }) })
}

impl SyncHandle {
    /// A feed for one worker, with the current snapshot waiting in it. For a worker that was
    /// restarted as well.
    ///
    /// Fails when the process is out of file descriptors.
    pub fn subscribe(&self) -> io::Result<WorkerFeed> {
        self.shared.publisher.subscribe()
    }

    /// Asks the thread to read its source again, changed or not, and to resolve host names anew.
    /// Returns at once; the outcome goes to the log.
    pub fn reload(&self) {
        // A stopped thread has nothing to reload.
        let _ = self.shared.commands.send(Command::Reload(None));
    }

    /// Like [`Self::reload`], but waits for the outcome.
    pub fn reload_and_wait(&self) -> Result<Reloaded, ReloadError> {
        let (reply, outcome) = crossbeam_channel::bounded(1);
        let command = Command::Reload(Some(reply));
        self.shared.commands.send(command).map_err(|_| ReloadError::Stopped)?;
        outcome.recv().map_err(|_| ReloadError::Stopped)?
    }

    /// The revision of the latest snapshot.
    pub fn revision(&self) -> u64 {
        self.shared.publisher.current().revision
    }

    /// The latest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.shared.publisher.current()
    }

    /// Ends the thread and waits for it. Workers keep the snapshot they have.
    pub fn stop(&self) {
        let _ = self.shared.commands.send(Command::Stop);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It ends without panicking, see `run_guarded`.
            let _ = thread.join();
        }
    }
}

/// Where resources come from.
enum Source {
    Builtin,
    File(WatchedFile),
}

impl Source {
    fn new(provider: &ConfigProvider) -> Self {
        match provider {
            ConfigProvider::Embedded { .. } | ConfigProvider::Etcd(_) => Self::Builtin,
            ConfigProvider::File { path, .. } => Self::File(WatchedFile::new(path.clone())),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Builtin => "built-in configuration".to_owned(),
            Self::File(file) => file.path().display().to_string(),
        }
    }

    /// Reads the source, whether it changed or not.
    fn load(&mut self) -> Result<Resources, LoadError> {
        match self {
            Self::Builtin => builtin::resources(),
            Self::File(file) => {
                let path = file.path().clone();
                parse(&path, file.read()?)
            }
        }
    }

    /// Reads the source when it may have changed.
    fn poll(&mut self) -> Result<Option<Resources>, LoadError> {
        match self {
            Self::Builtin => Ok(None),
            Self::File(file) => {
                let path = file.path().clone();
                file.read_if_changed()?.map(|text| parse(&path, text)).transpose()
            }
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<Resources, LoadError> {
    let parsed = standalone::parse_with_process_env(text)?;
    for warning in parsed.warnings {
        tracing::warn!("{}: {warning}", path.display());
    }
    Ok(parsed.resources)
}

/// The thread's state.
struct SyncThread {
    source: Source,
    compiler: Compiler,
    publisher: Arc<Publisher>,
    /// The message about the refusal that was logged last, so that it is logged once.
    refused: Option<String>,
    /// Looks since the last refusal.
    ticks: u32,
}

impl SyncThread {
    fn new(source: Source, compiler: Compiler, publisher: Arc<Publisher>) -> Self {
        Self { source, compiler, publisher, refused: None, ticks: 0 }
    }

    /// Runs until told to stop. After a panic, which is a defect, workers go on with what they
    /// have.
    fn run_guarded(self, commands: &Receiver<Command>, retired: &Receiver<Arc<Snapshot>>) {
        let run = AssertUnwindSafe(|| self.run(commands, retired));
        if std::panic::catch_unwind(run).is_err() {
            tracing::error!(
                "the sync thread has panicked: the configuration stays as it is until a restart"
            );
        }
    }

    fn run(mut self, commands: &Receiver<Command>, retired: &Receiver<Arc<Snapshot>>) {
        let ticker = crossbeam_channel::tick(POLL_INTERVAL);
        loop {
            crossbeam_channel::select! {
                recv(commands) -> command => match command {
                    Ok(Command::Reload(reply)) => {
                        let outcome = self.reload();
                        if let Some(reply) = reply {
                            // Whoever asked may have gone.
                            let _ = reply.send(outcome);
                        }
                    }
                    Ok(Command::Stop) | Err(_) => return,
                },
                // The outcome has been logged.
                recv(ticker) -> _ => drop(self.tick()),
                // Freeing old snapshots is this thread's work, not the workers'.
                recv(retired) -> snapshot => drop(snapshot),
            }
        }
    }

    /// Looks whether the source has changed.
    fn tick(&mut self) -> Result<Reloaded, ReloadError> {
        self.ticks += 1;
        if self.refused.is_some() && self.ticks >= RETRY_TICKS {
            self.ticks = 0;
            return self.reload();
        }
        let polled = self.source.poll();
        self.apply(polled)
    }

    /// Reads the source, changed or not.
    fn reload(&mut self) -> Result<Reloaded, ReloadError> {
        let loaded = self.source.load();
        self.apply(loaded.map(Some))
    }

    fn apply(
        &mut self,
        loaded: Result<Option<Resources>, LoadError>,
    ) -> Result<Reloaded, ReloadError> {
        let revision = self.publisher.current().revision + 1;
        let compiled = match loaded {
            Ok(None) => return Ok(Reloaded::Unchanged),
            Ok(Some(resources)) => {
                self.compiler.compile(resources, revision).map_err(LoadError::Resources)
            }
            Err(error) => Err(error),
        };
        match compiled {
            Ok(compiled) => Ok(self.accept(compiled)),
            Err(error) => Err(self.refuse(&error, revision - 1)),
        }
    }

    fn accept(&mut self, compiled: Compiled) -> Reloaded {
        let source = self.source.name();
        if self.refused.take().is_some() {
            tracing::info!(source, "configuration is valid again");
        }
        match compiled {
            Compiled::Unchanged => Reloaded::Unchanged,
            Compiled::Changed(snapshot) => {
                let (revision, routes) = (snapshot.revision, snapshot.router.len());
                self.publisher.publish(snapshot);
                tracing::info!(source, revision, routes, "configuration published");
                Reloaded::Published(revision)
            }
        }
    }

    fn refuse(&mut self, error: &LoadError, kept: u64) -> ReloadError {
        let message = format!("{}: {error}", self.source.name());
        if self.refused.as_ref() != Some(&message) {
            tracing::error!("configuration not accepted, keeping revision {kept}: {message}");
            self.refused = Some(message.clone());
            self.ticks = 0;
        }
        ReloadError::Refused(message)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::IpAddr;

    use super::*;
    use crate::compile::Resolve;

    /// Knows the names that the test has told it.
    #[derive(Clone, Default)]
    struct Names(Arc<Mutex<HashMap<String, IpAddr>>>);

    impl Resolve for Names {
        fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            let ip = self.0.lock().unwrap().get(host).copied();
            ip.map(|ip| vec![ip]).ok_or_else(|| io::Error::other("no such name"))
        }
    }

    fn sync(file: &Path, names: &Names) -> SyncThread {
        let source = Source::new(&ConfigProvider::yaml(file.to_owned()));
        let (publisher, _) = Publisher::new(Arc::new(Snapshot::default()));
        SyncThread::new(source, Compiler::new(Box::new(names.clone())), Arc::new(publisher))
    }

    #[test]
    fn a_refused_configuration_is_tried_again_and_logged_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("apisix.yaml");
        let text = "routes: [{uri: /, upstream: {nodes: {'late.example:80': 1}}}]\n#END";
        std::fs::write(&file, text).unwrap();
        let names = Names::default();
        let mut sync = sync(&file, &names);
        assert!(matches!(sync.tick(), Err(ReloadError::Refused(_))));
        names.0.lock().unwrap().insert("late.example".to_owned(), [127, 0, 0, 1].into());
        for _ in 1..RETRY_TICKS {
            assert_eq!(sync.tick(), Ok(Reloaded::Unchanged));
        }
        assert_eq!(sync.tick(), Ok(Reloaded::Published(1)));
        assert_eq!(sync.refused, None);
    }

    #[test]
    fn the_same_refusal_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("apisix.yaml");
        let mut sync = sync(&file, &Names::default());
        assert!(sync.tick().is_err());
        let missing = sync.refused.clone();
        assert!(missing.is_some());
        assert!(sync.tick().is_err());
        assert_eq!(sync.refused, missing);
        std::fs::write(&file, "routes: 1\n#END").unwrap();
        assert!(sync.tick().is_err());
        assert_ne!(sync.refused, missing);
        std::fs::write(&file, "routes: []\n#END").unwrap();
        assert_eq!(sync.tick(), Ok(Reloaded::Published(1)));
        assert_eq!(sync.refused, None);
    }
}
