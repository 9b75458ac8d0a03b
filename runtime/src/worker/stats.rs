//! Counters of one worker: written by its core alone, read by others when they please.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer. Adding is a plain load and store, never a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` off. Only the owning worker may call this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a worker counts.
#[derive(Debug, Default)]
#[repr(align(128))] // a cache line pair of its own: no false sharing between workers
pub struct Stats {
    /// Connections accepted.
    pub accepted: Counter,
    /// Client connections open now.
    pub open: Counter,
    /// Connections shed because the process was out of descriptors.
    pub shed: Counter,
    /// Requests answered, by the gateway or an upstream.
    pub requests: Counter,
    /// Requests refused by the HTTP/1 codec, and connections without the PROXY protocol header that
    /// they have to begin with.
    pub refused: Counter,
    /// Requests that ended in an error of the upstream.
    pub upstream_errors: Counter,
    /// Connections to upstreams opened.
    pub connects: Counter,
    /// Requests repeated on a fresh connection because a kept one had been closed.
    pub replays: Counter,
    /// Requests repeated on another node.
    pub retries: Counter,
    /// Connections ended by a panic.
    pub panics: Counter,
    /// Revision of the snapshot in use.
    pub revision: Counter,
}
