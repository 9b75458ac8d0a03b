//! Addresses, workers, cores and event loops.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::path::Path;

use osmia_tests::port::Reserved;
use osmia_tests::sandbox::{Sandbox, has_io_uring};
use osmia_tests::{Client, Config, Driver, Upstream, eventually, on_each_driver};
use serde_json::json;

/// What `of` reads in the folder that `/proc` has for each of the gateway's threads.
fn of_threads<T>(pid: u32, of: impl Fn(&Path) -> Option<T>) -> Vec<T> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.filter_map(|task| of(&task.unwrap().path())).collect()
}

/// `(name, allowed cores)` of the gateway's threads.
fn threads(pid: u32) -> Vec<(String, String)> {
    of_threads(pid, |task| {
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        let line = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some((line("Name:")?.to_owned(), line("Cpus_allowed_list:")?.to_owned()))
    })
}

/// Nice values (`nice(1)`) of the gateway's threads, by name.
fn nice_values(pid: u32) -> Vec<(String, i32)> {
    of_threads(pid, |task| {
        // proc_pid_stat(5): the name is in parentheses, and the 17th field behind it is this one.
        let stat = std::fs::read_to_string(task.join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some((name.to_owned(), rest.split(' ').nth(16)?.parse().ok()?))
    })
}

on_each_driver! {
    fn several_addresses_and_ports(driver: Driver) {
        let upstream = Upstream::new();
        let [second, third] =
            [Reserved::new(), Reserved::on("127.0.0.3".parse().unwrap()).unwrap()];
        let config = Config::proxy(driver, &upstream);
        let listen = json!([
            {"ip": "127.0.0.1", "port": config.port()},
            {"ip": "127.0.0.1", "port": second.port()},
            {"ip": "127.0.0.3", "port": third.port()},
        ]);
        let gateway = config.set("apisix.node_listen", listen).start();
        let ready = gateway.log().wait_for(&["osmia is ready"]);
        let mut peer = None;
        for addr in [gateway.addr(), second.addr(), third.addr()] {
            assert!(ready.contains(&addr.to_string()), "{ready}");
            let mut client = Client::connect(addr);
            client.send_get("/");
            let seen = peer.get_or_insert_with(|| upstream.accept()).serve_one("x");
            let port = addr.port().to_string();
            assert_eq!(seen.field("X-Forwarded-Port"), Some(port.as_str()));
            assert_eq!(client.response().text(), "x");
        }
    }

    fn all_addresses_of_both_families(driver: Driver) {
        let config = Config::new().driver(driver);
        let port = config.port();
        let gateway = config.set("apisix.node_listen", port).start();
        assert_eq!(gateway.get("/").status(), 404);
        let ready = gateway.log().wait_for(&["osmia is ready", &format!("0.0.0.0:{port}")]);
        if Reserved::on(Ipv6Addr::LOCALHOST.into()).is_err() {
            eprintln!("skipped in part: this machine has no IPv6");
            assert!(!ready.contains("[::]"), "{ready}");
            return;
        }
        assert!(ready.contains(&format!("[::]:{port}")), "{ready}");
        let mut client = Client::connect((Ipv6Addr::LOCALHOST, port).into());
        assert_eq!(client.get("/").status(), 404);
    }

    fn ipv6_clients_are_named_as_such(driver: Driver) {
        let Ok(reserved) = Reserved::on(Ipv6Addr::LOCALHOST.into()) else {
            eprintln!("skipped: this machine has no IPv6");
            return;
        };
        let upstream = Upstream::new();
        let listen = json!([{"ip": "[::1]", "port": reserved.port()}]);
        let _gateway = Config::proxy(driver, &upstream).set("apisix.node_listen", listen).start();
        let mut client = Client::connect(reserved.addr());
        client.send_get("/");
        let seen = upstream.accept().serve_one("six");
        assert_eq!(seen.field("X-Real-IP"), Some("::1"));
        assert_eq!(seen.field("X-Forwarded-For"), Some("::1"));
        assert_eq!(client.response().text(), "six");
    }

    /// Each worker keeps its own connection to the upstream, so there are as many as workers that
    /// were given requests.
    fn every_worker_is_given_connections(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).set("nginx_config.worker_processes", 2).start();
        gateway.log().wait_for(&["osmia is ready", "workers=2"]);
        eventually("both workers have served", || {
            assert_eq!(gateway.get("/").text(), "x");
            upstream.connections() >= 2
        });
        for _ in 0..20 {
            assert_eq!(gateway.get("/").text(), "x");
        }
        assert_eq!(upstream.connections(), 2);
    }

    fn workers_are_pinned_to_their_cores(driver: Driver) {
        let config = Config::new().driver(driver).set("osmia.pin", true);
        let gateway = config.argument("--workers").argument("2").argument("--cores").argument("0").start();
        gateway.log().wait_for(&["WARN", "more workers than cores"]);
        gateway.log().wait_for(&["osmia is ready", "cores=[0, 0]"]);
        let workers: BTreeSet<_> =
            threads(gateway.pid()).into_iter().filter(|(name, _)| name.starts_with("osmia-worker")).collect();
        let expected = [("osmia-worker-0", "0"), ("osmia-worker-1", "0")];
        let expected = expected.map(|(name, cores)| (name.to_owned(), cores.to_owned()));
        assert_eq!(workers, BTreeSet::from(expected));
        assert_eq!(gateway.get("/").status(), 404);
    }
}

#[test]
fn what_is_not_a_worker_goes_behind_them() {
    let gateway = Config::new().start();
    assert_eq!(gateway.get("/").status(), 404);
    let values = nice_values(gateway.pid());
    let of = |name: &str| {
        let found = values.iter().find(|(found, _)| found.starts_with(name));
        found.unwrap_or_else(|| panic!("no thread {name} in {values:?}")).1
    };
    let worker = of("osmia-worker");
    for name in ["osmia-sync", "osmia-journal"] {
        assert_eq!(of(name), (worker + 10).min(19), "{name} in {values:?}");
    }
}

#[test]
fn the_start_names_the_event_loop() {
    if has_io_uring() {
        let gateway = Config::new().driver(Driver::IoUring).start();
        gateway.log().wait_for(&["osmia is ready", "driver=\"io_uring"]);
        let gateway = Config::new().start();
        gateway.log().wait_for(&["osmia is ready", "driver=\"io_uring"]);
    } else {
        eprintln!("skipped in part: io_uring is not available on this machine");
    }
    let gateway = Config::new().driver(Driver::Epoll).start();
    gateway.log().wait_for(&["osmia is ready", "driver=\"epoll\""]);
}

#[test]
fn epoll_takes_over_where_io_uring_is_forbidden() {
    let upstream = Upstream::answering("x");
    let forbidden = Sandbox { no_io_uring: true, ..Sandbox::default() };
    let gateway = Config::proxy(Driver::Epoll, &upstream)
        .set("osmia.driver", "auto")
        .set("nginx_config.worker_processes", 2)
        .set("nginx_config.http.access_log", "access.log")
        .sandbox(forbidden)
        .start();
    gateway.log().wait_for(&[
        "WARN",
        "io_uring is not available, using epoll",
        "io_uring_disabled",
    ]);
    gateway.log().wait_for(&["osmia is ready", "driver=\"epoll\""]);
    assert_eq!(gateway.get("/").text(), "x");
    eventually("the access log is written without it as well", || {
        std::fs::read_to_string(gateway.file("access.log")).is_ok_and(|text| text.contains("GET /"))
    });
}

#[test]
fn a_start_that_insists_on_io_uring_fails_where_it_is_forbidden() {
    let forbidden = Sandbox { no_io_uring: true, ..Sandbox::default() };
    let config = Config::new().driver(Driver::IoUring).sandbox(forbidden);
    let ended = config.start_refused();
    for part in ["osmia: io_uring is not available", "io_uring_disabled", "osmia.driver"] {
        assert!(ended.complaint().contains(part), "{}", ended.stderr);
    }
}
