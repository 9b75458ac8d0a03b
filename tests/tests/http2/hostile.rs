//! Clients that take up memory: compressed heads that grow, windows that stay shut, streams and
//! connections that are left open.

use std::net::TcpStream;

use osmia_tests::h2::frame::PREFACE;
use osmia_tests::h2::{Frame, H2, Outcome, code, flag, get, hpack, setting};
use osmia_tests::{Wire, on_each_driver};

use super::{Front, post, with};

/// The most that one worker may have resident in any of these; unbounded would be gigabytes.
const MOST: u64 = 320 << 20;

#[track_caller]
fn check_memory(front: &Front) {
    let resident = front.gateway.resident();
    assert!(resident < MOST, "{} MiB are resident", resident >> 20);
}

/// Refused in one way or another: never served.
#[track_caller]
fn assert_refused(outcome: Outcome) {
    let served = matches!(outcome, Outcome::Response(status) if status < 400);
    assert!(!served && outcome != Outcome::Ignored, "{outcome:?}");
}

on_each_driver! {
    /// A field of 4000 bytes in the table, and a head of references to it: 60 MiB in 16 KiB.
    fn an_hpack_bomb(driver: Driver) {
        let front = Front::start(driver);
        let before = front.gateway.resident();
        for _ in 0..20 {
            let mut h2 = front.connect();
            let mut block = hpack::block(&get("/bomb"));
            hpack::indexing(&mut block, b"x", &[b'y'; 4000]);
            block.resize(16_384, 0xbe);
            h2.push(&[Frame::headers(1, block, true)]);
            assert_refused(h2.outcome(1));
        }
        let after = front.gateway.resident();
        assert!(after < before + (64 << 20), "{} MiB", after >> 20);
        assert!(front.origin.seen().is_empty());
        front.check_serves();
    }

    /// References of one byte to an empty field: as many fields as bytes.
    fn an_hpack_bomb_of_empty_fields(driver: Driver) {
        let front = Front::start(driver);
        for _ in 0..20 {
            let mut h2 = front.connect();
            let mut block = hpack::block(&get("/bomb"));
            hpack::indexing(&mut block, b"x", b"");
            block.resize(16_384, 0xbe);
            h2.push(&[Frame::headers(1, block, true)]);
            assert_refused(h2.outcome(1));
        }
        assert!(front.origin.seen().is_empty());
        check_memory(&front);
        front.check_serves();
    }

    /// Cookies, which are joined to one field.
    fn a_bomb_of_cookies(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let mut block = hpack::block(&get("/bomb"));
        hpack::indexing(&mut block, b"cookie", &[b'y'; 3000]);
        block.resize(16_384, 0xbe);
        h2.push(&[Frame::headers(1, block, true)]);
        assert_refused(h2.outcome(1));
        assert!(front.origin.seen().is_empty());
        check_memory(&front);
        front.check_serves();
    }

    fn a_header_list_over_the_limit(driver: Driver) {
        let front = Front::start(driver);
        for count in [60, 200, 1000] {
            let mut h2 = front.connect();
            let value = "v".repeat(1000);
            let many: Vec<(&str, &str)> = (0..count).map(|_| ("x-much", value.as_str())).collect();
            let block = hpack::block(&with(&get("/list"), &many));
            let mut pieces = block.chunks(16_000).peekable();
            let first = pieces.next().unwrap();
            h2.push(&[Frame::headers(1, first, true).unflagged(flag::END_HEADERS)]);
            while let Some(piece) = pieces.next() {
                h2.push(&[Frame::continuation(1, piece, pieces.peek().is_none())]);
            }
            assert_refused(h2.outcome(1));
        }
        assert!(front.origin.seen().is_empty());
        front.check_serves();
    }

    /// Trailers are a head, too.
    fn trailers_over_the_limit(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.request_with_body(&post("/echo"));
        let value = "v".repeat(1500);
        let many: Vec<(&str, &str)> = (0..10).map(|_| ("x-much", value.as_str())).collect();
        h2.push(&[Frame::data(stream, *b"abc", false), Frame::headers(stream, hpack::block(&many), true)]);
        assert_refused(h2.outcome(stream));
        front.check_serves();
    }

    /// Many large responses asked for, and no window to send them.
    fn windows_that_stay_shut(driver: Driver) {
        let front = Front::start(driver);
        let mut stalled = Vec::new();
        for _ in 0..5 {
            let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
            let streams: Vec<u32> = (0..60).map(|_| h2.get("/size/10000000")).collect();
            h2.until("heads", |h2| {
                streams.iter().all(|stream| h2.streams.get(stream).is_some_and(|it| it.status() == 200 || it.reset.is_some()))
            });
            stalled.push(h2);
        }
        front.check_serves();
        check_memory(&front);
    }

    /// Windows as large as they can be, and a socket that nobody reads.
    fn sockets_that_are_not_read(driver: Driver) {
        let front = Front::start(driver);
        let mut stalled = Vec::new();
        for _ in 0..10 {
            let stream = TcpStream::connect(front.gateway.addr()).unwrap();
            Wire::new(stream.try_clone().unwrap()).shrink_receive_buffer();
            let mut h2 = H2::over(stream);
            h2.start(&[(setting::INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
            h2.send(&Frame::window(0, (1 << 31) - 1 - 65_535));
            for _ in 0..10 {
                h2.get("/size/100000000");
            }
            stalled.push(h2);
        }
        front.origin.wait_for("/size/100000000", 20);
        for _ in 0..5 {
            front.check_serves();
        }
        check_memory(&front);
    }

    /// A window of one byte at a time.
    fn windows_that_dribble(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        h2.refills = false;
        let stream = h2.get("/size/3000");
        for count in 1..=3000 {
            h2.send(&Frame::window(stream, 1));
            if count % 100 == 0 {
                h2.until("the bytes", |h2| h2.ended || h2.streams.get(&stream).is_some_and(|it| it.body.len() >= count));
                front.check_serves();
            }
        }
        assert_eq!(h2.response(stream).body.len(), 3000);
        check_memory(&front);
    }

    /// As many streams as there may be, on many connections, none of which goes on.
    fn thousands_of_open_streams(driver: Driver) {
        let front = Front::start(driver);
        let mut open = Vec::new();
        for _ in 0..20 {
            let mut h2 = front.connect();
            for _ in 0..100 {
                h2.request_with_body(&post("/stuck"));
            }
            h2.sync();
            open.push(h2);
        }
        front.check_serves();
        check_memory(&front);
        drop(open);
        front.check_serves();
    }

    /// What is begun and not finished is ended when its time is over: a preface, a frame, a header
    /// block, and a connection without streams.
    fn half_open_connections_are_closed(driver: Driver) {
        let front = Front::start_with(driver, |config| {
            config.http("client_header_timeout", "1s").http("keepalive_timeout", "1s")
        });
        let settings = Frame::settings(&[]).bytes();
        let head = Frame::headers(1, hpack::block(&get("/never")), true);
        let begun = head.clone().unflagged(flag::END_HEADERS).bytes();
        let cut = &head.bytes()[..20];
        let starts: [&[&[u8]]; 5] = [
            &[&PREFACE[..20]],
            &[PREFACE],
            &[PREFACE, &settings],
            &[PREFACE, &settings, &begun],
            &[PREFACE, &settings, cut],
        ];
        let mut open: Vec<H2> = Vec::new();
        for start in starts {
            for _ in 0..20 {
                let mut h2 = H2::silent(front.gateway.addr());
                h2.send_bytes(&start.concat());
                open.push(h2);
            }
        }
        front.check_serves();
        for mut h2 in open {
            h2.wait_for_end();
        }
        assert!(front.origin.seen().iter().all(|seen| seen.target() != "/never"));
        front.check_serves();
    }

    /// The frames of a connection do not keep one of its streams alive.
    fn a_body_that_pauses_too_long_is_given_up(driver: Driver) {
        let front = Front::start_with(driver, |config| config.http("client_body_timeout", "1s"));
        let mut h2 = front.connect();
        let stream = h2.request_with_body(&with(&post("/echo"), &[("content-length", "10")]));
        h2.send(&Frame::data(stream, *b"abc", false));
        let outcome = h2.outcome(stream);
        let fitting = [
            Outcome::Response(408),
            Outcome::Response(400),
            Outcome::Reset(code::CANCEL),
            Outcome::Reset(code::NO_ERROR),
            Outcome::Reset(code::PROTOCOL_ERROR),
            Outcome::Reset(code::INTERNAL_ERROR),
            Outcome::Reset(code::ENHANCE_YOUR_CALM),
            Outcome::Closed,
        ];
        assert!(fitting.contains(&outcome), "{outcome:?}");
        assert!(front.origin.seen().iter().all(|seen| seen.target() != "/echo"));
        front.check_serves();
    }

    /// A client that takes nothing of a response for longer than `send_timeout`.
    fn a_response_that_is_not_taken_is_given_up(driver: Driver) {
        let front = Front::start_with(driver, |config| config.http("send_timeout", "1s"));
        let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 10)]);
        h2.refills = false;
        let stream = h2.get("/size/100000");
        let outcome = h2.outcome(stream);
        assert!(matches!(outcome, Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed), "{outcome:?}");
        front.check_serves();
    }
}
