//! Header fields: what the gateway adds, replaces and removes.

use osmia_tests::{Client, Config, Message, Upstream, on_each_driver};
use serde_json::json;

/// What the upstream sees of a request that ends with `fields`.
fn forwarded(client: &mut Client, upstream: &Upstream, request: &str) -> Message {
    client.send(request);
    let seen = upstream.accept().serve_one("");
    assert_eq!(client.response_to(request.split(' ').next().unwrap()).status(), 200);
    seen
}

/// What a client sees of a response.
fn returned(client: &mut Client, upstream: &Upstream, response: &str) -> Message {
    client.send_get("/");
    let mut peer = upstream.accept();
    peer.request();
    peer.send(response);
    // A body may end with the connection.
    drop(peer);
    client.response()
}

on_each_driver! {
    fn forwarding_fields_are_the_gateways_own(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let seen = forwarded(
            &mut gateway.client(),
            &upstream,
            "GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 1.1.1.1\r\n\
             x-forwarded-for: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
             X-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\nX-Own: kept\r\n\r\n",
        );
        assert_eq!(seen.start, "GET /x?y=1 HTTP/1.1");
        let port = gateway.addr().port().to_string();
        for (name, value) in [
            ("Host", "a.test"),
            ("X-Real-IP", "127.0.0.1"),
            ("X-Forwarded-For", "1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "a.test"),
            ("X-Forwarded-Port", &port),
            ("X-Own", "kept"),
        ] {
            assert_eq!(seen.field(name), Some(value), "{seen}");
        }
        assert_eq!(seen.field("Forwarded"), None, "it would contradict the others");
    }

    fn the_forwarded_port_is_the_one_of_host(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let request = "GET / HTTP/1.1\r\nHost: a.test:8443\r\n\r\n";
        let seen = forwarded(&mut gateway.client(), &upstream, request);
        assert_eq!(seen.field("Host"), Some("a.test:8443"));
        assert_eq!(seen.field("X-Forwarded-Host"), Some("a.test:8443"));
        assert_eq!(seen.field("X-Forwarded-Port"), Some("8443"));
    }

    fn host_is_passed_taken_from_the_node_or_rewritten(driver: Driver) {
        let upstream = Upstream::new();
        for (options, expected) in [
            (json!({}), "a.test".to_owned()),
            (json!({"pass_host": "pass"}), "a.test".to_owned()),
            (json!({"pass_host": "node"}), upstream.node()),
            (json!({"pass_host": "rewrite", "upstream_host": "b.test:1"}), "b.test:1".to_owned()),
        ] {
            let gateway = Config::proxy_with(driver, &upstream, options.clone()).start();
            let request = "GET / HTTP/1.1\r\nhOST: a.test\r\n\r\n";
            let seen = forwarded(&mut gateway.client(), &upstream, request);
            assert_eq!(seen.field("Host"), Some(expected.as_str()), "{options}");
            assert_eq!(seen.field("X-Forwarded-Host"), Some("a.test"), "{options}");
        }
    }

    fn hop_by_hop_fields_of_a_request_stop_here(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let seen = forwarded(
            &mut gateway.client(),
            &upstream,
            "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, X-One,,x-TWO\r\nX-One: 1\r\n\
             X-Two: 2\r\nX-Three: 3\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
             TE: trailers\r\nUpgrade: h2c\r\nContent-Length: 0\r\nConnection: X-Four, Host, \
             Content-Length\r\nX-Four: 4\r\n\r\n",
        );
        let gone =
            ["Connection", "X-One", "X-Two", "X-Four", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade"];
        for name in gone {
            assert_eq!(seen.field(name), None, "{seen}");
        }
        assert_eq!(seen.field("X-Three"), Some("3"));
        assert_eq!(seen.field("Host"), Some("a.test"), "what routes is never named away");
        assert_eq!(seen.field("Content-Length"), Some("0"), "nor what frames");
    }

    fn other_fields_arrive_as_they_were_sent(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let seen = forwarded(
            &mut gateway.client(),
            &upstream,
            "GET / HTTP/1.1\r\nHost: a.test\r\naCCEPT: */*\r\nCookie: a=1\r\nX-Many: 1\r\nX-Empty:\r\n\
             cookie: b=2\r\nX-Many: 2\r\nX_Under: u\r\nX-Wide:\t w\u{e9} \r\nAuthorization: Basic eA==\r\n\r\n",
        );
        assert!(seen.fields.contains(&("aCCEPT".to_owned(), "*/*".to_owned())), "{seen}");
        assert_eq!(seen.all("X-Many"), ["1", "2"]);
        assert_eq!(seen.all("Cookie"), ["a=1", "b=2"]);
        assert_eq!(seen.field("X-Empty"), Some(""));
        assert_eq!(seen.field("X_Under"), Some("u"));
        assert_eq!(seen.field("X-Wide"), Some("w\u{e9}"));
        assert_eq!(seen.field("Authorization"), Some("Basic eA=="));
    }

    fn an_old_client_is_spoken_for_in_http_11(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        client.send("GET /old HTTP/1.0\r\n\r\n");
        let seen = upstream.accept().serve_one("new");
        assert_eq!(seen.start, "GET /old HTTP/1.1");
        assert_eq!(seen.field("Host"), Some(upstream.node().as_str()), "1.1 demands one");
        assert_eq!(client.response().text(), "new");
        client.expect_end();
    }

    fn a_response_is_the_gateways(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let response = returned(
            &mut client,
            &upstream,
            "HTTP/1.1 201 Made Up\r\nServer: theirs\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\
             Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
        );
        assert_eq!(response.start, "HTTP/1.1 201 Made Up");
        assert_eq!(response.field("Server"), Some(concat!("Osmia/", env!("CARGO_PKG_VERSION"))));
        for gone in ["X-Hop", "Keep-Alive", "Proxy-Connection", "Upgrade", "Connection"] {
            assert_eq!(response.field(gone), None, "{response}");
        }
        assert_eq!(response.field("X-Kept"), Some("1"));
        assert_eq!(response.all("Set-Cookie"), ["a", "b"]);
        let date = response.field("Date").expect("added, as the upstream sent none");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
        let dated = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n";
        let response = returned(&mut client, &upstream, dated);
        assert_eq!(response.field("Date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    }

    fn odd_status_lines_are_put_right(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        for (line, expected) in [
            ("HTTP/1.1 200", "HTTP/1.1 200 "),
            ("HTTP/1.1 200 ", "HTTP/1.1 200 "),
            ("HTTP/1.0 200 OK", "HTTP/1.1 200 OK"),
            ("HTTP/1.1 599 Whatever this is", "HTTP/1.1 599 Whatever this is"),
        ] {
            let text = format!("{line}\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(returned(&mut client, &upstream, &text).start, expected, "{line}");
        }
    }

    fn the_upstreams_status_is_shown_on_failures_or_always(driver: Driver) {
        const NAME: &str = "X-APISIX-Upstream-Status";
        let upstream = Upstream::new();
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let failed = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        for (always, expected) in [(false, [None, Some("503")]), (true, [Some("200"), Some("503")])] {
            let gateway = Config::proxy(driver, &upstream)
                .set("apisix.show_upstream_status_in_response_header", always)
                .start();
            let mut client = gateway.client();
            let found = [ok, failed]
                .map(|text| returned(&mut client, &upstream, text).field(NAME).map(str::to_owned));
            assert_eq!(found, expected.map(|status| status.map(str::to_owned)), "{always}");
        }
    }

    fn the_version_is_not_told_if_not_wanted(driver: Driver) {
        let gateway = Config::new().driver(driver).set("apisix.enable_server_tokens", false).start();
        assert_eq!(gateway.get("/").field("Server"), Some("Osmia"));
    }
}
