//! Messages and bodies both ways, many at once, and errors of upstreams.

use osmia_tests::config::upstream_of;
use osmia_tests::h2::{Frame, H2, Outcome, get, hpack, setting};
use osmia_tests::origin::Origin;
use osmia_tests::port::Reserved;
use osmia_tests::wire::Framing;
use osmia_tests::{Config, Upstream, on_each_driver, pattern};
use serde_json::json;

use super::{Front, post, with};

const MIB: usize = 1 << 20;

on_each_driver! {
    fn a_response_has_its_fields(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.get("/");
        let answer = h2.response(stream);
        assert_eq!(answer.field("content-length"), Some("5"));
        assert!(answer.field("server").is_some_and(|name| name.starts_with("Osmia")), "{answer:?}");
        assert!(answer.field("date").is_some());
        let stream = h2.get("/hop");
        let answer = h2.response(stream);
        assert_eq!((answer.text().as_str(), answer.field("x-kept")), ("hi", Some("1")));
        assert_eq!(answer.field("x-private"), None, "named by Connection");
    }

    /// Plain HTTP/2 towards a node, which is another gateway with a route for nothing else.
    fn nodes_may_speak_http_2(driver: Driver) {
        let origin = Origin::new();
        let behind = Config::new()
            .driver(driver)
            .route(json!({
                "id": "all", "uri": "/*", "vars": [["server_protocol", "==", "HTTP/2.0"]],
                "upstream": upstream_of(&[origin.upstream.node()], json!({})),
            }))
            .start();
        let node = [behind.addr().to_string()];
        let front = Front::start_with(driver, |config| {
            let over = |id: &str, scheme: &str| {
                json!({"id": id, "uri": format!("/{id}/*"), "priority": 1,
                       "upstream": upstream_of(&node, json!({"scheme": scheme}))})
            };
            config.route(over("two", "h2c")).route(over("one", "http"))
        });
        let mut h2 = front.connect();
        for _ in 0..3 {
            let stream = h2.get("/two/x");
            assert_eq!(h2.response(stream).text(), "hello");
        }
        let stream = h2.request_with_body(&post("/two/echo"));
        h2.send_body(stream, &pattern::bytes(0, MIB), true);
        assert_eq!(h2.response(stream).status(), 200);
        let stream = h2.get("/one/x");
        assert_eq!(h2.response(stream).status(), 404, "the route is for HTTP/2");
        let mut client = front.gateway.client();
        client.send("GET /two/y HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(client.response().text(), "hello");
    }

    /// What the gateway itself says to a call of gRPC is a status of gRPC, and all of the response.
    fn failures_of_calls_are_statuses_of_grpc(driver: Driver) {
        let refusing = upstream_of(&[Reserved::new().addr().to_string()], json!({"scheme": "grpc"}));
        let front = Front::start_with(driver, |config| {
            let dead = json!({"id": "dead", "uri": "/dead/*", "priority": 1, "upstream": refusing});
            config.route(dead)
        });
        let call = with(
            &with(&post("/dead/Call"), &[("content-type", "application/grpc")]),
            &[("te", "trailers")],
        );
        let mut h2 = front.connect();
        let fields: Vec<(&str, &str)> = call.clone();
        let stream = h2.request(&fields);
        let answer = h2.response(stream);
        assert_eq!((answer.status(), answer.field("grpc-status")), (200, Some("14")), "{answer:?}");
        assert_eq!(answer.field("grpc-message"), Some("cannot connect to the upstream node"));
        assert_eq!((answer.field("content-length"), answer.body.len()), (None, 0));
        // Others are told in HTTP.
        let stream = h2.get("/dead/page");
        assert_eq!(h2.response(stream).status(), 502);
    }

    fn responses_without_a_body(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let mut head = get("/size/1000");
        head[0].1 = "HEAD";
        let stream = h2.request(&head);
        let answer = h2.response(stream);
        assert_eq!((answer.status(), answer.body.len()), (200, 0));
        assert_eq!(answer.field("content-length"), Some("1000"));
        for status in [204, 304] {
            let stream = h2.get(&format!("/status/{status}"));
            let answer = h2.response(stream);
            assert_eq!((answer.status(), answer.body.len()), (status, 0));
        }
        for status in [200, 201, 404, 418, 500] {
            let stream = h2.get(&format!("/status/{status}"));
            assert_eq!(h2.response(stream).status(), status);
        }
    }

    fn interim_responses_are_forwarded(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.get("/interim");
        let answer = h2.response(stream);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "final"));
        let link = ("link".to_owned(), "</style.css>; rel=preload".to_owned());
        assert_eq!(answer.interim.len(), 1, "{answer:?}");
        assert_eq!(answer.interim[0][0].1, "103");
        assert!(answer.interim[0].contains(&link), "{answer:?}");
    }

    /// Whether or not there is a 100, the body is taken and the response comes.
    fn a_client_may_expect_100(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let fields = with(&post("/echo"), &[("expect", "100-continue"), ("content-length", "4")]);
        let stream = h2.request_with_body(&fields);
        h2.sync();
        h2.send(&Frame::data(stream, *b"body", true));
        let answer = h2.response(stream);
        assert_eq!(answer.text(), "body");
        assert!(answer.interim.iter().all(|fields| fields[0].1 == "100"), "{answer:?}");
    }

    fn request_bodies_arrive_with_their_framing(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.request_with_body(&with(&post("/echo"), &[("content-length", "6")]));
        h2.send(&Frame::data(stream, *b"abc", false));
        h2.send(&Frame::data(stream, *b"", false));
        h2.send(&Frame::data(stream, *b"def", false));
        h2.send(&Frame::data(stream, *b"", true));
        assert_eq!(h2.response(stream).text(), "abcdef");
        assert_eq!(front.origin.only("/echo").framing, Framing::Length(6));
        let stream = h2.request_with_body(&post("/echo?chunked"));
        h2.send(&Frame::data(stream, *b"abc", false));
        h2.send(&Frame::data(stream, *b"def", true));
        assert_eq!(h2.response(stream).status(), 200);
        let seen = front.origin.only("/echo?chunked");
        assert!(matches!(seen.framing, Framing::Chunked(_)), "{:?}", seen.framing);
        assert_eq!(seen.text(), "abcdef");
    }

    /// A body of no bytes that was announced, and none at all.
    fn empty_bodies(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.request_with_body(&post("/echo?empty"));
        h2.send(&Frame::data(stream, [], true));
        assert_eq!(h2.response(stream).text(), "");
        assert_eq!(front.origin.only("/echo?empty").text(), "");
        let stream = h2.request(&with(&post("/echo?zero"), &[("content-length", "0")]));
        assert_eq!(h2.response(stream).text(), "");
        assert_eq!(front.origin.only("/echo?zero").field("content-length"), Some("0"));
    }

    fn trailers_go_both_ways(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.get("/trailers");
        let answer = h2.response(stream);
        assert_eq!(answer.text(), "body");
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "42".to_owned())]);
        let stream = h2.request_with_body(&with(&post("/echo"), &[("trailer", "x-check")]));
        h2.send(&Frame::data(stream, *b"abc", false));
        h2.send(&Frame::headers(stream, hpack::block(&[("x-check", "7")]), true));
        assert_eq!(h2.response(stream).text(), "abc");
        let trailers = front.origin.only("/echo").trailers;
        assert!(trailers.iter().any(|(name, value)| name.eq_ignore_ascii_case("x-check") && value == "7"), "{trailers:?}");
    }

    fn large_bodies_go_both_ways(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.request_with_body(&post("/echo"));
        h2.send_body(stream, &pattern::bytes(0, 4 * MIB), true);
        let answer = h2.response(stream);
        assert_eq!(answer.body.len(), 4 * MIB);
        pattern::check(0, &answer.body);
        for path in ["/size/5000000", "/chunked/5000000"] {
            let stream = h2.get(path);
            let answer = h2.response(stream);
            assert_eq!(answer.body.len(), 5_000_000, "{path}");
            pattern::check(0, &answer.body);
        }
    }

    /// Both directions of one stream at once, in small windows.
    fn a_body_may_be_answered_while_it_comes(driver: Driver) {
        let upstream = Upstream::serving(|mut peer| {
            let request = peer.head();
            assert_eq!(request.field("Content-Length"), Some("300000"));
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
            for _ in 0..300 {
                let part = peer.exactly(1000);
                peer.send(part);
            }
        });
        let gateway = Config::proxy(driver, &upstream).start();
        let mut h2 = H2::connect_with(gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 1500)]);
        let stream = h2.request_with_body(&with(&post("/"), &[("content-length", "300000")]));
        for at in (0..300_000).step_by(1000) {
            let part = pattern::bytes(at, 1000);
            h2.send_body(stream, &part, at == 299_000);
            h2.until("its echo", |h2| {
                h2.streams.get(&stream).is_some_and(|it| it.body.len() as u64 >= at + 1000)
            });
        }
        pattern::check(0, &h2.response(stream).body);
    }

    fn many_streams_at_once(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let held = h2.get("/hold");
        for _ in 0..10 {
            let streams: Vec<u32> = (0..90).map(|number| h2.get(&format!("/size/{}", number * 100))).collect();
            for (number, stream) in streams.into_iter().enumerate() {
                let answer = h2.response(stream);
                assert_eq!((answer.status(), answer.body.len()), (200, number * 100));
                pattern::check(0, &answer.body);
            }
            h2.streams.retain(|stream, _| *stream == held);
        }
        front.origin.release();
        assert_eq!(h2.response(held).text(), "held");
    }

    /// Uploads whose frames are mixed.
    fn many_uploads_at_once(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let streams: Vec<u32> = (0..20).map(|_| h2.request_with_body(&post("/echo"))).collect();
        for round in 0..20_u64 {
            for stream in &streams {
                let body = pattern::bytes(u64::from(*stream) * 100_000 + round * 2000, 2000);
                h2.send_body(*stream, &body, round == 19);
            }
        }
        for stream in streams {
            let answer = h2.response(stream);
            assert_eq!(answer.body.len(), 40_000);
            pattern::check(u64::from(stream) * 100_000, &answer.body);
        }
    }

    /// One large response does not keep others waiting.
    fn a_large_response_leaves_room_for_others(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
        h2.send(&Frame::window(0, 1 << 30));
        let large = h2.get("/size/30000000");
        h2.until("a part", |h2| h2.streams.get(&large).is_some_and(|it| !it.body.is_empty()));
        let small = h2.get("/");
        assert_eq!(h2.response(small).text(), "hello");
        assert!(!h2.streams[&large].ended, "the small one came last");
        let answer = h2.response(large);
        assert_eq!(answer.body.len(), 30_000_000);
    }

    /// Answered without the upload: the response is whole, and the stream ends without an error.
    fn an_early_answer_ends_the_upload(driver: Driver) {
        let gateway = Config::new().driver(driver).start();
        let mut h2 = H2::connect(gateway.addr());
        let stream = h2.request_with_body(&post("/none"));
        assert_eq!(h2.outcome(stream), Outcome::Response(404));
        // What of it was under way is no error of the connection.
        h2.send(&Frame::data(stream, *b"late", true));
        let stream = h2.get("/none");
        assert_eq!(h2.outcome(stream), Outcome::Response(404));
    }

    fn upstreams_that_fail(driver: Driver) {
        let dead = Reserved::new();
        let origin = osmia_tests::Origin::new();
        let gateway = Config::new()
            .driver(driver)
            .route(json!({"id": "dead", "uri": "/dead", "upstream": upstream_of(&[dead.addr().to_string()], json!({}))}))
            .route(json!({"id": "all", "uri": "/*", "upstream": upstream_of(&[origin.upstream.node()], json!({}))}))
            .start();
        let mut h2 = H2::connect(gateway.addr());
        let stream = h2.get("/dead");
        assert_eq!(h2.response(stream).status(), 502);
        // Cut off within the body: an error of the stream, never a whole message.
        let stream = h2.get("/cut");
        let outcome = h2.outcome(stream);
        assert!(matches!(outcome, Outcome::Reset(code) if code != 0), "{outcome:?}");
        let stream = h2.get("/");
        assert_eq!(h2.response(stream).text(), "hello");
    }

    fn limits_hold(driver: Driver) {
        let front = Front::start_with(driver, |config| {
            config.set("osmia.limits.header_count", 20).http("client_max_body_size", "1k")
        });
        let mut h2 = front.connect();
        let names: Vec<String> = (0..40).map(|number| format!("x-{number}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let stream = h2.request(&with(&get("/many"), &many));
        let outcome = h2.outcome(stream);
        assert_eq!(outcome, Outcome::Response(431));
        let long = "x".repeat(9000);
        let stream = h2.request(&get(&format!("/{long}")));
        assert_eq!(h2.outcome(stream), Outcome::Response(414));
        let stream = h2.request_with_body(&with(&post("/echo"), &[("content-length", "2000")]));
        assert_eq!(h2.outcome(stream), Outcome::Response(413));
        let stream = h2.get("/");
        assert_eq!(h2.response(stream).text(), "hello");
    }

    /// The gateway answers for each path of the same connection by its own route.
    fn each_stream_is_routed_for_itself(driver: Driver) {
        let (one, two) = (Upstream::answering("one"), Upstream::answering("two"));
        let route = |id: &str, host: &str, upstream: &Upstream| {
            json!({"id": id, "uri": "/*", "host": host, "upstream": upstream_of(&[upstream.node()], json!({}))})
        };
        let gateway = Config::new()
            .driver(driver)
            .route(route("1", "one.test", &one))
            .route(route("2", "two.test", &two))
            .start();
        let mut h2 = H2::connect(gateway.addr());
        for (host, expected) in [("one.test", "one"), ("two.test", "two"), ("one.test", "one")] {
            let mut fields = get("/");
            fields[2].1 = host;
            let stream = h2.request(&fields);
            assert_eq!(h2.response(stream).text(), expected);
        }
        let stream = h2.get("/");
        assert_eq!(h2.response(stream).status(), 404);
    }
}
