//! curl: each version of HTTP, with TLS and without, and certificates of both sides.

use std::process::Command;

use osmia_tests::tls::Authority;
use osmia_tests::{on_each_driver, pattern};
use serde_json::json;

use super::program::{Said, run};
use super::{Front, NAME};

/// curl's code when it does not trust the certificate.
const NOT_TRUSTED: Option<i32> = Some(60);

/// Runs curl, which finds `names` at the gateway. Prints the body, and a line with version and
/// status.
#[track_caller]
fn curl(front: &Front, names: &[&str], arguments: &[&str]) -> Said {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "50"]);
    command.args(["--write-out", "\n%{http_version} %{http_code}"]);
    let port = front.gateway.tls_addr().port();
    for name in names {
        command.args(["--resolve", &format!("{name}:{port}:127.0.0.1")]);
    }
    run(command.args(arguments), b"")
}

#[track_caller]
fn says(front: &Front, arguments: &[&str], expected: &str) {
    let ca = front.ca();
    let arguments = [&["--cacert", ca.to_str().unwrap()][..], arguments].concat();
    assert_eq!(curl(front, &[NAME], &arguments).ok().stdout, expected, "{arguments:?}");
}

on_each_driver! {
    fn each_version(driver: Driver) {
        let front = Front::start(driver);
        let plain = format!("http://{}/", front.gateway.addr());
        let secure = front.url(NAME, "/");
        says(&front, &["--http2-prior-knowledge", &plain], "hello\n2 200");
        says(&front, &["--http1.1", &plain], "hello\n1.1 200");
        // Asks for an upgrade to h2c, which RFC 9113, section 3.1, has given up.
        says(&front, &["--http2", &plain], "hello\n1.1 200");
        says(&front, &["--http2", &secure], "hello\n2 200");
        says(&front, &["--http1.1", &secure], "hello\n1.1 200");
        says(&front, &["--no-alpn", &secure], "hello\n1.1 200");
        says(&front, &["--tls-max", "1.2", "--http2", &secure], "hello\n2 200");
        says(&front, &["--tlsv1.3", "--http2", &secure], "hello\n2 200");
    }

    fn bodies_both_ways(driver: Driver) {
        let front = Front::start(driver);
        let (file, back) = (front.gateway.file("body"), front.gateway.file("back"));
        let body = pattern::bytes(0, 3_000_000);
        std::fs::write(&file, &body).unwrap();
        let upload = format!("@{}", file.display());
        for version in ["--http1.1", "--http2"] {
            let url = front.url(NAME, "/echo");
            let to = ["--data-binary", &upload, "--output", back.to_str().unwrap(), version, &url];
            let expected = if version == "--http2" { "\n2 200" } else { "\n1.1 200" };
            says(&front, &to, expected);
            assert!(std::fs::read(&back).unwrap() == body, "{version}");
        }
        says(&front, &["--head", "--output", "/dev/null", &front.url(NAME, "/size/100")], "\n2 200");
    }

    fn many_transfers_on_one_connection(driver: Driver) {
        let front = Front::start(driver);
        let url = front.url(NAME, "/size/[1000-1099]");
        let ca = front.ca();
        let said = curl(&front, &[NAME], &[
            "--cacert", ca.to_str().unwrap(), "--parallel", "--http2", "--output", "/dev/null", &url,
        ]).ok();
        assert_eq!(said.stdout.matches("2 200").count(), 100, "{}", said.all());
    }

    fn an_authority_that_is_not_trusted(driver: Driver) {
        let front = Front::start(driver);
        let other = front.gateway.file("other.pem");
        std::fs::write(&other, Authority::new("another").pem()).unwrap();
        let url = front.url(NAME, "/");
        assert_eq!(curl(&front, &[NAME], &["--cacert", other.to_str().unwrap(), &url]).code, NOT_TRUSTED);
        assert!(front.origin.seen().is_empty());
        says(&front, &[&url], "hello\n2 200");
    }

    /// Exact names win over wildcards; a name without a certificate gets none.
    fn the_name_chooses_the_certificate(driver: Driver) {
        let (exact, wild) = (Authority::new("exact"), Authority::new("wild"));
        let front = Front::start_with(driver, |config| {
            config
                .ssl(exact.issue(&["b.test", "x.b.test"]).resource("2", &["b.test", "x.b.test"]))
                .ssl(wild.issue(&["*.b.test"]).resource("3", &["*.b.test"]))
        });
        let trust = |name: &str, authority: &Authority| {
            let file = front.gateway.file(name);
            std::fs::write(&file, authority.pem()).unwrap();
            file.to_str().unwrap().to_owned()
        };
        let files = [trust("exact.pem", &exact), trust("wild.pem", &wild), front.ca().to_str().unwrap().to_owned()];
        for (name, by) in [("b.test", 0), ("x.b.test", 0), ("y.b.test", 1), (NAME, 2)] {
            for (number, file) in files.iter().enumerate() {
                let said = curl(&front, &[name], &["--cacert", file, &front.url(name, "/")]);
                if number == by {
                    assert_eq!(said.ok().stdout, "hello\n2 200", "{name}");
                } else {
                    assert_eq!(said.code, NOT_TRUSTED, "{name} {number}: {}", said.all());
                }
            }
        }
        let said = curl(&front, &["c.test"], &["--insecure", &front.url("c.test", "/")]);
        assert_ne!(said.code, Some(0), "{}", said.all());
        says(&front, &[&front.url(NAME, "/")], "hello\n2 200");
    }

    /// `client.ca` of the resource: without a certificate of that authority nothing is served.
    fn clients_show_certificates(driver: Driver) {
        let clients = Authority::new("of clients");
        let front = Front::start_with(driver, |config| {
            let identity = Authority::default().issue(&["m.test"]);
            let mut ssl = identity.resource("2", &["m.test"]);
            ssl["client"] = json!({"ca": clients.pem()});
            config.ssl(ssl)
        });
        let url = front.url("m.test", "/mutual");
        let good = front.write("good", &clients.issue_client("good"));
        let bad = front.write("bad", &Authority::new("another").issue_client("bad"));
        let mut served = 0;
        for (identity, welcome) in [(Some(&good), true), (Some(&bad), false), (None, false)] {
            for version in ["--http1.1", "--http2"] {
                let mut arguments = vec!["--insecure", version, &url];
                if let Some((cert, key)) = identity {
                    arguments.extend(["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()]);
                }
                let said = curl(&front, &["m.test"], &arguments);
                if welcome {
                    assert!(said.ok().stdout.ends_with(" 200"), "{version}");
                    served += 1;
                } else {
                    // The handshake fails, or the request is refused: APISIX says 400.
                    let refused = said.code != Some(0) || said.stdout.ends_with(" 400");
                    assert!(refused, "{}", said.all());
                }
            }
        }
        let seen = front.origin.seen().iter().filter(|seen| seen.target() == "/mutual").count();
        assert_eq!(seen, served);
        // The other name asks for nothing.
        says(&front, &[&front.url(NAME, "/")], "hello\n2 200");
        assert!(!front.identity.key.is_empty() && !front.authority.pem().is_empty());
    }
}
