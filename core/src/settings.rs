//! Static settings: the typed form of `config.yaml`, as the data plane uses it.
//!
//! The loader (`osmia-config-sync`, module `settings`) merges the user's file over the built-in
//! defaults, substitutes `${{VAR}}`, checks types and produces a [`Settings`]. Key names are
//! APISIX's (`conf/config.yaml`); what Osmia adds is under `osmia:`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::limits::HttpLimits;
use crate::net_set::NetSet;
use crate::request::ViewOptions;

/// Everything fixed at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `apisix.node_listen`, `apisix.ssl.listen` and `apisix.proxy_protocol`, expanded: one entry
    /// per address.
    pub listeners: Vec<Listener>,
    /// `osmia.proxy_protocol.trusted`: peers whose PROXY protocol header is accepted; `None`: all.
    pub proxy_protocol_trusted: Option<NetSet>,
    /// `apisix.trusted_addresses`: peers whose `X-Forwarded-*` and `Forwarded` fields are passed on
    /// as they are; `None`: not configured.
    pub trusted_addresses: Option<NetSet>,
    /// Number of workers and the cores they are pinned to.
    pub workers: Workers,
    /// `osmia.driver`.
    pub driver: Driver,
    /// `osmia.limits`.
    pub limits: HttpLimits,
    /// Timeouts towards clients.
    pub downstream: DownstreamTimeouts,
    /// Access log, `None` when off.
    pub access_log: Option<AccessLog>,
    /// `nginx_config.error_log_level`, as a `tracing` level name (`error`, `warn`, `info`,
    /// `debug`).
    pub log_level: String,
    /// `nginx_config.error_log`; `None`: standard error.
    pub error_log: Option<PathBuf>,
    /// `nginx_config.worker_shutdown_timeout`: how long a graceful drain may take.
    pub shutdown_timeout: Duration,
    /// `apisix.enable_server_tokens`: whether the version is part of the `Server` header.
    pub server_tokens: bool,
    /// `apisix.show_upstream_status_in_response_header`: `X-APISIX-Upstream-Status` on every
    /// response instead of on 5xx from the upstream only.
    pub show_upstream_status: bool,
    /// `apisix.delete_uri_tail_slash`, `apisix.max_post_args_readable_size` and others: how routes
    /// see requests.
    pub view: ViewOptions,
    /// `nginx_config.http.client_max_body_size` in bytes; 0: unlimited.
    pub client_max_body_bytes: u64,
    /// Whether `checks` of upstreams are honoured: `apisix.disable_upstream_healthcheck` says no.
    pub health_checks: bool,
    /// `apisix.ssl.ssl_trusted_certificate`: authorities for nodes (`tls.verify`) and for HTTPS
    /// health checks; `None`: the system's.
    pub trusted_certificates: Option<PathBuf>,
    /// `apisix.ssl`, without its listeners: TLS with clients.
    pub tls: TlsSettings,
    /// Where resources come from.
    pub provider: ConfigProvider,
    /// How resources are read and checked.
    pub resources: ResourceSettings,
    /// `osmia.data_dir`: the embedded store, the journal, the copy of etcd's contents and the
    /// generated admin key. Default `data`, relative to the working directory.
    pub data_dir: PathBuf,
    /// `osmia.history.keep`: revisions kept in the journal. Default 10,000.
    pub history_keep: u64,
    /// The Admin API; `None`: off.
    pub admin: Option<AdminSettings>,
    /// `apisix.control`: the Control API, default `127.0.0.1:9090`; `None`: off.
    pub control: Option<SocketAddr>,
    /// `apisix.status`: the status endpoint, default `127.0.0.1:7085`; `None`: off.
    pub status: Option<SocketAddr>,
    /// How the names of nodes are looked up.
    pub dns: DnsSettings,
    /// `discovery`: where the nodes of services are asked for.
    pub discovery: DiscoverySettings,
}

/// Where connections are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `apisix.ssl` and `apisix.enable_http2` (APISIX, `apisix/cli/config.lua`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// `fallback_sni`: the name that is assumed of a client that gives none, in lower case.
    pub fallback_sni: Option<Box<str>>,
    /// `ssl_protocols`, default TLS 1.2 and 1.3; at least one.
    pub protocols: Vec<TlsVersion>,
    /// `ssl_ciphers`: suites of TLS 1.2 in order of preference; those of 1.3 are always on.
    pub ciphers: Vec<rustls::CipherSuite>,
    /// `ssl_session_tickets`, default false.
    pub session_tickets: bool,
    /// `osmia.ssl_session_cache`: sessions that are kept for clients to resume; 0: none.
    pub session_cache: usize,
    /// `apisix.enable_http2`, default true: whether HTTP/2 is offered.
    pub http2: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// `TLSv1.2`.
    V12,
    /// `TLSv1.3`.
    V13,
}

impl TlsSettings {
    /// Default of `osmia.ssl_session_cache`: about what APISIX's 20 MiB hold.
    pub const SESSION_CACHE: usize = 20_000;
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            fallback_sni: None,
            protocols: vec![TlsVersion::V12, TlsVersion::V13],
            ciphers: crate::tls::select_ciphers("ALL").suites,
            session_tickets: false,
            session_cache: Self::SESSION_CACHE,
            http2: true,
        }
    }
}

/// One listening address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches of the configuration")]
pub struct Listener {
    /// Address to bind.
    pub addr: ListenAddr,
    /// Whether requests on this address go to the access log (our addition to an entry:
    /// `access_log: false`).
    pub access_log: bool,
    /// Whether to go on without this address when the machine has no such address family: true for
    /// the `[::]` that `apisix.enable_ipv6` adds. IPv6 addresses are bound for IPv6 only, since the
    /// same port is usually bound on `0.0.0.0` as well.
    pub optional: bool,
    /// Whether connections begin with a TLS handshake: an entry of `apisix.ssl.listen`.
    pub tls: bool,
    /// `apisix.enable_http2`.
    pub http2: bool,
    /// Whether connections begin with a PROXY protocol header, before anything else.
    pub proxy_protocol: bool,
}

/// Worker count and placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// `nginx_config.worker_processes` or `--workers`; `None`: one per usable core.
    pub count: Option<usize>,
    /// `osmia.cores` or `--cores` (`0-3,6`); `None`: the cores this process may run on.
    pub cores: Option<Vec<usize>>,
    /// Whether workers are pinned (`osmia.pin`, default true).
    pub pin: bool,
}

/// Which I/O driver workers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// `io_uring` with the best flags the kernel takes, falling back to epoll.
    Auto,
    /// `io_uring` or do not start.
    IoUring,
    /// epoll.
    Epoll,
}

/// How long a client may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownstreamTimeouts {
    /// `nginx_config.http.keepalive_timeout`: between two requests.
    pub keepalive: Duration,
    /// `nginx_config.http.client_header_timeout`: for a whole request head.
    pub header: Duration,
    /// `nginx_config.http.client_body_timeout`: between two reads of a body.
    pub body: Duration,
    /// `nginx_config.http.send_timeout`: between two writes of a response.
    pub send: Duration,
    /// `osmia.keepalive_requests`: most requests on one connection; 0: unlimited.
    pub keepalive_requests: u32,
}

/// Access log settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// `nginx_config.http.access_log`.
    pub path: PathBuf,
    /// `nginx_config.http.access_log_format`: nginx-style variables.
    pub format: String,
    /// `nginx_config.http.access_log_format_escape`: `default`, `json` or `none`.
    pub escape: Escape,
    /// `nginx_config.http.access_log_buffer` in bytes: a worker hands over its lines when this much
    /// is collected, or on the next tick.
    pub buffer_bytes: usize,
    /// `osmia.access_log.max_size` in bytes: rotate beyond it; 0: never.
    pub rotate_bytes: u64,
    /// `osmia.access_log.interval`: rotate after this time; zero: never.
    pub rotate_interval: Duration,
    /// `osmia.access_log.max_kept`: rotated files that are kept.
    pub max_kept: usize,
    /// `osmia.access_log.queue`: batches that may wait for the disk before lines are dropped.
    pub queue: usize,
}

/// How variable values are escaped in log lines (nginx `log_format ... escape=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// `\xXX` for quotes, backslashes and control bytes; `-` for a variable that is not set.
    Default,
    /// JSON string escapes; empty stays empty.
    Json,
    /// As it is.
    None,
}

/// `deployment.*`: where resources come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigProvider {
    /// Osmia's own database in [`Settings::data_dir`]; nothing else is needed.
    Embedded {
        /// `osmia.embedded.seed`: what a store that is created anew begins with.
        seed: Seed,
    },
    /// etcd.
    Etcd(EtcdSettings),
    /// A standalone file: `apisix.yaml` or `apisix.json`.
    File {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: FileFormat,
    },
}

/// What a new embedded store begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seed {
    /// Nothing.
    #[default]
    Empty,
    /// The demo route built into the binary: when there is no configuration file at all.
    Demo,
    /// The resources of a standalone file.
    File(PathBuf),
}

/// Formats of a standalone file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// `apisix.yaml`, which ends with `#END`.
    Yaml,
    /// `apisix.json`.
    Json,
}

/// `deployment.etcd` (APISIX, `conf/config.yaml`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `host`: URLs, `http://` or `https://`.
    pub endpoints: Vec<String>,
    /// `prefix`, without a slash at the end; default `/apisix`.
    pub prefix: String,
    /// `user` and `password`.
    pub credentials: Option<(String, String)>,
    /// `timeout`: for one request.
    pub timeout: Duration,
    /// `tls.cert` and `tls.key`: files of the client's certificate.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// `tls.verify`, default true.
    pub verify: bool,
    /// `tls.sni`: the name to verify instead of the endpoint's.
    pub server_name: Option<String>,
    /// `apisix.ssl.ssl_trusted_certificate`: file of the authorities to trust; `None`: the
    /// system's.
    pub trusted: Option<PathBuf>,
    /// `osmia.etcd.accept_empty`: whether a store that is suddenly empty may replace a
    /// configuration that is not; default false.
    pub accept_empty: bool,
}

/// `deployment.admin` and `apisix.enable_admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// `admin_listen`, default `0.0.0.0:9180`.
    pub listen: SocketAddr,
    /// `admin_key`; empty: one admin key is generated and kept in [`Settings::data_dir`].
    pub keys: Vec<AdminKey>,
    /// `admin_key_required`, default true.
    pub key_required: bool,
    /// `allow_admin`: networks in CIDR form; empty: all. Default `127.0.0.0/24`.
    pub allow: Vec<String>,
    /// `enable_admin_cors`, default true.
    pub cors: bool,
    /// `admin_api_version` in `X-API-VERSION`; only `v3` exists.
    pub https: Option<AdminTls>,
    /// Largest request body in bytes; default 1.5 MiB.
    pub body_bytes: usize,
}

/// One of `deployment.admin.admin_key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminKey {
    /// `name`.
    pub name: String,
    /// `key`; `None`: to be generated.
    pub key: Option<String>,
    /// `role`.
    pub role: AdminRole,
}

/// What an admin key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminRole {
    /// Everything.
    Admin,
    /// Reading.
    Viewer,
}

/// `deployment.admin.https_admin` with `admin_api_mtls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTls {
    /// `admin_api_mtls.admin_ssl_cert` and `admin_ssl_cert_key`.
    pub certificate: (PathBuf, PathBuf),
    /// `admin_api_mtls.admin_ssl_ca_cert`: clients need a certificate signed by it.
    pub client_authority: Option<PathBuf>,
}

/// `apisix.data_encryption`, `plugins` and what Osmia adds to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceSettings {
    /// `plugins`: the list that replaces the default one.
    pub plugins: Option<Vec<String>>,
    /// `osmia.unknown_plugins`: `refuse`, `skip`, or a list of names to skip.
    pub unknown_plugins: crate::rules::UnknownPlugins,
    /// `apisix.data_encryption.keyring`; private keys of certificates are encrypted with it always.
    pub keyring: crate::keyring::Keyring,
    /// `apisix.data_encryption.enable_encrypt_fields`, default true: whether the `encrypt_fields`
    /// of plugins are encrypted as well.
    pub encrypt_fields: bool,
    /// Whether `apisix.proxy_mode` includes `stream`.
    pub stream: bool,
    /// `apisix.router.http`, default `radixtree_host_uri`.
    pub router: crate::router::Mode,
}

/// How names are looked up (`apisix.dns_resolver` and what is beside it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    /// `dns_resolver`; default: the system's.
    pub servers: DnsServers,
    /// `dns_resolver_valid`: how long an answer holds, in place of its own TTL.
    pub valid: Option<Duration>,
    /// `resolver_timeout`: how long one name may take; default 5 seconds.
    pub timeout: Duration,
    /// `enable_resolv_search_opt`: whether the search domains of `resolv.conf` are used; default
    /// true.
    pub search: bool,
    /// `enable_ipv6`: whether IPv6 addresses are asked for; default true.
    pub ipv6: bool,
}

/// Which DNS servers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsServers {
    /// These; search domains are the system's.
    Listed(Vec<SocketAddr>),
    /// The ones in a file like `/etc/resolv.conf`, with its search domains.
    File(PathBuf),
}

impl DnsServers {
    /// The system's file.
    pub const SYSTEM: &str = "/etc/resolv.conf";

    /// The system's servers.
    pub fn system() -> Self {
        Self::File(Self::SYSTEM.into())
    }
}

/// `discovery`: what an upstream's `discovery_type` can be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// `dns`.
    pub dns: Option<DnsDiscovery>,
}

impl DiscoverySettings {
    /// The types that are configured.
    pub fn types(&self) -> Vec<&'static str> {
        self.dns.iter().map(|_| "dns").collect()
    }
}

/// `discovery.dns` (APISIX, discovery/dns.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsDiscovery {
    /// `servers` or `resolv_conf`.
    pub servers: DnsServers,
    /// `order`: which records are asked for, the first that exist count.
    pub order: Vec<DnsRecords>,
}

/// An entry of `discovery.dns.order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsRecords {
    /// Those that were found the last time.
    Last,
    /// Targets with port, weight and priority.
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Another name.
    Cname,
}

impl ConfigProvider {
    /// A standalone `apisix.yaml`.
    pub fn yaml(path: PathBuf) -> Self {
        Self::File { path, format: FileFormat::Yaml }
    }

    /// The embedded store, beginning with the demo route.
    pub fn demo() -> Self {
        Self::Embedded { seed: Seed::Demo }
    }
}
