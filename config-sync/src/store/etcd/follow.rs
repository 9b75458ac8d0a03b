//! The watch: one task that loads, follows and resumes until nobody listens.
//!
//! A *session* is one connection to one member: find out whether the history that is known goes
//! on there, otherwise load anew, then watch from the next revision. Whatever ends it, the next
//! session goes on from the last revision that was delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{GetOptions, WatchOptions, WatchResponse, WatchStream};
use osmia_core::resource::Key;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::batch::{KeyEvent, commits};
use super::link::{Connection, Dialer, Failure};
use super::load::{Keys, Loaded, Pager, Position, Witness, signed, unsigned};
use crate::store::Event;

/// A watch without any message for this long is asked for its progress.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Heartbeats without an answer after which a watch counts as cut off.
const MISSED_HEARTBEATS: u32 = 2;
/// Waiting time after the first failed round over all members; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A store that was empty is believed again when it has at least one in so many of the resources
/// that are in force: the first key that is written into it is not yet a configuration.
const RECOVERED: usize = 2;

/// How far the watcher has been told.
#[derive(Debug, Clone)]
struct Seen {
    position: Position,
    witness: Option<Witness>,
}

/// Why a session ended.
#[derive(Debug)]
struct Break {
    /// Whether the watch had begun.
    established: bool,
    reason: String,
}

impl Break {
    fn before(reason: String) -> Self {
        Self { established: false, reason }
    }

    fn during(reason: String) -> Self {
        Self { established: true, reason }
    }
}

/// What an operator says to the watch.
#[derive(Debug, Default)]
pub(super) struct Operator {
    /// Ends a waiting time, also of a watch that is busy with something else just now.
    wake: watch::Sender<()>,
    /// That refused contents are wanted.
    confirms: AtomicBool,
}

impl Operator {
    pub(super) fn look_again(&self) {
        self.wake.send_replace(());
    }

    /// Take what is there even if it is next to nothing.
    pub(super) fn accept(&self) {
        self.confirms.store(true, Ordering::Relaxed);
        self.look_again();
    }
}

/// The state of one watch.
pub(super) struct Follower {
    dialer: Arc<Dialer>,
    keys: Keys,
    accept_empty: bool,
    events: mpsc::Sender<Event>,
    operator: Arc<Operator>,
    /// What the operator said since the last session began.
    wake: watch::Receiver<()>,
    pager: Pager,
    /// The member of the next session.
    member: usize,
    /// `None`: the next session loads.
    seen: Option<Seen>,
    /// Resources in what was delivered.
    resources: usize,
    /// The store is empty, and was refused because of it.
    refused: bool,
    /// The watcher was told that the store cannot be reached.
    lost: bool,
}

impl Follower {
    pub(super) fn new(
        dialer: Arc<Dialer>,
        keys: Keys,
        accept_empty: bool,
        member: usize,
        operator: Arc<Operator>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            dialer,
            keys,
            accept_empty,
            events,
            wake: operator.wake.subscribe(),
            operator,
            pager: Pager::default(),
            member,
            seen: None,
            resources: 0,
            refused: false,
            lost: false,
        }
    }

    /// Runs until the receiver is dropped.
    pub(super) async fn run(mut self) {
        let events = self.events.clone();
        tokio::select! {
            () = events.closed() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        let mut failed = 0; // sessions that did not get as far as a watch, in a row
        let mut short = 0; // sessions that did not last, in a row
        loop {
            let begun = Instant::now();
            let end = self.session().await;
            let lasted = end.established && begun.elapsed() > LONGEST_WAIT;
            failed = if end.established { 0 } else { failed + 1 };
            short = if lasted { 0 } else { short + 1 };
            tracing::debug!("etcd: {}", end.reason);
            if failed >= self.dialer.len() && !self.lost {
                self.lost = true;
                self.send(Event::Lost { reason: end.reason }).await;
            }
            self.member = self.member.wrapping_add(1);
            let rounds = short / self.dialer.len();
            if rounds > 0 && short % self.dialer.len() == 0 {
                self.wait(rounds).await;
            }
        }
    }

    /// Waits before the next round over all members, the longer the more there were. The jitter
    /// keeps many gateways from coming back at the same moment.
    async fn wait(&mut self, rounds: usize) {
        let doublings = u32::try_from(rounds - 1).unwrap_or(u32::MAX).min(10);
        let longest = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
        let share = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        tokio::select! {
            () = sleep(longest.mul_f64(0.5 + share / 2.0)) => {}
            _ = self.wake.changed() => {}
        }
    }

    /// A failure means that the receiver is gone, which ends the task anyway.
    async fn send(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    async fn session(&mut self) -> Break {
        self.wake.mark_unchanged();
        let connection = match self.dialer.dial(self.member).await {
            Ok(connection) => connection,
            Err(reason) => return Break::before(reason),
        };
        let begun = match self.begin(&connection).await {
            Ok(begun) => begun,
            Err(failure) => return Break::before(format!("{}: {failure}", connection.url)),
        };
        self.receive(&connection, begun).await
    }

    /// Gets as far as a watch that has begun. Tells what was loaded, or that nothing was missed.
    async fn begin(&mut self, connection: &Connection) -> Result<WatchStream, Failure> {
        let resumes = self.resumes(connection).await?;
        let start = if resumes { self.next_revision() } else { self.load(connection).await? };
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(signed(start))
            .with_progress_notify();
        let mut client = connection.watch.clone();
        let key = self.keys.key("");
        let opening = async {
            let mut watch = client.watch(key, Some(options)).await?;
            let first = watch.message().await?;
            Ok((watch, first))
        };
        let (watch, first) = connection.call(self.dialer.timeout, opening).await?;
        let first = first.ok_or_else(|| Failure::Unanswered("the watch was closed".to_owned()))?;
        if first.canceled() {
            self.forget_if_compacted(&first);
            let reason = format!("the watch was refused: {}", first.cancel_reason());
            return Err(Failure::Unanswered(reason));
        }
        if std::mem::take(&mut self.lost) {
            self.send(Event::Restored).await;
        }
        Ok(watch)
    }

    fn next_revision(&self) -> u64 {
        self.seen.as_ref().map_or(0, |seen| seen.position.revision) + 1
    }

    /// The changes from the revision after the last one that was seen are gone.
    fn forget_if_compacted(&mut self, response: &WatchResponse) {
        if response.compact_revision() > 0 {
            tracing::info!(
                "etcd: compacted up to revision {}, which this node has not seen; loading anew",
                response.compact_revision()
            );
            self.seen = None;
        }
    }

    /// Whether this member's history is the one that was delivered so far. The read waits until the
    /// member has caught up with its cluster, so a smaller revision is another history, not a slow
    /// member. After a restore the revision may have grown beyond ours; therefore a key is compared
    /// as it was at our revision.
    async fn resumes(&self, connection: &Connection) -> Result<bool, Failure> {
        let Some(seen) = &self.seen else { return Ok(false) };
        let witness = seen.witness.as_ref();
        let key = witness.map_or_else(|| self.keys.key("").into_bytes(), |key| key.key.clone());
        let options = GetOptions::new().with_revision(signed(seen.position.revision));
        let mut kv = connection.kv.clone();
        let answer = connection.call(self.dialer.timeout, kv.get(key, Some(options))).await;
        let mut answer = match answer {
            Ok(answer) => answer,
            // Not written yet here, or compacted.
            Err(failure) if failure.is_out_of_range() => {
                tracing::info!("etcd: {failure}; loading anew");
                return Ok(false);
            }
            Err(failure) => return Err(failure),
        };
        let here = Position::of(answer.header());
        let found = answer.take_kvs().into_iter().next().map(|pair| {
            let revisions = (unsigned(pair.create_revision()), unsigned(pair.mod_revision()));
            (pair.into_key_value().1.into(), revisions.0, revisions.1)
        });
        let same = !here.contradicts(&seen.position)
            && witness.is_none_or(|witness| witness.value == found);
        if !same {
            tracing::warn!("etcd at {}: another history (restored?); loading anew", connection.url);
        }
        Ok(same)
    }

    /// Whether the store looks as if its contents had been lost, and nobody wants that.
    fn is_suspicious(&self, resources: usize) -> bool {
        let too_few = if self.refused {
            resources.saturating_mul(RECOVERED) < self.resources
                && !self.operator.confirms.swap(false, Ordering::Relaxed)
        } else {
            resources == 0 && self.resources > 0
        };
        too_few && !self.accept_empty
    }

    /// Loads and delivers, or refuses. Gives the revision to watch from.
    async fn load(&mut self, connection: &Connection) -> Result<u64, Failure> {
        let timeout = self.dialer.timeout;
        self.seen = None; // what was seen is of no use any more, whether this succeeds or not
        let loaded = self.pager.read(connection, &self.keys, "", timeout).await?;
        let Loaded { contents, position, witness } = loaded;
        let resources = contents.items.iter().filter(|item| is_resource(&item.path)).count();
        let was_lost = std::mem::take(&mut self.lost);
        if self.is_suspicious(resources) {
            if !self.refused || was_lost {
                self.operator.confirms.store(false, Ordering::Relaxed); // what was said before
                self.refused = true;
                let reason = format!(
                    "etcd at {} has {resources} resources below {} all of a sudden; the {} that \
                     are in force stay, until at least half as many are there. Restore etcd's \
                     contents; or, if this is wanted, send the gateway SIGHUP, or set \
                     osmia.etcd.accept_empty",
                    connection.url,
                    self.keys.prefix(),
                    self.resources
                );
                self.send(Event::Refused { reason }).await;
            }
            return Ok(position.revision + 1);
        }
        self.refused = false;
        self.resources = resources;
        self.send(Event::Load(contents)).await;
        self.seen = Some(Seen { position, witness });
        Ok(position.revision + 1)
    }

    /// Takes messages until something is wrong. A watch that is silent is asked for its progress:
    /// the answer shows that the member is there and, since the connection requires a leader, that
    /// it has one.
    async fn receive(&mut self, connection: &Connection, mut watch: WatchStream) -> Break {
        let mut unanswered = 0;
        loop {
            let message = tokio::select! {
                message = timeout(HEARTBEAT, watch.message()) => message,
                _ = self.wake.changed(), if self.refused => {
                    return Break::during("asked to look again".to_owned());
                }
            };
            match message {
                Ok(Ok(Some(response))) => {
                    unanswered = 0;
                    if let Err(reason) = self.take(response).await {
                        return Break::during(format!("{}: {reason}", connection.url));
                    }
                }
                Ok(Ok(None)) => {
                    return Break::during(format!("{}: the watch was closed", connection.url));
                }
                Ok(Err(error)) => {
                    let failure = Failure::from(error);
                    if failure.is_out_of_range() {
                        self.seen = None; // a backlog larger than a message may be: load instead
                    }
                    return Break::during(format!("{}: {failure}", connection.url));
                }
                Err(_) if unanswered >= MISSED_HEARTBEATS => {
                    return Break::during(format!("{} does not answer", connection.url));
                }
                Err(_) => {
                    unanswered += 1;
                    if let Err(error) = watch.request_progress().await {
                        return Break::during(format!("{}: {error}", connection.url));
                    }
                }
            }
        }
    }

    /// One message of the watch. etcd puts all events of a revision into one message, unless the
    /// client asks for fragments, which this one does not.
    async fn take(&mut self, response: WatchResponse) -> Result<(), String> {
        if response.canceled() {
            self.forget_if_compacted(&response);
            return Err(format!("the watch was ended: {}", response.cancel_reason()));
        }
        let here = Position::of(response.header());
        let events = self.events_of(&response);
        let Some(seen) = &mut self.seen else {
            // Refused because it was empty: anything new may have ended that.
            let filled = events.iter().any(|event| event.put.is_some() && is_known(event));
            return if filled { Err("something was written".to_owned()) } else { Ok(()) };
        };
        if here.contradicts(&seen.position) {
            return Err("the member changed its history".to_owned());
        }
        seen.position.term = seen.position.term.max(here.term);
        let Some(last) = events.last().map(|event| event.revision) else {
            // Progress. That which was asked for has the watch id -1 and is not taken for the
            // revision: up to 3.4.24 and 3.5.7 it may overtake events (etcd-io/etcd#15220).
            if response.watch_id() >= 0 && !response.created() {
                seen.position.revision = seen.position.revision.max(here.revision);
            }
            return Ok(());
        };
        self.resources = events.iter().fold(self.resources, count);
        let (commits, witness) = commits(events, seen.witness.take());
        seen.witness = witness;
        seen.position.revision = last;
        if !commits.is_empty() {
            self.send(Event::Commits(commits)).await;
        }
        Ok(())
    }

    /// The events of a message that were not seen yet.
    fn events_of(&self, response: &WatchResponse) -> Vec<KeyEvent> {
        let after = self.seen.as_ref().map_or(0, |seen| seen.position.revision);
        let pairs = response.events().iter().filter_map(etcd_client::Event::kv);
        pairs
            .filter(|pair| unsigned(pair.mod_revision()) > after)
            .map(|pair| KeyEvent {
                key: pair.key().to_vec(),
                path: self.keys.path(pair.key()).map(str::to_owned),
                revision: unsigned(pair.mod_revision()),
                // A deletion's version is 0 (`KeyValue.version` in etcd's kv.proto).
                put: (pair.version() > 0)
                    .then(|| (pair.value().to_vec().into(), unsigned(pair.create_revision()))),
            })
            .collect()
    }
}

fn is_resource(path: &str) -> bool {
    Key::parse(path).is_some()
}

fn is_known(event: &KeyEvent) -> bool {
    event.path.as_deref().is_some_and(is_resource)
}

/// Number of resources after an event.
fn count(resources: usize, event: &KeyEvent) -> usize {
    match &event.put {
        _ if !is_known(event) => resources,
        Some((_, created)) if *created == event.revision => resources + 1,
        Some(_) => resources,
        None => resources.saturating_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use osmia_core::settings::EtcdSettings;

    use super::*;

    fn follower(operator: &Arc<Operator>) -> Follower {
        let settings = EtcdSettings {
            endpoints: vec!["http://127.0.0.1:1".to_owned()],
            prefix: "/apisix".to_owned(),
            credentials: None,
            timeout: Duration::from_secs(1),
            client_certificate: None,
            verify: true,
            server_name: None,
            trusted: None,
            accept_empty: false,
        };
        let dialer = Dialer::new(&settings).unwrap();
        let (events, _) = mpsc::channel(1);
        let keys = Keys::new(&settings.prefix);
        Follower::new(Arc::new(dialer), keys, false, 0, Arc::clone(operator), events)
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_operator_says_meanwhile_is_not_lost() {
        let operator = Arc::default();
        let mut follower = follower(&operator);
        let begun = Instant::now();
        operator.accept();
        follower.wait(10).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "said while nobody was waiting");
        follower.wait(10).await;
        assert!(begun.elapsed() >= LONGEST_WAIT / 2, "said once");
    }
}
