//! What Osmia has to reach, checked against what was measured.

use serde::Serialize;

use crate::contender::Contender;
use crate::plain::Cell;
use crate::report::Results;
use crate::stats::Spread;

/// One budget and how it went.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    /// What was measured, with its unit.
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) limit: f64,
    pub(crate) met: bool,
}

/// A limit on the quotient of two contenders' processor time per request.
struct RatioBudget {
    body: u64,
    above: Contender,
    below: Contender,
    limit: f64,
}

const fn ratio(body: u64, above: Contender, below: Contender, limit: f64) -> RatioBudget {
    RatioBudget { body, above, below, limit }
}

const CONNECTIONS: usize = 64;
const RATIOS: [RatioBudget; 7] = [
    ratio(1024, Contender::Osmia, Contender::Nginx, 0.85),
    ratio(1024, Contender::Osmia, Contender::Haproxy, 0.75),
    ratio(1024, Contender::Osmia, Contender::Relay, 1.12),
    ratio(1024, Contender::OsmiaLog, Contender::Osmia, 1.08),
    ratio(1024, Contender::OsmiaEpoll, Contender::Osmia, 1.25),
    ratio(1024, Contender::OsmiaRules, Contender::Osmia, 1.03),
    ratio(65536, Contender::Osmia, Contender::Haproxy, 1.05),
];
const BULK_GROWTH_MIB: f64 = 4.0;
const IDLE_CONNECTIONS: usize = 10_000;
const IDLE_KIB_EACH: f64 = 1.0;
const IDLE_PROCESS_MIB: f64 = 20.0;

/// Every budget that the results can speak about.
pub(crate) fn check(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for budget in &RATIOS {
        let cell =
            results.plain.iter().find(|c| c.body.0 == budget.body && c.connections == CONNECTIONS);
        if let Some(spread) = cell.and_then(|c| cpu_ratio(c, budget.above, budget.below)) {
            let (above, below) = (budget.above.name(), budget.below.name());
            let size = budget.body / 1024;
            verdicts.push(at_most(
                format!(
                    "CPU per request, {size} KiB, {CONNECTIONS} connections: {above} / {below}"
                ),
                spread.median,
                budget.limit,
            ));
        }
    }
    verdicts.extend(fixed_rate(results));
    verdicts.extend(memory(results));
    verdicts
}

/// Processor time of `above` per request in units of `below`'s, round by round.
pub(crate) fn cpu_ratio(cell: &Cell, above: Contender, below: Contender) -> Option<Spread> {
    let values = |contender| Some(cell.row(contender)?.values(|sample| sample.cpu_us));
    Spread::of_ratios(&values(above)?, &values(below)?)
}

/// Osmia's p99 has to be lower than every peer's.
fn fixed_rate(results: &Results) -> Option<Verdict> {
    let rows = &results.rate.as_ref()?.rows;
    let p99 = |row: &crate::rate::Row| row.spread(|sample| sample.p99_us).map(|s| s.median);
    let osmia = rows.iter().find(|row| row.contender == Contender::Osmia).and_then(p99)?;
    let peers = rows.iter().filter(|row| row.contender.is_peer()).filter_map(p99);
    let best = Spread::of(peers)?.min;
    Some(at_most("p99 at the fixed rate, µs: no peer's is lower".into(), osmia, best))
}

fn memory(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for row in results.idle.iter().filter(|row| row.contender == Contender::Osmia) {
        if row.connections == IDLE_CONNECTIONS {
            let what = format!("KiB per idle connection, {IDLE_CONNECTIONS} of them");
            verdicts.push(at_most(what, row.bytes_each / 1024.0, IDLE_KIB_EACH));
        }
        let what = format!("MiB resident, no connections (before {} idle)", row.connections);
        verdicts.push(at_most(what, row.before.rss as f64 / 1024.0, IDLE_PROCESS_MIB));
    }
    for row in results.bulk.iter().filter(|row| row.contender == Contender::Osmia) {
        for (way, transfer) in [("download", &row.download), ("upload", &row.upload)] {
            let what = format!("MiB of growth, {} MiB {way}", row.bytes >> 20);
            verdicts.push(at_most(what, transfer.growth_kib as f64 / 1024.0, BULK_GROWTH_MIB));
        }
    }
    verdicts
}

fn at_most(what: String, value: f64, limit: f64) -> Verdict {
    Verdict { what, value, limit, met: value <= limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::{Row, Sample};
    use crate::plan::Size;
    use crate::proc::Memory;

    fn row(contender: Contender, cpu: [f64; 2]) -> Row {
        let samples = cpu
            .map(|cpu_us| Sample {
                cpu_us,
                rate: 0.0,
                p50_us: 0.0,
                p99_us: 0.0,
                p999_us: 0.0,
                errors: 0,
                connects: 0,
                proxy_share: 0.0,
                foreign_share: 0.0,
                memory: Memory::default(),
            })
            .to_vec();
        Row { contender, samples }
    }

    #[test]
    fn ratios_are_held_against_their_limits() {
        let rows = vec![
            row(Contender::Osmia, [8.0, 16.0]),
            row(Contender::Nginx, [10.0, 20.0]),
            row(Contender::Haproxy, [10.0, 20.0]),
        ];
        let mut results = Results::for_tests();
        results.plain = vec![Cell { body: Size(1024), connections: 64, rows }];
        let verdicts = check(&results);
        assert_eq!(verdicts.len(), 2);
        assert!(verdicts[0].what.ends_with("osmia / nginx") && verdicts[0].met);
        assert!(verdicts[1].what.ends_with("osmia / haproxy") && !verdicts[1].met);
        results.plain[0].connections = 16;
        assert!(check(&results).is_empty());
    }
}
