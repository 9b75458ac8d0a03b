//! HTTP/1 codec, without I/O (RFC 9112, RFC 9110).
//!
//! Heads are parsed by `httparse` into offsets ([`Span`]) over the receive buffer: no allocation
//! per field, and a run of unchanged fields is copied as one slice when a head is forwarded. What
//! two parsers could read differently is refused, not repaired: this is a gateway, and whatever
//! stands behind it must see the same message as it did.
//!
//! | module | what |
//! |---|---|
//! | [`request`], [`response`] | head parsing and validation |
//! | `scan` | heads that come in pieces, or are wrong |
//! | [`fields`] | field offsets, known names |
//! | [`chunked`], [`body`] | framing of bodies, in place |
//! | [`write`] | heads as they are forwarded |
//! | [`error`] | one variant per reason a peer is wrong |

pub mod body;
pub mod chunked;
pub mod error;
pub mod fields;
pub mod request;
pub mod response;
mod scan;
pub mod write;

pub use body::{Body, BodyLength};
pub use error::{BodyError, HeadError};
pub use fields::{Field, Known, Span};
pub use request::RequestHead;
pub use response::ResponseHead;
