//! Floods of small frames: each is ended, refused or held back, in bounded memory, and a client that
//! behaves is served by the same worker meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use osmia_tests::h2::{Frame, H2, Outcome, code, flag, get, hpack, kind, setting};
use osmia_tests::on_each_driver;

use super::{Front, post};

/// What a worker may need beyond what it has when idle. Unbounded growth is far more.
const GROWTH: u64 = 64 << 20;

/// What came of a flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A GOAWAY with an error.
    GoAway(u32),
    /// The connection was closed without one.
    Closed,
    /// The server has stopped reading.
    HeldBack,
    /// All was taken.
    Taken,
}

/// Sends `rounds` batches of frames, reading nothing but at the end; `batch` has the round.
fn flood(h2: &mut H2, rounds: u32, mut batch: impl FnMut(u32) -> Vec<Frame>) -> End {
    // Not an assertion on time: a server that takes nothing for so long is holding back.
    h2.socket().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    for round in 0..rounds {
        let bytes: Vec<u8> = batch(round).iter().flat_map(Frame::bytes).collect();
        match h2.try_send_bytes(&bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return End::HeldBack,
            Err(_) => return ended(h2),
        }
    }
    match h2.reaction(0) {
        Outcome::GoAway(code) => End::GoAway(code),
        Outcome::Closed => End::Closed,
        _ => End::Taken,
    }
}

fn ended(h2: &mut H2) -> End {
    h2.wait_for_end().map_or(End::Closed, End::GoAway)
}

/// Plays `attack` while another client goes on making requests, each on a new connection, of which
/// some must succeed and none may fail; then looks at the memory.
#[track_caller]
fn withstands(front: &Front, attack: impl FnOnce() -> End) -> End {
    let before = front.gateway.resident();
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let end = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !over.load(Ordering::Acquire) || served.load(Ordering::Acquire) == 0 {
                front.check_serves();
                served.fetch_add(1, Ordering::AcqRel);
            }
        });
        let end = attack();
        over.store(true, Ordering::Release);
        client.join().unwrap();
        end
    });
    let after = front.gateway.resident();
    assert!(after < before + GROWTH, "{} KiB, from {} KiB", after >> 10, before >> 10);
    front.check_serves();
    end
}

/// Errors that say what is wrong with a client that floods.
#[track_caller]
fn assert_ended(end: End) {
    let fitting = [
        End::GoAway(code::ENHANCE_YOUR_CALM),
        End::GoAway(code::PROTOCOL_ERROR),
        End::GoAway(code::FLOW_CONTROL_ERROR),
        End::GoAway(code::COMPRESSION_ERROR),
        End::Closed,
    ];
    assert!(fitting.contains(&end), "{end:?}");
}

/// Whether a client that does nothing but cost was sent away for that; what it still sends may reset
/// the connection before it reads why.
fn is_calm(end: End) -> bool {
    matches!(end, End::GoAway(code::ENHANCE_YOUR_CALM) | End::Closed)
}

/// A request and its end by the client.
fn opened_and_reset(number: u32, path: &str) -> [Frame; 2] {
    let stream = number * 2 + 1;
    let head = Frame::headers(stream, hpack::block(&get(path)), true);
    [head, Frame::reset(stream, code::CANCEL)]
}

on_each_driver! {
    /// CVE-2023-44487.
    fn rapid_reset(driver: Driver) {
        let front = Front::start(driver);
        let end = withstands(&front, || {
            let mut h2 = front.connect();
            flood(&mut h2, 2000, |round| {
                (0..50).flat_map(|number| opened_and_reset(round * 50 + number, "/hold")).collect()
            })
        });
        assert_ended(end);
        let asked = front.origin.seen().iter().filter(|seen| seen.target() == "/hold").count();
        assert!(asked < 2000, "{asked} requests went to the upstream");
    }

    /// The same by the server's own resets: each request is an error of its stream.
    fn resets_that_are_provoked(driver: Driver) {
        let front = Front::start(driver);
        let end = withstands(&front, || {
            let mut h2 = front.connect();
            flood(&mut h2, 2000, |round| {
                (0..50).flat_map(|number| {
                    let stream = (round * 50 + number) * 2 + 1;
                    let head = Frame::headers(stream, hpack::block(&post("/stuck")), false);
                    [head, Frame::window(stream, 0)]
                }).collect()
            })
        });
        assert_ended(end);
    }

    /// CVE-2025-8671: the client sees to it that the server resets, by a window that overflows.
    fn made_you_reset(driver: Driver) {
        let front = Front::start(driver);
        let end = withstands(&front, || {
            let mut h2 = front.connect();
            flood(&mut h2, 2000, |round| {
                (0..50).flat_map(|number| {
                    let stream = (round * 50 + number) * 2 + 1;
                    let head = Frame::headers(stream, hpack::block(&get("/hold")), true);
                    [head, Frame::window(stream, (1 << 31) - 1)]
                }).collect()
            })
        });
        assert_ended(end);
    }

    /// CVE-2024-27316.
    fn continuation_without_end(driver: Driver) {
        let front = Front::start(driver);
        let end = withstands(&front, || {
            let mut h2 = front.connect();
            h2.push(&[Frame::headers(1, hpack::block(&get("/")), true).unflagged(flag::END_HEADERS)]);
            let piece = hpack::block(&[("x", &"y".repeat(1000))]);
            flood(&mut h2, 20_000, |_| vec![Frame::continuation(1, piece.clone(), false)])
        });
        assert_ended(end);
    }

    /// The same with frames of nothing.
    fn empty_continuation_without_end(driver: Driver) {
        let front = Front::start(driver);
        let end = withstands(&front, || {
            let mut h2 = front.connect();
            h2.push(&[Frame::headers(1, hpack::block(&get("/")), true).unflagged(flag::END_HEADERS)]);
            flood(&mut h2, 2000, |_| vec![Frame::continuation(1, [], false); 100])
        });
        assert_ended(end);
    }

    fn headers_without_fields(driver: Driver) {
        let front = Front::start(driver);
        let end = withstands(&front, || {
            let mut h2 = front.connect();
            flood(&mut h2, 1000, |round| {
                (0..50).map(|number| Frame::headers((round * 50 + number) * 2 + 1, [], true)).collect()
            })
        });
        assert_ended(end);
    }

    /// Each is answered; the answers are not read.
    fn settings(driver: Driver) {
        let front = Front::start(driver);
        let end = withstands(&front, || {
            let mut h2 = front.connect();
            let frame = Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1000); 10]);
            flood(&mut h2, 2000, |_| vec![frame.clone(); 50])
        });
        // Answers that nobody reads are held back before they are too many.
        assert!(end == End::HeldBack || is_calm(end), "{end:?}");
    }

    fn pings(driver: Driver) {
        let front = Front::start(driver);
        let end = withstands(&front, || {
            let mut h2 = front.connect();
            h2.acknowledges = false;
            match flood(&mut h2, 2000, |_| vec![Frame::ping([1; 8]); 200]) {
                // An answer to an early one says nothing about the later ones.
                End::Taken => ended(&mut h2),
                end => end,
            }
        });
        // Answers that nobody reads are held back before they are too many.
        assert!(end == End::HeldBack || is_calm(end), "{end:?}");
    }

    fn priorities(driver: Driver) {
        let front = Front::start(driver);
        let end = withstands(&front, || {
            let mut h2 = front.connect();
            flood(&mut h2, 1000, |round| {
                (0..200).map(|number| Frame::priority((round * 200 + number) * 2 + 1, 0, 7)).collect()
            })
        });
        assert!(is_calm(end), "{end:?}");
    }

    fn window_updates(driver: Driver) {
        let front = Front::start(driver);
        withstands(&front, || {
            let mut h2 = front.connect();
            let stream = h2.get("/hold");
            flood(&mut h2, 1000, |_| vec![Frame::window(stream, 1); 200])
        });
        front.origin.release();
    }

    /// CVE-2019-9518, where nobody takes the body.
    fn empty_data(driver: Driver) {
        let front = Front::start(driver);
        withstands(&front, || {
            let mut h2 = front.connect();
            let stream = h2.request_with_body(&post("/stuck"));
            h2.sync();
            flood(&mut h2, 3000, |_| vec![Frame::data(stream, [], false); 200])
        });
    }

    /// DATA of a byte each, where nobody takes the body.
    fn tiny_data(driver: Driver) {
        let front = Front::start(driver);
        withstands(&front, || {
            let mut h2 = front.connect();
            let stream = h2.request_with_body(&post("/stuck"));
            h2.sync();
            flood(&mut h2, 600, |_| vec![Frame::data(stream, [1], false).padded(0, 0); 50])
        });
    }

    fn unknown_frames(driver: Driver) {
        let front = Front::start(driver);
        withstands(&front, || {
            let mut h2 = front.connect();
            flood(&mut h2, 1000, |_| vec![Frame::new(0x77, 0xff, 3, [0; 100]); 100])
        });
    }

    fn acknowledgements_of_nothing(driver: Driver) {
        let front = Front::start(driver);
        withstands(&front, || {
            let mut h2 = front.connect();
            flood(&mut h2, 500, |_| vec![Frame::new(kind::PING, flag::ACK, 0, [1; 8]); 200])
        });
    }
}
