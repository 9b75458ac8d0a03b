//! The results: JSON for later comparison, Markdown for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::budget::{self, Verdict};
use crate::contender::Contender;
use crate::machine::{Cores, Machine};
use crate::plain::{Cell, Row};
use crate::rate::FixedRate;
use crate::stats::Spread;
use crate::{bulk, idle};

/// Everything one run found out.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    /// Day of the run, UTC, `YYYY-MM-DD`.
    pub(crate) date: String,
    /// How the harness was called.
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) cores: Cores,
    pub(crate) rounds: usize,
    /// Length of one measurement.
    pub(crate) seconds: u64,
    pub(crate) versions: BTreeMap<&'static str, String>,
    pub(crate) notices: Vec<String>,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) plain: Vec<Cell>,
    pub(crate) rate: Option<FixedRate>,
    pub(crate) idle: Vec<idle::Row>,
    pub(crate) bulk: Vec<bulk::Row>,
}

/// Where results are kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) directory: PathBuf,
    pub(crate) label: String,
    /// The Markdown is `latest.md`.
    pub(crate) latest: bool,
}

#[cfg(test)]
impl Destination {
    pub(crate) fn for_tests(directory: &std::path::Path, label: &str, latest: bool) -> Self {
        Self { directory: directory.to_owned(), label: label.to_owned(), latest }
    }
}

/// Results that people read and programs compare.
pub(crate) trait Report: Serialize + Sized {
    /// Day of the run, UTC, `YYYY-MM-DD`.
    fn date(&self) -> &str;

    /// Writes the Markdown report.
    fn write(&self, out: &mut String) -> std::fmt::Result;

    /// The Markdown report.
    fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut out);
        out
    }

    /// Writes `<date>-<label>.json` and `.md`; the path of the latter.
    fn save(&self, to: &Destination) -> Result<PathBuf> {
        let save = |name: &str, text: &str| -> Result<PathBuf> {
            let path = to.directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        fs::create_dir_all(&to.directory)
            .with_context(|| format!("cannot create {}", to.directory.display()))?;
        let stem = format!("{}-{}", self.date(), to.label);
        save(&format!("{stem}.json"), &(serde_json::to_string_pretty(self)? + "\n"))?;
        let report = if to.latest { "latest.md".to_owned() } else { format!("{stem}.md") };
        save(&report, &self.markdown())
    }

    /// Prints the report, and keeps it if there is a place for it.
    fn present(&self, to: Option<&Destination>) -> Result<()> {
        println!("\n{}", self.markdown());
        match to {
            Some(to) => println!("saved as {}", self.save(to)?.display()),
            None => {
                println!("not saved, since it is not a complete run: give it a --label to keep it");
            }
        }
        Ok(())
    }
}

/// How the harness was called.
pub(crate) fn command_line() -> String {
    std::env::args().skip(1).fold("osmia-bench".into(), |line, arg| line + " " + &arg)
}

/// Columns of the ratio table.
const DIVISORS: [Contender; 6] = [
    Contender::Nginx,
    Contender::Haproxy,
    Contender::Envoy,
    Contender::Pingora,
    Contender::Relay,
    Contender::OsmiaBase,
];

impl Report for Results {
    fn date(&self) -> &str {
        &self.date
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# Osmia and its peers, {}\n", self.date)?;
        self.write_head(out)?;
        self.write_verdicts(out)?;
        for cell in &self.plain {
            write_cell(out, cell)?;
        }
        if let Some(rate) = &self.rate {
            write_rate(out, rate)?;
        }
        self.write_idle(out)?;
        self.write_bulk(out)
    }
}

impl Results {
    fn write_head(&self, out: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        writeln!(out, "{machine}")?;
        writeln!(
            out,
            "- Proxy on core {}, wrk and upstream on {:?}; one worker each, keep-alive on both \
             sides",
            self.cores.proxy, self.cores.load
        )?;
        writeln!(
            out,
            "- {} rounds of {} s in rotated order; medians, in brackets the range; ratios are \
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
        Ok(())
    }

    fn write_verdicts(&self, out: &mut String) -> std::fmt::Result {
        if self.verdicts.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## Budgets\n\n| what | measured | at most | |\n|---|--:|--:|---|")?;
        for Verdict { what, value, limit, met } in &self.verdicts {
            let word = if *met { "met" } else { "**missed**" };
            writeln!(out, "| {what} | {value:.2} | {limit:.2} | {word} |")?;
        }
        Ok(())
    }

    fn write_idle(&self, out: &mut String) -> std::fmt::Result {
        if self.idle.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n## Idle keep-alive connections, after one request each\n\n\
             | program | connections | KiB each | MiB resident before | private anonymous | with |\n\
             |---|--:|--:|--:|--:|--:|"
        )?;
        for row in &self.idle {
            writeln!(
                out,
                "| {} | {} | {:.2} | {:.1} | {:.1} | {:.1} |",
                row.contender.name(),
                row.connections,
                row.bytes_each / 1024.0,
                mib(row.before.rss),
                mib(row.before.anon),
                mib(row.with.rss)
            )?;
        }
        Ok(())
    }

    fn write_bulk(&self, out: &mut String) -> std::fmt::Result {
        let Some(first) = self.bulk.first() else {
            return Ok(());
        };
        writeln!(
            out,
            "\n## One body of {} MiB each way (the download's reader pauses once)\n\n\
             | program | download: growth, MiB | MiB/s | CPU, ms | upload: growth, MiB | MiB/s | \
             CPU, ms |\n|---|--:|--:|--:|--:|--:|--:|",
            first.bytes >> 20
        )?;
        for row in &self.bulk {
            write!(out, "| {} |", row.contender.name())?;
            for way in [&row.download, &row.upload] {
                let growth = mib(way.growth_kib);
                write!(out, " {growth:.2} | {:.0} | {:.0} |", way.mib_per_second, way.cpu_ms)?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Nothing measured yet.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            date: "2026-01-02".into(),
            command: "osmia-bench run".into(),
            machine: Machine::inspect(0),
            cores: Cores { proxy: 0, load: vec![1] },
            rounds: 1,
            seconds: 1,
            versions: BTreeMap::new(),
            notices: Vec::new(),
            verdicts: Vec::new(),
            plain: Vec::new(),
            rate: None,
            idle: Vec::new(),
            bulk: Vec::new(),
        }
    }
}

fn write_cell(out: &mut String, cell: &Cell) -> std::fmt::Result {
    writeln!(
        out,
        "\n## {} bodies, {} connections, closed loop\n\n\
         | program | CPU, µs/request | requests/s | p50, µs | p99, µs | p99.9, µs | RSS, MiB | \
         private anonymous, MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|",
        cell.body, cell.connections
    )?;
    for row in &cell.rows {
        let median = |figure: fn(&crate::plain::Sample) -> f64| {
            Spread::of(row.values(figure)).map_or(f64::NAN, |spread| spread.median)
        };
        writeln!(
            out,
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} |",
            row.contender.name(),
            spread(row),
            median(|s| s.rate),
            median(|s| s.p50_us),
            median(|s| s.p99_us),
            median(|s| s.p999_us),
            median(|s| mib(s.memory.rss)),
            median(|s| mib(s.memory.anon))
        )?;
    }
    write_ratios(out, cell)
}

fn write_ratios(out: &mut String, cell: &Cell) -> std::fmt::Result {
    let divisors: Vec<Contender> =
        DIVISORS.into_iter().filter(|&divisor| cell.row(divisor).is_some()).collect();
    let osmia = cell.rows.iter().filter(|row| row.contender.is_osmia());
    let rows: Vec<&Row> = osmia.collect();
    if rows.is_empty() || divisors.is_empty() {
        return Ok(());
    }
    write!(out, "\n| CPU per request, ratio to |")?;
    for divisor in &divisors {
        write!(out, " {} |", divisor.name())?;
    }
    writeln!(out, "\n|---|{}", "--:|".repeat(divisors.len()))?;
    for row in rows {
        write!(out, "| {} |", row.contender.name())?;
        for &divisor in &divisors {
            match budget::cpu_ratio(cell, row.contender, divisor) {
                Some(Spread { median, min, max }) => {
                    write!(out, " {median:.2} ({min:.2}–{max:.2}) |")?;
                }
                None => write!(out, " |")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn spread(row: &Row) -> String {
    Spread::of(row.values(|sample| sample.cpu_us)).map_or_else(String::new, |spread| {
        format!("{:.2} ({:.2}–{:.2})", spread.median, spread.min, spread.max)
    })
}

fn write_rate(out: &mut String, rate: &FixedRate) -> std::fmt::Result {
    writeln!(
        out,
        "\n## {} requests/s, {} bodies, {} connections, open loop (latency from the intended \
         time)\n\n| program | p50, µs | p99, µs | p99.9, µs | max, µs | CPU, µs/request | failed \
         |\n|---|--:|--:|--:|--:|--:|--:|",
        rate.rate, rate.body, rate.connections
    )?;
    for row in &rate.rows {
        let median = |figure: fn(&crate::rate::Sample) -> f64| {
            row.spread(figure).map_or(f64::NAN, |spread| spread.median)
        };
        writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {} |",
            row.contender.name(),
            median(|s| s.p50_us),
            median(|s| s.p99_us),
            median(|s| s.p999_us),
            median(|s| s.max_us),
            median(|s| s.cpu_us),
            row.samples.iter().map(|s| s.failed).sum::<u64>()
        )?;
    }
    Ok(())
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Today, UTC, as `YYYY-MM-DD`.
pub(crate) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The Gregorian date `days` after 1970-01-01.
fn date(mut days: u64) -> String {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        let cases = [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (19_782, "2024-02-29"),
            (19_783, "2024-03-01"),
            (20_453, "2025-12-31"),
        ];
        for (days, expected) in cases {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn results_are_saved_as_json_and_markdown() {
        let dir = crate::child::scratch().expect("a directory");
        let mut results = Results::for_tests();
        results.notices.push("envoy is left out".into());
        let path =
            results.save(&Destination::for_tests(dir.path(), "full", true)).expect("saved results");
        assert_eq!(path.file_name(), Some("latest.md".as_ref()));
        let text = fs::read_to_string(path).expect("a report");
        assert!(text.contains("- Note: envoy is left out\n"));
        let json = fs::read_to_string(dir.path().join("2026-01-02-full.json")).expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
        assert_eq!(value["cores"]["load"][0], 1);
    }
}
