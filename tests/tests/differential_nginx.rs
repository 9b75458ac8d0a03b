//! The same odd requests to nginx and to Osmia: who refuses what, and what the upstream gets to see.
//!
//! nginx is what APISIX stands on, so that it is the measure of what clients get away with today.
//! Where the two agree, they must agree in what the upstream sees, byte for byte in the body and
//! field for field in the head. Where they do not, the difference is in [`DIFFERENT`], with its
//! reason; a difference that is not there fails the test, and so does an entry that is none.
//!
//! Osmia's side is its codec in this process, put together as the data plane does it; where the
//! binary is at hand (see [`osmia`]), the binary as well.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use osmia_core::http1::write::{self, RequestRewrite};
use osmia_core::http1::{Body, RequestHead};
use osmia_core::limits::HttpLimits;
use osmia_core::path;
use osmia_tests::rawhttp::{self, Message, Read, to_bytes};

/// Only a bound: nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of some bytes sent by a client.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    /// Final responses, in order.
    statuses: Vec<u16>,
    /// Requests that reached the upstream, in order.
    seen: Vec<Seen>,
}

impl Verdict {
    fn statuses(&self) -> String {
        let each: Vec<_> = self.statuses.iter().map(u16::to_string).collect();
        each.join(" ")
    }
}

/// A request as the upstream saw it, without what each gateway adds in its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    line: String,
    host: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn new(message: Message) -> Self {
        const GATEWAYS_OWN: [&str; 10] = [
            "connection",
            "content-length",
            "forwarded",
            "host",
            "transfer-encoding",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-proto",
            "x-real-ip",
        ];
        let host = message.values("host").join(" and ");
        let is_own = |field: &(String, String)| GATEWAYS_OWN.contains(&field.0.as_str());
        let fields = message.fields.into_iter().filter(|field| !is_own(field)).collect();
        // nginx says 1.0 or 1.1 to its upstream, by configuration.
        let line = message.start_line.trim_end_matches(" HTTP/1.1").to_owned();
        Self { line, host, fields, body: message.body }
    }
}

/// Replaces the shorthands of the tables: one character is one byte.
fn expand(input: &str) -> Vec<u8> {
    let text = input
        .replace("{get}", "GET / HTTP/1.1\r\nHost: a.example\r\n")
        .replace("{post}", "POST /p HTTP/1.1\r\nHost: a.example\r\n")
        .replace("{host}", "Host: a.example\r\n")
        .replace("{next}", "GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n");
    to_bytes(&text)
}

// ---- the upstream ----

/// An upstream that notes the bytes of each request and answers `200`.
struct Upstream {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notes = Arc::clone(&notes);
                std::thread::spawn(move || answer(stream, &notes));
            }
        });
        Self { addr, seen }
    }

    /// What was seen since the last call.
    fn take(&self) -> Vec<Seen> {
        let raw = std::mem::take(&mut *self.seen.lock().unwrap());
        raw.iter().map(|bytes| see(bytes)).collect()
    }
}

fn answer(mut stream: TcpStream, notes: &Mutex<Vec<Vec<u8>>>) {
    let mut received = Vec::new();
    let mut buf = [0; 16 * 1024];
    while let Ok(len @ 1..) = stream.read(&mut buf) {
        received.extend_from_slice(&buf[..len]);
        if rawhttp::read(&received) != Read::Part {
            break;
        }
    }
    if received.is_empty() {
        return;
    }
    notes.lock().unwrap().push(received);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
}

fn see(bytes: &[u8]) -> Seen {
    match rawhttp::read(bytes) {
        Read::Whole(message, used) => {
            assert_eq!(used, bytes.len(), "more than a request: {}", bytes.escape_ascii());
            Seen::new(message)
        }
        other => panic!("the upstream got {other:?}: {}", bytes.escape_ascii()),
    }
}

// ---- nginx ----

struct Nginx {
    process: Child,
    folder: tempfile::TempDir,
    upstream: Upstream,
}

impl Nginx {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start();
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, nginx_config(folder.path(), upstream.addr)).unwrap();
        let process = Command::new(nginx_binary())
            .arg("-c")
            .arg(&config)
            .arg("-p")
            .arg(folder.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("nginx (Debian package nginx-light): {error}"));
        let mut nginx = Self { process, folder, upstream };
        nginx.wait_until_ready();
        nginx
    }

    fn wait_until_ready(&mut self) {
        let log = self.folder.path().join("error.log");
        for _ in 0..PATIENCE.as_millis() / 10 {
            if UnixStream::connect(self.socket("path")).is_ok() {
                return;
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("nginx: {status}: {}", std::fs::read_to_string(log).unwrap_or_default());
            }
            // nginx has no way to say that it is ready.
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nginx does not get ready");
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn connect(&self, name: &str) -> UnixStream {
        let stream = UnixStream::connect(self.socket(name)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn verdict(&self, input: &[u8]) -> Verdict {
        let mut stream = self.connect("front");
        // nginx may have refused and closed before all is written.
        let _ = stream.write_all(input);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut output = Vec::new();
        match stream.read_to_end(&mut output) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nginx hangs on {}", input.escape_ascii())
            }
            _ => {}
        }
        Verdict { statuses: statuses(&output), seen: self.upstream.take() }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Final statuses in what a client received; a response without status line is one of HTTP/0.9.
fn statuses(output: &[u8]) -> Vec<u16> {
    let (messages, rest) = rawhttp::read_all(output);
    let mut statuses: Vec<_> =
        messages.iter().filter_map(Message::status).filter(|status| *status >= 200).collect();
    if !rest.is_empty() {
        statuses.push(9);
    }
    statuses
}

fn nginx_binary() -> &'static str {
    if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" }
}

/// As APISIX configures nginx, as far as it matters here. It serves as one process, and goes on
/// when the client has said all it has to say.
fn nginx_config(folder: &Path, upstream: SocketAddr) -> String {
    let folder = folder.display();
    let mut temp_paths = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        temp_paths += &format!("  {kind}_temp_path {folder}/{kind};\n");
    }
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n{temp_paths}\
           access_log off;\n\
           underscores_in_headers on;\n\
           client_max_body_size 0;\n\
           proxy_ignore_client_abort on;\n\
           lingering_close off;\n\
           server {{\n\
             listen unix:{folder}/front;\n\
             location / {{\n\
               proxy_pass http://{upstream};\n\
               proxy_http_version 1.1;\n\
               proxy_set_header Host $http_host;\n\
               proxy_set_header Connection '';\n\
             }}\n\
           }}\n\
           server {{\n\
             listen unix:{folder}/path;\n\
             keepalive_requests 1000000;\n\
             location / {{ return 200 \"$uri\\n$args\"; }}\n\
           }}\n\
         }}\n"
    )
}

// ---- Osmia's codec ----

/// What the data plane does with a connection's bytes, without the connection.
fn codec_verdict(input: &[u8]) -> Verdict {
    let limits = HttpLimits::default();
    let mut verdict = Verdict { statuses: Vec::new(), seen: Vec::new() };
    let mut head = RequestHead::default();
    let mut rest = input;
    loop {
        head.reset();
        match head.parse(rest, &limits) {
            Ok(true) => {}
            Ok(false) => return verdict,
            Err(error) => {
                verdict.statuses.push(error.status());
                return verdict;
            }
        }
        if path::normalize(path::split_query(head.path_query.get(rest)).0).is_err() {
            verdict.statuses.push(400);
            return verdict;
        }
        let rewrite = RequestRewrite {
            host: head.host.get(rest),
            target: None,
            client_ip: b"192.0.2.1",
            scheme: b"http",
            server_port: b"80",
            upgrade: false,
        };
        let mut forwarded = Vec::new();
        write::request_head(&mut forwarded, &head, rest, &rewrite);
        let mut body = rest[head.len..].to_vec();
        let mut state = Body::new(head.body, true, &limits);
        match state.accept(&mut body) {
            Err(error) => {
                verdict.statuses.push(error.status());
                return verdict;
            }
            Ok(accepted) => {
                rest = &rest[head.len + accepted.consumed..];
                body.truncate(accepted.kept);
            }
        }
        if !state.is_done() {
            return verdict;
        }
        forwarded.extend_from_slice(&body);
        verdict.statuses.push(200);
        verdict.seen.push(see(&forwarded));
        if !head.keep_alive {
            return verdict;
        }
    }
}
#[test]
fn columns() {
    let nginx = Nginx::start();
    let list = std::fs::read_to_string("/tmp/codec/cases.txt").unwrap();
    for line in list.lines().filter(|l| !l.is_empty()) {
        let (name, input) = line.split_once('|').unwrap();
        let text: String = serde_unescape(input);
        let bytes = expand(&text);
        let a = codec_verdict(&bytes); let b = nginx.verdict(&bytes);
        let same = a.seen == b.seen;
        println!("{name}|{}|{}|{}", a.statuses(), b.statuses(), if same {"same".to_owned()} else {format!("{:?} <> {:?}", a.seen, b.seen)});
    }
}
fn serde_unescape(s: &str) -> String {
    let mut out = String::new(); let mut it = s.chars();
    while let Some(c) = it.next() { if c != '\\' { out.push(c); continue; }
        match it.next().unwrap() { 'r' => out.push('\r'), 'n' => out.push('\n'), 't' => out.push('\t'), '\\' => out.push('\\'),
            'x' => { let h: String = [it.next().unwrap(), it.next().unwrap()].iter().collect(); out.push(char::from(u8::from_str_radix(&h,16).unwrap())); } _ => panic!() } }
    out
}
