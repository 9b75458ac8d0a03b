//! A client of HTTP/2 that can say anything: frames and header blocks are made by hand and sent as
//! they are, and what comes back is read strictly.

mod connection;
pub mod frame;
pub mod hpack;
mod stream;

pub use connection::{H2, Late, Outcome, Transport, get};
pub use frame::{Frame, code, flag, kind, setting};
pub use stream::Exchange;
