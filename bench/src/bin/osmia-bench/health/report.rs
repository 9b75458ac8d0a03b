//! The report of health checks.

use std::fmt::Write as _;

use serde::Serialize;

use super::Sample;
use crate::machine::{Cores, Machine};
use crate::report::Report;
use crate::stats::Spread;

/// What checks of 2,500 upstreams may cost, in per cent of a core.
const TARGET: f64 = 5.0;

/// Everything one run found out.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// Day of the run, UTC, `YYYY-MM-DD`.
    pub(super) date: String,
    /// How the harness was called.
    pub(super) command: String,
    pub(super) machine: Machine,
    pub(super) cores: Cores,
    pub(super) upstreams: usize,
    pub(super) rounds: usize,
    /// Length of one measurement.
    pub(super) seconds: u64,
    /// Of the gateway.
    pub(super) version: String,
    pub(super) samples: Vec<Sample>,
}

impl Report for Results {
    fn date(&self) -> &str {
        &self.date
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# Health checks, {}\n", self.date)?;
        writeln!(out, "{}", self.machine)?;
        writeln!(
            out,
            "- {} upstreams of one node each; one worker on core {}, target on {:?}",
            self.upstreams, self.cores.proxy, self.cores.load
        )?;
        writeln!(
            out,
            "- {} rounds of {} s; medians, in brackets the range. CPU is that of the whole gateway",
            self.rounds, self.seconds
        )?;
        writeln!(out, "- Command: `{}`\n- osmia: {}", self.command, self.version)?;
        writeln!(
            out,
            "\n| checks | CPU, % of a core | at most | probes/s | connections/s | µs/probe | \
             RSS, MiB |\n|---|--:|---|--:|--:|--:|--:|"
        )?;
        let mut intervals: Vec<Option<u64>> = self.samples.iter().map(|s| s.interval).collect();
        intervals.sort_unstable();
        intervals.dedup();
        intervals.into_iter().try_for_each(|interval| self.write_row(out, interval))
    }
}

impl Results {
    fn spread(&self, interval: Option<u64>, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let samples = self.samples.iter().filter(|sample| sample.interval == interval);
        Spread::of(samples.map(figure))
    }

    fn write_row(&self, out: &mut String, interval: Option<u64>) -> std::fmt::Result {
        let median = |figure: fn(&Sample) -> f64| {
            self.spread(interval, figure).map_or(f64::NAN, |spread| spread.median)
        };
        let Some(cpu) = self.spread(interval, |s| s.core_percent) else { return Ok(()) };
        let (what, target) = match interval {
            None => ("none".to_owned(), String::new()),
            Some(seconds) => {
                let word = if cpu.median < TARGET { "met" } else { "**missed**" };
                (format!("every {seconds} s"), format!("{TARGET}: {word}"))
            }
        };
        let each = median(|s| 1e4 * s.core_percent / s.probes_per_second);
        let each = if interval.is_some() { format!("{each:.1}") } else { String::new() };
        writeln!(
            out,
            "| {what} | {:.2} ({:.2}–{:.2}) | {target} | {:.0} | {:.0} | {each} | {:.1} |",
            cpu.median,
            cpu.min,
            cpu.max,
            median(|s| s.probes_per_second),
            median(|s| s.connections_per_second),
            median(|s| s.rss_mib),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_stand_beside_the_target() {
        let sample = |interval, core_percent| Sample {
            interval,
            core_percent,
            probes_per_second: 2500.0,
            connections_per_second: 250.0,
            rss_mib: 30.0,
        };
        let results = Results {
            date: "2026-01-02".into(),
            command: "osmia-bench health".into(),
            machine: Machine::inspect(0),
            cores: Cores { proxy: 0, load: vec![1] },
            upstreams: 2500,
            rounds: 3,
            seconds: 1,
            version: "osmia 1".into(),
            samples: vec![
                sample(None, 0.1),
                sample(Some(1), 9.0),
                sample(Some(1), 4.0),
                sample(Some(1), 3.0),
            ],
        };
        let text = results.markdown();
        let row = "| every 1 s | 4.00 (3.00–9.00) | 5: met | 2500 | 250 | 16.0 | 30.0 |\n";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| none | 0.10 "), "{text}");
    }
}
