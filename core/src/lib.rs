//! Osmia's pure part: everything that decides, nothing that waits.
//!
//! **Invariant:** this crate does no I/O, reads no clock and knows no runtime. Parsers take bytes,
//! policies take `now`. What touches sockets, files or threads lives in `osmia-config-sync`
//! (configuration plane) and `osmia` (data plane).

#![forbid(unsafe_code)]

pub mod access_log;
pub mod balancer;
pub mod body_vars;
pub mod expr;
pub mod forwarded;
#[doc(hidden)]
pub mod fuzzing;
pub mod grpc;
pub mod health;
pub mod http1;
pub mod http2;
pub mod keyring;
pub mod limits;
pub mod net_set;
pub mod node_set;
pub mod origin;
pub mod path;
pub mod plugin;
pub mod proxy_protocol;
pub mod reply;
pub mod request;
pub mod resource;
pub mod router;
pub mod rules;
pub mod schema;
pub mod settings;
pub mod snapshot;
pub mod tls;
pub mod vars;
