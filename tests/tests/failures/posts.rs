//! Requests that must not be executed twice.

use std::collections::HashMap;

use osmia_tests::port::Reserved;
use osmia_tests::{Upstream, on_each_driver};
use serde_json::json;

use super::front::Front;
use super::load::Load;
use super::misbehaving::{Executed, noting};

on_each_driver! {
    /// Nodes fail after they have executed a request: the client is told, and no other node gets
    /// it. A node that refuses connections is passed over.
    fn a_post_is_never_executed_twice(driver: Driver) {
        let executed = Executed::default();
        let dead = Reserved::new();
        let running = [noting(&executed, true), noting(&executed, false), noting(&executed, true)];
        let mut nodes = vec![dead.addr().to_string()];
        nodes.extend(running.iter().map(Upstream::node));
        let front = Front::start(driver, &nodes, &json!({}));
        let text = Load::wrk(&front.gateway, &front.paths, "POST", 3).report();
        assert!(!text.contains("Socket errors"), "{text}");
        let lines = front.ended();
        let executed = executed.lock().unwrap();
        let twice: HashMap<_, _> =
            executed.iter().filter(|(target, count)| *target != "/" && **count > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        let count = |status: u16| lines.iter().filter(|line| line.status == status).count();
        eprintln!("{} served, {} failed", count(200), count(502));
        assert!(count(200) > 0 && count(502) > 0);
        for line in &lines {
            assert!([200, 502, 499].contains(&line.status), "{line:?}");
        }
        // What the dead node was to get went elsewhere.
        assert!(lines.iter().any(|line| line.status == 200 && line.tries == ["502", "200"]));
    }
}
