//! Nodes to addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use osmia_core::resource::{Node, Upstream, Violation};

use super::resolve::Cache;

/// One address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) addr: SocketAddr,
    /// `host:port`, without the port when it is the scheme's default.
    pub(super) authority: Arc<str>,
    pub(super) weight: u32,
}

/// The addresses of all nodes.
///
/// A name with several addresses becomes one entry each. The node's share stays what its weight
/// says: with two names of equal weight, one with three addresses and one with a single one, each
/// name gets half of the requests.
pub(super) fn addresses(
    upstream: &Upstream,
    names: &mut Cache<'_>,
) -> Result<Vec<Address>, Violation> {
    let mut resolved = Vec::with_capacity(upstream.nodes.len());
    for node in &upstream.nodes {
        let ips = names.addresses(&node.host).map_err(|reason| {
            let text = format!("host name \"{}\" cannot be resolved: {reason}", node.host);
            Violation::Rule(text).at("nodes")
        })?;
        resolved.push((node, ips));
    }
    let factor = common_multiple(&resolved).unwrap_or_else(|| {
        // Weights too large to be multiplied: one address of each name.
        for (_, ips) in &mut resolved {
            ips.truncate(1);
        }
        1
    });
    let default_port = upstream.scheme.default_port();
    let mut addresses = Vec::with_capacity(resolved.len());
    for (node, ips) in resolved {
        let port = node.port.unwrap_or(default_port);
        let authority = authority(&node.host, port, default_port);
        let weight = node.weight * (factor / ips.len() as u32);
        addresses.extend(ips.into_iter().map(|ip| Address {
            addr: SocketAddr::new(ip, port),
            authority: Arc::clone(&authority),
            weight,
        }));
    }
    Ok(addresses)
}

/// The least common multiple of the numbers of addresses; `None` when some weight times it is more
/// than a weight can be.
fn common_multiple(resolved: &[(&Node, Vec<IpAddr>)]) -> Option<u32> {
    let mut factor = 1u32;
    for (_, ips) in resolved {
        let count = ips.len() as u32;
        factor = (factor / gcd(factor, count)).checked_mul(count)?;
    }
    let fits = |(node, _): &(&Node, _)| node.weight.checked_mul(factor).is_some();
    resolved.iter().all(fits).then_some(factor)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn authority(host: &str, port: u16, default_port: u16) -> Arc<str> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == default_port { host.into() } else { format!("{host}:{port}").into() }
}

#[cfg(test)]
mod tests {
    use std::io;

    use serde_json::{Value, json};

    use super::*;
    use crate::compile::Resolve;

    /// `oneN.x` has N addresses, `none.x` cannot be resolved.
    struct Numbered;

    impl Resolve for Numbered {
        fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            let count = host.strip_prefix("n").and_then(|rest| rest.split('.').next());
            let count = count.and_then(|count| count.parse().ok());
            let count: u8 = count.ok_or_else(|| io::Error::other("no such name"))?;
            Ok((1..=count).map(|n| IpAddr::from([10, 0, count, n])).collect())
        }
    }

    fn compile(nodes: &Value) -> Result<Vec<(String, String, u32)>, Violation> {
        let upstream = Upstream::from_json(&json!({"nodes": nodes})).unwrap();
        let all = addresses(&upstream, &mut Cache::new(&Numbered))?;
        let row = |a: Address| (a.addr.to_string(), a.authority.to_string(), a.weight);
        Ok(all.into_iter().map(row).collect())
    }

    #[test]
    fn names_the_authority_as_configured() {
        let found = compile(&json!([
            {"host": "10.0.0.1", "port": 8080, "weight": 2},
            {"host": "[::1]", "weight": 1},
            {"host": "::2", "port": 81, "weight": 0},
            {"host": "n1.x", "port": 80, "weight": 1},
        ]));
        let rows = [
            ("10.0.0.1:8080", "10.0.0.1:8080", 2),
            ("[::1]:80", "[::1]", 1),
            ("[::2]:81", "[::2]:81", 0),
            ("10.0.1.1:80", "n1.x", 1),
        ];
        let rows = rows.map(|(addr, authority, w)| (addr.to_owned(), authority.to_owned(), w));
        assert_eq!(found.unwrap(), rows);
    }

    fn weights(nodes: &Value) -> Vec<u32> {
        compile(nodes).unwrap().into_iter().map(|(.., weight)| weight).collect()
    }

    #[test]
    fn a_name_shares_its_weight_among_its_addresses() {
        assert_eq!(weights(&json!([{"host": "n3.x", "weight": 1}])), [1, 1, 1]);
        let two = json!([{"host": "n3.x", "weight": 1}, {"host": "n1.x", "weight": 1}]);
        assert_eq!(weights(&two), [1, 1, 1, 3]);
        let three = json!([
            {"host": "n2.x", "weight": 1}, {"host": "n3.x", "weight": 5}, {"host": "::1", "weight": 2},
        ]);
        assert_eq!(weights(&three), [3, 3, 10, 10, 10, 12]);
    }

    #[test]
    fn huge_weights_use_one_address_each() {
        let nodes =
            json!([{"host": "n3.x", "weight": 4_000_000_000u32}, {"host": "n2.x", "weight": 1}]);
        assert_eq!(weights(&nodes), [4_000_000_000, 1]);
    }

    #[test]
    fn an_unresolvable_name_is_an_error() {
        let error = compile(&json!({"none.x:80": 1})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "property \"nodes\" validation failed: host name \"none.x\" cannot be resolved: no such \
             name"
        );
    }
}
