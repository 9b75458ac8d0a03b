//! `nodes` in its two forms.

use serde_json::Value;

use super::super::Violation;
use super::super::fields;
use super::{Node, U32_MAX};

/// Checks `nodes` and takes them from either form.
pub(super) fn from_json(value: &Value) -> Result<Vec<Node>, Violation> {
    let nodes = match value {
        Value::Object(nodes) => nodes.iter().map(node_of_pair).collect(),
        Value::Array(nodes) => fields::items(nodes, node_of_object),
        other => fields::array(other).map(|_| Vec::new()),
    };
    nodes.map_err(|cause| Violation::NoAlternative { required: &[], cause: Some(Box::new(cause)) })
}

fn weight(value: &Value) -> Result<u32, Violation> {
    fields::integer(value, 0, U32_MAX).map(|n| n as u32)
}

fn node_of_object(value: &Value) -> Result<Node, Violation> {
    let map = fields::object(value)?;
    let port = fields::optional(map, "port", |v| fields::integer(v, 1, 65535))?.map(|n| n as u16);
    // Without a `port` APISIX takes one that is written in `host`.
    let (host, port) = fields::required(map, "host", |value| {
        if let Some(unix) = value.as_str().filter(|text| unix_path(text).is_some()) {
            return Ok((checked_host(unix)?.to_owned(), None));
        }
        let text = fields::host(value)?;
        let (host, port) = match split_address(text) {
            Some((host, written @ Some(_))) if port.is_none() => (host, written),
            _ => (text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text), port),
        };
        Ok((checked_host(host)?.to_owned(), port))
    })?;
    Ok(Node {
        host,
        port,
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
    if unix_path(address).is_some() {
        return Some((address, None));
    }
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

/// Longest path of a Unix domain socket (`sun_path` in unix(7), without its terminator).
const UNIX_PATH_MAX: usize = 107;

/// The path in `unix:/path`.
pub(super) fn unix_path(host: &str) -> Option<&str> {
    host.strip_prefix("unix:").filter(|path| path.starts_with('/'))
}

/// A host that can be connected to: no wildcard, and a colon only in an IPv6 address. Or the path of
/// a Unix domain socket.
fn checked_host(host: &str) -> Result<&str, Violation> {
    if let Some(path) = unix_path(host) {
        if path.len() <= UNIX_PATH_MAX && !path.bytes().any(|b| b.is_ascii_control()) {
            return Ok(host);
        }
        let text = format!("\"{host}\" is not unix: with a path of at most {UNIX_PATH_MAX} bytes");
        return Err(Violation::Rule(text));
    }
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
