//! What of an outcome counts, and from which count on.

use super::tracker::Event;
use crate::resource::{ActiveCheck, Outcome as Counted, PassiveCheck};

/// First status that a [`StatusSet`] can hold.
const FIRST: u16 = 200;
/// Words of a [`StatusSet`].
const WORDS: usize = 7;

/// HTTP statuses from 200 to 599, those that checks can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusSet([u64; WORDS]);

impl StatusSet {
    /// Whether the status is in it.
    pub fn contains(&self, status: u16) -> bool {
        place(status).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }
}

impl FromIterator<u16> for StatusSet {
    /// Statuses that cannot be held are left out.
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let mut set = Self::default();
        for (word, bit) in statuses.into_iter().filter_map(place) {
            set.0[word] |= bit;
        }
        set
    }
}

fn place(status: u16) -> Option<(usize, u64)> {
    let index = usize::from(status.checked_sub(FIRST)?);
    (index < WORDS * 64).then_some((index / 64, 1 << (index % 64)))
}

/// From how many events on a node's state changes; zero: the event does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thresholds {
    /// `healthy.successes`.
    pub successes: u8,
    /// `unhealthy.http_failures`.
    pub http_failures: u8,
    /// `unhealthy.tcp_failures`.
    pub tcp_failures: u8,
    /// `unhealthy.timeouts`.
    pub timeouts: u8,
}

/// What became of a request to a node, or of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It answered with this status. Zero: not with HTTP.
    Status(u16),
    /// A probe that only connects did.
    Connected,
    /// A connection could not be made, or broke before the answer.
    TcpFailure,
    /// It did not answer in time.
    Timeout,
}

/// `checks.active` or `checks.passive` of an upstream, as far as it judges outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Criteria {
    /// `healthy.http_statuses`.
    pub healthy: StatusSet,
    /// `unhealthy.http_statuses`.
    pub unhealthy: StatusSet,
    /// From which counts on the state changes.
    pub thresholds: Thresholds,
}

impl Criteria {
    /// The criteria of probes. What is not configured is as in `lua-resty-healthcheck`.
    pub fn active(check: &ActiveCheck) -> Self {
        let thresholds =
            Thresholds { successes: 2, http_failures: 5, tcp_failures: 2, timeouts: 3 };
        let unhealthy = [429, 404, 500, 501, 502, 503, 504, 505];
        let built_in = Self {
            healthy: [200, 302].into_iter().collect(),
            unhealthy: unhealthy.into_iter().collect(),
            thresholds,
        };
        built_in.with(check.healthy.as_ref(), check.unhealthy.as_ref())
    }

    /// The criteria for traffic. Statuses count only where they are configured, the other failures
    /// always (`apisix/init.lua`, `healthcheck_passive`; `apisix/balancer.lua`).
    pub fn passive(check: &PassiveCheck) -> Self {
        let thresholds =
            Thresholds { successes: 5, http_failures: 5, tcp_failures: 2, timeouts: 7 };
        let built_in = Self { thresholds, ..Self::default() };
        built_in.with(check.healthy.as_ref(), check.unhealthy.as_ref())
    }

    fn with(mut self, healthy: Option<&Counted>, unhealthy: Option<&Counted>) -> Self {
        let set = |counted: &Counted| {
            counted.http_statuses.iter().filter_map(|status| u16::try_from(*status).ok()).collect()
        };
        let thresholds = &mut self.thresholds;
        if let Some(healthy) = healthy {
            self.healthy = set(healthy);
            thresholds.successes = healthy.successes.unwrap_or(thresholds.successes);
        }
        if let Some(unhealthy) = unhealthy {
            self.unhealthy = set(unhealthy);
            let or = |given: Option<u8>, built_in: u8| given.unwrap_or(built_in);
            thresholds.http_failures = or(unhealthy.http_failures, thresholds.http_failures);
            thresholds.tcp_failures = or(unhealthy.tcp_failures, thresholds.tcp_failures);
            thresholds.timeouts = or(unhealthy.timeouts, thresholds.timeouts);
        }
        self
    }

    /// What an outcome counts as; `None`: it does not count. A status in both sets is a success.
    pub fn judge(&self, outcome: Outcome) -> Option<Event> {
        let event = match outcome {
            Outcome::Connected => Event::Success,
            Outcome::Status(status) if self.healthy.contains(status) => Event::Success,
            Outcome::Status(status) if status == 0 || self.unhealthy.contains(status) => {
                Event::HttpFailure
            }
            Outcome::Status(_) => return None,
            Outcome::TcpFailure => Event::TcpFailure,
            Outcome::Timeout => Event::Timeout,
        };
        (self.limit(event) > 0).then_some(event)
    }

    /// From how many of these events on the state changes; zero: never.
    pub fn limit(&self, event: Event) -> u8 {
        match event {
            Event::Success => self.thresholds.successes,
            Event::HttpFailure => self.thresholds.http_failures,
            Event::TcpFailure => self.thresholds.tcp_failures,
            Event::Timeout => self.thresholds.timeouts,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::Upstream;

    fn checks(checks: &Value) -> crate::resource::Checks {
        let upstream = Upstream::from_json(&json!({"nodes": {}, "checks": checks})).unwrap();
        *upstream.checks.unwrap()
    }

    #[test]
    fn probes_judge_by_what_is_configured_and_else_as_the_library() {
        let built_in = Criteria::active(&checks(&json!({"active": {}})).active);
        assert_eq!(built_in.judge(Outcome::Status(302)), Some(Event::Success));
        assert_eq!(built_in.judge(Outcome::Status(404)), Some(Event::HttpFailure));
        assert_eq!(built_in.judge(Outcome::Status(201)), None);
        // What is not HTTP is in no list, and fails.
        assert_eq!(built_in.judge(Outcome::Status(0)), Some(Event::HttpFailure));
        assert_eq!(built_in.judge(Outcome::Connected), Some(Event::Success));
        let limits = [Event::Success, Event::HttpFailure, Event::TcpFailure, Event::Timeout]
            .map(|event| built_in.limit(event));
        assert_eq!(limits, [2, 5, 2, 3]);
        let given = checks(&json!({"active": {
            "healthy": {"http_statuses": [201], "successes": 7},
            "unhealthy": {"http_statuses": [201, 599], "http_failures": 1, "tcp_failures": 8,
                          "timeouts": 9},
        }}));
        let given = Criteria::active(&given.active);
        assert_eq!(given.judge(Outcome::Status(201)), Some(Event::Success), "healthy goes first");
        assert_eq!(given.judge(Outcome::Status(599)), Some(Event::HttpFailure));
        assert_eq!(given.judge(Outcome::Status(500)), None);
        assert_eq!(given.limit(Event::Timeout), 9);
    }

    #[test]
    fn traffic_counts_where_it_is_configured() {
        let passive = |passive: Value| {
            let checks = checks(&json!({"active": {}, "passive": passive}));
            Criteria::passive(&checks.passive.unwrap())
        };
        let none = passive(json!({}));
        for status in [200, 500] {
            assert_eq!(none.judge(Outcome::Status(status)), None);
        }
        assert_eq!(none.judge(Outcome::TcpFailure), Some(Event::TcpFailure));
        let off = passive(json!({"healthy": {"successes": 0},
                                 "unhealthy": {"tcp_failures": 0, "timeouts": 0}}));
        for outcome in [Outcome::Status(200), Outcome::TcpFailure, Outcome::Timeout] {
            assert_eq!(off.judge(outcome), None, "a threshold of zero");
        }
        assert_eq!(off.judge(Outcome::Status(429)), Some(Event::HttpFailure));
    }

    proptest! {
        #[test]
        fn a_set_of_statuses_is_a_set(
            statuses in proptest::collection::btree_set(0..800u16, 0..40),
        ) {
            let set: StatusSet = statuses.iter().copied().collect();
            let held: BTreeSet<u16> = (0..800).filter(|status| set.contains(*status)).collect();
            let room = FIRST..FIRST + 448;
            let expected: BTreeSet<u16> =
                statuses.into_iter().filter(|status| room.contains(status)).collect();
            prop_assert_eq!(held, expected);
        }
    }
}
