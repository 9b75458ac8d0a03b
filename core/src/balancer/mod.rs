//! Load balancing: which node gets the next request.
//!
//! One file per algorithm. State belongs to one worker and is never shared; it is told of the nodes
//! at each pick and follows their changes by itself.

mod round_robin;

pub use round_robin::RoundRobin;

/// The nodes that a request has tried, by index. Indexes from 64 on are not recorded: such a node
/// may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tried(u64);

impl Tried {
    /// Records that the node at `index` was tried.
    pub fn insert(&mut self, index: usize) {
        self.0 |= bit(index);
    }
}

impl From<Tried> for u64 {
    fn from(tried: Tried) -> Self {
        tried.0
    }
}

/// The bit of a node in a mask of tried nodes; zero for indexes that the mask cannot hold.
fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1u64.checked_shl(index)).unwrap_or(0)
}
