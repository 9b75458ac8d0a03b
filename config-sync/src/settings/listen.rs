//! `apisix.node_listen`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use osmia_core::settings::Listener;
use serde_json::Value;

use super::read::Key;
use super::{KeyError, KeyProblem};

/// APISIX's default port.
const PORT: u16 = 9080;
/// Highest port.
pub(super) const PORT_MAX: u64 = 65535;

/// One entry of the list, expanded.
struct Entry {
    /// `None`: all addresses.
    ip: Option<IpAddr>,
    port: u16,
    access_log: bool,
}

/// The addresses to listen on: a port, or a list of ports and `{ip, port}`. With `enable_ipv6` an
/// entry without `ip` stands for `0.0.0.0` and `[::]`. Repeated addresses count once.
pub(super) fn listeners(apisix: &Key<'_>) -> Result<Vec<Listener>, KeyError> {
    let ipv6 = apisix.get("enable_ipv6")?.boolean(true)?;
    let mut listeners: Vec<Listener> = Vec::new();
    for Entry { ip, port, access_log } in entries(&apisix.get("node_listen")?)? {
        let mut add = |ip: IpAddr, optional| {
            let addr = SocketAddr::new(ip, port);
            if listeners.iter().all(|listener| listener.addr != addr) {
                listeners.push(Listener { addr, access_log, optional });
            }
        };
        if let Some(ip) = ip {
            add(ip, false);
            continue;
        }
        add(Ipv4Addr::UNSPECIFIED.into(), false);
        if ipv6 {
            add(Ipv6Addr::UNSPECIFIED.into(), true);
        }
    }
    Ok(listeners)
}

fn entries(key: &Key<'_>) -> Result<Vec<Entry>, KeyError> {
    match key.value() {
        None => Ok(vec![Entry { ip: None, port: PORT, access_log: true }]),
        Some(Value::Array(items)) if !items.is_empty() => {
            key.items()?.map(|item| entry(&item)).collect()
        }
        Some(Value::Array(_) | Value::Object(_)) => {
            Err(key.wrong("a port, or a list with at least one port or {ip, port}"))
        }
        Some(_) => Ok(vec![Entry { ip: None, port: port(key)?, access_log: true }]),
    }
}

fn entry(key: &Key<'_>) -> Result<Entry, KeyError> {
    if !matches!(key.value(), Some(Value::Object(_))) {
        return Ok(Entry { ip: None, port: port(key)?, access_log: true });
    }
    let http2 = key.get("enable_http2")?;
    if http2.value().is_some() {
        let text = "is no longer a setting of one port, set apisix.enable_http2 instead".to_owned();
        return Err((http2.path().to_owned(), KeyProblem::Rule(text)));
    }
    let port_key = key.get("port")?;
    Ok(Entry {
        ip: ip(&key.get("ip")?)?,
        port: if port_key.value().is_none() { PORT } else { port(&port_key)? },
        access_log: key.get("access_log")?.boolean(true)?,
    })
}

fn port(key: &Key<'_>) -> Result<u16, KeyError> {
    key.integer(1..=PORT_MAX).map(|port| port as u16)
}

/// An IP address, also in brackets.
pub(super) fn ip(key: &Key<'_>) -> Result<Option<IpAddr>, KeyError> {
    let Some(value) = key.value() else { return Ok(None) };
    let text = value.as_str().unwrap_or_default();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map(Some).map_err(|_| key.wrong("an IP address"))
}
