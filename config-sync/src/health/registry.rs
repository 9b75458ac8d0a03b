//! Which nodes are checked, when the next probe of each is due, and what is known of them.
//!
//! No I/O and no clock: who calls says what time it is and makes the probes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::{HashMap, RandomState};
use osmia_core::health::{Criteria, Outcome, Tracker};
use osmia_core::node_set::NodeSet;
use osmia_core::resource::Checks;
use osmia_core::snapshot::{Health, Marks, Slot, Upstream};
use tokio::time::Instant;

use super::log;
use super::plan::{Place, Plan};
use super::probe::{Aim, Connection, Found, Job};
use super::report::Report;
use super::room::Room;
use super::view::{CheckerView, TargetView};
use crate::compile::{CheckChange, Checked};

/// First probes are spread over this time at most.
const FIRST_SPREAD: Duration = Duration::from_secs(1);

/// All checkers of this process.
#[derive(Default)]
pub(super) struct Registry {
    /// By the upstream's id.
    checkers: HashMap<Arc<str>, Checker>,
    by_slot: HashMap<Slot, Arc<str>>,
    targets: HashMap<u64, Target>,
    room: Room,
    /// Shared with all [`Kept`], which counts them.
    kept: Arc<()>,
    /// Number of the next target; none is used twice.
    next: u64,
    /// Targets by when their probes are due. Entries that their target does not confirm are stale.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    health: Health,
    /// Whether `health` has not been taken since it changed.
    changed: bool,
    trouble: log::Trouble,
    jitter: Jitter,
}

/// The checks of one upstream.
struct Checker {
    upstream: Arc<Upstream>,
    checks: Arc<Checks>,
    plan: Arc<Plan>,
    /// In the order of the nodes.
    targets: Vec<u64>,
    /// The target of each node; several nodes may share one.
    of_node: Vec<u64>,
    /// Targets, maybe removed ones, of which a probe is under way.
    running: Vec<u64>,
    /// Targets that are due while too many probes are under way.
    waiting: VecDeque<u64>,
}

/// Something that is probed.
struct Target {
    aim: Arc<Aim>,
    kept: Option<Kept>,
    tracker: Tracker,
    phase: Phase,
    /// Counts probes; from the target's number on, so that not all connections are renewed at the
    /// same time.
    turn: u64,
    /// When its last probe began, or was meant to.
    began: Instant,
}

/// A connection for a target's next probe.
struct Kept {
    connection: Connection,
    _counted: Arc<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No probe is planned.
    Resting,
    Due(Instant),
    /// Due, while too many probes of the same upstream are under way.
    Waiting,
    Probing,
}

impl Registry {
    /// No checks yet.
    pub(super) fn new(room: Room) -> Self {
        Self { room, ..Self::default() }
    }

    /// Most probes under way at the same time.
    pub(super) fn probes(&self) -> usize {
        self.room.probes
    }

    /// Follows the configuration.
    pub(super) fn apply(&mut self, changes: Vec<CheckChange>, now: Instant) {
        for (id, checked) in changes {
            match checked {
                Some(checked) => self.put(&id, checked, now),
                None => self.remove(&id),
            }
        }
    }

    /// What is known of nodes; it counts as taken.
    pub(super) fn take_health(&mut self) -> Health {
        self.changed = false;
        self.health.clone()
    }

    /// Whether there is something new to take.
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// When the next probe is due.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, number))) = self.due.peek().copied() {
            if self.targets.get(&number).is_some_and(|target| target.phase == Phase::Due(at)) {
                return Some(at);
            }
            self.due.pop();
        }
        None
    }

    /// A probe to make now. What is found belongs into [`Registry::finish`].
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Job> {
        while self.next_due()? <= now {
            let Reverse((_, number)) = self.due.pop()?;
            let target = self.targets.get_mut(&number)?;
            let checker = self.checkers.get_mut(&target.aim.checker)?;
            if checker.running.len() >= checker.plan.concurrency {
                target.phase = Phase::Waiting;
                checker.waiting.push_back(number);
                continue;
            }
            checker.running.push(number);
            target.phase = Phase::Probing;
            target.began = now;
            target.turn += 1;
            let is_renewed = target.turn.is_multiple_of(target.aim.plan.renewal());
            let kept = target.kept.take().filter(|_| !is_renewed);
            return Some(Job {
                target: number,
                aim: Arc::clone(&target.aim),
                kept: kept.map(|kept| kept.connection),
            });
        }
        None
    }

    /// Takes what a probe found.
    pub(super) fn finish(&mut self, job: Job, found: Found, now: Instant) {
        let Job { target: number, aim, kept } = job;
        self.stopped(&aim.checker, number, now);
        let target = self.targets.get_mut(&number);
        // A probe that was made as an older configuration wanted says nothing any more.
        if let Some(target) = target.filter(|target| Arc::ptr_eq(&target.aim, &aim)) {
            target.kept = match kept {
                Some(connection) if Arc::strong_count(&self.kept) <= self.room.kept => {
                    Some(Kept { connection, _counted: Arc::clone(&self.kept) })
                }
                _ => None,
            };
            if let Found::Node(outcome, error) = &found {
                let why = log::Why { by: log::PROBE, error: error.as_ref() };
                self.record(number, &aim.plan.active, *outcome, 1, why, now);
            }
        }
        if let Found::Local(error) = found {
            self.trouble.tell(&error, now);
            // It may be these that are too many.
            for target in self.targets.values_mut() {
                target.kept = None;
            }
        }
        self.plan_next(number, now);
    }

    /// A probe has ended: others of its upstream may wait for that.
    fn stopped(&mut self, checker: &str, number: u64, now: Instant) {
        let Some(checker) = self.checkers.get_mut(checker) else { return };
        if let Some(index) = checker.running.iter().position(|running| *running == number) {
            checker.running.swap_remove(index);
        }
        let room = checker.plan.concurrency.saturating_sub(checker.running.len());
        let ready = room.min(checker.waiting.len());
        let ready: Vec<u64> = checker.waiting.drain(..ready).collect();
        for number in ready {
            self.set_due(number, now);
        }
    }

    /// Takes what a worker saw.
    pub(super) fn report(&mut self, report: &Report, now: Instant) {
        let Some(checker) = self.by_slot.get(&report.upstream) else { return };
        let Some(checker) = self.checkers.get(checker) else { return };
        let Some(criteria) = checker.plan.passive else { return };
        let nodes = checker.upstream.nodes.iter().zip(&checker.of_node);
        let mut numbers: Vec<u64> =
            nodes.filter(|(node, _)| node.addr == report.addr).map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let why = log::Why { by: log::TRAFFIC, error: None };
            self.record(number, &criteria, report.outcome, report.count, why, now);
        }
    }

    /// The checker of an upstream.
    pub(super) fn view(&self, id: &str) -> Option<CheckerView> {
        let (id, checker) = self.checkers.get_key_value(id)?;
        Some(self.view_of(id, checker))
    }

    /// All checkers, by upstream.
    pub(super) fn views(&self) -> Vec<CheckerView> {
        let views = self.checkers.iter().map(|(id, checker)| self.view_of(id, checker));
        let mut views: Vec<_> = views.collect();
        views.sort_unstable_by(|a, b| a.upstream.cmp(&b.upstream));
        views
    }

    fn view_of(&self, id: &Arc<str>, checker: &Checker) -> CheckerView {
        let targets = checker.targets.iter().filter_map(|number| self.targets.get(number));
        let view = |target: &Target| {
            let Place { addr, unix, name } = &target.aim.place;
            let ip = addr.ip();
            TargetView {
                addr: *addr,
                unix: unix.clone(),
                hostname: checker.plan.host.clone(),
                host_header: (**name != *ip.to_string()).then(|| Arc::clone(name)),
                state: target.tracker.state(),
                counters: target.tracker.counters(),
            }
        };
        CheckerView { upstream: Arc::clone(id), targets: targets.map(view).collect() }
    }

    fn put(&mut self, id: &Arc<str>, checked: Checked, now: Instant) {
        let Checked { upstream, checks } = checked;
        let old = self.checkers.remove(id);
        let plan = match &old {
            Some(old) if *old.checks == *checks => Arc::clone(&old.plan),
            _ => Arc::new(Plan::new(id, &checks)),
        };
        if let Some(old) = &old
            && old.upstream.slot != upstream.slot
        {
            self.forget_slot(old.upstream.slot);
        }
        self.by_slot.insert(upstream.slot, Arc::clone(id));
        let (targets, of_node) = self.retarget(id, old.as_ref(), &upstream, &plan, now);
        let (running, mut waiting) = old.map(|old| (old.running, old.waiting)).unwrap_or_default();
        waiting.retain(|number| self.targets.contains_key(number));
        let checker = Checker { upstream, checks, plan, targets, of_node, running, waiting };
        self.checkers.insert(Arc::clone(id), checker);
        self.refresh(id);
    }

    /// The targets of an upstream's nodes: those that are there already, with all that is known of
    /// them, and new ones.
    fn retarget(
        &mut self,
        id: &Arc<str>,
        old: Option<&Checker>,
        upstream: &Upstream,
        plan: &Arc<Plan>,
        now: Instant,
    ) -> (Vec<u64>, Vec<u64>) {
        let mut before: HashMap<Place, u64> = HashMap::default();
        let mut by_node: HashMap<SocketAddr, u64> = HashMap::default();
        let mut is_replanned = true;
        if let Some(old) = old {
            is_replanned = !Arc::ptr_eq(&old.plan, plan)
                || old.upstream.proxy_protocol != upstream.proxy_protocol;
            let place = |number: &u64| Some((self.targets.get(number)?.aim.place.clone(), *number));
            before.extend(old.targets.iter().filter_map(place));
            let nodes = old.upstream.nodes.iter().map(|node| node.addr);
            by_node.extend(nodes.zip(old.of_node.iter().copied()));
        }
        let mut now_there: HashMap<Place, u64> = HashMap::default();
        let (mut targets, mut of_node) = (Vec::new(), Vec::with_capacity(upstream.nodes.len()));
        for node in &upstream.nodes {
            let place = plan.place(upstream, node);
            let number = match (now_there.get(&place), before.remove(&place)) {
                (Some(number), _) => *number,
                (None, Some(number)) => {
                    if is_replanned {
                        self.replan(number, Aim::new(id, upstream, plan, &place), now);
                    }
                    number
                }
                (None, None) => {
                    // Checked at another port or by another name: it is the same node.
                    let known = by_node.get(&node.addr).and_then(|known| self.targets.get(known));
                    let tracker = known.map_or_else(Tracker::default, |known| known.tracker);
                    self.add(Aim::new(id, upstream, plan, &place), tracker, now)
                }
            };
            if now_there.insert(place, number).is_none() {
                targets.push(number);
            }
            of_node.push(number);
        }
        for number in before.into_values() {
            self.targets.remove(&number);
        }
        (targets, of_node)
    }

    fn add(&mut self, aim: Aim, tracker: Tracker, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        let (aim, phase) = (Arc::new(aim), Phase::Resting);
        let target = Target { aim, kept: None, tracker, phase, turn: number, began: now };
        self.targets.insert(number, target);
        self.plan_first(number, now);
        number
    }

    /// Aims at a target anew, on a new connection.
    fn replan(&mut self, number: u64, aim: Aim, now: Instant) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        target.aim = Arc::new(aim);
        target.kept = None;
        self.plan_first(number, now);
    }

    /// Plans the first probe with an aim. One that is under way or waiting goes first.
    fn plan_first(&mut self, number: u64, now: Instant) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        if matches!(target.phase, Phase::Waiting | Phase::Probing) {
            return;
        }
        target.phase = Phase::Resting;
        if let Some(interval) = target.aim.plan.interval(target.tracker.state().is_up()) {
            let spread = interval.min(FIRST_SPREAD).mul_f64(self.jitter.draw());
            self.set_due(number, now + spread);
        }
    }

    fn remove(&mut self, id: &str) {
        let Some(checker) = self.checkers.remove(id) else { return };
        for number in checker.targets {
            self.targets.remove(&number);
        }
        self.forget_slot(checker.upstream.slot);
    }

    fn forget_slot(&mut self, slot: Slot) {
        self.by_slot.remove(&slot);
        self.changed |= self.health.clear(slot);
    }

    /// Counts an outcome for a target.
    fn record(
        &mut self,
        number: u64,
        criteria: &Criteria,
        outcome: Outcome,
        count: u32,
        why: log::Why<'_>,
        now: Instant,
    ) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let Some(event) = criteria.judge(outcome) else { return };
        let (before, limit) = (target.tracker.state(), criteria.limit(event));
        // No threshold is higher than a counter can be.
        for _ in 0..count.min(u32::from(u8::MAX)) {
            target.tracker.record(event, limit);
        }
        let after = target.tracker.state();
        if before == after {
            return;
        }
        let (checker, place) = (Arc::clone(&target.aim.checker), &target.aim.place);
        log::transition(&checker, place, (before, after), (event, limit), outcome, why);
        self.refresh(&checker);
        if before.is_up() != after.is_up()
            && matches!(self.phase(number), Some(Phase::Due(_) | Phase::Resting))
        {
            // The other interval counts from here.
            self.began(number, now);
            self.plan_next(number, now);
        }
    }

    fn phase(&self, number: u64) -> Option<Phase> {
        self.targets.get(&number).map(|target| target.phase)
    }

    fn began(&mut self, number: u64, now: Instant) {
        if let Some(target) = self.targets.get_mut(&number) {
            target.began = now;
        }
    }

    /// Plans the next probe of a target, an interval after the last one began.
    fn plan_next(&mut self, number: u64, now: Instant) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        target.phase = Phase::Resting;
        if let Some(interval) = target.aim.plan.interval(target.tracker.state().is_up()) {
            // A twentieth earlier or later, so that what fell together drifts apart.
            let at = target.began + interval.mul_f64(0.95 + 0.1 * self.jitter.draw());
            self.set_due(number, at.max(now));
        }
    }

    fn set_due(&mut self, number: u64, at: Instant) {
        if let Some(target) = self.targets.get_mut(&number) {
            target.phase = Phase::Due(at);
            self.due.push(Reverse((at, number)));
        }
    }

    /// Brings what workers see of an upstream up to date.
    fn refresh(&mut self, id: &str) {
        let Some(checker) = self.checkers.get(id) else { return };
        let counts = checker.plan.passive.is_some_and(|passive| passive.thresholds.successes > 0);
        let trackers = checker.of_node.iter().enumerate();
        let mut marks = Marks::default();
        for (index, number) in trackers {
            let Some(target) = self.targets.get(number) else { continue };
            let state = target.tracker.state();
            let put = |set: &mut NodeSet, wanted: bool| {
                if wanted {
                    set.insert(index);
                }
            };
            put(&mut marks.down, !state.is_up());
            put(&mut marks.counted, counts && state != osmia_core::health::State::Healthy);
        }
        self.changed |= self.health.mark(checker.upstream.slot, marks);
    }
}

/// Random numbers that are good enough to spread probes, other ones in each process.
#[derive(Default)]
struct Jitter {
    seed: RandomState,
    drawn: u64,
}

impl Jitter {
    /// From zero to one.
    fn draw(&mut self) -> f64 {
        self.drawn += 1;
        (self.seed.hash_one(self.drawn) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
