//! Faults of etcd under constant traffic: no request fails, no change is lost, and what the gateway
//! serves afterwards is what etcd has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use osmia_tests::etcd::Relay;
use osmia_tests::{Config, Etcd, Gateway, Upstream, eventually};
use serde_json::{Value, json};

use crate::{route, serves};

/// Routes that changes are made to.
const ROUTES: u64 = 40;

/// Clients that ask for one route without an end; each answer is checked.
struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn on(gateway: &Gateway) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..3)
            .map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                let mut client = gateway.client();
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Acquire) {
                        let answer = client.get("/keep");
                        assert_eq!((answer.status(), answer.text().as_str()), (200, "kept"));
                        answered.fetch_add(1, Ordering::AcqRel);
                        std::thread::sleep(Duration::from_millis(2)); // leaves the machine some
                    }
                })
            })
            .collect();
        Self { stop, answered, clients }
    }

    /// Waits until each client has had a few more answers.
    fn goes_on(&self) {
        let before = self.answered.load(Ordering::Acquire);
        eventually("requests are answered", || self.answered.load(Ordering::Acquire) > before + 20);
    }

    /// Every request was answered as it should be.
    fn ends_unharmed(self) {
        self.goes_on();
        self.stop.store(true, Ordering::Release);
        for client in self.clients {
            client.join().expect("a request failed");
        }
    }
}

/// Random changes, the same each time.
struct Changes {
    seed: u64,
    node: String,
}

impl Changes {
    fn new(upstream: &Upstream) -> Self {
        Self { seed: 7, node: upstream.node() }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) % below
    }

    /// Writes one change through the first member that takes it.
    fn write<'e>(&mut self, members: impl IntoIterator<Item = &'e Etcd>) {
        let (number, stamp) = (self.next(ROUTES), self.next(1_000_000));
        let key = format!("/apisix/routes/r{number}");
        let value = (self.next(4) > 0).then(|| {
            let upstream = json!({"nodes": {&self.node: 1}, "type": "roundrobin"});
            json!({"uri": format!("/r{number}"), "desc": stamp.to_string(), "upstream": upstream})
                .to_string()
        });
        let done = members.into_iter().any(|member| member.try_write(&key, value.as_deref()));
        assert!(done, "no member takes a write");
    }

    fn write_many(&mut self, count: usize, members: &[&Etcd]) {
        for _ in 0..count {
            self.write(members.iter().copied());
        }
    }
}

/// Routes by key, with what tells one version from another.
type Routes = BTreeMap<String, (Value, Value)>;

fn routes_of_gateway(gateway: &Gateway) -> Routes {
    let list = gateway.control().json("/v1/routes");
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| {
            let value = &item["value"];
            let key = item["key"].as_str().unwrap().to_owned();
            (key, (value["uri"].clone(), value["desc"].clone()))
        })
        .collect()
}

fn routes_of_etcd(etcd: &Etcd) -> Routes {
    let contents = etcd.contents("/apisix/routes/").into_iter();
    contents
        .map(|(key, text)| {
            let value: Value = serde_json::from_str(&text).unwrap();
            (key, (value["uri"].clone(), value["desc"].clone()))
        })
        .collect()
}

/// The gateway's routes become etcd's, and so does what it answers.
#[track_caller]
fn converges(gateway: &Gateway, etcd: &Etcd) {
    let expected = routes_of_etcd(etcd);
    assert!(!expected.is_empty());
    let begun = Instant::now();
    eventually("the gateway has what etcd has", || routes_of_gateway(gateway) == expected);
    eprintln!("converged {:?} after it was looked at", begun.elapsed());
    let mut client = gateway.client();
    for number in 0..ROUTES {
        let exists = expected.contains_key(&format!("/apisix/routes/r{number}"));
        let status = if exists { 200 } else { 404 };
        let target = format!("/r{number}");
        eventually(&format!("{target} is answered with {status}"), || {
            client.get(&target).status() == status
        });
    }
    let status = gateway.control().json("/v1/osmia/status");
    assert_eq!(
        (&status["store"]["reachable"], &status["store"]["problem"]),
        (&json!(true), &Value::Null)
    );
}

/// A gateway on etcd at `urls`, with the route that traffic goes to.
fn gateway_on(urls: &[String], upstream: &Upstream) -> Gateway {
    let gateway = Config::new().set("osmia.keepalive_requests", 0).etcd_at(urls).start();
    gateway.admin().put("routes/keep", &route("/keep", upstream));
    serves(&gateway, "/keep", 200);
    gateway
}

#[test]
fn a_cluster_of_three_loses_one_after_the_other() {
    let upstream = Upstream::answering("kept");
    let mut members = Etcd::cluster(3);
    let urls: Vec<String> = members.iter().map(Etcd::url).collect();
    let gateway = gateway_on(&urls, &upstream);
    let traffic = Traffic::on(&gateway);
    let mut changes = Changes::new(&upstream);
    changes.write_many(30, &members.iter().collect::<Vec<_>>());
    converges(&gateway, &members[0]);
    // Its leader is killed.
    let leader = leader_of(&members);
    members[leader].kill();
    let others: Vec<&Etcd> =
        members.iter().enumerate().filter(|(n, _)| *n != leader).map(|(_, m)| m).collect();
    eventually("there is a leader again", || others[0].try_write("/elsewhere", Some("x")));
    changes.write_many(60, &others);
    converges(&gateway, others[0]);
    members[leader].restart();
    // Each is stopped for a while, the one that the gateway is connected to among them; and the
    // history that it has not seen is compacted away.
    for stopped in 0..3 {
        members[stopped].freeze();
        let others: Vec<&Etcd> =
            members.iter().enumerate().filter(|(n, _)| *n != stopped).map(|(_, m)| m).collect();
        eventually("the others have a leader", || others[0].try_write("/elsewhere", Some("x")));
        changes.write_many(20, &others);
        others[0].compact();
        converges(&gateway, others[0]);
        members[stopped].thaw();
        members[stopped].await_healthy();
    }
    traffic.goes_on();
    converges(&gateway, &members[2]);
    traffic.ends_unharmed();
}

fn leader_of(members: &[Etcd]) -> usize {
    let is_leader = |member: &Etcd| {
        let text = member.ctl(["endpoint", "status", "-w", "json"]);
        let status: Value = serde_json::from_str(&text).unwrap();
        let status = &status[0]["Status"];
        status["leader"] == status["header"]["member_id"]
    };
    members.iter().position(is_leader).expect("a leader")
}

#[test]
fn one_member_is_killed_stopped_and_cut_off() {
    let upstream = Upstream::answering("kept");
    let mut etcd = Etcd::start();
    let relay = Relay::to(etcd.addr());
    let gateway = gateway_on(&[relay.url()], &upstream);
    let traffic = Traffic::on(&gateway);
    let mut changes = Changes::new(&upstream);
    for _ in 0..2 {
        etcd.kill();
        gateway.log().wait_for(&["ERROR", "configuration store is lost"]);
        traffic.goes_on();
        etcd.restart();
        changes.write_many(20, &[&etcd]);
        converges(&gateway, &etcd);
    }
    // Stopped for 6 s: connections stay, nothing is answered.
    etcd.freeze();
    std::thread::sleep(Duration::from_secs(6));
    traffic.goes_on();
    etcd.thaw();
    changes.write_many(20, &[&etcd]);
    converges(&gateway, &etcd);
    // Cut off, and the line goes silent, while etcd goes on and forgets its history.
    for (compacted, silent) in [(false, false), (true, false), (false, true), (true, true)] {
        if silent {
            relay.stall();
        } else {
            relay.cut();
        }
        changes.write_many(20, &[&etcd]);
        if compacted {
            etcd.compact();
        }
        traffic.goes_on();
        relay.resume();
        changes.write_many(5, &[&etcd]);
        converges(&gateway, &etcd);
    }
    traffic.ends_unharmed();
}

#[test]
fn an_older_snapshot_is_what_counts_then() {
    let upstream = Upstream::answering("kept");
    let mut etcd = Etcd::start();
    let gateway = gateway_on(&[etcd.url()], &upstream);
    let traffic = Traffic::on(&gateway);
    let mut changes = Changes::new(&upstream);
    changes.write_many(30, &[&etcd]);
    let snapshot = etcd.file("snapshot");
    etcd.snapshot(&snapshot);
    changes.write_many(40, &[&etcd]);
    converges(&gateway, &etcd);
    let newer = routes_of_etcd(&etcd);
    etcd.kill();
    etcd.restore(&snapshot);
    etcd.restart();
    assert_ne!(routes_of_etcd(&etcd), newer);
    converges(&gateway, &etcd);
    // And again, with a history that has grown beyond what the gateway has seen.
    changes.write_many(10, &[&etcd]);
    converges(&gateway, &etcd);
    etcd.kill();
    etcd.restore(&snapshot);
    etcd.restart();
    changes.write_many(30, &[&etcd]);
    converges(&gateway, &etcd);
    traffic.ends_unharmed();
}

#[test]
fn an_etcd_that_is_empty_all_of_a_sudden_is_not_believed() {
    let upstream = Upstream::answering("kept");
    let mut etcd = Etcd::start();
    let gateway = gateway_on(&[etcd.url()], &upstream);
    let traffic = Traffic::on(&gateway);
    let mut changes = Changes::new(&upstream);
    changes.write_many(30, &[&etcd]);
    converges(&gateway, &etcd);
    let before = routes_of_gateway(&gateway);
    let snapshot = etcd.file("snapshot");
    etcd.snapshot(&snapshot);
    etcd.kill();
    etcd.wipe();
    etcd.restart();
    gateway.log().wait_for(&["ERROR", "configuration not accepted", "accept_empty"]);
    let metric = |line: &str| gateway.status().call("GET", "/metrics", "").text().contains(line);
    assert!(metric("\nosmia_config_refused 1\n"));
    assert_eq!(routes_of_gateway(&gateway), before);
    let problem = gateway.control().json("/v1/osmia/status")["store"]["problem"].clone();
    assert!(problem.as_str().unwrap().contains("accept_empty"), "{problem}");
    traffic.goes_on();
    // Something that is no resource does not make it full.
    etcd.ctl(["put", "/apisix/routes/", "init_dir"]);
    traffic.goes_on();
    assert_eq!(routes_of_gateway(&gateway), before);
    // The operator restores it.
    etcd.kill();
    etcd.restore(&snapshot);
    etcd.restart();
    changes.write_many(10, &[&etcd]);
    converges(&gateway, &etcd);
    assert!(metric("\nosmia_config_refused 0\n"));
    traffic.ends_unharmed();
}

#[test]
fn the_first_key_in_an_emptied_etcd_counts_when_the_operator_says_so() {
    let upstream = Upstream::answering("kept");
    let mut etcd = Etcd::start();
    let gateway = gateway_on(&[etcd.url()], &upstream);
    let mut changes = Changes::new(&upstream);
    changes.write_many(30, &[&etcd]);
    converges(&gateway, &etcd);
    let before = routes_of_gateway(&gateway);
    assert!(before.len() > 2);
    etcd.kill();
    etcd.wipe();
    etcd.restart();
    gateway.log().wait_for(&["ERROR", "configuration not accepted", "SIGHUP"]);
    let only = route("/r0", &upstream).to_string();
    etcd.ctl(["put", "/apisix/routes/r0", &only]);
    // What asks the store to look again is no consent.
    gateway.control().call("PUT", "/v1/plugins/reload", "");
    let traffic = Traffic::on(&gateway);
    traffic.goes_on();
    assert_eq!(routes_of_gateway(&gateway), before);
    traffic.ends_unharmed();
    gateway.signal(libc::SIGHUP);
    converges(&gateway, &etcd);
}

#[test]
fn an_etcd_that_is_emptied_key_by_key_is_believed() {
    let upstream = Upstream::answering("kept");
    let etcd = Etcd::start();
    let gateway = gateway_on(&[etcd.url()], &upstream);
    etcd.ctl(["del", "--prefix", "/apisix/"]);
    serves(&gateway, "/keep", 404);
    gateway.admin().put("routes/keep", &route("/keep", &upstream));
    assert_eq!(gateway.get("/keep").status(), 200);
}
