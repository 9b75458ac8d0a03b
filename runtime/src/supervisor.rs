//! The main thread: starts workers, restarts those that die, and follows signals.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use osmia_config_sync::sync::SyncHandle;
use osmia_core::access_log::Format;
use osmia_core::settings::{Listener, Settings};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::disk::DiskThread;
use crate::listen::{Bound, Socket};
use crate::log::AccessLog;
use crate::worker::PipelineSettings;
use crate::worker::driver::Kind;
use crate::worker::stats::Stats;
use crate::worker::thread::{self, Command, Control, Plan};

/// A worker that dies again within this time is restarted only after it.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How long the access log may take to be written at the end.
const LOG_DEADLINE: Duration = Duration::from_secs(5);
/// How often it is looked for dropped lines of the access log.
const LOG_LOOK: Duration = Duration::from_secs(5);
/// How long workers may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How often it is looked whether they have.
const STOP_POLL: Duration = Duration::from_millis(2);
/// How long a worker may take to start.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// The access log of the process.
#[derive(Debug)]
pub struct LogPlan {
    /// Compiled format.
    pub format: Arc<Format>,
    /// The thread that writes.
    pub disk: DiskThread,
    /// Bytes that a worker collects.
    pub batch_bytes: usize,
}

/// Owns everything that outlives a worker.
pub struct Supervisor {
    settings: Settings,
    pipeline: PipelineSettings,
    bound: Vec<Bound>,
    sync: SyncHandle,
    log: Option<LogPlan>,
    workers: Vec<Supervised>,
    exits: (Sender<usize>, Receiver<usize>),
}

struct Supervised {
    core: Option<usize>,
    control: Option<Arc<Control>>,
    stats: Arc<Stats>,
    thread: Option<JoinHandle<()>>,
    started: Instant,
}

/// What ends the supervisor's loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Drain,
}

impl Supervisor {
    /// Prepares workers on `cores` with the sockets of `bound`.
    pub fn new(
        settings: Settings,
        cores: Vec<Option<usize>>,
        bound: Vec<Bound>,
        sync: SyncHandle,
        log: Option<LogPlan>,
    ) -> Self {
        let workers = cores
            .into_iter()
            .map(|core| Supervised {
                core,
                control: None,
                stats: Arc::default(),
                thread: None,
                started: Instant::now(),
            })
            .collect();
        let pipeline = PipelineSettings::from(&settings);
        Self { settings, pipeline, bound, sync, log, workers, exits: unbounded() }
    }

    /// Starts everything and runs until a signal ends it.
    pub fn run(mut self) -> anyhow::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1])
            .context("cannot handle signals")?;
        let mut driver = None;
        for id in 0..self.workers.len() {
            match self.start_worker(id) {
                Ok(kind) => driver = Some(kind),
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        }
        self.announce(driver);
        let (signal, signalled) = unbounded();
        std::thread::Builder::new()
            .name("osmia-signals".to_owned())
            .spawn(move || {
                for number in signals.forever() {
                    if signal.send(number).is_err() {
                        return;
                    }
                }
            })
            .context("cannot start the signal thread")?;
        let end = self.follow(&signalled);
        self.end_with(end, &signalled);
        Ok(())
    }

    fn announce(&self, driver: Option<Kind>) {
        let cores: Vec<_> = self.workers.iter().filter_map(|worker| worker.core).collect();
        let addresses: Vec<_> =
            self.bound.iter().map(|bound| bound.listener.addr.to_string()).collect();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            driver = driver.map(|kind| kind.to_string()),
            workers = self.workers.len(),
            cores = ?cores,
            addresses = addresses.join(", "),
            revision = self.sync.revision(),
            "osmia is ready"
        );
    }

    fn start_worker(&mut self, id: usize) -> anyhow::Result<Kind> {
        let control = Arc::new(Control::new().context("cannot create an eventfd")?);
        let (ready, started) = bounded(1);
        let plan = Plan {
            id,
            core: self.workers[id].core,
            driver: self.settings.driver,
            settings: self.pipeline.clone(),
            listeners: self.listeners(id)?,
            feed: self.sync.subscribe().context("cannot create an eventfd")?,
            control: Arc::clone(&control),
            stats: Arc::clone(&self.workers[id].stats),
            log: self.log.as_ref().map(|log| {
                AccessLog::new(Arc::clone(&log.format), log.disk.sink(), log.batch_bytes)
            }),
            ready,
        };
        let exits = self.exits.0.clone();
        let thread = thread::spawn(plan, move || {
            // The supervisor outlives its workers.
            let _ = exits.send(id);
        })
        .context("cannot start a worker thread")?;
        let worker = &mut self.workers[id];
        worker.control = Some(control);
        worker.thread = Some(thread);
        worker.started = Instant::now();
        match started.recv_timeout(START_DEADLINE) {
            Ok(kind) => Ok(kind?),
            Err(_) => Err(anyhow!("worker {id} did not start; see the messages above")),
        }
    }

    /// The worker's own copies of its sockets: the originals stay open while it is restarted, so
    /// that connections wait rather than being refused.
    fn listeners(&self, id: usize) -> anyhow::Result<Vec<(Socket, Listener)>> {
        self.bound
            .iter()
            .map(|bound| {
                let socket = bound.sockets.get(id).context("no socket for the worker")?;
                let socket = socket.try_clone().context("cannot duplicate a socket")?;
                Ok((socket, bound.listener.clone()))
            })
            .collect()
    }

    /// Serves until a signal says otherwise.
    fn follow(&mut self, signals: &Receiver<i32>) -> End {
        let look = crossbeam_channel::tick(LOG_LOOK);
        let mut dropped = 0;
        loop {
            crossbeam_channel::select! {
                recv(look) -> _ => self.report_dropped_lines(&mut dropped),
                recv(signals) -> signal => match signal {
                    Ok(SIGTERM | SIGINT) | Err(_) => return End::Stop,
                    Ok(SIGQUIT) => return End::Drain,
                    Ok(SIGHUP) => {
                        tracing::info!("SIGHUP: reading the routes again");
                        self.sync.reload();
                    }
                    Ok(SIGUSR1) => {
                        if let Some(log) = &self.log {
                            tracing::info!("SIGUSR1: reopening the access log");
                            log.disk.reopen();
                        }
                    }
                    Ok(_) => {}
                },
                recv(self.exits.1) -> id => if let Ok(id) = id {
                    self.restart(id);
                },
            }
        }
    }

    /// The disk thread cannot say so while it is stuck in a write.
    fn report_dropped_lines(&self, known: &mut u64) {
        let now = self.log.as_ref().map_or(0, |log| log.disk.sink().dropped_lines());
        if now > std::mem::replace(known, now) {
            tracing::warn!(
                lines = now,
                "access log lines were dropped since the start: the disk, or whoever reads the \
                 log, is too slow; see osmia.access_log.queue"
            );
        }
    }

    fn restart(&mut self, id: usize) {
        if let Some(thread) = self.workers[id].thread.take() {
            let panicked = thread.join().is_err();
            tracing::error!(worker = id, panicked, "a worker ended unexpectedly; restarting it");
        }
        let age = self.workers[id].started.elapsed();
        std::thread::sleep(RESTART_PAUSE.saturating_sub(age));
        match self.start_worker(id) {
            Ok(kind) => tracing::info!(worker = id, driver = %kind, "the worker is back"),
            Err(error) => tracing::error!(worker = id, "cannot restart the worker: {error:#}"),
        }
    }

    fn end_with(mut self, end: End, signals: &Receiver<i32>) {
        if end == End::Drain {
            let timeout = self.settings.shutdown_timeout;
            tracing::info!(?timeout, "draining: accepted requests are finished, no new ones taken");
            self.command(Command::Drain);
            self.wait_for_workers(Instant::now() + timeout, signals);
        } else {
            tracing::info!("stopping");
        }
        self.end();
    }

    /// Waits until all workers have ended, the deadline passes, or a signal says to stop at once.
    fn wait_for_workers(&mut self, deadline: Instant, signals: &Receiver<i32>) {
        let mut running = self.workers.iter().filter(|worker| worker.thread.is_some()).count();
        while running > 0 {
            let timeout = deadline.saturating_duration_since(Instant::now());
            crossbeam_channel::select! {
                recv(self.exits.1) -> _ => running -= 1,
                recv(signals) -> signal => {
                    if matches!(signal, Ok(SIGTERM | SIGINT) | Err(_)) {
                        tracing::warn!("stopping before the drain is complete");
                        return;
                    }
                }
                default(timeout) => {
                    let open: u64 =
                        self.workers.iter().map(|worker| worker.stats.open.get()).sum();
                    tracing::warn!(open, "the drain took too long; closing what is left");
                    return;
                }
            }
        }
    }

    fn command(&self, command: Command) {
        for control in self.workers.iter().filter_map(|worker| worker.control.as_ref()) {
            control.send(command);
        }
    }

    /// Ends workers, the sync thread and the disk thread, in this order.
    fn end(&mut self) {
        self.command(Command::Stop);
        let deadline = Instant::now() + STOP_DEADLINE;
        for (id, worker) in self.workers.iter_mut().enumerate() {
            let Some(thread) = worker.thread.take() else { continue };
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(STOP_POLL);
            }
            if !thread.is_finished() {
                tracing::error!(worker = id, "the worker does not stop; leaving it behind");
            } else if thread.join().is_err() {
                tracing::error!(worker = id, "the worker panicked");
            }
        }
        // Of workers that are not there any more to do it.
        for socket in self.bound.iter().flat_map(|bound| &bound.sockets) {
            thread::end_listening(socket);
        }
        self.sync.stop();
        if let Some(log) = self.log.take()
            && let Err(error) = log.disk.shutdown(LOG_DEADLINE)
        {
            tracing::error!("{error}");
        }
        let requests: u64 = self.workers.iter().map(|worker| worker.stats.requests.get()).sum();
        tracing::info!(requests, "stopped");
    }
}
