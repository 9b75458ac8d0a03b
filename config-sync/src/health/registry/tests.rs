use std::io;

use osmia_core::health::State;
use osmia_core::proxy_protocol::Version;
use osmia_core::resource;
use osmia_core::snapshot::Node;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A registry, and what time it is.
struct World {
    registry: Registry,
    now: Instant,
}

fn checks(checks: Value) -> Arc<Checks> {
    let upstream = json!({"nodes": {}, "checks": checks});
    Arc::new(*resource::Upstream::from_json(&upstream).unwrap().checks.unwrap())
}

/// Down after two of anything, up after one.
fn quick() -> Value {
    json!({"active": {
        "healthy": {"interval": 10, "successes": 1},
        "unhealthy": {"interval": 2, "http_failures": 2, "tcp_failures": 2, "timeouts": 2},
    }})
}

fn slot(index: u32, generation: u32) -> Slot {
    Slot { index, generation }
}

fn upstream(id: &str, slot: Slot, nodes: &[&str]) -> Arc<Upstream> {
    let node = |authority: &&str| {
        let (host, port) = authority.rsplit_once(':').unwrap();
        let ip = host.parse().unwrap_or([10, 9, 9, 9].into());
        let addr = SocketAddr::new(ip, port.parse().unwrap());
        let (authority, label) = ((*authority).into(), addr.to_string().into());
        Node { addr, unix: None, authority, label, weight: 1, priority: 0, pool: Slot::default() }
    };
    let nodes = nodes.iter().map(node).collect();
    Arc::new(Upstream { id: id.into(), slot, nodes, ..Upstream::default() })
}

impl World {
    fn new() -> Self {
        Self { registry: Registry::default(), now: Instant::now() }
    }

    fn put(&mut self, upstream: Arc<Upstream>, checks: Arc<Checks>) {
        let change = (Arc::clone(&upstream.id), Some(Checked { upstream, checks }));
        self.registry.apply(vec![change], self.now);
    }

    fn remove(&mut self, id: &str) {
        self.registry.apply(vec![(id.into(), None)], self.now);
    }

    fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// All probes that can begin now.
    fn begin(&mut self) -> Vec<Job> {
        std::iter::from_fn(|| self.registry.take_due(self.now)).collect()
    }

    fn end(&mut self, jobs: Vec<Job>, outcome: Outcome) {
        for job in jobs {
            self.registry.finish(job, Found::Node(outcome, None), self.now);
        }
    }

    /// A probe of the only target, which leaves a connection; whether it was given one.
    fn keep(&mut self) -> bool {
        self.after(20);
        let mut jobs = self.begin();
        assert_eq!(jobs.len(), 1);
        let given = jobs[0].kept.replace(Connection::silent()).is_some();
        self.end(jobs, Outcome::Status(200));
        given
    }

    /// Waits long enough for everything to be due, and lets every probe end in the same way.
    fn round(&mut self, outcome: Outcome) -> usize {
        self.after(20);
        let jobs = self.begin();
        let count = jobs.len();
        self.end(jobs, outcome);
        count
    }

    fn down(&mut self, slot: Slot) -> Vec<usize> {
        let health = self.registry.take_health();
        (0..100).filter(|node| health.down(slot).is_some_and(|down| down.contains(*node))).collect()
    }

    fn report(&mut self, upstream: Slot, addr: &str, outcome: Outcome, count: u32) {
        let report = Report { upstream, addr: addr.parse().unwrap(), outcome, count };
        self.registry.report(&report, self.now);
    }
}

const NONE: [usize; 0] = [];
const TWO: [&str; 2] = ["10.0.0.1:80", "10.0.0.2:80"];

#[test]
fn nodes_go_down_and_come_back() {
    let mut world = World::new();
    world.put(upstream("1", slot(0, 0), &TWO), checks(quick()));
    assert!(!world.registry.has_changed());
    assert_eq!(world.round(Outcome::TcpFailure), 2);
    assert!(!world.registry.has_changed(), "one failure is not enough, and changes nothing");
    world.round(Outcome::TcpFailure);
    assert!(world.registry.has_changed());
    assert_eq!(world.down(slot(0, 0)), [0, 1]);
    assert!(!world.registry.has_changed());
    world.round(Outcome::Status(200));
    assert_eq!(world.down(slot(0, 0)), NONE);
}

#[test]
fn intervals_depend_on_the_state() {
    let mut world = World::new();
    world.put(upstream("1", slot(0, 0), &TWO[..1]), checks(quick()));
    world.after(1);
    let first = world.begin();
    assert_eq!(first.len(), 1, "the first probe comes soon");
    world.end(first, Outcome::Status(200));
    world.after(9);
    assert!(world.begin().is_empty());
    world.after(2);
    let second = world.begin();
    assert_eq!(second.len(), 1, "every ten seconds while it is up");
    world.end(second, Outcome::Status(500));
    assert_eq!(world.round(Outcome::Status(500)), 1);
    assert_eq!(world.down(slot(0, 0)), [0]);
    world.after(3);
    assert_eq!(world.begin().len(), 1, "every two seconds while it is down");
    world.after(100);
    assert!(world.begin().is_empty(), "not while a probe is under way");
}

#[test]
fn no_interval_means_no_probes() {
    let mut world = World::new();
    let only_healthy = json!({"active": {"healthy": {"interval": 1}}});
    world.put(upstream("1", slot(0, 0), &TWO[..1]), checks(only_healthy));
    assert_eq!([(); 3].map(|()| world.round(Outcome::TcpFailure)), [1, 1, 0]);
    assert_eq!(world.down(slot(0, 0)), [0], "nobody looks at it any more");
    world.put(upstream("1", slot(0, 0), &TWO[..1]), checks(quick()));
    assert_eq!(world.round(Outcome::Status(200)), 1);
    assert_eq!(world.down(slot(0, 0)), NONE);
}

#[test]
fn as_many_probes_as_the_checks_allow() {
    let mut world = World::new();
    let mut two = quick();
    two["active"]["concurrency"] = 2.into();
    let nodes = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"];
    world.put(upstream("1", slot(0, 0), &nodes), checks(two));
    world.after(2);
    let mut seen = 0;
    for expected in [2, 2, 1, 0] {
        let jobs = world.begin();
        assert_eq!(jobs.len(), expected);
        seen += jobs.len();
        world.end(jobs, Outcome::Status(200));
    }
    assert_eq!(seen, nodes.len());
}

#[test]
fn health_fits_the_nodes_at_once() {
    let mut world = World::new();
    world.put(upstream("1", slot(0, 0), &TWO), checks(quick()));
    for _ in 0..2 {
        world.after(20);
        for job in world.begin() {
            let is_first = job.aim.place.addr == TWO[0].parse().unwrap();
            let outcome = if is_first { Outcome::Timeout } else { Outcome::Status(200) };
            world.end(vec![job], outcome);
        }
    }
    assert_eq!(world.down(slot(0, 0)), [0]);
    // In another order, with another one between, under another slot, twice the same.
    let nodes = ["10.0.0.2:80", "10.0.0.3:80", "10.0.0.1:80"];
    world.put(upstream("1", slot(0, 0), &nodes), checks(quick()));
    assert_eq!(world.down(slot(0, 0)), [2]);
    world.put(upstream("1", slot(4, 2), &nodes), checks(quick()));
    assert_eq!(world.down(slot(0, 0)), NONE);
    assert_eq!(world.down(slot(4, 2)), [2]);
    let twice = ["10.0.0.1:80", "10.0.0.1:80"];
    world.put(upstream("1", slot(4, 2), &twice), checks(quick()));
    assert_eq!(world.down(slot(4, 2)), [0, 1]);
    assert_eq!(world.registry.view("1").unwrap().targets.len(), 1, "probed once");
    // A node that was away is a new one.
    world.put(upstream("1", slot(4, 2), &["10.0.0.9:80"]), checks(quick()));
    world.put(upstream("1", slot(4, 2), &TWO), checks(quick()));
    assert_eq!(world.down(slot(4, 2)), NONE);
}

#[test]
fn other_parameters_keep_what_is_known() {
    let mut world = World::new();
    let node = upstream("1", slot(0, 0), &["a.com:80"]);
    world.put(Arc::clone(&node), checks(quick()));
    world.round(Outcome::TcpFailure);
    world.round(Outcome::TcpFailure);
    for change in [json!({"http_path": "/x"}), json!({"host": "b.com"}), json!({"port": 81})] {
        let mut other = quick();
        other["active"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        world.put(Arc::clone(&node), checks(other));
        assert_eq!(world.down(slot(0, 0)), [0], "{change}");
        let view = world.registry.view("1").unwrap();
        assert_eq!(view.targets.len(), 1);
        assert_eq!(view.targets[0].state, State::Unhealthy);
    }
    assert_eq!(world.registry.targets.len(), 1, "nothing is left of what was probed before");
}

#[test]
fn what_older_checks_found_does_not_count() {
    let mut world = World::new();
    let node = upstream("1", slot(0, 0), &TWO[..1]);
    let mut one = quick();
    one["active"]["unhealthy"]["http_failures"] = 1.into();
    world.put(Arc::clone(&node), checks(one.clone()));
    world.after(20);
    let under_way = world.begin();
    one["active"]["http_path"] = "/other".into();
    world.put(Arc::clone(&node), checks(one.clone()));
    world.end(under_way, Outcome::Status(500));
    assert_eq!(world.down(slot(0, 0)), NONE);
    world.after(20);
    let under_way = world.begin();
    assert_eq!(under_way.len(), 1, "it is probed again as the new ones want");
    world.remove("1");
    world.put(node, checks(one));
    world.end(under_way, Outcome::Status(500));
    assert_eq!(world.down(slot(0, 0)), NONE, "not the node that was meant");
    assert_eq!(world.round(Outcome::Status(500)), 1);
    assert_eq!(world.down(slot(0, 0)), [0]);
}

#[test]
fn without_checks_nothing_is_down() {
    let mut world = World::new();
    world.put(upstream("1", slot(0, 0), &TWO), checks(quick()));
    world.round(Outcome::TcpFailure);
    world.round(Outcome::TcpFailure);
    assert_eq!(world.down(slot(0, 0)), [0, 1]);
    world.remove("1");
    assert!(world.registry.has_changed());
    assert_eq!(world.down(slot(0, 0)), NONE);
    assert_eq!(world.registry.next_due(), None);
    assert!(world.registry.targets.is_empty() && world.registry.by_slot.is_empty());
}

#[test]
fn this_machines_troubles_are_not_the_nodes() {
    let mut world = World::new();
    world.put(upstream("1", slot(0, 0), &TWO[..1]), checks(quick()));
    for _ in 0..5 {
        world.after(20);
        for job in world.begin() {
            let error = io::Error::from_raw_os_error(24);
            world.registry.finish(job, Found::Local(error), world.now);
        }
    }
    assert_eq!(world.registry.view("1").unwrap().targets[0].state, State::Healthy);
    assert_eq!(world.round(Outcome::Status(200)), 1, "it goes on");
}

fn with_passive() -> Arc<Checks> {
    let mut value = quick();
    value["passive"] = json!({
        "healthy": {"http_statuses": [200], "successes": 3},
        "unhealthy": {"http_statuses": [500], "http_failures": 3, "tcp_failures": 1},
    });
    checks(value)
}

#[test]
fn workers_take_nodes_down_and_bring_them_back() {
    let mut world = World::new();
    world.put(upstream("1", slot(3, 1), &TWO), with_passive());
    world.report(slot(3, 1), TWO[1], Outcome::Status(500), 2);
    let health = world.registry.take_health();
    assert_eq!(health.down(slot(3, 1)), None);
    let counted: NodeSet = [1].into_iter().collect();
    assert_eq!(health.counted(slot(3, 1)), Some(&counted), "successes are asked for now");
    world.report(slot(3, 1), TWO[1], Outcome::Status(500), 1_000_000);
    assert_eq!(world.down(slot(3, 1)), [1]);
    world.report(slot(3, 1), TWO[1], Outcome::Status(404), 9);
    world.report(slot(3, 1), TWO[1], Outcome::Status(200), 2);
    assert_eq!(world.down(slot(3, 1)), [1]);
    world.report(slot(3, 1), TWO[1], Outcome::Status(200), 1);
    assert_eq!(world.registry.take_health(), Health::default());
    // Nothing that is known: another owner of the slot, another node, none at all.
    for (upstream, addr) in
        [(slot(3, 0), TWO[0]), (slot(3, 1), "10.0.0.3:80"), (slot(9, 9), TWO[0])]
    {
        world.report(upstream, addr, Outcome::TcpFailure, 9);
    }
    assert!(!world.registry.has_changed());
    world.put(upstream("1", slot(3, 1), &TWO), checks(quick()));
    world.report(slot(3, 1), TWO[0], Outcome::TcpFailure, 9);
    assert!(!world.registry.has_changed(), "not without checks of the traffic");
}

#[test]
fn a_node_that_traffic_took_down_is_probed_at_the_other_interval() {
    let mut world = World::new();
    world.put(upstream("1", slot(0, 0), &TWO[..1]), with_passive());
    world.after(1);
    let first = world.begin();
    world.end(first, Outcome::Status(200));
    world.report(slot(0, 0), TWO[0], Outcome::TcpFailure, 1);
    assert_eq!(world.down(slot(0, 0)), [0]);
    world.after(3);
    assert_eq!(world.begin().len(), 1);
}

#[test]
fn views_show_what_is_probed() {
    let mut world = World::new();
    let mut other = quick();
    other["active"]["host"] = "b.com".into();
    other["active"]["port"] = 81.into();
    world.put(upstream("2", slot(1, 0), &["10.0.0.1:80", "10.0.0.1:82"]), checks(other));
    world.put(upstream("1", slot(0, 0), &["a.com:80", "10.0.0.1:80"]), checks(quick()));
    let views = world.registry.views();
    assert_eq!(views.iter().map(|view| &*view.upstream).collect::<Vec<_>>(), ["1", "2"]);
    let row = |target: &TargetView| {
        (target.addr.to_string(), target.hostname.clone(), target.host_header.clone())
    };
    let rows: Vec<_> = views.iter().flat_map(|view| view.targets.iter().map(row)).collect();
    let expected = [
        ("10.9.9.9:80".to_owned(), None, Some("a.com".into())),
        ("10.0.0.1:80".to_owned(), None, None),
        ("10.0.0.1:81".to_owned(), Some("b.com".into()), Some("b.com".into())),
    ];
    assert_eq!(rows, expected, "at one port by one name is one target");
    assert_eq!(world.registry.view("3"), None);
}

proptest! {
    /// Whatever happens in whatever order: what workers see is what the trackers say, and probing
    /// never ends.
    #[test]
    fn health_is_what_the_trackers_say(
        steps in proptest::collection::vec((0..6u8, 0..3usize, 0..4usize, any::<bool>()), 1..80),
    ) {
        let mut world = World::new();
        let mut in_force: HashMap<usize, Arc<Upstream>> = HashMap::default();
        let mut under_way = Vec::new();
        let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
        for (step, which, many, flag) in steps {
            let id = which.to_string();
            match step {
                0 => {
                    let mut nodes = all[..=many].to_vec();
                    if flag {
                        nodes.reverse();
                    }
                    let slot = slot(which as u32, many as u32);
                    let upstream = upstream(&id, slot, &nodes);
                    let checks = if flag { with_passive() } else { checks(quick()) };
                    in_force.insert(which, Arc::clone(&upstream));
                    world.put(upstream, checks);
                }
                1 => {
                    in_force.remove(&which);
                    world.remove(&id);
                }
                2 => {
                    world.after(15);
                    under_way.extend(world.begin());
                }
                3 => {
                    let outcome = if flag { Outcome::Status(200) } else { Outcome::TcpFailure };
                    let ended = under_way.split_off(under_way.len() / 2);
                    world.end(ended, outcome);
                }
                _ => {
                    let slot = in_force.get(&which).map_or(Slot::default(), |up| up.slot);
                    let outcome = if flag { Outcome::Status(200) } else { Outcome::Status(500) };
                    world.report(slot, all[many], outcome, 2);
                }
            }
            let health = world.registry.take_health();
            for upstream in in_force.values() {
                let view = world.registry.view(&upstream.id).unwrap();
                for (index, node) in upstream.nodes.iter().enumerate() {
                    let target = view.targets.iter().find(|target| target.addr == node.addr);
                    let is_down = health.down(upstream.slot).is_some_and(|d| d.contains(index));
                    prop_assert_eq!(is_down, !target.unwrap().state.is_up());
                }
            }
        }
        world.end(under_way, Outcome::Status(200));
        let nodes: usize = in_force.values().map(|upstream| upstream.nodes.len()).sum();
        prop_assert_eq!(world.round(Outcome::Status(200)), nodes);
        prop_assert_eq!(world.registry.targets.len(), nodes);
    }
}

fn kept(world: &World) -> usize {
    let count = world.registry.targets.values().filter(|target| target.kept.is_some()).count();
    assert_eq!(count, Arc::strong_count(&world.registry.kept) - 1);
    count
}

#[test]
fn connections_are_kept_for_some_probes() {
    let mut world = World::new();
    world.put(upstream("1", slot(0, 0), &TWO[..1]), checks(quick()));
    let renewed: Vec<u64> = (1..=13).filter(|_| !world.keep()).collect();
    assert_eq!(renewed, [1, 6, 12], "one for a minute, with a probe every 10 seconds");
    world.after(20);
    let mut jobs = world.begin();
    assert!(jobs[0].kept.take().is_some());
    world.end(jobs, Outcome::Status(500));
    assert!(!world.keep(), "nobody gave it back");
}

#[test]
fn connections_end_with_what_they_were_made_for() {
    let mut world = World::new();
    let node = upstream("1", slot(0, 0), &TWO[..1]);
    let put = |world: &mut World, upstream: Arc<Upstream>| {
        world.put(upstream, checks(quick()));
        world.keep();
        assert_eq!(kept(world), 1);
    };
    put(&mut world, Arc::clone(&node));
    world.put(Arc::clone(&node), with_passive());
    assert!(!world.keep(), "other checks");
    put(&mut world, Arc::clone(&node));
    world.put(upstream("1", slot(0, 0), &TWO[1..]), checks(quick()));
    assert!(kept(&world) == 0, "another address");
    put(&mut world, Arc::clone(&node));
    world.remove("1");
    assert!(kept(&world) == 0, "no checks");
    put(&mut world, Arc::clone(&node));
    world.after(20);
    let mut jobs = world.begin();
    assert!(jobs[0].kept.is_some());
    let mut changed = upstream("1", slot(0, 0), &TWO[..1]);
    Arc::get_mut(&mut changed).unwrap().proxy_protocol = Some(Version::V1);
    world.put(changed, checks(quick()));
    jobs[0].kept = Some(Connection::silent());
    world.end(jobs, Outcome::Status(200));
    assert!(kept(&world) == 0, "it would lack the header");
}

#[test]
fn scarce_descriptors_keep_fewer_connections() {
    let mut world = World::new();
    world.registry = Registry::new(Room { probes: 8, kept: 1 });
    world.put(upstream("1", slot(0, 0), &TWO), checks(quick()));
    world.after(20);
    let mut jobs = world.begin();
    for job in &mut jobs {
        job.kept = Some(Connection::silent());
    }
    world.end(jobs, Outcome::Status(200));
    assert_eq!(kept(&world), 1);
    world.after(20);
    let job = world.begin().into_iter().find(|job| job.kept.is_none()).unwrap();
    let error = Found::Local(io::Error::from_raw_os_error(24));
    world.registry.finish(job, error, world.now);
    assert!(kept(&world) == 0, "they may be what is missing");
}
