//! A request's life.
//!
//! ```text
//! worker::thread accepts
//!   ├─ [PROXY protocol header: proxied ─▶] [TLS: greet ─▶ its handshake]
//!   └─ connection::serve ─ next head ─▶ exchange::run ─▶ … ─▶ next head, park, or close
//!        │                                │
//!        │ refused head ▶ reply           ├─ route: normalise, match            ▶ 404
//!        │ idle for a tick ▶ park         ├─ pick a node, take or open a connection ▶ 502 503 504
//!        │                                ├─ send the head; upload the body     ▶ 400 408 413
//!        │                                ├─ response: head, body               ▶ 502 504, retry
//!        │                                └─ 101 ▶ tunnel
//!        └─ every exchange ends in log
//! ```
//!
//! One exchange has at most two things moving at once: the *main* direction (wait for the
//! response, pass it on) and its [`side`] (upload the request's body, or watch for the client
//! going away). Every wait of the main direction polls both.

pub mod attempts;
pub mod balance;
pub mod connect;
pub mod connection;
pub mod exchange;
pub mod greet;
pub mod prebody;
mod proxied;
pub mod reply;
pub mod response;
pub mod side;
pub mod tunnel;
pub mod upload;
