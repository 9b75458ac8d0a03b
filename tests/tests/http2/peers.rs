//! The kit itself, against a server that is not ours: what it says is understood, and what it
//! demands can be met. nginx is there for the differential test already.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use osmia_tests::h2::{Frame, H2, Outcome, code, flag, get, hpack, setting};
use osmia_tests::port::Reserved;
use osmia_tests::tls::{Authority, Tls, server_certificate};
use osmia_tests::{Origin, eventually, pattern};

use super::{post, with};

struct Nginx {
    process: Child,
    plain: SocketAddr,
    secure: SocketAddr,
    certificate: Vec<u8>,
    _folder: tempfile::TempDir,
    _ports: [Reserved; 2],
    origin: Origin,
}

impl Nginx {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = [Reserved::new(), Reserved::new()];
        let (plain, secure) = (ports[0].addr(), ports[1].addr());
        let identity = Authority::default().issue(&["a.test"]);
        let origin = Origin::new();
        let place = folder.path();
        std::fs::write(place.join("cert.pem"), &identity.cert).unwrap();
        std::fs::write(place.join("key.pem"), &identity.key).unwrap();
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let shown = place.display();
        let temp = kinds.map(|kind| format!("{kind}_temp_path {shown}/{kind};\n")).concat();
        let node = origin.upstream.addr();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {shown}/pid;\nerror_log {shown}/error.log;\n\
             events {{ worker_connections 256; }}\nhttp {{\n{temp}access_log off;\n\
             client_max_body_size 0;\nproxy_http_version 1.1;\nproxy_set_header Connection '';\n\
             ssl_certificate {shown}/cert.pem;\nssl_certificate_key {shown}/key.pem;\n\
             server {{ listen {plain} http2; location / {{ proxy_pass http://{node}; }} }}\n\
             server {{ listen {secure} ssl http2; location / {{ proxy_pass http://{node}; }} }}\n}}\n"
        );
        std::fs::write(place.join("nginx.conf"), config).unwrap();
        let process = Command::new("/usr/sbin/nginx")
            .args(["-c".as_ref(), place.join("nginx.conf").as_os_str()])
            .args(["-p".as_ref(), place.as_os_str()])
            .args(["-e".as_ref(), place.join("error.log").as_os_str()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("nginx (Debian package nginx-light): {error}"));
        let certificate = identity.der();
        let nginx =
            Self { process, plain, secure, certificate, _folder: folder, _ports: ports, origin };
        eventually("nginx listens", || TcpStream::connect(secure).is_ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn requests_and_bodies_are_understood() {
    let nginx = Nginx::start();
    let mut h2 = H2::connect(nginx.plain);
    assert!(h2.settings.contains_key(&setting::MAX_CONCURRENT_STREAMS));
    let stream = h2.request(&with(&get("/"), &[("x-one", "1")]));
    let answer = h2.response(stream);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert!(answer.field("server").is_some_and(|name| name.starts_with("nginx")));
    assert_eq!(nginx.origin.only("/").field("x-one"), Some("1"));
    let stream = h2.request_with_body(&post("/echo"));
    h2.send_body(stream, &pattern::bytes(0, 300_000), true);
    let answer = h2.response(stream);
    assert_eq!(answer.body.len(), 300_000);
    pattern::check(0, &answer.body);
}

#[test]
fn blocks_in_pieces_padding_and_the_table_are_understood() {
    let nginx = Nginx::start();
    let mut h2 = H2::connect(nginx.plain);
    let mut block = hpack::block(&get("/table"));
    hpack::indexing(&mut block, b"x-kept", b"yes");
    hpack::indexed(&mut block, 62);
    let stream = h2.open();
    let (first, rest) = block.split_at(10);
    h2.send(&Frame::headers(stream, first, true).padded(9, 9).unflagged(flag::END_HEADERS));
    h2.send(&Frame::continuation(stream, rest, true));
    assert_eq!(h2.response(stream).status(), 200);
    assert_eq!(nginx.origin.only("/table").all("x-kept"), ["yes", "yes"]);
}

#[test]
fn windows_are_kept_account_of() {
    let nginx = Nginx::start();
    let mut h2 = H2::connect_with(nginx.plain, &[(setting::INITIAL_WINDOW_SIZE, 10)]);
    h2.refills = false;
    let stream = h2.get("/size/100");
    h2.until("a part", |h2| h2.streams.get(&stream).is_some_and(|it| it.body.len() >= 10));
    h2.sync();
    assert_eq!(h2.streams[&stream].body.len(), 10);
    h2.send(&Frame::window(stream, 90));
    pattern::check(0, &h2.response(stream).body);
}

#[test]
fn errors_are_told_apart() {
    let nginx = Nginx::start();
    let connect = || H2::connect(nginx.plain);
    let mut h2 = connect();
    h2.push(&[Frame::new(6, 0, 0, [0; 7])]);
    assert_eq!(h2.reaction(0), Outcome::GoAway(code::FRAME_SIZE_ERROR));
    let mut h2 = connect();
    h2.push(&[Frame::window(0, (1 << 31) - 1)]);
    assert_eq!(h2.reaction(0), Outcome::GoAway(code::FLOW_CONTROL_ERROR));
    let mut h2 = connect();
    h2.push(&[Frame::new(0x77, 0, 5, *b"unknown")]);
    assert_eq!(h2.reaction(0), Outcome::Ignored);
    let mut h2 = connect();
    let stream = h2.request(&with(&get("/"), &[(":status", "200")]));
    assert!(crate::MALFORMED.contains(&h2.outcome(stream)));
    let stream = h2.get("/cut");
    assert!(matches!(h2.outcome(stream), Outcome::Reset(_) | Outcome::Response(_)));
}

#[test]
fn tls_and_alpn_work() {
    let nginx = Nginx::start();
    let stream = Tls::h2().connect(nginx.secure, "a.test").unwrap();
    assert_eq!(server_certificate(&stream), nginx.certificate);
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    let mut h2 = H2::over(stream);
    h2.start(&[]);
    let stream = h2.get("/size/200000");
    let answer = h2.response(stream);
    assert_eq!(answer.body.len(), 200_000);
    pattern::check(0, &answer.body);
}
