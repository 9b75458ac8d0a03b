//! Section 5.2 and 6.9: flow control.

use osmia_tests::h2::{Frame, H2, code, setting};
use osmia_tests::{on_each_driver, pattern};

use super::{
    Case, FLOW_CONTROL, Front, IGNORED, Look, PROTOCOL, STREAM_FLOW_CONTROL, STREAM_PROTOCOL, post,
};

const MOST: u32 = (1 << 31) - 1;

/// A stream that stays open.
fn held(h2: &mut H2) -> u32 {
    let stream = h2.get("/hold");
    h2.sync();
    stream
}

fn reaction(h2: &mut H2, frames: &[Frame], stream: u32) -> Look {
    h2.push(frames);
    Look::Reaction(stream)
}

const UPDATES: &[Case] = &[
    Case("nothing for the connection", |h2| reaction(h2, &[Frame::window(0, 0)], 0), PROTOCOL),
    Case(
        "nothing for a stream",
        |h2| {
            let stream = held(h2);
            reaction(h2, &[Frame::window(stream, 0)], stream)
        },
        STREAM_PROTOCOL,
    ),
    Case(
        "too much for the connection",
        |h2| reaction(h2, &[Frame::window(0, MOST)], 0),
        FLOW_CONTROL,
    ),
    Case(
        "too much for the connection, in steps",
        |h2| {
            let frames = [Frame::window(0, MOST - 65_535), Frame::window(0, 1)];
            reaction(h2, &frames, 0)
        },
        FLOW_CONTROL,
    ),
    Case(
        "too much for a stream",
        |h2| {
            let stream = held(h2);
            reaction(h2, &[Frame::window(stream, MOST)], stream)
        },
        STREAM_FLOW_CONTROL,
    ),
    Case(
        "as much as there can be",
        |h2| {
            let stream = held(h2);
            let frames = [Frame::window(0, MOST - 65_535), Frame::window(stream, MOST - 65_535)];
            reaction(h2, &frames, stream)
        },
        IGNORED,
    ),
    Case(
        "SETTINGS that take a stream beyond",
        |h2| {
            let stream = held(h2);
            h2.push(&[Frame::window(stream, MOST - 65_535)]);
            let more = Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_536)]);
            reaction(h2, &[more], stream)
        },
        FLOW_CONTROL,
    ),
];

/// How much of `stream` has come once the server has nothing more to say.
fn received(h2: &mut H2, stream: u32) -> usize {
    for _ in 0..3 {
        h2.sync();
    }
    h2.streams.get(&stream).map_or(0, |exchange| exchange.body.len())
}

fn wait_for_bytes(h2: &mut H2, stream: u32, count: usize) {
    h2.until(&format!("{count} bytes"), |h2| {
        h2.streams.get(&stream).is_some_and(|exchange| exchange.body.len() >= count)
    });
    assert_eq!(received(h2, stream), count, "more than the window allows");
}

on_each_driver! {
    fn window_updates(driver: Driver) {
        Front::start(driver).check(UPDATES);
    }

    /// Byte by byte, and nothing beyond.
    fn the_clients_stream_window_is_kept_to(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 1)]);
        h2.refills = false;
        let stream = h2.get("/size/10");
        for count in 1..10 {
            wait_for_bytes(&mut h2, stream, count);
            h2.send(&Frame::window(stream, 1));
        }
        pattern::check(0, &h2.response(stream).body);
    }

    fn the_clients_connection_window_is_kept_to(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
        h2.refills = false;
        let stream = h2.get("/size/200000");
        wait_for_bytes(&mut h2, stream, 65_535);
        // What is answered without a body needs no window.
        let other = h2.get("/status/204");
        assert_eq!(h2.response(other).status(), 204);
        h2.send(&Frame::window(0, 1));
        wait_for_bytes(&mut h2, stream, 65_536);
        h2.send(&Frame::window(0, 1 << 20));
        let answer = h2.response(stream);
        assert_eq!(answer.body.len(), 200_000);
        pattern::check(0, &answer.body);
    }

    /// A window of 0 lets heads and ends without DATA through.
    fn a_window_of_zero_holds_bodies_only(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        let stream = h2.get("/size/5");
        h2.until("a head", |h2| h2.streams.get(&stream).is_some_and(|it| it.status() == 200));
        assert_eq!(received(&mut h2, stream), 0);
        let other = h2.get("/status/204");
        assert_eq!(h2.response(other).status(), 204);
        let empty = h2.get("/size/0");
        assert_eq!(h2.response(empty).status(), 200);
        h2.send(&Frame::window(stream, 5));
        assert_eq!(h2.response(stream).body.len(), 5);
    }

    /// Section 6.9.2: settings change the windows of open streams, also to below zero.
    fn settings_change_open_windows(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        h2.refills = false;
        let stream = h2.get("/size/300");
        h2.send(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 100)]));
        wait_for_bytes(&mut h2, stream, 100);
        h2.send(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 30)]));
        // 70 below zero.
        h2.send(&Frame::window(stream, 70));
        assert_eq!(received(&mut h2, stream), 100);
        h2.send(&Frame::window(stream, 1));
        wait_for_bytes(&mut h2, stream, 101);
        h2.send(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 40)]));
        wait_for_bytes(&mut h2, stream, 111);
        h2.send(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)]));
        pattern::check(0, &h2.response(stream).body);
    }

    /// The connection's window is not one of SETTINGS (section 6.9.2).
    fn settings_do_not_change_the_connections_window(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::connect_with(front.gateway.addr(), &[(setting::INITIAL_WINDOW_SIZE, 10)]);
        h2.refills = false;
        let stream = h2.get("/size/100000");
        h2.send(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1_000_000)]));
        wait_for_bytes(&mut h2, stream, 65_535);
        h2.send(&Frame::window(0, 100_000));
        assert_eq!(h2.response(stream).body.len(), 100_000);
    }

    /// A client that does not keep to a stream's window, where nobody reads the body.
    fn a_window_that_is_not_kept_to_is_an_error(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.request_with_body(&post("/stuck"));
        let frame = Frame::data(stream, vec![0; 16_384], false);
        // More than any window that a server would give to a stream whose body nobody takes.
        for _ in 0..1024 {
            h2.push(std::slice::from_ref(&frame));
        }
        let outcome = h2.reaction(stream);
        assert!(crate::fits(outcome, STREAM_FLOW_CONTROL), "{outcome:?}");
        front.check_serves();
    }

    /// All of the connection's window taken by uploads that nobody reads; other connections, and
    /// requests without a body on this one, go on.
    fn a_stuck_upload_holds_nobody_else_up(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        while h2.window > 0 {
            let stream = h2.request_with_body(&post("/stuck"));
            let free = h2.free(stream).min(65_535);
            h2.send_body(stream, &vec![0; free as usize], false);
            h2.sync();
            if stream > 100 {
                break;
            }
        }
        let stream = h2.get("/");
        assert_eq!(h2.response(stream).text(), "hello");
        front.check_serves();
    }

    /// Padding counts (section 6.1), and a server that does not give it back comes to a halt.
    fn padding_is_given_back(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let stream = h2.request_with_body(&post("/echo"));
        for _ in 0..600 {
            h2.until("a window", |h2| h2.free(stream) >= 257);
            h2.send(&Frame::data(stream, [1], false).padded(255, 255));
            h2.window -= 257;
            *h2.stream_windows.entry(stream).or_default() -= 257;
        }
        h2.send(&Frame::data(stream, [], true));
        assert_eq!(h2.response(stream).body, [1; 600]);
    }

    /// What was in flight when a stream was given up is given back to the connection.
    fn cancelled_uploads_give_the_window_back(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        for _ in 0..100 {
            let stream = h2.request_with_body(&post("/stuck"));
            h2.until("a window", |h2| h2.free(stream) >= 10_000);
            h2.send_body(stream, &[0; 10_000], false);
            // Not a rapid reset: each has been begun.
            h2.sync();
            h2.send(&Frame::reset(stream, code::CANCEL));
        }
        let stream = h2.request_with_body(&post("/echo"));
        h2.send_body(stream, &pattern::bytes(0, 100_000), true);
        pattern::check(0, &h2.response(stream).body);
    }
}
