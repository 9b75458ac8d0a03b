//! Connections to upstreams that are kept.

use osmia_tests::{Client, Config, Peer, Upstream, Wire, on_each_driver};
use serde_json::json;

/// A kept connection, idle.
fn kept(client: &mut Client, upstream: &Upstream) -> Peer {
    client.send_get("/first");
    let mut peer = upstream.accept();
    peer.serve_one("first");
    assert_eq!(client.response().text(), "first");
    peer
}

on_each_driver! {
    fn a_connection_serves_many_clients(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut peer = kept(&mut gateway.client(), &upstream);
        for _ in 0..5 {
            let mut client = gateway.client();
            client.send_get("/");
            peer.serve_one("again");
            assert_eq!(client.response().text(), "again");
        }
    }

    fn an_upstream_that_says_close_is_not_asked_again(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        for head in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nConnection: X, Close\r\nContent-Length: 1\r\n\r\nx",
        ] {
            client.send_get("/");
            let mut peer = upstream.accept();
            peer.request();
            peer.send(head);
            let response = client.response();
            assert_eq!(response.text(), "x");
            assert_eq!(response.field("Connection"), None, "the client's connection is another");
            peer.expect_end();
        }
        client.send_get("/");
        let mut peer = upstream.accept();
        peer.request();
        peer.send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(client.response().text(), "x");
        client.send_get("/");
        peer.serve_one("kept");
        assert_eq!(client.response().text(), "kept");
    }

    fn a_connection_closed_while_idle_is_noticed(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let peer = kept(&mut client, &upstream);
        let before = gateway.descriptors();
        drop(peer);
        osmia_tests::eventually("the gateway has closed its side", || gateway.descriptors() < before);
        // So not even what must not be repeated is lost.
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(upstream.accept().serve_one("fresh").text(), "body");
        assert_eq!(client.response().text(), "fresh");
    }

    /// The upstream closes just as the request arrives.
    fn a_request_on_a_stale_connection_is_replayed(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for request in [
            "GET /again HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "PUT /again HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody",
        ] {
            let mut client = gateway.client();
            let mut peer = kept(&mut client, &upstream);
            client.send(request);
            peer.request();
            drop(peer);
            let mut fresh = upstream.accept();
            let seen = fresh.request();
            assert_eq!(seen.target(), "/again");
            assert_eq!(seen.text(), request.rsplit("\r\n\r\n").next().unwrap());
            // Neither the client nor a retry has anything to do with it.
            fresh.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            assert_eq!(client.response().text(), "ok");
        }
    }

    fn a_request_is_replayed_even_without_retries(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy_with(driver, &upstream, json!({"retries": 0})).start();
        let mut client = gateway.client();
        let mut peer = kept(&mut client, &upstream);
        client.send_get("/again");
        peer.request();
        Wire::from(peer).reset();
        upstream.accept().serve_one("replayed");
        assert_eq!(client.response().text(), "replayed");
    }

    fn a_request_is_replayed_once(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = kept(&mut client, &upstream);
        client.send_get("/again");
        peer.request();
        drop(peer);
        let mut fresh = upstream.accept();
        fresh.request();
        drop(fresh);
        assert_eq!(client.response().status(), 502);
        assert!(upstream.is_untouched());
    }

    fn what_may_have_acted_is_not_replayed(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = kept(&mut client, &upstream);
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(peer.request().text(), "body");
        drop(peer);
        assert_eq!(client.response().status(), 502);
        assert!(upstream.is_untouched());
    }

    /// A part of the response means that the request was acted on.
    fn an_answered_request_is_not_replayed(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = kept(&mut client, &upstream);
        client.send_get("/");
        peer.request();
        peer.send("HTTP/1.1 200");
        drop(peer);
        assert_eq!(client.response().status(), 502);
        assert!(upstream.is_untouched());
    }

    /// What was streamed is no longer at hand.
    fn a_streamed_upload_is_not_replayed(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = kept(&mut client, &upstream);
        client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\n");
        peer.head();
        client.send("1234");
        assert_eq!(peer.exactly(4), b"1234");
        drop(peer);
        client.send("5678");
        assert_eq!(client.response().status(), 502);
        assert!(upstream.is_untouched());
    }

    fn as_many_are_kept_as_the_pool_holds(driver: Driver) {
        let upstream = Upstream::new();
        let options = json!({"keepalive_pool": {"size": 2, "idle_timeout": 60, "requests": 1000}});
        let gateway = Config::proxy_with(driver, &upstream, options).start();
        let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
        let mut peers = Vec::new();
        for client in &mut clients {
            client.send_get("/");
            let mut peer = upstream.accept();
            peer.request();
            peers.push(peer);
        }
        for (client, peer) in clients.iter_mut().zip(&mut peers) {
            peer.answer("x");
            assert_eq!(client.response().text(), "x");
        }
        let mut surplus = peers.split_off(2);
        for peer in &mut surplus {
            peer.expect_end();
        }
        for peer in &mut peers {
            assert!(peer.is_silent(), "kept");
        }
    }

    fn a_connection_serves_as_many_requests_as_configured(driver: Driver) {
        let upstream = Upstream::new();
        let options = json!({"keepalive_pool": {"size": 320, "idle_timeout": 60, "requests": 2}});
        let gateway = Config::proxy_with(driver, &upstream, options).start();
        let mut client = gateway.client();
        let mut peer = kept(&mut client, &upstream);
        client.send_get("/");
        peer.serve_one("second");
        assert_eq!(client.response().text(), "second");
        peer.expect_end();
        client.send_get("/");
        upstream.accept().serve_one("third");
        assert_eq!(client.response().text(), "third");
    }

    fn an_idle_connection_is_closed_in_time(driver: Driver) {
        let upstream = Upstream::new();
        let options = json!({"keepalive_pool": {"size": 320, "idle_timeout": 0.5, "requests": 1000}});
        let gateway = Config::proxy_with(driver, &upstream, options).start();
        kept(&mut gateway.client(), &upstream).expect_end();
    }
}
