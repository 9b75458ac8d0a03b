//! What clients do wrong: go away, stall, trickle.

use std::time::Duration;

use osmia_tests::{Config, End, Upstream, Wire, on_each_driver};

const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf";

on_each_driver! {
    fn a_client_that_goes_away_takes_its_request_along(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for reset in [false, true] {
            let mut client = gateway.client();
            client.send_get("/");
            let mut peer = upstream.accept();
            peer.request();
            if reset { Wire::from(client).reset() } else { drop(client) }
            peer.expect_end();
        }
        // No failure of the upstream's.
        assert!(!gateway.log().so_far().contains("WARN"), "{}", gateway.log().so_far());
    }

    fn a_client_that_goes_away_while_the_upstream_is_connected(driver: Driver) {
        let deaf = osmia_tests::port::Unanswering::new();
        let nodes = [deaf.addr().to_string()];
        let gateway = Config::proxy_to_nodes(driver, &nodes, serde_json::json!({})).start();
        let before = gateway.descriptors();
        let mut client = gateway.client();
        client.send_get("/");
        osmia_tests::eventually("the upstream is being connected", || {
            gateway.descriptors() >= before + 2
        });
        drop(client);
        osmia_tests::eventually("both are gone", || gateway.descriptors() <= before);
    }

    fn a_client_that_goes_away_within_its_upload(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for request in [POST, "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf"] {
            let mut client = gateway.client();
            client.send(request);
            let mut peer = upstream.accept();
            peer.head();
            drop(client);
            let (rest, _) = peer.rest();
            assert!(rest.ends_with(b"half"), "{}", rest.escape_ascii());
        }
        assert!(!gateway.log().so_far().contains("WARN"), "{}", gateway.log().so_far());
    }

    fn a_client_that_goes_away_within_the_response(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for reset in [false, true] {
            let mut client = gateway.client();
            client.send_get("/");
            let mut peer = upstream.accept();
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nbegin");
            client.head();
            assert_eq!(client.exactly(5), b"begin");
            if reset { Wire::from(client).reset() } else { drop(client) }
            let block = vec![b'x'; 64 * 1024];
            while peer.try_send(&block).is_ok() {}
            peer.expect_end();
        }
    }

    /// The upstream says nothing meanwhile.
    fn a_client_that_leaves_a_silent_response(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send_get("/events");
        let mut peer = upstream.accept();
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        client.head();
        assert_eq!(client.chunk().unwrap(), b"hi");
        drop(client);
        peer.expect_end();
    }

    fn a_stalled_upload_is_given_up(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).http("client_body_timeout", "500ms").start();
        let mut client = gateway.client();
        client.send(POST);
        let mut peer = upstream.accept();
        peer.head();
        assert_eq!(peer.exactly(4), b"half");
        let response = client.response();
        assert_eq!(response.start, "HTTP/1.1 408 Request Timeout");
        assert_eq!(response.field("Connection"), Some("close"));
        client.expect_end();
        peer.expect_end();
    }

    fn a_client_that_does_not_read_is_given_up(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).http("send_timeout", "1s").start();
        let mut client = gateway.client();
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let block = vec![b'x'; 64 * 1024];
        while peer.try_send(&block).is_ok() {}
        peer.expect_end();
        client.head();
        let (body, _) = client.rest();
        assert!(body.len() < 1_000_000_000);
    }

    /// Slowloris: one deadline for the whole head, however steadily it trickles in.
    fn a_trickling_head_is_cut_off(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).http("client_header_timeout", "1s").start();
        let mut fresh = gateway.client();
        let mut served = gateway.client();
        assert_eq!(served.get("/").status(), 200);
        for client in [&mut fresh, &mut served] {
            let mut sender = client.second();
            let trickling = std::thread::spawn(move || {
                let mut bytes = b"GET / HTTP/1.1\r\nHost: a.test\r\n".to_vec();
                bytes.extend(b"X: y\r\n".repeat(1000));
                // The pace of an attack, not a wait.
                let _ = bytes.iter().all(|byte| {
                    std::thread::sleep(Duration::from_millis(20));
                    sender.try_send([*byte]).is_ok()
                });
            });
            let response = client.response();
            assert_eq!(response.status(), 408);
            assert_eq!(response.field("Connection"), Some("close"));
            let (rest, _) = client.rest();
            assert!(rest.is_empty(), "{}", rest.escape_ascii());
            client.hang_up();
            trickling.join().unwrap();
        }
    }

    /// A part of a head, and then nothing.
    fn a_head_without_an_end_is_cut_off(driver: Driver) {
        let gateway = Config::new().driver(driver).http("client_header_timeout", "500ms").start();
        let mut client = gateway.client();
        client.send("GET / HT");
        assert_eq!(client.response().status(), 408);
        assert_eq!(client.expect_end(), End::Eof);
    }

    fn a_client_that_goes_away_within_its_head(driver: Driver) {
        let gateway = Config::new().driver(driver).start();
        let before = gateway.descriptors();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHo");
        client.finish();
        client.expect_end();
        osmia_tests::eventually("it is closed", || gateway.descriptors() <= before);
    }

    fn garbage_is_refused(driver: Driver) {
        let upstream = Upstream::new();
        // With HTTP/2 its preface is none.
        let gateway =
            Config::proxy(driver, &upstream).set("apisix.enable_http2", false).start();
        for garbage in [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".as_slice(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\0\0\0\0\r\n\r\n",
            b"hello\r\n\r\n",
        ] {
            let mut client = gateway.client();
            client.send(garbage);
            let response = client.response();
            assert!(matches!(response.status(), 400 | 505), "{response}");
            client.finish();
            client.expect_end();
        }
        assert!(upstream.is_untouched());
    }

    /// One client's trouble is not another's.
    fn others_are_served_meanwhile(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut stalled = gateway.client();
        stalled.send_get("/");
        let mut held = upstream.accept();
        held.request();
        held.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        held.send_until_full(1_000_000_000);
        let mut trickling = gateway.client();
        trickling.send("GET / HT");
        let mut uploading = gateway.client();
        uploading.send(POST);
        let mut half = upstream.accept();
        half.head();
        for _ in 0..20 {
            let mut client = gateway.client();
            client.send_get("/");
            let mut peer = upstream.accept();
            peer.serve_one("served");
            assert_eq!(client.response().text(), "served");
            drop(peer);
        }
    }
}
