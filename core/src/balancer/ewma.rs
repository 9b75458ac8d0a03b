//! EWMA: of two nodes taken at random, the one with the smaller average latency.
//!
//! Source: APISIX, `apisix/balancer/ewma.lua`. An average decays towards zero while its node has no
//! requests, so that a slow node gets another chance; a node nothing is known of counts as zero.
//! As there, weights have no influence, but for zero, which takes a node out.

use super::known::{Known, Place};
use super::{Ask, Outcome};
use crate::node_set::NodeSet;
use crate::snapshot::Upstream;

/// After this long an average has decayed to 1/e.
const DECAY_MS: f64 = 10_000.0;

/// An average older than this is forgotten.
const KEPT_MS: u64 = 60_000;

/// What a failed try counts as, unless it took longer.
const FAILED_US: f64 = 1_000_000.0;

/// Averages of one upstream in one worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Ewma {
    nodes: Known<Average>,
    levels: Box<[Box<[u32]>]>,
}

#[derive(Debug, Clone, Copy)]
struct Average {
    /// In microseconds, at the time `at_ms`.
    latency: f64,
    at_ms: u64,
    /// The logarithm of what the average was worth at time zero. All averages decay alike, so these
    /// are in the order of the averages at any time, and a pick needs no exponential.
    rank: f64,
}

impl Default for Average {
    fn default() -> Self {
        Self { latency: 0.0, at_ms: 0, rank: f64::NEG_INFINITY }
    }
}

impl Ewma {
    /// Goes over to the nodes of `upstream`, of which `levels` serve.
    pub(super) fn follow(&mut self, upstream: &Upstream, levels: Vec<Box<[u32]>>) {
        self.nodes.follow(upstream, |_| false);
        self.levels = levels.into();
    }

    /// The better one of two nodes of the highest priority that has one that was not tried.
    #[inline]
    pub(super) fn pick(&self, ask: &Ask<'_>) -> Option<usize> {
        if ask.tried.is_empty() {
            let level = self.levels.first()?;
            let (one, other) = two_of(level.len(), ask.random);
            return Some(self.better(*level.get(one)?, *level.get(other)?, ask.now_ms));
        }
        self.levels.iter().find_map(|level| self.pick_untried(level, ask))
    }

    fn pick_untried(&self, level: &[u32], ask: &Ask<'_>) -> Option<usize> {
        let untried = || level.iter().filter(|index| is_untried(ask.tried, **index));
        let (one, other) = two_of(untried().count(), ask.random);
        Some(self.better(*untried().nth(one)?, *untried().nth(other)?, ask.now_ms))
    }

    #[inline]
    fn better(&self, one: u32, other: u32, now_ms: u64) -> usize {
        let rank = |index: u32| self.nodes.get(index as usize).rank(now_ms);
        let better = if rank(one) > rank(other) { other } else { one };
        better as usize
    }

    /// Takes the latency of a try into the node's average. A failure counts as a slow answer: to
    /// refuse quickly is no merit.
    pub(super) fn release(&mut self, upstream: &Upstream, index: usize, outcome: Outcome) {
        let Some(Place::At(index)) = self.nodes.place(upstream, index) else { return };
        let Some(average) = self.nodes.get_mut(index) else { return };
        let least = if outcome.ok { 0.0 } else { FAILED_US };
        average.add((outcome.latency_us as f64).max(least), outcome.now_ms);
    }

    /// The average of the node at `index`, in microseconds.
    #[cfg(test)]
    pub(super) fn average(&self, index: usize, now_ms: u64) -> f64 {
        self.nodes.get(index).now(now_ms).0
    }
}

impl Average {
    fn is_kept(&self, now_ms: u64) -> bool {
        self.rank > f64::NEG_INFINITY && now_ms.saturating_sub(self.at_ms) <= KEPT_MS
    }

    /// The average at `now_ms`, and what share of it is old.
    fn now(&self, now_ms: u64) -> (f64, f64) {
        if !self.is_kept(now_ms) {
            return (0.0, 0.0);
        }
        let old = (-(now_ms.saturating_sub(self.at_ms) as f64) / DECAY_MS).exp();
        (self.latency * old, old)
    }

    fn add(&mut self, latency: f64, now_ms: u64) {
        let (decayed, old) = self.now(now_ms);
        let latency = decayed + latency * (1.0 - old);
        *self = Self { latency, at_ms: now_ms, rank: latency.ln() + now_ms as f64 / DECAY_MS };
    }

    #[inline]
    fn rank(&self, now_ms: u64) -> f64 {
        if self.is_kept(now_ms) { self.rank } else { f64::NEG_INFINITY }
    }
}

fn is_untried(tried: &NodeSet, index: u32) -> bool {
    !tried.contains(index as usize)
}

/// Two different positions below `count`, each pair being equally likely; of one, that one twice.
#[inline]
fn two_of(count: usize, random: u64) -> (usize, usize) {
    let below = |random: u64, count: usize| ((random * count as u64) >> 32) as usize;
    let one = below(random >> 32, count);
    let other = below(random & u64::from(u32::MAX), count.saturating_sub(1));
    (one, if count > 1 && other >= one { other + 1 } else { other })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{done, nodes_with, upstream, weighted};
    use super::super::{Algorithm, Balancer, State};
    use super::*;

    fn average(state: &State, index: usize, now_ms: u64) -> f64 {
        let Algorithm::Ewma(state) = &state.algorithm else { panic!() };
        state.average(index, now_ms)
    }

    fn pick_at(state: &mut State, upstream: &Upstream, now_ms: u64, random: u64) -> usize {
        let tried = &NodeSet::default();
        state.pick(upstream, &Ask { tried, down: None, hash: 0, now_ms, random }).unwrap()
    }

    #[test]
    fn averages_decay_as_in_apisix() {
        let upstream = weighted(Balancer::Ewma, &[1, 1]);
        let mut state = State::default();
        pick_at(&mut state, &upstream, 5_000, 0);
        state.release(&upstream, 0, done(80_000, 5_000));
        assert!((average(&state, 0, 5_000) - 80_000.0).abs() < 1e-6);
        // After ten seconds 1/e of it is left.
        assert!((average(&state, 0, 15_000) - 80_000.0 / std::f64::consts::E).abs() < 1e-6);
        state.release(&upstream, 0, done(10_000, 10_000));
        let old = (-0.5_f64).exp();
        let want = 80_000.0 * old + 10_000.0 * (1.0 - old);
        assert!((average(&state, 0, 10_000) - want).abs() < 1e-6);
        assert!(average(&state, 0, 70_000) > 0.0);
        assert_eq!(average(&state, 0, 70_001).to_bits(), 0);
    }

    #[test]
    fn the_faster_of_two_is_picked() {
        let upstream = weighted(Balancer::Ewma, &[1, 9]);
        let mut state = State::default();
        pick_at(&mut state, &upstream, 0, 0);
        state.release(&upstream, 0, done(300, 0));
        state.release(&upstream, 1, done(200, 0));
        // The same pair whatever the random bits, then the roles change.
        for random in [0, u64::MAX, 1 << 63, 7] {
            assert_eq!(pick_at(&mut state, &upstream, 0, random), 1);
        }
        state.release(&upstream, 1, done(900, 20_000));
        for random in [0, u64::MAX, 1 << 63, 7] {
            assert_eq!(pick_at(&mut state, &upstream, 20_000, random), 0);
        }
    }

    /// However quickly a node refuses, and although averages decay: it is tried now and then.
    #[test]
    fn a_refusing_node_attracts_nothing() {
        let upstream = weighted(Balancer::Ewma, &[1, 1]);
        let mut state = State::default();
        let (mut refused, mut random) = (0, 1_u64);
        for now_ms in (0..600_000).step_by(10) {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let tried = NodeSet::default();
            let ask = Ask { tried: &tried, down: None, hash: 0, now_ms, random };
            let index = state.pick(&upstream, &ask).unwrap();
            refused += u32::from(index == 0);
            let latency_us = if index == 0 { 10 } else { 20_000 };
            state.release(&upstream, index, Outcome { latency_us, ok: index == 1, now_ms });
        }
        assert!((1..100).contains(&refused), "{refused} of 60,000");
        // What took longer than that counts as what it took.
        let failed = Outcome { latency_us: 60_000_000, ok: false, now_ms: 600_000 };
        let before = average(&state, 1, 600_000);
        state.release(&upstream, 1, Outcome { now_ms: 601_000, ..failed });
        assert!(average(&state, 1, 601_000) > before + 1_000_000.0);
    }

    #[test]
    fn averages_stay_with_their_nodes() {
        let older = weighted(Balancer::Ewma, &[1, 1, 1]);
        let mut state = State::default();
        pick_at(&mut state, &older, 0, 0);
        for (index, latency) in [(0, 100), (1, 200), (2, 300)] {
            state.release(&older, index, done(latency, 0));
        }
        let mut nodes = nodes_with(&[(1, 0); 4]).split_off(1);
        nodes.reverse();
        let newer = upstream(Balancer::Ewma, nodes);
        pick_at(&mut state, &newer, 0, 0);
        let averages = [0, 1, 2].map(|index| average(&state, index, 0).round() as u32);
        assert_eq!(averages, [0, 300, 200]);
        // A request of before ends: on a node that moved, and on one that is gone.
        state.release(&older, 2, done(700, 100_000));
        state.release(&older, 0, done(700, 100_000));
        let averages = [0, 1, 2].map(|index| average(&state, index, 100_000).round() as u32);
        assert_eq!(averages, [0, 700, 0]);
    }

    proptest! {
        /// The order that ranks are in is that of the averages.
        #[test]
        fn ranks_compare_as_averages_do(
            latencies in proptest::collection::vec((0..5_000_000_u64, 0..50_000_u64), 2..70),
            random in any::<u64>(),
        ) {
            let upstream = weighted(Balancer::Ewma, &vec![1; latencies.len()]);
            let mut state = State::default();
            pick_at(&mut state, &upstream, 0, 0);
            for (index, (latency, at)) in latencies.iter().enumerate() {
                state.release(&upstream, index, done(*latency, *at));
                state.release(&upstream, index, done(*latency / 3, *at + 500));
            }
            let now = 55_000;
            let (one, other) = two_of(latencies.len(), random);
            prop_assert_ne!(one, other);
            let [a, b] = [one, other].map(|index| average(&state, index, now));
            prop_assume!((a - b).abs() > 1e-6 * a.max(b));
            let picked = pick_at(&mut state, &upstream, now, random);
            prop_assert_eq!(picked, if a > b { other } else { one });
        }

        #[test]
        fn pairs_differ_and_are_in_range(count in 2..1000_usize, random in any::<u64>()) {
            let (one, other) = two_of(count, random);
            prop_assert!(one < count && other < count && one != other);
        }
    }

    #[test]
    fn all_pairs_are_equally_likely() {
        let mut counts = [[0_u32; 5]; 5];
        let mut random = 1_u64;
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (one, other) = two_of(5, random);
            counts[one][other] += 1;
        }
        for (one, row) in counts.iter().enumerate() {
            for (other, count) in row.iter().enumerate() {
                let want = if one == other { 0..1 } else { 9_000..11_000 };
                assert!(want.contains(count), "{counts:?}");
            }
        }
    }
}
