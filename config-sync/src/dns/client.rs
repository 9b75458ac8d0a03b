//! One question to the DNS, as the machine's own resolver would ask it: `/etc/hosts` first, then
//! the name with and without the search domains.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use osmia_core::settings::{DnsServers, DnsSettings};

use super::records::{self, Records};
use super::{ADDRESSES_MAX, Counters, Found, Miss, Outcome};

/// Longest time for which an answer is believed, whatever its server says.
const TTL_MAX: Duration = Duration::from_hours(1);

/// How a [`Client`] asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The servers; `None`: those of [`Self::resolv_conf`].
    pub servers: Option<Vec<SocketAddr>>,
    /// The file with search domains, and with the servers when none are given.
    pub resolv_conf: PathBuf,
    /// The file with addresses that go before all servers.
    pub hosts: Option<PathBuf>,
    /// Whether search domains are used.
    pub search: bool,
    /// Whether IPv6 addresses are asked for.
    pub ipv6: bool,
    /// How long looking up one name may take.
    pub timeout: Duration,
    /// How long an answer holds, in place of what its server says.
    pub valid: Option<Duration>,
}

impl Options {
    /// As configured under `apisix`.
    pub fn new(settings: &DnsSettings) -> Self {
        let (servers, resolv_conf) = match &settings.servers {
            DnsServers::Listed(servers) => (Some(servers.clone()), DnsServers::SYSTEM.into()),
            DnsServers::File(file) => (None, file.clone()),
        };
        Self {
            servers,
            resolv_conf,
            hosts: Some("/etc/hosts".into()),
            search: settings.search,
            ipv6: settings.ipv6,
            timeout: settings.timeout,
            valid: settings.valid,
        }
    }
}

/// Asks the DNS. Keeps no answers.
pub struct Client {
    /// What asks, or why nobody can be asked.
    resolver: Result<TokioResolver, Arc<str>>,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
    ipv6: bool,
    timeout: Duration,
    valid: Option<Duration>,
    counters: Arc<Counters>,
}

/// What one question came to.
enum Reply {
    Found(Found<Records>),
    /// There are no such records; the name may have others unless it is `unknown`.
    Absent {
        ttl: Option<Duration>,
        unknown: bool,
    },
    /// The server cannot or will not tell; it may know about another name.
    Refused(Arc<str>),
    /// No server is there: it makes no sense to go on.
    Failed(Arc<str>),
}

impl Client {
    /// Reads the files that `options` name. What is wrong with them is the answer to all questions,
    /// and a log line says it at once.
    pub fn new(options: &Options, counters: Arc<Counters>) -> Self {
        let (config, opts, problem) = match read(options) {
            Ok((config, opts)) => (config, opts, None),
            Err(problem) => (ResolverConfig::default(), ResolverOpts::default(), Some(problem)),
        };
        let search = match (options.search, config.search(), config.domain()) {
            (false, ..) => Vec::new(),
            (true, [], domain) => domain.cloned().into_iter().collect(),
            (true, search, _) => search.to_vec(),
        };
        let ndots = opts.ndots;
        let resolver = problem.map_or_else(|| build(config, opts, options.timeout), Err);
        if let Err(problem) = &resolver {
            tracing::error!("names cannot be looked up: {problem}");
        }
        Self {
            resolver: resolver.map_err(Into::into),
            hosts: options.hosts.as_deref().map(read_hosts).unwrap_or_default(),
            search,
            ndots,
            ipv6: options.ipv6,
            timeout: options.timeout,
            valid: options.valid,
            counters,
        }
    }

    /// The addresses of `host`: IPv4 if there are any, otherwise IPv6; sorted, so that a server's
    /// rotation is not taken for a change.
    pub async fn addresses(&self, host: &str) -> Outcome<Vec<IpAddr>> {
        let name = parse(host)?;
        self.in_time(self.addresses_of(&name)).await
    }

    /// The same without a limit in time.
    pub(crate) async fn addresses_of(&self, name: &Name) -> Outcome<Vec<IpAddr>> {
        match self.first(name, &[RecordType::A, RecordType::AAAA]).await? {
            (_, Found { value: Records::Addresses(ips), ttl, .. }) => Ok(trimmed(ips, ttl)),
            _ => Err(Miss::absent("the name has no address")),
        }
    }

    /// Breaks off what takes too long.
    pub(crate) async fn in_time<T>(
        &self,
        lookup: impl Future<Output = Result<T, Miss>>,
    ) -> Result<T, Miss> {
        let limit = self.timeout;
        let late = |_| Miss::failed(format!("no answer within {limit:?}; are the servers there?"));
        tokio::time::timeout(limit, lookup).await.map_err(late)?
    }

    /// The first of `types` of which `name` has records, with its type. Search domains are tried in
    /// the order of `resolv.conf(5)`.
    pub(crate) async fn first(
        &self,
        name: &Name,
        types: &[RecordType],
    ) -> Result<(RecordType, Found<Records>), Miss> {
        let wanted = |kind: &RecordType| self.ipv6 || *kind != RecordType::AAAA;
        let types: Vec<RecordType> = types.iter().copied().filter(wanted).collect();
        for kind in &types {
            if let Some(addresses) = self.written_down(name, *kind) {
                return Ok((*kind, addresses));
            }
        }
        let mut absent: Option<Duration> = None;
        let mut refused = None;
        for name in self.candidates(name.clone()) {
            let mut unknown = false;
            for kind in &types {
                if unknown && *kind != RecordType::SRV {
                    continue;
                }
                match self.ask(&name, *kind).await {
                    Reply::Found(found) => return Ok((*kind, found)),
                    Reply::Absent { ttl, unknown: nothing_at_all } => {
                        absent = absent.into_iter().chain(ttl).min();
                        // Some servers say so of types that they do not know, though not of `A`.
                        unknown |= nothing_at_all && *kind != RecordType::SRV;
                    }
                    Reply::Refused(reason) => {
                        refused = Some(reason);
                        // Another type could now take the place of what the name has.
                        break;
                    }
                    Reply::Failed(reason) => return Err(Miss::Failed { reason }),
                }
            }
        }
        match refused {
            Some(reason) => Err(Miss::Failed { reason }),
            None => Err(Miss::Absent { reason: "no such name".into(), ttl: absent }),
        }
    }

    /// What the hosts file says.
    fn written_down(&self, name: &Name, kind: RecordType) -> Option<Found<Records>> {
        let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), kind))?;
        let mut name = name.clone();
        name.set_fqdn(true);
        let (value, _) = records::of(lookup.answers(), &name, kind)?;
        Some(Found { value, ttl: TTL_MAX, left_out: 0 })
    }

    /// The names to ask for, one after the other.
    fn candidates(&self, name: Name) -> Vec<Name> {
        if name.is_fqdn() {
            return vec![name];
        }
        let mut names: Vec<Name> = Vec::with_capacity(1 + self.search.len());
        if !name.is_localhost() {
            let below = |domain: &Name| name.clone().append_domain(domain).ok();
            names.extend(self.search.iter().filter_map(below));
        }
        for name in &mut names {
            name.set_fqdn(true);
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let mut itself = name;
        itself.set_fqdn(true);
        let at = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(at, itself);
        names
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Reply {
        let resolver = match &self.resolver {
            Ok(resolver) => resolver,
            Err(problem) => return Reply::Failed(Arc::clone(problem)),
        };
        self.counters.questions.fetch_add(1, Ordering::Relaxed);
        let error = match resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => match records::of(lookup.answers(), name, kind) {
                Some((value, ttl)) => {
                    let ttl = Duration::from_secs(ttl.into()).min(TTL_MAX);
                    let ttl = self.valid.unwrap_or(ttl);
                    return Reply::Found(Found { value, ttl, left_out: 0 });
                }
                None => return Reply::Absent { ttl: None, unknown: false },
            },
            Err(error) => error,
        };
        match error {
            NetError::Dns(DnsError::NoRecordsFound(NoRecords {
                negative_ttl,
                response_code: code @ (ResponseCode::NXDomain | ResponseCode::NoError),
                ..
            })) => Reply::Absent {
                ttl: negative_ttl.map(|ttl| Duration::from_secs(ttl.into())),
                unknown: code == ResponseCode::NXDomain,
            },
            NetError::Dns(DnsError::ResponseCode(ResponseCode::NotImp)) => {
                Reply::Absent { ttl: None, unknown: false }
            }
            NetError::Dns(DnsError::ResponseCode(code)) => {
                Reply::Refused(format!("the DNS server answers {name} with: {code}").into())
            }
            error => Reply::Failed(format!("the DNS servers cannot be asked: {error}").into()),
        }
    }
}

/// A name as it is written in the configuration.
pub(crate) fn parse(name: &str) -> Result<Name, Miss> {
    Name::from_str_relaxed(name)
        .map_err(|error| Miss::absent(format!("not a name that can be asked for: {error}")))
}

/// Addresses sorted, each once, not too many.
pub(crate) fn trimmed(mut ips: Vec<IpAddr>, ttl: Duration) -> Found<Vec<IpAddr>> {
    ips.sort_unstable();
    ips.dedup();
    let left_out = ips.len().saturating_sub(ADDRESSES_MAX);
    ips.truncate(ADDRESSES_MAX);
    Found { value: ips, ttl, left_out }
}

/// Servers, search domains and options of the file.
fn read(options: &Options) -> Result<(ResolverConfig, ResolverOpts), String> {
    let file = &options.resolv_conf;
    let shown = file.display();
    let text = match (std::fs::read_to_string(file), &options.servers) {
        (Ok(text), None) => text,
        // What is wanted of it is the search domains, but the parser insists on a server.
        (Ok(text), Some(_)) => format!("{text}\nnameserver 127.0.0.1\n"),
        // Without the file there is nothing to search.
        (Err(_), Some(_)) => "nameserver 127.0.0.1\noptions ndots:1\n".to_owned(),
        (Err(error), None) => {
            return Err(format!(
                "{shown} cannot be read: {error}; name DNS servers in config.yaml"
            ));
        }
    };
    let (mut config, opts) = parse_resolv_conf(&text)
        .map_err(|error| format!("{shown}: {error}; correct it or name servers in config.yaml"))?;
    if let Some(servers) = &options.servers {
        let (domain, search, _) = config.into_parts();
        let servers = servers.iter().map(server).collect();
        config = ResolverConfig::from_parts(domain, search, servers);
    }
    Ok((config, opts))
}

/// UDP, and TCP for what does not fit.
fn server(addr: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = addr.port();
    }
    NameServerConfig::new(addr.ip(), true, connections)
}

fn build(
    config: ResolverConfig,
    mut opts: ResolverOpts,
    timeout: Duration,
) -> Result<TokioResolver, String> {
    // What is known is kept by who asks, who also decides when to ask again.
    opts.cache_size = 0;
    opts.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
    // Twice, so that other servers get a turn when the first ones are silent.
    opts.attempts = 1;
    opts.timeout = timeout / 2;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = opts;
    builder.build().map_err(|error| error.to_string())
}

fn read_hosts(file: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    // A machine may do without it.
    if let Ok(file) = File::open(file)
        && let Err(error) = hosts.read_hosts_conf(file)
    {
        tracing::warn!("the hosts file is read in part only: {error}");
    }
    hosts
}
