//! The state of one node, as `lua-resty-healthcheck` of APISIX keeps it.

/// What was learned about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It answered as it should.
    Success,
    /// It answered with a status that counts as a failure, or not with HTTP.
    HttpFailure,
    /// A connection could not be made, or broke.
    TcpFailure,
    /// It did not answer in time.
    Timeout,
}

/// Where a node stands. In the two states in between something is counted that points the other
/// way, but not enough of it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// It is used.
    #[default]
    Healthy,
    /// It is used, and failures are counted.
    MostlyHealthy,
    /// It is not used, and successes are counted.
    MostlyUnhealthy,
    /// It is not used.
    Unhealthy,
}

impl State {
    /// Whether the node is used.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Healthy | Self::MostlyHealthy)
    }

    /// The name in the Control API (control-api.md, `/v1/healthcheck`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::MostlyHealthy => "mostly_healthy",
            Self::MostlyUnhealthy => "mostly_unhealthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How often each [`Event`] was counted. A failure forgets the successes, a success forgets all
/// failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counters {
    /// [`Event::Success`].
    pub success: u8,
    /// [`Event::HttpFailure`].
    pub http_failure: u8,
    /// [`Event::TcpFailure`].
    pub tcp_failure: u8,
    /// [`Event::Timeout`].
    pub timeout_failure: u8,
}

impl Counters {
    /// Counts an event; how often it was counted.
    fn count(&mut self, event: Event) -> u8 {
        if event == Event::Success {
            *self = Self { success: self.success, ..Self::default() };
        } else {
            self.success = 0;
        }
        let counter = match event {
            Event::Success => &mut self.success,
            Event::HttpFailure => &mut self.http_failure,
            Event::TcpFailure => &mut self.tcp_failure,
            Event::Timeout => &mut self.timeout_failure,
        };
        *counter = counter.saturating_add(1);
        *counter
    }
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state now; never the same.
    pub to: State,
}

/// Counts what is learned about one node, from probes and from traffic alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tracker {
    state: State,
    counters: Counters,
}

impl Tracker {
    /// Where the node stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// What is counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes an event of which `limit` make a healthy node unhealthy, or the other way round.
    /// Nothing is counted when the limit is zero, or the node is wholly what the event says.
    pub fn record(&mut self, event: Event, limit: u8) -> Option<Transition> {
        let says = if event == Event::Success { State::Healthy } else { State::Unhealthy };
        let from = self.state;
        if limit == 0 || from == says {
            return None;
        }
        let count = self.counters.count(event);
        self.state = match from {
            _ if count >= limit => says,
            State::Healthy => State::MostlyHealthy,
            State::Unhealthy => State::MostlyUnhealthy,
            between => between,
        };
        (self.state != from).then_some(Transition { from, to: self.state })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds events with one limit for all; the states after each.
    fn states(tracker: &mut Tracker, events: &[Event], limit: u8) -> Vec<State> {
        let step = |event: &Event| {
            tracker.record(*event, limit);
            tracker.state()
        };
        events.iter().map(step).collect()
    }

    use Event::{HttpFailure, Success, TcpFailure, Timeout};
    use State::{Healthy, MostlyHealthy, MostlyUnhealthy, Unhealthy};

    #[test]
    fn as_many_failures_of_one_kind_as_the_limit_take_a_node_down() {
        let mut tracker = Tracker::default();
        assert_eq!(
            tracker.record(TcpFailure, 1),
            Some(Transition { from: Healthy, to: Unhealthy })
        );
        let mut tracker = Tracker::default();
        let events = [HttpFailure, TcpFailure, Timeout, HttpFailure, HttpFailure];
        let expected = [MostlyHealthy, MostlyHealthy, MostlyHealthy, MostlyHealthy, Unhealthy];
        assert_eq!(states(&mut tracker, &events, 3), expected);
    }

    #[test]
    fn what_a_node_is_already_is_not_counted() {
        let mut tracker = Tracker::default();
        assert_eq!(states(&mut tracker, &[Success], 1), [Healthy]);
        assert_eq!(tracker.counters(), Counters::default());
        states(&mut tracker, &[TcpFailure, TcpFailure, TcpFailure, HttpFailure], 2);
        assert_eq!(tracker.state(), Unhealthy);
        // What took it down stays to be seen until it recovers.
        let counters = Counters { tcp_failure: 2, ..Counters::default() };
        assert_eq!(tracker.counters(), counters);
    }

    #[test]
    fn a_success_forgets_failures_and_a_failure_forgets_successes() {
        let mut tracker = Tracker::default();
        let events = [HttpFailure, TcpFailure, Success];
        // Forgetting is not recovering: only enough successes are.
        assert_eq!(states(&mut tracker, &events, 2), [MostlyHealthy; 3]);
        assert_eq!(tracker.counters(), Counters { success: 1, ..Counters::default() });
        assert_eq!(states(&mut tracker, &[Success], 2), [Healthy]);
        states(&mut tracker, &[Timeout, Timeout], 2);
        let events = [Success, Timeout, Success, Success];
        let expected = [MostlyUnhealthy, MostlyUnhealthy, MostlyUnhealthy, Healthy];
        assert_eq!(states(&mut tracker, &events, 2), expected);
        assert_eq!(tracker.counters(), Counters { success: 2, ..Counters::default() });
    }

    #[test]
    fn a_limit_of_zero_counts_nothing() {
        let mut tracker = Tracker::default();
        assert_eq!(states(&mut tracker, &[TcpFailure; 300], 0), [Healthy; 300]);
        assert_eq!(tracker, Tracker::default());
    }

    /// The library's algorithm written down naively, with its counters in one table.
    #[derive(Default)]
    struct Model {
        state: State,
        counts: [u32; 4],
    }

    impl Model {
        fn step(&mut self, kind: usize, limit: u32) {
            let report = if kind == 0 { Healthy } else { Unhealthy };
            if limit == 0 || self.state == report {
                return;
            }
            self.counts[kind] += 1;
            let reset = if kind == 0 { 1..4 } else { 0..1 };
            self.counts[reset].fill(0);
            if self.counts[kind] >= limit {
                self.state = report;
            } else if self.state == Healthy && self.counts[1..].iter().any(|count| *count > 0) {
                self.state = MostlyHealthy;
            } else if self.state == Unhealthy && self.counts[0] > 0 {
                self.state = MostlyUnhealthy;
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_model(
            steps in proptest::collection::vec((0..4usize, 0..5u8), 0..200),
        ) {
            let (mut tracker, mut model) = (Tracker::default(), Model::default());
            for (kind, limit) in steps {
                let from = tracker.state();
                let event = [Success, HttpFailure, TcpFailure, Timeout][kind];
                let transition = tracker.record(event, limit);
                model.step(kind, u32::from(limit));
                prop_assert_eq!(tracker.state(), model.state);
                let changed = from != model.state;
                let expected = changed.then_some(Transition { from, to: model.state });
                prop_assert_eq!(transition, expected);
                let c = tracker.counters();
                let counts = [c.success, c.http_failure, c.tcp_failure, c.timeout_failure];
                prop_assert_eq!(counts.map(u32::from), model.counts);
                // Both kinds are never counted at the same time.
                prop_assert!(c.success == 0 || model.counts[1..] == [0; 3]);
            }
        }
    }
}
