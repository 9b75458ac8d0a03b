//! What is known of a node's health: counters, thresholds, and the states between them.
//!
//! Everything here is pure. Who probes and who reports outcomes is in `osmia-config-sync`; what
//! workers see of it is [`crate::snapshot::Health`].

mod criteria;
mod tracker;

pub use criteria::{Criteria, Outcome, StatusSet, Thresholds};
pub use tracker::{Counters, Event, State, Tracker, Transition};
