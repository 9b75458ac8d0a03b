//! Nodes and DNS servers that fail while real clients load the gateway: `wrk` and `h2load` before
//! it, nginx processes and misbehaving servers behind it. What they are is installed by `make test`.
//!
//! [`Front`] has a path for each balancer and each kind of health checks, all to the same nodes, so
//! that one load under one fault tests all of them. Pauses here are the pace of faults; nothing is
//! asserted on time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests, though not all of their functions are marked as such"
)]

mod checks;
mod dns;
mod faults;
mod front;
mod load;
mod misbehaving;
mod posts;
