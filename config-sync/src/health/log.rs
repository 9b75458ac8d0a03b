//! What operators are told.

use std::fmt;
use std::io;
use std::time::Duration;

use osmia_core::health::{Event, Outcome, State};
use tokio::time::Instant;

use super::plan::Place;

/// How often it is said that probes cannot be made.
const REPEAT: Duration = Duration::from_secs(10);

/// A probe found it.
pub(super) const PROBE: &str = "probe";
/// A worker saw it.
pub(super) const TRAFFIC: &str = "traffic";

/// How something was learned about a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Why<'e> {
    pub(super) by: &'static str,
    pub(super) error: Option<&'e io::Error>,
}

/// Tells of a change of state; of those in between only who looks closely.
pub(super) fn transition(
    upstream: &str,
    place: &Place,
    (from, to): (State, State),
    (event, limit): (Event, u8),
    outcome: Outcome,
    why: Why<'_>,
) {
    let (node, host, by) = (place, &*place.name, why.by);
    let reason = Reason { event, limit, outcome, error: why.error };
    let (from_up, to_up) = (from.is_up(), to.is_up());
    let (from, to) = (from.as_str(), to.as_str());
    match (from_up, to_up) {
        (true, false) => {
            tracing::warn!(upstream, %node, host, from, to, by, "node is down: {reason}");
        }
        (false, true) => {
            tracing::info!(upstream, %node, host, from, to, by, "node is up again: {reason}");
        }
        _ => tracing::debug!(upstream, %node, host, from, to, by, "node: {reason}"),
    }
}

struct Reason<'e> {
    event: Event,
    limit: u8,
    outcome: Outcome,
    error: Option<&'e io::Error>,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.event {
            Event::Success => "successes",
            Event::HttpFailure => "HTTP failures",
            Event::TcpFailure => "TCP failures",
            Event::Timeout => "timeouts",
        };
        write!(f, "{what}, threshold {}, the last: ", self.limit)?;
        match (self.outcome, self.error) {
            (_, Some(error)) => error.fmt(f),
            (Outcome::Status(0), _) => f.write_str("no HTTP response"),
            (Outcome::Status(status), _) => write!(f, "status {status}"),
            (Outcome::Connected, _) => f.write_str("connected"),
            (Outcome::TcpFailure, _) => f.write_str("connection failed"),
            (Outcome::Timeout, _) => f.write_str("no answer in time"),
        }
    }
}

/// Tells that probes cannot be made, not too often.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    told: Option<Instant>,
}

impl Trouble {
    pub(super) fn tell(&mut self, error: &io::Error, now: Instant) {
        if self.told.is_none_or(|told| now.duration_since(told) >= REPEAT) {
            self.told = Some(now);
            tracing::warn!("nodes cannot be probed, which says nothing about them: {error}");
        }
    }
}
