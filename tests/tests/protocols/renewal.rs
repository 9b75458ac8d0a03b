//! Certificates that change under load.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use osmia_tests::h2::{H2, get};
use osmia_tests::tls::{Authority, Tls, server_certificate};
use osmia_tests::{Config, Origin, eventually, on_each_driver};
use serde_json::json;

use super::{NAME, route};

fn https(path: &str) -> [(&str, &str); 4] {
    let mut fields = get(path);
    fields[1].1 = "https";
    fields
}

on_each_driver! {
    /// Twenty times, while clients make requests on old and on new connections: none fails, and
    /// each new connection sees the certificate that is in force.
    fn no_request_fails(driver: Driver) {
        let origin = Origin::new();
        let gateway = Config::new().driver(driver).tls().plane("embedded").start();
        let admin = gateway.admin();
        admin.put("routes/all", &route(&origin.upstream.node(), json!({})));
        let authority = Authority::default();
        let certificates = [authority.issue(&[NAME]), authority.issue(&[NAME])];
        let put = |number: usize| {
            let identity = &certificates[number % 2];
            admin.put("ssls/1", &identity.resource("1", &[NAME]));
            identity.der()
        };
        put(0);
        let addr = gateway.tls_addr();
        let h2 = || {
            let mut h2 = H2::over(Tls::h2().connect(addr, NAME).unwrap());
            h2.start(&[]);
            h2
        };
        let ask = |h2: &mut H2| {
            let stream = h2.request(&https("/"));
            assert_eq!(h2.response(stream).text(), "hello");
        };
        let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let old = scope.spawn(|| {
                let mut h2 = h2();
                while !over.load(Ordering::Acquire) {
                    ask(&mut h2);
                    served.fetch_add(1, Ordering::AcqRel);
                }
            });
            let new = scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    ask(&mut h2());
                    served.fetch_add(1, Ordering::AcqRel);
                }
            });
            let load = scope.spawn(|| {
                let connect = format!("--connect-to=127.0.0.1:{}", addr.port());
                let url = format!("https://{NAME}:{}/", addr.port());
                while !over.load(Ordering::Acquire) {
                    crate::h2load::all_succeed(200, &["-c", "5", "-m", "5", &connect, &url]);
                }
            });
            for number in 1..=20 {
                let expected = put(number);
                eventually("the new certificate is shown", || {
                    let stream = Tls::new().connect(addr, NAME).unwrap();
                    server_certificate(&stream) == expected
                });
                // Once in force, it stays.
                for _ in 0..3 {
                    let stream = Tls::new().connect(addr, NAME).unwrap();
                    assert_eq!(server_certificate(&stream), expected);
                }
            }
            over.store(true, Ordering::Release);
            for thread in [old, new, load] {
                thread.join().unwrap();
            }
        });
        assert!(served.load(Ordering::Acquire) > 20);
        let file = gateway.file("ca.pem");
        std::fs::write(&file, authority.pem()).unwrap();
        let mut command = Command::new("curl");
        command.args(["--silent", "--noproxy", "*", "--cacert", file.to_str().unwrap()]);
        command.args(["--resolve", &format!("{NAME}:{}:127.0.0.1", addr.port())]);
        let said = crate::program::run(command.arg(format!("https://{NAME}:{}/", addr.port())), b"").ok();
        assert_eq!(said.stdout, "hello");
    }
}
