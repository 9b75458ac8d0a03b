//! Smooth weighted round-robin, as nginx's upstream module spreads requests.

use super::bit;
use crate::snapshot::Node;

/// The state of one upstream's round-robin in one worker.
///
/// Each pick raises every node's account by its weight, takes the node with the highest account and
/// lowers that one by the sum of the weights, so that a heavy node's turns are spread out. When all
/// weights are equal this is a plain rotation, kept as one cursor.
///
/// The state starts afresh when the nodes' number or weights change. With equal weights a changed
/// one is noticed when the rotation comes to it, which spares a pass over all nodes per pick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundRobin {
    mode: Mode,
    /// Where a rotation starts, so that workers do not all begin with the first node.
    offset: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// All weights above zero are equal.
    Rotation {
        nodes: usize,
        weight: u32,
        cursor: usize,
    },
    Weighted(Vec<Account>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Account {
    weight: u32,
    balance: i64,
}

/// The nodes are not those that the state was made for.
struct Stale;

impl Default for Mode {
    fn default() -> Self {
        Self::Rotation { nodes: 0, weight: 0, cursor: 0 }
    }
}

impl RoundRobin {
    /// Fresh state whose rotation starts at node `offset`, modulo their number.
    pub fn starting_at(offset: usize) -> Self {
        Self { mode: Mode::default(), offset }
    }

    /// The index of the next node, or `None` when no node is left that has a weight above zero and
    /// is not in `tried` (bit n: node n; nodes from 64 on are never taken as tried, see
    /// [`Tried`](super::Tried)).
    ///
    /// Allocates only when the nodes have changed.
    pub fn pick(&mut self, nodes: &[Node], tried: u64) -> Option<usize> {
        if let Ok(picked) = self.mode.pick(nodes, tried) {
            return picked;
        }
        self.mode = Mode::new(nodes, self.offset);
        self.mode.pick(nodes, tried).ok().flatten()
    }
}

impl Mode {
    fn new(nodes: &[Node], offset: usize) -> Self {
        let mut weights = nodes.iter().map(|node| node.weight).filter(|weight| *weight > 0);
        let weight = weights.next().unwrap_or(0);
        if weights.all(|other| other == weight) {
            let cursor = offset.checked_rem(nodes.len()).unwrap_or(0);
            return Self::Rotation { nodes: nodes.len(), weight, cursor };
        }
        Self::Weighted(nodes.iter().map(|n| Account { weight: n.weight, balance: 0 }).collect())
    }

    fn pick(&mut self, nodes: &[Node], tried: u64) -> Result<Option<usize>, Stale> {
        match self {
            Self::Rotation { nodes: known, weight, cursor } => {
                if *known != nodes.len() {
                    return Err(Stale);
                }
                rotate(nodes, tried, *weight, cursor)
            }
            Self::Weighted(accounts) => weighted(nodes, tried, accounts),
        }
    }
}

fn rotate(
    nodes: &[Node],
    tried: u64,
    weight: u32,
    cursor: &mut usize,
) -> Result<Option<usize>, Stale> {
    let mut index = *cursor;
    for _ in 0..nodes.len() {
        let node = &nodes[index];
        let next = if index + 1 == nodes.len() { 0 } else { index + 1 };
        if node.weight > 0 {
            if node.weight != weight {
                return Err(Stale);
            }
            if tried & bit(index) == 0 {
                *cursor = next;
                return Ok(Some(index));
            }
        }
        index = next;
    }
    Ok(None)
}

fn weighted(nodes: &[Node], tried: u64, accounts: &mut [Account]) -> Result<Option<usize>, Stale> {
    if nodes.len() != accounts.len() {
        return Err(Stale);
    }
    let mut total = 0;
    let mut best: Option<(usize, i64)> = None;
    for (index, (node, account)) in nodes.iter().zip(&mut *accounts).enumerate() {
        if node.weight != account.weight {
            // The accounts raised so far do not matter: all are made anew.
            return Err(Stale);
        }
        if account.weight == 0 || tried & bit(index) != 0 {
            continue;
        }
        total += i64::from(account.weight);
        account.balance += i64::from(account.weight);
        if best.is_none_or(|(_, balance)| account.balance > balance) {
            best = Some((index, account.balance));
        }
    }
    Ok(best.map(|(index, _)| {
        accounts[index].balance -= total;
        index
    }))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::balancer::Tried;
    use crate::snapshot::Slot;

    fn nodes(weights: &[u32]) -> Vec<Node> {
        let node = |(index, weight): (usize, &u32)| Node {
            addr: SocketAddr::from(([127, 0, 0, 1], 1000 + index as u16)),
            authority: "a".into(),
            label: "a".into(),
            weight: *weight,
            pool: Slot::default(),
        };
        weights.iter().enumerate().map(node).collect()
    }

    fn picks(state: &mut RoundRobin, nodes: &[Node], count: usize) -> Vec<usize> {
        (0..count).map(|_| state.pick(nodes, 0).unwrap()).collect()
    }

    #[test]
    fn equal_weights_rotate() {
        let mut state = RoundRobin::default();
        assert_eq!(picks(&mut state, &nodes(&[7, 7, 7]), 7), [0, 1, 2, 0, 1, 2, 0]);
        let mut state = RoundRobin::starting_at(5);
        assert_eq!(picks(&mut state, &nodes(&[1, 1, 1]), 4), [2, 0, 1, 2]);
    }

    #[test]
    fn weights_spread_smoothly() {
        // The sequence that nginx documents for weights 5, 1, 1.
        let sequence = [0, 0, 1, 0, 2, 0, 0];
        let mut state = RoundRobin::default();
        let nodes_511 = nodes(&[5, 1, 1]);
        assert_eq!(picks(&mut state, &nodes_511, 7), sequence);
        assert_eq!(picks(&mut state, &nodes_511, 7), sequence);
        let mut state = RoundRobin::default();
        assert_eq!(picks(&mut state, &nodes(&[1, 2]), 6), [1, 0, 1, 1, 0, 1]);
    }

    #[test]
    fn zero_weights_are_never_picked() {
        let mut state = RoundRobin::default();
        assert_eq!(picks(&mut state, &nodes(&[0, 3, 0, 3]), 4), [1, 3, 1, 3]);
        let mut state = RoundRobin::default();
        assert_eq!(picks(&mut state, &nodes(&[0, 2, 1]), 3), [1, 2, 1]);
        assert_eq!(RoundRobin::default().pick(&nodes(&[0, 0]), 0), None);
        assert_eq!(RoundRobin::default().pick(&[], 0), None);
    }

    #[test]
    fn tried_nodes_are_passed_over() {
        for weights in [[1, 1, 1], [3, 2, 1]] {
            let nodes = nodes(&weights);
            let mut state = RoundRobin::default();
            let mut tried = Tried::default();
            let mut seen = Vec::new();
            while let Some(index) = state.pick(&nodes, tried.into()) {
                tried.insert(index);
                seen.push(index);
            }
            assert_eq!(seen, [0, 1, 2], "{weights:?}");
        }
    }

    #[test]
    fn indexes_beyond_the_mask_are_safe() {
        let mut many = vec![0; 63];
        many.extend([1, 1, 1]);
        let mut state = RoundRobin::default();
        assert_eq!(picks(&mut state, &nodes(&many), 3), [63, 64, 65]);
        assert_eq!(state.pick(&nodes(&many), u64::MAX), Some(64));
        let mut tried = Tried::default();
        tried.insert(64);
        assert_eq!(u64::from(tried), 0);
        many[65] = 9;
        let mut state = RoundRobin::default();
        assert_eq!(state.pick(&nodes(&many), u64::MAX), Some(65));
    }

    #[test]
    fn follows_changes_of_the_nodes() {
        let mut state = RoundRobin::default();
        assert_eq!(picks(&mut state, &nodes(&[1, 1, 1]), 2), [0, 1]);
        assert_eq!(picks(&mut state, &nodes(&[1, 1]), 3), [0, 1, 0]);
        assert_eq!(picks(&mut state, &nodes(&[5, 5]), 2), [0, 1]);
        assert_eq!(picks(&mut state, &nodes(&[1, 2]), 3), [1, 0, 1]);
        assert_eq!(picks(&mut state, &nodes(&[2, 1]), 3), [0, 1, 0]);
        assert_eq!(picks(&mut state, &nodes(&[4, 4]), 3), [0, 1, 0]);
        assert_eq!(picks(&mut state, &nodes(&[4, 0]), 2), [0, 0]);
    }

    proptest! {
        #[test]
        fn each_round_gives_every_node_its_weight(
            weights in proptest::collection::vec(0..6u32, 1..8),
        ) {
            let nodes = nodes(&weights);
            let total: u32 = weights.iter().sum();
            let mut state = RoundRobin::default();
            let mut counts = vec![0; weights.len()];
            // Two whole rounds; a rotation's round is shorter, so it divides evenly as well.
            for _ in 0..2 * total {
                counts[state.pick(&nodes, 0).unwrap()] += 1;
            }
            let expected: Vec<u32> = weights.iter().map(|weight| 2 * weight).collect();
            prop_assert_eq!(counts, expected);
        }

        #[test]
        fn picks_a_usable_node_whenever_there_is_one(
            weights in proptest::collection::vec(0..3u32, 0..70),
            tried in any::<u64>(),
        ) {
            let nodes = nodes(&weights);
            let usable = |index: usize| weights[index] > 0 && tried & bit(index) == 0;
            match RoundRobin::default().pick(&nodes, tried) {
                Some(index) => prop_assert!(usable(index)),
                None => prop_assert!(!(0..weights.len()).any(usable)),
            }
        }
    }
}
