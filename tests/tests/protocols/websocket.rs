//! WebSocket: over HTTP/1.1 with a client and a server of Python, and over HTTP/2 (RFC 8441).

use osmia_tests::h2::{Frame, H2, Outcome, code, setting};
use osmia_tests::port::Reserved;
use osmia_tests::{Config, Driver, Gateway, on_each_driver};
use serde_json::json;

use super::program::{Server, check};
use super::{Front, NAME, route};

fn started(driver: Driver) -> (Server, Gateway) {
    let server = Server::start("websocket_echo.py", &[]);
    let gateway = Config::new().driver(driver).route(route(&server.node(), json!({}))).start();
    (server, gateway)
}

#[test]
fn the_checks_hold_without_a_gateway() {
    let server = Server::start("websocket_echo.py", &[]);
    check("websocket_check.py", &[&format!("ws://{}", server.addr)]);
}

/// The fields of an extended CONNECT (RFC 8441, section 4).
fn connect(path: &str) -> [(&str, &str); 6] {
    [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", NAME),
        (":path", path),
        ("sec-websocket-version", "13"),
    ]
}

/// A message of a client, masked with zeros (RFC 6455, section 5.2).
fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The same of a server: without a mask.
fn answer(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(short as u8),
        middle @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// An open tunnel.
#[track_caller]
fn open(h2: &mut H2, path: &str) -> u32 {
    let stream = h2.request_with_body(&connect(path));
    h2.until("a response", |h2| h2.streams.get(&stream).is_some_and(|it| it.status() != 0));
    let exchange = &h2.streams[&stream];
    assert_eq!((exchange.status(), exchange.ended), (200, false), "{exchange:?}");
    assert_eq!(exchange.field("sec-websocket-accept"), None, "RFC 8441, section 5");
    stream
}

#[track_caller]
fn expect(h2: &mut H2, stream: u32, expected: &[u8]) {
    h2.until("bytes of the tunnel", |h2| h2.streams[&stream].body.len() >= expected.len());
    let body = std::mem::take(&mut h2.streams.get_mut(&stream).unwrap().body);
    assert!(body == expected, "{} bytes, and not {}", body.len(), expected.len());
}

on_each_driver! {
    fn over_http_1(driver: Driver) {
        let (_server, gateway) = started(driver);
        check("websocket_check.py", &[&format!("ws://{}", gateway.addr())]);
    }

    fn over_http_1_and_tls(driver: Driver) {
        let server = Server::start("websocket_echo.py", &[]);
        let front = Front::start_with(driver, |config| {
            let mut first = route(&server.node(), json!({}));
            first["id"] = json!("websocket");
            first["priority"] = json!(10);
            config.route(first)
        });
        let base = format!("wss://{}", front.gateway.tls_addr());
        check("websocket_check.py", &[&base, front.ca().to_str().unwrap(), NAME]);
    }

    fn over_http_2(driver: Driver) {
        let (_server, gateway) = started(driver);
        let mut h2 = H2::connect(gateway.addr());
        assert_eq!(h2.setting(setting::ENABLE_CONNECT_PROTOCOL, 0), 1, "RFC 8441, section 3");
        let stream = open(&mut h2, "/echo");
        for text in ["one", "two", ""] {
            h2.send_body(stream, &message(1, text.as_bytes()), false);
            expect(&mut h2, stream, &answer(1, text.as_bytes()));
        }
        let large = osmia_tests::pattern::bytes(0, 1_000_000);
        h2.send_body(stream, &message(2, &large), false);
        expect(&mut h2, stream, &answer(2, &large));
        // Ping, pong, and a close with its code.
        h2.send_body(stream, &message(9, b"ping"), false);
        expect(&mut h2, stream, &answer(10, b"ping"));
        h2.send_body(stream, &message(8, &[0x10, 0xe1]), true);
        h2.until("the end", |h2| h2.streams[&stream].ended);
        expect(&mut h2, stream, &answer(8, &[0x10, 0xe1]));
    }

    fn many_tunnels_beside_each_other(driver: Driver) {
        let (_server, gateway) = started(driver);
        let mut h2 = H2::connect(gateway.addr());
        let streams: Vec<u32> = (0..20).map(|_| open(&mut h2, "/echo")).collect();
        for round in 0..5 {
            for stream in &streams {
                h2.send_body(*stream, &message(1, format!("{stream} {round}").as_bytes()), false);
            }
            for stream in &streams {
                expect(&mut h2, *stream, &answer(1, format!("{stream} {round}").as_bytes()));
            }
        }
        // One that is reset takes no other along.
        h2.send(&Frame::reset(streams[0], code::CANCEL));
        h2.send_body(streams[1], &message(1, b"still"), false);
        expect(&mut h2, streams[1], &answer(1, b"still"));
    }

    fn closed_by_the_server(driver: Driver) {
        let (_server, gateway) = started(driver);
        let mut h2 = H2::connect(gateway.addr());
        let stream = h2.request_with_body(&connect("/close/4001"));
        h2.until("a close", |h2| h2.streams.get(&stream).is_some_and(|it| it.body.len() >= 4));
        assert_eq!(h2.streams[&stream].body[2..4], 4001_u16.to_be_bytes());
        h2.send_body(stream, &message(8, &4001_u16.to_be_bytes()), true);
        h2.until("the end", |h2| h2.streams[&stream].ended || h2.streams[&stream].reset.is_some());
    }

    fn refused(driver: Driver) {
        let (_server, gateway) = started(driver);
        let mut h2 = H2::connect(gateway.addr());
        let stream = h2.request_with_body(&connect("/refuse"));
        assert_eq!(h2.outcome(stream), Outcome::Response(403));
        assert_eq!(h2.streams[&stream].text(), "not for you\n");
        // Nobody there, and a protocol that nobody knows.
        let dead = Reserved::new();
        let gateway = Config::new().driver(driver).route(route(&dead.addr().to_string(), json!({}))).start();
        let mut h2 = H2::connect(gateway.addr());
        let stream = h2.request_with_body(&connect("/echo"));
        assert_eq!(h2.outcome(stream), Outcome::Response(502));
        let mut other = connect("/echo");
        other[1].1 = "connect-udp";
        let stream = h2.request_with_body(&other);
        let outcome = h2.outcome(stream);
        let refused = [
            Outcome::Response(400),
            Outcome::Response(405),
            Outcome::Response(501),
            Outcome::Reset(code::PROTOCOL_ERROR),
        ];
        assert!(refused.contains(&outcome), "{outcome:?}");
    }

    /// RFC 8441, section 4: `:scheme` and `:path` are there, and `:protocol` with CONNECT only.
    fn malformed(driver: Driver) {
        let (_server, gateway) = started(driver);
        let whole = connect("/echo");
        for left_out in [2, 4] {
            let mut h2 = H2::connect(gateway.addr());
            let mut fields = whole.to_vec();
            fields.remove(left_out);
            let stream = h2.request_with_body(&fields);
            let outcome = h2.outcome(stream);
            let refused = [
                Outcome::Response(400),
                Outcome::Reset(code::PROTOCOL_ERROR),
                Outcome::GoAway(code::PROTOCOL_ERROR),
            ];
            assert!(refused.contains(&outcome), "{outcome:?}");
        }
        let mut h2 = H2::connect(gateway.addr());
        open(&mut h2, "/echo");
    }
}
