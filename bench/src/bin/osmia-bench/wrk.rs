//! Closed-loop load from wrk: as many requests as the connections can carry.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::child::Running;

/// One run's parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) wrk: &'a Path,
    pub(crate) cores: &'a [usize],
    pub(crate) addr: SocketAddr,
    /// With TLS: the settings that OpenSSL reads.
    pub(crate) tls: Option<&'a Path>,
    pub(crate) body: u64,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
}

/// What wrk counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) duration_us: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    /// Failed connects, reads and writes, time-outs, and answers that are not 2xx or 3xx.
    pub(crate) errors: u64,
}

impl Load<'_> {
    /// Runs wrk to its end.
    pub(crate) fn run(&self) -> Result<Outcome> {
        let dir = crate::child::scratch()?;
        let script = dir.path().join("report.lua");
        std::fs::write(&script, include_str!("../../../peers/report.lua"))?;
        let running = self.start(&script, &dir.path().join("output.txt"));
        let mut running = running?;
        let limit = Duration::from_secs(self.seconds + 30);
        let status = running.wait(limit).context("wrk does not end")?;
        let printed = running.printed();
        ensure!(status.success(), "wrk failed ({status}): {printed}");
        parse(&printed).with_context(|| format!("wrk printed no figures: {printed}"))
    }

    fn start(&self, script: &Path, output: &Path) -> Result<Running> {
        // One core is the upstream's when there are several.
        let threads = self.cores.len().saturating_sub(1).clamp(1, self.connections);
        let mut command = Command::new(self.wrk);
        command.args(["-t", &threads.to_string(), "-c", &self.connections.to_string()]);
        command.args(["-d", &format!("{}s", self.seconds), "--timeout", "10s", "-s"]);
        command.arg(script);
        match self.tls {
            None => command.arg(format!("http://{}/bytes/{}", self.addr, self.body)),
            // A name, since clients of TLS name no addresses.
            Some(settings) => command.env("OPENSSL_CONF", settings).arg(format!(
                "https://localhost:{}/bytes/{}",
                self.addr.port(),
                self.body
            )),
        };
        Running::start(command, self.cores, output)
    }
}

fn parse(printed: &str) -> Option<Outcome> {
    let line = printed.lines().find_map(|line| line.strip_prefix("osmia-bench "))?;
    let value = |name: &str| {
        let (_, value) = line
            .split(' ')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)?;
        value.parse::<u64>().ok()
    };
    let errors = ["connect_errors", "read_errors", "write_errors", "status_errors", "timeouts"];
    Some(Outcome {
        requests: value("requests")?,
        duration_us: value("duration_us")?,
        p50_us: value("p50_us")?,
        p99_us: value("p99_us")?,
        p999_us: value("p999_us")?,
        errors: errors.iter().filter_map(|name| value(name)).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_line_is_read() {
        let printed = "Running 1s test\nosmia-bench requests=100 duration_us=1000000 p50_us=5 \
                       p99_us=7 p999_us=9 max_us=11 connect_errors=1 read_errors=2 write_errors=3 \
                       status_errors=4 timeouts=5\n";
        let outcome = Outcome {
            requests: 100,
            duration_us: 1_000_000,
            p50_us: 5,
            p99_us: 7,
            p999_us: 9,
            errors: 15,
        };
        assert_eq!(parse(printed), Some(outcome));
        assert_eq!(parse("Running 1s test\n"), None);
    }
}
