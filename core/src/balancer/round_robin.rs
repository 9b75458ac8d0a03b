//! Smooth weighted round-robin.
//!
//! Source: nginx's upstream module, whose order is taken wherever it can be computed ahead. Nodes
//! get the shares that APISIX gives them (admin-api.md#upstream, `roundrobin`); lua-resty-balancer
//! lets a heavy node have its turns one after the other, here they are spread out.

use super::priority::gcd;
use super::tournament::Tournament;
use crate::node_set::NodeSet;
use crate::snapshot::Node;

/// Most steps that computing an order ahead may take: below a tenth of a millisecond.
const STEPS_MAX: u64 = 1 << 16;

/// Time between two turns of a node with weight 1. So large that weights differing by one differ in
/// their times as well.
const TURN_TIME: u64 = 1 << 52;

/// When the smallest deadline gets here, all are set back.
const DEADLINE_MAX: u64 = 1 << 62;

/// The round-robin of nodes of one priority.
#[derive(Debug, Clone)]
pub(super) struct RoundRobin {
    /// Indexes into the upstream's nodes.
    members: Box<[u32]>,
    order: Order,
}

#[derive(Debug, Clone)]
enum Order {
    /// The turns of one round, computed ahead.
    Round { turns: Box<[u32]>, next: usize },
    /// Rounds are too long for that.
    Deadlines(Deadlines),
}

/// Whoever has the earliest deadline is next.
#[derive(Debug, Clone)]
struct Deadlines {
    /// By index into the upstream's nodes.
    turns: Box<[Turn]>,
    /// By deadline, but for the low bits that a rank has no room for: much less than a turn.
    ranks: Tournament,
    left_out: u32,
}

/// When it is a node's turn.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    deadline: u64,
    /// Until the next one; zero for nodes that have none.
    time: u64,
}

impl RoundRobin {
    /// Over `members`, indexes into `nodes` with a weight each. `turn` says how far it has got, so
    /// that workers do not all begin with the first node, and a change does not begin anew.
    pub(super) fn new(members: Box<[u32]>, nodes: &[Node], turn: usize) -> Self {
        let weight = |index: &u32| nodes.get(*index as usize).map_or(1, |node| node.weight.max(1));
        let mut weights: Box<[u32]> = members.iter().map(weight).collect();
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        weights.iter_mut().for_each(|weight| *weight /= divisor);
        let round: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let order = if round == members.len() as u64 {
            Order::round(members.clone(), turn)
        } else if round.saturating_mul(members.len() as u64) <= STEPS_MAX {
            Order::round(smooth(&members, &weights, round), turn)
        } else {
            Order::Deadlines(Deadlines::new(&members, &weights, turn))
        };
        Self { members, order }
    }

    /// The next node that is not in `tried`.
    #[inline]
    pub(super) fn pick(&mut self, tried: &NodeSet) -> Option<usize> {
        if !tried.is_empty() {
            return self.pick_untried(tried);
        }
        match &mut self.order {
            Order::Round { turns, next } => {
                let index = *turns.get(*next)?;
                *next = if *next + 1 == turns.len() { 0 } else { *next + 1 };
                Some(index as usize)
            }
            Order::Deadlines(deadlines) => deadlines.pick(),
        }
    }

    fn pick_untried(&mut self, tried: &NodeSet) -> Option<usize> {
        let untried = |index: u32| !tried.contains(index as usize);
        match &mut self.order {
            Order::Round { turns, next } => {
                // A node that was tried loses its turn. Light ones may be far away in a long round:
                // then any will do.
                let (before, after) = turns.split_at_checked(*next)?;
                let coming = after.iter().chain(before).take(2 * self.members.len());
                let found = coming.enumerate().find(|(_, index)| untried(**index));
                if let Some((skipped, index)) = found {
                    *next = (*next + skipped + 1) % turns.len();
                    return Some(*index as usize);
                }
                self.members.iter().copied().find(|i| untried(*i)).map(|index| index as usize)
            }
            Order::Deadlines(deadlines) => deadlines.pick_of(|index| !tried.contains(index)),
        }
    }
}

impl Order {
    fn round(turns: Box<[u32]>, turn: usize) -> Self {
        let next = turn.checked_rem(turns.len()).unwrap_or(0);
        Self::Round { turns, next }
    }
}

impl Deadlines {
    /// The first deadlines are scattered, so that nodes of equal weight are evenly apart.
    fn new(members: &[u32], weights: &[u32], begin: usize) -> Self {
        /// The golden ratio's fraction of 2^32: its multiples are spread as evenly as can be.
        const GOLDEN: u32 = 0x9e37_79b9;
        let count = members.iter().max().map_or(0, |last| *last as usize + 1);
        let mut turns = vec![Turn::default(); count];
        for (member, (index, weight)) in members.iter().zip(weights).enumerate() {
            let time = TURN_TIME / u64::from(*weight);
            let phase = GOLDEN.wrapping_mul(begin.wrapping_add(member) as u32);
            let deadline = ((u128::from(time) * u128::from(phase)) >> 32) as u64;
            turns[*index as usize] = Turn { deadline, time };
        }
        let left_out = u64::BITS - Tournament::room(count);
        let mut deadlines = Self { turns: turns.into(), ranks: Tournament::new(0), left_out };
        deadlines.rank();
        deadlines
    }

    /// The index of the node whose turn it is.
    #[inline]
    fn pick(&mut self) -> Option<usize> {
        let index = self.ranks.best();
        let turn = self.turns.get_mut(index)?;
        turn.deadline += turn.time;
        let deadline = turn.deadline;
        self.ranks.set(index, deadline >> self.left_out);
        if deadline > DEADLINE_MAX {
            self.set_back();
        }
        Some(index)
    }

    /// The same of those that `qualify`.
    fn pick_of(&mut self, qualify: impl Fn(usize) -> bool) -> Option<usize> {
        let index = self.ranks.best_of(qualify)?;
        // Serving for others does not put a node off without end.
        let latest = self.turns.get(self.ranks.best())?.deadline + 2 * TURN_TIME;
        let turn = self.turns.get_mut(index)?;
        turn.deadline = latest.min(turn.deadline + turn.time);
        let deadline = turn.deadline;
        self.ranks.set(index, deadline >> self.left_out);
        if deadline > DEADLINE_MAX {
            self.set_back();
        }
        Some(index)
    }

    /// Subtracts the smallest deadline from all. Kept out of the way: it happens once in a thousand
    /// rounds.
    #[cold]
    fn set_back(&mut self) {
        let base = self.members().map(|(_, turn)| turn.deadline).min().unwrap_or(0);
        self.turns.iter_mut().for_each(|t| t.deadline = t.deadline.saturating_sub(base));
        self.rank();
    }

    fn members(&self) -> impl Iterator<Item = (usize, Turn)> {
        self.turns.iter().copied().enumerate().filter(|(_, turn)| turn.time > 0)
    }

    fn rank(&mut self) {
        let mut ranks = Tournament::new(self.turns.len());
        self.members().for_each(|(index, turn)| ranks.set(index, turn.deadline >> self.left_out));
        self.ranks = ranks;
    }
}

/// One round of nginx's algorithm: each turn raises every account by its weight, takes the node
/// with the highest account and lowers that one by the sum of the weights.
fn smooth(members: &[u32], weights: &[u32], round: u64) -> Box<[u32]> {
    let mut accounts = vec![0_i64; weights.len()];
    let turn = |_| {
        let mut best = (0, i64::MIN);
        for (member, (account, weight)) in accounts.iter_mut().zip(weights).enumerate() {
            *account += i64::from(*weight);
            if *account > best.1 {
                best = (member, *account);
            }
        }
        accounts[best.0] -= round as i64;
        members[best.0]
    };
    (0..round).map(turn).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Tries, pick, picks, weighted};
    use super::super::{Balancer, State};
    use super::*;

    fn first_picks(weights: &[u32], count: usize) -> Vec<usize> {
        picks(&mut State::default(), &weighted(Balancer::RoundRobin, weights), count)
    }

    #[test]
    fn equal_weights_rotate() {
        assert_eq!(first_picks(&[7, 7, 7], 7), [0, 1, 2, 0, 1, 2, 0]);
        let mut state = State::starting_at(5);
        let upstream = weighted(Balancer::RoundRobin, &[1, 1, 1]);
        assert_eq!(picks(&mut state, &upstream, 4), [2, 0, 1, 2]);
        assert_eq!(first_picks(&[0, 3, 0, 3], 4), [1, 3, 1, 3]);
    }

    #[test]
    fn weights_spread_smoothly() {
        // The sequence that nginx documents for weights 5, 1, 1.
        let twice = [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0];
        assert_eq!(first_picks(&[5, 1, 1], 14), twice);
        assert_eq!(first_picks(&[500, 100, 100], 14), twice);
        assert_eq!(first_picks(&[1, 2], 6), [1, 0, 1, 1, 0, 1]);
    }

    #[test]
    fn tried_nodes_are_passed_over() {
        for weights in [[1, 1, 1], [3, 2, 1], [300_000, 200_001, 1]] {
            let upstream = weighted(Balancer::RoundRobin, &weights);
            let mut seen = Tries::default().take(&mut State::default(), &upstream, 9);
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2], "{weights:?}");
        }
    }

    #[test]
    fn a_change_does_not_begin_anew() {
        let mut state = State::default();
        assert_eq!(picks(&mut state, &weighted(Balancer::RoundRobin, &[1, 1, 1]), 2), [0, 1]);
        assert_eq!(picks(&mut state, &weighted(Balancer::RoundRobin, &[1, 1, 1]), 2), [2, 0]);
        assert_eq!(picks(&mut state, &weighted(Balancer::RoundRobin, &[5, 5]), 3), [0, 1, 0]);
        assert_eq!(picks(&mut state, &weighted(Balancer::RoundRobin, &[4, 0]), 2), [0, 0]);
    }

    /// Deadlines stay in bounds however long a node is picked past the one whose turn it is.
    #[test]
    fn retries_alone_do_not_wear_deadlines_out() {
        let upstream = weighted(Balancer::RoundRobin, &[100_003, 7, 1]);
        let mut state = State::default();
        for _ in 0..20_000 {
            let mut tries = Tries { tried: [0, 1].into_iter().collect(), ..Tries::default() };
            assert_eq!(tries.next(&mut state, &upstream), Some(2));
        }
        assert!(picks(&mut state, &upstream, 400_000).contains(&2));
    }

    #[test]
    fn deadlines_are_set_back_without_a_trace() {
        let nodes = weighted(Balancer::RoundRobin, &[1, 70_000]).nodes;
        let mut balancer = RoundRobin::new([0, 1].into(), &nodes, 0);
        let Order::Deadlines(deadlines) = &mut balancer.order else { panic!() };
        deadlines.turns.iter_mut().for_each(|turn| turn.deadline += DEADLINE_MAX);
        deadlines.rank();
        let light = (0..140_002).filter(|_| balancer.pick(&NodeSet::default()) == Some(0)).count();
        assert_eq!(light, 2);
        assert!(matches!(balancer.order, Order::Deadlines(deadlines)
            if deadlines.turns.iter().all(|turn| turn.deadline < DEADLINE_MAX)));
    }

    /// The most turns by which any node is ahead of or behind its share at any time.
    fn unevenness(weights: &[u32], count: usize) -> f64 {
        let upstream = weighted(Balancer::RoundRobin, weights);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let (mut state, mut counts) = (State::default(), vec![0.0; weights.len()]);
        let mut worst = 0.0_f64;
        for turn in 1..=count {
            counts[pick(&mut state, &upstream).unwrap()] += 1.0;
            for (count, weight) in counts.iter().zip(weights) {
                worst = worst.max((count - turn as f64 * f64::from(*weight) / total).abs());
            }
        }
        worst
    }

    #[test]
    fn nodes_with_long_rounds_are_spread_smoothly() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert!(unevenness(&hundred, 5050) < 3.0, "{}", unevenness(&hundred, 5050));
        let odd = [1, 99_991, 50_021, 3, 49_999, 1_000_003];
        assert!(unevenness(&odd, 100_000) < 3.0, "{}", unevenness(&odd, 100_000));
        assert!(unevenness(&[u32::MAX, u32::MAX - 1], 1000) < 2.0);
    }

    proptest! {
        #[test]
        fn each_round_gives_every_node_its_weight(
            weights in proptest::collection::vec(0..6_u32, 1..80),
            offset in 0..1000_usize,
        ) {
            let upstream = weighted(Balancer::RoundRobin, &weights);
            let mut state = State::starting_at(offset);
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0; weights.len()];
            for index in picks(&mut state, &upstream, 2 * total as usize) {
                counts[index] += 1;
            }
            let expected: Vec<u32> = weights.iter().map(|weight| 2 * weight).collect();
            prop_assert_eq!(counts, expected);
        }

        #[test]
        fn deadlines_give_every_node_its_weight(
            weights in proptest::collection::vec(1..40_u32, 2..70),
            turn in any::<usize>(),
        ) {
            let nodes = weighted(Balancer::RoundRobin, &weights).nodes;
            let members: Box<[u32]> = (0..weights.len() as u32).collect();
            let mut balancer = RoundRobin::new(members.clone(), &nodes, turn);
            balancer.order = Order::Deadlines(Deadlines::new(&members, &weights, turn));
            let mut counts = vec![0; weights.len()];
            for _ in 0..2 * weights.iter().sum::<u32>() {
                counts[balancer.pick(&NodeSet::default()).unwrap()] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!((count - 2 * *weight as i32).abs() <= 1, "{:?}", counts);
            }
        }
    }
}
