//! What `/proc` tells about a contender: processor time and memory of its whole process group.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// A process group: a contender with its workers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group(pub(crate) u32);

/// Memory of a group, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Resident set, summed: pages that two processes share count twice.
    pub(crate) rss: u64,
    /// Resident anonymous memory, summed.
    pub(crate) anon: u64,
    /// Resident set with shared pages counted in proportion.
    pub(crate) pss: u64,
    /// Highest resident set since the last [`Group::reset_peak`], summed.
    pub(crate) peak: u64,
}

impl Group {
    /// Processor time in nanoseconds, user and system, of all threads that are alive.
    pub(crate) fn cpu_ns(self) -> Result<u64> {
        let pids = self.pids();
        anyhow::ensure!(!pids.is_empty(), "process group {} is gone", self.0);
        Ok(pids.into_iter().map(process_cpu_ns).sum())
    }

    /// Memory now.
    pub(crate) fn memory(self) -> Memory {
        let mut sum = Memory::default();
        for pid in self.pids() {
            let status = read(pid, "status");
            sum.rss += kib(&status, "VmRSS:");
            sum.anon += kib(&status, "RssAnon:");
            sum.peak += kib(&status, "VmHWM:");
            sum.pss += kib(&read(pid, "smaps_rollup"), "Pss:");
        }
        sum
    }

    /// Makes [`Memory::peak`] start from the present resident set.
    pub(crate) fn reset_peak(self) -> Result<()> {
        for pid in self.pids() {
            fs::write(format!("/proc/{pid}/clear_refs"), "5")
                .with_context(|| format!("cannot reset the peak memory of process {pid}"))?;
        }
        Ok(())
    }

    /// Processes of the group that are alive.
    pub(crate) fn pids(self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&pid| is_live_member(&read(pid, "stat"), self.0))
            .collect()
    }
}

/// Busy time of one core, in clock ticks, since boot: everything but idle and iowait.
pub(crate) fn core_busy_ticks(core: usize) -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let Some(line) = text.lines().find_map(|line| line.strip_prefix(&name)) else {
        return 0;
    };
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal (guest time is part of user).
    ticks.iter().take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4).map(|(_, n)| n).sum()
}

/// TCP connections that were opened from this network namespace since boot, by anybody.
pub(crate) fn connects() -> u64 {
    let text = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    active_opens(&text).unwrap_or(0)
}

/// `ActiveOpens` of the two `Tcp:` lines, names and values.
fn active_opens(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let at = lines.next()?.split(' ').position(|name| name == "ActiveOpens")?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

/// Clock ticks per second of [`core_busy_ticks`] and `/proc/PID/stat`.
pub(crate) fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

fn read(pid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

/// Nanoseconds from the scheduler where the kernel keeps them, else clock ticks.
fn process_cpu_ns(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let from_scheduler: u64 = threads
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    if from_scheduler > 0 {
        return from_scheduler;
    }
    stat_ticks(&read(pid, "stat")) * (1_000_000_000 / ticks_per_second())
}

/// Fields after the command, which may itself hold spaces and parentheses. The first is `state`.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}

/// Whether the process belongs to `group` and is not a zombie that waits to be reaped.
fn is_live_member(stat: &str, group: u32) -> bool {
    let mut fields = fields(stat);
    let (state, _parent, found) = (fields.next(), fields.next(), fields.next());
    state != Some("Z") && found.and_then(|id| id.parse().ok()) == Some(group)
}

/// utime and stime.
fn stat_ticks(stat: &str) -> u64 {
    fields(stat).skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn kib(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    const STAT: &str = "42 (a) b) S 1 77 9 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 1 0 5 6 7";

    #[test]
    fn stat_fields_survive_odd_command_names() {
        assert!(is_live_member(STAT, 77) && !is_live_member(STAT, 1));
        assert!(!is_live_member(&STAT.replace(" S ", " Z "), 77));
        assert_eq!(stat_ticks(STAT), 300);
    }

    #[test]
    fn connects_are_found_by_name() {
        let snmp = "Ip: a b\nIp: 1 2\nTcp: RtoMin ActiveOpens X\nTcp: 200 77 5\n";
        assert_eq!(active_opens(snmp), Some(77));
        assert_eq!(active_opens("Ip: a\n"), None);
    }

    #[test]
    fn memory_fields_are_kib() {
        let status = "Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  812 kB\nRssAnon:\t 100 kB\n";
        assert_eq!(kib(status, "VmRSS:"), 812);
        assert_eq!(kib(status, "VmHWM:"), 900);
        assert_eq!(kib(status, "VmSwap:"), 0);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();
        let before = process_cpu_ns(pid);
        let mut sum = 0_u64;
        // The kernel counts at its ticks: work until one has passed.
        while process_cpu_ns(pid) == before {
            sum = black_box(sum.wrapping_add(1));
        }
        assert!(kib(&read(pid, "status"), "VmRSS:") > 0);
    }
}
