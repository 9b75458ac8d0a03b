//! Black-box tests of the gateway, by topic. One program, so that it links once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests, though not all of their functions are marked as such"
)]

mod access_log;
mod balancing;
mod bodies;
mod clients;
mod command_line;
mod drain;
mod fields;
mod forwarded;
mod health;
mod keepalive;
mod limits;
mod listeners;
mod matching;
mod nodes;
mod pool;
mod proxy_protocol;
mod reload;
mod resources;
mod routing;
mod smuggling;
mod stores;
mod streaming;
mod tunnel;
mod unix_sockets;
mod upstream_failures;
