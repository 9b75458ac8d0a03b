//! What must hold for every input: the bodies of the fuzz targets in `core/fuzz`, one table.
//!
//! The same functions run on seeds and mutations of them in `core/tests/fuzz_smoke.rs`, and on
//! generated messages in `core/tests/http1_properties.rs`. A broken invariant panics.

#![allow(clippy::missing_panics_doc, reason = "to panic is how they report")]

mod bodies;
mod expressions;
mod heads;
mod model;
mod paths;
mod proxy_protocol;

pub use bodies::chunked;
pub use expressions::{body_vars, expression};
pub use heads::{request_head, response_head};
pub use paths::path;
pub use proxy_protocol::proxy_protocol;

use crate::limits::HttpLimits;

/// What became of an input; a fuzzer that sees only one of them tests nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A whole message, within the rules.
    Accepted,
    /// Against the rules.
    Refused,
    /// The beginning of a message.
    Incomplete,
}

/// One fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name in `core/fuzz`.
    pub name: &'static str,
    /// Checks one input.
    pub run: fn(&[u8]) -> Outcome,
}

/// All fuzz targets.
pub const TARGETS: [Target; 7] = [
    Target { name: "request_head", run: request_head },
    Target { name: "response_head", run: response_head },
    Target { name: "chunked", run: chunked },
    Target { name: "path", run: path },
    Target { name: "expression", run: expression },
    Target { name: "body_vars", run: body_vars },
    Target { name: "proxy_protocol", run: proxy_protocol },
];

/// Must fail under any fuzzer worth its name: it claims that no request head is ever accepted once
/// it is changed. The smoke test proves with it that failures are noticed.
pub const CANARY: Target = Target { name: "canary", run: canary };

fn canary(data: &[u8]) -> Outcome {
    let outcome = request_head(data);
    assert_ne!(outcome, Outcome::Accepted, "the canary fails as it should");
    outcome
}

/// Small enough that a fuzzer meets every limit.
const TIGHT: HttpLimits = HttpLimits {
    request_line_bytes: 48,
    head_bytes: 160,
    header_count: 4,
    chunk_line_bytes: 24,
    trailer_bytes: 48,
};

/// An input: one byte chooses limits and flags, one how the rest is cut.
struct Input<'a> {
    limits: HttpLimits,
    flags: u8,
    cut: u8,
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn new(data: &'a [u8]) -> Option<Self> {
        let [flags, cut, bytes @ ..] = data else { return None };
        let limits = if flags & 1 == 0 { HttpLimits::default() } else { TIGHT };
        Some(Self { limits, flags: *flags, cut: *cut, bytes })
    }

    fn flag(&self, bit: u8) -> bool {
        self.flags & (1 << bit) != 0
    }

    /// Ends of the pieces in which the bytes arrive: all at once, one by one, and by the cut byte.
    fn cuts(&self) -> [Vec<usize>; 3] {
        let len = self.bytes.len();
        let mut irregular = Vec::new();
        let (mut at, mut step) = (0, usize::from(self.cut) + 1);
        while at < len {
            at = (at + step).min(len);
            step = step * 5 % 61 + 1;
            irregular.push(at);
        }
        [vec![len], (1..=len).collect(), irregular]
    }
}
