//! Which node a request goes to.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier, mpsc};

use osmia_tests::config::upstream_of;
use osmia_tests::{Config, Gateway, Upstream, on_each_driver};
use serde_json::{Value, json};

/// Upstreams that answer with their names, and nodes of them.
fn nodes(names: &[&'static str], extra: impl Fn(usize) -> Value) -> (Vec<Upstream>, Vec<Value>) {
    let upstreams: Vec<Upstream> = names.iter().map(|name| Upstream::answering(name)).collect();
    let node = |(index, upstream): (usize, &Upstream)| {
        let mut node = json!({"host": upstream.addr().ip(), "port": upstream.addr().port(),
            "weight": 1});
        node.as_object_mut().unwrap().extend(extra(index).as_object().unwrap().clone());
        node
    };
    let nodes = upstreams.iter().enumerate().map(node).collect();
    (upstreams, nodes)
}

fn gateway(driver: osmia_tests::Driver, nodes: &[Value], options: Value) -> Gateway {
    let mut upstream = json!({"nodes": nodes});
    upstream.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    Config::new().driver(driver).route(json!({"uri": "/*", "upstream": upstream})).start()
}

/// How often each node answers.
fn tally(gateway: &Gateway, requests: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut client = gateway.client();
    let mut tally = BTreeMap::new();
    for request in requests {
        *tally.entry(client.exchange(request).text()).or_insert(0) += 1;
    }
    tally
}

fn plain(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|_| "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned())
}

fn counted(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

on_each_driver! {
    fn weights(driver: Driver) {
        let (_upstreams, nodes) = nodes(&["a", "b", "c"], |index| json!({"weight": index}));
        let gateway = gateway(driver, &nodes, json!({"type": "roundrobin"}));
        assert_eq!(tally(&gateway, plain(30)), counted(&[("b", 10), ("c", 20)]));
    }

    fn the_same_key_goes_to_the_same_node(driver: Driver) {
        let (_upstreams, nodes) = nodes(&["a", "b", "c"], |_| json!({}));
        for (options, with_key) in [
            (json!({"key": "arg_id"}), "GET /?id=KEY HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            (json!({"hash_on": "header", "key": "X-Id"}),
             "GET / HTTP/1.1\r\nHost: a.test\r\nX-Id: KEY\r\n\r\n"),
            (json!({"hash_on": "cookie", "key": "id"}),
             "GET / HTTP/1.1\r\nHost: a.test\r\nCookie: id=KEY\r\n\r\n"),
            (json!({"hash_on": "vars_combinations", "key": "$request_uri-$http_x_id"}),
             "GET /KEY HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ] {
            let mut options = options;
            options["type"] = json!("chash");
            let gateway = gateway(driver, &nodes, options.clone());
            let of = |key: usize| with_key.replace("KEY", &key.to_string());
            for key in 0..5 {
                let tally = tally(&gateway, (0..6).map(|_| of(key)));
                assert_eq!(tally.len(), 1, "{options} {key}: {tally:?}");
            }
            assert_eq!(tally(&gateway, (0..60).map(of)).len(), 3, "{options}: keys spread");
        }
    }

    /// Without a key the client's address is one.
    fn no_key_is_the_clients_address(driver: Driver) {
        let (_upstreams, nodes) = nodes(&["a", "b", "c"], |_| json!({}));
        let options = json!({"type": "chash", "hash_on": "header", "key": "x-id"});
        let gateway = gateway(driver, &nodes, options);
        assert_eq!(tally(&gateway, plain(12)).len(), 1);
    }

    fn fewest_connections(driver: Driver) {
        let (held, holding) = mpsc::channel();
        let release = Arc::new(Barrier::new(2));
        let node = |name: &'static str| {
            let (held, release) = (held.clone(), Arc::clone(&release));
            Upstream::serving(move |mut peer| {
                while let Some(request) = peer.request_or_end() {
                    if request.target() == "/hold" {
                        held.send(name).unwrap();
                        release.wait();
                    }
                    peer.answer(name);
                }
            })
        };
        let upstreams = [node("a"), node("b")];
        let nodes = upstreams.each_ref().map(Upstream::node);
        let gateway = Config::new()
            .driver(driver)
            .set("nginx_config.worker_processes", 1)
            .route(json!({"uri": "/*", "upstream": upstream_of(&nodes, json!({"type": "least_conn"}))}))
            .start();
        let mut waiting = gateway.client();
        waiting.send_get("/hold");
        let busy = holding.recv_timeout(osmia_tests::FAILSAFE).unwrap();
        let idle = if busy == "a" { "b" } else { "a" };
        assert_eq!(tally(&gateway, plain(10)), counted(&[(idle, 10)]));
        release.wait();
        assert_eq!(waiting.response().text(), busy);
        assert_eq!(tally(&gateway, plain(10)).len(), 2, "both serve again");
    }

    fn ewma_uses_all_nodes(driver: Driver) {
        let (_upstreams, nodes) = nodes(&["a", "b"], |_| json!({}));
        let gateway = gateway(driver, &nodes, json!({"type": "ewma"}));
        assert_eq!(tally(&gateway, plain(50)).values().sum::<usize>(), 50);
    }

    fn lower_priorities_are_for_failures(driver: Driver) {
        let (mut upstreams, nodes) = nodes(&["high", "low"], |index| {
            json!({"priority": -(index as i64)})
        });
        for kind in ["roundrobin", "least_conn", "ewma"] {
            let gateway = gateway(driver, &nodes, json!({"type": kind}));
            assert_eq!(tally(&gateway, plain(6)), counted(&[("high", 6)]), "{kind}");
        }
        let gateway = gateway(driver, &nodes, json!({}));
        drop(upstreams.remove(0));
        assert_eq!(tally(&gateway, plain(6)), counted(&[("low", 6)]));
    }
}
