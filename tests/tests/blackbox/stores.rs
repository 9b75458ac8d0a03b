//! Where configuration comes from: the embedded store, etcd, and what becomes of them in trouble.

use std::collections::BTreeMap;

use osmia_tests::{Config, Etcd, Gateway, Upstream, eventually, on_each_driver};
use serde_json::{Value, json};

fn route(uri: &str, upstream: &Upstream) -> Value {
    json!({"uri": uri, "upstream": {"nodes": {upstream.node(): 1}, "type": "roundrobin"}})
}

fn serves(gateway: &Gateway, target: &str, status: u16) {
    eventually(&format!("{target} is answered with {status}"), || {
        gateway.get(target).status() == status
    });
}

/// Whether the gateway's routes are those in etcd: ids and paths.
fn agrees(gateway: &Gateway, etcd: &Etcd) -> bool {
    let uri = |value: &Value| value["uri"].as_str().unwrap_or_default().to_owned();
    let list = gateway.control().json("/v1/routes");
    let own: BTreeMap<String, String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["key"].as_str().unwrap().to_owned(), uri(&item["value"])))
        .collect();
    let theirs: BTreeMap<String, String> = etcd
        .contents("/apisix/routes/")
        .into_iter()
        .filter(|(_, text)| text != "init_dir")
        .map(|(key, text)| (key, uri(&serde_json::from_str(&text).unwrap())))
        .collect();
    own == theirs
}

on_each_driver! {
    fn a_change_is_served_when_it_is_answered(driver: Driver) {
        let [one, two] = [Upstream::answering("one"), Upstream::answering("two")];
        let gateway = Config::new().driver(driver).plane("embedded").start();
        assert_eq!(gateway.get("/").status(), 404);
        let mut client = gateway.client();
        for round in 0..20 {
            let upstream = if round % 2 == 0 { &one } else { &two };
            gateway.admin().put("routes/1", &route("/", upstream));
            let expected = if round % 2 == 0 { "one" } else { "two" };
            eventually("the worker has it", || client.get("/").text() == expected);
        }
        gateway.admin().delete("routes/1");
        eventually("it is gone", || client.get("/").status() == 404);
    }

    fn what_was_acknowledged_survives_a_kill(driver: Driver) {
        let upstream = Upstream::answering("x");
        let mut gateway = Config::new().driver(driver).plane("embedded").start();
        for round in 0..5 {
            let path = format!("/r{round}");
            gateway.admin().put(&format!("routes/{round}"), &route(&path, &upstream));
            gateway.kill_and_restart();
            gateway.log().wait_for(&["osmia is ready"]);
            for past in 0..=round {
                assert_eq!(gateway.get(&format!("/r{past}")).text(), "x");
            }
        }
    }
}

#[test]
fn data_of_apisix_in_etcd_is_served_as_it_is() {
    let upstream = Upstream::answering("from etcd");
    let etcd = Etcd::start();
    for directory in ["routes", "services", "upstreams", "ssls", "plugin_metadata", "consumers"] {
        etcd.ctl(["put", &format!("/apisix/{directory}/"), "init_dir"]);
    }
    let put = |key: &str, value: Value| {
        etcd.ctl(["put", key, &value.to_string()]);
    };
    let times = json!({"create_time": 1_700_000_000, "update_time": 1_700_000_001});
    let with_times = |mut value: Value| {
        value.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        value
    };
    put(
        "/apisix/upstreams/1",
        with_times(json!({
            "id": "1", "type": "roundrobin", "scheme": "http", "hash_on": "vars", "pass_host": "pass",
            "nodes": [{"host": "127.0.0.1", "port": upstream.addr().port(), "weight": 1, "priority": 0}],
        })),
    );
    put("/apisix/services/1", with_times(json!({"id": "1", "upstream_id": "1"})));
    put(
        "/apisix/routes/1",
        with_times(json!({
            "id": "1", "uri": "/hello", "service_id": "1", "priority": 0, "status": 1,
            "name": "by service", "labels": {"team": "a"},
        })),
    );
    let gateway = Config::new().etcd(&etcd).start();
    assert_eq!(gateway.get("/hello").text(), "from etcd");
    assert_eq!(gateway.get("/other").status(), 404);
    put("/apisix/routes/2", with_times(json!({"id": "2", "uri": "/other", "upstream_id": "1"})));
    serves(&gateway, "/other", 200);
    etcd.ctl(["del", "/apisix/routes/1"]);
    serves(&gateway, "/hello", 404);
    // What the Admin API writes is what APISIX would find.
    gateway.admin().put("routes/3", &json!({"uri": "/third", "upstream_id": 1}));
    assert_eq!(gateway.get("/third").text(), "from etcd");
    let stored = etcd.contents("/apisix/routes/3");
    let stored: Value = serde_json::from_str(&stored["/apisix/routes/3"]).unwrap();
    assert_eq!((&stored["id"], &stored["uri"]), (&json!("3"), &json!("/third")));
    assert!(stored["create_time"].is_u64() && stored["update_time"].is_u64());
    assert!(agrees(&gateway, &etcd));
}

#[test]
fn faults_of_etcd_fail_no_request_and_lose_no_change() {
    let upstream = Upstream::answering("x");
    let mut etcd = Etcd::start();
    let gateway = Config::new().etcd(&etcd).start();
    gateway.admin().put("routes/keep", &route("/keep", &upstream));
    let mut client = gateway.client();
    let mut round = 0;
    let mut check = |etcd: &Etcd, gateway: &Gateway| {
        round += 1;
        let (uri, key) = (format!("/r{round}"), format!("/apisix/routes/r{round}"));
        etcd.ctl(["put", &key, &route(&uri, &upstream).to_string()]);
        eventually("the change is served", || {
            assert_eq!(client.get("/keep").text(), "x", "no request fails meanwhile");
            client.get(&uri).status() == 200
        });
        eventually("the gateway has what etcd has", || agrees(gateway, etcd));
    };
    check(&etcd, &gateway);
    etcd.kill();
    gateway.log().wait_for(&["ERROR", "configuration store is lost"]);
    assert_eq!(gateway.get("/keep").text(), "x");
    let refused =
        gateway.admin().call("PUT", "/apisix/admin/routes/9", &route("/9", &upstream).to_string());
    assert_eq!(refused.status(), 503, "{}", refused.text());
    etcd.restart();
    check(&etcd, &gateway);
    etcd.freeze();
    gateway.log().wait_for(&["ERROR", "configuration store is lost"]);
    assert_eq!(gateway.get("/keep").text(), "x");
    etcd.thaw();
    check(&etcd, &gateway);
    etcd.compact();
    check(&etcd, &gateway);
}

#[test]
fn without_etcd_the_last_good_configuration_is_served() {
    let upstream = Upstream::answering("x");
    let mut etcd = Etcd::start();
    let mut gateway = Config::new().etcd(&etcd).start();
    gateway.admin().put("routes/1", &route("/one", &upstream));
    let copied = |gateway: &Gateway| {
        let metrics = gateway.status().call("GET", "/metrics", "").text();
        metrics.lines().any(|line| line == "osmia_config_from_copy 1")
    };
    assert!(!copied(&gateway));
    // The copy is written behind the answer.
    gateway.signal(libc::SIGTERM);
    gateway.wait();
    etcd.kill();
    gateway.kill_and_restart();
    gateway.log().wait_for(&["WARN", "last good configuration from the copy on disk"]);
    gateway.log().wait_for(&["osmia is ready"]);
    assert_eq!(gateway.get("/one").text(), "x");
    assert!(copied(&gateway));
    etcd.restart();
    etcd.ctl(["put", "/apisix/routes/2", &route("/two", &upstream).to_string()]);
    serves(&gateway, "/two", 200);
    eventually("the copy is not in use any more", || !copied(&gateway));
}

#[test]
fn without_etcd_and_without_a_copy_requests_are_refused_until_it_is_there() {
    let upstream = Upstream::answering("x");
    let mut etcd = Etcd::start();
    etcd.kill();
    let gateway = Config::new().etcd(&etcd).start();
    assert_eq!(gateway.get("/one").status(), 503);
    assert_eq!(gateway.status().status("/status/ready"), Some(503));
    etcd.restart();
    etcd.ctl(["put", "/apisix/routes/1", &route("/one", &upstream).to_string()]);
    serves(&gateway, "/one", 200);
    assert_eq!(gateway.status().status("/status/ready"), Some(200));
}

#[test]
fn an_admin_key_is_generated_and_kept() {
    let mut gateway =
        Config::new().plane("embedded").set("deployment.admin.admin_key", json!([])).start();
    let file = gateway.file("data/admin.key");
    let key = std::fs::read_to_string(&file).unwrap();
    assert!(key.trim().len() >= 32, "{key}");
    assert!(!gateway.log().so_far().contains(key.trim()), "the key is not in the log");
    assert_eq!(gateway.admin().call("GET", "/apisix/admin/routes", "").status(), 401);
    let with_key = |gateway: &Gateway| {
        let request = format!(
            "GET /apisix/admin/routes HTTP/1.1\r\nHost: a\r\nX-API-KEY: {}\r\n\r\n",
            key.trim()
        );
        osmia_tests::Client::connect(gateway.admin().addr).exchange(request).status()
    };
    assert_eq!(with_key(&gateway), 200);
    gateway.kill_and_restart();
    gateway.log().wait_for(&["osmia is ready"]);
    assert_eq!(with_key(&gateway), 200);
}
