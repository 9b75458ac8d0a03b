//! The PROXY protocol, from clients and towards nodes.

use std::process::Command;

use osmia_tests::config::upstream_of;
use osmia_tests::port::Reserved;
use osmia_tests::{Client, Config, Driver, Gateway, Upstream, eventually, on_each_driver};
use serde_json::json;

const V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 for 192.0.2.7:40000, who connected to 198.51.100.1:443, with one TLV.
fn binary() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0x01, 0xbb];
    [&V2[..], &[0x21, 0x11, 0, 16], &addresses, &[4, 0, 1, 0]].concat()
}

const LINE: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A gateway whose only port wants a header.
fn listening(driver: Driver, upstream: &Upstream) -> Config {
    let config = Config::proxy(driver, upstream);
    let port = config.port();
    config.set(
        "apisix.node_listen",
        json!([{"ip": "127.0.0.1", "port": port, "proxy_protocol": true}]),
    )
}

fn log(gateway: &Gateway) -> String {
    std::fs::read_to_string(gateway.file("access.log")).unwrap_or_default()
}

on_each_driver! {
    fn the_announced_client_is_the_client(driver: Driver) {
        let upstream = Upstream::new();
        let format = "$remote_addr:$remote_port $proxy_protocol_addr:$proxy_protocol_port \
                      $proxy_protocol_server_addr:$proxy_protocol_server_port $realip_remote_addr";
        let gateway = listening(driver, &upstream)
            .http("access_log", "access.log")
            .http("access_log_format", format)
            .start();
        let mut peer = None;
        for header in [LINE.as_bytes().to_vec(), binary()] {
            let mut client = gateway.client();
            // The next request comes with the header, another one later.
            client.send([&header[..], GET.as_bytes()].concat());
            for _ in 0..2 {
                let seen = peer.get_or_insert_with(|| upstream.accept()).serve_one("x");
                assert_eq!(seen.field("X-Real-IP"), Some("192.0.2.7"));
                assert_eq!(seen.field("X-Forwarded-For"), Some("192.0.2.7"));
                assert_eq!(client.response().text(), "x");
                client.send_get("/");
            }
            peer.as_mut().unwrap().serve_one("x");
            client.response();
        }
        let line = "192.0.2.7:40000 192.0.2.7:40000 198.51.100.1:443 127.0.0.1\n";
        eventually("all are logged", || log(&gateway) == line.repeat(6));
    }

    fn a_header_may_arrive_byte_by_byte(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = listening(driver, &upstream).start();
        for header in [LINE.as_bytes().to_vec(), binary()] {
            let mut client = gateway.client();
            for byte in header.iter().chain(GET.as_bytes()) {
                client.send([*byte]);
            }
            assert_eq!(client.response().text(), "x");
        }
    }

    fn a_header_without_addresses_leaves_the_connections(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = listening(driver, &upstream).start();
        let mut peer = None;
        let local = [&V2[..], &[0x20, 0, 0, 0]].concat();
        for header in [b"PROXY UNKNOWN\r\n".to_vec(), local] {
            let mut client = gateway.client();
            client.send([&header[..], GET.as_bytes()].concat());
            let seen = peer.get_or_insert_with(|| upstream.accept()).serve_one("x");
            assert_eq!(seen.field("X-Forwarded-For"), Some("127.0.0.1"));
            client.response();
        }
    }

    fn without_a_header_the_connection_is_closed(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = listening(driver, &upstream).start();
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        let inputs = [
            (GET, "does not begin with a PROXY protocol header"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n", "version 1 is malformed"),
            (&long, "too long"),
        ];
        for (input, reason) in inputs {
            let mut client = gateway.client();
            client.send(input);
            client.expect_end();
            gateway.log().wait_for(&["INFO", "closing a connection", reason]);
        }
        let mut client = gateway.client();
        client.send("PROXY");
        client.finish();
        client.expect_end();
        gateway.log().wait_for(&["INFO", "breaks off"]);
        assert!(upstream.is_untouched());
    }

    fn a_header_that_does_not_come_is_not_waited_for_for_ever(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = listening(driver, &upstream).http("client_header_timeout", "300ms").start();
        let mut client = gateway.client();
        client.send("PROXY TCP4");
        client.expect_end();
        gateway.log().wait_for(&["INFO", "no PROXY protocol header in time"]);
    }

    fn a_silent_connection_does_not_hold_up_a_drain(driver: Driver) {
        let upstream = Upstream::new();
        let mut gateway = listening(driver, &upstream).start();
        let before = gateway.descriptors();
        let mut client = gateway.client();
        eventually("it is accepted", || gateway.descriptors() > before);
        gateway.signal(libc::SIGQUIT);
        client.expect_end();
        let (status, log) = gateway.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }

    fn only_trusted_peers_may_announce(driver: Driver) {
        let upstream = Upstream::answering("x");
        let trusted = listening(driver, &upstream).set("osmia.proxy_protocol.trusted", json!(["127.0.0.0/8"]));
        let gateway = trusted.start();
        assert_eq!(gateway.client().exchange(format!("{LINE}{GET}")).text(), "x");
        let others = listening(driver, &upstream).set("osmia.proxy_protocol.trusted", json!(["10.0.0.0/8"]));
        let gateway = others.start();
        gateway.client().expect_end();
        gateway.log().wait_for(&["INFO", "osmia.proxy_protocol.trusted does not name it"]);
    }

    /// The port of `apisix.proxy_protocol` beside an ordinary one; routes and trust go by the
    /// announced address and by the real one.
    fn the_port_of_its_own_and_rules(driver: Driver) {
        let upstream = Upstream::answering("x");
        let port = Reserved::new();
        let gateway = Config::new()
            .driver(driver)
            .set("apisix.enable_ipv6", false)
            .set("apisix.proxy_protocol", json!({"listen_http_port": port.port()}))
            .route(json!({"id": "r", "uri": "/*", "remote_addrs": ["192.0.2.0/24"],
                "vars": [["proxy_protocol_server_port", "==", "443"]],
                "upstream": upstream_of(&[upstream.node()], json!({}))}))
            .start();
        assert_eq!(gateway.get("/").status(), 404);
        assert_eq!(Client::connect(port.addr()).exchange(format!("{LINE}{GET}")).status(), 200);
    }

    fn curl_speaks_it(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = listening(driver, &upstream).start();
        let url = format!("http://{}/", gateway.addr());
        let answer = Command::new("curl").args(["-sS", "--haproxy-protocol", &url]).output().unwrap();
        assert_eq!(answer.stdout, b"x", "{}", String::from_utf8_lossy(&answer.stderr));
    }

    /// A connection carries one client's address, so no other request may follow on it.
    fn towards_nodes_each_connection_names_its_client(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy_with(driver, &upstream, json!({"proxy_protocol": "v1"})).start();
        let mut client = gateway.client();
        let port = client.local_addr().port();
        for _ in 0..2 {
            client.send_get("/");
            let mut peer = upstream.accept();
            let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}", gateway.addr().port());
            assert_eq!(peer.line(), line);
            peer.serve_one("x");
            assert_eq!(client.response().text(), "x");
            peer.expect_end();
        }
    }

    fn towards_nodes_the_announced_client_is_passed_on(driver: Driver) {
        let upstream = Upstream::new();
        let config = Config::proxy_with(driver, &upstream, json!({"proxy_protocol": "v2"}));
        let port = config.port();
        let listen = json!([{"ip": "127.0.0.1", "port": port, "proxy_protocol": true}]);
        let gateway = config.set("apisix.node_listen", listen).start();
        let mut client = gateway.client();
        client.send(format!("{LINE}{GET}"));
        let mut peer = upstream.accept();
        let addresses = &binary()[16..28];
        assert_eq!(peer.exactly(28), [&V2[..], &[0x21, 0x11, 0, 12], addresses].concat());
        peer.serve_one("x");
        assert_eq!(client.response().text(), "x");
    }

    /// A node that shares its address with one that wants headers is not given its connections.
    fn kept_connections_are_not_used_for_headers(driver: Driver) {
        let upstream = Upstream::new();
        let nodes = [upstream.node()];
        let route = |uri: &str, options| json!({"id": &uri[1..], "uri": uri, "upstream": upstream_of(&nodes, options)});
        let gateway = Config::new()
            .driver(driver)
            .route(route("/plain", json!({})))
            .route(route("/named", json!({"proxy_protocol": "v1"})))
            .start();
        let mut client = gateway.client();
        client.send_get("/plain");
        let mut kept = upstream.accept();
        kept.serve_one("x");
        client.response();
        client.send_get("/named");
        let mut named = upstream.accept();
        assert!(named.line().starts_with("PROXY TCP4 "));
        named.serve_one("x");
        client.response();
        client.send_get("/plain");
        kept.serve_one("x");
        assert_eq!(client.response().text(), "x");
    }
}

#[test]
fn probes_of_such_nodes_begin_with_a_header_too() {
    let upstream = Upstream::new();
    let checks = json!({"active": {"healthy": {"interval": 1, "successes": 1}}});
    let options = json!({"proxy_protocol": "v1", "checks": checks});
    let route =
        json!({"id": "r", "uri": "/*", "upstream": upstream_of(&[upstream.node()], options)});
    let _gateway = Config::new().route(route).start();
    let mut peer = upstream.accept();
    assert_eq!(peer.line(), "PROXY UNKNOWN");
    assert_eq!(peer.serve_one("x").target(), "/");
    assert_eq!(peer.request().target(), "/", "once for a connection");
}
