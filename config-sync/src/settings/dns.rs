//! `apisix.dns_resolver` and what belongs to it, and `discovery.dns`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use osmia_core::settings::{DiscoverySettings, DnsDiscovery, DnsRecords, DnsServers, DnsSettings};

use super::read::Key;
use super::{KeyError, KeyProblem};

/// A DNS server's port when none is written.
const PORT: u16 = 53;
/// Longest time for which answers can be told to hold, in seconds: about 31 years.
const VALID_MAX: u64 = 1_000_000_000;

/// APISIX's default order (discovery/dns.md).
const ORDER: [DnsRecords; 5] =
    [DnsRecords::Last, DnsRecords::Srv, DnsRecords::A, DnsRecords::Aaaa, DnsRecords::Cname];

const RECORDS: [(&str, DnsRecords); 5] = [
    ("last", DnsRecords::Last),
    ("SRV", DnsRecords::Srv),
    ("A", DnsRecords::A),
    ("AAAA", DnsRecords::Aaaa),
    ("CNAME", DnsRecords::Cname),
];

/// How names are looked up.
pub(super) fn names(apisix: &Key<'_>, warnings: &mut Vec<String>) -> Result<DnsSettings, KeyError> {
    let servers = apisix.get("dns_resolver")?;
    let valid = apisix.get("dns_resolver_valid")?;
    let timeout = apisix.get("resolver_timeout")?;
    let settings = DnsSettings {
        servers: match servers.value() {
            None => DnsServers::system(),
            Some(_) => DnsServers::Listed(list(&servers, warnings)?),
        },
        valid: match valid.value() {
            None => None,
            Some(_) => Some(Duration::from_secs(valid.integer(0..=VALID_MAX)?)),
        },
        timeout: timeout.duration(Duration::from_secs(5))?,
        search: apisix.get("enable_resolv_search_opt")?.boolean(true)?,
        ipv6: apisix.get("enable_ipv6")?.boolean(true)?,
    };
    if settings.timeout.is_zero() {
        return Err(timeout.wrong("a time above zero"));
    }
    Ok(settings)
}

/// The discoveries that are configured.
pub(super) fn discovery(
    root: &Key<'_>,
    ipv6: bool,
    warnings: &mut Vec<String>,
) -> Result<DiscoverySettings, KeyError> {
    let dns = root.get("discovery")?.get("dns")?;
    let dns = if dns.value().is_some() { Some(services(&dns, ipv6, warnings)?) } else { None };
    Ok(DiscoverySettings { dns })
}

fn services(
    dns: &Key<'_>,
    ipv6: bool,
    warnings: &mut Vec<String>,
) -> Result<DnsDiscovery, KeyError> {
    let (servers, file) = (dns.get("servers")?, dns.get("resolv_conf")?);
    let rule = |text: &str| (dns.path().to_owned(), KeyProblem::Rule(text.to_owned()));
    let servers = match (servers.value().is_some(), file.value().is_some()) {
        (true, false) => DnsServers::Listed(list(&servers, warnings)?),
        (false, true) => DnsServers::File(file.path_value("")?),
        (true, true) => return Err(rule("either servers or resolv_conf, not both")),
        (false, false) => return Err(rule("needs servers or resolv_conf")),
    };
    Ok(DnsDiscovery { servers, order: order(&dns.get("order")?, ipv6)? })
}

fn order(key: &Key<'_>, ipv6: bool) -> Result<Vec<DnsRecords>, KeyError> {
    let mut order = Vec::new();
    for item in key.items()? {
        if item.value().is_none() {
            return Err(item.wrong("one of last, SRV, A, AAAA, CNAME"));
        }
        let records = item.choice(&RECORDS, DnsRecords::Last)?;
        if order.contains(&records) {
            return Err(item.wrong("each type once"));
        }
        order.push(records);
    }
    if key.value().is_none() {
        order = ORDER.into();
    }
    let can_be_asked = |records: &DnsRecords| match records {
        DnsRecords::Last => false,
        DnsRecords::Aaaa => ipv6,
        _ => true,
    };
    if order.iter().any(can_be_asked) {
        return Ok(order);
    }
    let text =
        "names no type to ask for: expected SRV, A or CNAME, or AAAA with apisix.enable_ipv6";
    Err((key.path().to_owned(), KeyProblem::Rule(text.to_owned())))
}

/// A list of servers, at least one.
fn list(key: &Key<'_>, warnings: &mut Vec<String>) -> Result<Vec<SocketAddr>, KeyError> {
    let mut servers = Vec::new();
    for item in key.items()? {
        let text = item.text()?.unwrap_or_default();
        if text.contains('%') {
            // As in APISIX (`apisix/cli/ops.lua`).
            let path = item.path();
            warnings.push(format!("{path}: IPv6 addresses with a zone are not supported, ignored"));
            continue;
        }
        let server = server(&text).ok_or_else(|| item.wrong("an IP address or ip:port"))?;
        servers.push(server);
    }
    if servers.is_empty() {
        let text = "needs the address of a DNS server".to_owned();
        return Err((key.path().to_owned(), KeyProblem::Rule(text)));
    }
    Ok(servers)
}

fn server(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let addr = match bare.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, PORT),
        Err(_) => text.parse().ok()?,
    };
    (addr.port() > 0).then_some(addr)
}
