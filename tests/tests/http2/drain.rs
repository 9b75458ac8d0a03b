//! A graceful stop with HTTP/2 connections: GOAWAY, and what is under way is finished.

use osmia_tests::h2::{Frame, Outcome, code};
use osmia_tests::on_each_driver;

use super::{Front, post};

on_each_driver! {
    fn streams_in_flight_are_finished(driver: Driver) {
        let mut front = Front::start(driver);
        let mut h2 = front.connect();
        let held: Vec<u32> = (0..5).map(|_| h2.get("/hold")).collect();
        front.origin.wait_for("/hold", 5);
        let upload = h2.request_with_body(&post("/echo"));
        h2.send(&Frame::data(upload, *b"before ", false));
        h2.sync();
        front.gateway.signal(libc::SIGQUIT);
        h2.until("GOAWAY", |h2| !h2.goaways.is_empty());
        assert!(h2.goaways.iter().all(|(last, code)| *last >= upload && *code == code::NO_ERROR));
        h2.send(&Frame::data(upload, *b"after", true));
        assert_eq!(h2.response(upload).text(), "before after");
        front.origin.release();
        for stream in held {
            assert_eq!(h2.response(stream).text(), "held");
        }
        assert_eq!(h2.wait_for_end(), None);
        let (status, log) = front.gateway.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }

    fn idle_connections_are_told_and_closed(driver: Driver) {
        let mut front = Front::start(driver);
        let mut fresh = front.connect();
        let mut used = front.connect();
        let stream = used.get("/");
        assert_eq!(used.response(stream).text(), "hello");
        front.gateway.signal(libc::SIGQUIT);
        for h2 in [&mut fresh, &mut used] {
            assert_eq!(h2.wait_for_end(), None);
            assert!(h2.goaways.iter().any(|(_, code)| *code == code::NO_ERROR), "no GOAWAY");
        }
        let (status, log) = front.gateway.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }

    /// A stream that crosses the GOAWAY is served, or left for another connection: never half done.
    fn a_stream_that_crosses_goaway_is_served_or_refused(driver: Driver) {
        let mut front = Front::start(driver);
        let mut h2 = front.connect();
        let held = h2.get("/hold");
        front.origin.wait_for("/hold", 1);
        front.gateway.signal(libc::SIGQUIT);
        h2.until("GOAWAY", |h2| !h2.goaways.is_empty());
        let crossing = h2.open();
        h2.push(&[Frame::headers(crossing, osmia_tests::h2::hpack::block(&crate::get("/crossing")), true)]);
        h2.sync();
        front.origin.release();
        assert_eq!(h2.response(held).text(), "held");
        assert_eq!(h2.wait_for_end(), None);
        let last = h2.goaways.last().unwrap().0;
        let served = h2.streams.get(&crossing).is_some_and(|exchange| exchange.ended);
        let refused = h2.streams.get(&crossing).and_then(|exchange| exchange.reset);
        if last >= crossing {
            assert!(served || refused == Some(code::REFUSED_STREAM), "{refused:?}, last {last}");
        } else if !served {
            // The client may repeat it: nothing of it has been done.
            assert!(front.origin.seen().iter().all(|seen| seen.target() != "/crossing"));
        }
        assert!(matches!(h2.outcome(crossing), Outcome::Response(200) | Outcome::Reset(_) | Outcome::Closed));
        let (status, log) = front.gateway.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}
