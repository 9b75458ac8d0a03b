//! What holds for all algorithms, and changes of the nodes.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::resource::HashOn;
use crate::snapshot::{Node, Slot};

/// Nodes 127.0.0.1:1000 and up with these weights and priorities.
pub(super) fn nodes_with(weights: &[(u32, i32)]) -> Vec<Node> {
    let node = |(index, (weight, priority)): (usize, &(u32, i32))| {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1000 + index as u16));
        Node {
            unix: None,
            addr,
            authority: "a".into(),
            label: addr.to_string().into(),
            weight: *weight,
            priority: *priority,
            pool: Slot::default(),
        }
    };
    weights.iter().enumerate().map(node).collect()
}

pub(super) fn upstream(balancer: Balancer, nodes: Vec<Node>) -> Upstream {
    Upstream { id: "1".into(), balancer, nodes, ..Upstream::default() }
}

pub(super) fn weighted(balancer: Balancer, weights: &[u32]) -> Upstream {
    let weights: Vec<(u32, i32)> = weights.iter().map(|weight| (*weight, 0)).collect();
    upstream(balancer, nodes_with(&weights))
}

/// A request as long as its tries fail.
#[derive(Debug, Clone, Default)]
pub(super) struct Tries<'a> {
    pub(super) tried: NodeSet,
    pub(super) down: Option<&'a NodeSet>,
    pub(super) hash: u32,
    pub(super) random: u64,
}

impl Tries<'_> {
    pub(super) fn next(&mut self, state: &mut State, upstream: &Upstream) -> Option<usize> {
        let Self { tried, down, hash, random } = &*self;
        let ask = Ask { tried, down: *down, hash: *hash, now_ms: 0, random: *random };
        let index = state.pick(upstream, &ask)?;
        self.tried.insert(index);
        self.random = self.random.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ 1;
        Some(index)
    }

    /// The nodes of the first `most` tries.
    pub(super) fn take(
        mut self,
        state: &mut State,
        upstream: &Upstream,
        most: usize,
    ) -> Vec<usize> {
        (0..most).map_while(|_| self.next(state, upstream)).collect()
    }
}

/// One pick of a request that has tried nothing.
pub(super) fn pick(state: &mut State, upstream: &Upstream) -> Option<usize> {
    Tries::default().next(state, upstream)
}

pub(super) fn picks(state: &mut State, upstream: &Upstream, count: usize) -> Vec<usize> {
    (0..count).map_while(|_| pick(state, upstream)).collect()
}

pub(super) fn done(latency_us: u64, now_ms: u64) -> Outcome {
    Outcome { latency_us, ok: true, now_ms }
}

fn chash() -> Balancer {
    Balancer::Chash(Chash::new(ChashKey::parse(HashOn::Consumer, None).unwrap()))
}

fn any_balancer() -> impl Strategy<Value = Balancer> {
    prop_oneof![
        Just(Balancer::RoundRobin),
        Just(chash()),
        Just(Balancer::LeastConn),
        Just(Balancer::Ewma)
    ]
}

/// Nodes for a balancer; with a ring small enough to be made often.
fn fitting(balancer: &Balancer, nodes: &[(u32, i32)]) -> Vec<Node> {
    let most = if matches!(balancer, Balancer::Chash(_)) { 2 } else { u32::MAX };
    let nodes: Vec<(u32, i32)> = nodes.iter().map(|(w, p)| ((*w).min(most), *p)).collect();
    nodes_with(&nodes)
}

/// Weights and priorities of up to 90 nodes, most of them usable. The rounds of some take too long
/// to be computed ahead.
fn any_nodes() -> impl Strategy<Value = Vec<(u32, i32)>> {
    let weight = prop_oneof![Just(0_u32), Just(1), Just(1), 1..5_u32, Just(100_000)];
    let few = proptest::collection::vec((weight, -1..2_i32), 0..8);
    prop_oneof![few, proptest::collection::vec((0..99_u32, 0..2_i32), 60..90)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A request that fails everywhere: first the nodes of the highest priority, all of them that
    /// are up, and so on; each once.
    #[test]
    fn every_usable_node_is_reached_once_in_the_order_of_priorities(
        balancer in any_balancer(),
        nodes in any_nodes(),
        down in proptest::collection::vec(0..90_usize, 0..60),
        (offset, random, hash) in any::<(usize, u64, u32)>(),
        before in 0..30_usize,
    ) {
        let nodes_of = fitting(&balancer, &nodes);
        let upstream = upstream(balancer, nodes_of);
        let down: NodeSet = down.into_iter().collect();
        let mut state = State::starting_at(offset);
        picks(&mut state, &upstream, before);
        let tries = Tries { down: Some(&down), hash, random, ..Tries::default() };
        let mut reached = tries.take(&mut state, &upstream, 100);
        prop_assert!(reached.is_sorted_by_key(|index| -nodes[*index].1), "{:?}", reached);
        reached.sort_unstable();
        let usable: Vec<usize> = (0..nodes.len()).filter(|index| nodes[*index].0 > 0).collect();
        let up: Vec<usize> = usable.iter().copied().filter(|i| !down.contains(*i)).collect();
        prop_assert_eq!(reached, if up.is_empty() { usable } else { up });
    }

    /// Whatever changes between and during requests, a pick is right for the upstream asked for.
    #[test]
    fn changes_at_any_moment_are_followed(
        balancers in proptest::collection::vec(any_balancer(), 3),
        nodes in proptest::collection::vec(any_nodes(), 3),
        steps in proptest::collection::vec((0..3_usize, any::<bool>(), any::<u64>()), 0..60),
    ) {
        let upstreams: Vec<Upstream> = balancers.into_iter().zip(&nodes)
            .map(|(balancer, nodes)| {
                let nodes = fitting(&balancer, nodes);
                upstream(balancer, nodes)
            }).collect();
        let mut state = State::default();
        let mut open = Vec::new();
        for (which, end, random) in steps {
            let upstream = &upstreams[which];
            let down: NodeSet = [(random % 7) as usize].into_iter().collect();
            let mut tries = Tries {
                random, hash: random as u32,
                down: random.is_multiple_of(3).then_some(&down),
                ..Tries::default()
            };
            let picked = tries.next(&mut state, upstream);
            prop_assert_eq!(picked.is_some(), nodes[which].iter().any(|(weight, _)| *weight > 0));
            if let Some(index) = picked {
                prop_assert!(nodes[which][index].0 > 0);
                open.push((which, index));
            }
            if end && !open.is_empty() {
                let (which, index) = open.swap_remove(random as usize % open.len());
                state.release(&upstreams[which], index, done(random % 1000, random % 100));
            }
        }
    }
}

#[test]
fn weights_of_zero_and_no_nodes_at_all() {
    for balancer in [Balancer::RoundRobin, chash(), Balancer::LeastConn, Balancer::Ewma] {
        let mut state = State::starting_at(3);
        assert_eq!(pick(&mut state, &weighted(balancer.clone(), &[])), None);
        assert_eq!(pick(&mut state, &weighted(balancer.clone(), &[0, 0])), None);
        let upstream = weighted(balancer, &[0, 2, 0]);
        assert_eq!(picks(&mut state, &upstream, 3), [1, 1, 1]);
        // An index that is none is as good as a release of nothing.
        state.release(&upstream, 77, done(1, 1));
    }
}

#[test]
fn nodes_come_back_when_they_are_up_again() {
    for balancer in [Balancer::RoundRobin, chash(), Balancer::LeastConn, Balancer::Ewma] {
        let upstream = upstream(balancer, nodes_with(&[(1, 0), (1, 0), (1, -1)]));
        let mut state = State::default();
        let mut reached = |down: &[usize]| {
            let down: NodeSet = down.iter().copied().collect();
            let tries = Tries { down: Some(&down), ..Tries::default() };
            let mut reached = tries.take(&mut state, &upstream, 9);
            reached.sort_unstable();
            reached
        };
        assert_eq!(reached(&[1]), [0, 2]);
        assert_eq!(reached(&[0, 1]), [2]);
        assert_eq!(reached(&[0, 1, 2]), [0, 1, 2]);
        assert_eq!(reached(&[0]), [1, 2]);
        assert_eq!(reached(&[]), [0, 1, 2]);
    }
}

#[test]
fn an_older_upstream_does_not_turn_the_state_back() {
    let older = weighted(Balancer::RoundRobin, &[1, 1]);
    let newer = weighted(Balancer::RoundRobin, &[1, 1, 1]);
    let mut state = State::default();
    assert_eq!(picks(&mut state, &newer, 1), [0]);
    let mut tries = Tries { tried: [0].into_iter().collect(), ..Tries::default() };
    assert_eq!(tries.next(&mut state, &older), Some(1));
    assert_eq!(tries.next(&mut state, &older), None);
    assert_eq!(picks(&mut state, &newer, 3), [1, 2, 0]);
}

#[test]
fn compiled_anew_an_upstream_is_equal() {
    let [one, other] = [(), ()].map(|()| weighted(Balancer::Ewma, &[1, 2]));
    assert_ne!(one.version.number(), other.version.number());
    assert_eq!(one, other);
}
