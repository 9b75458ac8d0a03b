//! The sync thread's loop.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use osmia_core::settings::Settings;
use osmia_core::snapshot::Snapshot;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::StartError;
use super::open::{self, Opened};
use super::serve::Servers;
use crate::applied::Applied;
use crate::compile::Compiler;
use crate::discovery::Lookups;
use crate::engine::{Engine, Recorder};
use crate::health::{HealthChecks, Report};
use crate::plane::Plane;
use crate::publish::Publisher;
use crate::stapling::Stapler;
use crate::state::State;
use crate::store::{Event, Events};

/// How long the first contents are waited for before the copy on disk is served.
const FIRST_CONTENTS: Duration = Duration::from_secs(3);
/// How long the addresses of names are waited for before the first configuration is served.
const FIRST_NAMES: Duration = Duration::from_secs(5);
/// How often replaced snapshots are freed.
const FREE: Duration = Duration::from_millis(250);
/// Most events that are taken together.
const TOGETHER: usize = 256;

/// What the sync thread is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Reload,
    Stop,
}

/// The parts of the loop.
struct Follower {
    engine: Engine,
    events: Events,
    retired: Receiver<Arc<Snapshot>>,
    lookups: Lookups,
    stapler: Stapler,
}

/// The sync thread's ends of its channels.
pub(super) struct Ends {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) retired: Receiver<Arc<Snapshot>>,
    pub(super) reported: mpsc::Receiver<Report>,
    /// Where who started the thread waits.
    pub(super) started: Sender<Result<(), StartError>>,
}

/// Runs the sync thread until it is told to stop.
pub(super) async fn run(settings: Settings, workers: usize, publisher: Arc<Publisher>, ends: Ends) {
    let Ends { commands, retired, reported, started } = ends;
    let health = Arc::new(HealthChecks::new(settings.trusted_certificates.clone()));
    // Before the first contents: nodes are checked from the moment they are known.
    let checks = Arc::clone(&health).run(Arc::clone(&publisher), reported);
    let mut tasks = JoinSet::new();
    tasks.spawn(checks);
    match prepare(&settings, publisher, health, retired, workers).await {
        Ok((follower, plane, servers)) => {
            // Who started the thread waits for this.
            let _ = started.send(Ok(()));
            drop(started);
            follower.follow(commands, &plane, tasks).await;
            servers.stop().await;
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
}

async fn prepare(
    settings: &Settings,
    publisher: Arc<Publisher>,
    health: Arc<HealthChecks>,
    retired: Receiver<Arc<Snapshot>>,
    workers: usize,
) -> Result<(Follower, Plane, Servers), StartError> {
    let Opened { store, file, journal, records, copy, last_good } = open::open(settings).await?;
    let rules = open::rules(settings);
    let state = State::default();
    let lookups = Lookups::new(settings, Arc::clone(&state.lookups));
    let state = Arc::new(RwLock::new(state));
    let applied = Arc::new(Applied::default());
    let recorder = Recorder::start(records.then(|| journal.clone()), copy)?;
    let plane = Plane {
        store: Arc::clone(&store),
        rules: Arc::clone(&rules),
        view: settings.view,
        trusted_addresses: settings.trusted_addresses.clone().map(Arc::new),
        journal,
        publisher: Arc::clone(&publisher),
        health: Arc::clone(&health),
        state: Arc::clone(&state),
        applied: Arc::clone(&applied),
    };
    let servers = Servers::start(settings, &plane, file, workers)?;
    let mut compiler = Compiler::new(rules);
    compiler.set_tls(&settings.tls, settings.trusted_certificates.clone());
    if !settings.health_checks {
        compiler.disable_checks();
    }
    let engine = Engine::new(state, compiler, publisher, health, applied, recorder);
    let mut follower =
        Follower { engine, events: store.watch(), retired, lookups, stapler: Stapler::new() };
    if let Some(known) = &last_good {
        follower.engine.remember(known.clone());
    }
    follower.begin(&store.name(), last_good, open::must_load(settings)).await?;
    Ok((follower, plane, servers))
}

impl Follower {
    /// Waits for the first contents.
    async fn begin(
        &mut self,
        name: &str,
        mut last_good: Option<crate::store::Contents>,
        must_load: bool,
    ) -> Result<(), StartError> {
        let deadline = Instant::now() + FIRST_CONTENTS;
        while !self.engine.is_configured() {
            let event = match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some(event)) => event,
                Ok(None) => Event::Lost { reason: "the store has ended".to_owned() },
                Err(_) => Event::Lost { reason: format!("no answer within {FIRST_CONTENTS:?}") },
            };
            if let (Event::Refused { reason } | Event::Lost { reason }, true) = (&event, must_load)
            {
                let (source_name, reason) = (name.to_owned(), reason.clone());
                return Err(StartError::Load { source_name, reason });
            }
            let lost = matches!(event, Event::Lost { .. });
            self.engine.apply(vec![event]);
            if lost {
                match last_good.take() {
                    Some(contents) => {
                        let (revision, items) = (contents.revision, contents.items.len());
                        tracing::warn!(
                            store = name,
                            revision,
                            items,
                            "serving the last good configuration from the copy on disk"
                        );
                        self.engine.apply_copy(contents);
                    }
                    None => tracing::error!(
                        store = name,
                        "no configuration: the store cannot be reached and there is no copy on \
                         disk; requests are answered with 503 until it is"
                    ),
                }
                break;
            }
        }
        self.first_names().await;
        Ok(())
    }

    /// Names are asked for before traffic needs them, but not for ever.
    async fn first_names(&mut self) {
        self.ask();
        let deadline = Instant::now() + FIRST_NAMES;
        while self.lookups.is_waiting()
            && let Ok(answers) = tokio::time::timeout_at(deadline, self.lookups.changed()).await
        {
            self.engine.resolved(answers);
            // The nodes of a service may have names.
            self.ask();
        }
    }

    async fn follow(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        plane: &Plane,
        mut tasks: JoinSet<()>,
    ) {
        let mut free = tokio::time::interval(FREE);
        free.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = false;
        loop {
            tokio::select! {
                event = self.events.recv(), if !ended => match event {
                    Some(event) => self.take(event),
                    None => {
                        tracing::error!("the store has ended: the configuration stays as it is");
                        ended = true;
                    }
                },
                command = commands.recv() => match command {
                    Some(Command::Reload) => {
                        plane.store.accept();
                        plane.store.refresh();
                        self.lookups.refresh();
                    }
                    Some(Command::Stop) | None => return,
                },
                answers = self.lookups.changed() => {
                    self.engine.resolved(answers);
                    self.free();
                    self.ask();
                }
                staple = self.stapler.answer() => {
                    self.engine.stapled(&staple);
                    self.free();
                }
                Some(_) = tasks.join_next() => {
                    tracing::error!("health checks have ended: nodes stay as they were found last");
                }
                _ = free.tick() => self.free(),
            }
        }
    }

    /// Takes an event and whatever else is waiting, so that changes that come fast are published
    /// together.
    fn take(&mut self, event: Event) {
        let mut events = vec![event];
        while events.len() < TOGETHER
            && let Ok(event) = self.events.try_recv()
        {
            events.push(event);
        }
        self.engine.apply(events);
        self.free();
        self.ask();
    }

    fn free(&self) {
        while let Ok(snapshot) = self.retired.try_recv() {
            drop(snapshot);
        }
    }

    /// Follows what the configuration needs to be looked up.
    fn ask(&mut self) {
        let (wanted, unused) = self.engine.subjects();
        self.lookups.follow(wanted, &unused);
        self.stapler.follow(self.engine.take_staple_changes());
    }
}
