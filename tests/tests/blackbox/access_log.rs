//! The access log.

use std::path::{Path, PathBuf};

use osmia_tests::port::Reserved;
use osmia_tests::{Client, Config, Driver, Gateway, Upstream, eventually, on_each_driver};
use serde_json::json;

const FORMAT: &str = "$remote_addr|$request|$status|$body_bytes_sent|$http_host|$http_referer|$upstream_addr|\
                      $upstream_status|$request_length|$bytes_sent|$uri|$args|$connection_requests|$server_port";

/// A gateway that logs in `format` to `access.log`.
fn logging(driver: Driver, upstream: &Upstream, format: &str) -> Config {
    Config::proxy(driver, upstream)
        .http("access_log", "access.log")
        .http("access_log_format", format)
}

fn read(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits for `count` lines.
#[track_caller]
fn lines(gateway: &Gateway, count: usize) -> Vec<String> {
    let path = gateway.file("access.log");
    eventually(&format!("{count} lines in the log"), || read(&path).len() >= count);
    let lines = read(&path);
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

/// The rotated files.
fn rotated(gateway: &Gateway) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(gateway.file("")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("access.log."))
        .collect();
    found.sort();
    found
}

on_each_driver! {
    fn a_line_per_request_with_what_the_format_asks_for(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = logging(driver, &upstream, FORMAT).start();
        let mut client = gateway.client();
        let get = "GET /a//b?x=1 HTTP/1.1\r\nHost: A.test\r\nReferer: http://r/\"q\r\n\r\n";
        let post = "POST /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody";
        client.send(get);
        let mut peer = upstream.accept();
        peer.serve_one("hello");
        let first = client.response();
        client.send(post);
        peer.serve_one("");
        let second = client.response();
        let (node, port) = (upstream.node(), gateway.addr().port());
        let sent = |response: &osmia_tests::Message| {
            // The head as it was sent: start line, fields, blank line.
            let fields = response.fields.iter().map(|(name, value)| name.len() + value.len() + 4);
            response.start.len() + 2 + fields.sum::<usize>() + 2 + response.body.len()
        };
        let expected = [
            format!(
                "127.0.0.1|GET /a//b?x=1 HTTP/1.1|200|5|A.test|http://r/\\x22q|{node}|200|{}|{}|/a/b|x=1|1|{port}",
                get.len(),
                sent(&first)
            ),
            format!(
                "127.0.0.1|POST /p HTTP/1.1|200|0|a.test|-|{node}|200|{}|{}|/p|-|2|{port}",
                post.len(),
                sent(&second)
            ),
        ];
        assert_eq!(lines(&gateway, 2), expected);
    }

    fn the_default_format_is_apisixs(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).http("access_log", "access.log").start();
        let request = "GET /u HTTP/1.0\r\nHost: a.test\r\nUser-Agent: test\r\nAuthorization: Basic am9lOnB3\r\n\r\n";
        assert_eq!(gateway.client().exchange(request).status(), 200);
        let line = lines(&gateway, 1).remove(0);
        assert!(line.starts_with("127.0.0.1 - joe ["), "{line}");
        let node = upstream.node();
        for part in
            ["] a.test \"GET /u HTTP/1.0\" 200 1 0.", "\"-\" \"test\"", &format!(" {node} 200 0."), "\"http://a.test\" \""]
        {
            assert!(line.contains(part), "{part:?} in {line}");
        }
    }

    fn failures_are_logged_with_what_the_client_was_told(driver: Driver) {
        let upstream = Upstream::new();
        let nobody = Reserved::new();
        let good = Upstream::answering("good");
        let one = |nodes: serde_json::Value| json!({"type": "roundrobin", "nodes": nodes, "retries": 1});
        let gateway = Config::new()
            .driver(driver)
            .http("access_log", "access.log")
            .http("access_log_format", "$uri $status $upstream_status $upstream_addr")
            .route(json!({"uri": "/gone", "upstream": one(json!({upstream.node(): 1}))}))
            .route(json!({"uri": "/refused", "upstream": one(json!({nobody.addr().to_string(): 1}))}))
            .route(json!({"uri": "/none", "upstream": {"nodes": {}}}))
            .route(json!({"uri": "/retried", "upstream": one(json!([
                {"host": "127.0.0.1", "port": nobody.port(), "weight": 1000},
                {"host": "127.0.0.1", "port": good.addr().port(), "weight": 1},
            ]))}))
            .start();
        let mut client = gateway.client();
        for (target, status) in [("/lost", 404), ("/none", 503), ("/refused", 502), ("/retried", 200)] {
            assert_eq!(client.get(target).status(), status);
        }
        client.send_get("/gone");
        let mut peer = upstream.accept();
        peer.request();
        drop(client);
        peer.expect_end();
        let (refused, good) = (nobody.addr(), good.node());
        let expected = [
            "/lost 404 - -".to_owned(),
            "/none 503 - -".to_owned(),
            format!("/refused 502 502 {refused}"),
            format!("/retried 200 502, 200 {refused}, {good}"),
        ];
        let found = lines(&gateway, 5);
        assert_eq!(found[..4], expected);
        // As nginx has it: there is no status of an upstream that has not answered.
        assert!(found[4].starts_with("/gone 499 "), "{}", found[4]);
    }

    /// nginx logs these as well; whoever watches the log for attacks counts on it.
    fn refused_heads_are_logged(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = logging(driver, &upstream, "$remote_addr $status $request_method").start();
        for request in ["BAD\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
            let mut client = gateway.client();
            assert_eq!(client.exchange(request).status(), 400);
        }
        let found = lines(&gateway, 2);
        assert!(found[0].starts_with("127.0.0.1 400"), "{found:?}");
        assert_eq!(found[1], "127.0.0.1 400 GET");
    }

    fn json_is_escaped_as_such(driver: Driver) {
        let upstream = Upstream::answering("x");
        let format = "{\"uri\":\"$request_uri\",\"agent\":\"$http_user_agent\",\"user\":\"$remote_user\"}";
        let gateway = logging(driver, &upstream, format).http("access_log_format_escape", "json").start();
        let request = "GET /\"x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: a\\b\"c\td\r\n\r\n";
        assert_eq!(gateway.client().exchange(request).status(), 200);
        let line = lines(&gateway, 1).remove(0);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value, json!({"uri": "/\"x", "agent": "a\\b\"c\td", "user": ""}), "{line}");
    }

    /// No value ends a line.
    fn no_request_forges_a_line(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = logging(driver, &upstream, "$uri $arg_a").start();
        assert_eq!(gateway.get("/%0a127.0.0.1%20forged?a=%0a").status(), 200);
        assert_eq!(lines(&gateway, 1), ["/\\x0A127.0.0.1 forged %0a"]);
    }

    fn no_log_is_written_if_none_is_wanted(driver: Driver) {
        let upstream = Upstream::answering("x");
        for (key, value) in [("access_log", json!("off")), ("enable_access_log", json!(false))] {
            let config = Config::proxy(driver, &upstream).http("access_log", "access.log").http(key, value);
            let mut gateway = config.start();
            assert_eq!(gateway.get("/").status(), 200);
            gateway.stop();
            assert!(!gateway.file("access.log").exists() && !gateway.file("logs").exists());
        }
    }

    fn a_listener_may_be_left_out(driver: Driver) {
        let upstream = Upstream::answering("x");
        let silent = Reserved::new();
        let config = logging(driver, &upstream, "$uri $server_port");
        let listen = json!([
            {"ip": "127.0.0.1", "port": config.port()},
            {"ip": "127.0.0.1", "port": silent.port(), "access_log": false},
        ]);
        let mut gateway = config.set("apisix.node_listen", listen).start();
        assert_eq!(Client::connect(silent.addr()).get("/silent").status(), 200);
        assert_eq!(gateway.get("/told").status(), 200);
        gateway.stop();
        assert_eq!(read(&gateway.file("access.log")), [format!("/told {}", gateway.addr().port())]);
    }

    /// As logrotate does it.
    fn a_renamed_log_is_opened_anew_on_a_signal(driver: Driver) {
        let upstream = Upstream::answering("x");
        let mut gateway = logging(driver, &upstream, "$uri").start();
        let mut client = gateway.client();
        client.get("/1");
        assert_eq!(lines(&gateway, 1), ["/1"]);
        let moved = gateway.file("moved.log");
        std::fs::rename(gateway.file("access.log"), &moved).unwrap();
        client.get("/2");
        eventually("the old file is still written", || read(&moved).len() == 2);
        gateway.signal(libc::SIGUSR1);
        eventually("there is a new file", || gateway.file("access.log").exists());
        client.get("/3");
        assert_eq!(lines(&gateway, 1), ["/3"]);
        gateway.stop();
        assert_eq!(read(&moved), ["/1", "/2"]);
    }

    fn everything_is_written_at_the_end(driver: Driver) {
        let upstream = Upstream::answering("x");
        for signal in [libc::SIGTERM, libc::SIGQUIT] {
            let mut gateway = logging(driver, &upstream, "$uri")
                .set("nginx_config.worker_processes", 2)
                .http("access_log_buffer", 1_000_000)
                .start();
            let mut client = gateway.client();
            for number in 0..500 {
                assert_eq!(client.get(&format!("/{number}")).status(), 200);
            }
            drop(client);
            gateway.signal(signal);
            let (status, log) = gateway.wait();
            assert_eq!(status.code(), Some(0), "{log}");
            let expected: Vec<String> = (0..500).map(|number| format!("/{number}")).collect();
            assert_eq!(read(&gateway.file("access.log")), expected);
        }
    }

    fn an_existing_log_is_appended_to(driver: Driver) {
        let upstream = Upstream::answering("x");
        let config = logging(driver, &upstream, "$uri");
        std::fs::write(config.file("access.log"), "before\n").unwrap();
        let mut gateway = config.start();
        gateway.get("/after");
        gateway.stop();
        assert_eq!(read(&gateway.file("access.log")), ["before", "/after"]);
    }

    /// No line is lost or written twice, and old files go.
    fn a_large_log_is_rotated(driver: Driver) {
        let upstream = Upstream::answering("x");
        let mut gateway = logging(driver, &upstream, "$uri $http_x")
            .set("osmia.access_log.max_size", 5000)
            .http("access_log_buffer", 1000)
            .start();
        let mut client = gateway.client();
        let padding = "x".repeat(90);
        for number in 0..300 {
            let request = format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\nX: {padding}\r\n\r\n");
            assert_eq!(client.exchange(request).status(), 200);
        }
        drop(client);
        gateway.stop();
        let files = rotated(&gateway);
        assert!(files.len() > 1, "{files:?}");
        let mut all = read(&gateway.file("access.log"));
        for file in &files {
            assert!(std::fs::metadata(file).unwrap().len() < 20_000, "{}", file.display());
            all.extend(read(file));
        }
        let mut numbers: Vec<u32> =
            all.iter().map(|line| line[1..line.find(' ').unwrap()].parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    }

    fn old_logs_are_deleted(driver: Driver) {
        let upstream = Upstream::answering("x");
        let mut gateway = logging(driver, &upstream, "$uri $http_x")
            .set("osmia.access_log.max_size", 2000)
            .set("osmia.access_log.max_kept", 2)
            .http("access_log_buffer", 500)
            .start();
        let mut client = gateway.client();
        let padding = "x".repeat(90);
        for number in 0..200 {
            let request = format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\nX: {padding}\r\n\r\n");
            assert_eq!(client.exchange(request).status(), 200);
        }
        drop(client);
        gateway.stop();
        assert_eq!(rotated(&gateway).len(), 2);
    }

    fn a_log_is_rotated_in_time(driver: Driver) {
        let upstream = Upstream::answering("x");
        let mut gateway =
            logging(driver, &upstream, "$uri").set("osmia.access_log.interval", "1s").start();
        let mut client = gateway.client();
        let mut sent = 0;
        eventually("there is a rotated file", || {
            client.get(&format!("/{sent}"));
            sent += 1;
            !rotated(&gateway).is_empty()
        });
        drop(client);
        gateway.stop();
        let mut files = rotated(&gateway);
        files.push(gateway.file("access.log"));
        let all: Vec<String> = files.iter().flat_map(|file| read(file)).collect();
        assert_eq!(all, (0..sent).map(|number| format!("/{number}")).collect::<Vec<_>>());
    }

    /// A log that nobody takes costs lines, never requests.
    fn a_log_that_stalls_does_not_stall_requests(driver: Driver) {
        let upstream = Upstream::answering("x");
        let config = logging(driver, &upstream, "$uri $http_x")
            .set("osmia.access_log.queue", 2)
            .http("access_log_buffer", 1000);
        let fifo = config.file("access.log");
        let path = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
        // SAFETY: the pointer is to a string that outlives the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let mut gateway = config.start();
        let mut client = gateway.client();
        let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", "x".repeat(900));
        for _ in 0..300 {
            assert_eq!(client.exchange(&request).status(), 200);
        }
        drop(client);
        let log = gateway.stop();
        assert!(log.contains("ERROR") && log.contains("was not written"), "{log}");
    }

    fn tunnels_are_logged_when_they_end(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = logging(driver, &upstream, "$uri $status $body_bytes_sent").start();
        let mut client = gateway.client();
        client.send("GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        let mut peer = upstream.accept();
        peer.head();
        peer.send("HTTP/1.1 101 Y\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        assert_eq!(client.head().status(), 101);
        peer.send("1234567");
        assert_eq!(client.exactly(7), b"1234567");
        assert!(read(&gateway.file("access.log")).is_empty());
        drop(client);
        peer.expect_end();
        drop(peer);
        assert_eq!(lines(&gateway, 1), ["/ws 101 7"]);
    }
}

#[test]
fn variables_of_timing_and_identity_are_filled() {
    let upstream = Upstream::answering("x");
    let format = "$msec $time_iso8601 $request_time $upstream_response_time $upstream_connect_time \
                  $upstream_header_time $apisix_request_id $pid $hostname $scheme $server_protocol \
                  $remote_port $route_id $balancer_ip $balancer_port $upstream_uri $host";
    let gateway = logging(Driver::Epoll, &upstream, format).start();
    let mut client = gateway.client();
    client.get("/v?x");
    let line = lines(&gateway, 1).remove(0);
    let parts: Vec<&str> = line.split(' ').collect();
    assert_eq!(parts.len(), 17, "{line}");
    for seconds in [0, 2, 3, 4, 5] {
        let (_, fraction) = parts[seconds].split_once('.').unwrap_or_else(|| panic!("{line}"));
        assert_eq!(fraction.len(), 3, "{line}");
        parts[seconds].parse::<f64>().unwrap();
    }
    assert!(parts[1].contains('T'), "{line}");
    assert!(parts[6].len() == 32 && parts[6].bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
    assert_eq!(parts[7], gateway.pid().to_string());
    assert_eq!(parts[9..11], ["http", "HTTP/1.1"]);
    assert_eq!(parts[11], client.local_addr().port().to_string());
    assert_eq!(parts[12..14], ["all", "127.0.0.1"]);
    assert_eq!(parts[14], upstream.addr().port().to_string());
    assert_eq!(parts[16], "a.test");
}
