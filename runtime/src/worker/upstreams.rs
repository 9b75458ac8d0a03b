//! What a worker keeps per upstream and per node: balancer state and idle connections.

use std::task::{Context, Waker};
use std::time::Duration;

use osmia_core::balancer::{self, Ask, Outcome};
use osmia_core::snapshot::{KeepalivePool, Slot, Upstream};

use crate::buf::{Buf, Class};
use crate::net::{Conn, Net, Rx, Tx};

/// An established connection to a node. While it is idle its receive is armed, so that the node
/// closing it is noticed, and the next response needs no further operation.
pub struct UpstreamConn<N: Net> {
    /// The transport.
    pub conn: Conn<N>,
    /// Requests sent on it so far.
    pub requests: u32,
    /// Whether its last response did not fit into a small buffer.
    pub large: bool,
    /// The name that the node's certificate is for; `None`: it is not under TLS.
    pub name: Option<Box<[u8]>>,
    /// It is a stream on a connection that others use, too.
    pub multiplexed: bool,
    idle_since_ms: u64,
}

impl<N: Net> UpstreamConn<N> {
    /// A fresh connection.
    pub fn new(conn: Conn<N>) -> Self {
        Self { conn, requests: 0, large: false, name: None, multiplexed: false, idle_since_ms: 0 }
    }

    /// Arms the receive for the next response, unless it is.
    pub fn arm(&mut self) {
        if !self.conn.rx.is_armed() {
            let class = if self.large { Class::Large } else { Class::Small };
            self.conn.rx.start(Buf::new(class), false);
        }
    }

    /// Nothing is owed in either direction. A receive that completed means that the node closed
    /// the connection, or sent what nobody asked for.
    fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.conn.tx.is_busy() && self.conn.rx.poll(&mut cx).is_pending()
    }
}

struct Pool<N: Net> {
    generation: u32,
    idle: Vec<UpstreamConn<N>>,
    limits: KeepalivePool,
}

/// Tables indexed by [`Slot`].
pub struct Upstreams<N: Net> {
    /// Where rotations start: workers that all began at the first node would favour it.
    offset: usize,
    balancers: Vec<(u32, balancer::State)>,
    pools: Vec<Pool<N>>,
    random: fastrand::Rng,
}

impl<N: Net> Upstreams<N> {
    /// Empty tables of the worker at position `worker`.
    pub fn new(worker: usize) -> Self {
        let random = fastrand::Rng::with_seed(worker as u64);
        Self { offset: worker, balancers: Vec::new(), pools: Vec::new(), random }
    }

    /// Chooses a node of `upstream`. Every pick is followed by a [`Self::release`].
    pub fn pick(&mut self, upstream: &Upstream, ask: &Ask<'_>) -> Option<usize> {
        let Slot { index, generation } = upstream.slot;
        let index = index as usize;
        if self.balancers.len() <= index {
            let fresh = || (0, balancer::State::starting_at(self.offset));
            self.balancers.resize_with(index + 1, fresh);
        }
        let entry = &mut self.balancers[index];
        if entry.0 != generation {
            *entry = (generation, balancer::State::starting_at(self.offset));
        }
        entry.1.pick(upstream, ask)
    }

    /// Ends a try on a node that was picked.
    pub fn release(&mut self, upstream: &Upstream, node: usize, outcome: Outcome) {
        let Slot { index, generation } = upstream.slot;
        if let Some((owner, state)) = self.balancers.get_mut(index as usize)
            && *owner == generation
        {
            state.release(upstream, node, outcome);
        }
    }

    /// Random bits for balancers.
    pub fn random(&mut self) -> u64 {
        self.random.u64(..)
    }

    /// An idle connection of `pool` that is still good. Under TLS it has to be one for `name`.
    pub fn take(&mut self, pool: Slot, name: Option<&[u8]>) -> Option<UpstreamConn<N>> {
        let pool =
            self.pools.get_mut(pool.index as usize).filter(|p| p.generation == pool.generation)?;
        loop {
            let mut candidate = match name {
                None => pool.idle.pop()?,
                Some(_) => {
                    let at = pool.idle.iter().rposition(|idle| idle.name.as_deref() == name)?;
                    pool.idle.remove(at)
                }
            };
            if candidate.is_quiet() {
                return Some(candidate);
            }
        }
    }

    /// Keeps a connection for later, if it is in order and there is room; otherwise closes it.
    pub fn put(
        &mut self,
        slot: Slot,
        limits: KeepalivePool,
        mut conn: UpstreamConn<N>,
        now_ms: u64,
    ) {
        if conn.requests >= limits.requests {
            return;
        }
        conn.arm();
        let index = slot.index as usize;
        while self.pools.len() <= index {
            self.pools.push(Pool { generation: 0, idle: Vec::new(), limits });
        }
        let pool = &mut self.pools[index];
        if pool.generation > slot.generation {
            // A request of an older snapshot: its node is gone.
            return;
        }
        if pool.generation < slot.generation {
            pool.generation = slot.generation;
            pool.idle.clear();
        }
        pool.limits = limits;
        if pool.idle.len() < limits.size as usize && conn.is_sent() {
            conn.idle_since_ms = now_ms;
            pool.idle.push(conn);
        }
    }

    /// Closes idle connections that the node closed or that have been idle for too long.
    pub fn sweep(&mut self, now_ms: u64) {
        for pool in &mut self.pools {
            // APISIX: an idle timeout of zero keeps connections for ever.
            let timeout = match duration_ms(pool.limits.idle_timeout) {
                0 => u64::MAX,
                timeout => timeout,
            };
            pool.idle.retain_mut(|conn| {
                now_ms.saturating_sub(conn.idle_since_ms) < timeout && conn.is_quiet()
            });
        }
    }

    /// Closes all idle connections.
    pub fn clear(&mut self) {
        self.pools.iter_mut().for_each(|pool| pool.idle.clear());
    }

    /// Idle connections.
    pub fn idle(&self) -> usize {
        self.pools.iter().map(|pool| pool.idle.len()).sum()
    }
}

impl<N: Net> UpstreamConn<N> {
    /// Whether the last send has completed. Its waker was never registered, so look.
    fn is_sent(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.conn.tx.poll(&mut cx), std::task::Poll::Ready(Ok(())))
    }
}

/// A duration in milliseconds, saturating.
pub fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
