//! gRPC with grpcio on both ends.

use osmia_tests::config::upstream_of;
use osmia_tests::h2::{Frame, H2, Outcome};
use osmia_tests::port::Reserved;
use osmia_tests::tls::Authority;
use osmia_tests::{Config, on_each_driver};
use serde_json::json;

use super::program::{Server, check};
use super::{Front, NAME, route};

/// The checks hold without a gateway: a failure with one is the gateway's.
#[test]
fn the_checks_hold_without_a_gateway() {
    let server = Server::start("grpc_echo.py", &[]);
    check("grpc_check.py", &[&server.node()]);
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

    /// Errors of the gateway's own are those that a gRPC client understands: an HTTP status, or a
    /// status in trailers.
    fn a_dead_upstream_is_an_error_of_the_call(driver: Driver) {
        let dead = Reserved::new();
        let upstream = upstream_of(&[dead.addr().to_string()], json!({"scheme": "grpc"}));
        let gateway = Config::new()
            .driver(driver)
            .route(json!({"id": "1", "uri": "/*", "upstream": upstream}))
            .start();
        let mut h2 = H2::connect(gateway.addr());
        let stream = h2.request_with_body(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", NAME),
            (":path", "/test.Echo/Unary"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]);
        h2.send(&Frame::data(stream, [0; 5], true));
        let outcome = h2.outcome(stream);
        let exchange = &h2.streams[&stream];
        let said = exchange.field("grpc-status").is_some_and(|code| code != "0");
        assert!(outcome == Outcome::Response(502) || said, "{outcome:?} {exchange:?}");
    }
}
