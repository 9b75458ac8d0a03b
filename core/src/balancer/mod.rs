//! Load balancing: which node gets the next request.
//!
//! One file per algorithm. [`State`] belongs to one worker and is never shared; it is told of the
//! nodes at each pick and follows their changes by itself. What all algorithms have in common:
//!
//! - A node with weight zero is never picked, and none that the request has tried.
//! - A node that is down is passed over, unless all nodes with a weight are down: then health is
//!   ignored (APISIX, `apisix/balancer.lua`).
//! - A node serves only when no node of higher priority can (see [`priority`]).

mod chash;
mod ewma;
mod known;
mod least_conn;
mod priority;
mod round_robin;
#[cfg(test)]
mod tests;
mod tournament;

use crate::node_set::NodeSet;
use crate::snapshot::{Balancer, Upstream};
pub use chash::{Chash, ChashKey, hash};
use ewma::Ewma;
use least_conn::LeastConn;
use round_robin::RoundRobin;

/// What a request says when it needs a node.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Nodes it has tried.
    pub tried: &'a NodeSet,
    /// Nodes that are down, from [`Health::down`](crate::snapshot::Health::down).
    pub down: Option<&'a NodeSet>,
    /// For [`Balancer::Chash`]: [`hash`] of the key. Others do not look at it.
    pub hash: u32,
    /// The time, by any clock that does not run backwards. Only [`Balancer::Ewma`] looks at it.
    pub now_ms: u64,
    /// Random bits. Only [`Balancer::Ewma`] looks at them.
    pub random: u64,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// From the beginning of the try, connecting included, until the response was read.
    pub latency_us: u64,
    /// Whether the node answered.
    pub ok: bool,
    /// The time now, by the clock of [`Ask::now_ms`].
    pub now_ms: u64,
}

/// What one worker keeps to balance one upstream.
///
/// It adapts when the upstream's [`Version`](crate::snapshot::Version) or the set of nodes that are
/// down differs from the last pick's; only then a pick allocates. What is known of a node, its
/// connections or its latency, is kept by address.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Picks so far, from a start that differs from worker to worker.
    turn: usize,
    /// The upstream that `algorithm` was made for; zero: none yet.
    version: u64,
    /// The nodes that were down then.
    down: NodeSet,
    algorithm: Algorithm,
}

#[derive(Debug, Clone, Default)]
enum Algorithm {
    #[default]
    None,
    /// By priority.
    RoundRobin(Box<[RoundRobin]>),
    Chash {
        ignore_health: bool,
    },
    LeastConn(LeastConn),
    Ewma(Ewma),
}

impl State {
    /// Fresh state that takes its turns from `offset` on, so that workers do not all begin with the
    /// same node.
    pub fn starting_at(offset: usize) -> Self {
        Self { turn: offset, ..Self::default() }
    }

    /// The index of the node for a request; `None` when no node is left for it.
    ///
    /// Each pick of a node is to be followed by one [`Self::release`].
    #[inline]
    pub fn pick(&mut self, upstream: &Upstream, ask: &Ask<'_>) -> Option<usize> {
        let unchanged = upstream.version.number() == self.version
            && ask.down.map_or_else(|| self.down.is_empty(), |down| *down == self.down);
        if !unchanged {
            if upstream.version.number() < self.version {
                return self.pick_for_older(upstream, ask);
            }
            self.follow(upstream, ask.down);
        }
        self.turn = self.turn.wrapping_add(1);
        match &mut self.algorithm {
            Algorithm::RoundRobin(levels) => levels.iter_mut().find_map(|l| l.pick(ask.tried)),
            Algorithm::Chash { ignore_health } => match &upstream.balancer {
                Balancer::Chash(chash) => chash.pick(&upstream.nodes, ask, *ignore_health),
                _ => None,
            },
            Algorithm::LeastConn(state) => state.pick(ask.tried),
            Algorithm::Ewma(state) => state.pick(ask),
            Algorithm::None => None,
        }
    }

    /// Ends a try on the node at `index` of `upstream`, which must be the upstream that it was
    /// picked for, even if it has changed since.
    #[inline]
    pub fn release(&mut self, upstream: &Upstream, index: usize, outcome: Outcome) {
        match (&mut self.algorithm, &upstream.balancer) {
            (Algorithm::LeastConn(state), Balancer::LeastConn) => state.release(upstream, index),
            (Algorithm::Ewma(state), Balancer::Ewma) => state.release(upstream, index, outcome),
            _ => {}
        }
    }

    /// Goes over to the nodes of `upstream`.
    #[cold]
    fn follow(&mut self, upstream: &Upstream, down: Option<&NodeSet>) {
        self.version = upstream.version.number();
        self.down = down.cloned().unwrap_or_default();
        let levels = || priority::levels(&upstream.nodes, &self.down);
        let last = std::mem::take(&mut self.algorithm);
        self.algorithm = match (&upstream.balancer, last) {
            (Balancer::RoundRobin, _) => {
                let level = |members| RoundRobin::new(members, &upstream.nodes, self.turn);
                Algorithm::RoundRobin(levels().into_iter().map(level).collect())
            }
            (Balancer::Chash(_), _) => Algorithm::Chash {
                ignore_health: priority::ignores_health(&upstream.nodes, &self.down),
            },
            (Balancer::LeastConn, last) => {
                let mut state = match last {
                    Algorithm::LeastConn(state) => state,
                    _ => LeastConn::default(),
                };
                state.follow(upstream, levels(), self.turn);
                Algorithm::LeastConn(state)
            }
            (Balancer::Ewma, last) => {
                let mut state = match last {
                    Algorithm::Ewma(state) => state,
                    _ => Ewma::default(),
                };
                state.follow(upstream, levels());
                Algorithm::Ewma(state)
            }
        };
    }

    /// A pick for a request that began before the upstream changed. The state must not go back to
    /// the nodes of then and forth again, so a copy does.
    #[cold]
    fn pick_for_older(&mut self, upstream: &Upstream, ask: &Ask<'_>) -> Option<usize> {
        self.turn = self.turn.wrapping_add(1);
        let mut copy = self.clone();
        copy.follow(upstream, ask.down);
        let index = copy.pick(upstream, ask)?;
        if let (Algorithm::LeastConn(state), Balancer::LeastConn) =
            (&mut self.algorithm, &upstream.balancer)
        {
            state.count(upstream, index);
        }
        Some(index)
    }
}
