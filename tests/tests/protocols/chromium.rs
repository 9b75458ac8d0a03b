//! A browser loads a page and what belongs to it over TLS and HTTP/2.

use std::path::Path;
use std::process::Command;

use osmia_tests::tls::Authority;
use osmia_tests::{Config, Driver, Upstream};
use serde_json::json;

use super::program::run;
use super::{NAME, route};

/// The page tells by which protocol it and its script came.
const PAGE: &str = "<!doctype html><title>x</title><p id=page></p><p id=script></p>\
    <script src=/script.js></script><script>\
    const of = entry => entry ? entry.nextHopProtocol : 'none';\
    page.textContent = 'page ' + of(performance.getEntriesByType('navigation')[0]);\
    script.textContent = 'script ' + window.loaded + ' ' + of(performance.getEntriesByType('resource')[0]);\
    </script>";

fn browser() -> Option<&'static str> {
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .into_iter()
        .find(|path| Path::new(path).exists())
}

#[test]
fn a_page_is_loaded_over_http_2() {
    let Some(browser) = browser() else {
        eprintln!("skipped: no Chromium on this machine (Debian package chromium)");
        return;
    };
    let upstream = Upstream::serving(|mut peer| {
        while let Some(request) = peer.request_or_end() {
            let (kind, body) = match request.target() {
                "/" => ("text/html", PAGE),
                "/script.js" => ("text/javascript", "window.loaded = 'done'"),
                _ => ("text/plain", ""),
            };
            let length = body.len();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
        }
    });
    let identity = Authority::default().issue(&[NAME]);
    let gateway = Config::new()
        .driver(Driver::Epoll)
        .tls()
        .ssl(identity.resource("1", &[NAME]))
        .route(route(&upstream.node(), json!({})))
        .start();
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    command.args(["--disable-background-networking", "--no-first-run", "--no-proxy-server"]);
    command.args(["--ignore-certificate-errors", "--disable-quic"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("--host-resolver-rules=MAP {NAME} 127.0.0.1"));
    command.arg("--dump-dom").arg(format!("https://{NAME}:{}/", gateway.tls_addr().port()));
    let said = run(&mut command, b"").ok();
    assert!(said.stdout.contains("page h2"), "{}", said.all());
    assert!(said.stdout.contains("script done h2"), "{}", said.all());
}
