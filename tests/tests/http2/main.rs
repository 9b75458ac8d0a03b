//! HTTP/2 in front (RFC 9113): a suite of its own, by section, with a client that can say anything.
//! After each case another connection to the same worker must be served.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests, though not all of their functions are marked as such"
)]

mod drain;
mod flood;
mod fuzz;
mod hostile;
mod messages;
mod peers;
mod requests;
mod section3;
mod section4;
mod section5;
mod section6;
mod secure;
mod smuggling;
mod windows;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::LazyLock;

use osmia_tests::config::upstream_of;
use osmia_tests::h2::{H2, Outcome, code, get};
use osmia_tests::port::Unanswering;
use osmia_tests::{Config, Driver, Gateway, Origin};
use serde_json::json;

/// Fields of a request.
type Request<'a> = &'a [(&'a str, &'a str)];

/// The pseudo-header fields of a `POST` to `path`.
fn post(path: &str) -> [(&str, &str); 4] {
    let mut fields = get(path);
    fields[0].1 = "POST";
    fields
}

/// `fields` and `more`.
fn with<'a>(fields: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [fields, more].concat()
}

/// A node that is never connected to. One for all tests: making it takes a while.
static STUCK: LazyLock<Unanswering> = LazyLock::new(Unanswering::new);

/// A gateway with one worker before an [`Origin`]. `/stuck` goes to a node that is never connected
/// to, so that nothing reads a body there.
struct Front {
    gateway: Gateway,
    origin: Origin,
}

impl Front {
    #[track_caller]
    fn start(driver: Driver) -> Self {
        Self::start_with(driver, |config| config)
    }

    #[track_caller]
    fn start_with(driver: Driver, change: impl FnOnce(Config) -> Config) -> Self {
        let origin = Origin::new();
        let nowhere = upstream_of(&[STUCK.addr().to_string()], json!({}));
        let upstream = upstream_of(&[origin.upstream.node()], json!({}));
        let config = Config::new()
            .driver(driver)
            .route(json!({"id": "stuck", "uri": "/stuck", "upstream": nowhere}))
            .route(json!({"id": "all", "uri": "/*", "upstream": upstream}));
        Self { gateway: change(config).start(), origin }
    }

    #[track_caller]
    fn connect(&self) -> H2 {
        H2::connect(self.gateway.addr())
    }

    /// Another connection is served.
    #[track_caller]
    fn check_serves(&self) {
        let mut h2 = self.connect();
        let stream = h2.get("/");
        let answer = h2.response(stream);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    }

    /// Plays cases, each on a connection of its own. All are played; a failure tells which fail.
    #[track_caller]
    fn check(&self, cases: &[Case]) {
        let mut failed = Vec::new();
        for case in cases {
            let played = catch_unwind(AssertUnwindSafe(|| self.play(case)));
            match played {
                Ok(Ok(())) => {}
                Ok(Err(complaint)) => failed.push(format!("{}: {complaint}", case.0)),
                Err(panic) => {
                    eprintln!("case {:?}", case.0);
                    resume_unwind(panic);
                }
            }
        }
        assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
    }

    fn play(&self, Case(_, play, allowed): &Case) -> Result<(), String> {
        let mut h2 = self.connect();
        let outcome = match play(&mut h2) {
            Look::Answer(stream) => h2.outcome(stream),
            Look::Reaction(stream) => h2.reaction(stream),
        };
        let complaint = if fits(outcome, allowed) {
            Ok(())
        } else {
            Err(format!("{outcome:?}, and not one of {allowed:?}"))
        };
        match outcome {
            Outcome::GoAway(_) => {
                h2.wait_for_end();
            }
            Outcome::Closed => {}
            // An error of a stream, or none, leaves the connection as it was.
            _ if complaint.is_ok() => {
                let stream = h2.open() + 1_000;
                let block = osmia_tests::h2::hpack::block(&get("/"));
                h2.push(&[osmia_tests::h2::Frame::headers(stream, block, true)]);
                let after = h2.outcome(stream);
                if after != Outcome::Response(200) {
                    return Err(format!("the connection does not go on: {after:?}"));
                }
            }
            _ => {}
        }
        self.check_serves();
        complaint
    }
}

/// Whether the standard allows `outcome`: "a generic error code [...] can always be used in place of
/// more specific error codes" (section 5.4), which is what the h2 library does.
fn fits(outcome: Outcome, allowed: &[Outcome]) -> bool {
    allowed.iter().any(|one| {
        *one == outcome
            || match one {
                Outcome::GoAway(_) => outcome == Outcome::GoAway(code::PROTOCOL_ERROR),
                Outcome::Reset(_) => outcome == Outcome::Reset(code::PROTOCOL_ERROR),
                _ => false,
            }
    })
}

/// Where the outcome of a case shows.
enum Look {
    /// The stream is answered, or ended by an error.
    Answer(u32),
    /// Perhaps nothing happens. Stream 0: to the connection only.
    Reaction(u32),
}

/// A name, what is done, and the outcomes that the standard allows.
struct Case(&'static str, fn(&mut H2) -> Look, &'static [Outcome]);

const CONNECTION: Look = Look::Reaction(0);

const IGNORED: &[Outcome] = &[Outcome::Ignored];
const SERVED: &[Outcome] = &[Outcome::Response(200)];
/// Connection errors (section 5.4.1).
const PROTOCOL: &[Outcome] = &[Outcome::GoAway(code::PROTOCOL_ERROR)];
const FRAME_SIZE: &[Outcome] = &[Outcome::GoAway(code::FRAME_SIZE_ERROR)];
const FLOW_CONTROL: &[Outcome] = &[Outcome::GoAway(code::FLOW_CONTROL_ERROR)];
const COMPRESSION: &[Outcome] = &[Outcome::GoAway(code::COMPRESSION_ERROR)];
/// Stream errors, which may be treated as connection errors.
const STREAM_PROTOCOL: &[Outcome] =
    &[Outcome::Reset(code::PROTOCOL_ERROR), Outcome::GoAway(code::PROTOCOL_ERROR)];
const STREAM_FRAME_SIZE: &[Outcome] =
    &[Outcome::Reset(code::FRAME_SIZE_ERROR), Outcome::GoAway(code::FRAME_SIZE_ERROR)];
const STREAM_FLOW_CONTROL: &[Outcome] =
    &[Outcome::Reset(code::FLOW_CONTROL_ERROR), Outcome::GoAway(code::FLOW_CONTROL_ERROR)];
const STREAM_CLOSED: &[Outcome] =
    &[Outcome::Reset(code::STREAM_CLOSED), Outcome::GoAway(code::STREAM_CLOSED)];
/// A malformed request (section 8.1.1): a stream error, or an answer that says so.
const MALFORMED: &[Outcome] = &[
    Outcome::Reset(code::PROTOCOL_ERROR),
    Outcome::GoAway(code::PROTOCOL_ERROR),
    Outcome::Response(400),
];
