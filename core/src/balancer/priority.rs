//! Which nodes take part, and in what order of priority.
//!
//! Source: APISIX, admin-api.md#upstream (`nodes`, `priority`), and the order of steps in
//! `apisix/balancer.lua`: nodes that health checks found to be down are left out first, unless that
//! leaves none; only then are the rest grouped by priority. So a node of low priority that is up
//! serves before one of high priority that is down.

use std::cmp::Reverse;

use crate::node_set::NodeSet;
use crate::snapshot::Node;

/// Whether nodes that are down serve all the same, because no other node could.
pub(super) fn ignores_health(nodes: &[Node], down: &NodeSet) -> bool {
    let up = |(index, node): (usize, &Node)| node.weight > 0 && !down.contains(index);
    down.is_empty() || !nodes.iter().enumerate().any(up)
}

/// The nodes that may serve, by index: one list per priority, the highest first.
pub(super) fn levels(nodes: &[Node], down: &NodeSet) -> Vec<Box<[u32]>> {
    let all = ignores_health(nodes, down);
    let serves = |index: usize, node: &Node| node.weight > 0 && (all || !down.contains(index));
    let mut serving: Vec<(i32, u32)> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        if serves(index, node) {
            serving.push((node.priority, index as u32));
        }
    }
    serving.sort_by_key(|(priority, _)| Reverse(*priority));
    let levels = serving.chunk_by(|a, b| a.0 == b.0);
    levels.map(|level| level.iter().map(|(_, index)| *index).collect()).collect()
}

/// The greatest common divisor; of zero and a number, the number.
pub(super) fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::nodes_with;
    use super::*;

    fn levels_of(nodes: &[(u32, i32)], down: &[usize]) -> Vec<Vec<u32>> {
        let down = down.iter().copied().collect();
        levels(&nodes_with(nodes), &down).into_iter().map(Vec::from).collect()
    }

    #[test]
    fn levels_fall_and_keep_the_order_of_the_nodes() {
        let nodes = [(1, 0), (1, 5), (0, 9), (2, 0), (1, -1), (3, 5)];
        assert_eq!(levels_of(&nodes, &[]), [vec![1, 5], vec![0, 3], vec![4]]);
        assert_eq!(levels_of(&[], &[]), [[0; 0]; 0]);
        assert_eq!(levels_of(&[(0, 0)], &[]), [[0; 0]; 0]);
    }

    #[test]
    fn nodes_that_are_down_are_left_out_before_grouping() {
        let nodes = [(1, 1), (1, 1), (1, 0)];
        assert_eq!(levels_of(&nodes, &[0]), [vec![1], vec![2]]);
        assert_eq!(levels_of(&nodes, &[0, 1]), [vec![2]]);
    }

    #[test]
    fn all_serve_when_all_are_down() {
        let nodes = [(1, 1), (1, 0), (0, 2)];
        // The last is up, but has no weight.
        assert_eq!(levels_of(&nodes, &[0, 1]), [vec![0], vec![1]]);
        assert_eq!(levels_of(&nodes, &[0, 1, 2, 99]), [vec![0], vec![1]]);
    }
}
