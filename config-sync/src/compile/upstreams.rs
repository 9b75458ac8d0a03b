//! Upstreams for a snapshot.

use std::net::SocketAddr;
use std::sync::Arc;

use osmia_core::resource::{self, Key, PassHost};
use osmia_core::snapshot::{self, Balancer, KeepalivePool, Node, Timeouts, Upstream};

use super::names::Names;
use super::nodes::{self, Address, NoNodes};
use super::slots::SlotTable;

/// Builds upstreams and keeps their places in the workers' tables.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub(super) names: Names,
    upstream_slots: SlotTable<Arc<str>>,
    pool_slots: SlotTable<SocketAddr>,
}

impl Builder {
    /// The upstream `id`, on behalf of the resource `user` in which it is written. What did not
    /// change is `last` itself.
    pub(super) fn build(
        &mut self,
        id: &Arc<str>,
        config: &resource::Upstream,
        user: &Key,
        last: Option<&Arc<Upstream>>,
    ) -> Result<Arc<Upstream>, NoNodes> {
        let addresses = nodes::addresses(config, &mut self.names, user)?;
        let built = self.compile(id, config, &addresses);
        if let Some(last) = last
            && **last == built
        {
            self.release(&built);
            return Ok(Arc::clone(last));
        }
        Ok(Arc::new(built))
    }

    /// Gives up what an upstream held.
    pub(super) fn release(&mut self, upstream: &Upstream) {
        self.upstream_slots.release(&upstream.id);
        for node in &upstream.nodes {
            self.pool_slots.release(&node.addr);
        }
    }

    /// Ends a round: what was given up may be used again from the next one on.
    pub(super) fn settle(&mut self) {
        self.upstream_slots.settle();
        self.pool_slots.settle();
    }

    fn compile(
        &mut self,
        id: &Arc<str>,
        config: &resource::Upstream,
        addresses: &[Address],
    ) -> Upstream {
        let node = |address: &Address| Node {
            addr: address.addr,
            authority: Arc::clone(&address.authority),
            label: address.addr.to_string().into(),
            weight: address.weight,
            pool: self.pool_slots.acquire(&address.addr),
        };
        // Those of lower priority have no part as long as workers do not know of priorities.
        let highest = addresses.iter().map(|address| address.priority).max();
        let used = addresses.iter().filter(|address| Some(address.priority) == highest);
        let nodes: Vec<Node> = used.map(node).collect();
        let pass_host = match (config.pass_host, &config.upstream_host) {
            (PassHost::Rewrite, Some(host)) => snapshot::PassHost::Rewrite(host.as_str().into()),
            (PassHost::Node, _) => snapshot::PassHost::Node,
            (PassHost::Pass | PassHost::Rewrite, _) => snapshot::PassHost::Pass,
        };
        Upstream {
            id: Arc::clone(id),
            slot: self.upstream_slots.acquire(id),
            balancer: Balancer::RoundRobin,
            pass_host,
            retries: config.retries.unwrap_or_else(|| nodes.len().saturating_sub(1) as u32),
            nodes,
            retry_timeout: config.retry_deadline(),
            timeout: config.timeout.map_or_else(Timeouts::default, |t| t.compile()),
            keepalive: config.keepalive_pool.map_or_else(KeepalivePool::default, |p| p.compile()),
        }
    }
}
