//! Section 6: each type of frame, with wrong streams, lengths and values.

use osmia_tests::h2::{Frame, H2, Outcome, code, flag, get, hpack, kind, setting};
use osmia_tests::{Config, Upstream, on_each_driver};

use super::{
    CONNECTION, Case, FLOW_CONTROL, FRAME_SIZE, Front, IGNORED, Look, PROTOCOL, SERVED,
    STREAM_FRAME_SIZE, post,
};

/// Either is fitting where a frame is too short for what its flags say.
const SHORT: &[Outcome] =
    &[Outcome::GoAway(code::FRAME_SIZE_ERROR), Outcome::GoAway(code::PROTOCOL_ERROR)];

fn reaction(h2: &mut H2, frame: Frame) -> Look {
    h2.push(&[frame]);
    CONNECTION
}

/// A frame on an open upload.
fn upload(h2: &mut H2, frames: fn(u32) -> Vec<Frame>) -> Look {
    let stream = h2.request_with_body(&post("/echo"));
    h2.push(&frames(stream));
    Look::Answer(stream)
}

/// A request in a HEADERS that is changed.
fn headers(h2: &mut H2, change: fn(Frame) -> Frame) -> Look {
    let stream = h2.open();
    h2.push(&[change(Frame::headers(stream, hpack::block(&get("/")), true))]);
    Look::Answer(stream)
}

const DATA: &[Case] = &[
    Case("on stream 0", |h2| reaction(h2, Frame::data(0, *b"x", true)), PROTOCOL),
    Case(
        "more padding than payload",
        |h2| upload(h2, |s| vec![Frame::data(s, *b"x", true).padded(9, 3)]),
        PROTOCOL,
    ),
    Case(
        "as much padding as payload",
        |h2| upload(h2, |s| vec![Frame::data(s, [], true).padded(1, 0)]),
        PROTOCOL,
    ),
    Case(
        "without the length of its padding",
        |h2| upload(h2, |s| vec![Frame::data(s, [], true).flagged(flag::PADDED)]),
        SHORT,
    ),
    Case(
        "with padding",
        |h2| upload(h2, |s| vec![Frame::data(s, *b"x", true).padded(200, 200)]),
        SERVED,
    ),
    Case(
        "only padding",
        |h2| upload(h2, |s| vec![Frame::data(s, [], true).padded(10, 10)]),
        SERVED,
    ),
];

const HEADERS: &[Case] = &[
    Case(
        "on stream 0",
        |h2| reaction(h2, Frame::headers(0, hpack::block(&get("/")), true)),
        PROTOCOL,
    ),
    Case("more padding than payload", |h2| headers(h2, |f| f.padded(255, 3)), PROTOCOL),
    Case(
        "without the length of its padding",
        |h2| reaction(h2, Frame::headers(1, [], true).flagged(flag::PADDED)),
        SHORT,
    ),
    Case(
        "too short for a priority",
        |h2| reaction(h2, Frame::headers(1, [0, 0, 0], true).flagged(flag::PRIORITY)),
        SHORT,
    ),
    Case("with padding", |h2| headers(h2, |f| f.padded(50, 50)), SERVED),
    Case(
        "with padding and a priority",
        |h2| {
            headers(h2, |mut frame| {
                frame.payload.splice(0..0, [0x80, 0, 0, 0, 200]);
                frame.flagged(flag::PRIORITY).padded(7, 7)
            })
        },
        SERVED,
    ),
];

const PRIORITY: &[Case] = &[
    Case("on stream 0", |h2| reaction(h2, Frame::priority(0, 1, 1)), PROTOCOL),
    Case(
        "of four bytes",
        |h2| {
            h2.push(&[Frame::new(kind::PRIORITY, 0, 1, [0; 4])]);
            Look::Reaction(1)
        },
        STREAM_FRAME_SIZE,
    ),
    Case(
        "of six bytes",
        |h2| {
            h2.push(&[Frame::new(kind::PRIORITY, 0, 1, [0; 6])]);
            Look::Reaction(1)
        },
        STREAM_FRAME_SIZE,
    ),
];

const RST_STREAM: &[Case] = &[
    Case("on stream 0", |h2| reaction(h2, Frame::reset(0, code::CANCEL)), PROTOCOL),
    Case(
        "of three bytes",
        |h2| {
            let stream = h2.get("/hold");
            reaction(h2, Frame::new(kind::RST_STREAM, 0, stream, [0; 3]))
        },
        FRAME_SIZE,
    ),
    Case(
        "of five bytes",
        |h2| {
            let stream = h2.get("/hold");
            reaction(h2, Frame::new(kind::RST_STREAM, 0, stream, [0; 5]))
        },
        FRAME_SIZE,
    ),
    Case(
        "with a code that nobody knows",
        |h2| {
            let stream = h2.get("/hold");
            reaction(h2, Frame::reset(stream, 0xdead_beef))
        },
        IGNORED,
    ),
];

fn set(h2: &mut H2, name: u16, value: u32) -> Look {
    reaction(h2, Frame::settings(&[(name, value)]))
}

const SETTINGS: &[Case] = &[
    Case("on a stream", |h2| reaction(h2, Frame::new(kind::SETTINGS, 0, 1, [])), PROTOCOL),
    Case("of five bytes", |h2| reaction(h2, Frame::new(kind::SETTINGS, 0, 0, [0; 5])), FRAME_SIZE),
    Case("of seven bytes", |h2| reaction(h2, Frame::new(kind::SETTINGS, 0, 0, [0; 7])), FRAME_SIZE),
    Case(
        "an acknowledgement with a payload",
        |h2| {
            let payload = Frame::settings(&[(setting::ENABLE_PUSH, 0)]).payload;
            reaction(h2, Frame::new(kind::SETTINGS, flag::ACK, 0, payload))
        },
        FRAME_SIZE,
    ),
    Case("ENABLE_PUSH of 2", |h2| set(h2, setting::ENABLE_PUSH, 2), PROTOCOL),
    Case("a window of 2^31", |h2| set(h2, setting::INITIAL_WINDOW_SIZE, 1 << 31), FLOW_CONTROL),
    Case("a window of 2^32 - 1", |h2| set(h2, setting::INITIAL_WINDOW_SIZE, !0), FLOW_CONTROL),
    Case("a frame size of 2^14 - 1", |h2| set(h2, setting::MAX_FRAME_SIZE, 16_383), PROTOCOL),
    Case("a frame size of 2^24", |h2| set(h2, setting::MAX_FRAME_SIZE, 1 << 24), PROTOCOL),
    Case("a frame size of 0", |h2| set(h2, setting::MAX_FRAME_SIZE, 0), PROTOCOL),
    // RFC 8441, section 3, is about what servers send.
    Case(
        "ENABLE_CONNECT_PROTOCOL of 2",
        |h2| set(h2, setting::ENABLE_CONNECT_PROTOCOL, 2),
        &[Outcome::Ignored, Outcome::GoAway(code::PROTOCOL_ERROR)],
    ),
    Case("no push", |h2| set(h2, setting::ENABLE_PUSH, 0), IGNORED),
    Case("the largest frame size", |h2| set(h2, setting::MAX_FRAME_SIZE, (1 << 24) - 1), IGNORED),
    Case("no streams of the server's", |h2| set(h2, setting::MAX_CONCURRENT_STREAMS, 0), IGNORED),
    Case("an unknown one", |h2| set(h2, 0x1234, 5), IGNORED),
    Case("an empty one", |h2| reaction(h2, Frame::settings(&[])), IGNORED),
    Case(
        "an acknowledgement of nothing",
        |h2| reaction(h2, Frame::settings_ack()),
        &[Outcome::Ignored, Outcome::GoAway(code::PROTOCOL_ERROR)],
    ),
];

const PUSH_PROMISE: &[Case] = &[
    Case(
        "on an open stream",
        |h2| {
            let stream = h2.get("/hold");
            let payload = [2_u32.to_be_bytes().to_vec(), hpack::block(&get("/"))].concat();
            reaction(h2, Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, stream, payload))
        },
        PROTOCOL,
    ),
    Case(
        "on stream 0",
        |h2| reaction(h2, Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, 0, [0, 0, 0, 2])),
        PROTOCOL,
    ),
];

const PING: &[Case] = &[
    Case("on a stream", |h2| reaction(h2, Frame::new(kind::PING, 0, 1, [0; 8])), PROTOCOL),
    Case("of seven bytes", |h2| reaction(h2, Frame::new(kind::PING, 0, 0, [0; 7])), FRAME_SIZE),
    Case("of nine bytes", |h2| reaction(h2, Frame::new(kind::PING, 0, 0, [0; 9])), FRAME_SIZE),
    Case("of no bytes", |h2| reaction(h2, Frame::new(kind::PING, 0, 0, [])), FRAME_SIZE),
    Case(
        "an acknowledgement of nothing",
        |h2| reaction(h2, Frame::new(kind::PING, flag::ACK, 0, [9; 8])),
        IGNORED,
    ),
];

const GOAWAY: &[Case] = &[
    Case("on a stream", |h2| reaction(h2, Frame::new(kind::GOAWAY, 0, 1, [0; 8])), PROTOCOL),
    Case("of seven bytes", |h2| reaction(h2, Frame::new(kind::GOAWAY, 0, 0, [0; 7])), FRAME_SIZE),
];

const WINDOW_UPDATE: &[Case] = &[
    Case(
        "of three bytes",
        |h2| reaction(h2, Frame::new(kind::WINDOW_UPDATE, 0, 0, [0, 0, 1])),
        FRAME_SIZE,
    ),
    Case(
        "of five bytes",
        |h2| reaction(h2, Frame::new(kind::WINDOW_UPDATE, 0, 0, [0, 0, 0, 0, 1])),
        FRAME_SIZE,
    ),
    Case("with the reserved bit", |h2| reaction(h2, Frame::window(0, 1 << 31 | 5)), IGNORED),
];

const CONTINUATION: &[Case] = &[
    Case("on stream 0", |h2| reaction(h2, Frame::continuation(0, [], true)), PROTOCOL),
    Case("without HEADERS", |h2| reaction(h2, Frame::continuation(1, [], true)), PROTOCOL),
    Case(
        "after END_HEADERS",
        |h2| {
            let stream = h2.request_with_body(&post("/echo"));
            reaction(h2, Frame::continuation(stream, hpack::block(&[("x", "y")]), true))
        },
        PROTOCOL,
    ),
    Case(
        "after DATA",
        |h2| {
            let stream = h2.request_with_body(&post("/echo"));
            h2.push(&[Frame::data(stream, *b"x", false)]);
            reaction(h2, Frame::continuation(stream, [], true))
        },
        PROTOCOL,
    ),
];

on_each_driver! {
    fn data(driver: Driver) {
        Front::start(driver).check(DATA);
    }

    fn headers_frames(driver: Driver) {
        Front::start(driver).check(HEADERS);
    }

    fn priority(driver: Driver) {
        Front::start(driver).check(PRIORITY);
    }

    fn rst_stream(driver: Driver) {
        Front::start(driver).check(RST_STREAM);
    }

    fn settings(driver: Driver) {
        Front::start(driver).check(SETTINGS);
    }

    fn push_promise(driver: Driver) {
        Front::start(driver).check(PUSH_PROMISE);
    }

    fn ping(driver: Driver) {
        Front::start(driver).check(PING);
    }

    fn goaway(driver: Driver) {
        Front::start(driver).check(GOAWAY);
    }

    fn window_update(driver: Driver) {
        Front::start(driver).check(WINDOW_UPDATE);
    }

    fn continuation(driver: Driver) {
        Front::start(driver).check(CONTINUATION);
    }

    /// Section 6.5.3 and 6.7: acknowledged, in order, with what was sent.
    fn settings_and_pings_are_acknowledged(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        for number in 0..5 {
            h2.send(&Frame::settings(&[(setting::MAX_FRAME_SIZE, 16_384 + number)]));
        }
        h2.until("six acknowledgements", |h2| h2.settings_acks == 6);
        for number in 0..5_u8 {
            h2.send(&Frame::ping([number; 8]));
            h2.until("the answer", |h2| h2.pongs.len() > usize::from(number));
            assert_eq!(h2.pongs.last().unwrap(), &[number; 8]);
        }
    }

    /// Frames of the server's are no larger than the client allows, and may be as large.
    fn the_clients_frame_size_is_kept_to(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.get("/size/300000");
        while !h2.streams.get(&stream).is_some_and(|exchange| exchange.ended) {
            let frame = h2.next_frame().expect("a frame");
            assert!(frame.payload.len() <= 16_384, "{frame:?}");
        }
    }

    /// Section 6.8: what is under way is finished.
    fn a_client_that_goes_away_is_served_to_the_end(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.get("/hold");
        front.origin.wait_for("/hold", 1);
        h2.send(&Frame::goaway(0, code::NO_ERROR));
        h2.sync();
        front.origin.release();
        assert_eq!(h2.response(stream).text(), "held");
        front.check_serves();
    }

    /// A stream that the client gives up is given up upstream as well: before the response, within
    /// it while nothing moves, and within an upload.
    fn a_reset_reaches_the_upstream(driver: Driver) {
        let upstream = Upstream::new();
        let gateway = Config::proxy(driver, &upstream).start();
        let mut h2 = H2::connect(gateway.addr());
        let stream = h2.get("/waiting");
        let mut peer = upstream.accept();
        peer.request();
        h2.send(&Frame::reset(stream, code::CANCEL));
        peer.expect_end();
        let stream = h2.get("/within");
        let mut peer = upstream.accept();
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart");
        h2.until("a part", |h2| h2.streams.get(&stream).is_some_and(|it| it.body == b"part"));
        h2.send(&Frame::reset(stream, code::CANCEL));
        peer.expect_end();
        let stream = h2.request_with_body(&post("/upload"));
        h2.send(&Frame::data(stream, *b"abc", false));
        let mut peer = upstream.accept();
        peer.head();
        assert_eq!(peer.chunk().unwrap(), b"abc");
        h2.send(&Frame::reset(stream, code::CANCEL));
        peer.expect_end();
        let stream = h2.get("/after");
        upstream.accept().serve_one("after");
        assert_eq!(h2.response(stream).text(), "after");
    }
}
