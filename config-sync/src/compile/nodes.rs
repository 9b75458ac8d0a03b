//! Nodes to addresses.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use osmia_core::resource::{Key, Node, Upstream, Violation};

use super::names::{Names, NoAddress};
use crate::discovery::Service;

/// One address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) addr: SocketAddr,
    /// The Unix domain socket that `addr` stands for.
    pub(super) unix: Option<Arc<Path>>,
    /// `host:port`, without the port when it is the scheme's default.
    pub(super) authority: Arc<str>,
    pub(super) weight: u32,
    pub(super) priority: i32,
}

/// Why an upstream with nodes has no address at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoNodes {
    /// Names are being asked for.
    Pending,
    /// A name cannot be resolved; field and reason.
    Unresolved(String),
    /// TLS with them cannot be set up; field and reason.
    Tls(String),
}

/// The addresses of all nodes.
///
/// A name with several addresses becomes one entry each. The node's share stays what its weight
/// says: with two names of equal weight, one with three addresses and one with a single one, each
/// name gets half of the requests. A name without an address takes no part, unless no node has one.
pub(super) fn addresses(
    upstream: &Upstream,
    names: &mut Names,
    user: &Key,
) -> Result<Vec<Address>, NoNodes> {
    let nodes = nodes(upstream, names, user)?;
    let mut resolved = Vec::with_capacity(nodes.len());
    let mut problem = None;
    for node in &*nodes {
        if let Some(path) = node.unix() {
            resolved.push((node, vec![names.stand_in(Path::new(path))]));
            continue;
        }
        match names.addresses(&node.host, user) {
            Ok(ips) => resolved.push((node, ips)),
            Err(NoAddress::Pending) => problem = problem.or(Some(NoNodes::Pending)),
            Err(NoAddress::Failed(reason)) => {
                let text = format!("host name \"{}\" cannot be resolved: {reason}", node.host);
                let violation = Violation::Rule(text).at("nodes");
                problem = Some(NoNodes::Unresolved(violation.to_string()));
            }
        }
    }
    if resolved.is_empty()
        && let Some(problem) = problem
    {
        return Err(problem);
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
        let unix: Option<Arc<Path>> = node.unix().map(|path| Path::new(path).into());
        let port = if unix.is_some() { 0 } else { node.port.unwrap_or(default_port) };
        let authority = match unix {
            // As in nginx.
            Some(_) => "localhost".into(),
            None => authority(&node.host, port, default_port),
        };
        let weight = node.weight * (factor / ips.len() as u32);
        let priority = node.priority.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        addresses.extend(ips.into_iter().map(|ip| Address {
            addr: SocketAddr::new(ip, port),
            unix: unix.clone(),
            authority: Arc::clone(&authority),
            weight,
            priority,
        }));
    }
    Ok(addresses)
}

/// The nodes as they are written, or as the discovery knows them.
fn nodes<'u>(
    upstream: &'u Upstream,
    names: &mut Names,
    user: &Key,
) -> Result<Cow<'u, [Node]>, NoNodes> {
    let (Some(name), Some(kind)) = (&upstream.service_name, &upstream.discovery_type) else {
        return Ok(Cow::Borrowed(&upstream.nodes));
    };
    let args = upstream.discovery_args.as_ref();
    let args = args.and_then(|args| serde_json::to_string(args).ok()).unwrap_or_default();
    let service =
        Service { kind: kind.as_str().into(), name: name.as_str().into(), args: args.into() };
    match names.nodes(service, user) {
        Ok(nodes) => Ok(Cow::Owned(nodes)),
        Err(NoAddress::Pending) => Err(NoNodes::Pending),
        Err(NoAddress::Failed(reason)) => {
            let text = format!("service \"{name}\" cannot be discovered: {reason}");
            Err(NoNodes::Unresolved(Violation::Rule(text).at("service_name").to_string()))
        }
    }
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
    use osmia_core::resource::Kind;
    use serde_json::{Value, json};

    use super::*;
    use crate::discovery::{Answer, Known, Subject};

    /// `nN.x` has N addresses, `none.x` cannot be resolved; a service has two nodes, one of them
    /// with a name.
    fn answer(subject: &Subject) -> Answer {
        let Subject::Name(name) = subject else {
            let node = |host: &str, priority| Node {
                host: host.to_owned(),
                port: Some(8080),
                weight: 1,
                priority,
                metadata: None,
            };
            return Ok(Known::Nodes(vec![node("10.0.0.1", -10), node("n2.x", -10)]));
        };
        let count = name.strip_prefix('n').and_then(|rest| rest.split('.').next());
        let count = count.and_then(|count| count.parse().ok());
        let count: u8 = count.ok_or("no such name")?;
        Ok(Known::Addresses((1..=count).map(|n| IpAddr::from([10, 0, count, n])).collect()))
    }

    fn compile(nodes: &Value) -> Result<Vec<(String, String, u32)>, NoNodes> {
        compile_upstream(&json!({"nodes": nodes}))
    }

    fn compile_upstream(upstream: &Value) -> Result<Vec<(String, String, u32)>, NoNodes> {
        let upstream = Upstream::from_json(upstream).unwrap();
        let (mut names, user) = (Names::default(), Key::new(Kind::Upstream, "1"));
        // A service's nodes may have names, which are asked for only then.
        for _ in 0..2 {
            let _ = addresses(&upstream, &mut names, &user);
            for name in names.take_unasked() {
                names.answer(&name, answer(&name));
            }
        }
        let all = addresses(&upstream, &mut names, &user)?;
        assert!(all.iter().all(|a| a.priority == all[0].priority));
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

    #[test]
    fn discovered_nodes_may_have_names() {
        let upstream = json!({"service_name": "a", "discovery_type": "dns"});
        let rows = compile_upstream(&upstream).unwrap();
        let rows: Vec<_> = rows.iter().map(|(addr, name, w)| (&**addr, &**name, *w)).collect();
        let expected = [
            ("10.0.0.1:8080", "10.0.0.1:8080", 2),
            ("10.0.2.1:8080", "n2.x:8080", 1),
            ("10.0.2.2:8080", "n2.x:8080", 1),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn unix_sockets_are_told_apart_and_have_no_port() {
        let rows = compile(&json!([
            {"host": "unix:/run/a.sock", "weight": 1},
            {"host": "unix:/run/b.sock", "port": 81, "weight": 2},
        ]));
        let rows = rows.unwrap();
        assert_ne!(rows[0].0, rows[1].0);
        assert!(
            rows.iter()
                .all(|(addr, authority, _)| addr.ends_with("]:0") && authority == "localhost")
        );
        assert_eq!(weights(&json!({"unix:/run/a.sock": 3, "n3.x:80": 1})), [1, 1, 1, 9]);
        let upstream = Upstream::from_json(&json!({"nodes": {"unix:/run/a.sock": 1}})).unwrap();
        let (mut names, user) = (Names::default(), Key::new(Kind::Upstream, "1"));
        let first = addresses(&upstream, &mut names, &user).unwrap();
        assert_eq!(first[0].unix.as_deref(), Some(Path::new("/run/a.sock")));
        assert_eq!(addresses(&upstream, &mut names, &user).unwrap(), first, "a name for good");
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
    fn an_unresolvable_name_takes_no_part_and_alone_is_an_error() {
        let text = "property \"nodes\" validation failed: host name \"none.x\" cannot be resolved: \
                    no such name";
        let error = compile(&json!({"none.x:80": 1})).unwrap_err();
        assert_eq!(error, NoNodes::Unresolved(text.to_owned()));
        assert_eq!(weights(&json!({"none.x:80": 1, "10.0.0.1:80": 2})), [2]);
        assert_eq!(compile(&json!([])), Ok(vec![]));
    }
}
