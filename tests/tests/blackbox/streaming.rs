//! Requests and responses that move at the same time.

use osmia_tests::wire::Framing;
use osmia_tests::{Client, Config, Peer, Upstream, on_each_driver, pattern};

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

fn pair(client: &mut Client, upstream: &Upstream, request: &str) -> Peer {
    client.send(request);
    let mut peer = upstream.accept();
    peer.head();
    peer
}

on_each_driver! {
    /// Each part arrives before the next is sent.
    fn events_arrive_one_by_one(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        ] {
            let chunked = head.contains("chunked");
            let mut client = gateway.client();
            let mut peer = pair(&mut client, &upstream, "GET /events HTTP/1.1\r\nHost: a.test\r\n\r\n");
            peer.send(head);
            assert_eq!(client.head().field("Content-Type"), Some("text/event-stream"));
            for number in 0..20 {
                let event = format!("data: {number}\n\n");
                peer.send(if chunked { format!("{:x}\r\n{event}\r\n", event.len()) } else { event.clone() });
                assert_eq!(client.chunk(), Some(event.into_bytes()));
            }
            if chunked {
                peer.send("0\r\n\r\n");
            }
            drop(peer);
            assert_eq!(client.chunk(), None);
            assert_eq!(client.line(), "");
        }
    }

    fn events_reach_an_old_client(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = pair(&mut client, &upstream, "GET /events HTTP/1.0\r\n\r\n");
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(client.head().field("Transfer-Encoding"), None);
        for _ in 0..5 {
            peer.send("3\r\nabc\r\n");
            assert_eq!(client.exactly(3), b"abc");
        }
        peer.send("0\r\n\r\n");
        client.expect_end();
    }

    /// The upstream answers after longer than any of the gateway's ticks; other requests are served
    /// meanwhile.
    fn a_long_poll_is_waited_for(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut waiting = gateway.client();
        let mut held = pair(&mut waiting, &upstream, "GET /poll HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let mut other = gateway.client();
        let mut peer = pair(&mut other, &upstream, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        peer.answer("other");
        assert_eq!(other.response().text(), "other");
        // No event to wait for: it is about time going by.
        std::thread::sleep(std::time::Duration::from_millis(1200));
        assert!(waiting.is_silent());
        held.answer("at last");
        assert_eq!(waiting.response().text(), "at last");
    }

    /// The response ends before the upload does.
    fn an_early_response_ends_the_upload(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = pair(
            &mut client,
            &upstream,
            "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nbegin",
        );
        assert_eq!(peer.exactly(5), b"begin");
        peer.send("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno");
        let response = client.response();
        assert_eq!((response.status(), response.text().as_str()), (401, "no"));
        client.finish();
        client.expect_end();
        peer.expect_end();
    }

    /// RFC 9112, section 9.6: closing while the client sends would reset the connection, and with
    /// it what it has not read yet.
    fn an_early_response_survives_a_client_that_sends_on(driver: Driver) {
        const UPLOAD: usize = 4 << 20;
        const RESPONSE: usize = 1 << 20;
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let head = format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {UPLOAD}\r\n\r\n");
        let mut peer = pair(&mut client, &upstream, &head);
        peer.send(format!("HTTP/1.1 413 No\r\nContent-Length: {RESPONSE}\r\n\r\n"));
        let answering = std::thread::spawn(move || {
            peer.send(pattern::bytes(0, RESPONSE));
            peer
        });
        client.head();
        // It goes on whatever the response says, and reads it only then.
        let _ = client.try_send(pattern::bytes(0, UPLOAD));
        pattern::check(0, &client.exactly(RESPONSE));
        answering.join().unwrap();
    }

    /// The response begins before the upload ends, and both go on.
    fn response_and_upload_go_on_together(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = pair(
            &mut client,
            &upstream,
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.head();
        for _ in 0..10 {
            client.send("4\r\nping\r\n");
            assert_eq!(peer.chunk().unwrap(), b"ping");
            peer.send("4\r\npong\r\n");
            assert_eq!(client.chunk().unwrap(), b"pong");
        }
        client.send("0\r\n\r\n");
        assert_eq!(peer.chunk(), None);
        assert_eq!(peer.line(), "");
        peer.send("0\r\n\r\n");
        assert_eq!(client.chunk(), None);
        assert_eq!(client.line(), "");
        client.send_get("/");
        peer.serve_one("again");
        assert_eq!(client.response().text(), "again", "both connections are kept");
    }

    /// The upstream's connection cannot be used again: a part of the request is missing on it.
    fn an_early_response_costs_the_upstreams_connection(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = pair(
            &mut client,
            &upstream,
            "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n12345",
        );
        assert_eq!(peer.exactly(5), b"12345");
        peer.answer("early");
        assert_eq!(client.response().text(), "early");
        peer.expect_end();
        gateway.client().send_get("/");
        upstream.accept();
    }

    fn continue_is_said_before_the_body(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send(EXPECTING);
        let interim = client.head();
        assert_eq!(interim.start, "HTTP/1.1 100 Continue");
        assert!(interim.fields.is_empty(), "{interim}");
        client.send("body");
        let mut peer = upstream.accept();
        let request = peer.serve_one("done");
        assert_eq!(request.field("Expect"), None, "the gateway has met it");
        assert_eq!(request.text(), "body");
        assert_eq!(client.response().text(), "done");
    }

    fn continue_is_not_said_without_need(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        // The body is there already.
        client.send(format!("{EXPECTING}body"));
        let mut peer = upstream.accept();
        assert_eq!(peer.serve_one("one").text(), "body");
        assert_eq!(client.response().text(), "one");
        // There is none.
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n");
        peer.serve_one("two");
        assert_eq!(client.response().text(), "two");
        // HTTP/1.0 does not know it.
        client.send("POST / HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        client.send("body");
        peer.serve_one("three");
        assert_eq!(client.response().text(), "three");
    }

    /// What the gateway answers by itself needs no body.
    fn continue_is_not_said_to_a_request_that_is_refused(driver: Driver) {
        let gateway = Config::new().driver(driver).start();
        let mut client = gateway.client();
        client.send(EXPECTING);
        let response = client.response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.field("Connection"), Some("close"));
        client.finish();
        client.expect_end();
    }

    fn another_expectation_fails(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nExpect: the-unexpected\r\n\r\n";
        assert_eq!(gateway.client().exchange(request).status(), 417);
        assert!(upstream.is_untouched());
    }

    fn interim_responses_are_passed_on(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = pair(&mut client, &upstream, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: X\r\nX: 1\r\n\r\n");
        let hints = client.head();
        assert_eq!(hints.start, "HTTP/1.1 103 Early Hints");
        assert_eq!(hints.fields, [("Link".to_owned(), "</a.css>".to_owned())]);
        peer.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\
                   Content-Length: 2\r\n\r\nok");
        assert_eq!(client.head().status(), 103);
        assert_eq!(client.head().status(), 102);
        let response = client.response();
        assert_eq!((response.text().as_str(), &response.framing), ("ok", &Framing::Length(2)));
        client.send_get("/");
        peer.serve_one("next");
        assert_eq!(client.response().text(), "next");
    }

    /// The gateway answers expectations itself, and HTTP/1.0 knows no interim responses.
    fn interim_responses_that_end_here(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let mut peer = pair(&mut client, &upstream, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        peer.answer("ok");
        assert_eq!(client.response().text(), "ok");
        client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
        peer.request();
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
        peer.answer("old");
        assert_eq!(client.response().text(), "old");
    }
}
