//! Least connections: the node with the smallest (connections + 1) / weight.
//!
//! Source: APISIX, admin-api.md#upstream (`least_conn`) and `apisix/balancer/least_conn.lua`, which
//! keeps the counts of nodes across changes too. Among equals the one that was picked longest ago
//! is next, so that requests that do not overlap are spread as well.

use super::known::{Known, Place};
use super::tournament::Tournament;
use crate::node_set::NodeSet;
use crate::snapshot::{Node, Upstream};

/// Counts of one upstream in one worker.
#[derive(Debug, Clone, Default)]
pub(super) struct LeastConn {
    nodes: Known<Connections>,
    /// One tournament per priority; nodes play by their index in the upstream.
    levels: Box<[Tournament]>,
    /// By index into the upstream's nodes.
    seats: Box<[Seat]>,
    /// Low bits of a load that a rank has no room for; none with up to 2,047 nodes.
    left_out: u32,
    picks: u32,
}

/// What is known of one node.
#[derive(Debug, Clone, Copy, Default)]
struct Connections {
    count: u32,
    /// The pick that was the node's last.
    picked: u32,
}

/// What a node's rank is made of.
#[derive(Debug, Clone, Copy)]
struct Seat {
    /// `None`: it does not serve.
    level: Option<u32>,
    /// One over the weight.
    share: f32,
    /// The load with one connection more: a pick need not wait for it to be computed.
    next: u32,
}

/// Bits of a rank that tell who was picked longest ago.
const PICKED: u32 = 22;
/// Bits of a load, which is a float above zero.
const LOAD: u32 = 31;

impl LeastConn {
    /// Goes over to the nodes of `upstream`, of which `levels` serve.
    pub(super) fn follow(&mut self, upstream: &Upstream, levels: Vec<Box<[u32]>>, turn: usize) {
        self.nodes.follow(upstream, |known| known.count > 0);
        if self.picks == 0 {
            // Workers should not all begin with the first node.
            let count = upstream.nodes.len();
            for index in 0..count {
                if let Some(known) = self.nodes.get_mut(index) {
                    known.picked = ((index + count - turn % count) % count) as u32;
                }
            }
            self.picks = count as u32;
        }
        let count = upstream.nodes.len();
        let seat = |node: &Node| {
            let share = 1.0 / node.weight.max(1) as f32;
            Seat { level: None, share, next: 0 }
        };
        self.seats = upstream.nodes.iter().map(seat).collect();
        for (level, members) in (0..).zip(&levels) {
            for index in members {
                self.seats[*index as usize].level = Some(level);
            }
        }
        self.left_out = (LOAD + PICKED).saturating_sub(Tournament::room(count));
        self.levels = levels.iter().map(|_| Tournament::new(count)).collect();
        self.rank();
    }

    /// Ranks all nodes by what is known of them.
    fn rank(&mut self) {
        for index in 0..self.seats.len() {
            self.change(index, |count| count);
        }
    }

    /// The node that comes next and is not in `tried`; it has one connection more from now on.
    #[inline]
    pub(super) fn pick(&mut self, tried: &NodeSet) -> Option<usize> {
        let (level, index) = if tried.is_empty() {
            let level = self.levels.first_mut()?;
            let index = level.best();
            (level, index)
        } else {
            self.levels.iter_mut().find_map(|level| {
                let untried = level.best_of(|index| !tried.contains(index));
                untried.map(|index| (level, index))
            })?
        };
        let (known, seat) = (self.nodes.get_mut(index)?, self.seats.get_mut(index)?);
        self.picks += 1;
        level.set(index, rank(seat.next, self.picks));
        *known = Connections { count: known.count.saturating_add(1), picked: self.picks };
        seat.next = seat.load(known.count.saturating_add(1), self.left_out);
        if self.picks >= (1 << PICKED) - 1 {
            self.renumber();
        }
        Some(index)
    }

    /// Numbers the nodes' last picks anew, in the same order.
    #[cold]
    fn renumber(&mut self) {
        let mut order: Vec<usize> = (0..self.seats.len()).collect();
        order.sort_unstable_by_key(|index| self.nodes.get(*index).picked);
        self.picks = 0;
        for index in order {
            if let Some(known) = self.nodes.get_mut(index) {
                known.picked = self.picks;
                self.picks += 1;
            }
        }
        self.rank();
    }

    /// Counts a connection to a node of an older upstream, of which no level is known.
    pub(super) fn count(&mut self, upstream: &Upstream, index: usize) {
        match self.nodes.place(upstream, index) {
            Some(Place::At(index)) => self.change(index, |count| count.saturating_add(1)),
            Some(Place::Gone(addr)) => {
                let known = self.nodes.gone().entry(addr).or_default();
                known.count = known.count.saturating_add(1);
            }
            None => {}
        }
    }

    /// A connection to a node of `upstream` has ended.
    pub(super) fn release(&mut self, upstream: &Upstream, index: usize) {
        match self.nodes.place(upstream, index) {
            // Never below zero, should a release come without a pick.
            Some(Place::At(index)) => self.change(index, |count| count.saturating_sub(1)),
            Some(Place::Gone(addr)) => {
                let gone = self.nodes.gone();
                if let Some(known) = gone.get_mut(&addr) {
                    known.count = known.count.saturating_sub(1);
                    if known.count == 0 {
                        gone.remove(&addr);
                    }
                }
            }
            None => {}
        }
    }

    #[inline]
    fn change(&mut self, index: usize, change: impl Fn(u32) -> u32) {
        let Some(known) = self.nodes.get_mut(index) else { return };
        known.count = change(known.count);
        let Some(seat) = self.seats.get_mut(index) else { return };
        seat.next = seat.load(known.count.saturating_add(1), self.left_out);
        if let Some(level) = seat.level {
            let load = seat.load(known.count, self.left_out);
            self.levels[level as usize].set(index, rank(load, known.picked));
        }
    }

    /// Connections of the node at `index`.
    #[cfg(test)]
    pub(super) fn connections(&self, index: usize) -> u32 {
        self.nodes.get(index).count
    }
}

impl Seat {
    /// Connections for the weight, as bits that are in the order of the numbers, as those of floats
    /// above zero are.
    #[inline]
    fn load(&self, connections: u32, left_out: u32) -> u32 {
        ((connections as f32 + 1.0) * self.share).to_bits() >> left_out
    }
}

/// The smaller comes first: by load, then by last pick.
#[inline]
fn rank(load: u32, picked: u32) -> u64 {
    u64::from(load) << PICKED | u64::from(picked)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Tries, done, nodes_with, pick, picks, upstream, weighted};
    use super::super::{Algorithm, Balancer, State};
    use super::*;

    fn counts(state: &State, nodes: usize) -> Vec<u32> {
        let Algorithm::LeastConn(state) = &state.algorithm else { panic!() };
        (0..nodes).map(|index| state.connections(index)).collect()
    }

    #[test]
    fn connections_follow_the_weights() {
        let upstream = weighted(Balancer::LeastConn, &[1, 2, 5, 0]);
        let mut state = State::default();
        assert_eq!(picks(&mut state, &upstream, 3), [2, 2, 1]);
        picks(&mut state, &upstream, 77);
        assert_eq!(counts(&state, 4), [10, 20, 50, 0]);
        // Whoever gets rid of a connection is next.
        state.release(&upstream, 1, done(1, 1));
        assert_eq!(pick(&mut state, &upstream), Some(1));
    }

    #[test]
    fn requests_that_do_not_overlap_are_spread() {
        let upstream = weighted(Balancer::LeastConn, &[1, 1, 1]);
        let mut state = State::starting_at(1);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let index = pick(&mut state, &upstream).unwrap();
            state.release(&upstream, index, done(1, 1));
            seen.push(index);
        }
        assert_eq!(seen, [1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn the_order_of_picks_outlasts_their_numbers() {
        let upstream = weighted(Balancer::LeastConn, &[1, 1, 1]);
        let mut state = State::default();
        let mut next = || {
            let index = pick(&mut state, &upstream).unwrap();
            state.release(&upstream, index, done(1, 1));
            if let Algorithm::LeastConn(state) = &mut state.algorithm {
                assert!(state.picks < 1 << PICKED);
                if state.picks == 4 {
                    state.picks = (1 << PICKED) - 5;
                }
            }
            index
        };
        assert_eq!([0; 12].map(|_| next()), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn thousands_of_nodes_have_coarser_loads() {
        let upstream = weighted(Balancer::LeastConn, &vec![1; 60_000]);
        let mut state = State::default();
        let first = picks(&mut state, &upstream, 60_000);
        assert!(first.iter().copied().eq(0..60_000));
        state.release(&upstream, 59_999, done(1, 1));
        assert_eq!(pick(&mut state, &upstream), Some(59_999));
    }

    #[test]
    fn counts_stay_with_their_nodes() {
        let older = weighted(Balancer::LeastConn, &[1, 1, 1]);
        let mut state = State::default();
        assert_eq!(picks(&mut state, &older, 5), [0, 1, 2, 0, 1]);
        // Node 0 goes, node 3 comes, the others move.
        let mut nodes = nodes_with(&[(1, 0); 4]).split_off(1);
        nodes.reverse();
        let newer = upstream(Balancer::LeastConn, nodes);
        assert_eq!(pick(&mut state, &newer), Some(0));
        assert_eq!(counts(&state, 3), [1, 1, 2]);
        // Requests of before end.
        state.release(&older, 1, done(1, 1));
        state.release(&older, 2, done(1, 1));
        state.release(&older, 0, done(1, 1));
        assert_eq!(counts(&state, 3), [1, 0, 1]);
        // Node 0 comes back and still has one.
        let newest = weighted(Balancer::LeastConn, &[1, 1, 1]);
        picks(&mut state, &newest, 1);
        assert_eq!(counts(&state, 3), [1, 1, 1]);
    }

    #[test]
    fn a_retry_of_before_a_change_is_counted() {
        let older = weighted(Balancer::LeastConn, &[1, 1]);
        let newer = weighted(Balancer::LeastConn, &[1]);
        let mut state = State::default();
        assert_eq!(pick(&mut state, &older), Some(0));
        assert_eq!(pick(&mut state, &newer), Some(0));
        let mut tries = Tries { tried: [0].into_iter().collect(), ..Tries::default() };
        assert_eq!(tries.next(&mut state, &older), Some(1));
        // The one on node 0 is a newer request's, node 1 is gone but known.
        let newest = weighted(Balancer::LeastConn, &[1, 9]);
        assert_eq!(pick(&mut state, &newest), Some(1));
        assert_eq!(counts(&state, 2), [2, 2]);
        state.release(&older, 1, done(1, 1));
        state.release(&newest, 1, done(1, 1));
        state.release(&newest, 1, done(1, 1));
        assert_eq!(counts(&state, 2), [2, 0]);
    }

    #[test]
    fn connections_of_another_algorithm_do_not_count() {
        let robin = weighted(Balancer::RoundRobin, &[1]);
        let least = weighted(Balancer::LeastConn, &[1]);
        let mut state = State::default();
        assert_eq!(pick(&mut state, &robin), Some(0));
        assert_eq!(pick(&mut state, &least), Some(0));
        state.release(&robin, 0, done(1, 1));
        assert_eq!(counts(&state, 1), [1]);
    }

    proptest! {
        /// Against counting by hand: the pick has the smallest score, and counts come out right
        /// through changes of health.
        #[test]
        fn the_smallest_score_is_picked(
            weights in proptest::collection::vec(1..6_u32, 1..80),
            steps in proptest::collection::vec((any::<bool>(), any::<usize>()), 0..200),
        ) {
            let upstream = weighted(Balancer::LeastConn, &weights);
            let mut state = State::default();
            let (mut open, mut model) = (Vec::new(), vec![0_u32; weights.len()]);
            for (end, random) in steps {
                if end && !open.is_empty() {
                    let index: usize = open.swap_remove(random % open.len());
                    state.release(&upstream, index, done(1, 1));
                    model[index] -= 1;
                    continue;
                }
                let down: NodeSet = [random % 4].into_iter().collect();
                let tries = Tries { down: (random % 5 == 0).then_some(&down), ..Tries::default() };
                let is_down = |index| tries.down.is_some_and(|down| down.contains(index));
                let score = |i: usize| (f64::from(model[i]) + 1.0) / f64::from(weights[i]);
                let up = (0..weights.len()).filter(|i| weights.len() == 1 || !is_down(*i));
                let least = up.map(score).fold(f64::INFINITY, f64::min);
                let index = tries.clone().next(&mut state, &upstream).unwrap();
                prop_assert!(score(index) <= least * 1.000_001);
                model[index] += 1;
                open.push(index);
            }
            if !model.iter().all(|count| *count == 0) {
                prop_assert_eq!(counts(&state, weights.len()), model);
            }
        }
    }
}
