//! From resources to a snapshot.
//!
//! Everything is checked before anything is built, so that a compilation either yields a complete
//! snapshot or changes nothing, not even the slots. What did not change is shared with the previous
//! snapshot: the same `Arc` means the same content.

mod check;
mod nodes;
mod resolve;
mod slots;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use osmia_core::resource::{self, PassHost, Scheme, Status};
use osmia_core::router::{Entry, MethodSet, Router};
use osmia_core::snapshot::{self, Balancer, KeepalivePool, Node, Snapshot, Timeouts};

use check::UpstreamInUse;
use nodes::Address;
pub use resolve::{Resolve, SystemResolver};
use slots::SlotTable;

use crate::resources::{Located, Problems, Resources};

/// Compiles successive sets of resources.
pub struct Compiler {
    resolver: Box<dyn Resolve + Send>,
    upstream_slots: SlotTable<Arc<str>>,
    pool_slots: SlotTable<(Scheme, SocketAddr)>,
    last: Last,
}

/// What the previous compilation yielded.
#[derive(Default)]
struct Last {
    resources: Option<Resources>,
    routes: HashMap<Arc<str>, Arc<snapshot::Route>>,
    upstreams: HashMap<Arc<str>, Arc<snapshot::Upstream>>,
}

/// The outcome of a compilation.
#[derive(Debug)]
pub enum Compiled {
    /// Nothing differs from the previous snapshot.
    Unchanged,
    /// A new snapshot.
    Changed(Arc<Snapshot>),
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new(Box::new(SystemResolver))
    }
}

impl Compiler {
    /// A compiler that asks `resolver` for the addresses of node names.
    pub fn new(resolver: Box<dyn Resolve + Send>) -> Self {
        Self {
            resolver,
            upstream_slots: SlotTable::default(),
            pool_slots: SlotTable::default(),
            last: Last::default(),
        }
    }

    /// Compiles `resources` into a snapshot with the given revision.
    ///
    /// Fails with all problems found: a route's upstream that does not exist, a node's name that
    /// cannot be resolved.
    pub fn compile(&mut self, resources: Resources, revision: u64) -> Result<Compiled, Problems> {
        let checked = check::check(&resources, &*self.resolver)?;
        let upstreams = self.upstreams(&checked.upstreams);
        let routes = self.routes(&resources, &checked.targets, &upstreams);
        let same_upstreams = upstreams.len() == self.last.upstreams.len()
            && upstreams.iter().all(|(key, upstream)| {
                self.last.upstreams.get(key).is_some_and(|last| Arc::ptr_eq(last, upstream))
            });
        if same_upstreams && self.last.resources.as_ref() == Some(&resources) {
            return Ok(Compiled::Unchanged);
        }
        let router = router(&resources, &routes);
        self.last = Last { resources: Some(resources), routes, upstreams };
        Ok(Compiled::Changed(Arc::new(Snapshot { revision, router })))
    }

    /// Builds the upstreams, taking over those that did not change.
    fn upstreams(
        &mut self,
        in_use: &[UpstreamInUse<'_>],
    ) -> HashMap<Arc<str>, Arc<snapshot::Upstream>> {
        self.upstream_slots.begin();
        self.pool_slots.begin();
        let mut upstreams = HashMap::with_capacity(in_use.len());
        for item in in_use {
            let built = self.upstream(item);
            let upstream = match self.last.upstreams.get(&item.key) {
                Some(last) if **last == built => Arc::clone(last),
                _ => Arc::new(built),
            };
            upstreams.insert(Arc::clone(&item.key), upstream);
        }
        self.upstream_slots.finish();
        self.pool_slots.finish();
        upstreams
    }

    fn upstream(&mut self, item: &UpstreamInUse<'_>) -> snapshot::Upstream {
        let config = item.config;
        let node = |address: &Address| Node {
            addr: address.addr,
            authority: Arc::clone(&address.authority),
            label: address.addr.to_string().into(),
            weight: address.weight,
            pool: self.pool_slots.assign(&(config.scheme, address.addr)),
        };
        let nodes: Vec<Node> = item.addresses.iter().map(node).collect();
        let pass_host = match (config.pass_host, &config.upstream_host) {
            (PassHost::Rewrite, Some(host)) => snapshot::PassHost::Rewrite(host.as_str().into()),
            (PassHost::Node, _) => snapshot::PassHost::Node,
            (PassHost::Pass | PassHost::Rewrite, _) => snapshot::PassHost::Pass,
        };
        snapshot::Upstream {
            id: Arc::clone(&item.key),
            slot: self.upstream_slots.assign(&item.key),
            balancer: match config.kind {
                resource::UpstreamType::RoundRobin => Balancer::RoundRobin,
            },
            pass_host,
            retries: config.retries.unwrap_or_else(|| nodes.len().saturating_sub(1) as u32),
            nodes,
            retry_timeout: config.retry_deadline(),
            timeout: config.timeout.map_or_else(Timeouts::default, |t| t.compile()),
            keepalive: config.keepalive_pool.map_or_else(KeepalivePool::default, |p| p.compile()),
        }
    }

    /// Builds the enabled routes, taking over those that did not change.
    fn routes(
        &self,
        resources: &Resources,
        targets: &[Option<Arc<str>>],
        upstreams: &HashMap<Arc<str>, Arc<snapshot::Upstream>>,
    ) -> HashMap<Arc<str>, Arc<snapshot::Route>> {
        let mut routes = HashMap::with_capacity(resources.routes.len());
        for (item, target) in resources.routes.iter().zip(targets) {
            if item.value.status == Status::Disabled {
                continue;
            }
            let upstream = target.as_ref().and_then(|key| upstreams.get(key)).cloned();
            let built = route(item, upstream);
            let route = match self.last.routes.get(&built.id) {
                Some(last) if is_same(last, &built) => Arc::clone(last),
                _ => Arc::new(built),
            };
            routes.insert(Arc::clone(&route.id), route);
        }
        routes
    }
}

fn route(
    item: &Located<resource::Route>,
    upstream: Option<Arc<snapshot::Upstream>>,
) -> snapshot::Route {
    let config = &item.value;
    snapshot::Route {
        id: item.id.shared(),
        name: config.meta.name.as_deref().unwrap_or_default().into(),
        upstream,
        timeout: config.timeout.map(|timeout| timeout.compile()),
        enable_websocket: config.enable_websocket.unwrap_or(true),
    }
}

/// Whether two routes are equal and have the very same upstream.
fn is_same(a: &snapshot::Route, b: &snapshot::Route) -> bool {
    let same_upstream = match (&a.upstream, &b.upstream) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    same_upstream && a == b
}

fn router(resources: &Resources, routes: &HashMap<Arc<str>, Arc<snapshot::Route>>) -> Router {
    Router::build(resources.routes.iter().filter_map(|item| {
        let route = routes.get(item.id.as_str())?;
        Some(Entry {
            hosts: &item.value.hosts,
            uris: &item.value.uris,
            methods: MethodSet::of(&item.value.methods),
            priority: item.value.priority,
            route: Arc::clone(route),
        })
    }))
}

#[cfg(test)]
mod tests;
