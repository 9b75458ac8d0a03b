//! Unix domain sockets: listened on, and as nodes.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use osmia_tests::config::upstream_of;
use osmia_tests::{Config, Driver, End, Upstream, Wire, eventually, on_each_driver};
use serde_json::json;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A gateway on a socket in its directory, beside its port.
fn listening(driver: Driver, upstream: &Upstream) -> Config {
    let config = Config::proxy(driver, upstream);
    let port = config.port();
    let socket = config.file("o.sock");
    config.set("apisix.node_listen", json!([{"ip": "127.0.0.1", "port": port}, {"unix": socket}]))
}

fn connect(path: &Path) -> Wire {
    Wire::unix(UnixStream::connect(path).unwrap())
}

on_each_driver! {
    fn clients_have_no_address(driver: Driver) {
        let upstream = Upstream::new();
        let format = "$remote_addr|$remote_port|$server_addr|$server_port|$realip_remote_addr";
        let gateway = listening(driver, &upstream)
            .set("nginx_config.worker_processes", 2)
            .http("access_log", "access.log")
            .http("access_log_format", format)
            .start();
        let socket = gateway.file("o.sock");
        gateway.log().wait_for(&["osmia is ready", &format!("unix:{}", socket.display())]);
        let mut client = connect(&socket);
        client.send(GET);
        let mut peer = upstream.accept();
        let seen = peer.serve_one("x");
        assert_eq!(seen.field("X-Real-IP"), Some("unix:"));
        assert_eq!(seen.field("X-Forwarded-For"), Some("unix:"));
        assert_eq!(seen.field("X-Forwarded-Port"), None);
        assert_eq!(client.response().text(), "x");
        let line = format!("unix:||unix:{}||unix:\n", socket.display());
        eventually("it is logged", || {
            std::fs::read_to_string(gateway.file("access.log")).is_ok_and(|log| log == line)
        });
    }

    fn curl_uploads_through_it(driver: Driver) {
        let upstream = Upstream::serving(|mut peer| {
            while let Some(request) = peer.request_or_end() {
                peer.answer(request.body);
            }
        });
        let gateway = listening(driver, &upstream).start();
        let body = "0123456789abcdef".repeat(64 << 10);
        std::fs::write(gateway.file("body"), &body).unwrap();
        let answer = Command::new("curl")
            .args(["-sS", "--data-binary", "@body", "--unix-socket", "o.sock", "http://a.test/"])
            .current_dir(gateway.file(""))
            .output()
            .unwrap();
        assert!(answer.stdout == body.as_bytes(), "{}", String::from_utf8_lossy(&answer.stderr));
    }

    fn idle_connections_are_taken_up_again(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = listening(driver, &upstream).http("keepalive_timeout", "1s").start();
        let mut client = connect(&gateway.file("o.sock"));
        client.send(GET);
        assert_eq!(client.response().text(), "x");
        // Parked by then, and closed in the end.
        assert_eq!(client.expect_end(), End::Eof);
    }

    fn the_file_goes_with_the_gateway(driver: Driver) {
        let upstream = Upstream::answering("x");
        let mut gateway = listening(driver, &upstream).set("nginx_config.worker_processes", 2).start();
        let socket = gateway.file("o.sock");
        // A gateway that is killed leaves its file behind, which is no obstacle.
        gateway.kill_and_restart();
        gateway.log().wait_for(&["osmia is ready"]);
        let mut client = connect(&socket);
        client.send(GET);
        assert_eq!(client.response().text(), "x");
        gateway.signal(libc::SIGQUIT);
        let (status, log) = gateway.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("ERROR"), "{log}");
        assert!(!socket.exists());
    }

    fn a_socket_in_use_is_refused(driver: Driver) {
        let upstream = Upstream::new();
        let config = listening(driver, &upstream);
        let _taken = UnixListener::bind(config.file("o.sock")).unwrap();
        let ended = config.start_refused();
        for part in ["cannot listen on unix:/", "o.sock: the address is in use"] {
            assert!(ended.complaint().contains(part), "{}", ended.stderr);
        }
        assert!(config.file("o.sock").exists());
    }

    fn a_header_may_announce_the_client(driver: Driver) {
        let upstream = Upstream::new();
        let config = Config::proxy(driver, &upstream);
        let socket = config.file("o.sock");
        let listen = json!([{"unix": socket, "proxy_protocol": true}]);
        let _gateway = config
            .set("osmia.proxy_protocol.trusted", json!(["10.0.0.1"]))
            .set("apisix.node_listen", listen)
            .start();
        let mut client = connect(&socket);
        client.send(format!("PROXY TCP6 2001:db8::7 ::1 40000 443\r\n{GET}"));
        let seen = upstream.accept().serve_one("x");
        assert_eq!(seen.field("X-Forwarded-For"), Some("2001:db8::7"));
        assert_eq!(client.response().text(), "x");
    }

    fn a_node_may_be_one(driver: Driver) {
        let config = Config::new().driver(driver);
        let path = config.file("up.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let nodes = [format!("unix:{}", path.display())];
        let gateway = config
            .http("access_log", "access.log")
            .http("access_log_format", "$upstream_addr $upstream_host $status")
            .route(json!({"id": "r", "uri": "/*", "upstream": upstream_of(&nodes, json!({"pass_host": "node"}))}))
            .start();
        let mut client = gateway.client();
        client.send_get("/");
        let mut peer = Wire::unix(listener.accept().unwrap().0);
        // The second request comes on the connection that was kept.
        for _ in 0..2 {
            let seen = peer.request();
            assert_eq!(seen.field("Host"), Some("localhost"));
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
            assert_eq!(client.response().text(), "x");
            client.send_get("/");
        }
        peer.request();
        drop((peer, listener));
        // What was kept is gone, and nobody listens any more.
        assert_eq!(client.response().status(), 502);
        let label = &nodes[0];
        let ok = format!("{label} localhost 200\n");
        eventually("it is logged", || {
            let log = std::fs::read_to_string(gateway.file("access.log")).unwrap_or_default();
            log.starts_with(&ok.repeat(2)) && log.ends_with(&format!("{label} localhost 502\n"))
        });
    }
}

#[test]
fn nodes_of_that_kind_are_probed() {
    let config = Config::new();
    let paths = ["up", "down"].map(|name| config.file(name));
    let listener = UnixListener::bind(&paths[0]).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut peer = Wire::unix(stream.unwrap());
            // Probes keep theirs.
            std::thread::spawn(move || {
                while peer.request_or_end().is_some() {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup");
                }
            });
        }
    });
    let nodes = paths.each_ref().map(|path| format!("unix:{}", path.display()));
    let checks = json!({"active": {"healthy": {"interval": 1, "successes": 1},
        "unhealthy": {"interval": 1, "tcp_failures": 1}}});
    let upstream = upstream_of(&nodes, json!({"checks": checks, "retries": 0}));
    let route = json!({"id": "r", "uri": "/*", "upstream": upstream});
    let gateway = config.plane("yaml").route(route).start();
    let control = gateway.control();
    eventually("the dead node is noticed", || {
        let shown = control.json("/v1/healthcheck/routes/r");
        let status = |node: &str| {
            let all = shown["nodes"].as_array().cloned().unwrap_or_default();
            all.iter().find(|found| found["ip"] == node).map(|found| found["status"].clone())
        };
        status(&nodes[0]) == Some("healthy".into()) && status(&nodes[1]) == Some("unhealthy".into())
    });
    gateway.log().wait_for(&["WARN", "node is down", &nodes[1]]);
    eventually("traffic follows", || {
        let mut client = gateway.client();
        (0..8).all(|_| client.get("/").status() == 200)
    });
}
