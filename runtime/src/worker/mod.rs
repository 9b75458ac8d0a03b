//! A worker: one pinned thread, one event loop, everything it needs in its own tables.
//!
//! [`Worker`] is the context that the request's life runs in; it is generic over the [`Net`] so
//! that tests can run it on a virtual network. [`thread`] starts real ones.

pub mod acceptor;
pub mod clock;
pub mod deadline;
pub mod driver;
mod scheduling;
pub mod stats;
pub mod thread;
pub mod upstreams;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use osmia_config_sync::health::Reporter;
use osmia_core::http1::{RequestHead, ResponseHead};
use osmia_core::limits::HttpLimits;
use osmia_core::net_set::NetSet;
use osmia_core::origin::{Origin, UNSPECIFIED};
use osmia_core::request::ViewOptions;
use osmia_core::settings::{DownstreamTimeouts, ListenAddr, Listener, Settings};
use osmia_core::snapshot::Snapshot;

use crate::http2::client::Sessions;
use crate::log::AccessLog;
use crate::net::Net;
use clock::Clock;
use deadline::Deadlines;
use stats::Stats;
use upstreams::Upstreams;

/// Period of the one coarse tick that serves every deadline of a worker.
pub const TICK: Duration = Duration::from_millis(250);

/// How long an idle connection may still bring a request after a drain began.
pub const DRAIN_IDLE_GRACE: Duration = Duration::from_secs(1);

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Accepting and serving.
    Running,
    /// Not accepting; serving what was accepted, then closing.
    Draining,
}

/// The part of the settings that the request path reads.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// Limits on heads and framing.
    pub limits: HttpLimits,
    /// Timeouts towards clients.
    pub downstream: DownstreamTimeouts,
    /// Value of the `Server` field.
    pub server: String,
    /// Name of this machine.
    pub hostname: Vec<u8>,
    /// 0: unlimited.
    pub client_max_body_bytes: u64,
    /// How routes see requests.
    pub view: ViewOptions,
    /// `apisix.ssl.fallback_sni`: the name of clients that ask for none.
    pub fallback_sni: Option<String>,
    /// `X-APISIX-Upstream-Status` on every proxied response, not on 5xx only.
    pub show_upstream_status: bool,
    /// `apisix.trusted_addresses`.
    pub trusted_addresses: Option<NetSet>,
    /// `osmia.proxy_protocol.trusted`.
    pub proxy_protocol_trusted: Option<NetSet>,
}

impl From<&Settings> for PipelineSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            limits: settings.limits,
            downstream: settings.downstream,
            server: if settings.server_tokens {
                concat!("Osmia/", env!("CARGO_PKG_VERSION")).to_owned()
            } else {
                "Osmia".to_owned()
            },
            hostname: rustix::system::uname().nodename().to_bytes().to_vec(),
            client_max_body_bytes: settings.client_max_body_bytes,
            view: settings.view,
            fallback_sni: settings.tls.fallback_sni.as_deref().map(str::to_owned),
            show_upstream_status: settings.show_upstream_status,
            trusted_addresses: settings.trusted_addresses.clone(),
            proxy_protocol_trusted: settings.proxy_protocol_trusted.clone(),
        }
    }
}

/// A listener as requests see it.
#[derive(Debug)]
pub struct ListenerInfo {
    /// The bound address; unspecified, with port 0, for a Unix domain socket.
    pub addr: SocketAddr,
    /// Its port, for `X-Forwarded-Port`; empty for a Unix domain socket.
    pub port: String,
    /// Whether its requests are logged.
    pub access_log: bool,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whether connections begin with a TLS handshake.
    pub tls: bool,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// What is special about its connections if nothing else is said of them.
    pub origin: Option<Rc<Origin>>,
}

impl ListenerInfo {
    /// Describes a listener bound to `addr`.
    pub fn new(addr: SocketAddr, access_log: bool) -> Self {
        let port = addr.port().to_string();
        Self {
            addr,
            port,
            access_log,
            proxy_protocol: false,
            tls: false,
            http2: false,
            origin: None,
        }
    }

    /// Describes a bound listener.
    pub fn of(listener: &Listener) -> Self {
        let Listener { access_log, proxy_protocol, tls, http2, .. } = *listener;
        let plain = match &listener.addr {
            ListenAddr::Tcp(addr) => Self::new(*addr, access_log),
            ListenAddr::Unix(path) => Self {
                port: String::new(),
                origin: Some(Rc::new(Origin::unix(path))),
                ..Self::new(UNSPECIFIED, access_log)
            },
        };
        Self { proxy_protocol, tls, http2, ..plain }
    }
}

/// A worker's own handle of a snapshot. Requests clone the `Rc` around it: the reference count in
/// the `Arc` is shared between cores and is touched only when snapshots change.
#[derive(Debug)]
pub struct LocalSnapshot {
    snapshot: Option<Arc<Snapshot>>,
    /// Where the last user sends it to be freed off the worker.
    retired: Option<Sender<Arc<Snapshot>>>,
}

impl LocalSnapshot {
    /// A handle that gives the snapshot back through `retired`.
    pub fn new(snapshot: Arc<Snapshot>, retired: Option<Sender<Arc<Snapshot>>>) -> Self {
        Self { snapshot: Some(snapshot), retired }
    }

    /// The snapshot.
    pub fn get(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref()
    }
}

impl Drop for LocalSnapshot {
    fn drop(&mut self) {
        if let (Some(snapshot), Some(retired)) = (self.snapshot.take(), &self.retired) {
            // If the sync thread is gone, the snapshot is freed here after all.
            let _ = retired.try_send(snapshot);
        }
    }
}

/// Reusable parsing state, so that tables are allocated once and not per connection.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The request's head.
    pub request: RequestHead,
    /// The response's head.
    pub response: ResponseHead,
    /// A head on its way out.
    pub out: Vec<u8>,
}

/// Everything a connection needs. One per thread, shared by its tasks.
pub struct Worker<N: Net> {
    /// Position among the workers.
    pub id: usize,
    /// Transport.
    pub net: N,
    /// Settings of the request path.
    pub settings: PipelineSettings,
    /// Coarse time.
    pub clock: Clock,
    /// Deadlines of all connections.
    pub deadlines: Rc<Deadlines>,
    /// Balancers and connection pools.
    pub upstreams: RefCell<Upstreams<N>>,
    /// Connections of HTTP/2 to nodes.
    pub sessions: RefCell<Sessions>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Access log, unless it is off.
    pub log: Option<AccessLog>,
    /// Where the outcomes of tries go that passive health checks count.
    pub reports: Reporter,
    lifecycle: Cell<Lifecycle>,
    drain_began_ms: Cell<u64>,
    /// Requests up to the last tick.
    served: Cell<u64>,
    snapshot: RefCell<Rc<LocalSnapshot>>,
    #[allow(clippy::vec_box, reason = "tasks hold it across waits: a pointer keeps them small")]
    scratch: RefCell<Vec<Box<Scratch>>>,
}

impl<N: Net> Worker<N> {
    /// The same worker, whose tries on nodes are told to the health checks.
    #[must_use]
    pub fn reporting(mut self, reports: Reporter) -> Self {
        self.reports = reports;
        self
    }

    /// A worker without a configuration yet: every request is answered with 404.
    pub fn new(
        id: usize,
        net: N,
        settings: PipelineSettings,
        stats: Arc<Stats>,
        log: Option<AccessLog>,
    ) -> Self {
        Self {
            id,
            net,
            settings,
            clock: Clock::default(),
            deadlines: Rc::default(),
            upstreams: RefCell::new(Upstreams::new(id)),
            sessions: RefCell::default(),
            reports: Reporter::default(),
            stats,
            log,
            lifecycle: Cell::new(Lifecycle::Running),
            drain_began_ms: Cell::new(0),
            served: Cell::new(0),
            snapshot: RefCell::new(Rc::new(LocalSnapshot { snapshot: None, retired: None })),
            scratch: RefCell::default(),
        }
    }

    /// The snapshot for a request that begins now.
    #[inline]
    pub fn snapshot(&self) -> Rc<LocalSnapshot> {
        Rc::clone(&self.snapshot.borrow())
    }

    /// Serves requests that begin from now on by another snapshot.
    pub fn install(&self, snapshot: LocalSnapshot) {
        let revision = snapshot.get().map_or(0, |snapshot| snapshot.revision);
        self.stats.revision.add(revision.wrapping_sub(self.stats.revision.get()));
        *self.snapshot.borrow_mut() = Rc::new(snapshot);
    }

    /// Whether the worker is going down.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.lifecycle.get() == Lifecycle::Draining
    }

    /// Begins the drain: responses say `Connection: close`, idle connections are closed after a
    /// grace.
    pub fn drain(&self) {
        if !self.is_draining() {
            self.lifecycle.set(Lifecycle::Draining);
            self.drain_began_ms.set(self.clock.now_ms());
            self.upstreams.borrow_mut().clear();
            self.sessions.borrow_mut().clear();
            self.deadlines.wake_all();
        }
    }

    /// Whether idle connections are to be closed now.
    pub fn idle_grace_is_over(&self) -> bool {
        let grace = upstreams::duration_ms(DRAIN_IDLE_GRACE);
        self.is_draining() && self.clock.now_ms() >= self.drain_began_ms.get() + grace
    }

    /// Everything that is due once per tick.
    pub fn sweep(&self) {
        let now = self.clock.now_ms();
        self.deadlines.sweep(now);
        self.upstreams.borrow_mut().sweep(now);
        self.sessions.borrow_mut().sweep(now);
        crate::buf::trim();
        let served = self.stats.requests.get();
        crate::allocator::give_back(self.served.replace(served) == served);
        if let Some(log) = &self.log {
            log.flush();
        }
    }

    /// Parsing state for a connection that becomes active.
    pub fn take_scratch(&self) -> Box<Scratch> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives parsing state back.
    pub fn give_scratch(&self, scratch: Box<Scratch>) {
        const KEPT: usize = 128;
        let mut free = self.scratch.borrow_mut();
        if free.len() < KEPT {
            free.push(scratch);
        }
    }
}
