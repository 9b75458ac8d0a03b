//! Health checks: traffic leaves a node that fails, and comes back.

use std::collections::BTreeSet;

use osmia_tests::config::upstream_of;
use osmia_tests::nginx::Nginx;
use osmia_tests::{Config, Gateway, eventually, on_each_driver};
use serde_json::json;

use super::front::Front;
use super::load::Load;

/// Statuses, and who answered, of `count` requests with different keys.
fn ask(gateway: &Gateway, path: &str, count: usize) -> (BTreeSet<u16>, BTreeSet<String>) {
    let mut client = gateway.client();
    let answers = (0..count).map(|k| client.get(&format!("{path}?k={k}")));
    answers.map(|answer| (answer.status(), answer.text())).unzip()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Without retries, every try on a node that fails is seen.
fn leaves_and_comes_back(driver: osmia_tests::Driver, fail: fn(&mut Nginx), mend: fn(&mut Nginx)) {
    const REQUESTS: usize = 24;
    let mut nodes = ["a", "b", "c"].map(Nginx::start);
    let options = json!({"retries": 0, "timeout": {"connect": 1, "send": 1, "read": 1}});
    let addresses = nodes.each_ref().map(Nginx::node);
    let front = Front::start(driver, &addresses, &options);
    let gateway = &front.gateway;
    let checked = front.checked();
    // Passive checks need traffic; clients of it do see failures.
    let load = Load::wrk(gateway, &checked, "GET", 30);
    fail(&mut nodes[0]);
    eventually("the node is found to be down", || front.all_tell(&addresses[0], "unhealthy"));
    for path in &checked {
        eventually("traffic leaves it", || {
            let (statuses, names) = ask(gateway, path, REQUESTS);
            statuses == [200].into() && !names.contains("a")
        });
    }
    drop(load);
    mend(&mut nodes[0]);
    eventually("it is found to be up", || front.all_tell(&addresses[0], "healthy"));
    // `ewma` has another opinion of a node that was slow, for a minute.
    for path in checked.iter().filter(|path| !path.starts_with("/ewma")) {
        eventually("traffic comes back", || {
            ask(gateway, path, REQUESTS) == ([200].into(), names(&["a", "b", "c"]))
        });
    }
}

on_each_driver! {
    fn of_a_node_that_is_killed(driver: Driver) {
        leaves_and_comes_back(driver, Nginx::kill, Nginx::restart);
    }

    fn of_a_node_that_stands_still(driver: Driver) {
        leaves_and_comes_back(driver, |node| node.stop(), |node| node.resume());
    }

    /// Nodes that are all taken to be down are all used.
    fn all_are_down_and_all_serve(driver: Driver) {
        let mut nodes = ["a", "b", "c"].map(Nginx::start);
        let addresses = nodes.each_ref().map(Nginx::node);
        // Once down, nothing but success of traffic would bring a node up, and none is counted.
        let checks = json!({
            "active": {"healthy": {"interval": 3600}, "unhealthy": {"interval": 3600}},
            "passive": {"healthy": {"successes": 0}, "unhealthy": {"tcp_failures": 1}},
        });
        let balancers = ["roundrobin", "least_conn", "ewma", "chash"];
        let mut config = Config::new().driver(driver).plane("yaml");
        for balancer in balancers {
            let options = json!({"type": balancer, "key": "arg_k", "checks": checks});
            let upstream = upstream_of(&addresses, options);
            let uri = format!("/{balancer}");
            config = config.route(json!({"id": balancer, "uri": uri, "upstream": upstream}));
        }
        let gateway = config.start();
        nodes.iter_mut().for_each(Nginx::kill);
        let down = |balancer: &str| {
            let told = gateway.control().json(&format!("/v1/healthcheck/routes/{balancer}"));
            told["nodes"].as_array().unwrap().iter().filter(|n| n["status"] == "unhealthy").count()
        };
        for balancer in balancers {
            eventually("all are found to be down", || {
                ask(&gateway, &format!("/{balancer}"), 4);
                down(balancer) == 3
            });
        }
        nodes.iter_mut().for_each(Nginx::restart);
        for balancer in balancers {
            let path = format!("/{balancer}");
            eventually("all serve", || {
                ask(&gateway, &path, 24) == ([200].into(), names(&["a", "b", "c"]))
            });
            assert_eq!(down(balancer), 3);
        }
    }
}
