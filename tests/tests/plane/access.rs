//! Who may use the Admin API: networks, keys and roles, browsers, HTTPS and client certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use osmia_tests::admin::KEY;
use osmia_tests::config::{Ended, run_in};
use osmia_tests::etcd::Certificates;
use osmia_tests::{Client, Config, Gateway};
use serde_json::{Value, json};

use crate::{json_of, refusal};

const ROUTES: &str = "/apisix/admin/routes";
const VIEWER: &str = "key-of-a-viewer";

fn route() -> Value {
    json!({"uri": "/", "upstream": {"nodes": {"127.0.0.1:1": 1}}})
}

fn status(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let body = if method == "GET" { String::new() } else { route().to_string() };
    gateway.admin().send(method, path, headers, body.as_bytes()).status()
}

/// Runs curl; its output is the body, a line feed and the status (`000`: no answer).
fn curl(arguments: &[&str]) -> Ended {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "30"])
        .args(["--write-out", "\n%{http_code}"])
        .args(arguments)
        .output()
        .expect("curl is installed (make test does)");
    Ended::from(output)
}

fn last_line(ended: &Ended) -> &str {
    ended.stdout.lines().last().unwrap_or_default()
}

#[test]
fn a_key_is_needed() {
    let gateway = Config::new().plane("embedded").start();
    let admin = gateway.admin();
    let refused = |headers: &[(&str, &str)], path: &str, description: &str| {
        for method in ["GET", "PUT", "DELETE", "POST", "PATCH"] {
            let answer = admin.send(method, path, headers, b"");
            assert_eq!(answer.status(), 401, "{method} {path}");
            let expected =
                json!({"error_msg": "failed to check token", "description": description});
            assert_eq!(json_of(&answer), expected);
        }
    };
    for path in [ROUTES, "/apisix/admin/routes/1", "/apisix/admin/export", "/apisix/admin/nothing"]
    {
        refused(&[], path, "missing apikey");
        for wrong in ["", "wrong", "KEY-OF-THE-TESTS", "key-of-the-test", "key-of-the-tests2"] {
            refused(&[("X-API-KEY", wrong)], path, "wrong apikey");
        }
    }
    refused(&[("Authorization", KEY)], ROUTES, "missing apikey");
    refused(&[("Cookie", "x_api_key=wrong")], ROUTES, "wrong apikey");
    refused(&[], "/apisix/admin/transaction", "missing apikey");
    refused(&[], "/apisix/admin/history", "missing apikey");
    refused(&[], "/apisix/admin/schema/route", "missing apikey");
    refused(&[], &format!("{ROUTES}?api_key=wrong"), "wrong apikey");
    // What the key may be in.
    assert_eq!(status(&gateway, "GET", ROUTES, &[("x-api-key", KEY)]), 200);
    assert_eq!(status(&gateway, "GET", &format!("{ROUTES}?api_key={KEY}"), &[]), 200);
    let cookie = format!("a=b; x_api_key={KEY}");
    assert_eq!(status(&gateway, "GET", ROUTES, &[("Cookie", &cookie)]), 200);
    // Tools look whether the API is there before they have a key.
    let head = admin.send("HEAD", "/apisix/admin", &[], b"");
    assert_eq!(head.status(), 200);
    let refused = gateway.log().wait_for(&["Admin API", "refused", "wrong apikey"]);
    assert!(refused.contains("127.0.0.1") && !refused.contains("wrong-"), "{refused}");
    assert_eq!(admin.json(ROUTES)["total"], 0);
}

#[test]
fn a_viewer_may_only_look() {
    let keys = json!([
        {"name": "root", "key": KEY, "role": "admin"},
        {"name": "guest", "key": VIEWER, "role": "viewer"},
    ]);
    let gateway = Config::new().plane("embedded").set("deployment.admin.admin_key", keys).start();
    let viewer = [("X-API-KEY", VIEWER)];
    for path in
        [ROUTES, "/apisix/admin/export", "/apisix/admin/history", "/apisix/admin/schema/ssl"]
    {
        assert_eq!(status(&gateway, "GET", path, &viewer), 200, "{path}");
    }
    for (method, path) in [
        ("PUT", "/apisix/admin/routes/1"),
        ("POST", ROUTES),
        ("PATCH", "/apisix/admin/routes/1"),
        ("DELETE", "/apisix/admin/routes/1"),
        ("POST", "/apisix/admin/transaction"),
        ("POST", "/apisix/admin/rollback"),
        ("POST", "/apisix/admin/configs/validate"),
    ] {
        let answer = gateway.admin().send(method, path, &viewer, route().to_string().as_bytes());
        assert_eq!(answer.status(), 401, "{method} {path}");
        assert_eq!(json_of(&answer)["description"], "invalid method for role viewer");
    }
    let root = [("X-API-KEY", KEY)];
    assert_eq!(status(&gateway, "PUT", "/apisix/admin/routes/1", &root), 201);
    let history = gateway.admin().json("/apisix/admin/history");
    assert_eq!(history["list"][0]["author"]["name"], "root");
}

#[test]
fn without_keys_only_when_that_is_said() {
    let gateway =
        Config::new().plane("embedded").set("deployment.admin.admin_key_required", false).start();
    gateway.log().wait_for(&["WARN", "admin_key_required"]);
    assert_eq!(status(&gateway, "PUT", "/apisix/admin/routes/1", &[]), 201);
    let history = gateway.admin().json("/apisix/admin/history");
    assert_eq!(history["list"][0]["author"]["address"], "127.0.0.1");
}

#[test]
fn networks() {
    let start = |allow: Value| {
        Config::new().plane("embedded").set("deployment.admin.allow_admin", allow).start()
    };
    let from = |gateway: &Gateway, address: &str| {
        let key = format!("X-API-KEY: {KEY}");
        let url = format!("http://{}{ROUTES}", gateway.admin().addr);
        curl(&["--interface", address, "--header", &key, &url])
    };
    let gateway = start(json!(["127.0.0.2/32", "127.0.9.0/24", "::1"]));
    for (address, expected) in
        [("127.0.0.1", "403"), ("127.0.0.2", "200"), ("127.0.0.3", "403"), ("127.0.9.77", "200")]
    {
        let answer = from(&gateway, address);
        assert_eq!(last_line(&answer), expected, "{address}: {}", answer.stdout);
    }
    // Not even the question whether the API is there, nor a browser's.
    assert_eq!(status(&gateway, "HEAD", "/apisix/admin", &[]), 403);
    assert_eq!(status(&gateway, "OPTIONS", ROUTES, &[]), 403);
    // What a client says about itself does not count.
    let lie = [("X-Forwarded-For", "127.0.0.2"), ("X-Real-IP", "127.0.0.2"), ("X-API-KEY", KEY)];
    let answer = gateway.admin().send("GET", ROUTES, &lie, b"");
    let (code, reason) = refusal(&answer);
    assert!(code == 403 && reason.contains("allow_admin"), "{answer}");
    // Without the setting, as in APISIX, 127.0.0.0/24; with an empty list everybody.
    let gateway = Config::new().plane("embedded").start();
    assert_eq!(last_line(&from(&gateway, "127.0.0.9")), "200");
    assert_eq!(last_line(&from(&gateway, "127.0.1.1")), "403");
    let gateway = start(json!([]));
    assert_eq!(last_line(&from(&gateway, "127.0.1.1")), "200");
    let wrong = Config::new().plane("embedded").set("deployment.admin.allow_admin", json!(["x"]));
    let ended = wrong.start_refused();
    assert!(ended.complaint().contains("allow_admin"), "{}", ended.stderr);
}

#[test]
fn browsers() {
    let gateway = Config::new().plane("embedded").start();
    let ask = [("Origin", "http://dashboard.test"), ("Access-Control-Request-Method", "PUT")];
    let answer = gateway.admin().send("OPTIONS", ROUTES, &ask, b"");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
    let methods = answer.field("Access-Control-Allow-Methods").unwrap();
    for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"] {
        assert!(methods.contains(method), "{methods}");
    }
    assert_eq!(answer.field("Access-Control-Allow-Headers"), Some("*"));
    for headers in [&[("X-API-KEY", KEY)][..], &[]] {
        let answer = gateway.admin().send("GET", ROUTES, headers, b"");
        assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"), "{answer}");
        assert_eq!(answer.field("X-API-VERSION"), Some("v3"));
        assert!(answer.field("Server").unwrap().starts_with("APISIX/"));
    }
    let gateway =
        Config::new().plane("embedded").set("deployment.admin.enable_admin_cors", false).start();
    let answer = gateway.admin().send("GET", ROUTES, &[("X-API-KEY", KEY)], b"");
    assert_eq!(answer.field("Access-Control-Allow-Origin"), None);
    let answer = gateway.admin().send("OPTIONS", ROUTES, &ask, b"");
    assert_eq!(answer.field("Access-Control-Allow-Origin"), None, "{answer}");
    assert!(answer.status() >= 400, "{answer}");
}

fn https(certificates: &Certificates, mutual: bool) -> Config {
    let file = |name: &str| json!(certificates.file(name));
    let mut files =
        json!({"admin_ssl_cert": file("server.crt"), "admin_ssl_cert_key": file("server.key")});
    if mutual {
        files["admin_ssl_ca_cert"] = file("ca.crt");
    }
    Config::new()
        .plane("embedded")
        .set("deployment.admin.https_admin", true)
        .set("deployment.admin.admin_api_mtls", files)
}

#[test]
fn https_and_the_command_line() {
    let certificates = Certificates::make();
    let gateway = https(&certificates, false).start();
    let addr = gateway.admin().addr;
    let (key, url) = (format!("X-API-KEY: {KEY}"), format!("https://{addr}{ROUTES}"));
    let authority = certificates.file("ca.crt").display().to_string();
    for version in ["--http1.1", "--http2"] {
        let answer = curl(&["--cacert", &authority, version, "--header", &key, &url]);
        assert_eq!(last_line(&answer), "200", "{} {}", answer.stdout, answer.stderr);
        let answer = curl(&["--cacert", &authority, version, &url]);
        assert_eq!(last_line(&answer), "401", "{}", answer.stdout);
    }
    let answer = curl(&["--cacert", &authority, "--tls-max", "1.1", "--header", &key, &url]);
    assert_ne!(answer.code, Some(0), "TLS 1.1: {}", answer.stdout);
    let answer = curl(&["--header", &key, &url]);
    assert_eq!(answer.code, Some(60), "a certificate of nobody's: {}", answer.stderr);
    // Plain text on the port of HTTPS is not answered with anything of the API.
    let answer = curl(&["--header", &key, &url.replace("https", "http")]);
    assert_ne!(last_line(&answer), "200", "{}", answer.stdout);
    // `osmia config` over the same.
    let directory = tempfile::tempdir().unwrap();
    let admin = format!("https://{addr}");
    let with = |arguments: &[&str]| {
        let access = ["config", "--admin", &admin, "--key", KEY];
        run_in(directory.path(), &[&access[..], arguments].concat())
    };
    let dump = with(&["--ca", &authority, "dump"]);
    assert_eq!((dump.code, dump.stdout.trim()), (Some(0), "#END"), "{}", dump.stderr);
    let strange = with(&["dump"]);
    assert_eq!(strange.code, Some(2));
    assert!(strange.stderr.contains("certificate"), "{}", strange.stderr);
}

#[test]
fn client_certificates() {
    let certificates = Certificates::make();
    let strangers = Certificates::make();
    let gateway = https(&certificates, true).start();
    let addr = gateway.admin().addr;
    let (key, url) = (format!("X-API-KEY: {KEY}"), format!("https://{addr}{ROUTES}"));
    let file = |of: &Certificates, name: &str| of.file(name).display().to_string();
    let authority = file(&certificates, "ca.crt");
    let identity = |of| [file(of, "client.crt"), file(of, "client.key")];
    let call = |identity: &[String; 2], key: &str| {
        let [cert, secret] = identity;
        curl(&["--cacert", &authority, "--cert", cert, "--key", secret, "--header", key, &url])
    };
    let known = call(&identity(&certificates), &key);
    assert_eq!(last_line(&known), "200", "{} {}", known.stdout, known.stderr);
    // A certificate is no key.
    assert_eq!(last_line(&call(&identity(&certificates), "X-None: 1")), "401");
    let stranger = call(&identity(&strangers), &key);
    assert_eq!((stranger.code == Some(0), last_line(&stranger)), (false, "000"));
    let nobody = curl(&["--cacert", &authority, "--header", &key, &url]);
    assert_eq!((nobody.code == Some(0), last_line(&nobody)), (false, "000"));
    let [cert, secret] = identity(&certificates);
    let directory = tempfile::tempdir().unwrap();
    let admin = format!("https://{addr}");
    let access = ["config", "--admin", &admin, "--key", KEY, "--ca", &authority];
    let own = [&access[..], &["--cert", &cert, "--cert-key", &secret, "history"]].concat();
    let history = run_in(directory.path(), &own);
    assert_eq!(history.code, Some(0), "{}", history.stderr);
    let none = run_in(directory.path(), &[&access[..], &["history"]].concat());
    assert_eq!(none.code, Some(2), "{}", none.stdout);
}

#[test]
fn certificates_that_cannot_be_used() {
    let certificates = Certificates::make();
    for (key, file, parts) in [
        ("admin_ssl_cert", "nowhere.crt", ["nowhere.crt", "admin_api_mtls"]),
        ("admin_ssl_cert", "server.key", ["server.key", "admin_api_mtls"]),
        ("admin_ssl_cert_key", "client.key", ["server.crt", "admin_api_mtls"]),
        ("admin_ssl_ca_cert", "nowhere.crt", ["nowhere.crt", "admin_api_mtls"]),
    ] {
        let path = format!("deployment.admin.admin_api_mtls.{key}");
        let ended =
            https(&certificates, true).set(&path, json!(certificates.file(file))).start_refused();
        for part in parts {
            assert!(ended.complaint().contains(part), "{part} in {}", ended.stderr);
        }
    }
}

#[test]
fn generated_keys_are_kept_to_oneself() {
    let keys = json!([
        {"name": "root", "key": "", "role": "admin"},
        {"name": "guest", "key": "", "role": "viewer"},
    ]);
    let config = || Config::new().plane("embedded").set("deployment.admin.admin_key", keys.clone());
    let mut gateway = config().start();
    let (admin_file, viewer_file) =
        (gateway.file("data/admin.key"), gateway.file("data/viewer.key"));
    for file in [&admin_file, &viewer_file] {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let read = |file| fs::read_to_string(file).unwrap().trim().to_owned();
    let (admin, viewer) = (read(&admin_file), read(&viewer_file));
    assert_ne!(admin, viewer);
    let put = |gateway: &Gateway, key: &str| {
        status(gateway, "PUT", "/apisix/admin/routes/1", &[("X-API-KEY", key)])
    };
    assert_eq!((put(&gateway, &admin), put(&gateway, &viewer)), (201, 401));
    assert_eq!(status(&gateway, "GET", ROUTES, &[("X-API-KEY", &viewer)]), 200);
    for path in ["/v1/osmia/status", "/v1/schema"] {
        assert!(!gateway.control().json(path).to_string().contains(&admin));
    }
    // Others can read it: it still works, and the operator is told.
    fs::set_permissions(&admin_file, fs::Permissions::from_mode(0o644)).unwrap();
    gateway.kill_and_restart();
    gateway.log().wait_for(&["osmia is ready"]);
    gateway.log().wait_for(&["WARN", "admin.key", "chmod 600"]);
    assert_eq!(put(&gateway, &admin), 200);
    let log = gateway.stop();
    assert!(!log.contains(&admin) && !log.contains(&viewer), "a key is in the log");
    // What is no key is not taken for one, and not replaced either.
    for text in ["", "\n", "short", "two words that are long enough"] {
        let config = config();
        fs::create_dir(config.file("data")).unwrap();
        fs::write(config.file("data/admin.key"), text).unwrap();
        let ended = config.start_refused();
        assert!(ended.complaint().contains("admin.key"), "{}", ended.stderr);
        assert_eq!(fs::read_to_string(config.file("data/admin.key")).unwrap(), text);
    }
}

#[test]
fn the_body_cap_is_apisixs() {
    let gateway = Config::new().plane("embedded").start();
    let key = [("X-API-KEY", KEY)];
    let filler = |length: usize| {
        let empty = json!({"uri": "/", "upstream": {"nodes": {"127.0.0.1:1": 1}}}).to_string();
        format!("{empty}{}", " ".repeat(length - empty.len()))
    };
    let put =
        |body: &str| gateway.admin().send("PUT", "/apisix/admin/routes/1", &key, body.as_bytes());
    assert_eq!(put(&filler(1_572_864)).status(), 201);
    let (code, reason) = refusal(&put(&filler(1_572_865)));
    assert_eq!(code, 400);
    let text = "request size 1572865 is greater than the maximum size 1572864 allowed";
    assert_eq!(reason, format!("invalid request body: {text}"));
    // The client is told before it has sent what is too much.
    let mut client = Client::connect(gateway.admin().addr);
    client.send(format!(
        "PUT /apisix/admin/routes/1 HTTP/1.1\r\nHost: a\r\nX-API-KEY: {KEY}\r\n\
         Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
    ));
    let answer = client.head();
    assert!(
        ["HTTP/1.1 400", "HTTP/1.1 413"].iter().any(|s| answer.start.starts_with(s)),
        "{answer}"
    );
}
