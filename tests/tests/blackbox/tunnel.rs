//! WebSocket and other upgrades.

use osmia_tests::config::upstream_of;
use osmia_tests::{Client, Config, End, Peer, Upstream, on_each_driver, pattern};
use serde_json::json;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// An open tunnel.
fn tunnel(client: &mut Client, upstream: &Upstream) -> Peer {
    client.send(ASK);
    let mut peer = upstream.accept();
    peer.head();
    peer.send(SWITCH);
    assert_eq!(client.head().status(), 101);
    peer
}

on_each_driver! {
    fn a_websocket_is_opened_and_carries_bytes_both_ways(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send(ASK);
        let mut peer = upstream.accept();
        let asked = peer.head();
        assert_eq!(asked.field("Connection"), Some("upgrade"));
        assert_eq!(asked.field("Upgrade"), Some("websocket"));
        assert_eq!(asked.field("Sec-WebSocket-Key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        peer.send(SWITCH);
        let switched = client.head();
        assert_eq!(switched.start, "HTTP/1.1 101 Switching Protocols");
        assert_eq!(switched.field("Connection"), Some("upgrade"));
        assert_eq!(switched.field("Upgrade"), Some("websocket"));
        assert_eq!(switched.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(switched.field("Content-Length"), None);
        assert_eq!(switched.field("Transfer-Encoding"), None);
        for number in 0_u8..20 {
            client.send([number; 3]);
            assert_eq!(peer.exactly(3), [number; 3]);
            peer.send([number; 5]);
            assert_eq!(client.exactly(5), [number; 5]);
        }
        // Nothing in it is taken for HTTP.
        client.send("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(peer.exactly(18), b"GET / HTTP/1.1\r\n\r\n");
    }

    fn bytes_that_come_early_are_not_lost(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send(ASK.to_owned() + "early");
        let mut peer = upstream.accept();
        peer.head();
        assert!(peer.is_silent(), "nothing passes before the upgrade is agreed on");
        peer.send(SWITCH.to_owned() + "greeting");
        assert_eq!(client.head().status(), 101);
        assert_eq!(client.exactly(8), b"greeting");
        assert_eq!(peer.exactly(5), b"early");
        client.send("later");
        assert_eq!(peer.exactly(5), b"later");
    }

    fn much_flows_both_ways(driver: Driver) {
        const TOTAL: usize = 16 << 20;
        const PART: usize = 64 * 1024;
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = tunnel(&mut client, &upstream);
        let send = |mut wire: osmia_tests::Wire| {
            std::thread::spawn(move || {
                for at in (0..TOTAL).step_by(PART) {
                    wire.send(pattern::bytes(at as u64, PART));
                }
            })
        };
        let sending = [send(client.second()), send(peer.second())];
        let receiving = std::thread::spawn(move || {
            for at in (0..TOTAL).step_by(PART) {
                pattern::check(at as u64, &peer.exactly(PART));
            }
        });
        for at in (0..TOTAL).step_by(PART) {
            pattern::check(at as u64, &client.exactly(PART));
        }
        receiving.join().unwrap();
        for thread in sending {
            thread.join().unwrap();
        }
    }

    /// Each direction ends for itself.
    fn half_closed_tunnels_go_on_the_other_way(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = tunnel(&mut client, &upstream);
        client.send("bye");
        client.finish();
        let (rest, end) = peer.rest();
        assert_eq!((rest.as_slice(), end), (b"bye".as_slice(), End::Eof));
        peer.send("still here");
        assert_eq!(client.exactly(10), b"still here");
        peer.finish();
        client.expect_end();

        let mut client = gateway.client();
        let mut peer = tunnel(&mut client, &upstream);
        peer.finish();
        client.expect_end();
        client.send("last words");
        assert_eq!(peer.exactly(10), b"last words");
        drop(client);
        peer.expect_end();
    }

    fn a_reset_ends_both_sides(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = tunnel(&mut client, &upstream);
        osmia_tests::Wire::from(client).reset();
        peer.expect_end();
        let mut client = gateway.client();
        let peer = tunnel(&mut client, &upstream);
        osmia_tests::Wire::from(peer).reset();
        client.expect_end();
    }

    /// CVE-2026-2833 of another proxy: bytes passed before the upgrade was confirmed.
    fn a_refused_upgrade_opens_no_tunnel(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send(ASK.to_owned() + "GET /hidden HTTP/1.1\r\nHost: a.test\r\nX-Real-IP: 6.6.6.6\r\n\r\n");
        let mut peer = upstream.accept();
        peer.head();
        assert!(peer.is_silent());
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
        assert_eq!(client.response().text(), "no");
        // It is a request like any other, with the gateway's own fields.
        let hidden = peer.request();
        assert_eq!(hidden.target(), "/hidden");
        assert_eq!(hidden.field("X-Real-IP"), Some("127.0.0.1"));
        peer.answer("seen");
        assert_eq!(client.response().text(), "seen");
    }

    fn a_refused_upgrade_ends_with_what_is_no_request(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send(ASK.as_bytes());
        let mut peer = upstream.accept();
        peer.head();
        client.send(b"\x81\x85mask!!!!!\r\n\r\n");
        peer.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response().status(), 426);
        assert_eq!(client.response().status(), 400);
        client.finish();
        client.expect_end();
    }

    fn a_switch_that_nobody_asked_for_is_a_bad_response(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.head();
        peer.send(SWITCH);
        assert_eq!(client.response().status(), 502);
        peer.expect_end();
    }

    fn a_switch_without_its_fields_is_a_bad_response(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for head in [
            "HTTP/1.1 101 X\r\n\r\n",
            "HTTP/1.1 101 X\r\nConnection: upgrade\r\n\r\n",
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",
        ] {
            let mut client = gateway.client();
            client.send(ASK);
            let mut peer = upstream.accept();
            peer.head();
            peer.send(head);
            assert_eq!(client.response().status(), 502, "{head}");
        }
    }

    /// Requests that could be taken for something else by a server, and what a route forbids.
    fn upgrades_that_are_not_passed_on(driver: Driver) {
        let upstream = Upstream::new();
        let forbidden = upstream_of(&[upstream.node()], json!({}));
        let gateway = Config::new()
            .driver(driver)
            .route(json!({"uri": "/off", "enable_websocket": false, "upstream": forbidden}))
            .route(json!({"uri": "/*", "upstream": forbidden}))
            .start();
        let mut client = gateway.client();
        let mut peer = None;
        for request in [
            "GET /off HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Content-Length: 2\r\n\r\nhi",
        ] {
            client.send(request);
            let peer = peer.get_or_insert_with(|| upstream.accept());
            let seen = peer.request();
            assert_eq!(seen.field("Upgrade"), None, "{request}");
            assert_eq!(seen.field("Connection"), None, "{request}");
            peer.answer("plain");
            assert_eq!(client.response().text(), "plain", "{request}");
        }
    }

    fn a_silent_tunnel_is_closed_in_time(driver: Driver) {
        let upstream = Upstream::new();
        let options = json!({"timeout": {"connect": 5, "send": 5, "read": 1}});
        let gateway = Config::proxy_with(driver, &upstream, options).start();
        let mut client = gateway.client();
        let mut peer = tunnel(&mut client, &upstream);
        client.expect_end();
        peer.expect_end();
    }

    /// A tunnel is busy as long as either side says something.
    fn a_tunnel_busy_in_one_direction_stays_open(driver: Driver) {
        let upstream = Upstream::new();
        let options = json!({"timeout": {"connect": 5, "send": 5, "read": 3}});
        let gateway = Config::proxy_with(driver, &upstream, options).start();
        let mut client = gateway.client();
        let mut peer = tunnel(&mut client, &upstream);
        for _ in 0..18 {
            peer.send("tick");
            assert_eq!(client.exactly(4), b"tick");
            // The pace of the traffic: longer in all than the time that silence may last.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        client.send("end");
        assert_eq!(peer.exactly(3), b"end");
    }
}
