//! The report of the configuration plane: targets and what was measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::admin::{Admin, Sample, Way};
use super::change::Change;
use super::churn::{Besides, Churn};
use super::start::Starts;
use crate::machine::{Cores, Machine};
use crate::report::Report;
use crate::stats::Spread;

/// Everything one run found out.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// Day of the run, UTC, `YYYY-MM-DD`.
    pub(super) date: String,
    /// How the harness was called.
    pub(super) command: String,
    pub(super) machine: Machine,
    pub(super) cores: Cores,
    pub(super) routes: usize,
    pub(super) workers: usize,
    pub(super) rounds: usize,
    /// Length of one measurement.
    pub(super) seconds: u64,
    pub(super) versions: BTreeMap<&'static str, String>,
    pub(super) notices: Vec<String>,
    /// Filled from the parts below.
    pub(super) targets: Vec<Target>,
    pub(super) etcd_load: Option<Starts>,
    pub(super) embedded_load: Option<Starts>,
    pub(super) change: Option<Change>,
    pub(super) churn: Option<Churn>,
    pub(super) admin: Option<Admin>,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Target {
    pub(super) what: String,
    /// `None`: for information only.
    pub(super) bound: Option<Bound>,
    pub(super) unit: &'static str,
    pub(super) measured: f64,
    /// Over the rounds.
    pub(super) range: Option<(f64, f64)>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bound {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bound {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
}

use Bound::{AtLeast, AtMost};

/// Growth of memory over many changes that still counts as flat, in per cent.
const FLAT: Option<Bound> = Some(AtMost(5.0));

/// Collects lines.
#[derive(Default)]
struct Table(Vec<Target>);

impl Table {
    fn one(&mut self, what: &str, bound: Option<Bound>, unit: &'static str, measured: f64) {
        self.0.push(Target { what: what.into(), bound, unit, measured, range: None });
    }

    fn over_rounds(
        &mut self,
        what: &str,
        bound: Option<Bound>,
        unit: &'static str,
        spread: Option<Spread>,
    ) {
        if let Some(Spread { median, min, max }) = spread {
            let range = Some((min, max));
            self.0.push(Target { what: what.into(), bound, unit, measured: median, range });
        }
    }

    fn starts(&mut self, from: &str, seconds: f64, rss: Option<Bound>, starts: &Starts) {
        let mut line = |what: &str, bound, unit, figure: fn(&super::gateway::Start) -> f64| {
            self.over_rounds(
                &format!("start from {from}: {what}"),
                bound,
                unit,
                starts.spread(figure),
            );
        };
        let limit = Some(AtMost(seconds));
        line("first request on all workers", limit, "s", |s| s.first_ms.max(s.ready_ms) / 1e3);
        line("resident a second later", rss, "MiB", |s| s.rss_mib);
        line("resident at most", None, "MiB", |s| s.peak_mib);
        line("CPU time", None, "s", |s| s.cpu_ms / 1e3);
    }

    fn change(&mut self, change: &Change) {
        self.one("change: etcd's answer to effect, p50", Some(AtMost(2.0)), "ms", change.p50_ms);
        self.one("change: etcd's answer to effect, p99", Some(AtMost(5.0)), "ms", change.p99_ms);
        self.one("change: etcd's answer to effect, longest", None, "ms", change.max_ms);
        self.one("change: request to etcd to effect, p50", None, "ms", change.whole_p50_ms);
        self.one("change: request to etcd to effect, p99", None, "ms", change.whole_p99_ms);
        self.one("change: one request, for comparison, p50", None, "ms", change.request_p50_ms);
        self.one("change: CPU time each", Some(AtMost(1.0)), "ms", change.cpu_ms);
        self.one("idle gateway: CPU time per second", None, "ms", change.idle_cpu_ms);
        let count = change.memory_step * (change.rss_mib.len() as u64).saturating_sub(1);
        let share = 100.0 * change.growth_mib() / change.rss_mib.first().unwrap_or(&f64::NAN);
        self.one(&format!("change: resident growth over {count}"), FLAT, "%", share);
        if let [.., before, last] = change.rss_mib[..] {
            let what = format!("change: resident growth over the last {}", change.memory_step);
            self.one(&what, None, "MiB", last - before);
        }
    }

    fn churn(&mut self, churn: &Churn) {
        let p99 = |besides| churn.p99_spread(besides);
        self.over_rounds("churn: p99 quiet", None, "µs", p99(Besides::Quiet));
        self.over_rounds(
            "churn: p99, etcd as busy with other keys",
            None,
            "µs",
            p99(Besides::Aside),
        );
        self.over_rounds("churn: p99 with 100 changes/s", None, "µs", p99(Besides::Churn));
        let ratio = churn.ratio(Besides::Quiet);
        self.over_rounds("churn: p99 to quiet p99", Some(AtMost(1.1)), "", ratio);
        let ratio = churn.ratio(Besides::Aside);
        self.over_rounds("churn: p99 to p99 with etcd as busy", None, "", ratio);
        self.one("churn: failed requests", Some(AtMost(0.0)), "", churn.failed() as f64);
    }

    fn admin(&mut self, admin: &Admin) {
        let ways = [
            (Way::Embedded, "Admin API into the embedded store", Some(AtLeast(2000.0))),
            (Way::Etcd, "Admin API into etcd", None),
            (Way::BareEtcd, "bare client into etcd", None),
        ];
        for (way, name, bound) in ways {
            self.over_rounds(&format!("{name}: rate"), bound, "writes/s", admin.rate(way));
            type Figure = fn(&Sample) -> f64;
            let latency: [(&str, Figure); 2] = [("p50", |s| s.p50_ms), ("p99", |s| s.p99_ms)];
            for (quantile, figure) in latency {
                let what = format!("{name}: {quantile}");
                self.over_rounds(&what, None, "ms", admin.latency(way, figure));
            }
        }
        let what = "Admin API into etcd: rate to that of the bare client";
        self.over_rounds(what, Some(AtLeast(0.9)), "", admin.ratio());
    }
}

impl Results {
    /// Compares what was measured with the targets.
    pub(super) fn compare(&mut self) {
        let mut table = Table::default();
        if let Some(starts) = &self.etcd_load {
            table.starts("etcd", 2.0, Some(AtMost(150.0)), starts);
        }
        if let Some(starts) = &self.embedded_load {
            table.starts("the embedded store", 1.5, None, starts);
        }
        if let Some(change) = &self.change {
            table.change(change);
        }
        if let Some(churn) = &self.churn {
            table.churn(churn);
        }
        if let Some(admin) = &self.admin {
            table.admin(admin);
        }
        self.targets = table.0;
    }
}

impl Report for Results {
    fn date(&self) -> &str {
        &self.date
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        writeln!(out, "# The configuration plane, {}\n", self.date)?;
        writeln!(out, "{machine}")?;
        writeln!(
            out,
            "- {} routes; {} worker(s), the first on core {}; etcd, load and upstream on {:?}",
            self.routes, self.workers, self.cores.proxy, self.cores.load
        )?;
        writeln!(
            out,
            "- {} rounds, of {} s where time counts; medians, in brackets the range; ratios are \
             taken round by round",
            self.rounds, self.seconds
        )?;
        writeln!(out, "- Command: `{}`", self.command)?;
        for (program, version) in &self.versions {
            writeln!(out, "- {program}: {version}")?;
        }
        for notice in &self.notices {
            writeln!(out, "- Note: {notice}")?;
        }
        writeln!(out, "\n| what | measured | unit | target | |\n|---|--:|---|--:|---|")?;
        for target in &self.targets {
            target.write(out)?;
        }
        self.write_details(out)
    }
}

impl Results {
    fn write_details(&self, out: &mut String) -> std::fmt::Result {
        if let Some(change) = &self.change {
            writeln!(
                out,
                "\n{} changes were waited for one at a time; {:.0} changes/s while CPU time was \
                 counted. Resident, before and after each {} changes: {:.1?} MiB.",
                change.changes, change.cpu_rate, change.memory_step, change.rss_mib
            )?;
        }
        if let Some(churn) = &self.churn {
            let greatest = churn.greatest_rate.map_or_else(String::new, |greatest| {
                format!(", of {greatest:.0} that the same connections could carry")
            });
            writeln!(
                out,
                "\nTraffic under churn: {} requests/s{greatest}, {} connections, 1 KiB bodies.",
                churn.rate, churn.connections
            )?;
        }
        if let Some(admin) = &self.admin {
            writeln!(
                out,
                "\nThe Admin API had {} keep-alive clients; half of the writes made new routes.",
                admin.clients
            )?;
        }
        Ok(())
    }
}

impl Target {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "| {} | {}", self.what, figure(self.measured))?;
        if let Some((min, max)) = self.range {
            write!(out, " ({}–{})", figure(min), figure(max))?;
        }
        let (bound, word) = match self.bound {
            None => (String::new(), ""),
            Some(bound) if bound.met(self.measured) => (bound.to_string(), "met"),
            Some(bound) => (bound.to_string(), "**missed**"),
        };
        writeln!(out, " | {} | {bound} | {word} |", self.unit)
    }
}

/// Three digits or so, which is more than these figures are good for.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 1.0 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::super::gateway::Start;
    use std::fs;

    use super::*;
    use crate::report::Destination;

    fn results() -> Results {
        let start = |first_ms, ready_ms| Start {
            first_ms,
            ready_ms,
            cpu_ms: 700.0,
            rss_mib: 151.0,
            peak_mib: 160.0,
        };
        let starts = vec![start(1000.0, 1900.0), start(1200.0, 1100.0), start(1500.0, 1400.0)];
        Results {
            date: "2026-01-02".into(),
            command: "osmia-bench config".into(),
            machine: Machine::inspect(0),
            cores: Cores { proxy: 0, load: vec![1] },
            routes: 100,
            workers: 1,
            rounds: 3,
            seconds: 1,
            versions: BTreeMap::new(),
            notices: Vec::new(),
            targets: Vec::new(),
            etcd_load: Some(Starts { fill_ms: 1.0, starts }),
            embedded_load: None,
            change: None,
            churn: None,
            admin: None,
        }
    }

    #[test]
    fn a_start_counts_until_the_last_worker_is_ready() {
        let mut results = results();
        results.compare();
        let text = results.markdown();
        let line = "| start from etcd: first request on all workers | 1.50 (1.20–1.90) | s | ≤ 2 | \
                    met |\n";
        assert!(text.contains(line), "{text}");
        let line = "| 151 (151–151) | MiB | ≤ 150 | **missed** |\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn results_are_saved_as_json_and_markdown() {
        let dir = crate::child::scratch().expect("a directory");
        let mut results = results();
        results.compare();
        let path = results
            .save(&Destination::for_tests(dir.path(), "config", false))
            .expect("saved results");
        assert_eq!(path.file_name(), Some("2026-01-02-config.md".as_ref()));
        let json = fs::read_to_string(dir.path().join("2026-01-02-config.json")).expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
        assert_eq!(value["targets"][0]["bound"]["at-most"], 2.0);
    }

    #[test]
    fn figures_are_short() {
        let texts = [0.0, 0.0123, 4.567, -45.67, 1234.5].map(figure);
        assert_eq!(texts, ["0", "0.012", "4.57", "-45.7", "1234"]);
    }
}
