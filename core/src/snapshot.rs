//! The immutable configuration that workers serve from.
//!
//! The sync thread compiles a [`Snapshot`], wraps it in an `Arc` and broadcasts it. A snapshot is
//! complete: a route holds its resolved upstream, nothing is looked up by id per request. What
//! belongs to a worker (connection pools, balancer cursors) is kept beside it in tables indexed by
//! [`Slot`], so that it survives snapshots in which its owner did not change.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::balancer::Chash;
use crate::health::Criteria;
use crate::node_set::NodeSet;
use crate::proxy_protocol;
use crate::reply::Failure;
use crate::router::{Conditions, MethodSet, PathPattern, Router};
use crate::tls::{Certificates, UpstreamTls};

/// A stable index into a per-worker table, handed out by the sync thread.
///
/// The same thing (an upstream, a node address) keeps its slot from snapshot to snapshot. When it
/// goes away its index may be given to something else with a higher generation; a worker that finds
/// another generation in its table starts that entry afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Slot {
    /// Position in the table; dense, starting at 0.
    pub index: u32,
    /// Counts the owners this index has had.
    pub generation: u32,
}

/// One revision of everything a worker needs to serve requests.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows by at least one with each published snapshot; 0 before the first.
    pub revision: u64,
    /// The revision of the store that this is.
    pub source_revision: u64,
    /// All routes, matched by host and path.
    pub router: Router,
    /// What health checks found out about the nodes of upstreams.
    pub health: Health,
    /// Certificates by the names that clients ask for.
    pub certificates: Certificates,
}

/// What health checks found out about the nodes of upstreams. A clone is a reference count.
///
/// It lies beside the routes, so that a node that goes down changes no route and no upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// By the index of the upstream's slot; only upstreams with a node that is not healthy. Never
    /// ends with `None`, so that equal contents are equal.
    marked: Arc<Vec<Option<Arc<Marked>>>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Marked {
    /// Of the upstream's slot.
    generation: u32,
    marks: Marks,
}

/// Nodes of one upstream, by their index in [`Upstream::nodes`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Those taken to be down.
    pub down: NodeSet,
    /// Those of which successes in the traffic are to be reported: something is counted against
    /// them. Empty when successes do not count.
    pub counted: NodeSet,
}

impl Health {
    /// The nodes of the upstream in `slot` that are down; `None`: all are up, or nobody checks.
    pub fn down(&self, slot: Slot) -> Option<&NodeSet> {
        self.marks(slot).map(|marks| &marks.down).filter(|down| !down.is_empty())
    }

    /// The nodes of the upstream in `slot` of which a worker reports successes; `None`: none.
    pub fn counted(&self, slot: Slot) -> Option<&NodeSet> {
        self.marks(slot).map(|marks| &marks.counted).filter(|counted| !counted.is_empty())
    }

    /// Says which nodes of the upstream in `slot` are down.
    pub fn set(&mut self, slot: Slot, down: NodeSet) {
        self.mark(slot, Marks { down, counted: NodeSet::default() });
    }

    /// Says what is known of the nodes of the upstream in `slot`. Whether that is new.
    pub fn mark(&mut self, slot: Slot, marks: Marks) -> bool {
        let known = self.marks(slot);
        if marks == Marks::default() {
            return known.is_some() && self.clear(slot);
        }
        if known == Some(&marks) {
            return false;
        }
        let index = slot.index as usize;
        let marked = Arc::make_mut(&mut self.marked);
        if marked.len() <= index {
            marked.resize(index + 1, None);
        }
        marked[index] = Some(Arc::new(Marked { generation: slot.generation, marks }));
        true
    }

    /// Forgets the upstream in `slot`, but not a later one in its place. Whether anything was known
    /// of it.
    pub fn clear(&mut self, slot: Slot) -> bool {
        if self.marks(slot).is_none() {
            return false;
        }
        let marked = Arc::make_mut(&mut self.marked);
        marked[slot.index as usize] = None;
        while marked.last().is_some_and(Option::is_none) {
            marked.pop();
        }
        true
    }

    fn marks(&self, slot: Slot) -> Option<&Marks> {
        let marked = self.marked.get(slot.index as usize)?.as_deref()?;
        (marked.generation == slot.generation).then_some(&marked.marks)
    }
}

/// A compiled route. There may be very many: what only some have is kept beside them.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The resource id, as in `/apisix/admin/routes/{id}`.
    pub id: Arc<str>,
    /// The `name` field; empty when not set.
    pub name: Box<str>,
    /// Lower-case hosts or `*` wildcards; empty: any host.
    pub hosts: Box<[Box<str>]>,
    /// Path patterns, at least one.
    pub uris: Box<[PathPattern]>,
    /// Methods that match.
    pub methods: MethodSet,
    /// Rank among routes with the same host and path; the highest is tried first.
    pub priority: i64,
    /// Among equals the smaller is tried first: the position in a file, or the revision that
    /// created the route.
    pub order: u64,
    /// Where requests go, or why they cannot go anywhere.
    pub upstream: Result<Arc<Upstream>, Failure>,
    /// What only some routes have.
    pub extras: Option<Box<Extras>>,
    /// `enable_websocket`. Osmia tunnels a confirmed Upgrade on any route unless this is `false`
    /// explicitly, as APISIX forwards the Upgrade header only when it is `true`.
    pub enable_websocket: bool,
}

/// What only some routes have.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// What else a request must fulfil.
    pub conditions: Option<Conditions>,
    /// Route-level timeouts; they win over the upstream's.
    pub timeout: Option<Timeouts>,
}

impl Route {
    /// What else a request must fulfil.
    #[inline]
    pub fn conditions(&self) -> Option<&Conditions> {
        self.extras.as_ref()?.conditions.as_ref()
    }

    /// Route-level timeouts; they win over the upstream's.
    #[inline]
    pub fn timeout(&self) -> Option<Timeouts> {
        self.extras.as_ref()?.timeout
    }
}

/// A compiled upstream.
#[derive(Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The resource id, or `{kind}#{owner id}` when it is written inline in a route.
    pub id: Arc<str>,
    /// Index of the per-worker balancer state.
    pub slot: Slot,
    /// Tells this compilation from others of the same upstream; takes no part in comparisons.
    pub version: Version,
    /// How a node is chosen.
    pub balancer: Balancer,
    /// Nodes with a weight above zero are used; never reordered after compilation.
    pub nodes: Vec<Node>,
    /// What goes into the `Host` header towards the node.
    pub pass_host: PassHost,
    /// How often a failed try is repeated on another node. Default: nodes - 1.
    pub retries: u32,
    /// Total time for retries; `None`: no cap.
    pub retry_timeout: Option<Duration>,
    /// Connect, send and read timeouts.
    pub timeout: Timeouts,
    /// Limits of the keep-alive pool to each node.
    pub keepalive: KeepalivePool,
    /// What of the traffic's outcomes is to be reported (`checks.passive`); `None`: nothing.
    pub passive: Option<Arc<Criteria>>,
    /// How TLS is spoken with the nodes; `None`: it is not.
    pub tls: Option<Arc<UpstreamTls>>,
    /// What is spoken with the nodes, over TLS or not.
    pub protocol: UpstreamProtocol,
    /// `proxy_protocol`: connections begin with such a header, and since it names one client, they
    /// are not kept.
    pub proxy_protocol: Option<proxy_protocol::Version>,
}

/// What is spoken with the nodes of an upstream (`scheme`, TLS aside).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1: `http`, `https`.
    #[default]
    Http1,
    /// HTTP/2 as gRPC uses it, with trailers: `grpc`, `grpcs`.
    Grpc,
    /// HTTP/2 otherwise.
    Http2,
}

impl Default for Upstream {
    /// An upstream without nodes, and with nothing configured.
    fn default() -> Self {
        Self {
            id: "".into(),
            slot: Slot::default(),
            version: Version::fresh(),
            balancer: Balancer::RoundRobin,
            nodes: Vec::new(),
            pass_host: PassHost::Pass,
            retries: 0,
            retry_timeout: None,
            timeout: Timeouts::default(),
            keepalive: KeepalivePool::default(),
            passive: None,
            tls: None,
            protocol: UpstreamProtocol::Http1,
            proxy_protocol: None,
        }
    }
}

impl Upstream {
    /// `scheme`, as configured: `$upstream_scheme`.
    pub fn scheme(&self) -> &'static str {
        match (self.protocol, self.tls.is_some()) {
            (UpstreamProtocol::Grpc, false) => "grpc",
            (UpstreamProtocol::Grpc, true) => "grpcs",
            (UpstreamProtocol::Http2, false) => "h2c",
            (UpstreamProtocol::Http2, true) => "h2",
            (_, false) => "http",
            (_, true) => "https",
        }
    }

    /// Computes ahead what the balancer derives from the nodes, so that no worker has to while it
    /// serves. Without this call the first worker that needs it does it.
    pub fn prepare(&self) {
        if let Balancer::Chash(chash) = &self.balancer {
            chash.prepare(&self.nodes);
        }
    }
}

/// Which compilation of an upstream this is; a later one has a higher number, of any upstream.
///
/// Balancer states notice by it that nodes have changed, without comparing them at each pick. All
/// versions are equal, so that what was compiled anew with the same result is equal as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Version(u64);

impl Version {
    /// One that nothing else has.
    pub fn fresh() -> Self {
        /// Zero is for balancers that have not seen an upstream yet.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl PartialEq for Version {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Version {}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where to connect. For a Unix domain socket a name that nothing else has, with port 0: what
    /// is known of nodes is kept by address.
    pub addr: SocketAddr,
    /// The Unix domain socket to connect to instead.
    pub unix: Option<Arc<Path>>,
    /// `host:port` (or `host` when the port is the scheme's default) as configured: the `Host`
    /// header for `pass_host: node`, and `$upstream_host`.
    pub authority: Arc<str>,
    /// `ip:port` or `unix:/path`, for `$upstream_addr`.
    pub label: Arc<str>,
    /// Share of requests; zero takes the node out.
    pub weight: u32,
    /// Nodes of lower priority serve when those of higher priority are exhausted.
    pub priority: i32,
    /// Index of the per-worker connection pool, shared by upstreams that speak the same protocol
    /// with the same address, over TLS with the same certificate and authorities or without TLS.
    pub pool: Slot,
}

/// Balancing algorithms (`upstream.type`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balancer {
    /// Smooth weighted round-robin.
    RoundRobin,
    /// Consistent hashing.
    Chash(Chash),
    /// The fewest active connections for the weight.
    LeastConn,
    /// The shortest latency, averaged with exponential decay.
    Ewma,
}

impl Balancer {
    /// Whether it wants to know how tries end.
    pub fn follows_tries(&self) -> bool {
        matches!(self, Self::LeastConn | Self::Ewma)
    }
}

/// `upstream.pass_host` with its `upstream_host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassHost {
    /// The client's `Host`.
    Pass,
    /// The node's own name.
    Node,
    /// A fixed value.
    Rewrite(Arc<str>),
}

/// `timeout` of a route or upstream. Each bounds the silence between two operations, not the whole
/// transfer, as nginx's `proxy_*_timeout` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection is established.
    pub connect: Duration,
    /// Between two successful writes to the upstream.
    pub send: Duration,
    /// Between two successful reads from the upstream.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minute = Duration::from_mins(1);
        Self { connect: minute, send: minute, read: minute }
    }
}

/// `keepalive_pool` of an upstream (APISIX, admin-api.md#upstream), per worker and node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepalivePool {
    /// Most idle connections kept. Zero: every connection is closed after its response.
    pub size: u32,
    /// An idle connection is closed after this; zero: never.
    pub idle_timeout: Duration,
    /// A connection is closed after this many requests.
    pub requests: u32,
}

impl Default for KeepalivePool {
    fn default() -> Self {
        Self { size: 320, idle_timeout: Duration::from_mins(1), requests: 1000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 128 bytes with the reference counts: the next size that allocators have is 160, and there
    /// may be a hundred thousand of them.
    #[test]
    fn a_route_is_small() {
        assert!(size_of::<Route>() <= 112, "{}", size_of::<Route>());
    }

    fn slot(index: u32, generation: u32) -> Slot {
        Slot { index, generation }
    }

    fn nodes(indexes: &[usize]) -> NodeSet {
        indexes.iter().copied().collect()
    }

    #[test]
    fn health_is_kept_by_slot_and_generation() {
        let mut health = Health::default();
        health.set(slot(5, 1), nodes(&[2]));
        assert_eq!(health.down(slot(5, 1)), Some(&nodes(&[2])));
        assert_eq!(health.counted(slot(5, 1)), None);
        for other in [slot(5, 0), slot(5, 2), slot(4, 1), slot(6, 1)] {
            assert_eq!(health.down(other), None);
        }
        // The next owner of the index; what was before it must not take it along.
        health.set(slot(5, 2), nodes(&[0]));
        assert!(!health.clear(slot(5, 1)));
        assert_eq!(health.down(slot(5, 2)), Some(&nodes(&[0])));
        assert!(health.clear(slot(5, 2)) && !health.clear(slot(5, 2)));
        assert_eq!(health, Health::default());
    }

    #[test]
    fn health_says_whether_marks_are_new() {
        let marks = |down: &[usize], counted: &[usize]| Marks {
            down: nodes(down),
            counted: nodes(counted),
        };
        let mut health = Health::default();
        assert!(!health.mark(slot(0, 0), marks(&[], &[])));
        assert!(health.mark(slot(3, 0), marks(&[], &[1])));
        assert!(!health.mark(slot(3, 0), marks(&[], &[1])));
        let before = health.clone();
        assert_eq!(
            (health.down(slot(3, 0)), health.counted(slot(3, 0))),
            (None, Some(&nodes(&[1])))
        );
        assert!(health.mark(slot(3, 0), marks(&[1], &[1])));
        assert_eq!(before.down(slot(3, 0)), None, "a snapshot's copy stays as it is");
        assert!(health.mark(slot(3, 0), marks(&[], &[])));
        assert_eq!(health, Health::default());
    }
}
