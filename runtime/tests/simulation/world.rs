//! One world: a gateway, two upstream nodes, some clients.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use osmia::http::connection;
use osmia::net::Net;
use osmia::net::sim::{Conditions, SimNet};
use osmia::net::stack::Stack;
use osmia::worker::stats::Stats;
use osmia::worker::{ListenerInfo, LocalSnapshot, PipelineSettings, TICK, Worker};
use osmia_core::limits::HttpLimits;
use osmia_core::router::{MethodSet, PathPattern, Router};
use osmia_core::settings::DownstreamTimeouts;
use osmia_core::snapshot::{KeepalivePool, Node, Route, Slot, Snapshot, Upstream};

use crate::{client, upstream};

pub const GATEWAY: &str = "10.0.0.2:80";
const NODES: [&str; 2] = ["10.0.1.1:80", "10.0.1.2:80"];
const CLIENTS: usize = 6;
/// After this much virtual time whatever still runs is stuck.
const HORIZON_US: u64 = 3_600_000_000;

/// Misbehaviour of the parties, per 10,000 opportunities.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// The upstream closes or talks nonsense instead of answering.
    pub upstream_dies: u32,
    /// The upstream closes a connection after a response without saying so.
    pub idle_close: u32,
    /// The client goes away while it waits.
    pub client_aborts: u32,
}

/// What happened.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    pub sent: u64,
    pub answered: u64,
    pub failed: u64,
    pub failed_idempotent: u64,
    pub stuck: usize,
    pub open: u64,
    pub slots: usize,
    pub panics: u64,
    pub violations: Vec<String>,
}

impl Outcome {
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.failed += other.failed;
        self.failed_idempotent += other.failed_idempotent;
    }
}

/// What clients and upstreams share.
pub struct Shared {
    pub net: SimNet,
    pub conditions: Conditions,
    pub faults: Faults,
    pub outcome: RefCell<Outcome>,
    /// How often an upstream acted on a request, by its id.
    pub executed: RefCell<HashMap<String, u32>>,
    pub clients_left: Cell<usize>,
}

impl Shared {
    pub fn happens(&self, per_10_000: u32) -> bool {
        per_10_000 > 0 && self.net.random(|random| random.u32(0..10_000)) < per_10_000
    }

    pub fn violation(&self, text: String) {
        self.outcome.borrow_mut().violations.push(text);
    }

    /// Whether something may fail in this world at all.
    pub fn is_calm(&self) -> bool {
        let Faults { upstream_dies, idle_close, client_aborts } = self.faults;
        let Conditions { refuse, reset, .. } = self.conditions;
        upstream_dies + idle_close + client_aborts + refuse + reset == 0
    }
}

pub struct World {
    shared: Rc<Shared>,
    worker: Rc<Worker<Stack<SimNet>>>,
}

impl World {
    pub fn new(seed: u64, conditions: Conditions, faults: Faults) -> Self {
        let net = SimNet::new(seed, conditions);
        let worker = Rc::new(Worker::new(
            0,
            Stack(net.clone()),
            settings(),
            Arc::new(Stats::default()),
            None,
        ));
        worker.install(LocalSnapshot::new(Arc::new(snapshot()), None));
        let shared = Rc::new(Shared {
            net,
            conditions,
            faults,
            outcome: RefCell::default(),
            executed: RefCell::default(),
            clients_left: Cell::new(CLIENTS),
        });
        Self { shared, worker }
    }

    pub fn run(self) -> Outcome {
        let Self { shared, worker } = self;
        let net = shared.net.clone();
        let listener = Rc::new(ListenerInfo::new(addr(GATEWAY), false));
        let accepting = Rc::clone(&worker);
        net.listen(addr(GATEWAY), move |conn, peer| {
            connection::accept(&accepting, Stack::plain(conn), peer, Rc::clone(&listener));
        });
        for node in NODES {
            let shared = Rc::clone(&shared);
            let spawner = net.clone();
            net.listen(addr(node), move |conn, _| {
                spawner.spawn(upstream::serve(Rc::clone(&shared), conn));
            });
        }
        for id in 0..CLIENTS {
            net.spawn(client::run(Rc::clone(&shared), id));
        }
        net.spawn(tick(Rc::clone(&shared), Rc::clone(&worker)));
        let stuck = net.run(HORIZON_US);
        let mut outcome = shared.outcome.borrow().clone();
        outcome.stuck = stuck;
        outcome.open = worker.stats.open.get();
        outcome.slots = worker.deadlines.len();
        outcome.panics = worker.stats.panics.get();
        outcome
    }
}

/// The worker's ticks, until everything is over.
async fn tick(shared: Rc<Shared>, worker: Rc<Worker<Stack<SimNet>>>) {
    let period = u64::try_from(TICK.as_micros()).unwrap();
    while shared.clients_left.get() > 0 || !worker.deadlines.is_empty() {
        shared.net.sleep(period).await;
        let now = Duration::from_micros(shared.net.now_us());
        worker.clock.advance(u64::try_from(now.as_millis()).unwrap(), UNIX_EPOCH + now);
        worker.sweep();
    }
    worker.drain();
}

pub fn settings() -> PipelineSettings {
    let second = Duration::from_secs(1);
    PipelineSettings {
        view: osmia_core::request::ViewOptions::default(),
        limits: HttpLimits::default(),
        downstream: DownstreamTimeouts {
            keepalive: 20 * second,
            header: 60 * second,
            body: 60 * second,
            send: 60 * second,
            keepalive_requests: 0,
        },
        server: "sim".to_owned(),
        hostname: b"sim".to_vec(),
        client_max_body_bytes: 0,
        fallback_sni: None,
        show_upstream_status: false,
        trusted_addresses: None,
        proxy_protocol_trusted: None,
    }
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn snapshot() -> Snapshot {
    let nodes = NODES.iter().enumerate().map(|(index, node)| Node {
        unix: None,
        addr: addr(node),
        authority: (*node).into(),
        label: (*node).into(),
        weight: 1,
        priority: 0,
        pool: Slot { index: u32::try_from(index).unwrap(), generation: 1 },
    });
    let upstream = Upstream {
        id: "1".into(),
        slot: Slot { index: 0, generation: 1 },
        nodes: nodes.collect(),
        retries: 1,
        keepalive: KeepalivePool { size: 4, requests: 50, ..KeepalivePool::default() },
        ..Upstream::default()
    };
    let route = Arc::new(Route {
        id: "1".into(),
        name: "".into(),
        hosts: [].into(),
        uris: [PathPattern::parse("/*").unwrap()].into(),
        methods: MethodSet::ANY,
        priority: 0,
        order: 0,
        upstream: Ok(Arc::new(upstream)),
        extras: None,
        enable_websocket: false,
    });
    Snapshot {
        revision: 1,
        source_revision: 1,
        router: Router::build([route]),
        ..Snapshot::default()
    }
}
