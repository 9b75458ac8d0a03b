//! Section 3: how a connection starts.

use osmia_tests::h2::frame::PREFACE;
use osmia_tests::h2::{Frame, H2, Outcome, code, hpack, kind, setting};
use osmia_tests::{End, on_each_driver};

use super::{Front, get};

on_each_driver! {
    fn prior_knowledge_is_understood(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = front.connect();
        let streams = h2.setting(setting::MAX_CONCURRENT_STREAMS, u32::MAX);
        assert!((100..=1000).contains(&streams), "streams that may be open: {streams}");
        for _ in 0..3 {
            let stream = h2.get("/");
            let answer = h2.response(stream);
            assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
        }
    }

    /// All of it in one segment, without waiting for the server.
    fn a_request_may_come_with_the_preface(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::silent(front.gateway.addr());
        let stream = h2.open();
        let request = Frame::headers(stream, hpack::block(&get("/")), true);
        h2.send_bytes(&[PREFACE, &Frame::settings(&[]).bytes(), &request.bytes()].concat());
        assert_eq!(h2.next_frame().unwrap().kind, kind::SETTINGS);
        assert_eq!(h2.response(stream).text(), "hello");
    }

    fn a_preface_may_come_byte_by_byte(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::silent(front.gateway.addr());
        let request = Frame::headers(1, hpack::block(&get("/")), true).bytes();
        for byte in [PREFACE, &Frame::settings(&[]).bytes(), &request].concat() {
            h2.send_bytes(&[byte]);
        }
        assert_eq!(h2.response(1).text(), "hello");
    }

    fn a_preface_may_be_cut_anywhere(driver: Driver) {
        let front = Front::start(driver);
        let request = Frame::headers(1, hpack::block(&get("/")), true).bytes();
        for cut in 1..PREFACE.len() {
            let mut h2 = H2::silent(front.gateway.addr());
            h2.send_bytes(&PREFACE[..cut]);
            // The only worker has read that when it has answered somebody who asked later.
            front.check_serves();
            let rest = [&PREFACE[cut..], &Frame::settings(&[]).bytes(), &request].concat();
            h2.send_bytes(&rest);
            assert_eq!(h2.response(1).text(), "hello", "cut at {cut}");
        }
    }

    fn http_1_is_served_on_the_same_listener(driver: Driver) {
        let front = Front::start(driver);
        assert_eq!(front.gateway.get("/").text(), "hello");
        front.check_serves();
        // A method that begins as the preface does is none of it.
        for method in ["P", "PR", "PRI", "PRIOR"] {
            let request = format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let mut client = front.gateway.client();
            for byte in request.bytes() {
                client.send([byte]);
            }
            assert_eq!(client.response().text(), "hello", "{method}");
        }
        front.check_serves();
    }

    /// What begins as the preface and goes on otherwise: refused in either protocol, never served.
    fn a_bad_preface_is_refused(driver: Driver) {
        let front = Front::start(driver);
        for preface in [
            "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
            "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n",
            "PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n",
            "PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
        ] {
            let mut client = front.gateway.client();
            client.send(preface);
            let _ = client.try_send(Frame::settings(&[]).bytes());
            let _ = client.try_send(Frame::headers(1, hpack::block(&get("/")), true).bytes());
            let _ = client.stream().shutdown(std::net::Shutdown::Write);
            let (rest, _) = client.rest();
            let text = String::from_utf8_lossy(&rest).into_owned();
            assert!(!text.contains(" 200 ") && !text.contains("hello"), "{preface:?}: {text:?}");
            front.check_serves();
        }
        assert!(front.origin.seen().iter().all(|seen| seen.method() == "GET"));
    }

    fn a_preface_without_settings_is_refused(driver: Driver) {
        let front = Front::start(driver);
        let frames = [
            Frame::headers(1, hpack::block(&get("/")), true),
            Frame::ping([0; 8]),
            Frame::settings_ack(),
            Frame::window(0, 1),
        ];
        for frame in frames {
            let mut h2 = H2::silent(front.gateway.addr());
            h2.send_bytes(PREFACE);
            h2.push(std::slice::from_ref(&frame));
            let outcome = h2.outcome(1);
            let fitting = [Outcome::GoAway(code::PROTOCOL_ERROR), Outcome::Closed];
            assert!(fitting.contains(&outcome), "{frame:?}: {outcome:?}");
            front.check_serves();
        }
    }

    fn a_connection_that_says_nothing_more_may_end(driver: Driver) {
        let front = Front::start(driver);
        for cut in [3, 14, 23, PREFACE.len()] {
            let mut client = front.gateway.client();
            client.send(&PREFACE[..cut]);
            client.finish();
            let (_, end) = client.rest();
            assert_eq!(end, End::Eof);
        }
        front.check_serves();
    }

    /// Settings that nobody knows, and settings that come twice: the last counts.
    fn unknown_settings_are_ignored(driver: Driver) {
        let front = Front::start(driver);
        let mut h2 = H2::silent(front.gateway.addr());
        h2.start(&[(0, 1), (0xff, 7), (0xfff0, u32::MAX), (setting::INITIAL_WINDOW_SIZE, 0), (setting::INITIAL_WINDOW_SIZE, 70_000)]);
        let stream = h2.get("/");
        assert_eq!(h2.response(stream).text(), "hello");
    }
}
