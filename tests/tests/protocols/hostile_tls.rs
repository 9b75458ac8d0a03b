//! TLS clients that are slow, odd or wrong, and certificates that are.

use std::io::{Read as _, Write};
use std::net::TcpStream;

use osmia_tests::tls::{Authority, Tls};
use osmia_tests::{Api, Config, Driver, FAILSAFE, Gateway, Origin, on_each_driver};
use serde_json::{Value, json};

use super::{Front, NAME, route};

/// A handshake with the right certificate, and a request.
#[track_caller]
fn check_serves(gateway: &Gateway) {
    let mut stream = Tls::new().connect(gateway.tls_addr(), NAME).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    assert!(text.ends_with("hello"), "{text:?}");
}

/// A stream that writes each byte in a record of its own, while a handshake is sent.
struct OneByteRecords<'a>(&'a TcpStream);

impl Write for OneByteRecords<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        let mut out = Vec::new();
        while let [kind, major, minor, high, low, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let (payload, next) = after.split_at(length.min(after.len()));
            if *kind == 22 {
                for byte in payload {
                    out.extend_from_slice(&[*kind, *major, *minor, 0, 1, *byte]);
                }
            } else {
                out.extend_from_slice(&rest[..5]);
                out.extend_from_slice(payload);
            }
            rest = next;
        }
        self.0.write_all(&out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// The bytes of a `ClientHello`.
fn client_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    Tls::h2().connection(NAME).write_tls(&mut bytes).unwrap();
    bytes
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.tls_addr()).unwrap();
    stream.set_read_timeout(Some(FAILSAFE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads until the end, which must come.
#[track_caller]
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("still open after {} bytes", bytes.len())
        }
        _ => bytes,
    }
}

/// Puts a resource that must be refused; the reason.
#[track_caller]
fn refused(admin: Api, ssl: &Value) -> String {
    let response = admin.call("PUT", "/apisix/admin/ssls/1", &ssl.to_string());
    assert_eq!(response.status(), 400, "{}", response.text());
    response.text()
}

fn plane(driver: Driver, origin: &Origin) -> Gateway {
    let gateway = Config::new().driver(driver).tls().plane("embedded").start();
    gateway.admin().put("routes/all", &route(&origin.upstream.node(), json!({})));
    gateway
}

on_each_driver! {
    /// Begun and not finished: closed when `client_header_timeout` is over.
    fn handshakes_that_stop_are_ended(driver: Driver) {
        let front = Front::start_with(driver, |config| config.http("client_header_timeout", "1s"));
        let hello = client_hello();
        let waiting: Vec<TcpStream> = [0, 1, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()]
            .into_iter()
            .map(|cut| {
                let mut stream = connect(&front.gateway);
                stream.write_all(&hello[..cut]).unwrap();
                stream
            })
            .collect();
        check_serves(&front.gateway);
        for stream in waiting {
            rest(stream);
        }
        check_serves(&front.gateway);
    }

    fn many_half_handshakes_hold_nobody_up(driver: Driver) {
        let front = Front::start(driver);
        let hello = client_hello();
        let half: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = connect(&front.gateway);
                stream.write_all(&hello[..100]).unwrap();
                stream
            })
            .collect();
        check_serves(&front.gateway);
        assert!(front.gateway.resident() < 256 << 20);
        drop(half);
        check_serves(&front.gateway);
    }

    fn a_hello_may_come_byte_by_byte(driver: Driver) {
        let front = Front::start(driver);
        let mut stream = connect(&front.gateway);
        for byte in client_hello() {
            stream.write_all(&[byte]).unwrap();
        }
        let mut kind = [0];
        stream.read_exact(&mut kind).unwrap();
        assert_eq!(kind, [22], "a handshake goes on");
        check_serves(&front.gateway);
    }

    /// Records of a byte: legal, if odd. Taken, or refused by an alert, and the worker goes on.
    fn records_of_one_byte(driver: Driver) {
        let front = Front::start(driver);
        let mut stream = connect(&front.gateway);
        let mut tls = Tls::new().connection(NAME);
        let mut refused = false;
        while tls.is_handshaking() {
            while tls.wants_write() {
                tls.write_tls(&mut OneByteRecords(&stream)).unwrap();
            }
            refused = match tls.read_tls(&mut stream) {
                Ok(0) | Err(_) => true,
                Ok(_) => tls.process_new_packets().is_err(),
            };
            if refused {
                break;
            }
        }
        assert!(refused || !tls.is_handshaking());
        check_serves(&front.gateway);
    }

    fn what_is_no_tls_is_refused(driver: Driver) {
        let front = Front::start(driver);
        let hello = client_hello();
        let mut longer = hello.clone();
        longer[3] = 0xff;
        let mut twice = hello.clone();
        twice[5] = 0x0e;
        for bytes in [&b"\x00\x00\x00\x00\x00\x00"[..], b"\x16\x03\x01\x00\x00", b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x00\x02", &longer, &twice] {
            let mut stream = connect(&front.gateway);
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            rest(stream);
            check_serves(&front.gateway);
        }
    }

    /// Cut off within application data, without close_notify: no request is made of a half.
    fn a_cut_is_not_an_end(driver: Driver) {
        let front = Front::start(driver);
        let mut stream = Tls::new().connect(front.gateway.tls_addr(), NAME).unwrap();
        stream.write_all(b"POST /half HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
        stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        check_serves(&front.gateway);
        assert!(front.origin.seen().iter().all(|seen| seen.target() != "/half"));
    }

    fn bad_certificates_are_refused_by_name(driver: Driver) {
        let origin = Origin::new();
        let gateway = plane(driver, &origin);
        let authority = Authority::default();
        let (one, two) = (authority.issue(&[NAME]), authority.issue(&[NAME]));
        let ssl = |cert: &str, key: &str| json!({"snis": [NAME], "cert": cert, "key": key});
        let rubbish = "-----BEGIN CERTIFICATE-----\n".to_owned() + &"rubbish ".repeat(20);
        let reason = refused(gateway.admin(), &ssl(&rubbish, &one.key));
        assert!(reason.contains("cert"), "{reason}");
        let reason = refused(gateway.admin(), &ssl(&one.cert, &"rubbish ".repeat(20)));
        assert!(reason.contains("key"), "{reason}");
        let reason = refused(gateway.admin(), &ssl(&one.cert, &two.key));
        assert!(reason.contains("key") && reason.contains("certificate"), "{reason}");
        let reason = refused(gateway.admin(), &json!({"cert": one.cert, "key": one.key}));
        // APISIX's words for it.
        assert!(reason.contains("then clause did not match"), "{reason}");
        let mut client = ssl(&one.cert, &one.key);
        client["client"] = json!({"ca": "c".repeat(200)});
        let reason = refused(gateway.admin(), &client);
        assert!(reason.contains("client"), "{reason}");
        // Nothing of it is in force, and a good one is.
        assert!(Tls::new().connect(gateway.tls_addr(), NAME).is_err());
        gateway.admin().put("ssls/1", &ssl(&one.cert, &one.key));
        check_serves(&gateway);
        gateway.admin().delete("ssls/1");
        osmia_tests::eventually("the certificate is gone", || {
            Tls::new().connect(gateway.tls_addr(), NAME).is_err()
        });
    }

    /// APISIX takes an expired certificate: it is the client that refuses it.
    fn an_expired_certificate_is_the_clients_business(driver: Driver) {
        let origin = Origin::new();
        let gateway = plane(driver, &origin);
        let authority = Authority::default();
        let expired = authority.issue_expired(&[NAME]);
        gateway.admin().put("ssls/1", &expired.resource("1", &[NAME]));
        check_serves(&gateway);
        let file = gateway.file("ca.pem");
        std::fs::write(&file, authority.pem()).unwrap();
        let addr = gateway.tls_addr();
        let mut command = std::process::Command::new("curl");
        command.args(["--silent", "--noproxy", "*", "--cacert", file.to_str().unwrap()]);
        command.args(["--resolve", &format!("{NAME}:{}:127.0.0.1", addr.port())]);
        let said = crate::program::run(command.arg(format!("https://{NAME}:{}/", addr.port())), b"");
        assert_eq!(said.code, Some(60), "{}", said.all());
    }
}
