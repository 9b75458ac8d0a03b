//! Changes of `apisix.yaml` while the gateway runs.

use osmia_tests::config::{document, upstream_of};
use osmia_tests::{Config, Gateway, Upstream, eventually, on_each_driver};
use serde_json::{Value, json};

fn route(uri: &str, upstream: &Upstream) -> Value {
    json!({"id": "r", "uri": uri, "upstream": upstream_of(&[upstream.node()], json!({}))})
}

fn serves(gateway: &Gateway, target: &str, status: u16) {
    eventually(&format!("{target} is answered with {status}"), || {
        gateway.get(target).status() == status
    });
}

on_each_driver! {
    fn a_change_is_taken_up(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::new().driver(driver).route(route("/old", &upstream)).start();
        assert_eq!(gateway.get("/old").status(), 200);
        assert_eq!(gateway.get("/new").status(), 404);
        gateway.write_routes(&[route("/new", &upstream)]);
        gateway.log().wait_for(&["INFO", "configuration published", "revision=2", "routes=1"]);
        serves(&gateway, "/new", 200);
        assert_eq!(gateway.get("/old").status(), 404);
    }

    fn a_signal_reads_it_at_once(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::new().driver(driver).route(route("/old", &upstream)).start();
        gateway.write_routes(&[route("/new", &upstream)]);
        gateway.signal(libc::SIGHUP);
        gateway.log().wait_for(&["INFO", "SIGHUP"]);
        serves(&gateway, "/new", 200);
    }

    /// Bad in various ways; the last good one stays in force.
    fn a_bad_file_changes_nothing_and_says_why(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::new().driver(driver).route(route("/old", &upstream)).start();
        let complete = document(&[route("/new", &upstream)], &[]);
        for (text, parts) in [
            (complete.replace("#END", ""), ["not complete", "#END"]),
            ("routes: [\n#END\n".to_owned(), ["not valid YAML", "apisix.yaml"]),
        ] {
            gateway.write_standalone(&text);
            gateway.signal(libc::SIGHUP);
            gateway.log().wait_for(&["ERROR", "configuration not accepted", parts[0], parts[1]]);
            assert_eq!(gateway.get("/old").status(), 200);
            assert_eq!(gateway.get("/new").status(), 404);
        }
        std::fs::remove_file(gateway.file("apisix.yaml")).unwrap();
        gateway.log().wait_for(&["ERROR", "configuration not accepted", "cannot be read"]);
        assert_eq!(gateway.get("/old").status(), 200);
        gateway.write_standalone(&complete);
        gateway.log().wait_for(&["INFO", "valid again"]);
        serves(&gateway, "/new", 200);
    }

    /// What is wrong with one resource is no reason to drop the others, or its last good version.
    fn a_bad_resource_takes_no_other_along(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::new().driver(driver).route(route("/old", &upstream)).start();
        let mut good = route("/new", &upstream);
        good["id"] = json!("good");
        for (bad, reason) in [
            (json!({"id": "r", "url": "/old"}), "url"),
            (json!({"id": "r", "uri": 7}), "expected string"),
        ] {
            gateway.write_routes(&[bad, good.clone()]);
            gateway.signal(libc::SIGHUP);
            let last_valid = "its last valid version stays in force";
            gateway.log().wait_for(&["ERROR", "routes/r", reason, last_valid]);
            serves(&gateway, "/new", 200);
            assert_eq!(gateway.get("/old").status(), 200);
        }
        let unknown = json!({"id": "u", "uri": "/u", "plugins": {"nobody-knows": {}},
            "upstream": {"nodes": {upstream.node(): 1}}});
        let lost = json!({"id": "l", "uri": "/l",
            "upstream": {"nodes": {"no-such-host.invalid:80": 1}}});
        gateway.write_routes(&[unknown, lost, good]);
        gateway.signal(libc::SIGHUP);
        gateway.log().wait_for(&["ERROR", "routes/u", "unknown plugin [nobody-knows]", "503"]);
        gateway.log().wait_for(&["ERROR", "routes/l", "no-such-host.invalid", "resolved"]);
        serves(&gateway, "/u", 503);
        serves(&gateway, "/l", 503);
        serves(&gateway, "/new", 200);
        serves(&gateway, "/old", 404);
    }

    /// Written in place, in parts, by a program that knows nothing of renaming.
    fn a_file_that_is_being_written_is_waited_for(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::new().driver(driver).route(route("/old", &upstream)).start();
        let text = document(&[route("/new", &upstream)], &[]);
        let file = gateway.file("apisix.yaml");
        std::fs::write(&file, &text[..text.len() / 2]).unwrap();
        gateway.log().wait_for(&["ERROR", "not complete"]);
        assert_eq!(gateway.get("/old").status(), 200);
        std::fs::write(&file, &text).unwrap();
        serves(&gateway, "/new", 200);
    }

    fn requests_under_way_end_as_they_began(driver: Driver) {
        let [old, new] = [Upstream::new(), Upstream::new()];
        let gateway = Config::new().driver(driver).route(route("/*", &old)).start();
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n");
        let mut peer = old.accept();
        peer.head();
        gateway.write_routes(&[route("/*", &new)]);
        gateway.signal(libc::SIGHUP);
        gateway.log().wait_for(&["configuration published", "revision=2"]);
        let mut other = gateway.client();
        other.send_get("/");
        let mut fresh = new.accept();
        fresh.serve_one("new");
        assert_eq!(other.response().text(), "new");
        client.send("body");
        assert_eq!(peer.exactly(4), b"body");
        peer.answer("old");
        assert_eq!(client.response().text(), "old");
        client.send_get("/");
        fresh.serve_one("new");
        assert_eq!(client.response().text(), "new", "the next request on the same connection");
    }

    fn what_did_not_change_keeps_its_connections(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::new().driver(driver).route(route("/kept", &upstream)).start();
        let mut client = gateway.client();
        client.send_get("/kept");
        let mut peer = upstream.accept();
        peer.serve_one("one");
        assert_eq!(client.response().text(), "one");
        let other = Upstream::answering("other");
        let mut added = route("/other", &other);
        added["id"] = json!("added");
        gateway.write_routes(&[added, route("/kept", &upstream)]);
        gateway.signal(libc::SIGHUP);
        serves(&gateway, "/other", 200);
        client.send_get("/kept");
        peer.serve_one("two");
        assert_eq!(client.response().text(), "two");
        assert!(upstream.is_untouched());
    }

    /// Requests all the while.
    fn no_request_is_lost_by_reloads(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::new().driver(driver).route(route("/*", &upstream)).start();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = gateway.client();
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        assert_eq!(client.get("/").text(), "x");
                    }
                });
            }
            for round in 0..20 {
                let extra = json!({"uri": format!("/{round}"), "upstream": {"nodes": {}}});
                gateway.write_routes(&[route("/*", &upstream), extra]);
                gateway.signal(libc::SIGHUP);
                gateway.log().wait_for(&["configuration published", &format!("revision={}", round + 2)]);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
