//! Names and services from the DNS: against a server that answers, changes its mind, and does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "tests, though not all of their functions are marked as such"
)]

mod client;
mod followed;
