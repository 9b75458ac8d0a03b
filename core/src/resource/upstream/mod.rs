//! Upstreams: nodes and how to reach them (admin-api.md, "Upstream").

mod checks;
mod nodes;
mod tls;

use std::time::Duration;

use serde_json::Value;

use super::fields::{self, Object, Unsupported};
use super::{Meta, Violation};
use crate::balancer::{Chash, ChashKey};
use crate::proxy_protocol::Version;
use crate::snapshot::Balancer;
pub use checks::{ActiveCheck, Checks, Outcome, PassiveCheck};
pub use tls::Tls;
pub(super) use tls::{CERTIFICATE, PRIVATE_KEY};

/// What this version cannot honour.
const UNSUPPORTED: [Unsupported<Upstream>; 4] = [
    ("type", |upstream| {
        let other = matches!(upstream.kind, UpstreamType::Named(_));
        fields::unless(other, upstream.kind.as_str())
    }),
    // Layer 4 and Kafka.
    ("scheme", |upstream| fields::unless(!upstream.scheme.is_http(), upstream.scheme.as_str())),
    // In APISIX such an upstream answers 503 whatever its nodes are.
    ("service_name", |upstream| {
        let alone = upstream.service_name.is_some() && upstream.discovery_type.is_none();
        fields::unless(alone, "service_name")
    }),
    ("discovery_type", |upstream| {
        let discovery = upstream.discovery_type.as_deref().unwrap_or_default();
        let unknown = upstream.service_name.is_some() && !DISCOVERY_TYPES.contains(&discovery);
        fields::unless(unknown, discovery)
    }),
];

/// The discoveries that exist.
const DISCOVERY_TYPES: [&str; 1] = ["dns"];

const HASH_ON: [&str; 5] = ["vars", "header", "cookie", "consumer", "vars_combinations"];
const PASS_HOST: [&str; 3] = ["pass", "node", "rewrite"];

/// Longest time that can be configured, in seconds: about 31 years.
const SECONDS_MAX: i64 = 1_000_000_000;

/// An upstream as configured.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Upstream {
    /// Id, name, description, labels, times.
    #[serde(flatten)]
    pub meta: Meta,
    /// `nodes`; may be empty, which answers 503. Always empty with service discovery.
    pub nodes: Vec<Node>,
    /// `type`.
    #[serde(rename = "type")]
    pub kind: UpstreamType,
    /// `hash_on`: where a `chash` upstream takes its key from.
    pub hash_on: HashOn,
    /// `key` of a `chash` upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `scheme`.
    pub scheme: Scheme,
    /// `retries`; `None`: number of nodes minus one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// `retry_timeout` in seconds; `None` or zero: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_timeout: Option<f64>,
    /// `timeout`; `None`: 60 seconds each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// `keepalive_pool`; `None`: the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_pool: Option<KeepalivePool>,
    /// `pass_host`.
    pub pass_host: PassHost,
    /// `upstream_host`, used with `pass_host: rewrite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_host: Option<String>,
    /// `checks`: health checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Box<Checks>>,
    /// `proxy_protocol`: the header that connections to the nodes begin with (Osmia's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Version>,
    /// `tls`: has no effect with a `scheme` without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<Tls>>,
    /// `service_name` that the discovery knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// `discovery_type`: which discovery, in place of `nodes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_type: Option<String>,
    /// `discovery_args`: `namespace_id`, `group_name` and what else a discovery knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_args: Option<Object>,
}

/// One entry of `nodes`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Node {
    /// A name, an IPv4 address, an IPv6 address without brackets, or `unix:` with the path of a
    /// Unix domain socket (Osmia's own, in nginx's notation).
    pub host: String,
    /// `None`: the scheme's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Share of requests; zero takes the node out.
    pub weight: u32,
    /// Nodes of lower priority are used when the higher ones are exhausted. This version requires
    /// all nodes of an upstream to have the same.
    pub priority: i64,
    /// Free data, passed through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Object>,
}

impl Node {
    /// The path of the Unix domain socket that it is.
    pub fn unix(&self) -> Option<&str> {
        nodes::unix_path(&self.host)
    }
}

/// `type`: the balancing algorithm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UpstreamType {
    /// `roundrobin`: smooth weighted round-robin.
    #[default]
    RoundRobin,
    /// `chash`: consistent hashing.
    Chash,
    /// `least_conn`: the fewest active connections for the weight.
    LeastConn,
    /// `ewma`: the shortest latency, averaged with exponential decay.
    Ewma,
    /// The name of a balancer of the user's.
    Named(String),
}

impl UpstreamType {
    /// The name as configured.
    pub fn as_str(&self) -> &str {
        match self {
            Self::RoundRobin => "roundrobin",
            Self::Chash => "chash",
            Self::LeastConn => "least_conn",
            Self::Ewma => "ewma",
            Self::Named(name) => name,
        }
    }

    fn from_json(value: &Value) -> Result<Self, Violation> {
        Ok(match fields::string(value)? {
            "roundrobin" => Self::RoundRobin,
            "chash" => Self::Chash,
            "least_conn" => Self::LeastConn,
            "ewma" => Self::Ewma,
            name => Self::Named(name.to_owned()),
        })
    }
}

impl serde::Serialize for UpstreamType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// `hash_on`: what the `key` of a `chash` upstream names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    /// A variable of the request.
    #[default]
    Vars,
    /// A header.
    Header,
    /// A cookie.
    Cookie,
    /// The consumer's name; there is no `key`.
    Consumer,
    /// A text with several variables.
    VarsCombinations,
}

/// `scheme`: the protocol spoken with the nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP/1.1 without TLS.
    #[default]
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// gRPC without TLS.
    Grpc,
    /// gRPC over TLS.
    Grpcs,
    /// HTTP/2 over TLS; Osmia's addition.
    H2,
    /// HTTP/2 without TLS, with prior knowledge; Osmia's addition.
    H2c,
    /// L4, TCP.
    Tcp,
    /// L4, TLS towards the node.
    Tls,
    /// L4, UDP.
    Udp,
    /// Kafka.
    Kafka,
}

impl Scheme {
    const ALL: [Self; 10] = [
        Self::Grpc,
        Self::Grpcs,
        Self::H2,
        Self::H2c,
        Self::Http,
        Self::Https,
        Self::Tcp,
        Self::Tls,
        Self::Udp,
        Self::Kafka,
    ];

    /// The name as configured.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
            Self::H2 => "h2",
            Self::H2c => "h2c",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
            Self::Kafka => "kafka",
        }
    }

    /// Whether it is HTTP of any version.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https | Self::Grpc | Self::Grpcs | Self::H2 | Self::H2c)
    }

    /// The port of a node that names none: 443 with TLS, otherwise 80 (APISIX:
    /// `apisix/upstream.lua`, `scheme_to_port`).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Https | Self::Grpcs | Self::H2 => 443,
            _ => 80,
        }
    }

    fn from_json(value: &Value) -> Result<Self, Violation> {
        const NAMES: [&str; 10] =
            ["grpc", "grpcs", "http", "https", "tcp", "tls", "udp", "kafka", "h2", "h2c"];
        let name = fields::one_of(value, &NAMES)?;
        Ok(Self::ALL.into_iter().find(|scheme| scheme.as_str() == name).unwrap_or_default())
    }
}

/// `pass_host`: the `Host` header that the node sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PassHost {
    /// The client's.
    #[default]
    Pass,
    /// The node's.
    Node,
    /// `upstream_host`.
    Rewrite,
}

/// `timeout`: seconds, each greater than zero.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Timeout {
    /// Until a connection is established.
    pub connect: f64,
    /// Between two writes to the node.
    pub send: f64,
    /// Between two reads from the node.
    pub read: f64,
}

/// `keepalive_pool`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct KeepalivePool {
    /// Most idle connections to one node, per worker.
    pub size: u32,
    /// Seconds after which an idle connection is closed; zero: never.
    pub idle_timeout: f64,
    /// Most requests on one connection.
    pub requests: u32,
}

impl Upstream {
    /// Checks a JSON object and takes the upstream from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let mut upstream = Self::default();
        fields::each(map, |name, value| upstream.take(name, value))?;
        let discovery = upstream.service_name.is_some() && upstream.discovery_type.is_some();
        let nodes = map.contains_key("nodes");
        if nodes == discovery {
            let fields = ["nodes", "service_name"];
            return Err(Violation::Exclusive { group: None, fields, both: nodes });
        }
        let host = upstream.upstream_host.as_deref().unwrap_or_default();
        if upstream.pass_host == PassHost::Rewrite && host.is_empty() {
            let text = "`upstream_host` can't be empty when `pass_host` is `rewrite`";
            return Err(Violation::Rule(text.to_owned()));
        }
        upstream.balancer()?;
        Ok(upstream)
    }

    /// How a node is chosen, in the form that workers use. A name that nobody has taken is checked
    /// elsewhere.
    pub fn balancer(&self) -> Result<Balancer, Violation> {
        Ok(match self.kind {
            UpstreamType::Chash => {
                let key = ChashKey::parse(self.hash_on, self.key.as_deref())?;
                Balancer::Chash(Chash::new(key))
            }
            UpstreamType::LeastConn => Balancer::LeastConn,
            UpstreamType::Ewma => Balancer::Ewma,
            UpstreamType::RoundRobin | UpstreamType::Named(_) => Balancer::RoundRobin,
        })
    }

    /// What of this upstream the version at hand cannot honour, in the form of a validation error;
    /// `None`: it honours all of it.
    pub fn unsupported(&self) -> Option<String> {
        self.unmet().map(|violation| violation.to_string())
    }

    /// Why this upstream's nodes cannot be discovered in a process in which only the discoveries
    /// `configured` are.
    pub fn undiscoverable(&self, configured: &[&str]) -> Option<Violation> {
        let discovery = self.discovery_type.as_deref().filter(|_| self.service_name.is_some())?;
        if configured.contains(&discovery) {
            return None;
        }
        let text =
            format!("\"{discovery}\" is not configured: set discovery.{discovery} in config.yaml");
        Some(Violation::Rule(text).at("discovery_type"))
    }

    /// [`Self::unsupported`] before it is text.
    pub(super) fn unmet(&self) -> Option<Violation> {
        fields::first_unsupported(&UNSUPPORTED, self)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "nodes" => self.nodes = nodes::from_json(value)?,
            "type" => self.kind = UpstreamType::from_json(value)?,
            "hash_on" => self.hash_on = hash_on(value)?,
            "key" => self.key = Some(fields::text(value)?),
            "scheme" => self.scheme = Scheme::from_json(value)?,
            "retries" => self.retries = Some(fields::integer(value, 0, U32_MAX)? as u32),
            "retry_timeout" => self.retry_timeout = Some(seconds_or_zero(value)?),
            "timeout" => self.timeout = Some(Timeout::from_json(value)?),
            "keepalive_pool" => self.keepalive_pool = Some(KeepalivePool::from_json(value)?),
            "pass_host" => self.pass_host = pass_host(value)?,
            "upstream_host" => self.upstream_host = Some(fields::host(value)?.to_owned()),
            // `checks:` without a value is common in YAML files.
            "checks" if value.is_null() => {}
            "checks" => self.checks = Some(Box::new(Checks::from_json(value)?)),
            "tls" => self.tls = Some(Box::new(Tls::from_json(value)?)),
            "proxy_protocol" => self.proxy_protocol = Some(proxy_protocol(value)?),
            "service_name" => {
                self.service_name = Some(fields::bounded(value, 1, 256)?.to_owned());
            }
            "discovery_type" => self.discovery_type = Some(fields::text(value)?),
            "discovery_args" => self.discovery_args = Some(discovery_args(value)?),
            _ => return self.meta.take(name, value),
        }
        Ok(true)
    }
}

fields::from_value!(Upstream);

const U32_MAX: i64 = u32::MAX as i64;

fn hash_on(value: &Value) -> Result<HashOn, Violation> {
    Ok(match fields::one_of(value, &HASH_ON)? {
        "header" => HashOn::Header,
        "cookie" => HashOn::Cookie,
        "consumer" => HashOn::Consumer,
        "vars_combinations" => HashOn::VarsCombinations,
        _ => HashOn::Vars,
    })
}

fn discovery_args(value: &Value) -> Result<Object, Violation> {
    let map = fields::object(value)?;
    for name in ["namespace_id", "group_name"] {
        fields::optional(map, name, fields::string)?;
    }
    Ok(map.clone())
}

fn pass_host(value: &Value) -> Result<PassHost, Violation> {
    Ok(match fields::one_of(value, &PASS_HOST)? {
        "node" => PassHost::Node,
        "rewrite" => PassHost::Rewrite,
        _ => PassHost::Pass,
    })
}

fn proxy_protocol(value: &Value) -> Result<Version, Violation> {
    Ok(match fields::one_of(value, &["v1", "v2"])? {
        "v1" => Version::V1,
        _ => Version::V2,
    })
}

fn seconds(value: &Value) -> Result<f64, Violation> {
    if fields::number(value)? <= 0.0 {
        return Err(Violation::Positive { found: value.to_string() });
    }
    seconds_or_zero(value)
}

fn seconds_or_zero(value: &Value) -> Result<f64, Violation> {
    let found = fields::number(value)?;
    if found < 0.0 {
        return Err(Violation::AtLeast { found: value.to_string(), min: 0 });
    }
    if found > SECONDS_MAX as f64 {
        return Err(Violation::AtMost { found: value.to_string(), max: SECONDS_MAX });
    }
    Ok(found)
}

/// A checked number of seconds as a duration.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

impl Timeout {
    /// Checks and takes a `timeout` object.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        Ok(Self {
            connect: fields::required(map, "connect", seconds)?,
            send: fields::required(map, "send", seconds)?,
            read: fields::required(map, "read", seconds)?,
        })
    }

    /// In the form that workers use.
    pub fn compile(&self) -> crate::snapshot::Timeouts {
        crate::snapshot::Timeouts {
            connect: duration(self.connect),
            send: duration(self.send),
            read: duration(self.read),
        }
    }
}

impl KeepalivePool {
    fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let count = |value| fields::integer(value, 1, U32_MAX).map(|n| n as u32);
        Ok(Self {
            size: fields::optional(map, "size", count)?.unwrap_or(320),
            idle_timeout: fields::optional(map, "idle_timeout", seconds_or_zero)?.unwrap_or(60.0),
            requests: fields::optional(map, "requests", count)?.unwrap_or(1000),
        })
    }

    /// In the form that workers use.
    pub fn compile(&self) -> crate::snapshot::KeepalivePool {
        crate::snapshot::KeepalivePool {
            size: self.size,
            idle_timeout: duration(self.idle_timeout),
            requests: self.requests,
        }
    }
}

impl Upstream {
    /// `retry_timeout` in the form that workers use.
    pub fn retry_deadline(&self) -> Option<Duration> {
        self.retry_timeout.filter(|seconds| *seconds > 0.0).map(duration)
    }
}

#[cfg(test)]
mod tests;
