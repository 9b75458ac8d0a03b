//! Upstreams: nodes and how to reach them (admin-api.md, "Upstream").

use std::time::Duration;

use serde_json::Value;

use super::fields::{self, Object};
use super::{Meta, Violation};

/// Fields of APISIX's upstream that this version cannot honour.
const UNSUPPORTED: [&str; 5] =
    ["checks", "tls", "service_name", "discovery_type", "discovery_args"];

/// Fields read below, besides [`Meta::FIELDS`].
const SUPPORTED: [&str; 11] = [
    "nodes",
    "retries",
    "retry_timeout",
    "timeout",
    "keepalive_pool",
    "type",
    "hash_on",
    "key",
    "scheme",
    "pass_host",
    "upstream_host",
];

const SCHEMES: [&str; 8] = ["grpc", "grpcs", "http", "https", "tcp", "tls", "udp", "kafka"];
const HASH_ON: [&str; 5] = ["vars", "header", "cookie", "consumer", "vars_combinations"];
const PASS_HOST: [&str; 3] = ["pass", "node", "rewrite"];

/// Longest time that can be configured, in seconds: about 31 years.
const SECONDS_MAX: i64 = 1_000_000_000;

/// An upstream as configured.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Upstream {
    /// Id, name, description, labels, times.
    #[serde(flatten)]
    pub meta: Meta,
    /// `nodes`; may be empty, which answers 503.
    pub nodes: Vec<Node>,
    /// `type`.
    #[serde(rename = "type")]
    pub kind: UpstreamType,
    /// `hash_on`; no effect with `roundrobin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<String>,
    /// `key`; no effect with `roundrobin`.
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
}

/// One entry of `nodes`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Node {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
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

/// `type`: the balancing algorithm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamType {
    /// Smooth weighted round-robin.
    #[default]
    RoundRobin,
}

/// `scheme`: the protocol spoken with the nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP/1.1 without TLS.
    #[default]
    Http,
}

impl Scheme {
    /// The port of a node that names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
        }
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
        fields::known(map, &[&SUPPORTED[..], &Meta::FIELDS].concat(), &UNSUPPORTED)?;
        let upstream = Self {
            meta: Meta::from_object(map)?,
            nodes: nodes(map)?,
            kind: fields::optional(map, "type", kind)?.unwrap_or_default(),
            hash_on: fields::optional(map, "hash_on", |v| fields::one_of(v, &HASH_ON))?
                .map(str::to_owned),
            key: fields::optional(map, "key", fields::string)?.map(str::to_owned),
            scheme: fields::optional(map, "scheme", scheme)?.unwrap_or_default(),
            retries: fields::optional(map, "retries", |v| fields::integer(v, 0, U32_MAX))?
                .map(|n| n as u32),
            retry_timeout: fields::optional(map, "retry_timeout", seconds_or_zero)?,
            timeout: fields::optional(map, "timeout", Timeout::from_json)?,
            keepalive_pool: fields::optional(map, "keepalive_pool", KeepalivePool::from_json)?,
            pass_host: fields::optional(map, "pass_host", pass_host)?.unwrap_or_default(),
            upstream_host: fields::optional(map, "upstream_host", fields::host)?.map(str::to_owned),
        };
        if upstream.pass_host == PassHost::Rewrite && upstream.upstream_host.is_none() {
            let text = "`upstream_host` can't be empty when `pass_host` is `rewrite`";
            return Err(Violation::Rule(text.to_owned()));
        }
        Ok(upstream)
    }
}

impl TryFrom<Value> for Upstream {
    type Error = Violation;

    fn try_from(value: Value) -> Result<Self, Violation> {
        Self::from_json(&value)
    }
}

const U32_MAX: i64 = u32::MAX as i64;

fn kind(value: &Value) -> Result<UpstreamType, Violation> {
    match fields::string(value)? {
        "roundrobin" => Ok(UpstreamType::RoundRobin),
        other => Err(Violation::Unsupported(format!("\"{other}\""))),
    }
}

fn scheme(value: &Value) -> Result<Scheme, Violation> {
    match fields::one_of(value, &SCHEMES)? {
        "http" => Ok(Scheme::Http),
        other => Err(Violation::Unsupported(format!("\"{other}\""))),
    }
}

fn pass_host(value: &Value) -> Result<PassHost, Violation> {
    Ok(match fields::one_of(value, &PASS_HOST)? {
        "node" => PassHost::Node,
        "rewrite" => PassHost::Rewrite,
        _ => PassHost::Pass,
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

fn nodes(map: &Object) -> Result<Vec<Node>, Violation> {
    let refused = |cause| {
        let cause = Some(Box::new(cause));
        Violation::NoAlternative { required: &[], cause }.at("nodes")
    };
    let nodes = match map.get("nodes") {
        Some(Value::Object(nodes)) => nodes.iter().map(node_of_pair).collect(),
        Some(Value::Array(nodes)) => fields::items(nodes, node_of_object),
        Some(other) => fields::array(other).map(|_| Vec::new()),
        None => {
            let fields = ["nodes", "service_name"];
            return Err(Violation::Exclusive { group: None, fields, both: false });
        }
    };
    let nodes: Vec<Node> = nodes.map_err(refused)?;
    if nodes.iter().any(|node| node.priority != nodes[0].priority) {
        let text = "nodes of different \"priority\"".to_owned();
        return Err(Violation::Unsupported(text).at("nodes"));
    }
    Ok(nodes)
}

fn weight(value: &Value) -> Result<u32, Violation> {
    fields::integer(value, 0, U32_MAX).map(|n| n as u32)
}

fn node_of_object(value: &Value) -> Result<Node, Violation> {
    let map = fields::object(value)?;
    let host = fields::required(map, "host", |value| {
        let text = fields::host(value)?;
        let host = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        checked_host(host).map(str::to_owned)
    })?;
    Ok(Node {
        host,
        port: fields::optional(map, "port", |v| fields::integer(v, 1, 65535))?.map(|n| n as u16),
        weight: fields::required(map, "weight", weight)?,
        priority: fields::optional(map, "priority", |v| fields::integer(v, i64::MIN, i64::MAX))?
            .unwrap_or(0),
        metadata: fields::optional(map, "metadata", fields::object)?.cloned(),
    })
}

fn node_of_pair((address, value): (&String, &Value)) -> Result<Node, Violation> {
    let (host, port) = split_address(address).ok_or_else(|| {
        Violation::Rule(format!("invalid node address \"{address}\", expected host:port"))
    })?;
    let entry = |cause| Violation::Entry { key: address.clone(), cause: Box::new(cause) };
    Ok(Node {
        host: checked_host(host).map_err(entry)?.to_owned(),
        port,
        weight: weight(value).map_err(entry)?,
        priority: 0,
        metadata: None,
    })
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn split_address(address: &str) -> Option<(&str, Option<u16>)> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(text) => Some((host, Some(port(text)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match address.split_once(':') {
        None => Some((address, None)),
        Some((_, rest)) if rest.contains(':') => Some((address, None)),
        Some((host, text)) => Some((host, Some(port(text)?))),
    }
}

/// A host that can be connected to: no wildcard, and a colon only in an IPv6 address.
fn checked_host(host: &str) -> Result<&str, Violation> {
    let name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let valid = if host.contains(':') {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        !host.is_empty() && host.len() <= 253 && host.bytes().all(name)
    };
    if valid {
        return Ok(host);
    }
    Err(Violation::Rule(format!("\"{host}\" is neither a host name nor an IP address")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Result<Upstream, Violation> {
        Upstream::from_json(value)
    }

    /// A valid upstream with the fields of `extra` over it.
    fn with(extra: Value) -> Value {
        let mut upstream = json!({"nodes": {"127.0.0.1:80": 1}});
        let Value::Object(extra) = extra else { panic!("not an object") };
        upstream.as_object_mut().unwrap().extend(extra);
        upstream
    }

    fn addresses(nodes: &Value) -> Vec<(String, Option<u16>, u32)> {
        let upstream = parse(&json!({"nodes": nodes})).unwrap();
        upstream.nodes.into_iter().map(|n| (n.host, n.port, n.weight)).collect()
    }

    #[test]
    fn takes_nodes_in_both_forms() {
        let map = json!({"10.0.0.1:8080": 2, "a.example": 0, "[::1]:81": 1, "::2": 3});
        let mut found = addresses(&map);
        found.sort();
        let expected = [
            ("10.0.0.1".to_owned(), Some(8080), 2),
            ("::1".to_owned(), Some(81), 1),
            ("::2".to_owned(), None, 3),
            ("a.example".to_owned(), None, 0),
        ];
        assert_eq!(found, expected);
        let array = json!([
            {"host": "10.0.0.1", "port": 1, "weight": 7, "priority": 5, "metadata": {"a": 1}},
            {"host": "[::1]", "weight": 0, "priority": 5},
        ]);
        let expected = [("10.0.0.1".to_owned(), Some(1), 7), ("::1".to_owned(), None, 0)];
        assert_eq!(addresses(&array), expected);
        assert!(addresses(&json!([])).is_empty());
    }

    #[test]
    fn fills_in_the_defaults() {
        let upstream = parse(&with(json!({}))).unwrap();
        assert_eq!(upstream.kind, UpstreamType::RoundRobin);
        assert_eq!(upstream.scheme, Scheme::Http);
        assert_eq!(upstream.pass_host, PassHost::Pass);
        assert_eq!((upstream.retries, upstream.retry_deadline()), (None, None));
        let pool = parse(&with(json!({"keepalive_pool": {}}))).unwrap().keepalive_pool.unwrap();
        assert_eq!(pool.compile(), crate::snapshot::KeepalivePool::default());
    }

    #[test]
    fn converts_times() {
        let upstream = parse(&with(json!({
            "retry_timeout": 1.5, "timeout": {"connect": 0.25, "send": 2, "read": 3},
            "keepalive_pool": {"size": 1, "idle_timeout": 0, "requests": 2},
        })))
        .unwrap();
        assert_eq!(upstream.retry_deadline(), Some(Duration::from_millis(1500)));
        assert_eq!(upstream.timeout.unwrap().compile().connect, Duration::from_millis(250));
        assert_eq!(upstream.keepalive_pool.unwrap().compile().idle_timeout, Duration::ZERO);
        let zero = parse(&with(json!({"retry_timeout": 0}))).unwrap();
        assert_eq!(zero.retry_deadline(), None);
    }

    #[test]
    fn survives_a_round_trip_through_json() {
        let upstream = parse(&with(json!({
            "id": "u", "type": "roundrobin", "pass_host": "rewrite", "upstream_host": "x.y",
            "retries": 0, "hash_on": "vars", "key": "uri", "nodes": {"[::1]:80": 1},
        })))
        .unwrap();
        let json = serde_json::to_value(&upstream).unwrap();
        assert_eq!(serde_json::from_value::<Upstream>(json).unwrap(), upstream);
    }

    #[test]
    fn refuses_what_it_cannot_honour() {
        let cases = [
            (json!({"type": "chash"}), "type", "\"chash\""),
            (json!({"type": "least_conn"}), "type", "\"least_conn\""),
            (json!({"scheme": "https"}), "scheme", "\"https\""),
            (json!({"scheme": "grpc"}), "scheme", "\"grpc\""),
            (json!({"checks": {"active": {}}}), "checks", "\"checks\""),
            (json!({"tls": {"verify": true}}), "tls", "\"tls\""),
            (json!({"service_name": "a"}), "service_name", "\"service_name\""),
            (json!({"discovery_type": "dns"}), "discovery_type", "\"discovery_type\""),
            (json!({"discovery_args": {"a": 1}}), "discovery_args", "\"discovery_args\""),
            (
                json!({"nodes": [{"host": "a", "weight": 1, "priority": 1},
                                 {"host": "b", "weight": 1}]}),
                "nodes",
                "nodes of different \"priority\"",
            ),
        ];
        for (extra, field, what) in cases {
            let expected = format!(
                "property \"{field}\" validation failed: {what} is not supported yet by this version"
            );
            assert_eq!(parse(&with(extra)).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn refuses_in_the_words_of_apisix() {
        let nodes = "property \"nodes\" validation failed: object matches none of the required";
        let cases = [
            (json!({"nodes": 1}), nodes),
            (json!({"nodes": {"a:80": -1}}), nodes),
            (json!({"nodes": {"a:80": "1"}}), nodes),
            (json!({"nodes": {"a:0": 1}}), nodes),
            (json!({"nodes": {"a:65536": 1}}), nodes),
            (json!({"nodes": {"a:+80": 1}}), nodes),
            (json!({"nodes": {"a:": 1}}), nodes),
            (json!({"nodes": {"[::1": 1}}), nodes),
            (json!({"nodes": {"[::1]x": 1}}), nodes),
            (json!({"nodes": {"a b:80": 1}}), nodes),
            (json!({"nodes": {"*.a:80": 1}}), nodes),
            (json!({"nodes": [{"host": "a"}]}), nodes),
            (json!({"nodes": [{"weight": 1}]}), nodes),
            (json!({"nodes": [{"host": "a", "weight": 1, "port": 0}]}), nodes),
            (json!({"nodes": [{"host": "*", "weight": 1}]}), nodes),
            (json!({"x": 1}), "additional properties forbidden, found x"),
            (
                json!({"retries": -1}),
                "property \"retries\" validation failed: expected -1 to be at least 0",
            ),
            (
                json!({"retry_timeout": -1}),
                "property \"retry_timeout\" validation failed: expected -1 to be at least 0",
            ),
            (
                json!({"keepalive_pool": {"size": 0}}),
                "property \"keepalive_pool\" validation failed: property \"size\" validation \
                 failed: expected 0 to be at least 1",
            ),
            (
                json!({"timeout": {"connect": 1, "send": 1}}),
                "property \"timeout\" validation failed: property \"read\" is required",
            ),
            (
                json!({"timeout": {"connect": 1, "send": -1, "read": 1}}),
                "property \"timeout\" validation failed: property \"send\" validation failed: \
                 expected -1 to be greater than 0",
            ),
            (
                json!({"timeout": {"connect": 1e300, "send": 1, "read": 1}}),
                "property \"timeout\" validation failed: property \"connect\" validation failed: \
                 expected 1e+300 to be at most 1000000000",
            ),
            (
                json!({"hash_on": "x"}),
                "property \"hash_on\" validation failed: matches none of the enum values",
            ),
            (
                json!({"scheme": "ftp"}),
                "property \"scheme\" validation failed: matches none of the enum values",
            ),
            (
                json!({"pass_host": "rewrite"}),
                "`upstream_host` can't be empty when `pass_host` is `rewrite`",
            ),
        ];
        for (extra, expected) in cases {
            assert_eq!(parse(&with(extra.clone())).unwrap_err().to_string(), expected, "{extra}");
        }
        let none = "value should match only one schema, but matches none";
        assert_eq!(parse(&json!({})).unwrap_err().to_string(), none);
    }

    #[test]
    fn alternate_text_names_the_node() {
        let error = parse(&with(json!({"nodes": [{"host": "a", "weight": "x"}]}))).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "property \"nodes\" validation failed: object matches none of the required (failed to \
             validate item 1: property \"weight\" validation failed: wrong type: expected integer, \
             got string)"
        );
    }
}
