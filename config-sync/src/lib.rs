//! Osmia's configuration plane: where configuration comes from, and how it reaches the workers.
//!
//! ```text
//! config.yaml -> settings ------------------------------------> Settings, fixed at start
//! apisix.yaml -> standalone --+
//! built in ----> builtin -----+-> compile -> publish -> workers, at any time
//!                                 (sync: the thread that does it)
//! ```
//!
//! **Invariant:** nothing here runs on a worker, and a worker never waits for anything here. What
//! is published has been validated as a whole; when any part of a change is wrong, none of it is
//! published and the last good configuration stays.

#![forbid(unsafe_code)]

pub mod admin;
pub mod builtin;
pub mod compile;
pub mod control;
mod env;
pub mod local;
pub mod plane;
pub mod publish;
pub mod resources;
pub mod settings;
pub mod standalone;
pub mod state;
pub mod store;
pub mod sync;
mod yaml;
