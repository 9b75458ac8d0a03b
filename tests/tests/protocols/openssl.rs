//! `openssl s_client`: versions, names, resumption, renegotiation.

use std::process::Command;

use osmia_tests::{Client, on_each_driver};

use super::program::{Said, run};
use super::{Front, NAME};

const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

#[track_caller]
fn s_client(front: &Front, arguments: &[&str], input: &[u8]) -> Said {
    let addr = front.gateway.tls_addr().to_string();
    let ca = front.ca();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &addr, "-CAfile", ca.to_str().unwrap()]);
    run(command.args(arguments), input)
}

on_each_driver! {
    fn versions(driver: Driver) {
        let front = Front::start(driver);
        for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let said = s_client(&front, &["-servername", NAME, version, "-ign_eof"], ASK).ok();
            assert!(said.stdout.contains("hello"), "{}", said.all());
            assert!(said.stdout.contains(shown), "{}", said.all());
            assert!(said.stdout.contains("Verify return code: 0 (ok)"), "{}", said.all());
        }
        for version in ["-tls1", "-tls1_1"] {
            let weak = ["-servername", NAME, version, "-cipher", "ALL:@SECLEVEL=0", "-ign_eof"];
            let said = s_client(&front, &weak, ASK);
            assert!(!said.stdout.contains("hello"), "{}", said.all());
        }
        assert_eq!(front.origin.seen().len(), 2);
    }

    fn protocols_are_negotiated(driver: Driver) {
        let front = Front::start(driver);
        for (offered, expected) in [("h2", "ALPN protocol: h2"), ("http/1.1", "ALPN protocol: http/1.1")] {
            let said = s_client(&front, &["-servername", NAME, "-alpn", offered], b"");
            assert!(said.stdout.contains(expected), "{}", said.all());
        }
        let said = s_client(&front, &["-servername", NAME], b"");
        assert!(said.stdout.contains("No ALPN negotiated"), "{}", said.all());
    }

    /// A name without a certificate, and none at all.
    fn names(driver: Driver) {
        let front = Front::start(driver);
        for arguments in [&["-servername", "other.test", "-ign_eof"][..], &["-noservername", "-ign_eof"]] {
            let said = s_client(&front, arguments, ASK);
            assert!(!said.stdout.contains("hello"), "{}", said.all());
        }
        assert!(front.origin.seen().is_empty());
        let said = s_client(&front, &["-servername", NAME, "-ign_eof"], ASK).ok();
        assert!(said.stdout.contains("hello"), "{}", said.all());
    }

    fn sessions_are_resumed(driver: Driver) {
        let front = Front::start(driver);
        let file = front.gateway.file("session");
        let file = file.to_str().unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            let first = ["-servername", NAME, version, "-ign_eof", "-sess_out", file];
            let said = s_client(&front, &first, ASK).ok();
            assert!(said.stdout.contains("\nNew, "), "{version}: {}", said.all());
            let again = ["-servername", NAME, version, "-ign_eof", "-sess_in", file];
            let said = s_client(&front, &again, ASK).ok();
            assert!(said.stdout.contains("\nReused, "), "{version}: {}", said.all());
            assert!(said.stdout.contains("hello"), "{version}: {}", said.all());
        }
    }

    /// A session of one name is none of another's (APISIX refuses it for client certificates).
    fn sessions_are_of_one_name(driver: Driver) {
        let front = Front::start_with(driver, |config| {
            let other = osmia_tests::tls::Authority::new("other").issue(&["b.test"]);
            config.ssl(other.resource("2", &["b.test"]))
        });
        let file = front.gateway.file("session");
        let file = file.to_str().unwrap();
        s_client(&front, &["-servername", NAME, "-ign_eof", "-sess_out", file], ASK).ok();
        let said = s_client(&front, &["-servername", "b.test", "-ign_eof", "-sess_in", file], ASK);
        assert!(!said.stdout.contains("\nReused, "), "{}", said.all());
    }

    /// RFC 5746: the client asks for a second handshake, and waits for it until its time is over.
    fn nobody_renegotiates(driver: Driver) {
        let front = Front::start_with(driver, |config| {
            config.http("client_header_timeout", "1s").http("keepalive_timeout", "1s")
        });
        let said = s_client(&front, &["-servername", NAME, "-tls1_2"], b"R\n").all();
        assert!(said.contains("RENEGOTIATING"), "it was not tried: {said}");
        assert_eq!(said.matches("depth=0").count(), 1, "two handshakes: {said}");
        let again = s_client(&front, &["-servername", NAME, "-ign_eof"], ASK).ok();
        assert!(again.stdout.contains("hello"), "{}", again.all());
    }

    /// nginx says "The plain HTTP request was sent to HTTPS port".
    fn plain_http_to_the_tls_listener_is_told_so(driver: Driver) {
        let front = Front::start(driver);
        let mut client = Client::connect(front.gateway.tls_addr());
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.field("Connection"), Some("close"));
        client.finish();
        client.expect_end();
        assert!(front.origin.seen().is_empty());
    }
}
