//! The same odd requests to nginx and to Osmia: who refuses what, and what the upstream gets to
//! see.
//!
//! nginx is what APISIX stands on, so that it is the measure of what clients get away with today.
//! Where the two agree, they must agree in what the upstream sees, byte for byte in the body and
//! field for field in the head. Where they do not, the difference is in [`DIFFERENT`], with its
//! reason; a difference that is not there fails the test, and so does an entry that is none.
//!
//! Osmia's side is its codec in this process, put together as the data plane does it, and then the
//! binary, which must do what the codec says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod nginx;
mod tables;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use osmia_core::http1::write::{self, RequestRewrite};
use osmia_core::http1::{Body, RequestHead};
use osmia_core::limits::HttpLimits;
use osmia_core::path;
use osmia_tests::config::upstream_of;
use osmia_tests::rawhttp::{self, Message, Read, to_bytes};
use osmia_tests::{Config, Driver};
use serde_json::json;

use crate::nginx::{Nginx, statuses};
use crate::tables::{ALIKE, DIFFERENT};

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
        const GATEWAYS_OWN: [&str; 11] = [
            "connection",
            "content-length",
            "forwarded",
            "host",
            "transfer-encoding",
            "upgrade",
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
        .replace("{te}", "Transfer-Encoding: chunked\r\n")
        .replace("{next}", "GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n");
    to_bytes(&text)
}

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
            trust: osmia_core::forwarded::Trust::Unset,
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
    let _ =
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
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

#[test]
fn both_do_what_the_tables_say() {
    let nginx = Nginx::start();
    for (input, ours, theirs) in ALIKE {
        let bytes = expand(input);
        let (codec, peer) = (codec_verdict(&bytes), nginx.verdict(&bytes));
        assert_eq!((&*codec.statuses(), &*peer.statuses()), (*ours, *theirs), "{input:?}");
        assert_eq!(accepted(ours), accepted(theirs), "belongs into DIFFERENT: {input:?}");
        assert_eq!(codec.seen, peer.seen, "{input:?}");
    }
    for (why, cases) in DIFFERENT {
        assert!(why.len() > 20, "no reason: {cases:?}");
        for (input, ours, theirs) in *cases {
            let bytes = expand(input);
            let (codec, peer) = (codec_verdict(&bytes), nginx.verdict(&bytes));
            assert_eq!((&*codec.statuses(), &*peer.statuses()), (*ours, *theirs), "{input:?}");
            let differ = accepted(ours) != accepted(theirs) || codec.seen != peer.seen;
            assert!(differ, "belongs into ALIKE: {input:?}");
        }
    }
}

/// Which of the requests were accepted.
fn accepted(statuses: &str) -> Vec<bool> {
    statuses.split(' ').map(|status| status == "200" || status == "9").collect()
}

/// All inputs of the tables, with Osmia's statuses.
fn inputs() -> impl Iterator<Item = (Vec<u8>, &'static str)> {
    let different = DIFFERENT.iter().flat_map(|(_, cases)| cases.iter());
    ALIKE.iter().chain(different).map(|(input, ours, _)| (expand(input), *ours))
}

/// Changed at random, requests may be refused by the one and not by the other, for the reasons in
/// the tables. But never may one request become two, or another one, on the way.
#[test]
fn what_both_accept_reaches_the_upstream_alike() {
    let nginx = Nginx::start();
    let bases: Vec<_> = inputs().map(|(input, _)| input).filter(|input| is_base(input)).collect();
    let mut random = Random(0x5DEE_CE66_D1CE_5EED);
    let mut both = 0;
    for _ in 0..6_000 {
        let mut input = bases[random.below(bases.len())].clone();
        for _ in 0..=random.below(2) {
            mutate(&mut input, &mut random);
        }
        if !is_base(&input) {
            continue;
        }
        let (codec, peer) = (codec_verdict(&input), nginx.verdict(&input));
        for (ours, theirs) in codec.seen.iter().zip(&peer.seen) {
            assert_eq!(ours.level(), theirs.level(), "{}", input.escape_ascii());
            both += 1;
        }
        // Methods are tokens for us, capitals for nginx.
        let more = codec.seen.get(peer.seen.len());
        let is_odd = more.is_none_or(|seen| !seen.has_plain_method());
        assert!(is_odd, "nginx refuses {}", input.escape_ascii());
    }
    assert!(both > 200, "{both} requests accepted by both are too few to say anything");
}

/// Whether none of the differences applies in which nginx is the stricter one, or in which both
/// accept a request and change it.
fn is_base(input: &[u8]) -> bool {
    let text = input.to_ascii_lowercase();
    let holds = |part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
    let plain_method = input.trim_ascii_start().starts_with(b"GET ")
        || input.trim_ascii_start().starts_with(b"POST ");
    plain_method && !["\t", "connection", "://", "upgrade"].iter().any(|part| holds(part))
}

impl Seen {
    fn has_plain_method(&self) -> bool {
        let method = self.line.split(' ').next().unwrap_or_default();
        method.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte))
    }

    /// Without the fields that nginx leaves out for their names.
    fn level(&self) -> Self {
        let plain = |field: &&(String, String)| {
            field.0.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let fields = self.fields.iter().filter(plain).cloned().collect();
        Self { fields, ..self.clone() }
    }
}

fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    const PIECES: [&[u8]; 16] = [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"\r\n\r\n",
        b"0",
        b";",
        b",",
        b"\x00",
        b"\xff",
        b"%",
        b"/../",
        b"\r\nContent-Length: 3",
        b"\r\nTransfer-Encoding: chunked",
        b"\r\nHost: x",
    ];
    let at = random.below(input.len() + 1);
    match random.below(5) {
        0 if at < input.len() => drop(input.remove(at)),
        1 if at < input.len() => input[at] ^= 1 << random.below(7),
        2 => {
            let end = random.below(input.len() + 1).max(at);
            let part = input[at..end].to_vec();
            input.splice(at..at, part);
        }
        _ => drop(input.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
    }
}

/// xorshift64*: the same inputs at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }
}

/// `$uri` and `$args` of nginx are what routes are matched against.
#[test]
fn paths_are_normalised_as_in_nginx() {
    const PIECES: [&str; 22] = [
        "/", "/", "/", "//", ".", "..", "/.", "/..", "/../", "/./", "a", "bc", "%2e", "%2E", "%2f",
        "%61", "%25", "%", "%0", "?", "%3f", "%23",
    ];
    let nginx = Nginx::start();
    let mut random = Random(0x0DDB_1A5E_5BAD_5EED);
    let mut accepted = 0;
    for _ in 0..4_000 {
        let pieces: String = (0..random.below(9)).map(|_| PIECES[random.below(22)]).collect();
        let target = format!("/{pieces}");
        let (path, query) = path::split_query(target.as_bytes());
        let ours = path::normalize(path)
            .ok()
            .map(|path| [&path[..], b"\n", query.unwrap_or_default()].concat());
        let theirs = nginx.normalise(&target);
        assert_eq!(ours, theirs, "{target}");
        accepted += usize::from(ours.is_some());
    }
    assert!((1_000..3_900).contains(&accepted), "{accepted} of 4,000 paths accepted");
}

/// What was found out about the codec holds for the gateway.
#[test]
fn the_binary_does_what_the_codec_says() {
    for driver in [Driver::IoUring, Driver::Epoll] {
        let upstream = Upstream::start();
        let nodes = [upstream.addr.to_string()];
        // The target `*` of OPTIONS is no path below `/`.
        let route = json!({"id": "all", "uri": "*", "upstream": upstream_of(&nodes, json!({}))});
        // What the codec says of the preface of HTTP/2 counts where that is off.
        let config = Config::new().set("apisix.enable_http2", false);
        let gateway = config.driver(driver).route(route).start();
        for (input, expected) in inputs().filter(|(_, expected)| !expected.is_empty()) {
            let output = exchange(gateway.addr(), &input, expected);
            let mut seen = upstream.take();
            for seen in &mut seen {
                // Where the client names no host, the gateway names the node.
                seen.host = seen.host.replace(&nodes[0], "");
            }
            let verdict = Verdict { statuses: output, seen };
            assert_eq!(verdict, codec_verdict(&input), "{driver}: {}", input.escape_ascii());
        }
    }
}

/// Sends `input`, and reads until as many responses have come as are expected; until the end, if
/// the last one is a refusal.
fn exchange(addr: SocketAddr, input: &[u8], expected: &str) -> Vec<u16> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(input).unwrap();
    let (count, is_refused) = (expected.split(' ').count(), !expected.ends_with("200"));
    let (mut output, mut buf) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let received = statuses(&output);
        if received.len() > count || received.len() == count && !is_refused {
            return received;
        }
        match stream.read(&mut buf) {
            Ok(len @ 1..) => output.extend_from_slice(&buf[..len]),
            Ok(_) => return statuses(&output),
            Err(error) => panic!("{error}: {} -> {output:?}", input.escape_ascii()),
        }
    }
}
