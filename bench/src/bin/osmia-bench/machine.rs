//! The machine: its cores, limits and names.

use std::process::Command;
use std::{fmt, fs};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// Which cores do what. With one core, everything shares it, and the report says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cores {
    /// The core the proxy is pinned to.
    pub(crate) proxy: usize,
    /// The cores of the load generator and the upstream.
    pub(crate) load: Vec<usize>,
}

impl Cores {
    /// The first usable core for the proxy unless `proxy` says otherwise, the others for the load.
    pub(crate) fn choose(proxy: Option<usize>) -> Result<Self> {
        let set = sched_getaffinity(None).context("cannot read the cores this process may use")?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
        Self::split(&usable, proxy)
    }

    fn split(usable: &[usize], proxy: Option<usize>) -> Result<Self> {
        let proxy = proxy.or(usable.first().copied()).context("no usable core")?;
        anyhow::ensure!(usable.contains(&proxy), "core {proxy} is not among the usable {usable:?}");
        let mut load: Vec<usize> = usable.iter().copied().filter(|&core| core != proxy).collect();
        if load.is_empty() {
            load.push(proxy);
        }
        Ok(Self { proxy, load })
    }

    /// Whether proxy and load share a core, which makes all figures doubtful.
    pub(crate) fn shared(&self) -> bool {
        self.load.contains(&self.proxy)
    }
}

/// The set of `cores`, for [`sched_setaffinity`].
pub(crate) fn cpu_set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    set
}

/// Pins the calling thread, and what it starts from now on.
pub(crate) fn pin(cores: &[usize]) -> Result<()> {
    sched_setaffinity(None, &cpu_set(cores))
        .with_context(|| format!("cannot pin the harness to cores {cores:?}"))
}

/// Lets a thread, or all threads of a process, go before everything that is not of real-time
/// priority; among those that are, the higher level goes first. Level 0 takes it back. Fails where
/// the system does not permit it.
pub(crate) fn go_first(whose: Whose, level: u8) -> Result<()> {
    let policy = if level == 0 { "--other" } else { "--fifo" };
    let mut chrt = Command::new("chrt");
    chrt.args([policy, "--pid", &level.to_string()]);
    match whose {
        Whose::ThisThread => chrt.arg(gettid().to_string()),
        Whose::Process(pid) => chrt.arg("--all-tasks").arg(pid.to_string()),
    };
    let output = chrt.output().context("cannot run chrt, of util-linux")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Whose priority.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    ThisThread,
    Process(u32),
}

/// Raises the descriptor limit, which children inherit, to the hard limit; the new limit.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // A refusal leaves the old limit, which is what is read back.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What the report says about the machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) descriptor_limit: u64,
}

/// As the head of a report has it.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, cpu, cores, memory_mib, .. } = self;
        write!(f, "- Kernel: {kernel}\n- CPU: {cpu}, {cores} cores; {memory_mib} MiB of memory")
    }
}

impl Machine {
    pub(crate) fn inspect(descriptor_limit: u64) -> Self {
        let name = rustix::system::uname();
        Self {
            kernel: format!(
                "{} {} {}",
                name.sysname().to_string_lossy(),
                name.release().to_string_lossy(),
                name.machine().to_string_lossy()
            ),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|value| value.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            descriptor_limit,
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// First value of `name : value` lines.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_gets_a_core_of_its_own_when_there_are_two() {
        let cores = Cores::split(&[2, 3, 5], None).expect("a split");
        assert_eq!(cores, Cores { proxy: 2, load: vec![3, 5] });
        assert!(!cores.shared());
        let cores = Cores::split(&[2, 3, 5], Some(3)).expect("a split");
        assert_eq!(cores, Cores { proxy: 3, load: vec![2, 5] });
        assert!(Cores::split(&[4], None).expect("a split").shared());
        assert!(Cores::split(&[0, 1], Some(7)).is_err());
    }

    #[test]
    fn proc_fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU: fast\nmodel name\t: other\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU: fast"));
        assert_eq!(field(text, "flags"), None);
    }
}
