//! The access log, as a worker writes it: lines go into a batch of its own, batches to the disk
//! thread.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use osmia_core::access_log::Format;
use osmia_core::forwarded::Trust;
use osmia_core::http1::{RequestHead, ResponseHead};
use osmia_core::origin::Origin;
use osmia_core::request::{RequestVariables, header, number, put};
use osmia_core::snapshot::{Node, Route, Upstream};
use osmia_core::tls::TlsPeer;
use osmia_core::vars::{Variable, VariableSource};

use crate::disk::LogSink;
use crate::http::attempts::Attempts;
use crate::http::response::Delivery;

/// A worker's access log.
#[derive(Debug)]
pub struct AccessLog {
    format: Arc<Format>,
    sink: LogSink,
    /// Lines are handed over when this much is collected.
    batch_bytes: usize,
    batch: RefCell<Vec<u8>>,
    /// Somebody asks for the times of connecting and of the response head.
    times_upstream: bool,
    /// Somebody asks for fields of responses.
    reads_response_head: bool,
    ids: RefCell<fastrand::Rng>,
    time: TimeCache,
}

impl AccessLog {
    /// A log that writes `format` to `sink` in batches of `batch_bytes`.
    pub fn new(format: Arc<Format>, sink: LogSink, batch_bytes: usize) -> Self {
        let times_upstream = format.variables().any(|variable| {
            matches!(variable, Variable::UpstreamConnectTime | Variable::UpstreamHeaderTime)
        });
        let reads_response_head = format.variables().any(|variable| {
            matches!(variable, Variable::SentHeader(_) | Variable::UpstreamHeader(_))
        });
        Self {
            format,
            sink,
            batch_bytes,
            batch: RefCell::default(),
            times_upstream,
            reads_response_head,
            ids: RefCell::new(fastrand::Rng::new()),
            time: TimeCache::default(),
        }
    }

    /// Whether [`Attempts`] are to be timed in detail.
    pub fn times_upstream(&self) -> bool {
        self.times_upstream
    }

    /// Whether [`Delivery::head`] is to be kept.
    pub fn reads_response_head(&self) -> bool {
        self.reads_response_head
    }

    /// Adds the line of one request.
    pub fn write(&self, record: &Record<'_>) {
        let mut batch = self.batch.borrow_mut();
        let request = record.request_variables();
        self.format.write_line(&Line { log: self, record, request }, &mut batch);
        if batch.len() >= self.batch_bytes {
            self.hand_over(&mut batch);
        }
    }

    /// Hands the collected lines over.
    pub fn flush(&self) {
        let mut batch = self.batch.borrow_mut();
        if !batch.is_empty() {
            self.hand_over(&mut batch);
        }
    }

    fn hand_over(&self, batch: &mut Vec<u8>) {
        let empty = self.sink.recycle().unwrap_or_default();
        self.sink.submit(std::mem::replace(batch, empty));
    }
}

/// What is known of a request when it has ended.
#[derive(Debug)]
pub struct Record<'a> {
    /// The client.
    pub client: &'a crate::http::connection::ClientAddr,
    /// Where it was accepted.
    pub listener: &'a crate::worker::ListenerInfo,
    /// What is special about its connection.
    pub origin: Option<&'a Origin>,
    /// Requests so far on the connection.
    pub connection_requests: u32,
    /// The client's TLS; `None`: it speaks without.
    pub tls: Option<&'a TlsPeer>,
    /// The request.
    pub request: &'a RequestHead,
    /// The upstream's response; of use if `delivery.begun`.
    pub response: &'a ResponseHead,
    /// What `request` was parsed from.
    pub buf: &'a [u8],
    /// The response as it was sent.
    pub delivery: &'a Delivery,
    /// The upstream's part.
    pub attempts: &'a Attempts<'a>,
    /// Bytes of the request's body.
    pub body_received: u64,
    /// When its head was complete.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The time of day, to the second.
    pub unix_seconds: u64,
    /// Value of `Server`.
    pub server: &'a str,
    /// Name of this machine.
    pub hostname: &'a [u8],
}

/// A record on its way into a line.
struct Line<'a> {
    log: &'a AccessLog,
    record: &'a Record<'a>,
    request: RequestVariables<'a>,
}

impl VariableSource for Line<'_> {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let record = self.record;
        match variable {
            Variable::TimeLocal => self.log.time.local(record.unix_seconds, out),
            Variable::TimeIso8601 => self.log.time.iso8601(record.unix_seconds, out),
            Variable::Msec => millis(out, since_epoch()),
            Variable::RequestId => {
                let mut ids = self.log.ids.borrow_mut();
                request_id(out, ids.u128(..))
            }
            _ => {
                self.append_request(variable, out)
                    || record.append_response(variable, out)
                    || record.append_upstream(variable, out)
            }
        }
    }
}

impl Line<'_> {
    fn append_request(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        match variable {
            Variable::RequestLength => {
                number(out, self.record.request.len as u64 + self.record.body_received)
            }
            Variable::Pid => number(out, u64::from(std::process::id())),
            _ => self.request.append(variable, out),
        }
    }
}

impl<'a> Record<'a> {
    fn request_variables(&self) -> RequestVariables<'a> {
        RequestVariables {
            request: self.request,
            buf: self.buf,
            client: self.client.addr,
            client_ip: self.client.ip(),
            listener: self.listener.addr,
            origin: self.origin,
            // A log shows what the client sent.
            trust: Trust::Unset,
            hostname: self.hostname,
            connection_requests: self.connection_requests,
            tls: self.tls,
        }
    }

    fn append_response(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        match variable {
            Variable::Status => number(out, u64::from(self.delivery.status)),
            Variable::BodyBytesSent => number(out, self.delivery.body_bytes),
            Variable::BytesSent => number(out, self.delivery.sent_bytes),
            Variable::RequestTime => millis(out, self.ended.duration_since(self.started)),
            Variable::RequestCompletion => {
                put(out, if self.delivery.status == 499 { b"" } else { b"OK" })
            }
            Variable::SentHeader(name) if &**name == "server" => put(out, self.server.as_bytes()),
            Variable::SentHeader(name) | Variable::UpstreamHeader(name) => {
                self.delivery.begun && header(&self.response.fields, &self.delivery.head, name, out)
            }
            _ => false,
        }
    }

    fn append_upstream(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let attempts = self.attempts;
        let Some(node) = attempts.node else {
            return match variable {
                Variable::RouteId => route(attempts, out, |route| &route.id),
                Variable::RouteName => route(attempts, out, |route| &route.name),
                Variable::UpstreamScheme => {
                    put(out, attempts.upstream.map_or("http", Upstream::scheme).as_bytes())
                }
                _ => false,
            };
        };
        match variable {
            Variable::RouteId => route(attempts, out, |route| &route.id),
            Variable::RouteName => route(attempts, out, |route| &route.name),
            Variable::UpstreamScheme => {
                put(out, attempts.upstream.map_or("http", Upstream::scheme).as_bytes())
            }
            Variable::UpstreamHost => put(out, attempts.host(node, self.request, self.buf)),
            Variable::UpstreamUri => true,
            Variable::BalancerIp if node.unix.is_some() => put(out, node.label.as_bytes()),
            Variable::BalancerIp => put(out, node.addr.ip().to_string().as_bytes()),
            Variable::BalancerPort if node.unix.is_some() => put(out, b""),
            Variable::BalancerPort => number(out, u64::from(node.addr.port())),
            Variable::UpstreamAddr => self.list(out, |out, label, _, _| put(out, label.as_bytes())),
            Variable::UpstreamStatus => {
                self.list(out, |out, _, status, _| number(out, u64::from(status)))
            }
            Variable::UpstreamResponseTime => self.list(out, |out, _, _, took| millis(out, took)),
            Variable::UpstreamConnectTime => {
                attempts.connect_time.is_some_and(|time| millis(out, time))
            }
            Variable::UpstreamHeaderTime => {
                let times = self.delivery.head_at.zip(attempts.began);
                times.is_some_and(|(head, began)| millis(out, head.duration_since(began)))
            }
            Variable::UpstreamResponseLength => number(out, self.delivery.body_bytes),
            _ => false,
        }
    }

    /// Values of all attempts, separated as nginx does.
    fn list(
        &self,
        out: &mut Vec<u8>,
        mut write: impl FnMut(&mut Vec<u8>, &str, u16, Duration) -> bool,
    ) -> bool {
        let attempts = self.attempts;
        for failed in &attempts.failed {
            write(out, &failed.node.label, failed.status, failed.took);
            out.extend_from_slice(b", ");
        }
        let Some(Node { label, .. }) = attempts.node else { return false };
        let took = attempts.began.map(|began| self.ended.duration_since(began));
        write(out, label, attempts.status, took.unwrap_or_default())
    }
}

fn route(attempts: &Attempts<'_>, out: &mut Vec<u8>, field: fn(&Route) -> &str) -> bool {
    attempts.matched.is_some_and(|matched| put(out, field(matched.route).as_bytes()))
}

/// Seconds with three decimals.
fn millis(out: &mut Vec<u8>, duration: Duration) -> bool {
    number(out, duration.as_secs());
    let millis = duration.subsec_millis();
    let digit = |divisor: u32| b'0' + (millis / divisor % 10) as u8;
    put(out, &[b'.', digit(100), digit(10), digit(1)])
}

fn request_id(out: &mut Vec<u8>, id: u128) -> bool {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let start = out.len();
    out.resize(start + 32, 0);
    for (at, byte) in out[start..].iter_mut().enumerate() {
        *byte = DIGITS[(id >> (4 * at)) as usize & 15];
    }
    true
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Local times, formatted once per second.
#[derive(Debug, Default)]
struct TimeCache {
    second: Cell<u64>,
    local: RefCell<String>,
    iso8601: RefCell<String>,
}

impl TimeCache {
    /// Formats anew if the worker's clock shows another second than before.
    fn refresh(&self, second: u64) {
        if self.second.replace(second) != second {
            let now = jiff::Zoned::now();
            *self.local.borrow_mut() = now.strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
            *self.iso8601.borrow_mut() = now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        }
    }

    fn local(&self, second: u64, out: &mut Vec<u8>) -> bool {
        self.refresh(second);
        put(out, self.local.borrow().as_bytes())
    }

    fn iso8601(&self, second: u64, out: &mut Vec<u8>) -> bool {
        self.refresh(second);
        put(out, self.iso8601.borrow().as_bytes())
    }
}
