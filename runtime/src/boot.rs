//! From settings to running workers. Everything that can fail is tried before anything serves.

use std::sync::Arc;

use anyhow::{Context, bail};
use osmia_config_sync::settings::Loaded;
use osmia_config_sync::{health, sync};
use osmia_core::access_log::Format;
use osmia_core::settings::{Settings, Workers};
use tracing_subscriber::EnvFilter;

use crate::disk::DiskThread;
use crate::listen::{self, Bound};
use crate::supervisor::{LogPlan, Supervisor};

/// Descriptors a worker needs before its first connection.
const DESCRIPTORS_PER_WORKER: u64 = 32;
/// Descriptors the process needs besides, without those of health checks.
const DESCRIPTORS_BASE: u64 = 64;

/// Runs the gateway until a signal ends it.
pub fn start(loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { settings, warnings, unused } = loaded;
    let _log_guard = init_log(&settings)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if !unused.is_empty() {
        tracing::info!(keys = unused.join(", "), "settings of APISIX that Osmia does not use yet");
    }
    let cores = place(&settings.workers)?;
    raise_descriptor_limit(cores.len())?;
    let log = open_access_log(&settings)?;
    let bound = bind_all(&settings, cores.len())?;
    let sync = sync::start(&settings, cores.len())?;
    Supervisor::new(settings, cores, bound, sync, log).run()
}

/// Checks what `start` would read. Returns warnings.
pub fn check(settings: &Settings) -> anyhow::Result<Vec<String>> {
    place(&settings.workers)?;
    if let Some(log) = &settings.access_log {
        parse_format(&log.format, log.escape)?;
    }
    Ok(sync::check(settings)?)
}

fn parse_format(format: &str, escape: osmia_core::settings::Escape) -> anyhow::Result<Format> {
    Format::parse(format, escape).context("nginx_config.http.access_log_format")
}

/// Sends operators' messages to the error log, never blocking a worker.
fn init_log(settings: &Settings) -> anyhow::Result<tracing_appender::non_blocking::WorkerGuard> {
    let (writer, guard) = match &settings.error_log {
        None => tracing_appender::non_blocking(std::io::stderr()),
        Some(path) => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).with_context(|| {
                    format!("cannot create the directory {} for the error log", parent.display())
                })?;
            }
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            tracing_appender::non_blocking(file.with_context(|| {
                format!("cannot open nginx_config.error_log {}", path.display())
            })?)
        }
    };
    let filter = EnvFilter::try_from_env("OSMIA_LOG")
        .or_else(|_| EnvFilter::try_new(&settings.log_level))
        .context("nginx_config.error_log_level")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(writer)
        .init();
    Ok(guard)
}

/// The core of each worker; `None` for one that is not pinned.
fn place(workers: &Workers) -> anyhow::Result<Vec<Option<usize>>> {
    let usable = usable_cores()?;
    if let Some(missing) = workers.cores.iter().flatten().find(|core| !usable.contains(core)) {
        bail!(
            "osmia.cores: core {missing} is not available to this process; usable are {usable:?}"
        );
    }
    let cores = workers.cores.clone().unwrap_or(usable);
    if cores.is_empty() {
        bail!("osmia.cores: no core is named");
    }
    let count = workers.count.unwrap_or(cores.len());
    if workers.pin && count > cores.len() {
        tracing::warn!(
            workers = count,
            cores = cores.len(),
            "more workers than cores: some will share one"
        );
    }
    Ok((0..count).map(|id| workers.pin.then(|| cores[id % cores.len()])).collect())
}

fn usable_cores() -> anyhow::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None).context("cannot read the CPU affinity")?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

fn raise_descriptor_limit(workers: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit of open files to the hard limit: {error}");
    }
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fixed = DESCRIPTORS_BASE + DESCRIPTORS_PER_WORKER * workers as u64;
    let needed = (fixed * health::DESCRIPTORS).div_ceil(health::DESCRIPTORS - 1);
    if now < needed {
        bail!(
            "too few file descriptors: the limit of open files is {now}, {workers} workers need \
             at least {needed}; raise it (ulimit -Hn, LimitNOFILE= in a systemd unit)"
        );
    }
    Ok(())
}

fn open_access_log(settings: &Settings) -> anyhow::Result<Option<LogPlan>> {
    let Some(config) = &settings.access_log else { return Ok(None) };
    let format = Arc::new(parse_format(&config.format, config.escape)?);
    let disk = DiskThread::start(config)?;
    tracing::info!(path = %config.path.display(), backend = %disk.backend(), "access log");
    Ok(Some(LogPlan { format, disk, batch_bytes: config.buffer_bytes }))
}

fn bind_all(settings: &Settings, workers: usize) -> anyhow::Result<Vec<Bound>> {
    let mut all = Vec::new();
    for listener in &settings.listeners {
        match listen::bind(listener, workers)? {
            Some(bound) => all.push(bound),
            None => tracing::info!(addr = %listener.addr, "not listening: no IPv6 here"),
        }
    }
    if all.is_empty() {
        bail!("apisix.node_listen: no address to listen on");
    }
    Ok(all)
}
