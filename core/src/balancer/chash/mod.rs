//! Consistent hashing: requests with the same key go to the same node, and most of them keep going
//! there when other nodes come or go.
//!
//! Source: APISIX, admin-api.md#upstream (`chash`), `apisix/balancer/chash.lua`, and the library
//! below it, lua-resty-balancer (`lib/resty/chash.lua`, `chash.c`). The node is the one that they
//! pick for the same key and nodes. Two things differ: where points of two nodes coincide (a dozen
//! among 320 000), the node that is configured first is taken, there it depends on the order of a
//! Lua table, which differs from process to process; and the number of points is bounded.
//!
//! The ring has all nodes with a weight, down or not, so that keys of the others stay where they
//! are while a node is down: those of the node that is down go on to the next one on the ring.

mod crc32;
mod key;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use super::Ask;
use super::priority::{gcd, levels};
use crate::node_set::NodeSet;
use crate::snapshot::Node;
pub use key::ChashKey;

/// Points of a node per unit of weight, after dividing all weights by what they have in common.
const POINTS: u64 = 160;

/// Most units of weight that are told apart on one ring: 5 million points, 60 MB. Larger sums are
/// scaled down. The library has no limit.
const UNITS_MAX: u64 = 1 << 15;

/// The hash of a `key`, for [`Ask::hash`].
pub fn hash(key: &[u8]) -> u32 {
    crc32::checksum(key)
}

/// A balancer by consistent hashing: where the key comes from, and the rings once they are made.
///
/// The rings follow from the nodes alone, so all workers share them. Equality is that of the keys;
/// the nodes are compared along with the rest of the upstream.
#[derive(Debug, Clone)]
pub struct Chash {
    /// Where the key comes from.
    pub key: ChashKey,
    /// One per priority, the highest first.
    rings: OnceLock<Box<[Ring]>>,
}

impl PartialEq for Chash {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Chash {}

impl Chash {
    /// A balancer with this key.
    pub fn new(key: ChashKey) -> Self {
        Self { key, rings: OnceLock::new() }
    }

    /// Makes the rings, unless they are.
    pub(crate) fn prepare(&self, nodes: &[Node]) -> &[Ring] {
        self.rings.get_or_init(|| {
            let levels = levels(nodes, &NodeSet::default()).into_iter();
            levels.map(|members| Ring::new(members, nodes, UNITS_MAX)).collect()
        })
    }

    /// The node for the hash of the key, passing over nodes that were tried or are down. With
    /// `ignore_health` those that are down serve too.
    #[inline]
    pub(super) fn pick(&self, nodes: &[Node], ask: &Ask<'_>, ignore_health: bool) -> Option<usize> {
        let rings = self.prepare(nodes);
        let down = if ignore_health { None } else { ask.down };
        if ask.tried.is_empty() && down.is_none() {
            let ring = rings.first()?;
            return ring.points.get(ring.seek(ask.hash)).map(|point| node_of(*point));
        }
        let serves = |index: usize| {
            !ask.tried.contains(index) && !down.is_some_and(|down| down.contains(index))
        };
        rings.iter().find_map(|ring| ring.find(ask.hash, serves))
    }
}

/// The points of nodes of one priority.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    members: Box<[u32]>,
    /// By hash, in the upper half; the lower is the node's index.
    points: Box<[u64]>,
    /// For each value of the first bits of a hash, the first point that is not below it.
    starts: Box<[u32]>,
    /// How far to shift a hash for those bits.
    shift: u32,
}

impl Ring {
    fn new(members: Box<[u32]>, nodes: &[Node], units_max: u64) -> Self {
        let serving =
            || members.iter().filter_map(|index| Some((index, nodes.get(*index as usize)?)));
        let divisor = serving().fold(0, |divisor, (_, node)| gcd(divisor, node.weight)).max(1);
        let units = |node: &Node| u64::from(node.weight / divisor);
        let sum: u64 = serving().map(|(_, node)| units(node)).sum();
        // Products stay below 2^47: a weight has 32 bits.
        let scaled = |units: u64| {
            if sum <= units_max { units } else { (units * units_max / sum).max(1) }
        };
        let mut points = Vec::with_capacity((sum.min(units_max) * POINTS) as usize);
        for (index, node) in serving() {
            let count = scaled(units(node)) * POINTS;
            points.extend(hashes(&node.label).take(count as usize).map(|hash| point(hash, *index)));
        }
        points.sort_unstable();
        Self::with_points(members, points.into())
    }

    fn with_points(members: Box<[u32]>, points: Box<[u64]>) -> Self {
        // One or two points for each start.
        let bits = points.len().checked_ilog2().unwrap_or(0).clamp(1, 30);
        let shift = u32::BITS - bits;
        let mut at = 0;
        let start = |bits: u32| {
            while points.get(at).is_some_and(|point| hash_of(*point) >> shift < bits) {
                at += 1;
            }
            at as u32
        };
        let starts = (0..1 << bits).map(start).collect();
        Self { members, points, starts, shift }
    }

    /// The position of the first point that is not below `hash`; after the last comes the first.
    #[inline]
    fn seek(&self, hash: u32) -> usize {
        let start =
            self.starts.get((hash >> self.shift) as usize).map_or(0, |start| *start as usize);
        let coming = self.points.get(start..).unwrap_or_default();
        let passed = coming.iter().take_while(|point| hash_of(**point) < hash).count();
        if passed == coming.len() { 0 } else { start + passed }
    }

    /// The first node from `hash` on that `serves`.
    fn find(&self, hash: u32, serves: impl Fn(usize) -> bool) -> Option<usize> {
        if !self.members.iter().any(|index| serves(*index as usize)) {
            return None;
        }
        let (before, from) = self.points.split_at_checked(self.seek(hash))?;
        from.iter().chain(before).map(|point| node_of(*point)).find(|index| serves(*index))
    }
}

/// The hashes of a node's points: of its name, in which a zero stands for each colon, with the
/// last point's hash behind it, least byte first.
fn hashes(label: &str) -> impl Iterator<Item = u32> {
    let colons = |byte| if byte == b':' { 0 } else { byte };
    let name: Vec<u8> = label.bytes().map(colons).collect();
    let base = crc32::update(!0, &name);
    let after = move |last: u32| !crc32::update(base, &last.to_le_bytes());
    std::iter::successors(Some(after(0)), move |last| Some(after(*last)))
}

fn point(hash: u32, node: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(node)
}

fn hash_of(point: u64) -> u32 {
    (point >> 32) as u32
}

fn node_of(point: u64) -> usize {
    (point & u64::from(u32::MAX)) as usize
}
