//! `config.yaml`: reading, checking, and the typed [`Settings`].
//!
//! The file has APISIX's layout (`conf/config.yaml`); what Osmia adds is under `osmia:`. A key that
//! is absent or `null` has its built-in default; maps are thereby merged over the defaults, lists
//! replace them. `${{VAR}}` and `${{VAR:=default}}` are replaced in keys and values.
//!
//! Relative paths of logs are relative to the working directory, as nginx takes them relative to
//! its prefix, and so are certificates and the data directory. The paths of the standalone file and
//! of the seed are relative to the directory of `config.yaml`.

mod admin;
mod dns;
mod etcd;
mod known;
mod listen;
mod provider;
mod read;
mod resources;
mod tls;
mod units;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use osmia_core::body_vars::BodyLimits;
use osmia_core::limits::{self, HttpLimits};
use osmia_core::path::PathOptions;
use osmia_core::request::ViewOptions;
use osmia_core::settings::{
    AccessLog, DownstreamTimeouts, Driver, Escape, Listener, Settings, Workers,
};
use serde_json::Value;

use crate::env::{self, Lookup, MissingVariable};
use crate::yaml;
use provider::Role;
use read::Key;

/// Most workers that can be configured.
const WORKERS_MAX: usize = 1024;
/// Highest number of a core: what the kernel's `cpu_set_t` can name.
const CORE_MAX: usize = 1023;
/// Most revisions that the journal can be told to keep.
const HISTORY_MAX: u64 = 100_000_000;
/// Overrides `nginx_config.worker_processes`, as in APISIX.
const ENV_WORKERS: &str = "APISIX_WORKER_PROCESSES";

/// APISIX's log format (`apisix/cli/config.lua`).
pub const ACCESS_LOG_FORMAT: &str = "$remote_addr - $remote_user [$time_local] $http_host \
    \"$request\" $status $body_bytes_sent $request_time \"$http_referer\" \"$http_user_agent\" \
    $upstream_addr $upstream_status $upstream_response_time \
    \"$upstream_scheme://$upstream_host$upstream_uri\" \"$apisix_request_id\"";

/// What the command line sets; it wins over the file and the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--workers N` or, as `Some(None)`, `--workers auto`.
    pub workers: Option<Option<usize>>,
    /// `--cores`, see [`parse_cores`].
    pub cores: Option<Vec<usize>>,
    /// `--driver`.
    pub driver: Option<Driver>,
}

/// Settings, and what there is to say about the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One line each: unknown keys, and keys of APISIX whose value asks for something that this
    /// version does not do.
    pub warnings: Vec<String>,
    /// Paths of other keys of APISIX that are set and not used by this version.
    pub unused: Vec<String>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not valid YAML.
    #[error("{}: not valid YAML: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Why, with line and column.
        reason: String,
    },
    /// A key has a value that cannot be used.
    #[error("{}: {key}: {problem}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The key's path, such as `apisix.node_listen[0].port`.
        key: String,
        /// What is wrong.
        problem: KeyProblem,
    },
    /// An environment variable that overrides a key has a value that cannot be used.
    #[error("environment variable {name}: expected {expected}, found \"{found}\"")]
    Environment {
        /// The variable.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
}

/// What is wrong with a key's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// Another type or range.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// It refers to a variable that is not set.
    #[error(transparent)]
    Variable(#[from] MissingVariable),
    /// Valid for APISIX, but this version of Osmia cannot do it.
    #[error("{0} is not supported yet by this version")]
    Unsupported(String),
    /// Any other rule.
    #[error("{0}")]
    Rule(String),
}

/// A problem on its way up, with the key's path.
type KeyError = (String, KeyProblem);

/// Loads settings: built-in defaults, over them the file at `path` if given, over that the
/// environment and the command line.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Loaded, SettingsError> {
    load_with(path, overrides, &env::process)
}

fn load_with(
    path: Option<&Path>,
    overrides: &Overrides,
    env: Lookup<'_>,
) -> Result<Loaded, SettingsError> {
    let text = match path {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|source| SettingsError::Read { file: file.to_owned(), source })?,
        None => String::new(),
    };
    load_text(&text, path, overrides, env)
}

/// Where the settings come from.
struct Origin<'a> {
    /// `None`: there is no file.
    file: Option<&'a Path>,
    env: Lookup<'a>,
}

/// Loads settings from the text of the file at `path`.
fn load_text(
    text: &str,
    path: Option<&Path>,
    overrides: &Overrides,
    env: Lookup<'_>,
) -> Result<Loaded, SettingsError> {
    let file = path.unwrap_or(Path::new("config.yaml"));
    let syntax = |reason| SettingsError::Syntax { file: file.to_owned(), reason };
    let at_key = |(key, problem)| SettingsError::Key { file: file.to_owned(), key, problem };
    let mut document = yaml::parse(text).map_err(syntax)?;
    env::resolve(&mut document, "", env).map_err(|(key, missing)| at_key((key, missing.into())))?;
    if !matches!(document, Value::Object(_) | Value::Null) {
        return Err(syntax("expected keys such as apisix and nginx_config".to_owned()));
    }
    let origin = Origin { file: path, env };
    let mut notes = Vec::new();
    let read = settings(&Key::root(&document), &origin, &mut notes);
    let mut settings = read.map_err(at_key)?;
    if let Some(count) = env(ENV_WORKERS) {
        settings.workers.count = Some(workers_from_env(&count)?);
    }
    apply(overrides, &mut settings);
    let mut checked = known::check(&document);
    checked.warnings.append(&mut notes);
    checked.warnings.iter_mut().for_each(|line| *line = format!("{}: {line}", file.display()));
    Ok(Loaded { settings, warnings: checked.warnings, unused: checked.unused })
}

fn workers_from_env(found: &str) -> Result<usize, SettingsError> {
    let count = found.trim().parse().ok().filter(|count| (1..=WORKERS_MAX).contains(count));
    count.ok_or_else(|| SettingsError::Environment {
        name: ENV_WORKERS,
        expected: format!("an integer 1-{WORKERS_MAX}"),
        found: found.to_owned(),
    })
}

fn apply(overrides: &Overrides, settings: &mut Settings) {
    if let Some(count) = overrides.workers {
        settings.workers.count = count;
    }
    if let Some(cores) = &overrides.cores {
        settings.workers.cores = Some(cores.clone());
    }
    if let Some(driver) = overrides.driver {
        settings.driver = driver;
    }
}

fn settings(
    root: &Key<'_>,
    origin: &Origin<'_>,
    warnings: &mut Vec<String>,
) -> Result<Settings, KeyError> {
    let role = provider::role(root)?;
    let settings = read_settings(root, role, origin, warnings)?;
    admin::no_conflicts(
        &settings.listeners,
        &[
            ("deployment.admin.admin_listen", settings.admin.as_ref().map(|admin| admin.listen)),
            ("apisix.control", settings.control),
            ("apisix.status", settings.status),
        ],
    )?;
    Ok(settings)
}

fn read_settings(
    root: &Key<'_>,
    role: Role,
    origin: &Origin<'_>,
    warnings: &mut Vec<String>,
) -> Result<Settings, KeyError> {
    let apisix = root.get("apisix")?;
    let nginx = root.get("nginx_config")?;
    let http = nginx.get("http")?;
    let osmia = root.get("osmia")?;
    let dns = dns::names(&apisix, warnings)?;
    Ok(Settings {
        listeners: listeners(&apisix, role, warnings)?,
        proxy_protocol_trusted: listen::networks(&osmia.get("proxy_protocol")?.get("trusted")?)?,
        trusted_addresses: listen::networks(&apisix.get("trusted_addresses")?)?,
        workers: workers(&apisix, &nginx, &osmia)?,
        driver: osmia.get("driver")?.choice(&DRIVERS, Driver::Auto)?,
        limits: http_limits(&osmia.get("limits")?)?,
        downstream: downstream(&http, &osmia)?,
        access_log: access_log(&http, &osmia.get("access_log")?)?,
        log_level: nginx.get("error_log_level")?.choice(&LOG_LEVELS, "info")?.to_owned(),
        error_log: error_log(&nginx.get("error_log")?)?,
        shutdown_timeout: nginx.get("worker_shutdown_timeout")?.duration(Duration::from_mins(4))?,
        server_tokens: apisix.get("enable_server_tokens")?.boolean(true)?,
        show_upstream_status: apisix
            .get("show_upstream_status_in_response_header")?
            .boolean(false)?,
        view: view(&apisix, &root.get("graphql")?)?,
        client_max_body_bytes: http.get("client_max_body_size")?.size(0)?,
        health_checks: !apisix.get("disable_upstream_healthcheck")?.boolean(false)?,
        trusted_certificates: etcd::trusted(root)?,
        tls: tls::settings(root, warnings)?,
        provider: provider::provider(root, role, origin)?,
        resources: resources::settings(root)?,
        data_dir: osmia.get("data_dir")?.path_value("data")?,
        history_keep: osmia.get("history")?.get("keep")?.integer_or(10_000, 1..=HISTORY_MAX)?,
        admin: admin::settings(root, role, warnings)?,
        control: admin::control(&apisix)?,
        status: admin::status(&apisix)?,
        discovery: dns::discovery(root, dns.ipv6, warnings)?,
        dns,
    })
}

/// How routes see requests.
fn view(apisix: &Key<'_>, graphql: &Key<'_>) -> Result<ViewOptions, KeyError> {
    let default = BodyLimits::default();
    Ok(ViewOptions {
        path: PathOptions {
            delete_tail_slash: apisix.get("delete_uri_tail_slash")?.boolean(false)?,
            servlet: apisix.get("normalize_uri_like_servlet")?.boolean(false)?,
            encoded_slash: apisix.get("match_uri_encoded_slash")?.boolean(false)?,
        },
        body: BodyLimits {
            // In megabytes.
            post_args: apisix
                .get("max_post_args_readable_size")?
                .integer_or(default.post_args >> 20, 0..=BODY_MAX >> 20)?
                << 20,
            graphql: graphql.get("max_size")?.integer_or(default.graphql, 0..=BODY_MAX)?,
        },
    })
}

/// The addresses for traffic; a control plane serves none, as in APISIX.
fn listeners(
    apisix: &Key<'_>,
    role: Role,
    warnings: &mut Vec<String>,
) -> Result<Vec<Listener>, KeyError> {
    let listeners = listen::listeners(apisix)?;
    if role != Role::ControlPlane {
        return Ok(listeners);
    }
    let key = apisix.get("node_listen")?;
    if key.value().is_some() {
        warnings.push(format!("{}: not used, a control plane serves no traffic", key.path()));
    }
    Ok(Vec::new())
}

/// Most bytes of a body that can be asked to be looked into: all are held in memory.
const BODY_MAX: u64 = 1 << 30;

const DRIVERS: [(&str, Driver); 3] =
    [("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];

/// nginx's levels and the ones of `tracing` that come closest.
const LOG_LEVELS: [(&str, &str); 8] = [
    ("debug", "debug"),
    ("info", "info"),
    ("notice", "info"),
    ("warn", "warn"),
    ("error", "error"),
    ("crit", "error"),
    ("alert", "error"),
    ("emerg", "error"),
];

const ESCAPES: [(&str, Escape); 3] =
    [("default", Escape::Default), ("json", Escape::Json), ("none", Escape::None)];

fn workers(apisix: &Key<'_>, nginx: &Key<'_>, osmia: &Key<'_>) -> Result<Workers, KeyError> {
    let processes = nginx.get("worker_processes")?;
    let count = match processes.value() {
        None => None,
        Some(value) if value.as_str() == Some("auto") => None,
        Some(_) => {
            let expected = format!("auto or an integer 1-{WORKERS_MAX}");
            Some(processes.integer_as(1..=WORKERS_MAX as u64, &expected)? as usize)
        }
    };
    let dev_mode = apisix.get("enable_dev_mode")?.boolean(false)?;
    Ok(Workers {
        count: if dev_mode { Some(1) } else { count },
        cores: cores(&osmia.get("cores")?)?,
        pin: osmia.get("pin")?.boolean(true)?,
    })
}

fn cores(key: &Key<'_>) -> Result<Option<Vec<usize>>, KeyError> {
    let refused = |error: CoresError| (key.path().to_owned(), KeyProblem::Rule(error.to_string()));
    match key.value() {
        None => Ok(None),
        Some(Value::String(text)) => parse_cores(text).map(Some).map_err(refused),
        Some(Value::Array(_)) => {
            let mut cores = Vec::new();
            for item in key.items()? {
                let core = item.integer(0..=CORE_MAX as u64)? as usize;
                push_core(&mut cores, core).map_err(refused)?;
            }
            if cores.is_empty() { Err(refused(CoresError::Empty)) } else { Ok(Some(cores)) }
        }
        Some(_) => {
            let expected = format!("a list such as 0-3,6 of cores 0-{CORE_MAX}");
            let core = key.integer_as(0..=CORE_MAX as u64, &expected)?;
            Ok(Some(vec![core as usize]))
        }
    }
}

fn http_limits(key: &Key<'_>) -> Result<HttpLimits, KeyError> {
    let default = HttpLimits::default();
    let bytes = |name, default: usize, max: usize| {
        key.get(name)?.bytes_in(default as u64, 1..=max as u64).map(|bytes| bytes as usize)
    };
    let head_max = limits::HEAD_BYTES_MAX;
    let count_max = limits::HEADER_COUNT_MAX as u64;
    let limits = HttpLimits {
        request_line_bytes: bytes("request_line_bytes", default.request_line_bytes, head_max)?,
        head_bytes: bytes("head_bytes", default.head_bytes, head_max)?,
        header_count: key
            .get("header_count")?
            .integer_or(default.header_count as u64, 1..=count_max)? as usize,
        chunk_line_bytes: bytes("chunk_line_bytes", default.chunk_line_bytes, head_max)?,
        trailer_bytes: bytes("trailer_bytes", default.trailer_bytes, head_max)?,
    };
    if limits.request_line_bytes > limits.head_bytes {
        let text = format!("must not be larger than head_bytes ({})", limits.head_bytes);
        let path = key.get("request_line_bytes")?.path().to_owned();
        return Err((path, KeyProblem::Rule(text)));
    }
    Ok(limits)
}

fn downstream(http: &Key<'_>, osmia: &Key<'_>) -> Result<DownstreamTimeouts, KeyError> {
    let minute = Duration::from_mins(1);
    Ok(DownstreamTimeouts {
        keepalive: http.get("keepalive_timeout")?.duration(minute)?,
        header: http.get("client_header_timeout")?.duration(minute)?,
        body: http.get("client_body_timeout")?.duration(minute)?,
        send: http.get("send_timeout")?.duration(Duration::from_secs(10))?,
        keepalive_requests: osmia
            .get("keepalive_requests")?
            .integer_or(1000, 0..=u64::from(u32::MAX))? as u32,
    })
}

fn access_log(http: &Key<'_>, osmia: &Key<'_>) -> Result<Option<AccessLog>, KeyError> {
    let enabled = http.get("enable_access_log")?.boolean(true)?;
    let path = http.get("access_log")?;
    // Unquoted, YAML reads nginx's `off` as a boolean.
    let off = path.value().is_some_and(|v| v.as_str() == Some("off") || *v == Value::Bool(false));
    let log = AccessLog {
        path: if off { PathBuf::new() } else { path.path_value("logs/access.log")? },
        format: log_format(&http.get("access_log_format")?.string(ACCESS_LOG_FORMAT)?),
        escape: http.get("access_log_format_escape")?.choice(&ESCAPES, Escape::Default)?,
        buffer_bytes: http.get("access_log_buffer")?.bytes_in(16384, 1..=BUFFER_MAX)? as usize,
        rotate_bytes: osmia.get("max_size")?.size(0)?,
        rotate_interval: osmia.get("interval")?.duration(Duration::ZERO)?,
        max_kept: osmia.get("max_kept")?.integer_or(168, 0..=1_000_000)? as usize,
        queue: osmia.get("queue")?.integer_or(256, 1..=1_000_000)? as usize,
    };
    Ok((enabled && !off).then_some(log))
}

/// Largest log buffer of one worker: beyond it lines would come late and memory grow for nothing.
const BUFFER_MAX: u64 = 64 * 1024 * 1024;

/// The format as nginx reads it from its quoted configuration, where APISIX puts it: `\"`, `\'` and
/// `\\` stand for the second character, `\t`, `\r` and `\n` for control characters. The newline at
/// the end of a YAML block is not part of it.
fn log_format(text: &str) -> String {
    let text = text.trim_end_matches('\n');
    let mut format = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.as_str().chars().next() } else { None };
        let replaced = match escaped {
            Some(next @ ('"' | '\'' | '\\')) => Some(next),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some('n') => Some('\n'),
            _ => None,
        };
        if replaced.is_some() {
            chars.next();
        }
        format.push(replaced.unwrap_or(c));
    }
    format
}

fn error_log(key: &Key<'_>) -> Result<Option<PathBuf>, KeyError> {
    match key.value().and_then(Value::as_str) {
        None if key.value().is_none() => Ok(None),
        Some("stderr" | "/dev/stderr") => Ok(None),
        _ => key.path_value("").map(Some),
    }
}

/// What is wrong with a list of cores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoresError {
    /// No core is named.
    #[error("expected cores such as 0-3,6, found nothing")]
    Empty,
    /// A part is neither a number nor a range of numbers.
    #[error("expected cores such as 0-3,6 with numbers up to {CORE_MAX}, found \"{0}\"")]
    Malformed(String),
    /// A core is named more than once.
    #[error("core {0} is named twice")]
    Twice(usize),
}

/// Reads a list of cores, such as `0-3,6`.
pub fn parse_cores(text: &str) -> Result<Vec<usize>, CoresError> {
    if text.trim().is_empty() {
        return Err(CoresError::Empty);
    }
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let malformed = || CoresError::Malformed(part.to_owned());
        let number = |text: &str| text.trim().parse().ok().filter(|core| *core <= CORE_MAX);
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = number(first).ok_or_else(malformed)?;
        let last: usize = number(last).filter(|last| *last >= first).ok_or_else(malformed)?;
        for core in first..=last {
            push_core(&mut cores, core)?;
        }
    }
    Ok(cores)
}

fn push_core(cores: &mut Vec<usize>, core: usize) -> Result<(), CoresError> {
    if cores.contains(&core) {
        return Err(CoresError::Twice(core));
    }
    cores.push(core);
    Ok(())
}

#[cfg(test)]
mod tests;
