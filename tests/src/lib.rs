//! Test kit: the real binary through real sockets.
//!
//! A test plays both the client ([`client::Client`]) and the upstream ([`upstream::Upstream`]) of a
//! gateway that it starts ([`gateway::Config`]). Because each step waits for the bytes it needs,
//! most tests are one thread that acts for both sides in turn, and none depends on timing:
//! [`FAILSAFE`] only bounds how long a failing test takes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test kit fails by panicking"
)]

pub mod admin;
pub mod client;
pub mod config;
pub mod dns;
pub mod etcd;
pub mod gateway;
pub mod h2;
pub mod logfile;
pub mod nginx;
pub mod origin;
pub mod pattern;
pub mod port;
pub mod routes;
pub mod sandbox;
pub mod tls;
pub mod upstream;
pub mod wire;

use std::time::{Duration, Instant};

pub use admin::Api;
pub use client::Client;
pub use config::{Config, Driver};
pub use etcd::Etcd;
pub use gateway::Gateway;
pub use h2::H2;
pub use origin::Origin;
pub use upstream::{Peer, Upstream};
pub use wire::{End, Message, Wire};

/// How long anything is waited for before a test fails. Never asserted on.
pub const FAILSAFE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds, for what no event tells. Fails after [`FAILSAFE`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + FAILSAFE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Declares tests that run on each driver: `fn name(driver: Driver) { ... }` becomes
/// `name::io_uring` and `name::epoll`. Where the kernel forbids `io_uring` its half says so and
/// passes.
#[macro_export]
macro_rules! on_each_driver {
    ($($(#[$meta:meta])* fn $name:ident($driver:ident: Driver) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "not every test needs all of its file's")]
            use super::*;

            fn run($driver: $crate::Driver) $body

            #[test]
            fn io_uring() {
                if $crate::sandbox::has_io_uring() {
                    run($crate::Driver::IoUring);
                } else {
                    eprintln!("skipped: io_uring is not available on this machine");
                }
            }

            #[test]
            fn epoll() {
                run($crate::Driver::Epoll);
            }
        }
    )*};
}

pub mod rawhttp;
