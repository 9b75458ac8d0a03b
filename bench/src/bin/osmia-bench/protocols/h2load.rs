//! Closed-loop load over HTTP/2 from nghttp2's h2load.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::measure::Counted;
use crate::child::Running;

/// Client connections, and streams open on each.
const CONNECTIONS: usize = 32;
const STREAMS: usize = 10;

/// One run's parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load<'a> {
    pub(super) h2load: &'a Path,
    pub(super) cores: &'a [usize],
    pub(super) addr: SocketAddr,
    pub(super) tls: bool,
    pub(super) ask: Ask<'a>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask<'a> {
    /// `GET /bytes/1024`.
    Bytes,
    /// A unary call; its frame is in the file, and the answer has so many bytes.
    Call(&'a Path, u64),
}

/// The size of the body in [`Ask::Bytes`].
pub(super) const BODY_BYTES: u64 = 1024;

/// What a run gave.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) counted: Counted,
    /// Version, suite, key exchange and protocol as h2load saw them; empty without TLS.
    pub(super) negotiated: String,
}

impl Load<'_> {
    /// Runs h2load for so many seconds.
    pub(super) fn run(&self, seconds: u64) -> Result<Outcome> {
        let dir = crate::child::scratch()?;
        let mut running =
            Running::start(self.command(seconds), self.cores, &dir.path().join("out"))?;
        let status =
            running.wait(Duration::from_secs(seconds + 15)).context("h2load does not end")?;
        let printed = running.printed();
        ensure!(status.success(), "h2load failed ({status}): {printed}");
        let body = match self.ask {
            Ask::Bytes => BODY_BYTES,
            Ask::Call(_, answer) => answer,
        };
        parse(&printed, body).with_context(|| format!("h2load printed no figures: {printed}"))
    }

    fn command(&self, seconds: u64) -> Command {
        let mut command = Command::new(self.h2load);
        command.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-m", &STREAMS.to_string()]);
        command.args(["-D", &format!("{seconds}s"), "--connect-to", &self.addr.to_string()]);
        command.args(["--tls13-ciphers", "TLS_AES_128_GCM_SHA256", "--groups", "X25519"]);
        let scheme = if self.tls { "https" } else { "http" };
        let path = match self.ask {
            Ask::Bytes => format!("/bytes/{BODY_BYTES}"),
            Ask::Call(message, _) => {
                command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]);
                command.arg(message);
                super::CALL_PATH.to_owned()
            }
        };
        command.arg(format!("{scheme}://localhost:{}{path}", self.addr.port()));
        command
    }
}

/// Reads the summary. Bodies that are not there count as errors: an upstream's failure is a 200 for
/// gRPC.
fn parse(printed: &str, body: u64) -> Option<Outcome> {
    let line = |name: &str| printed.lines().find_map(|line| line.trim().strip_prefix(name));
    let requests = line("requests: ")?;
    let done = before(requests, "done")?;
    // Not the number of 2xx, which counts heads: of the last ones the body was not waited for.
    let good = before(requests, "succeeded")?;
    let failed = before(requests, "failed")?.max(before(requests, "errored")?);
    let data = line("traffic: ")?.rsplit_once('(')?.1.strip_suffix(") data")?;
    let missing = (good * body).saturating_sub(data.parse().ok()?) / body;
    let errors =
        failed + before(requests, "timeout")? + missing + done.saturating_sub(good + failed);
    let said = ["TLS Protocol: ", "Cipher: ", "Server Temp Key: ", "Application protocol: "];
    let negotiated: Vec<&str> = said.iter().filter_map(|name| line(name)).collect();
    // Without TLS there is one line, which says that it is h2c.
    let negotiated = if negotiated.len() > 1 { negotiated.join(", ") } else { String::new() };
    Some(Outcome { counted: Counted { units: good, errors }, negotiated })
}

/// The number before `name` in a list like `5 total, 4 started`.
fn before(list: &str, name: &str) -> Option<u64> {
    list.split(", ")
        .find_map(|part| part.strip_suffix(name)?.strip_suffix(' '))
        .and_then(|number| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "starting benchmark...\nTLS Protocol: TLSv1.3\n\
        Cipher: TLS_AES_128_GCM_SHA256\nServer Temp Key: X25519 253 bits\n\
        Application protocol: h2\n\
        finished in 1.00s, 100.00 req/s, 104.98KB/s\n\
        requests: 107 total, 110 started, 107 done, 100 succeeded, 7 failed, 4 errored, 1 timeout\n\
        status codes: 100 2xx, 0 3xx, 0 4xx, 3 5xx\n\
        traffic: 104.98KB (107500) total, 4.39KB (4500) headers (space savings 95.00%), \
        100.00KB (102400) data\n";

    #[test]
    fn the_summary_is_read() {
        let outcome = parse(PRINTED, 1024).expect("figures");
        assert_eq!(outcome.counted, Counted { units: 100, errors: 8 });
        let negotiated = "TLSv1.3, TLS_AES_128_GCM_SHA256, X25519 253 bits, h2";
        assert_eq!(outcome.negotiated, negotiated);
        assert_eq!(parse("starting benchmark...\n", 1024), None);
    }

    #[test]
    fn bodies_that_are_missing_are_errors() {
        let printed = PRINTED.replace("(102400) data", "(51200) data");
        assert_eq!(parse(&printed, 1024).expect("figures").counted.errors, 8 + 50);
    }

    #[test]
    fn what_neither_succeeded_nor_failed_is_an_error() {
        let printed = PRINTED.replace("100 succeeded", "90 succeeded");
        let counted = parse(&printed, 1024).expect("figures").counted;
        assert_eq!(counted, Counted { units: 90, errors: 18 });
    }
}
