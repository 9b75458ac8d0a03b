//! Osmia's configuration plane: where configuration comes from, and how it reaches the workers.
//!
//! ```text
//! config.yaml -> settings ----------------------------------> Settings, fixed at start
//!
//! embedded store --+                                      +-> publish -> workers
//! etcd ------------+-> store -> engine -> state, compile -+
//! apisix.yaml -----+     ^         |                      +-> Control API, status
//!                        |         +-> local (journal, last good copy)
//! Admin API -------------+
//!
//! health: probes nodes, takes the workers' reports -> down nodes -> publish
//! ```
//!
//! `sync` is the thread on which all of it runs.
//!
//! **Invariant:** nothing here runs on a worker, and a worker never waits for anything here. What
//! is published has been validated before; a resource that is wrong takes no other along.

#![forbid(unsafe_code)]

pub mod admin;
mod applied;
pub mod compile;
pub mod control;
pub mod discovery;
pub mod dns;
pub mod engine;
mod env;
mod explain;
pub mod health;
pub mod http_server;
pub mod local;
pub mod plane;
pub mod publish;
mod references;
pub mod settings;
mod stapling;
pub mod state;
pub mod store;
pub mod sync;
#[cfg(test)]
mod testing;
mod trusted;
mod yaml;
