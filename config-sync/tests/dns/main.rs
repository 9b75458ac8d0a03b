//! Names and services from the DNS: against a server that answers, changes its mind, and does not.

// clippy.toml allows these in tests, but does not see the helpers here as part of one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod client;
mod followed;
mod server;
