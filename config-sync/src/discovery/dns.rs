//! `discovery_type: dns` (APISIX, discovery/dns.md; `apisix/discovery/dns`): the nodes of a service
//! are the addresses of a name, or the targets of its SRV records.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RecordType};
use osmia_core::resource::Node;
use osmia_core::settings::{DnsDiscovery, DnsRecords, DnsSettings};

use super::{Service, Source};
use crate::dns::{
    ADDRESSES_MAX, Ask, Client, Counters, Found, Miss, Options, Outcome, Records, Watch, parse,
    trimmed,
};

/// Longest chain of aliases that are asked for one by one.
const ALIASES_MAX: usize = 8;

/// Asks for services as for names.
pub(super) struct DnsSource {
    options: Options,
    order: Arc<[DnsRecords]>,
    counters: Arc<Counters>,
    finder: Arc<Finder>,
    watch: Watch<Arc<Service>, Vec<Node>>,
}

impl DnsSource {
    pub(super) fn new(
        settings: &DnsDiscovery,
        names: &DnsSettings,
        counters: Arc<Counters>,
    ) -> Self {
        let servers = DnsSettings { servers: settings.servers.clone(), ..names.clone() };
        // As in APISIX, services are not in the hosts file, and their answers hold as long as the
        // server says.
        let options = Options { hosts: None, valid: None, ..Options::new(&servers) };
        let order: Arc<[DnsRecords]> = settings.order.as_slice().into();
        let finder = Finder::new(&options, &order, &counters);
        let watch = Watch::new(ask(&finder), Arc::clone(&counters));
        Self { options, order, counters, finder, watch }
    }
}

fn ask(finder: &Arc<Finder>) -> Ask<Arc<Service>, Vec<Node>> {
    let finder = Arc::clone(finder);
    Arc::new(move |service| {
        let finder = Arc::clone(&finder);
        Box::pin(async move { finder.nodes(&service.name).await })
    })
}

#[async_trait]
impl Source for DnsSource {
    fn follow(&mut self, service: Arc<Service>) {
        self.watch.follow(service);
    }

    fn forget(&mut self, service: &Arc<Service>) {
        self.watch.forget(service);
        if let Some((host, _)) = split(&service.name) {
            self.finder.last().remove(host);
        }
    }

    fn refresh(&mut self) {
        self.finder = Finder::new(&self.options, &self.order, &self.counters);
        self.watch.refresh(ask(&self.finder));
    }

    fn is_waiting(&self) -> bool {
        self.watch.is_waiting()
    }

    async fn changed(&mut self) -> Vec<(Arc<Service>, Result<Vec<Node>, Arc<str>>)> {
        self.watch.changed().await
    }
}

/// Finds nodes.
struct Finder {
    client: Client,
    order: Arc<[DnsRecords]>,
    /// The type of records that a host had the last time.
    last: Mutex<HashMap<Box<str>, RecordType>>,
}

impl Finder {
    fn new(options: &Options, order: &Arc<[DnsRecords]>, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            client: Client::new(options, Arc::clone(counters)),
            order: Arc::clone(order),
            last: Mutex::default(),
        })
    }

    async fn nodes(&self, service: &str) -> Outcome<Vec<Node>> {
        let (host, port) = split(service).ok_or_else(|| {
            Miss::absent(format!("service_name \"{service}\" is neither host nor host:port"))
        })?;
        if let Ok(ip) = host.parse() {
            let ttl = Duration::from_hours(1);
            return Ok(Found { value: vec![node(ip, port, 1, 0)], ttl, left_out: 0 });
        }
        self.client.in_time(self.find(host, port)).await
    }

    async fn find(&self, host: &str, port: Option<u16>) -> Outcome<Vec<Node>> {
        let types = self.types(host);
        let (kind, mut found) = self.client.first(&parse(host)?, &types).await?;
        // A server that does not follow aliases itself.
        let mut aliases = 0;
        while let Records::Alias(name) = &found.value {
            let name = name.clone();
            aliases += 1;
            if aliases > ALIASES_MAX {
                return Err(Miss::absent("the name is an alias without an end"));
            }
            let ttl = found.ttl;
            found = self.client.first(&name, &types).await?.1;
            found.ttl = found.ttl.min(ttl);
        }
        self.last().insert(host.into(), kind);
        let ttl = found.ttl;
        match found.value {
            Records::Services(services) => self.targets(services, port, ttl).await,
            Records::Addresses(ips) => {
                let Found { value, ttl, left_out } = trimmed(ips, ttl);
                let value = value.into_iter().map(|ip| node(ip, port, 1, 0)).collect();
                Ok(Found { value, ttl, left_out })
            }
            Records::Alias(_) => Err(Miss::absent("the name is an alias of nothing")),
        }
    }

    /// What to ask for, first what was found the last time if that is wanted.
    fn types(&self, host: &str) -> Vec<RecordType> {
        let mut types = Vec::with_capacity(self.order.len());
        for records in &*self.order {
            let kind = match records {
                DnsRecords::Last => self.last().get(host).copied(),
                DnsRecords::Srv => Some(RecordType::SRV),
                DnsRecords::A => Some(RecordType::A),
                DnsRecords::Aaaa => Some(RecordType::AAAA),
                DnsRecords::Cname => Some(RecordType::CNAME),
            };
            types.extend(kind.filter(|kind| !types.contains(kind)));
        }
        types
    }

    fn last(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, RecordType>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of the targets of SRV records.
    async fn targets(
        &self,
        mut services: Vec<SRV>,
        port: Option<u16>,
        mut ttl: Duration,
    ) -> Outcome<Vec<Node>> {
        // The better ones first: they are the ones to keep if there are too many.
        let rank = |srv: &SRV| (srv.priority, srv.target.clone(), srv.port, srv.weight);
        services.sort_unstable_by_key(rank);
        services.dedup();
        let left_out = services.len().saturating_sub(ADDRESSES_MAX);
        services.truncate(ADDRESSES_MAX);
        let mut found: HashMap<Name, Vec<IpAddr>> = HashMap::new();
        for SRV { target, .. } in &services {
            if found.contains_key(target) {
                continue;
            }
            let ips = match self.client.addresses_of(target).await {
                Ok(answer) => {
                    ttl = ttl.min(answer.ttl);
                    answer.value
                }
                // The others may have one.
                Err(Miss::Absent { .. }) => Vec::new(),
                Err(failed) => return Err(failed),
            };
            found.insert(target.clone(), ips);
        }
        let targets: Vec<Target> = services
            .into_iter()
            .filter_map(|srv| {
                let ips = found.get(&srv.target).filter(|ips| !ips.is_empty())?.clone();
                Some(Target { port: port.or(Some(srv.port).filter(|port| *port > 0)), srv, ips })
            })
            .collect();
        if targets.is_empty() {
            return Err(Miss::absent("no target of its SRV records has an address"));
        }
        Ok(Found { value: weighted(targets), ttl, left_out })
    }
}

/// The target of an SRV record.
struct Target {
    srv: SRV,
    port: Option<u16>,
    ips: Vec<IpAddr>,
}

/// One node for each address. The addresses of a target share its weight, for which all weights are
/// multiplied by the least common multiple of the numbers of addresses; a weight of zero counts as
/// one. The smallest SRV priority is the highest of nodes.
fn weighted(mut targets: Vec<Target>) -> Vec<Node> {
    let weight = |target: &Target| u32::from(target.srv.weight.max(1));
    let counts = targets.iter().map(|target| target.ips.len() as u32);
    let factor = counts.into_iter().try_fold(1, common_multiple);
    let fits = |factor: &u32| targets.iter().all(|t| weight(t).checked_mul(*factor).is_some());
    let factor = factor.filter(fits).unwrap_or_else(|| {
        // Too many different numbers of addresses: one address of each target.
        for target in &mut targets {
            target.ips.truncate(1);
        }
        1
    });
    let nodes = targets.iter().flat_map(|target| {
        let weight = weight(target) * (factor / target.ips.len() as u32);
        let priority = -i64::from(target.srv.priority);
        target.ips.iter().map(move |ip| node(*ip, target.port, weight, priority))
    });
    nodes.collect()
}

fn common_multiple(a: u32, b: u32) -> Option<u32> {
    let (mut gcd, mut rest) = (a, b);
    while rest > 0 {
        (gcd, rest) = (rest, gcd % rest);
    }
    a.checked_mul(b / gcd.max(1))
}

fn node(ip: IpAddr, port: Option<u16>, weight: u32, priority: i64) -> Node {
    Node { host: ip.to_string(), port, weight, priority, metadata: None }
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split(service: &str) -> Option<(&str, Option<u16>)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (host, rest) = match service.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => service.split_at(service.find(':').unwrap_or(service.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(text) => Some(port(text)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_hosts_with_or_without_a_port() {
        for (text, expected) in [
            ("a.b", Some(("a.b", None))),
            ("a.b:80", Some(("a.b", Some(80)))),
            ("10.0.0.1:80", Some(("10.0.0.1", Some(80)))),
            ("[::1]", Some(("::1", None))),
            ("[::1]:80", Some(("::1", Some(80)))),
            ("_sip._tcp.x:1", Some(("_sip._tcp.x", Some(1)))),
            ("a:0", None),
            ("a:65536", None),
            ("a:b", None),
            ("a:", None),
            (":80", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]80", None),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    fn target(priority: u16, weight: u16, count: u8) -> Target {
        let srv = SRV::new(priority, weight, 80, Name::root());
        let ips = (0..count).map(|n| IpAddr::from([10, 0, count, n])).collect();
        Target { srv, port: Some(80), ips }
    }

    #[test]
    fn targets_share_their_weight_among_their_addresses() {
        let rows = |targets: Vec<Target>| -> Vec<(u32, i64)> {
            weighted(targets).iter().map(|node| (node.weight, node.priority)).collect()
        };
        // As in APISIX's documentation.
        let two = vec![target(10, 60, 1), target(20, 20, 2)];
        assert_eq!(rows(two), [(120, -10), (20, -20), (20, -20)]);
        let zero = vec![target(0, 100, 1), target(0, 0, 2)];
        assert_eq!(rows(zero), [(200, 0), (1, 0), (1, 0)]);
    }

    #[test]
    fn weights_that_cannot_be_shared_go_to_one_address() {
        let primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43];
        let nodes = weighted(primes.map(|count| target(0, 65535, count)).into());
        assert_eq!(nodes.len(), primes.len());
        assert!(nodes.iter().all(|node| node.weight == 65535));
    }
}
