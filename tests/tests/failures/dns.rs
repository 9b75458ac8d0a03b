//! DNS servers that fail: nobody who asks the gateway notices.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType::A;
use osmia_tests::config::upstream_of;
use osmia_tests::dns::{Mode, Server, a};
use osmia_tests::{Config, Gateway, Upstream, eventually};
use serde_json::json;

use super::load::Load;

const NAME: &str = "a.test.";

/// A node on every address of this machine, which answers with the one that it was asked at.
fn anywhere() -> Upstream {
    Upstream::serving_on(Ipv4Addr::UNSPECIFIED.into(), |mut peer| {
        let at = peer.local_addr().ip().to_string();
        peer.serve_all(at);
    })
}

/// A gateway with a node by name, and one by address at `/fixed`.
fn gateway(server: &str, node: &Upstream) -> Gateway {
    let port = node.addr().port();
    let at = |host: &str| upstream_of(&[format!("{host}:{port}")], json!({}));
    Config::new()
        .set("apisix.dns_resolver", json!([server]))
        .set("apisix.resolver_timeout", 1)
        .set("apisix.enable_resolv_search_opt", false)
        .route(json!({"id": "named", "uri": "/named", "upstream": at("a.test")}))
        .route(json!({"id": "fixed", "uri": "/fixed", "upstream": at("127.0.0.9")}))
        .start()
}

fn addresses(last: &[u8]) -> Vec<hickory_resolver::proto::rr::Record> {
    last.iter().map(|last| a(NAME, 0, &format!("127.0.0.{last}"))).collect()
}

/// Who answers at `/named`, of `count` requests.
fn answers(gateway: &Gateway, count: usize) -> BTreeSet<String> {
    let mut client = gateway.client();
    (0..count).map(|_| client.get("/named").text()).collect()
}

#[track_caller]
fn until_at(gateway: &Gateway, last: &[u8]) {
    let expected: BTreeSet<_> = last.iter().map(|last| format!("127.0.0.{last}")).collect();
    eventually("the name's addresses are used", || answers(gateway, 2 * last.len()) == expected);
}

fn wrk(gateway: &Gateway, seconds: u32) -> Load {
    Load::wrk(gateway, &["/named".to_owned(), "/fixed".to_owned()], "GET", seconds)
}

#[test]
fn answers_that_do_not_last_are_followed_under_load() {
    let (server, node) = (Server::start(addresses(&[2])), anywhere());
    let gateway = gateway(&server.addr.to_string(), &node);
    until_at(&gateway, &[2]);
    let mut load = wrk(&gateway, 4);
    for last in [&[3][..], &[2, 4], &[5]] {
        server.set(addresses(last));
        until_at(&gateway, last);
    }
    while load.runs() {
        until_at(&gateway, &[5]);
    }
    load.succeeds();
}

/// Dead, lying, slow: the name keeps its addresses, and gets new ones when the server is back.
#[test]
fn servers_that_fail_take_no_node_away() {
    let (server, node) = (Server::start(addresses(&[2])), anywhere());
    let gateway = gateway(&server.addr.to_string(), &node);
    until_at(&gateway, &[2]);
    let modes = [
        Mode::Silent,
        Mode::Lie,
        Mode::Garble,
        Mode::Fail(ResponseCode::ServFail),
        Mode::Fail(ResponseCode::Refused),
        // Beyond the resolver's time.
        Mode::Slow(Duration::from_millis(1500)),
    ];
    let mut last = 2;
    let load = wrk(&gateway, 10);
    for mode in modes {
        server.mode(mode);
        let asked = server.asked(NAME, A);
        gateway.signal(libc::SIGHUP);
        eventually("it is asked again", || {
            assert_eq!(answers(&gateway, 2), [format!("127.0.0.{last}")].into(), "{mode:?}");
            server.asked(NAME, A) > asked + 1
        });
        last += 1;
        server.set(addresses(&[last]));
        server.mode(Mode::Answer);
        gateway.signal(libc::SIGHUP);
        until_at(&gateway, &[last]);
    }
    load.succeeds();
}

/// A server that takes its time keeps nobody waiting.
#[test]
fn a_slow_server_is_waited_for_by_nobody() {
    let (server, node) = (Server::start(addresses(&[2])), anywhere());
    server.mode(Mode::Slow(Duration::from_millis(400)));
    let gateway = gateway(&server.addr.to_string(), &node);
    assert_eq!(gateway.get("/fixed").status(), 200);
    until_at(&gateway, &[2]);
    server.set(addresses(&[3]));
    let load = wrk(&gateway, 2);
    until_at(&gateway, &[3]);
    load.succeeds();
}

/// Names without addresses are 503; all else is served.
#[test]
fn a_server_that_is_not_there() {
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = anywhere();
    let gateway = gateway(&closed.to_string(), &node);
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.get("/fixed").status(), 200);
        assert_eq!(client.get("/named").status(), 503);
    }
}

/// They do not fit into a datagram. The first of them, by number, are used.
#[test]
fn a_hundred_addresses() {
    const USED: usize = 64;
    let all: Vec<u8> = (1..=100).collect();
    let (server, node) = (Server::start(addresses(&all)), anywhere());
    let gateway = gateway(&server.addr.to_string(), &node);
    until_at(&gateway, &all[..USED]);
    assert!(server.by_tcp() > 0);
    wrk(&gateway, 1).succeeds();
}
