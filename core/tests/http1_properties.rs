//! Messages put together from ordinary and odd parts, held against the fuzzers' invariants.
//!
//! A fuzzer finds the byte nobody thought of; here most messages are nearly right, so that the
//! rules beyond syntax, and the writers, are reached in every run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use osmia_core::fuzzing::{self, Outcome};
use proptest::prelude::*;

/// One of `common`, mostly; now and then one of `odd`.
fn part(common: &'static [&'static str], odd: &'static [&'static str]) -> BoxedStrategy<String> {
    let pick = |list: &'static [&'static str]| prop::sample::select(list).prop_map(str::to_owned);
    prop_oneof![12 => pick(common), 1 => pick(odd)].boxed()
}

fn field() -> BoxedStrategy<String> {
    let name = part(
        &[
            "Accept",
            "X-A",
            "x-b",
            "X-Hop",
            "Cookie",
            "Date",
            "Server",
            "Trailer",
            "TE",
            "Keep-Alive",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Real-IP",
            "Forwarded",
            "Connection",
            "Connection",
            "Upgrade",
            "Expect",
            "Content-Length",
            "Transfer-Encoding",
            "transfer-encoding",
            "Proxy-Connection",
        ],
        &["Host", "host", "X A", "X\t", "", "Content-Length ", "X\u{e9}", "(x)"],
    );
    let value = part(
        &[
            "",
            "1",
            "close",
            "keep-alive",
            "x-hop, close",
            "upgrade",
            "Upgrade, X-A",
            "websocket",
            "h2c",
            "100-continue",
            "0",
            "5",
            "007",
            "chunked",
            "Chunked",
            "192.0.2.1",
        ],
        &["gzip, chunked", "-1", "5, 5", "a\u{0}b", "a\rb", "a\nb", "\u{7f}", "\u{e9}", "a\r\n b"],
    );
    let colon = part(&[": ", ":", ":\t", ":  "], &[" : ", "", "::"]);
    let end = part(&["\r\n", " \r\n", "\t\r\n"], &["\n", "\r", "\r\r\n"]);
    (name, colon, value, end).prop_map(|(n, c, v, e)| format!("{n}{c}{v}{e}")).boxed()
}

fn message(start: BoxedStrategy<String>, first: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::collection::vec(field(), 0..5);
    let end = part(&["\r\n"], &["\n", "", "\r\n\r\n"]);
    let first = prop_oneof![12 => Just(first), 1 => Just("")];
    // Mostly the default limits: the tight ones refuse nearly everything.
    let flags = prop_oneof![4 => any::<u8>().prop_map(|flags| flags & !1), 1 => any::<u8>()];
    (flags, any::<u8>(), start, first, fields, end).prop_map(
        |(flags, cut, start, first, fields, end)| {
            let text = format!("{start}{first}{}{end}GET / HTTP/1.1\r\n", fields.concat());
            [&[flags, cut], text.as_bytes()].concat()
        },
    )
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method =
        part(&["GET ", "POST ", "HEAD ", "OPTIONS "], &["CONNECT ", "get ", "\t", "GET  "]);
    let target = part(
        &["/", "/a/b?c=d", "http://h:1/x", "http://h", "http://h?q", "//x", "/%2e/"],
        &["*", "", "/a#b", "/\u{e9}", "/a b", "ftp://h/", "http://u@h/", "h:80"],
    );
    let version = part(
        &[" HTTP/1.1\r\n", " HTTP/1.1\r\n", " HTTP/1.1\r\n", " HTTP/1.0\r\n"],
        &[" HTTP/1.2\r\n", " HTTP/1.1\n", " HTTP/1.1 \r\n", "\r\n"],
    );
    let start = (part(&["", "\r\n"], &["\n", " "]), method, target, version);
    message(start.prop_map(|(b, m, t, v)| format!("{b}{m}{t}{v}")).boxed(), "Host: h.example\r\n")
}

fn response() -> impl Strategy<Value = Vec<u8>> {
    let version = part(&["HTTP/1.1 ", "HTTP/1.1 ", "HTTP/1.0 "], &["HTTP/2.0 ", "HTTP/1.1  "]);
    let status = part(
        &["200", "204", "304", "404", "103", "101", "100", "502"],
        &["600", "099", "20", "2000"],
    );
    let reason = part(&[" OK\r\n", " \r\n", "\r\n"], &["\n", " a\u{0}\r\n", " \u{e9}\r\n"]);
    let start = (version, status, reason).prop_map(|(v, s, r)| format!("{v}{s}{r}"));
    message(start.boxed(), "ETag: x\r\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn requests_hold(data in request()) {
        fuzzing::request_head(&data);
    }

    #[test]
    fn responses_hold(data in response()) {
        fuzzing::response_head(&data);
    }

    #[test]
    fn anything_holds(data in prop::collection::vec(any::<u8>(), 0..300)) {
        for target in fuzzing::TARGETS {
            (target.run)(&data);
        }
    }
}

/// Were nearly everything refused, the properties above would say nothing about what is accepted.
#[test]
fn many_generated_messages_are_accepted() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut share = |strategy: BoxedStrategy<Vec<u8>>, run: fn(&[u8]) -> Outcome| {
        let accepted = (0..500).filter(|_| {
            let data = strategy.new_tree(&mut runner).unwrap().current();
            run(&data) == Outcome::Accepted
        });
        accepted.count()
    };
    let requests = share(request().boxed(), fuzzing::request_head);
    let responses = share(response().boxed(), fuzzing::response_head);
    assert!((50..450).contains(&requests), "{requests} of 500 requests");
    assert!((50..450).contains(&responses), "{responses} of 500 responses");
}
