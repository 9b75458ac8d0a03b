//! HTTP/2, on either side of an exchange.
//!
//! ```text
//! client ══ server::serve ─ each stream ─▶ Stream as a connection of its own ─▶ http::exchange
//! http::exchange ─▶ Stream ─ client::Sessions, several streams on one ══ node
//! ```
//!
//! There is one life of a request, `crate::http`, and it is written for HTTP/1.1. A stream of
//! HTTP/2 looks to it like a connection that carries one request: [`stream`] writes heads down as
//! HTTP/1.1, frames bodies as chunks, and reads the same from what it is given to send. So routes,
//! retries, limits, logs and plugins hold for every protocol, in every combination, and the rules
//! for heads (RFC 9112, and `core::http1`) stand guard over what comes from HTTP/2, too.
//!
//! The protocol itself is the `h2` crate's. [`io`] gives it our transports, and counts the frames
//! that only cost.

pub mod client;
pub mod io;
pub mod server;
pub mod stream;
pub mod text;
mod unframe;
