//! Upstreams for a snapshot.

use std::net::SocketAddr;
use std::sync::Arc;

use ahash::HashMap;
use osmia_core::health::Criteria;
use osmia_core::resource::{self, Checks, Key, PassHost, Scheme};
use osmia_core::snapshot::{
    self, Balancer, KeepalivePool, Node, Timeouts, Upstream, UpstreamProtocol, Version,
};

use osmia_core::tls::UpstreamTls;
use tokio_rustls::rustls::sign::CertifiedKey;

use super::names::Names;
use super::nodes::{self, Address, NoNodes};
use super::slots::SlotTable;
use super::tls::{Shared, is_tls};

/// An upstream in force whose nodes are to be checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The upstream with its nodes.
    pub upstream: Arc<Upstream>,
    /// Its `checks`.
    pub checks: Arc<Checks>,
}

/// The id of an upstream that is to be checked otherwise than before; `None`: not any more.
pub type CheckChange = (Arc<str>, Option<Checked>);

/// Connections that can stand for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pool {
    addr: SocketAddr,
    protocol: UpstreamProtocol,
    /// Number of the TLS configuration.
    tls: Option<u64>,
}

impl Pool {
    fn of(upstream: &Upstream, addr: SocketAddr) -> Self {
        let tls = upstream.tls.as_ref().map(|tls| tls.number());
        Self { addr, protocol: upstream.protocol, tls }
    }
}

/// Builds upstreams and keeps their places in the workers' tables.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub(super) names: Names,
    /// Whether `checks` are taken for what they are not: absent.
    pub(super) without_checks: bool,
    upstream_slots: SlotTable<Arc<str>>,
    pool_slots: SlotTable<Pool>,
    pub(super) tls: Shared,
    /// The upstreams to be checked, by id, as they were told last.
    checked: HashMap<Arc<str>, Checked>,
    check_changes: Vec<CheckChange>,
}

impl Builder {
    /// The upstream `id`, on behalf of the resource `user` in which it is written. What did not
    /// change is `last` itself.
    pub(super) fn build(
        &mut self,
        id: &Arc<str>,
        config: &resource::Upstream,
        identity: Option<Arc<CertifiedKey>>,
        user: &Key,
        last: Option<&Arc<Upstream>>,
    ) -> Result<Arc<Upstream>, NoNodes> {
        let verify = config.tls.as_ref().is_some_and(|tls| tls.verify);
        let tls = is_tls(config).then(|| self.tls.config(identity, verify));
        let tls = tls.transpose().map_err(NoNodes::Tls)?;
        let addresses = nodes::addresses(config, &mut self.names, user)?;
        let checks = config.checks.as_deref().filter(|_| !self.without_checks);
        let built = self.compile(id, config, checks, tls, &addresses);
        let upstream = match last {
            Some(last) if **last == built => {
                self.release(&built);
                Arc::clone(last)
            }
            _ => {
                built.prepare();
                Arc::new(built)
            }
        };
        self.note_checks(&upstream, checks);
        Ok(upstream)
    }

    /// What has to be checked otherwise since the last call.
    pub(super) fn take_check_changes(&mut self) -> Vec<CheckChange> {
        std::mem::take(&mut self.check_changes)
    }

    /// Notes what has to be checked otherwise now that this upstream is in force.
    fn note_checks(&mut self, upstream: &Arc<Upstream>, checks: Option<&Checks>) {
        let id = &upstream.id;
        let last = self.checked.get(id);
        let Some(checks) = checks else {
            if last.is_some() {
                self.forget_checks(id);
            }
            return;
        };
        let checks = match last {
            Some(last) if *last.checks == *checks => {
                if Arc::ptr_eq(&last.upstream, upstream) {
                    return;
                }
                Arc::clone(&last.checks)
            }
            _ => Arc::new(checks.clone()),
        };
        let checked = Checked { upstream: Arc::clone(upstream), checks };
        self.checked.insert(Arc::clone(id), checked.clone());
        self.check_changes.push((Arc::clone(id), Some(checked)));
    }

    fn forget_checks(&mut self, id: &Arc<str>) {
        if self.checked.remove(id).is_some() {
            self.check_changes.push((Arc::clone(id), None));
        }
    }

    /// Gives up what an upstream held.
    pub(super) fn release(&mut self, upstream: &Upstream) {
        self.upstream_slots.release(&upstream.id);
        for node in &upstream.nodes {
            self.pool_slots.release(&Pool::of(upstream, node.addr));
        }
    }

    /// Ends a round: what was given up may be used again from the next one on.
    pub(super) fn settle(&mut self) {
        for id in self.upstream_slots.settle() {
            self.forget_checks(&id);
        }
        self.pool_slots.settle();
        self.tls.settle();
    }

    fn compile(
        &mut self,
        id: &Arc<str>,
        config: &resource::Upstream,
        checks: Option<&Checks>,
        tls: Option<Arc<UpstreamTls>>,
        addresses: &[Address],
    ) -> Upstream {
        let protocol = match config.scheme {
            Scheme::Grpc | Scheme::Grpcs => UpstreamProtocol::Grpc,
            Scheme::H2 | Scheme::H2c => UpstreamProtocol::Http2,
            _ => UpstreamProtocol::Http1,
        };
        let number = tls.as_ref().map(|tls| tls.number());
        let pool = |addr| Pool { addr, protocol, tls: number };
        let node = |address: &Address| Node {
            addr: address.addr,
            unix: address.unix.clone(),
            authority: Arc::clone(&address.authority),
            label: match &address.unix {
                Some(path) => format!("unix:{}", path.display()).into(),
                None => address.addr.to_string().into(),
            },
            weight: address.weight,
            priority: address.priority,
            pool: self.pool_slots.acquire(&pool(address.addr)),
        };
        let nodes: Vec<Node> = addresses.iter().map(node).collect();
        let pass_host = match (config.pass_host, &config.upstream_host) {
            (PassHost::Rewrite, Some(host)) => snapshot::PassHost::Rewrite(host.as_str().into()),
            (PassHost::Node, _) => snapshot::PassHost::Node,
            (PassHost::Pass | PassHost::Rewrite, _) => snapshot::PassHost::Pass,
        };
        Upstream {
            id: Arc::clone(id),
            slot: self.upstream_slots.acquire(id),
            version: Version::fresh(),
            // Checked when the resource was read.
            balancer: config.balancer().unwrap_or(Balancer::RoundRobin),
            pass_host,
            retries: config.retries.unwrap_or_else(|| nodes.len().saturating_sub(1) as u32),
            nodes,
            retry_timeout: config.retry_deadline(),
            timeout: config.timeout.map_or_else(Timeouts::default, |t| t.compile()),
            keepalive: match (config.proxy_protocol, config.keepalive_pool) {
                (Some(_), _) => KeepalivePool { size: 0, ..KeepalivePool::default() },
                (None, pool) => pool.map_or_else(KeepalivePool::default, |p| p.compile()),
            },
            proxy_protocol: config.proxy_protocol,
            passive: checks
                .and_then(|checks| checks.passive.as_ref())
                .map(|passive| Arc::new(Criteria::passive(passive))),
            tls,
            protocol,
        }
    }
}
