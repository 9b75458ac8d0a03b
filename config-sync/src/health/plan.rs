//! `checks` of an upstream in the form that probes use.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use osmia_core::health::Criteria;
use osmia_core::resource::{ActiveCheck, Checks, Outcome};
use osmia_core::snapshot::{Node, PassHost, Upstream};
use tokio_rustls::rustls::pki_types::ServerName;

/// The timeout of a probe when the configured one is no time at all.
const TIMEOUT: f64 = 1.0;
/// The longest timeout, in seconds.
const TIMEOUT_MAX: f64 = 3600.0;
/// How long one connection serves the probes of a node, so that a node that takes no new ones is
/// found. With one probe per second new connections take a fifth of what probes cost when they come
/// every 20 seconds.
const RENEWAL: Duration = Duration::from_mins(1);
/// The longest interval, in seconds.
const INTERVAL_MAX: u64 = 365 * 24 * 3600;

/// How a node is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Http,
    Https { verify: bool },
}

/// How the nodes of one upstream are checked.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) protocol: Protocol,
    pub(super) timeout: Duration,
    /// Most probes at the same time.
    pub(super) concurrency: usize,
    /// Between probes of nodes that are up; `None`: they are not probed.
    pub(super) healthy_interval: Option<Duration>,
    /// Between probes of nodes that are down; `None`: they are not probed.
    pub(super) unhealthy_interval: Option<Duration>,
    pub(super) active: Criteria,
    pub(super) passive: Option<Criteria>,
    /// `host`: what nodes are asked for in place of their own names.
    pub(super) host: Option<Arc<str>>,
    /// `port`: where nodes are probed in place of their own ports.
    pub(super) port: Option<u16>,
    /// A response has no body.
    pub(super) head: bool,
    request: Request,
}

/// A request without its `Host`.
#[derive(Debug)]
struct Request {
    /// The request line.
    first: String,
    has_host: bool,
    /// `req_headers` do not ask for the end of the connection.
    keeps: bool,
    rest: String,
}

impl Plan {
    pub(super) fn new(upstream: &str, checks: &Checks) -> Self {
        let active = &checks.active;
        let seconds = if active.timeout > 0.0 { active.timeout.min(TIMEOUT_MAX) } else { TIMEOUT };
        let protocol = match active.kind {
            "tcp" => Protocol::Tcp,
            "https" => Protocol::Https { verify: active.https_verify_certificate },
            _ => Protocol::Http,
        };
        Self {
            protocol,
            timeout: Duration::from_secs_f64(seconds),
            concurrency: usize::try_from(active.concurrency).unwrap_or(0).max(1),
            healthy_interval: interval(active.healthy.as_ref()),
            unhealthy_interval: interval(active.unhealthy.as_ref()),
            active: Criteria::active(active),
            passive: checks.passive.as_ref().map(Criteria::passive),
            host: active.host.as_deref().map(Arc::from),
            port: active.port,
            head: active.http_method == "HEAD",
            request: Request::new(upstream, active),
        }
    }

    /// The time until the next probe of a node that is up or not.
    pub(super) fn interval(&self, is_up: bool) -> Option<Duration> {
        if is_up { self.healthy_interval } else { self.unhealthy_interval }
    }

    /// Whether connections serve several probes, if nodes agree.
    pub(super) fn keeps(&self) -> bool {
        self.request.keeps
    }

    /// How many probes are made on one connection, at most.
    pub(super) fn renewal(&self) -> u64 {
        let interval = self.healthy_interval.or(self.unhealthy_interval).unwrap_or(RENEWAL);
        (RENEWAL.as_secs() / interval.as_secs().max(1)).max(1)
    }

    /// Where a node is probed, and by which name.
    pub(super) fn place(&self, upstream: &Upstream, node: &Node) -> Place {
        let mut addr = node.addr;
        if let (Some(port), None) = (self.port, &node.unix) {
            addr.set_port(port);
        }
        let name = match (&self.host, &upstream.pass_host) {
            (Some(host), _) | (None, PassHost::Rewrite(host)) => Arc::clone(host),
            _ => host_of(&node.authority).into(),
        };
        Place { addr, unix: node.unix.clone(), name }
    }

    /// The bytes that a node is sent.
    pub(super) fn request(&self, name: &str) -> Box<[u8]> {
        let Request { first, has_host, rest, .. } = &self.request;
        let bare_v6 = name.contains(':') && !name.starts_with('[');
        let host = match (has_host, bare_v6) {
            (true, _) => String::new(),
            (_, true) => format!("Host: [{name}]\r\n"),
            _ => format!("Host: {name}\r\n"),
        };
        format!("{first}{host}{rest}").into_bytes().into()
    }
}

/// Where a node is probed, and by which name. What is the same is probed once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) addr: SocketAddr,
    /// The Unix domain socket that `addr` stands for.
    pub(super) unix: Option<Arc<Path>>,
    /// For `Host` and SNI; an IPv6 address is in brackets.
    pub(super) name: Arc<str>,
}

impl fmt::Display for Place {
    /// Where it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unix {
            Some(path) => write!(f, "unix:{}", path.display()),
            None => self.addr.fmt(f),
        }
    }
}

impl Place {
    /// The name that the certificate must have: the address when no other can be asked for.
    pub(super) fn server_name(&self) -> ServerName<'static> {
        let bare = self.name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let name = bare.unwrap_or(&self.name);
        let without_port = name.split_once(':').map_or(name, |(host, _)| host);
        let name = if name.parse::<IpAddr>().is_ok() { name } else { without_port };
        ServerName::try_from(name.to_owned())
            .unwrap_or_else(|_| ServerName::IpAddress(self.addr.ip().into()))
    }
}

/// `host` of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn interval(outcome: Option<&Outcome>) -> Option<Duration> {
    let seconds = u64::try_from(outcome?.interval?).unwrap_or(0);
    (seconds > 0).then(|| Duration::from_secs(seconds.min(INTERVAL_MAX)))
}

impl Request {
    fn new(upstream: &str, check: &ActiveCheck) -> Self {
        let (method, path) = (check.http_method, target(&check.http_path));
        let mut request = Self {
            first: format!("{method} {path} HTTP/1.1\r\n"),
            has_host: false,
            keeps: true,
            rest: String::new(),
        };
        let mut has_length = false;
        for line in &check.req_headers {
            let Some(name) = field_name(line) else {
                tracing::warn!(upstream, line, "left out of probes: not a header");
                continue;
            };
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            request.has_host |= is("host");
            has_length |= is("content-length");
            // A body that ends elsewhere would become the next request.
            request.keeps &= !is("content-length") && !is("transfer-encoding");
            // Of the connection only this is for the configuration to say.
            if is("connection") {
                request.keeps &= !line.to_ascii_lowercase().contains("close");
            } else {
                request.rest.push_str(line.trim());
                request.rest.push_str("\r\n");
            }
        }
        let body = &check.http_req_body;
        if !has_length && (!body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH")) {
            // Writing to a String does not fail.
            let _ = write!(request.rest, "Content-Length: {}\r\n", body.len());
        }
        // Named, because a node of HTTP/1.0 would close otherwise.
        let keep = "Connection: keep-alive\r\n\r\n";
        request.rest.push_str(if request.keeps { keep } else { "Connection: close\r\n\r\n" });
        request.rest.push_str(body);
        request
    }
}

/// A path that cannot be taken for anything but a path.
fn target(path: &str) -> String {
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    for char in path.chars() {
        if char.is_ascii_graphic() {
            target.push(char);
        } else {
            for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String does not fail.
                let _ = write!(target, "%{byte:02X}");
            }
        }
    }
    target
}

/// The name in a line of `Name: value`; `None`: it is none, or it would be several.
fn field_name(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(':')?;
    let name = name.trim_start();
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let fits = !name.is_empty()
        && name.bytes().all(is_token)
        && line.bytes().all(|b| b == b'\t' || !b.is_ascii_control());
    fits.then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(active: Value) -> Plan {
        let upstream = json!({"nodes": {}, "checks": {"active": active}});
        let upstream = osmia_core::resource::Upstream::from_json(&upstream).unwrap();
        Plan::new("1", &upstream.checks.unwrap())
    }

    fn request(active: Value, name: &str) -> String {
        String::from_utf8(plan(active).request(name).to_vec()).unwrap()
    }

    #[test]
    fn a_request_has_what_is_configured() {
        let expected = "GET / HTTP/1.1\r\nHost: a.com\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(request(json!({}), "a.com"), expected);
        let active = json!({
            "http_method": "POST", "http_path": "status?a=b", "http_req_body": "{}",
            "req_headers": ["X-A: 1", "connection: Close"],
        });
        let expected = "POST /status?a=b HTTP/1.1\r\nHost: [::1]\r\nX-A: 1\r\nContent-Length: 2\r\n\
                        Connection: close\r\n\r\n{}";
        assert_eq!(request(active, "::1"), expected);
        let framed = plan(json!({"req_headers": ["content-Length: 2"]}));
        assert!(!framed.keeps());
        let host = json!({"req_headers": ["host: mine"], "http_method": "HEAD"});
        let expected = "HEAD / HTTP/1.1\r\nhost: mine\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(request(host, "a.com"), expected);
    }

    #[test]
    fn configuration_cannot_smuggle_a_request() {
        let active = json!({
            "http_path": "/a b\r\nX: y",
            "req_headers": ["X: y\r\nZ: 1", "no header", ": x", "A: ok"],
        });
        let expected = "GET /a%20b%0D%0AX:%20y HTTP/1.1\r\nHost: a\r\nA: ok\r\n\
                        Connection: keep-alive\r\n\r\n";
        assert_eq!(request(active, "a"), expected);
    }

    #[test]
    fn odd_numbers_are_bounded() {
        let plan =
            plan(json!({"timeout": -1, "concurrency": -5, "healthy": {"interval": i64::MAX}}));
        assert_eq!((plan.timeout, plan.concurrency), (Duration::from_secs(1), 1));
        assert_eq!(plan.healthy_interval, Some(Duration::from_secs(INTERVAL_MAX)));
        assert_eq!(plan.unhealthy_interval, None, "not configured: as in lua-resty-healthcheck");
    }

    #[test]
    fn connections_are_renewed_by_the_minute() {
        let healthy = |interval: u64| plan(json!({"healthy": {"interval": interval}})).renewal();
        assert_eq!([1, 5, 45, 1000].map(healthy), [60, 12, 1, 1]);
        assert_eq!(plan(json!({"unhealthy": {"interval": 2}})).renewal(), 30);
    }

    #[test]
    fn hosts_are_taken_from_authorities() {
        let cases =
            [("a.com:80", "a.com"), ("a.com", "a.com"), ("[::1]:81", "[::1]"), ("[::1]", "[::1]")];
        for (authority, host) in cases {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn certificates_are_asked_for_by_name() {
        let name = |name: &str| {
            let addr = "127.0.0.1:443".parse().unwrap();
            let place = Place { addr, unix: None, name: name.into() };
            place.server_name().to_str().into_owned()
        };
        let cases = [
            ("a.com", "a.com"),
            ("a.com:8443", "a.com"),
            ("[::1]", "::1"),
            ("10.0.0.1", "10.0.0.1"),
            ("-", "127.0.0.1"),
        ];
        for (given, expected) in cases {
            assert_eq!(name(given), expected);
        }
    }
}
