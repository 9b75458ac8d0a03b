//! HTTP/2 over TLS (section 3.2 and 9.2).

use osmia_tests::h2::{Frame, H2, Outcome, code, get};
use osmia_tests::tls::{Authority, Tls, TlsStream, server_certificate};
use osmia_tests::{Client, on_each_driver, pattern};
use rustls::version::{TLS12, TLS13};

use super::{Front, post};

const NAME: &str = "a.test";

struct Secure {
    front: Front,
    certificate: Vec<u8>,
}

impl Secure {
    fn start(driver: osmia_tests::Driver) -> Self {
        let identity = Authority::default().issue(&[NAME]);
        let front =
            Front::start_with(driver, |config| config.tls().ssl(identity.resource("1", &[NAME])));
        Self { front, certificate: identity.der() }
    }

    #[track_caller]
    fn connect(&self, tls: &Tls) -> TlsStream {
        let stream = tls.connect(self.front.gateway.tls_addr(), NAME).unwrap();
        assert_eq!(server_certificate(&stream), self.certificate);
        stream
    }

    #[track_caller]
    fn h2(&self, tls: &Tls) -> H2 {
        let stream = self.connect(tls);
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        let mut h2 = H2::over(stream);
        h2.start(&[]);
        h2
    }
}

fn https(path: &str) -> [(&str, &str); 4] {
    let mut fields = get(path);
    fields[1].1 = "https";
    fields
}

on_each_driver! {
    fn alpn_chooses_the_protocol(driver: Driver) {
        let secure = Secure::start(driver);
        for (offered, chosen) in [
            (&["h2"][..], Some(&b"h2"[..])),
            (&["h2", "http/1.1"], Some(b"h2")),
            (&["http/1.1", "h2"], Some(b"h2")),
            (&["http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ] {
            let stream = secure.connect(&Tls::new().alpn(offered));
            assert_eq!(stream.conn.alpn_protocol(), chosen, "{offered:?}");
        }
        // Nothing in common: an alert (RFC 7301, section 3.2), or no protocol.
        if let Ok(stream) = Tls::new().alpn(&["spdy/3"]).connect(secure.front.gateway.tls_addr(), NAME) {
            assert_eq!(stream.conn.alpn_protocol(), None);
        }
    }

    fn requests_over_tls(driver: Driver) {
        let secure = Secure::start(driver);
        for tls in [Tls::h2(), Tls::h2().version(&TLS12), Tls::h2().version(&TLS13)] {
            let mut h2 = secure.h2(&tls);
            let stream = h2.request(&https("/secure"));
            assert_eq!(h2.response(stream).text(), "hello");
            let mut fields = post("/echo");
            fields[1].1 = "https";
            let stream = h2.request_with_body(&fields);
            h2.send_body(stream, &pattern::bytes(0, 1 << 20), true);
            let answer = h2.response(stream);
            assert_eq!(answer.body.len(), 1 << 20);
            pattern::check(0, &answer.body);
        }
        let seen = secure.front.origin.seen();
        let seen: Vec<_> = seen.iter().filter(|seen| seen.target() == "/secure").collect();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|seen| seen.field("x-forwarded-proto") == Some("https")));
    }

    fn errors_are_the_same_over_tls(driver: Driver) {
        let secure = Secure::start(driver);
        let cases: [(Frame, u32); 4] = [
            (Frame::data(0, *b"x", true), code::PROTOCOL_ERROR),
            (Frame::ping([0; 8]).flagged(0), code::NO_ERROR),
            (Frame::new(6, 0, 0, [0; 7]), code::FRAME_SIZE_ERROR),
            (Frame::window(0, (1 << 31) - 1), code::FLOW_CONTROL_ERROR),
        ];
        for (frame, expected) in cases {
            let mut h2 = secure.h2(&Tls::h2());
            h2.push(std::slice::from_ref(&frame));
            let outcome = h2.reaction(0);
            let wanted = match expected {
                code::NO_ERROR => Outcome::Ignored,
                code => Outcome::GoAway(code),
            };
            assert!(crate::fits(outcome, &[wanted]), "{frame:?}: {outcome:?}");
        }
        let mut h2 = secure.h2(&Tls::h2());
        let stream = h2.request(&https("/"));
        assert_eq!(h2.response(stream).text(), "hello");
    }

    /// The preface of HTTP/2 where HTTP/1.1 was agreed on.
    fn what_was_agreed_on_holds(driver: Driver) {
        let secure = Secure::start(driver);
        let stream = secure.connect(&Tls::new().alpn(&["http/1.1"]));
        let mut h2 = H2::over(stream);
        let _ = h2.try_send_bytes(osmia_tests::h2::frame::PREFACE);
        let _ = h2.try_send_bytes(&Frame::settings(&[]).bytes());
        // A refusal in HTTP/1.1 is no frame; all that counts is that nothing is served.
        let _ = h2.try_send_bytes(&Frame::headers(1, osmia_tests::h2::hpack::block(&https("/odd")), true).bytes());
        secure.front.check_serves();
        assert!(secure.front.origin.seen().iter().all(|seen| seen.target() != "/odd"));
    }

    fn plain_listeners_go_on_beside(driver: Driver) {
        let secure = Secure::start(driver);
        secure.front.check_serves();
        assert_eq!(Client::connect(secure.front.gateway.addr()).get("/").text(), "hello");
    }
}
