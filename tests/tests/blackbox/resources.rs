//! Descriptors and memory.

use osmia_tests::sandbox::Sandbox;
use osmia_tests::{Client, Config, Upstream, eventually, on_each_driver};

/// What is left for connections under a limit of descriptors, roughly.
const FILES: u64 = 200;

/// A response on a new connection; `None` if the gateway turned it away.
fn try_get(addr: std::net::SocketAddr) -> Option<u16> {
    let mut client = Client::connect(addr);
    client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").ok()?;
    Some(client.head_or_end()?.status())
}

on_each_driver! {
    fn the_limit_of_descriptors_is_raised(driver: Driver) {
        let files = Some((150, 4000));
        let gateway = Config::new().driver(driver).sandbox(Sandbox { files, no_io_uring: false }).start();
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers, ["4000", "4000"]);
    }

    fn at_the_limit_of_descriptors_load_is_shed(driver: Driver) {
        let upstream = Upstream::answering("x");
        let files = Some((FILES, FILES));
        let mut gateway = Config::proxy(driver, &upstream)
            .sandbox(Sandbox { files, no_io_uring: false })
            .start();
        let mut first = gateway.client();
        assert_eq!(first.get("/").text(), "x");
        let crowd: Vec<Client> = (0..FILES + 50).map(|_| gateway.client()).collect();
        gateway.log().wait_for(&["ERROR", "refusing connections", "ulimit"]);
        // Who is in is served.
        for _ in 0..20 {
            assert_eq!(first.get("/").text(), "x");
        }
        drop(crowd);
        eventually("new connections are served again", || try_get(gateway.addr()) == Some(200));
        assert_eq!(first.get("/").text(), "x");
        assert!(gateway.is_running());
    }

    /// No descriptor for the upstream: this request fails, the next may not.
    fn a_request_without_a_descriptor_is_told_so(driver: Driver) {
        let upstream = Upstream::answering("x");
        let files = Some((FILES, FILES));
        let gateway = Config::proxy(driver, &upstream)
            .sandbox(Sandbox { files, no_io_uring: false })
            .start();
        let mut first = gateway.client();
        assert_eq!(first.get("/nowhere").status(), 200);
        // The kept connection is in use while another is needed.
        let crowd: Vec<Client> = (0..FILES + 50).map(|_| gateway.client()).collect();
        gateway.log().wait_for(&["ERROR", "refusing connections"]);
        for _ in 0..5 {
            let status = first.get("/").status();
            assert!(status == 200 || status == 503, "{status}");
        }
        drop(crowd);
        eventually("it is served again", || first.get("/").status() == 200);
    }

    fn connections_are_given_back(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).start();
        assert_eq!(gateway.get("/").text(), "x");
        let before = gateway.descriptors();
        for _ in 0..5 {
            let mut clients: Vec<Client> = (0..100).map(|_| gateway.client()).collect();
            for client in &mut clients {
                assert_eq!(client.get("/").text(), "x");
            }
        }
        eventually("all are closed", || gateway.descriptors() <= before);
    }

    /// The bound is generous: it is about leaks per request, the benchmarks know the real figure.
    fn memory_does_not_grow_with_requests(driver: Driver) {
        let upstream = Upstream::answering("x");
        let gateway = Config::proxy(driver, &upstream).start();
        let mut client = gateway.client();
        let packet = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(100);
        let mut round = || {
            for _ in 0..5 {
                client.send(&packet);
                for _ in 0..100 {
                    assert_eq!(client.response().text(), "x");
                }
            }
            client = gateway.client();
        };
        round();
        let before = gateway.resident();
        for _ in 0..4 {
            round();
        }
        assert!(gateway.resident() < before + (4 << 20), "{before} -> {}", gateway.resident());
    }
}
