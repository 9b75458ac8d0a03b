//! A client that sends random requests, pipelined or not, and knows what each answer must be.

use std::rc::Rc;

use osmia::net::Net;

use crate::upstream::{Stream, checksum, field, pattern};
use crate::world::{GATEWAY, Shared, addr};

const CONNECTIONS: usize = 4;
const REQUESTS: usize = 12;

struct Request {
    id: String,
    method: &'static str,
    len: usize,
    framing: &'static str,
    body: Vec<u8>,
    chunked: bool,
}

impl Request {
    fn random(shared: &Shared, id: String) -> Self {
        shared.net.random(|random| {
            let method = random.choice(["GET", "GET", "HEAD", "PUT", "POST", "DELETE"]).unwrap();
            let has_body = matches!(method, "PUT" | "POST");
            let size = |random: &mut fastrand::Rng| match random.u8(0..4) {
                0 => 0,
                1 => random.usize(0..100),
                2 => random.usize(0..5_000),
                _ => random.usize(0..90_000),
            };
            let len = size(random);
            let body_len = if has_body { size(random) } else { 0 };
            Self {
                body: pattern(&id, body_len),
                id,
                method,
                len,
                framing: random.choice(["length", "length", "chunked", "close"]).unwrap(),
                chunked: has_body && random.bool(),
            }
        })
    }

    fn is_idempotent(&self) -> bool {
        self.method != "POST"
    }

    fn wire(&self) -> Vec<u8> {
        let mut out = format!(
            "{} /{}/{} HTTP/1.1\r\nHost: sim\r\nX-Id: {}\r\n",
            self.method, self.len, self.framing, self.id
        )
        .into_bytes();
        if self.chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in self.body.chunks(7_000) {
                out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
        } else {
            if matches!(self.method, "PUT" | "POST") {
                out.extend_from_slice(
                    format!("Content-Length: {}\r\n", self.body.len()).as_bytes(),
                );
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&self.body);
        }
        out
    }
}

pub async fn run(shared: Rc<Shared>, client: usize) {
    for connection in 0..CONNECTIONS {
        session(&shared, &format!("{client}-{connection}")).await;
        if shared.net.random(fastrand::Rng::bool) {
            let pause = shared.net.random(|random| random.u64(0..3_000_000));
            shared.net.sleep(pause).await;
        }
    }
    shared.clients_left.set(shared.clients_left.get() - 1);
}

/// One connection's worth of requests.
async fn session(shared: &Rc<Shared>, name: &str) {
    let Ok(conn) = shared.net.connect(addr(GATEWAY)).await else { return };
    let mut stream = Stream::new(conn);
    let mut next = 0;
    while next < REQUESTS {
        let together = shared.net.random(|random| random.usize(1..=3)).min(REQUESTS - next);
        let requests: Vec<_> = (next..next + together)
            .map(|index| Request::random(shared, format!("{name}-{index}")))
            .collect();
        next += together;
        let wire: Vec<u8> = requests.iter().flat_map(Request::wire).collect();
        shared.outcome.borrow_mut().sent += requests.len() as u64;
        if shared.happens(shared.faults.client_aborts) {
            let part = shared.net.random(|random| random.usize(..wire.len()));
            stream.send(&wire[..part]).await;
            return;
        }
        // A client that only sends while it does not read would deadlock with a gateway that
        // answers meanwhile, as with any server: large pipelines go one by one.
        if wire.len() > shared.conditions.window.min(4_000) / 2 {
            for request in &requests {
                if !exchange(shared, &mut stream, request, &request.wire()).await {
                    return;
                }
            }
        } else {
            if !stream.send(&wire).await {
                return lost(shared, &requests);
            }
            for request in &requests {
                if !exchange(shared, &mut stream, request, b"").await {
                    return;
                }
            }
        }
        if shared.net.random(|random| random.u8(0..8)) == 0 {
            let pause = shared.net.random(|random| random.u64(0..2_000_000));
            shared.net.sleep(pause).await;
        }
    }
}

fn lost(shared: &Shared, requests: &[Request]) {
    if shared.is_calm() {
        shared.violation(format!("{}: connection lost", requests[0].id));
    }
}

/// Sends `wire` and reads the answer to `request`; `false`: the connection is over.
async fn exchange(shared: &Shared, stream: &mut Stream, request: &Request, wire: &[u8]) -> bool {
    if !wire.is_empty() && !stream.send(wire).await {
        // The gateway may have answered and closed before it read all of the body.
    }
    let answer = read(shared, stream, request).await;
    let executed = shared.executed.borrow().get(&request.id).copied().unwrap_or(0);
    if executed > 1 && !request.is_idempotent() {
        shared.violation(format!("{}: a POST was executed {executed} times", request.id));
    }
    let mut outcome = shared.outcome.borrow_mut();
    match answer {
        Answer::Right { keeps } => {
            outcome.answered += 1;
            keeps
        }
        Answer::Wrong(why) => {
            outcome.violations.push(format!("{}: {why}", request.id));
            false
        }
        Answer::Failed { status, keeps } => {
            outcome.failed += 1;
            outcome.failed_idempotent += u64::from(request.is_idempotent());
            if shared.is_calm() {
                outcome.violations.push(format!("{}: {status}", request.id));
            }
            keeps
        }
        Answer::Lost => {
            drop(outcome);
            lost(shared, std::slice::from_ref(request));
            false
        }
    }
}

enum Answer {
    Right { keeps: bool },
    Wrong(String),
    Failed { status: u16, keeps: bool },
    Lost,
}

async fn read(shared: &Shared, stream: &mut Stream, request: &Request) -> Answer {
    let Some(head) = stream.take_until(b"\r\n\r\n").await else { return Answer::Lost };
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(status) = head.get(9..12).and_then(|text| text.parse::<u16>().ok()) else {
        return Answer::Wrong(format!("no status in {head:?}"));
    };
    let keeps = field(&head, "connection") != Some("close");
    let length = field(&head, "content-length").map(|text| text.parse::<usize>().unwrap());
    let body = if request.method == "HEAD" {
        Some(Vec::new())
    } else if field(&head, "transfer-encoding") == Some("chunked") {
        chunked(stream).await
    } else {
        match length {
            Some(length) => stream.take(length).await,
            None => return Answer::Wrong(format!("unframed response {head:?}")),
        }
    };
    let Some(body) = body else { return Answer::Lost };
    if status != 200 {
        return match status {
            502 | 504 => Answer::Failed { status, keeps },
            _ => Answer::Wrong(format!("unexpected {head:?}")),
        };
    }
    let received = format!("{}-{}", request.body.len(), checksum(&request.body));
    if field(&head, "x-id") != Some(&request.id) {
        return Answer::Wrong(format!("somebody else's response: {head:?}"));
    }
    if field(&head, "x-received") != Some(&received) {
        return Answer::Wrong(format!("the body arrived changed: {head:?}, not {received}"));
    }
    if request.method != "HEAD" && body != pattern(&request.id, request.len) {
        return Answer::Wrong(format!(
            "response body of {} bytes, not {}",
            body.len(),
            request.len
        ));
    }
    let _ = shared;
    Answer::Right { keeps }
}

/// The payload of a chunked body with its trailers.
async fn chunked(stream: &mut Stream) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = stream.take_until(b"\r\n").await?;
        let size = std::str::from_utf8(&line[..line.len() - 2]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            while stream.take_until(b"\r\n").await?.len() > 2 {}
            return Some(body);
        }
        let data = stream.take(size + 2).await?;
        body.extend_from_slice(&data[..size]);
    }
}
