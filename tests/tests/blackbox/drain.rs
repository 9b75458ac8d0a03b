//! How a gateway stops.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use osmia_tests::config::upstream_of;
use osmia_tests::{Client, Config, End, Gateway, Peer, Upstream, eventually, on_each_driver};
use serde_json::json;

/// A request that the upstream has and has not answered.
fn under_way(gateway: &Gateway, upstream: &Upstream) -> (Client, Peer) {
    let mut client = gateway.client();
    client.send_get("/held");
    let mut peer = upstream.accept();
    peer.request();
    (client, peer)
}

/// Begins the drain and waits until nothing is accepted any more.
fn drain(gateway: &Gateway) {
    gateway.signal(libc::SIGQUIT);
    gateway.log().wait_for(&["INFO", "draining"]);
    eventually("new connections are refused", || TcpStream::connect(gateway.addr()).is_err());
}

#[track_caller]
fn check_stopped(gateway: &mut Gateway) -> String {
    let (status, log) = gateway.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");
    log
}

on_each_driver! {
    fn term_and_int_stop_at_once(driver: Driver) {
        let upstream = Upstream::new();
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let mut gateway = Config::proxy(driver, &upstream).start();
            let mut idle = gateway.client();
            let (mut client, mut peer) = under_way(&gateway, &upstream);
            gateway.signal(signal);
            check_stopped(&mut gateway);
            client.expect_end();
            idle.expect_end();
            peer.expect_end();
            assert!(TcpStream::connect(gateway.addr()).is_err());
        }
    }

    fn quit_finishes_what_is_under_way(driver: Driver) {
        let upstream = Upstream::new();
        let mut gateway = Config::proxy(driver, &upstream).start();
        let (mut client, mut peer) = under_way(&gateway, &upstream);
        drain(&gateway);
        assert!(gateway.is_running());
        peer.answer("finished");
        let response = client.response();
        assert_eq!(response.text(), "finished");
        assert_eq!(response.field("Connection"), Some("close"));
        assert_eq!(client.expect_end(), End::Eof);
        let log = check_stopped(&mut gateway);
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }

    /// A response whose head is out already, and an upload.
    fn quit_lets_bodies_end(driver: Driver) {
        let upstream = Upstream::new();
        let mut gateway = Config::proxy(driver, &upstream).start();
        let (mut downloading, mut sending) = under_way(&gateway, &upstream);
        sending.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n1234");
        downloading.head();
        let mut uploading = gateway.client();
        uploading.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\n1234");
        let mut taking = upstream.accept();
        taking.head();
        drain(&gateway);
        sending.send("5678");
        assert_eq!(downloading.exactly(8), b"12345678");
        // Its head promised to keep the connection; an end in order is what may come.
        assert_eq!(downloading.expect_end(), End::Eof);
        uploading.send("5678");
        assert_eq!(taking.exactly(8), b"12345678");
        taking.answer("taken");
        assert_eq!(uploading.response().text(), "taken");
        uploading.expect_end();
        check_stopped(&mut gateway);
    }

    fn quit_closes_idle_connections(driver: Driver) {
        let upstream = Upstream::new();
        let mut gateway = Config::proxy(driver, &upstream).start();
        let mut silent = gateway.client();
        let (mut client, mut peer) = under_way(&gateway, &upstream);
        peer.answer("x");
        assert_eq!(client.response().text(), "x");
        gateway.signal(libc::SIGQUIT);
        assert_eq!(client.expect_end(), End::Eof);
        assert_eq!(silent.expect_end(), End::Eof);
        peer.expect_end();
        check_stopped(&mut gateway);
    }

    /// Idle for long enough to have been set aside.
    fn quit_closes_connections_that_waited_long(driver: Driver) {
        let upstream = Upstream::answering("x");
        let mut gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        assert_eq!(client.get("/").text(), "x");
        // No event tells that it was set aside; it must be closed either way.
        std::thread::sleep(std::time::Duration::from_millis(700));
        gateway.signal(libc::SIGQUIT);
        assert_eq!(client.expect_end(), End::Eof);
        check_stopped(&mut gateway);
    }

    /// A request may cross the signal: it is served, and told that it was the last. Idle connections
    /// are closed after a grace; if this machine was slower, the scene is played again.
    fn a_request_that_crosses_the_signal_is_served(driver: Driver) {
        let played = |_| {
            let (holding, serving) = (Upstream::new(), Upstream::answering("served"));
            let to = |node: &Upstream| upstream_of(&[node.node()], json!({}));
            let mut gateway = Config::new()
                .driver(driver)
                .route(json!({"uri": "/held", "upstream": to(&holding)}))
                .route(json!({"uri": "/*", "upstream": to(&serving)}))
                .start();
            // The drain lasts as long as this.
            let (mut held, mut peer) = under_way(&gateway, &holding);
            let (mut kept, mut idle) = (gateway.client(), gateway.client());
            assert_eq!(kept.get("/").text(), "served");
            drain(&gateway);
            let served = [&mut kept, &mut idle].map(|client| {
                let sent = client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
                let head = if sent.is_ok() { client.head_or_end() } else { None };
                head.is_some_and(|mut response| {
                    client.body(&mut response);
                    assert_eq!(response.text(), "served");
                    assert_eq!(response.field("Connection"), Some("close"));
                    client.expect_end() == End::Eof
                })
            });
            peer.answer("y");
            assert_eq!(held.response().text(), "y");
            check_stopped(&mut gateway);
            served == [true, true]
        };
        let served = (0..5).any(played);
        assert!(served, "no idle connection was served during a drain");
    }

    fn a_second_signal_ends_the_drain(driver: Driver) {
        let upstream = Upstream::new();
        let mut gateway = Config::proxy(driver, &upstream).start();
        let (mut client, mut peer) = under_way(&gateway, &upstream);
        drain(&gateway);
        gateway.signal(libc::SIGTERM);
        let log = check_stopped(&mut gateway);
        assert!(log.contains("before the drain is complete"), "{log}");
        client.expect_end();
        peer.expect_end();
    }

    fn a_drain_ends_in_time(driver: Driver) {
        let upstream = Upstream::new();
        let mut gateway = Config::proxy(driver, &upstream)
            .set("nginx_config.worker_shutdown_timeout", "1s")
            .start();
        let (mut client, mut peer) = under_way(&gateway, &upstream);
        drain(&gateway);
        let log = check_stopped(&mut gateway);
        assert!(log.contains("the drain took too long"), "{log}");
        client.expect_end();
        peer.expect_end();
    }

    fn a_tunnel_ends_with_the_drain(driver: Driver) {
        let upstream = Upstream::new();
        let mut gateway = Config::proxy(driver, &upstream)
            .set("nginx_config.worker_shutdown_timeout", "1s")
            .start();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        let mut peer = upstream.accept();
        peer.head();
        peer.send("HTTP/1.1 101 Y\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        assert_eq!(client.head().status(), 101);
        drain(&gateway);
        client.send("still");
        assert_eq!(peer.exactly(5), b"still");
        check_stopped(&mut gateway);
        client.expect_end();
        peer.expect_end();
    }

    fn an_unused_gateway_stops_at_once(driver: Driver) {
        for signal in [libc::SIGTERM, libc::SIGQUIT] {
            let mut gateway = Config::new().driver(driver).set("nginx_config.worker_processes", 2).start();
            gateway.signal(signal);
            check_stopped(&mut gateway);
        }
    }

    /// Nobody is left listening, so that another gateway can start at once.
    fn the_port_is_free_when_the_gateway_has_ended(driver: Driver) {
        for round in 0..10 {
            let signal = if round % 2 == 0 { libc::SIGTERM } else { libc::SIGQUIT };
            let mut gateway = Config::new().driver(driver).start();
            gateway.signal(signal);
            check_stopped(&mut gateway);
            assert!(TcpStream::connect(gateway.addr()).is_err(), "round {round}");
        }
    }

    /// Clients all the while, on kept connections and on new ones. A connection that was not yet
    /// accepted may be refused; whatever was answered is complete, and a connection that was served
    /// is not ended without a word.
    fn no_accepted_request_is_lost(driver: Driver) {
        let upstream = Upstream::serving(|mut peer| {
            while peer.request_or_end().is_some() {
                peer.answer("complete");
            }
        });
        let mut gateway =
            Config::proxy(driver, &upstream).set("nginx_config.worker_processes", 2).start();
        let (addr, served) = (gateway.addr(), AtomicUsize::new(0));
        let stopped = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..16)
                .map(|number| scope.spawn({
                    let (served, stopped) = (&served, &stopped);
                    move || while !stopped.load(Ordering::Relaxed) {
                        if !visit(addr, number % 2 == 0, served) {
                            return;
                        }
                    }
                }))
                .collect();
            eventually("all are busy", || served.load(Ordering::Relaxed) > 500);
            gateway.signal(libc::SIGQUIT);
            check_stopped(&mut gateway);
            stopped.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().unwrap();
            }
        });
    }
}

/// Uses one connection, for one request or as long as it is kept. `false`: connections are refused.
fn visit(addr: std::net::SocketAddr, keep: bool, served: &AtomicUsize) -> bool {
    let Ok(stream) = TcpStream::connect(addr) else { return false };
    let mut wire = osmia_tests::Wire::new(stream);
    let close = if keep { "" } else { "Connection: close\r\n" };
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{close}\r\n");
    for round in 0.. {
        let sent = wire.try_send(&request);
        let head = if sent.is_ok() { wire.head_or_end() } else { None };
        let Some(mut response) = head else {
            assert_eq!(round, 0, "a connection that was kept ended without a word");
            return true;
        };
        assert_eq!(response.status(), 200, "{response}");
        wire.body(&mut response);
        assert_eq!(response.text(), "complete");
        served.fetch_add(1, Ordering::Relaxed);
        if response.field("Connection") == Some("close") {
            wire.expect_end();
            return true;
        }
    }
    true
}
