//! Section 5: streams, their states and identifiers.

use osmia_tests::h2::{Frame, H2, Outcome, code, get, hpack, setting};
use osmia_tests::on_each_driver;

use super::{CONNECTION, Case, Front, IGNORED, Look, PROTOCOL, SERVED, STREAM_CLOSED, post};

fn request(stream: u32) -> Frame {
    Frame::headers(stream, hpack::block(&get("/")), true)
}

/// A stream that the client has ended and the server has not.
fn half_closed(h2: &mut H2) -> u32 {
    let stream = h2.get("/hold");
    h2.sync();
    stream
}

/// A stream that both have ended.
fn closed(h2: &mut H2) -> u32 {
    let stream = h2.get("/");
    assert_eq!(h2.outcome(stream), Outcome::Response(200));
    // What is known of it is forgotten, so that an error shows.
    h2.streams.remove(&stream);
    stream
}

fn reaction(h2: &mut H2, frames: &[Frame], stream: u32) -> Look {
    h2.push(frames);
    Look::Reaction(stream)
}

/// Section 5.1, idle: only HEADERS and PRIORITY.
const IDLE: &[Case] = &[
    Case("DATA", |h2| reaction(h2, &[Frame::data(1, *b"x", true)], 0), PROTOCOL),
    Case("RST_STREAM", |h2| reaction(h2, &[Frame::reset(1, code::CANCEL)], 0), PROTOCOL),
    Case("WINDOW_UPDATE", |h2| reaction(h2, &[Frame::window(1, 1)], 0), PROTOCOL),
    Case("CONTINUATION", |h2| reaction(h2, &[Frame::continuation(1, [], true)], 0), PROTOCOL),
    Case("PRIORITY", |h2| reaction(h2, &[Frame::priority(1, 0, 15)], 0), IGNORED),
    Case(
        "DATA on a stream of the server's",
        |h2| reaction(h2, &[Frame::data(2, *b"x", true)], 0),
        PROTOCOL,
    ),
    Case(
        "WINDOW_UPDATE on a stream of the server's",
        |h2| reaction(h2, &[Frame::window(2, 1)], 0),
        PROTOCOL,
    ),
    Case(
        "RST_STREAM on a stream of the server's",
        |h2| reaction(h2, &[Frame::reset(2, code::CANCEL)], 0),
        PROTOCOL,
    ),
];

/// Section 5.1, half-closed (remote).
const HALF_CLOSED: &[Case] = &[
    Case(
        "DATA",
        |h2| {
            let stream = half_closed(h2);
            reaction(h2, &[Frame::data(stream, *b"x", false)], stream)
        },
        STREAM_CLOSED,
    ),
    Case(
        "empty DATA",
        |h2| {
            let stream = half_closed(h2);
            reaction(h2, &[Frame::data(stream, [], true)], stream)
        },
        STREAM_CLOSED,
    ),
    Case(
        "HEADERS",
        |h2| {
            let stream = half_closed(h2);
            let trailers = Frame::headers(stream, hpack::block(&[("x", "y")]), true);
            reaction(h2, &[trailers], stream)
        },
        STREAM_CLOSED,
    ),
    Case(
        "CONTINUATION",
        |h2| {
            let stream = half_closed(h2);
            reaction(h2, &[Frame::continuation(stream, [], true)], stream)
        },
        PROTOCOL,
    ),
    Case(
        "WINDOW_UPDATE and PRIORITY",
        |h2| {
            let stream = half_closed(h2);
            reaction(h2, &[Frame::window(stream, 1), Frame::priority(stream, 0, 1)], stream)
        },
        IGNORED,
    ),
];

/// Section 5.1, closed. A server may have forgotten the stream by then: it is an error of the
/// connection or, for a while, of the stream.
const CLOSED_OR_FORGOTTEN: &[Outcome] = &[
    Outcome::Reset(code::STREAM_CLOSED),
    Outcome::GoAway(code::STREAM_CLOSED),
    Outcome::GoAway(code::PROTOCOL_ERROR),
];
/// After a reset of the client's, what comes may be taken for late, too.
const AFTER_RESET: &[Outcome] = &[
    Outcome::Reset(code::STREAM_CLOSED),
    Outcome::GoAway(code::STREAM_CLOSED),
    Outcome::GoAway(code::PROTOCOL_ERROR),
    Outcome::Ignored,
];

const CLOSED: &[Case] = &[
    Case(
        "DATA",
        |h2| {
            let stream = closed(h2);
            reaction(h2, &[Frame::data(stream, *b"x", true)], stream)
        },
        CLOSED_OR_FORGOTTEN,
    ),
    Case(
        "HEADERS",
        |h2| {
            let stream = closed(h2);
            reaction(h2, &[request(stream)], stream)
        },
        CLOSED_OR_FORGOTTEN,
    ),
    Case(
        "CONTINUATION",
        |h2| {
            let stream = closed(h2);
            reaction(h2, &[Frame::continuation(stream, [], true)], stream)
        },
        PROTOCOL,
    ),
    Case(
        "WINDOW_UPDATE, RST_STREAM and PRIORITY",
        |h2| {
            let stream = closed(h2);
            let frames = [
                Frame::window(stream, 1),
                Frame::priority(stream, 0, 1),
                Frame::reset(stream, code::CANCEL),
            ];
            reaction(h2, &frames, stream)
        },
        IGNORED,
    ),
    Case(
        "DATA after RST_STREAM",
        |h2| {
            let stream = h2.request_with_body(&post("/echo"));
            h2.push(&[Frame::reset(stream, code::CANCEL)]);
            reaction(h2, &[Frame::data(stream, *b"x", true)], stream)
        },
        AFTER_RESET,
    ),
    Case(
        "HEADERS after RST_STREAM",
        |h2| {
            let stream = h2.request_with_body(&post("/echo"));
            h2.push(&[Frame::reset(stream, code::CANCEL)]);
            reaction(h2, &[request(stream)], stream)
        },
        AFTER_RESET,
    ),
];

/// Section 5.1.1.
const IDENTIFIERS: &[Case] = &[
    Case("0", |h2| reaction(h2, &[request(0)], 0), PROTOCOL),
    Case("an even one", |h2| reaction(h2, &[request(2)], 2), PROTOCOL),
    Case(
        "one below the last, which is closed by that",
        |h2| {
            h2.push(&[request(5)]);
            assert_eq!(h2.outcome(5), Outcome::Response(200));
            reaction(h2, &[request(3)], 3)
        },
        CLOSED_OR_FORGOTTEN,
    ),
    Case(
        "some are left out",
        |h2| {
            h2.push(&[request(101)]);
            Look::Answer(101)
        },
        SERVED,
    ),
];

/// Section 5.3.1 has deprecated priorities; RFC 7540 had an error of the stream for this.
const ITSELF: &[Outcome] = &[
    Outcome::Ignored,
    Outcome::Response(200),
    Outcome::Reset(code::PROTOCOL_ERROR),
    Outcome::GoAway(code::PROTOCOL_ERROR),
];

const PRIORITIES: &[Case] = &[
    Case("PRIORITY on itself, idle", |h2| reaction(h2, &[Frame::priority(1, 1, 1)], 1), ITSELF),
    Case(
        "PRIORITY on itself, open",
        |h2| {
            let stream = half_closed(h2);
            reaction(h2, &[Frame::priority(stream, stream, 1)], stream)
        },
        ITSELF,
    ),
    Case(
        "HEADERS on itself",
        |h2| {
            let stream = h2.open();
            let mut payload = stream.to_be_bytes().to_vec();
            payload.push(1);
            payload.extend(hpack::block(&get("/")));
            let frame = Frame::headers(stream, payload, true);
            h2.push(&[frame.flagged(osmia_tests::h2::flag::PRIORITY)]);
            Look::Answer(stream)
        },
        ITSELF,
    ),
    Case(
        "a ring of dependencies",
        |h2| {
            let frames: Vec<Frame> =
                (0..50).map(|n| Frame::priority(n * 2 + 1, (n + 1) % 50 * 2 + 1, 9)).collect();
            h2.push(&frames);
            CONNECTION
        },
        IGNORED,
    ),
];

on_each_driver! {
    fn idle_streams(driver: Driver) {
        Front::start(driver).check(IDLE);
    }

    fn half_closed_streams(driver: Driver) {
        Front::start(driver).check(HALF_CLOSED);
    }

    fn closed_streams(driver: Driver) {
        Front::start(driver).check(CLOSED);
    }

    fn identifiers(driver: Driver) {
        Front::start(driver).check(IDENTIFIERS);
    }

    fn priorities(driver: Driver) {
        Front::start(driver).check(PRIORITIES);
    }

    /// The last identifier there is; the next connection has all of them again.
    fn identifiers_end(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let last = (1 << 31) - 1;
        h2.push(&[request(last)]);
        assert_eq!(h2.outcome(last), Outcome::Response(200));
        h2.push(&[request(1)]);
        let outcome = h2.reaction(1);
        assert!(CLOSED_OR_FORGOTTEN.contains(&outcome), "{outcome:?}");
        front.check_serves();
    }

    /// Section 5.1.2.
    fn streams_beyond_the_limit_are_refused(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let limit = h2.setting(setting::MAX_CONCURRENT_STREAMS, u32::MAX);
        assert!(limit <= 1000, "a limit of {limit} is none");
        let held: Vec<u32> = (0..limit).map(|_| h2.get("/hold")).collect();
        let beyond: Vec<u32> = (0..3).map(|_| h2.get("/beyond")).collect();
        for stream in beyond {
            let outcome = h2.outcome(stream);
            let fitting = [Outcome::Reset(code::REFUSED_STREAM), Outcome::Reset(code::PROTOCOL_ERROR)];
            assert!(fitting.contains(&outcome), "{outcome:?}");
        }
        // Others are served meanwhile, and these when it is their turn.
        front.check_serves();
        front.origin.release();
        for stream in held {
            assert_eq!(h2.response(stream).text(), "held");
        }
        assert!(front.origin.seen().iter().all(|seen| seen.target() != "/beyond"));
        let stream = h2.get("/");
        assert_eq!(h2.response(stream).text(), "hello");
    }

    /// A stream that the client gave up makes room for another.
    fn reset_streams_are_not_counted(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let limit = h2.setting(setting::MAX_CONCURRENT_STREAMS, u32::MAX);
        let held: Vec<u32> = (0..limit.min(1000)).map(|_| h2.get("/hold")).collect();
        h2.sync();
        for stream in held.iter().take(5) {
            h2.push(&[Frame::reset(*stream, code::CANCEL)]);
        }
        h2.sync();
        for _ in 0..5 {
            let stream = h2.get("/");
            assert_eq!(h2.response(stream).text(), "hello");
        }
        front.origin.release();
        for stream in held.into_iter().skip(5) {
            assert_eq!(h2.response(stream).text(), "held");
        }
    }
}
