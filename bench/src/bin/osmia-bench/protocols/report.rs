//! The report of the protocols: ratios with their budgets, and what was measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::measure::Sample;
use super::{Cell, Row, Scenario};
use crate::contender::Contender;
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
    pub(super) rounds: usize,
    /// Length of one measurement.
    pub(super) seconds: u64,
    pub(super) versions: BTreeMap<&'static str, String>,
    pub(super) notices: Vec<String>,
    pub(super) ratios: Vec<Ratio>,
    pub(super) cells: Vec<Cell>,
}

/// Osmia against another contender.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Ratio {
    scenario: Scenario,
    to: Contender,
    /// Of processor time per request; with handshakes, of handshakes per processor time.
    measured: Spread,
    /// At most, with handshakes at least. `None`: for information.
    budget: Option<f64>,
    met: Option<bool>,
}

/// Scenario, contender to compare with, and the budget of the ratio.
const BUDGETS: [(Scenario, Contender, f64); 15] = [
    (Scenario::Plain, Contender::Nginx, 0.85),
    (Scenario::Plain, Contender::Haproxy, 0.75),
    (Scenario::Plain, Contender::OsmiaBase, 1.0),
    (Scenario::Tls1k, Contender::Nginx, 0.9),
    (Scenario::Tls1k, Contender::Haproxy, 0.9),
    (Scenario::Tls64k, Contender::Nginx, 1.0),
    (Scenario::Tls1m, Contender::Nginx, 1.0),
    (Scenario::Handshake, Contender::Nginx, 1.0),
    (Scenario::Resume, Contender::Nginx, 1.0),
    (Scenario::H2Tls, Contender::Nginx, 0.8),
    (Scenario::H2Tls, Contender::Envoy, 0.5),
    (Scenario::H2c, Contender::Nginx, 0.8),
    (Scenario::H2c, Contender::Envoy, 0.5),
    (Scenario::Grpc, Contender::Nginx, 1.0),
    (Scenario::Grpc, Contender::Envoy, 0.6),
];

/// Osmia against everybody who was measured with it.
pub(super) fn ratios(cells: &[Cell]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for cell in cells {
        let Some(osmia) = cell.rows.iter().find(|row| row.contender == Contender::Osmia) else {
            continue;
        };
        let others = cell.rows.iter().filter(|row| row.contender != Contender::Osmia);
        ratios.extend(others.filter_map(|other| ratio(cell.scenario, osmia, other)));
    }
    ratios
}

fn ratio(scenario: Scenario, osmia: &Row, other: &Row) -> Option<Ratio> {
    let to = other.contender;
    let rates = scenario.shakes_hands();
    // Rounds in which both were measured: a turn may have failed.
    let pairs = osmia.samples.iter().filter_map(|ours| {
        let theirs = other.samples.iter().find(|sample| sample.round == ours.round)?;
        let (ours, theirs) = (ours.cpu_us, theirs.cpu_us);
        let (above, below) = if rates { (theirs, ours) } else { (ours, theirs) };
        (below > 0.0).then(|| above / below)
    });
    let ratio = Spread::of(pairs)?;
    let budget = BUDGETS.iter().find(|(s, c, _)| (*s, *c) == (scenario, to)).map(|(_, _, b)| *b);
    let median = ratio.median;
    let met = budget.map(|budget| if rates { median >= budget } else { median <= budget });
    Some(Ratio { scenario, to, measured: ratio, budget, met })
}

impl Report for Results {
    fn date(&self) -> &str {
        &self.date
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { machine, cores, .. } = self;
        writeln!(out, "# TLS, HTTP/2 and gRPC: Osmia and its peers, {}\n", self.date)?;
        writeln!(out, "{machine}")?;
        writeln!(
            out,
            "- Proxy on core {}, load and upstreams on {:?}; one worker each, one certificate \
             (ECDSA, P-256)",
            cores.proxy, cores.load
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
        self.write_ratios(out)?;
        for cell in &self.cells {
            write_cell(out, cell)?;
        }
        Ok(())
    }
}

impl Results {
    fn write_ratios(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n## Osmia's processor time per request in units of the other's; with handshakes, \
             Osmia's handshakes per processor time\n\n| what | to | measured | budget | |\n\
             |---|---|--:|--:|---|"
        )?;
        for Ratio { scenario, to, measured: Spread { median, min, max }, budget, met } in
            &self.ratios
        {
            let sign = if scenario.shakes_hands() { '≥' } else { '≤' };
            let budget = budget.map_or_else(String::new, |budget| format!("{sign} {budget:.2}"));
            let word = match met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "",
            };
            let (title, to) = (scenario.title(), to.name());
            writeln!(
                out,
                "| {title} | {to} | {median:.2} ({min:.2}–{max:.2}) | {budget} | {word} |"
            )?;
        }
        Ok(())
    }
}

fn write_cell(out: &mut String, cell: &Cell) -> std::fmt::Result {
    let unit = if cell.scenario.shakes_hands() { "handshake" } else { "request" };
    writeln!(
        out,
        "\n## {}\n\n| program | CPU, µs/{unit} | {unit}s per CPU-second | {unit}s/s | \
         its core used | RSS, MiB | errors | negotiated |\n|---|--:|--:|--:|--:|--:|--:|---|",
        cell.scenario.title()
    )?;
    for row in &cell.rows {
        let spread = |figure: fn(&Sample) -> f64| Spread::of(row.samples.iter().map(figure));
        let median = |figure| spread(figure).map_or(f64::NAN, |spread| spread.median);
        let cpu = spread(|s| s.cpu_us).map_or_else(String::new, |Spread { median, min, max }| {
            format!("{median:.2} ({min:.2}–{max:.2})")
        });
        writeln!(
            out,
            "| {} | {cpu} | {:.0} | {:.0} | {:.0} % | {:.1} | {} | {} |",
            row.contender.name(),
            median(|s| 1e6 / s.cpu_us),
            median(|s| s.rate),
            median(|s| s.proxy_share * 100.0),
            median(|s| s.rss_kib as f64 / 1024.0),
            row.samples.iter().map(|s| s.errors).sum::<u64>(),
            row.negotiated.join("; ")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::Destination;

    fn cell(scenario: Scenario, osmia: f64, nginx: f64) -> Cell {
        let row = |contender, cpu_us| {
            let sample = Sample {
                round: 0,
                cpu_us,
                rate: 1.0,
                errors: 0,
                connects: 0,
                proxy_share: 1.0,
                foreign_share: 0.0,
                rss_kib: 1024,
            };
            Row { contender, samples: vec![sample], negotiated: vec!["TLSv1.3".into()] }
        };
        Cell { scenario, rows: vec![row(Contender::Osmia, osmia), row(Contender::Nginx, nginx)] }
    }

    #[test]
    fn requests_are_compared_by_cost_and_handshakes_by_rate() {
        let cells = [cell(Scenario::Tls1k, 8.0, 10.0), cell(Scenario::Handshake, 80.0, 100.0)];
        let ratios = ratios(&cells);
        let median = |at: usize| ratios[at].measured.median;
        assert!((median(0) - 0.8).abs() < 1e-9 && ratios[0].met == Some(true));
        assert!((median(1) - 1.25).abs() < 1e-9 && ratios[1].met == Some(true));
        let slower = [cell(Scenario::Tls1k, 10.0, 10.0), cell(Scenario::Handshake, 101.0, 100.0)];
        assert!(super::ratios(&slower).iter().all(|ratio| ratio.met == Some(false)));
    }

    #[test]
    fn rounds_that_only_one_survived_are_left_out() {
        let mut cell = cell(Scenario::Tls1k, 8.0, 10.0);
        let late = Sample { round: 1, cpu_us: 30.0, ..cell.rows[0].samples[0] };
        cell.rows[0].samples.push(late);
        let later = Sample { round: 2, cpu_us: 1.0, ..late };
        cell.rows[1].samples.push(later);
        let measured = ratios(&[cell])[0].measured;
        assert!((measured.max - 0.8).abs() < 1e-9 && (measured.min - 0.8).abs() < 1e-9);
    }

    #[test]
    fn results_are_saved_as_json_and_markdown() {
        let dir = crate::child::scratch().expect("a directory");
        let cells = vec![cell(Scenario::Resume, 1.0, 2.0)];
        let results = Results {
            date: "2026-01-02".into(),
            command: "osmia-bench protocols".into(),
            machine: Machine::inspect(0),
            cores: Cores { proxy: 0, load: vec![1] },
            rounds: 1,
            seconds: 1,
            versions: BTreeMap::new(),
            notices: vec!["envoy is left out".into()],
            ratios: ratios(&cells),
            cells,
        };
        let path = results
            .save(&Destination::for_tests(dir.path(), "protocols", false))
            .expect("saved results");
        let text = fs::read_to_string(&path).expect("a report");
        assert!(text.contains("- Note: envoy is left out\n"));
        assert!(text.contains("| nginx | 2.00 (2.00–2.00) | ≥ 1.00 | met |"), "{text}");
        let json = fs::read_to_string(path.with_extension("json")).expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
        assert_eq!(value["cells"][0]["scenario"], "resume");
    }
}
