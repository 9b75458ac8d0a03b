//! Osmia's data plane: workers, connections, the life of a request; and the process around them.
//!
//! | module | what |
//! |---|---|
//! | [`cli`], [`boot`], [`supervisor`] | from the command line to running workers, and down again |
//! | `config_cli` | `osmia config`: a client of the Admin API |
//! | [`worker`] | one pinned thread: event loop, clock, deadlines, pools |
//! | [`http`] | a request's life |
//! | [`net`], [`buf`], [`allocator`] | transports, buffers, memory |
//! | [`log`], [`disk`] | access log lines, and the thread that writes them |

pub mod allocator;
pub mod boot;
pub mod buf;
pub mod cli;
mod config_cli;
pub mod disk;
pub mod http;
pub mod http2;
pub mod listen;
pub mod log;
pub mod net;
pub mod supervisor;
mod unix_socket;
pub mod worker;
