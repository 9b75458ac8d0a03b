//! gRPC with grpcio on both ends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};

use osmia_tests::config::upstream_of;
use osmia_tests::h2::{Frame, H2, Outcome, code, flag, frame, hpack, kind};
use osmia_tests::port::Reserved;
use osmia_tests::tls::Authority;
use osmia_tests::{Config, Driver, Gateway, on_each_driver};
use serde_json::json;

use super::program::{Server, check};
use super::{Front, NAME, route};

/// A node that takes calls and says nothing, or no more than that it begins to answer.
struct SilentNode {
    addr: SocketAddr,
    /// The codes of streams that were given up.
    resets: Receiver<u32>,
}

impl SilentNode {
    fn start(begins: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (told, resets) = channel();
        std::thread::spawn(move || {
            // It ends with the gateway's connection; should it fail, its stream is never reset.
            let _ = Self::serve(&listener, begins, &told);
        });
        Self { addr, resets }
    }

    fn serve(listener: &TcpListener, begins: bool, told: &Sender<u32>) -> std::io::Result<()> {
        let (mut gateway, _) = listener.accept()?;
        gateway.read_exact(&mut [0; frame::PREFACE.len()])?;
        gateway.write_all(&Frame::settings(&[]).bytes())?;
        let (mut received, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let Some(frame) = Frame::take(&mut received) else {
                let len = gateway.read(&mut part)?;
                if len == 0 {
                    return Ok(());
                }
                received.extend_from_slice(&part[..len]);
                continue;
            };
            match frame.kind {
                kind::HEADERS if begins => {
                    let head = [(":status", "200"), ("content-type", "application/grpc")];
                    let head = Frame::headers(frame.stream, hpack::block(&head), false);
                    gateway.write_all(&head.bytes())?;
                }
                kind::SETTINGS if !frame.has(flag::ACK) => {
                    gateway.write_all(&Frame::settings_ack().bytes())?;
                }
                kind::RST_STREAM => {
                    let _ = told.send(frame.number(0));
                }
                _ => {}
            }
        }
    }
}

/// The checks hold without a gateway: a failure with one is the gateway's.
#[test]
fn the_checks_hold_without_a_gateway() {
    let server = Server::start("grpc_echo.py", &[]);
    check("grpc_check.py", &[&server.node()]);
}

fn call<'a>(path: &'a str, timeout: &'a str) -> [(&'a str, &'a str); 7] {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", NAME),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", timeout),
    ]
}

/// A gateway in front of one node of gRPC.
fn gateway_of(driver: Driver, node: SocketAddr) -> Gateway {
    let upstream = upstream_of(&[node.to_string()], json!({"scheme": "grpc"}));
    let route = json!({"id": "1", "uri": "/*", "upstream": upstream});
    Config::new().driver(driver).route(route).start()
}

on_each_driver! {
    fn calls_go_through(driver: Driver) {
        let server = Server::start("grpc_echo.py", &[]);
        let upstream = upstream_of(&[server.node()], json!({"scheme": "grpc"}));
        let gateway = Config::new()
            .driver(driver)
            .route(json!({"id": "1", "uri": "/test.Echo/*", "upstream": upstream}))
            .start();
        check("grpc_check.py", &[&gateway.addr().to_string()]);
    }

    /// TLS on both sides.
    fn calls_go_through_over_tls(driver: Driver) {
        let folder = tempfile::tempdir().unwrap();
        let identity = Authority::new("of the upstream").issue(&["upstream.test"]);
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, &identity.cert).unwrap();
        std::fs::write(&key, &identity.key).unwrap();
        let server = Server::start("grpc_echo.py", &[&cert, &key]);
        let front = Front::start_with(driver, |config| {
            let mut first = route(&server.node(), json!({"scheme": "grpcs"}));
            first["id"] = json!("grpc");
            first["uri"] = json!("/test.Echo/*");
            config.route(first)
        });
        let addr = front.gateway.tls_addr().to_string();
        check("grpc_check.py", &[&addr, front.ca().to_str().unwrap(), NAME]);
    }

    /// A client's time limit holds although neither client nor node does anything about it, whatever
    /// part of the call is waited for; and the node is told that nobody waits any more.
    fn calls_end_with_their_time(driver: Driver) {
        for (begun, ended) in [(false, true), (false, false), (true, true), (true, false)] {
            let node = SilentNode::start(begun);
            let gateway = gateway_of(driver, node.addr);
            let mut h2 = H2::connect(gateway.addr());
            let stream = h2.request_with_body(&call("/test.Echo/Unary", "300m"));
            h2.send(&Frame::data(stream, [0; 5], ended));
            let outcome = h2.outcome(stream);
            if begun {
                assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
            } else {
                assert_eq!(outcome, Outcome::Response(200));
                assert_eq!(h2.streams[&stream].field("grpc-status"), Some("4"));
            }
            assert_eq!(node.resets.recv(), Ok(code::CANCEL));
        }
    }

    /// Errors of the gateway's own are those that a gRPC client understands: an HTTP status, or a
    /// status in trailers.
    fn a_dead_upstream_is_an_error_of_the_call(driver: Driver) {
        let dead = Reserved::new();
        let gateway = gateway_of(driver, dead.addr());
        let mut h2 = H2::connect(gateway.addr());
        let stream = h2.request_with_body(&call("/test.Echo/Unary", "10S"));
        h2.send(&Frame::data(stream, [0; 5], true));
        let outcome = h2.outcome(stream);
        let exchange = &h2.streams[&stream];
        let said = exchange.field("grpc-status").is_some_and(|code| code != "0");
        assert!(outcome == Outcome::Response(502) || said, "{outcome:?} {exchange:?}");
    }
}
