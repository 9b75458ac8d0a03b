//! With one node left that is good, clients see nothing of what happens to the others.

use std::thread::sleep;
use std::time::Duration;

use osmia_tests::nginx::Nginx;
use osmia_tests::{Upstream, on_each_driver};
use serde_json::{Value, json};

use super::front::Front;
use super::load::Load;
use super::misbehaving::{resetting, slow};

const SECONDS: u32 = 3;

/// The first two are the ones that fail.
fn nodes() -> [Nginx; 3] {
    ["a", "b", "good"].map(Nginx::start)
}

fn names(nodes: &[Nginx]) -> Vec<String> {
    nodes.iter().map(Nginx::node).collect()
}

/// A good node must answer within this also on a machine that has much else to do.
fn impatient() -> Value {
    json!({"timeout": {"connect": 0.75, "send": 0.75, "read": 0.75}})
}

fn pause(millis: u64) {
    sleep(Duration::from_millis(millis));
}

/// The one, the other and both of those that fail have a fault for some time and are well for some
/// time, in milliseconds, while `load` lasts.
fn in_turns(
    nodes: &mut [Nginx],
    load: &mut Load,
    fault: (fn(&mut Nginx), u64),
    cure: (fn(&mut Nginx), u64),
) {
    while load.runs() {
        for which in [0..1, 1..2, 0..2] {
            for (act, millis) in [fault, cure] {
                nodes[which.clone()].iter_mut().for_each(act);
                pause(millis);
            }
        }
    }
}

on_each_driver! {
    fn nodes_that_are_killed(driver: Driver) {
        let mut nodes = nodes();
        let front = Front::start(driver, &names(&nodes), &json!({}));
        let mut load = Load::wrk(&front.gateway, &front.paths, "GET", SECONDS);
        let multiplexed = Load::h2load(&front.gateway, &front.paths, SECONDS);
        in_turns(&mut nodes, &mut load, (Nginx::kill, 250), (Nginx::restart, 150));
        load.succeeds();
        multiplexed.succeeds();
        front.served_through_failures();
    }

    fn nodes_that_flap(driver: Driver) {
        let mut nodes = nodes();
        let front = Front::start(driver, &names(&nodes), &json!({}));
        let mut load = Load::wrk(&front.gateway, &front.paths, "GET", SECONDS);
        while load.runs() {
            for which in [0, 1] {
                nodes[which].kill();
                pause(20);
                nodes[which].restart();
                pause(60);
            }
        }
        load.succeeds();
        front.served_through_failures();
    }

    fn nodes_that_stand_still(driver: Driver) {
        let mut nodes = nodes();
        let front = Front::start(driver, &names(&nodes), &impatient());
        let mut load = Load::wrk(&front.gateway, &front.paths, "GET", SECONDS + 3);
        let multiplexed = Load::h2load(&front.gateway, &front.paths, SECONDS + 3);
        in_turns(&mut nodes, &mut load, (|it| it.stop(), 1600), (|it| it.resume(), 200));
        load.succeeds();
        multiplexed.succeeds();
        front.served_through_failures();
    }

    fn nodes_that_are_slow(driver: Driver) {
        let good = Nginx::start("good");
        let slow = [slow(), slow()];
        let nodes = [slow[0].node(), good.node(), slow[1].node()];
        let front = Front::start(driver, &nodes, &impatient());
        Load::wrk(&front.gateway, &front.paths, "GET", SECONDS).succeeds();
        front.served_through_failures();
    }

    fn nodes_that_cut_connections(driver: Driver) {
        let good = Nginx::start("good");
        let bad: [Upstream; 2] = [resetting(), resetting()];
        let nodes = [bad[0].node(), good.node(), bad[1].node()];
        let front = Front::start(driver, &nodes, &json!({}));
        Load::wrk(&front.gateway, &front.paths, "GET", SECONDS).succeeds();
        front.served_through_failures();
    }

    /// Two do not answer any more, for good.
    fn two_of_three_are_dead(driver: Driver) {
        let mut nodes = nodes();
        let front = Front::start(driver, &names(&nodes), &json!({}));
        nodes[..2].iter_mut().for_each(Nginx::kill);
        Load::wrk(&front.gateway, &front.paths, "GET", 2).succeeds();
        front.served_through_failures();
    }
}
