//! Names looked up in the DNS: asked for when their answers end, many at a time, without ever
//! keeping anything else waiting.
//!
//! [`Client`] asks one question. [`Watch`] knows what is to be asked and when, for names as for the
//! services of `discovery`, and tells what changed.

mod client;
mod records;
mod schedule;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use client::{Client, Options};
pub(crate) use client::{parse, trimmed};
pub(crate) use records::Records;
pub use watch::{Answer, Ask, Watch};

/// Most addresses of one name that are used.
pub const ADDRESSES_MAX: usize = 64;

/// Something that was looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<T> {
    /// What was found.
    pub value: T,
    /// How long it holds.
    pub ttl: Duration,
    /// How many addresses or targets there were beyond [`ADDRESSES_MAX`].
    pub left_out: usize,
}

/// Why nothing was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// There is nothing, the server says.
    Absent {
        /// In words.
        reason: Arc<str>,
        /// How long the server is sure of it.
        ttl: Option<Duration>,
    },
    /// Nobody could tell.
    Failed {
        /// In words.
        reason: Arc<str>,
    },
}

impl Miss {
    pub(crate) fn absent(reason: impl Into<Arc<str>>) -> Self {
        Self::Absent { reason: reason.into(), ttl: None }
    }

    pub(crate) fn failed(reason: impl Into<Arc<str>>) -> Self {
        Self::Failed { reason: reason.into() }
    }

    /// The reason in words.
    pub fn reason(&self) -> &Arc<str> {
        let (Self::Absent { reason, .. } | Self::Failed { reason }) = self;
        reason
    }
}

/// What became of looking something up.
pub type Outcome<T> = Result<Found<T>, Miss>;

/// What has been asked so far, for the metrics.
#[derive(Debug, Default)]
pub struct Counters {
    questions: AtomicU64,
    failures: AtomicU64,
    stale: AtomicU64,
}

impl Counters {
    /// Questions sent to DNS servers.
    pub fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    /// Lookups of names and services that nobody could answer.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Names and services that are used with an earlier answer, since there is none now.
    pub fn stale(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }
}
