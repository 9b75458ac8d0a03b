//! `apisix.node_listen`, `apisix.ssl.listen`, `apisix.proxy_protocol` and who is trusted there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use osmia_core::net_set::NetSet;
use osmia_core::settings::{ListenAddr, Listener};
use serde_json::Value;

use super::read::Key;
use super::{KeyError, KeyProblem};

/// APISIX's default port.
const PORT: u16 = 9080;
/// APISIX's default port for TLS.
const TLS_PORT: u16 = 9443;
/// Highest port.
pub(super) const PORT_MAX: u64 = 65535;
/// Longest path of a Unix domain socket (`sun_path` in unix(7), without its terminator).
const UNIX_PATH_MAX: usize = 107;

/// One entry of a list, as it is written.
struct Entry {
    place: Place,
    access_log: bool,
    proxy_protocol: bool,
}

/// Where an entry listens.
enum Place {
    Port {
        /// `None`: all addresses.
        ip: Option<IpAddr>,
        port: u16,
    },
    Unix(PathBuf),
}

impl Entry {
    fn all(port: u16) -> Self {
        Self { place: Place::Port { ip: None, port }, access_log: true, proxy_protocol: false }
    }
}

/// Collects listeners.
struct Listeners {
    all: Vec<Listener>,
    ipv6: bool,
    http2: bool,
}

impl Listeners {
    /// Adds what an entry stands for: with `enable_ipv6` an entry without `ip` is `0.0.0.0` and
    /// `[::]`. An address that is repeated in the same way counts once.
    fn add(&mut self, key: &Key<'_>, entry: Entry, tls: bool) -> Result<(), KeyError> {
        let Entry { place, access_log, proxy_protocol } = entry;
        let tcp = |ip: IpAddr, port| ListenAddr::Tcp(SocketAddr::new(ip, port));
        let (first, second) = match place {
            Place::Unix(path) => (ListenAddr::Unix(path), None),
            Place::Port { ip: Some(ip), port } => (tcp(ip, port), None),
            Place::Port { ip: None, port } => {
                let ipv6 = self.ipv6.then(|| tcp(Ipv6Addr::UNSPECIFIED.into(), port));
                (tcp(Ipv4Addr::UNSPECIFIED.into(), port), ipv6)
            }
        };
        let http2 = self.http2;
        let listener =
            |addr, optional| Listener { addr, access_log, optional, tls, http2, proxy_protocol };
        self.push(key, listener(first, false))?;
        second.map_or(Ok(()), |addr| self.push(key, listener(addr, true)))
    }

    fn push(&mut self, key: &Key<'_>, listener: Listener) -> Result<(), KeyError> {
        match self.all.iter().find(|other| other.addr == listener.addr) {
            None => self.all.push(listener),
            Some(other)
                if (other.tls, other.proxy_protocol) == (listener.tls, listener.proxy_protocol) => {
            }
            Some(_) => {
                let text = format!(
                    "{} is also listened on with another setting of TLS or PROXY protocol, choose \
                     another port",
                    listener.addr
                );
                return Err((key.path().to_owned(), KeyProblem::Rule(text)));
            }
        }
        Ok(())
    }
}

/// The addresses to listen on for traffic.
pub(super) fn listeners(apisix: &Key<'_>) -> Result<Vec<Listener>, KeyError> {
    let mut listeners = Listeners {
        all: Vec::new(),
        ipv6: apisix.get("enable_ipv6")?.boolean(true)?,
        http2: apisix.get("enable_http2")?.boolean(true)?,
    };
    let plain = apisix.get("node_listen")?;
    for (key, entry) in entries(&plain)? {
        listeners.add(&key, entry, false)?;
    }
    let ssl = apisix.get("ssl")?;
    if ssl.get("enable")?.boolean(true)? {
        for (key, entry) in tls_entries(&ssl.get("listen")?)? {
            listeners.add(&key, entry, true)?;
        }
    }
    let proxy_protocol = apisix.get("proxy_protocol")?;
    for (name, tls) in [("listen_http_port", false), ("listen_https_port", true)] {
        let key = proxy_protocol.get(name)?;
        if key.value().is_some() {
            let entry = Entry { proxy_protocol: true, ..Entry::all(port(&key)?) };
            listeners.add(&key, entry, tls)?;
        }
    }
    Ok(listeners.all)
}

/// `node_listen`: a port, or a list of ports and entries.
fn entries<'v>(key: &Key<'v>) -> Result<Vec<(Key<'v>, Entry)>, KeyError> {
    match key.value() {
        None => Ok(vec![(key.clone(), Entry::all(PORT))]),
        Some(Value::Array(items)) if !items.is_empty() => {
            let read = |item: Key<'v>| {
                let map = matches!(item.value(), Some(Value::Object(_)));
                let entry = if map { entry(&item, PORT) } else { port(&item).map(Entry::all) };
                Ok((item, entry?))
            };
            key.items()?.map(read).collect()
        }
        Some(Value::Array(_) | Value::Object(_)) => {
            Err(key.wrong("a port, or a list with at least one port or {ip, port}"))
        }
        Some(_) => Ok(vec![(key.clone(), Entry::all(port(key)?))]),
    }
}

/// `ssl.listen`: a list of entries.
fn tls_entries<'v>(key: &Key<'v>) -> Result<Vec<(Key<'v>, Entry)>, KeyError> {
    if key.value().is_none() {
        return Ok(vec![(key.clone(), Entry::all(TLS_PORT))]);
    }
    let read = |item: Key<'v>| {
        let http3 = item.get("enable_http3")?;
        if http3.boolean(false)? {
            return Err(http3.unsupported("HTTP/3"));
        }
        let entry = entry(&item, TLS_PORT)?;
        Ok((item, entry))
    };
    key.items()?.map(read).collect()
}

fn entry(key: &Key<'_>, default_port: u16) -> Result<Entry, KeyError> {
    let http2 = key.get("enable_http2")?;
    if http2.value().is_some() {
        let text = "is no longer a setting of one port, set apisix.enable_http2 instead".to_owned();
        return Err((http2.path().to_owned(), KeyProblem::Rule(text)));
    }
    let (ip_key, port_key) = (key.get("ip")?, key.get("port")?);
    let place = match unix(&key.get("unix")?)? {
        Some(path) => {
            for other in [&ip_key, &port_key] {
                if other.value().is_some() {
                    let text = "cannot be combined with unix, leave one of them out".to_owned();
                    return Err((other.path().to_owned(), KeyProblem::Rule(text)));
                }
            }
            Place::Unix(path)
        }
        None => Place::Port {
            ip: ip(&ip_key)?,
            port: if port_key.value().is_none() { default_port } else { port(&port_key)? },
        },
    };
    Ok(Entry {
        place,
        access_log: key.get("access_log")?.boolean(true)?,
        proxy_protocol: key.get("proxy_protocol")?.boolean(false)?,
    })
}

/// The path of a Unix domain socket.
fn unix(key: &Key<'_>) -> Result<Option<PathBuf>, KeyError> {
    let Some(value) = key.value() else { return Ok(None) };
    let expected = format!("an absolute path of at most {UNIX_PATH_MAX} bytes");
    let path = value.as_str().filter(|path| {
        path.starts_with('/') && path.len() <= UNIX_PATH_MAX && !path.contains('\0')
    });
    path.map(|path| Some(path.into())).ok_or_else(|| key.wrong(&expected))
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

/// `apisix.trusted_addresses`, `osmia.proxy_protocol.trusted`: a list of addresses and networks
/// with at least one entry; `None` when it is absent.
pub(super) fn networks(key: &Key<'_>) -> Result<Option<NetSet>, KeyError> {
    if key.value().is_none() {
        return Ok(None);
    }
    let mut texts = Vec::new();
    for item in key.items()? {
        let text = item.value().and_then(Value::as_str).unwrap_or_default();
        if NetSet::parse([text]).is_err() {
            return Err(item.wrong("an IP address or a network such as 10.0.0.0/8"));
        }
        texts.push(text);
    }
    if texts.is_empty() {
        return Err(key.wrong("a list with at least one IP address or network"));
    }
    NetSet::parse(texts).map(Some).map_err(|_| key.wrong("IP addresses and networks"))
}
