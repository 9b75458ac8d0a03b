//! h2load: many streams on many connections; all succeed.

use std::process::Command;

use osmia_tests::on_each_driver;

use super::program::run;
use super::{Front, NAME};

#[track_caller]
pub(crate) fn all_succeed(count: usize, arguments: &[&str]) {
    let number = count.to_string();
    let said = run(Command::new("h2load").args(["-n", &number]).args(arguments), b"").ok();
    let expected = format!("{count} succeeded, 0 failed, 0 errored, 0 timeout");
    assert!(said.stdout.contains(&expected), "{}", said.all());
    assert!(said.stdout.contains(&format!("{count} 2xx")), "{}", said.all());
}

on_each_driver! {
    fn plain_and_secure(driver: Driver) {
        let front = Front::start(driver);
        let plain = format!("http://{}", front.gateway.addr());
        let connect = format!("--connect-to=127.0.0.1:{}", front.gateway.tls_addr().port());
        let (small, large) = (front.url(NAME, "/"), front.url(NAME, "/size/100000"));
        all_succeed(2000, &["-c", "10", "-m", "20", &format!("{plain}/")]);
        all_succeed(200, &["-c", "5", "-m", "10", &format!("{plain}/size/100000")]);
        all_succeed(1000, &["-c", "10", "-m", "10", &connect, &small]);
        all_succeed(200, &["-c", "5", "-m", "10", &connect, &large]);
        let body = front.gateway.file("body");
        std::fs::write(&body, vec![b'x'; 50_000]).unwrap();
        let body = body.to_str().unwrap().to_owned();
        all_succeed(200, &["-c", "5", "-m", "10", "-d", &body, &format!("{plain}/echo")]);
        // Small windows: 2^12 - 1 bytes.
        all_succeed(100, &["-c", "2", "-m", "5", "-w", "12", &format!("{plain}/size/100000")]);
        all_succeed(500, &["-c", "5", "--h1", &format!("{plain}/")]);
        all_succeed(500, &["-c", "5", "--h1", &connect, &small]);
    }
}
