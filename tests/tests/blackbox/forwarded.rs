//! `apisix.trusted_addresses`: whose `X-Forwarded-*` count.

use osmia_tests::{Config, Driver, Message, Upstream, eventually, on_each_driver};
use serde_json::{Value, json};

const REQUEST: &str = "GET /a HTTP/1.1\r\nHost: A.test:81\r\nX-Forwarded-For: 1.2.3.4\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: example.com\r\nX-Forwarded-Port: 8443\r\n\
    Forwarded: for=1.2.3.4\r\n\r\n";

/// What an upstream is sent for [`REQUEST`]: For, Proto, Host, Port, Forwarded.
fn seen(driver: Driver, trusted: Value) -> [Option<String>; 5] {
    let upstream = Upstream::new();
    let gateway = Config::proxy(driver, &upstream).set("apisix.trusted_addresses", trusted).start();
    let mut client = gateway.client();
    client.send(REQUEST);
    let seen: Message = upstream.accept().serve_one("x");
    assert_eq!(client.response().text(), "x");
    let names = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "Forwarded",
    ];
    names.map(|name| seen.field(name).map(str::to_owned))
}

fn some(values: [&str; 5]) -> [Option<String>; 5] {
    values.map(|value| (!value.is_empty()).then(|| value.to_owned()))
}

on_each_driver! {
    fn nobody_is_trusted_by_default_but_the_chain_goes_on(driver: Driver) {
        let own = some(["1.2.3.4, 127.0.0.1", "http", "A.test:81", "81", ""]);
        assert_eq!(seen(driver, Value::Null), own);
    }

    fn a_trusted_peer_is_believed(driver: Driver) {
        let theirs = ["1.2.3.4, 127.0.0.1", "https", "example.com", "8443", "for=1.2.3.4"];
        assert_eq!(seen(driver, json!(["10.0.0.0/8", "127.0.0.0/24"])), some(theirs));
    }

    fn of_an_untrusted_peer_nothing_is_left(driver: Driver) {
        let own = some(["127.0.0.1", "http", "A.test:81", "81", ""]);
        assert_eq!(seen(driver, json!(["10.0.0.0/8"])), own);
    }

    /// Routes see what upstreams see; logs show what was sent.
    fn rules_see_the_same_as_upstreams(driver: Driver) {
        let upstream = Upstream::answering("x");
        let route = |id: &str, vars: Value| {
            let nodes = json!({upstream.node(): 1});
            json!({"id": id, "uri": "/*", "vars": vars, "upstream": {"nodes": nodes}})
        };
        for (trusted, proto, chain) in [
            (Value::Null, "http", true),
            (json!(["127.0.0.1"]), "https", true),
            (json!(["10.0.0.1"]), "http", false),
        ] {
            let has_chain = json!(["http_x_forwarded_for", "==", if chain { json!("1.2.3.4") } else { Value::Null }]);
            let vars = json!([["http_x_forwarded_proto", "==", proto], has_chain]);
            let gateway = Config::new()
                .driver(driver)
                .set("apisix.trusted_addresses", trusted)
                .http("access_log", "access.log")
                .http("access_log_format", "$http_x_forwarded_proto|$original_x_forwarded_port|$status")
                .route(route("r", vars))
                .start();
            assert_eq!(gateway.client().exchange(REQUEST).status(), 200, "{proto}");
            eventually("the log has it", || {
                std::fs::read_to_string(gateway.file("access.log")).is_ok_and(|log| log == "https|8443|200\n")
            });
        }
    }
}
