//! What a balancer knows of nodes, kept while they change.

use std::net::SocketAddr;

use ahash::AHashMap;

use crate::snapshot::{Node, Upstream};

/// A value per node: by index for the nodes at hand, by address across changes.
///
/// Two nodes with the same address each have a value; when the nodes change, the first gets what
/// was known of the last.
#[derive(Debug, Clone)]
pub(super) struct Known<T> {
    /// The upstream that the indexes are of.
    version: u64,
    addrs: Box<[SocketAddr]>,
    values: Box<[T]>,
    /// Values of nodes that are gone, as long as they are worth keeping.
    gone: AHashMap<SocketAddr, T>,
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The node at this index.
    At(usize),
    /// A node that is gone.
    Gone(SocketAddr),
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { version: 0, addrs: [].into(), values: [].into(), gone: AHashMap::new() }
    }
}

impl<T: Default + Copy> Known<T> {
    /// Goes over to the nodes of `upstream`. Of nodes that are gone, values that are to be `kept`
    /// come back with their node.
    pub(super) fn follow(&mut self, upstream: &Upstream, kept: impl Fn(&T) -> bool) {
        self.version = upstream.version.number();
        let nodes = &upstream.nodes;
        if self.addrs.iter().eq(nodes.iter().map(|node| &node.addr)) {
            return;
        }
        let mut by_addr = std::mem::take(&mut self.gone);
        by_addr.extend(self.addrs.iter().copied().zip(self.values.iter().copied()));
        let value = |node: &Node| by_addr.remove(&node.addr).unwrap_or_default();
        self.values = nodes.iter().map(value).collect();
        self.addrs = nodes.iter().map(|node| node.addr).collect();
        by_addr.retain(|_, value| kept(value));
        self.gone = by_addr;
    }

    /// The value of the node at `index`.
    #[inline]
    pub(super) fn get(&self, index: usize) -> T {
        self.values.get(index).copied().unwrap_or_default()
    }

    /// The value of the node at `index`, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.values.get_mut(index)
    }

    /// Where the value is that belongs to a node of `upstream`, which may be an older one.
    pub(super) fn place(&self, upstream: &Upstream, index: usize) -> Option<Place> {
        if upstream.version.number() == self.version {
            return (index < self.values.len()).then_some(Place::At(index));
        }
        let addr = upstream.nodes.get(index)?.addr;
        let at = self.addrs.iter().position(|known| *known == addr);
        Some(at.map_or(Place::Gone(addr), Place::At))
    }

    /// The values of nodes that are gone.
    pub(super) fn gone(&mut self) -> &mut AHashMap<SocketAddr, T> {
        &mut self.gone
    }
}
