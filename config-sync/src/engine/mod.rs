//! What a store tells, turned into the state, the next snapshot and the journal.

mod recorder;

use std::collections::btree_map;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use ahash::{HashMap, HashSet};
use osmia_core::resource::{Key, Kind};
use osmia_core::rules::Rules;
use osmia_core::snapshot::Snapshot;

use crate::applied::Applied;
use crate::compile::{Changed, Compiler};
use crate::discovery::{Answer, Subject};
use crate::health::HealthChecks;
use crate::local::{Entry, EntryChange};
use crate::publish::Publisher;
use crate::stapling::{Staple, Wanted};
use crate::state::{State, Stored};
use crate::store::file::Resource;
use crate::store::{Change, Commit, Contents, Event, Item};
pub(crate) use recorder::{Record, Recorder};

/// Items of one revision are told apart by this many places.
const PLACES: u32 = 20;

/// Follows one store.
pub(crate) struct Engine {
    state: Arc<RwLock<State>>,
    compiler: Compiler,
    publisher: Arc<Publisher>,
    health: Arc<HealthChecks>,
    applied: Arc<Applied>,
    recorder: Recorder,
    /// Whether the store's contents have been seen, be it from the copy on disk.
    configured: bool,
    /// What the store held when this process was last there.
    known: Option<Contents>,
}

/// What a batch of events changes, while it is being read.
#[derive(Default)]
struct Batch {
    /// What was stored before the batch.
    before: HashMap<Key, Option<Stored>>,
    entries: Vec<Entry>,
    records: Vec<Record>,
    /// Whether the contents came as a whole.
    loaded: bool,
    /// Whether anybody wants to know what was before and after.
    keeps_history: bool,
}

impl Batch {
    fn changed(before: HashMap<Key, Option<Stored>>) -> Vec<Changed> {
        before.into_iter().map(|(key, before)| Changed { key, before }).collect()
    }
}

impl Engine {
    pub(crate) fn new(
        state: Arc<RwLock<State>>,
        compiler: Compiler,
        publisher: Arc<Publisher>,
        health: Arc<HealthChecks>,
        applied: Arc<Applied>,
        recorder: Recorder,
    ) -> Self {
        let (configured, known) = (false, None);
        Self { state, compiler, publisher, health, applied, recorder, configured, known }
    }

    /// Tells what the store held when this process was last there, so that the journal can say what
    /// changed meanwhile.
    pub(crate) fn remember(&mut self, known: Contents) {
        self.known = Some(known);
    }

    /// Whether there is a configuration.
    pub(crate) fn is_configured(&self) -> bool {
        self.configured
    }

    /// See [`Compiler::subjects`].
    pub(crate) fn subjects(&mut self) -> (Vec<Subject>, Vec<Subject>) {
        self.compiler.subjects()
    }

    /// Takes events that were waiting together, and publishes what comes of them.
    pub(crate) fn apply(&mut self, events: Vec<Event>) {
        let state = Arc::clone(&self.state);
        let mut state = write(&state);
        let mut batch = Batch { keeps_history: self.recorder.has_journal(), ..Batch::default() };
        for event in events {
            match event {
                Event::Load(contents) => self.load(&mut state, contents, &mut batch),
                Event::Commits(commits) => {
                    recovered(&mut state);
                    for commit in &commits {
                        take_commit(&mut state, commit, &mut batch);
                    }
                    batch.records.push(Record::Commits(commits));
                }
                Event::Refused { reason } => refuse(&mut state, reason),
                Event::Lost { reason } => lose(&mut state, reason),
                Event::Restored => recovered(&mut state),
            }
        }
        let Batch { before, entries, mut records, loaded, .. } = batch;
        let changed = Batch::changed(before);
        let count = changed.len();
        let changed = self.compiler.update(&mut state, changed) | self.check_nodes();
        let revision = state.revision;
        if changed || (loaded && self.publisher.current().revision == 0) {
            self.publish(&state, count, loaded);
        }
        if loaded {
            state.pack();
        }
        if self.recorder.wants_contents() {
            records.push(Record::Load(contents_of(&state)));
        }
        drop(state);
        if self.configured {
            self.applied.reach(revision);
        }
        if !entries.is_empty() {
            records.push(Record::Entries(entries));
        }
        self.recorder.record(records);
    }

    /// Serves the last good contents of a store that cannot be reached.
    pub(crate) fn apply_copy(&mut self, contents: Contents) {
        let state = Arc::clone(&self.state);
        let mut state = write(&state);
        let mut batch = Batch::default();
        state.source.from_copy = true;
        replace(&mut state, &contents, &mut batch);
        let changed = Batch::changed(batch.before);
        let count = changed.len();
        self.compiler.update(&mut state, changed);
        self.check_nodes();
        self.configured = true;
        self.publish(&state, count, true);
        state.pack();
        let revision = state.revision;
        drop(state);
        self.applied.reach(revision);
    }

    /// Takes what became of names and services.
    pub(crate) fn resolved(&mut self, answers: Vec<(Subject, Answer)>) {
        let state = Arc::clone(&self.state);
        let mut state = write(&state);
        if self.compiler.resolved(&mut state, answers) | self.check_nodes() {
            self.publish(&state, 0, false);
        }
    }

    /// See [`Compiler::take_staple_changes`].
    pub(crate) fn take_staple_changes(&mut self) -> Vec<(Arc<str>, Vec<Wanted>)> {
        self.compiler.take_staple_changes()
    }

    /// Takes what is to be stapled to a certificate.
    pub(crate) fn stapled(&mut self, staple: &Staple) {
        let state = Arc::clone(&self.state);
        let state = write(&state);
        if self.compiler.staple(staple) | self.check_nodes() {
            self.publish(&state, 0, false);
        }
    }

    fn load(&mut self, state: &mut State, contents: Contents, batch: &mut Batch) {
        recovered(state);
        state.source.from_copy = false;
        let keeps_history = batch.keeps_history;
        batch.keeps_history &= self.configured;
        let mut changes = replace(state, &contents, batch);
        batch.keeps_history = keeps_history;
        if !self.configured {
            match self.known.take() {
                Some(known) if keeps_history => changes = difference(&known, &contents),
                Some(_) => {}
                None => batch.records.push(Record::Begin(contents.revision)),
            }
        }
        if !changes.is_empty() {
            batch.entries.push(entry(contents.revision, None, changes));
        }
        batch.records.push(Record::Load(contents));
        batch.loaded = true;
        self.configured = true;
    }

    /// Lets the health checks follow, before anything is published: what is known of nodes has to
    /// fit the nodes in the same snapshot. Whether it is something else than was published last.
    fn check_nodes(&mut self) -> bool {
        self.health.apply(self.compiler.take_check_changes())
    }

    fn publish(&self, state: &State, changed: usize, loaded: bool) {
        let router = self.compiler.router();
        let (routes, quarantined) = (state.count(Kind::Route), state.quarantine.len());
        let snapshot = Snapshot {
            revision: self.publisher.current().revision + 1,
            source_revision: state.revision,
            router,
            health: self.health.take_health(),
            certificates: self.compiler.certificates(),
        };
        let (revision, source) = (snapshot.revision, snapshot.source_revision);
        self.publisher.publish(Arc::new(snapshot));
        if loaded {
            tracing::info!(revision, source, routes, quarantined, "configuration published");
        } else {
            tracing::debug!(revision, source, changed, "configuration published");
        }
    }
}

/// A snapshot of these resources by themselves, without a store behind them, and what of them could
/// not be used, one line each. Names of nodes are not asked for.
pub fn snapshot_of(rules: Arc<Rules>, resources: Vec<Resource>) -> (Snapshot, Vec<String>) {
    let mut state = State::default();
    let mut batch = Batch::default();
    let items = resources.into_iter().map(|resource| Item {
        path: resource.path,
        value: resource.value,
        created: 1,
        modified: 1,
    });
    let contents = Contents { revision: 1, items: items.collect() };
    replace(&mut state, &contents, &mut batch);
    let mut compiler = Compiler::new(rules);
    compiler.update(&mut state, Batch::changed(batch.before));
    let bad = state.quarantine.iter().map(|(key, item)| format!("{key}: {}", item.reason));
    let missing =
        state.users.iter().filter(|(to, _)| state.get(to).is_none()).flat_map(|(to, users)| {
            users.iter().map(move |user| format!("{user}: {to} does not exist"))
        });
    let mut problems: Vec<String> = bad.chain(missing).collect();
    problems.sort();
    (
        Snapshot {
            revision: 1,
            source_revision: 1,
            router: compiler.router(),
            certificates: compiler.certificates(),
            ..Snapshot::default()
        },
        problems,
    )
}

fn write(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    state.write().unwrap_or_else(PoisonError::into_inner)
}

fn contents_of(state: &State) -> Contents {
    let items = Kind::ALL.into_iter().flat_map(|kind| {
        state.items(kind).map(move |(id, stored)| Item {
            path: Key { kind, id: Arc::clone(id) }.path(),
            value: stored.value.clone(),
            created: stored.created,
            modified: stored.modified,
        })
    });
    Contents { revision: state.revision, items: items.collect() }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn entry(revision: u64, author: Option<crate::store::Author>, changes: Vec<EntryChange>) -> Entry {
    Entry { revision, at_ms: now_ms(), author, changes }
}

fn recovered(state: &mut State) {
    if !state.source.reachable {
        state.source.reachable = true;
        state.source.problem = None;
        tracing::info!("the configuration store is reached");
    }
    if state.source.problem.take().is_some() {
        tracing::info!("the configuration is valid again");
    }
}

fn lose(state: &mut State, reason: String) {
    tracing::error!("the configuration store is lost, the last configuration stays: {reason}");
    state.source.reachable = false;
    state.source.problem = Some(reason);
}

fn refuse(state: &mut State, reason: String) {
    let revision = state.revision;
    tracing::error!(revision, "configuration not accepted, the last one stays: {reason}");
    state.source.reachable = true;
    state.source.refused += 1;
    state.source.problem = Some(reason);
}

fn take_commit(state: &mut State, commit: &Commit, batch: &mut Batch) {
    let mut changes = Vec::with_capacity(commit.changes.len());
    // A later load meets what one commit created sorted by path: the order must be the same now.
    let changes_made = commit.changes.iter();
    let mut created: Vec<&str> = changes_made
        .filter_map(|change| match change {
            Change::Put(item) if item.created == commit.revision => Some(item.path.as_str()),
            _ => None,
        })
        .collect();
    created.sort_unstable();
    for change in &commit.changes {
        changes.extend(match change {
            Change::Put(item) => {
                let place = created.binary_search(&item.path.as_str()).map_or(0, |rank| rank + 1);
                put(state, item, place as u64, batch)
            }
            Change::Delete { path } => Key::parse(path).and_then(|key| delete(state, &key, batch)),
        });
    }
    state.revision = commit.revision;
    if !changes.is_empty() {
        batch.entries.push(entry(commit.revision, commit.author.clone(), changes));
    }
}

/// Makes the state what `contents` say; what differs is noted.
fn replace(state: &mut State, contents: &Contents, batch: &mut Batch) -> Vec<EntryChange> {
    let was_empty = Kind::ALL.into_iter().all(|kind| state.count(kind) == 0);
    let mut seen = HashMap::<Kind, HashSet<Arc<str>>>::default();
    let mut changes = Vec::new();
    let mut places = HashMap::<u64, u64>::default();
    for item in &contents.items {
        let Some(key) = Key::parse(&item.path) else { continue };
        let place = places.entry(item.created).or_default();
        *place += 1;
        let order = order(item.created, *place);
        changes.extend(put_key(state, &key, item, |_| order, batch));
        if !was_empty {
            seen.entry(key.kind).or_default().insert(key.id);
        }
    }
    let mut gone = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|_| !was_empty) {
        let kept = seen.get(&kind);
        let is_kept = |id: &&Arc<str>| kept.is_some_and(|kept| kept.contains(*id));
        let ids = state.items(kind).map(|(id, _)| id);
        gone.extend(ids.filter(|id| !is_kept(id)).map(|id| Key { kind, id: Arc::clone(id) }));
    }
    changes.extend(gone.iter().filter_map(|key| delete(state, key, batch)));
    state.revision = contents.revision;
    changes
}

/// What lies between two contents.
fn difference(before: &Contents, after: &Contents) -> Vec<EntryChange> {
    let mut known: HashMap<&str, &Item> =
        before.items.iter().map(|item| (item.path.as_str(), item)).collect();
    let mut changes = Vec::new();
    for item in &after.items {
        let before = known.remove(item.path.as_str()).map(|item| &item.value);
        if before != Some(&item.value) && Key::parse(&item.path).is_some() {
            let (path, after) = (item.path.clone(), Some(item.value.clone()));
            changes.push(EntryChange { path, before: before.cloned(), after });
        }
    }
    let gone = known.into_values().filter(|item| Key::parse(&item.path).is_some());
    changes.extend(gone.map(|item| EntryChange {
        path: item.path.clone(),
        before: Some(item.value.clone()),
        after: None,
    }));
    changes
}

/// Takes what a commit wrote. What was there before keeps its place.
fn put(state: &mut State, item: &Item, place: u64, batch: &mut Batch) -> Option<EntryChange> {
    let key = Key::parse(&item.path)?;
    let kept = |before: &Stored| (before.created == item.created).then_some(before.order);
    let order = |before: Option<&Stored>| {
        before.and_then(kept).unwrap_or_else(|| order(item.created, place))
    };
    put_key(state, &key, item, order, batch)
}

/// Orders resources by when they were created, and those of one revision by their place in it.
fn order(created: u64, place: u64) -> u64 {
    (created << PLACES) | place.min((1 << PLACES) - 1)
}

/// Puts an item into the state; its order may depend on what was there.
fn put_key(
    state: &mut State,
    key: &Key,
    item: &Item,
    order: impl FnOnce(Option<&Stored>) -> u64,
    batch: &mut Batch,
) -> Option<EntryChange> {
    let stored = |order| Stored {
        value: item.value.clone(),
        created: item.created,
        modified: item.modified,
        order,
    };
    let before = match state.kinds.entry(key.kind).or_default().entry(Arc::clone(&key.id)) {
        btree_map::Entry::Vacant(place) => {
            place.insert(stored(order(None)));
            None
        }
        btree_map::Entry::Occupied(mut place) => {
            let stored = stored(order(Some(place.get())));
            if *place.get() == stored {
                return None;
            }
            Some(place.insert(stored))
        }
    };
    let text = before.as_ref().map(|before| before.value.clone());
    batch.before.entry(key.clone()).or_insert(before);
    let differs = || text.as_ref() != Some(&item.value);
    if !batch.keeps_history || !differs() {
        return None;
    }
    Some(EntryChange { path: item.path.clone(), before: text, after: Some(item.value.clone()) })
}

fn delete(state: &mut State, key: &Key, batch: &mut Batch) -> Option<EntryChange> {
    let before = state.kinds.get_mut(&key.kind)?.remove(&key.id)?;
    let text = Some(before.value.clone());
    batch.before.entry(key.clone()).or_insert(Some(before));
    batch.keeps_history.then(|| EntryChange { path: key.path(), before: text, after: None })
}

#[cfg(test)]
mod tests;
