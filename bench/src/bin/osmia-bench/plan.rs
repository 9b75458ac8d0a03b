//! What to measure: the command line, resolved.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::contender::Contender;
use crate::programs;
use crate::report::Destination;

/// One part of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Closed loop: processor time per request, throughput, latency, memory under load.
    Plain,
    /// Open loop at a fixed rate: latency without coordinated omission.
    Rate,
    /// Idle keep-alive connections: memory each.
    Idle,
    /// 1 GiB each way: peak memory.
    Bulk,
}

/// A way to run Osmia.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// Best driver, access log off.
    Plain,
    /// Access log on.
    Log,
    /// epoll.
    Epoll,
    /// With rules to match, nodes to balance over and passive health checks.
    Rules,
}

/// A body size: `1k`, `64k`, `512`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = match text.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1024),
            None => match text.strip_suffix(['m', 'M']) {
                Some(digits) => (digits, 1024 * 1024),
                None => (text, 1),
            },
        };
        let number = digits.parse::<u64>().map_err(|_| format!("{text:?} is no size like 64k"))?;
        number.checked_mul(unit).map(Self).ok_or_else(|| format!("{text} is too much"))
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            n if n > 0 && n % (1024 * 1024) == 0 => write!(f, "{} MiB", n / (1024 * 1024)),
            n if n > 0 && n % 1024 == 0 => write!(f, "{} KiB", n / 1024),
            n => write!(f, "{n} B"),
        }
    }
}

/// Whole seconds: `5` or `5s`.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    match text.strip_suffix('s').unwrap_or(text).parse() {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(format!("{text:?} is no number of seconds like 5s")),
    }
}

/// Options of `osmia-bench run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Plan {
    /// Parts to run.
    #[arg(long, value_delimiter = ',', default_values = ["plain", "rate", "idle", "bulk"])]
    pub(crate) only: Vec<Part>,
    /// Programs to compare with; by default all that are found.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Option<Vec<Contender>>,
    /// Ways to run Osmia.
    #[arg(long, value_delimiter = ',', default_values = ["plain", "log", "epoll", "rules"])]
    pub(crate) rows: Vec<Row>,
    /// Rounds; in each round every contender has its turn, in a rotated order.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Length of one measurement.
    #[arg(long, value_parser = seconds, default_value = "4s")]
    pub(crate) duration: u64,
    /// Load before each measurement that is not counted.
    #[arg(long, value_parser = seconds, default_value = "1s")]
    pub(crate) warm_up: u64,
    /// Numbers of client connections under load.
    #[arg(long, value_delimiter = ',', default_values = ["16", "64", "256"])]
    pub(crate) conns: Vec<usize>,
    /// Response body sizes.
    #[arg(long, value_delimiter = ',', default_values = ["1k", "64k"])]
    pub(crate) body: Vec<Size>,
    /// Numbers of idle connections.
    #[arg(long, value_delimiter = ',', default_values = ["1000", "10000"])]
    pub(crate) idle: Vec<usize>,
    /// Requests per second of the fixed-rate part; by default half of what the slowest peer
    /// reaches.
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// Size of the bulk transfers.
    #[arg(long, default_value = "1024m")]
    pub(crate) bulk: Size,
    /// A quick look: 1 KiB, 64 connections, 1,000 idle connections, two short rounds.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Another Osmia binary to compare with, as `osmia-base`.
    #[arg(long)]
    pub(crate) baseline: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What every comparison can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The Osmia binary; by default the one beside this program.
    #[arg(long)]
    pub(crate) osmia: Option<PathBuf>,
    /// The core that proxies, or the first worker, are pinned to; by default the first.
    #[arg(long)]
    pub(crate) proxy_core: Option<usize>,
    /// Where the results go; by default `perf/results`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Keep the results under this name, although the run is not complete.
    #[arg(long)]
    label: Option<String>,
}

impl Common {
    /// Where the results are kept; `complete` is the label that a complete run has of itself.
    /// `None`: a partial run nobody gave a name.
    pub(crate) fn destination(&self, complete: Option<&str>) -> Option<Destination> {
        let label = self.label.clone().or_else(|| complete.map(ToOwned::to_owned))?;
        let directory = self.out.clone().unwrap_or_else(programs::results_directory);
        Some(Destination { directory, label, latest: false })
    }
}

const PARTS: [Part; 4] = [Part::Plain, Part::Rate, Part::Idle, Part::Bulk];

impl Plan {
    /// Applies `--quick`.
    pub(crate) fn settle(mut self) -> Self {
        if self.quick {
            self.rounds = self.rounds.min(2);
            self.duration = self.duration.min(2);
            self.conns = vec![64];
            self.body = vec![Size(1024)];
            self.idle = vec![1000];
        }
        self
    }

    /// Where the results are kept; complete ones are the latest.
    pub(crate) fn destination(&self) -> Option<Destination> {
        let complete = !self.quick && PARTS.iter().all(|part| self.only.contains(part));
        let destination = self.common.destination(complete.then_some("full"))?;
        Some(Destination { latest: complete, ..destination })
    }

    /// All contenders that were asked for, whether they are there or not.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        let mut all = Vec::new();
        for row in &self.rows {
            all.push(match row {
                Row::Plain => Contender::Osmia,
                Row::Log => Contender::OsmiaLog,
                Row::Epoll => Contender::OsmiaEpoll,
                Row::Rules => Contender::OsmiaRules,
            });
        }
        if self.baseline.is_some() {
            all.push(Contender::OsmiaBase);
        }
        let others = Contender::value_variants().iter().copied().filter(|c| !c.is_osmia());
        match &self.peers {
            Some(peers) => all.extend(peers),
            None => all.extend(others),
        }
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!("64k".parse(), Ok(Size(65536)));
        assert_eq!("2M".parse(), Ok(Size(2 << 20)));
        assert_eq!("12".parse(), Ok(Size(12)));
        assert!("k".parse::<Size>().is_err() && "1x".parse::<Size>().is_err());
        assert_eq!(Size(65536).to_string(), "64 KiB");
        assert_eq!(Size(100).to_string(), "100 B");
    }

    #[test]
    fn durations_are_whole_seconds() {
        assert_eq!(seconds("5s"), Ok(5));
        assert_eq!(seconds("7"), Ok(7));
        assert!(seconds("0").is_err() && seconds("1.5s").is_err());
    }
}
