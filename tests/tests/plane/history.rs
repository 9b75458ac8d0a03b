//! Who changed what and when, the way back, and whole sets of resources at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use osmia_tests::admin::KEY;
use osmia_tests::{Api, Config, Etcd, Gateway, Upstream, eventually};
use serde_json::{Value, json};

use crate::{json_of, refusal, route, serves};

fn history(api: Api, query: &str) -> Value {
    api.json(&format!("/apisix/admin/history{query}"))
}

/// Sends a whole set; the answer, which must be 200.
#[track_caller]
fn transact(api: Api, request: &Value) -> Value {
    let answer = api.call("POST", "/apisix/admin/transaction", &request.to_string());
    assert_eq!(answer.status(), 200, "{answer}");
    json_of(&answer)
}

/// Waits for the newest entry to be about `key`: etcd's are written when etcd has told of them.
fn newest(api: Api, key: &str, action: &str) -> Value {
    let mut entry = Value::Null;
    eventually(&format!("the journal says that {key} was {action}"), || {
        entry = history(api, "?limit=1")["list"][0].clone();
        entry["changes"] == json!([{"key": key, "action": action}])
    });
    entry
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

fn admin_writes(gateway: &Gateway) {
    let api = gateway.admin();
    let upstream = Upstream::answering("x");
    let begin = now_ms();
    api.put("routes/1", &route("/one", &upstream));
    let created = newest(api, "routes/1", "created");
    api.put("routes/1", &route("/two", &upstream));
    let updated = newest(api, "routes/1", "updated");
    api.call("PATCH", "/apisix/admin/routes/1", r#"{"desc": "patched"}"#);
    let mut patched = Value::Null;
    eventually("the journal has the second update", || {
        patched = newest(api, "routes/1", "updated");
        patched != updated
    });
    api.delete("routes/1");
    let deleted = newest(api, "routes/1", "deleted");
    let end = now_ms();
    let mut last = 0;
    for entry in [&created, &updated, &patched, &deleted] {
        assert_eq!(entry["author"], json!({"name": "admin", "address": "127.0.0.1"}));
        let time = entry["time_ms"].as_u64().unwrap();
        assert!((begin..=end).contains(&time), "{begin} {time} {end}");
        let revision = entry["revision"].as_u64().unwrap();
        assert!(revision > last, "{entry}");
        last = revision;
    }
    // What was refused, or changed nothing, is not history.
    api.call("PUT", "/apisix/admin/routes/9", "{}");
    api.call("DELETE", "/apisix/admin/routes/9", "");
    api.call("GET", "/apisix/admin/routes", "");
    assert_eq!(history(api, "?limit=1")["list"][0], deleted);
    // One entry with its values.
    let one = history(api, &format!("/{}", updated["revision"]));
    let change = &one["changes"][0];
    assert_eq!(
        (&change["before"]["uri"], &change["after"]["uri"]),
        (&json!("/one"), &json!("/two"))
    );
    let gone = history(api, &format!("/{}", deleted["revision"]));
    assert_eq!(gone["changes"][0]["after"], Value::Null);
    assert_eq!(gone["changes"][0]["before"]["desc"], "patched");
    // Net changes.
    let diff = |from: &Value, to: &Value| {
        history(api, &format!("/diff?from={}&to={}", from["revision"], to["revision"]))
    };
    assert_eq!(diff(&created, &updated)["changes"][0]["after"]["uri"], "/two");
    assert_eq!(diff(&updated, &created)["changes"][0]["after"]["uri"], "/one");
    assert_eq!(diff(&created, &deleted)["changes"][0]["action"], "deleted");
    assert_eq!(diff(&deleted, &deleted)["changes"], json!([]));
    // Pages.
    let page = history(api, "?limit=2&key=routes/1");
    assert_eq!(page["list"][0]["revision"], deleted["revision"]);
    let next = history(api, &format!("?limit=2&key=routes/1&before={}", page["next_before"]));
    assert_eq!(next["list"][0]["revision"], updated["revision"]);
    assert_eq!(next["list"][1]["revision"], created["revision"]);
}

#[test]
fn the_embedded_store_knows_who_wrote() {
    let mut gateway = Config::new().plane("embedded").start();
    admin_writes(&gateway);
    let before = history(gateway.admin(), "");
    gateway.kill_and_restart();
    gateway.log().wait_for(&["osmia is ready"]);
    assert_eq!(history(gateway.admin(), ""), before, "the journal survives");
}

#[test]
fn etcds_own_writers_are_not_known() {
    let etcd = Etcd::start();
    let mut gateway = Config::new().etcd(&etcd).start();
    admin_writes(&gateway);
    let api = gateway.admin();
    let upstream = Upstream::answering("x");
    etcd.ctl(["put", "/apisix/routes/2", &route("/by-etcdctl", &upstream).to_string()]);
    let entry = newest(api, "routes/2", "created");
    assert_eq!(entry["author"], Value::Null);
    assert_eq!(entry["revision"].as_u64(), Some(etcd.revision()));
    etcd.ctl(["put", "/apisix/elsewhere", "x"]);
    etcd.ctl(["put", "/apisix/routes/", "init_dir"]);
    etcd.ctl(["del", "/apisix/routes/2"]);
    assert_eq!(newest(api, "routes/2", "deleted")["author"], Value::Null);
    // What happened while this process was away is one change that nobody is known for.
    gateway.signal(libc::SIGTERM);
    gateway.wait();
    etcd.ctl(["put", "/apisix/routes/3", &route("/three", &upstream).to_string()]);
    gateway.kill_and_restart();
    gateway.log().wait_for(&["osmia is ready"]);
    let entry = newest(gateway.admin(), "routes/3", "created");
    assert_eq!(entry["author"], Value::Null);
    // And it can be taken back.
    let before = history(gateway.admin(), "?limit=2")["list"][1]["revision"].clone();
    let back = json!({"revision": before}).to_string();
    let answer = gateway.admin().call("POST", "/apisix/admin/rollback", &back);
    assert_eq!(json_of(&answer)["deleted"], json!(["routes/3"]), "{answer}");
    assert!(etcd.contents("/apisix/routes/3").is_empty());
    assert_eq!(etcd.contents("/apisix/elsewhere").len(), 1, "what is not Osmia's stays");
}

#[test]
fn changes_of_a_file_are_history_as_well() {
    let upstream = Upstream::answering("x");
    let gateway = Config::new()
        .plane("yaml")
        .route(json!({"id": "1", "uri": "/one", "upstream": {"nodes": {upstream.node(): 1}}}))
        .start();
    let changed = |uri: &str, id: &str| json!({"id": id, "uri": uri, "upstream": {"nodes": {upstream.node(): 1}}});
    gateway.write_routes(&[changed("/two", "1"), changed("/new", "2")]);
    serves(&gateway, "/new", 200);
    let mut entry = Value::Null;
    eventually("the journal has it", || {
        entry = history(gateway.admin(), "?limit=1")["list"][0].clone();
        entry["changes_total"] == 2
    });
    assert_eq!(entry["author"], Value::Null);
    let changes = json!([
        {"key": "routes/1", "action": "updated"},
        {"key": "routes/2", "action": "created"},
    ]);
    assert_eq!(entry["changes"], changes);
    // A file is not written to.
    let back = json!({"revision": entry["revision"].as_u64().unwrap() - 1}).to_string();
    let answer = gateway.admin().call("POST", "/apisix/admin/rollback", &back);
    let (status, reason) = refusal(&answer);
    assert!((400..500).contains(&status), "{answer}");
    assert!(!reason.is_empty());
    assert_eq!(gateway.get("/two").status(), 200);
}

#[test]
fn rolling_back_is_one_change_that_can_be_undone() {
    let (one, two) = (Upstream::answering("one"), Upstream::answering("two"));
    let gateway = Config::new().plane("embedded").start();
    let api = gateway.admin();
    api.put("upstreams/u", &json!({"nodes": {one.node(): 1}}));
    api.put("routes/a", &json!({"uri": "/a", "upstream_id": "u"}));
    let good = history(api, "?limit=1")["list"][0]["revision"].clone();
    api.put("upstreams/v", &json!({"nodes": {two.node(): 1}}));
    api.put("routes/a", &json!({"uri": "/a", "upstream_id": "v"}));
    api.put("routes/b", &json!({"uri": "/b", "upstream_id": "v"}));
    api.delete("upstreams/u");
    serves(&gateway, "/b", 200);
    let bad = history(api, "?limit=1")["list"][0]["revision"].clone();
    let roll = |revision: &Value, dry_run: bool| {
        let request = json!({"revision": revision, "dry_run": dry_run}).to_string();
        let answer = api.call("POST", "/apisix/admin/rollback", &request);
        assert_eq!(answer.status(), 200, "{answer}");
        json_of(&answer)
    };
    let before = api.everything();
    let dry = roll(&good, true);
    assert_eq!(dry["created"], json!(["upstreams/u"]));
    assert_eq!(dry["updated"], json!(["routes/a"]));
    assert_eq!(dry["deleted"], json!(["routes/b", "upstreams/v"]));
    assert_eq!(api.everything(), before, "a dry run writes nothing");
    let done = roll(&good, false);
    for what in ["created", "updated", "deleted"] {
        assert_eq!(done[what], dry[what]);
    }
    assert_eq!((gateway.get("/a").text().as_str(), gateway.get("/b").status()), ("one", 404));
    let entry = history(api, "?limit=1")["list"][0].clone();
    assert_eq!(entry["revision"], done["revision"]);
    assert_eq!(entry["author"]["name"], json!(format!("rollback to {good} by admin")));
    assert_eq!(entry["changes_total"], 4);
    // Undone.
    roll(&bad, false);
    assert_eq!((gateway.get("/a").text().as_str(), gateway.get("/b").status()), ("two", 200));
    let again = roll(&bad, false);
    assert_eq!((&again["updated"], &again["created"]), (&json!([]), &json!([])));
}

fn nothing_of_a_refused_set(gateway: &Gateway, stored: impl Fn() -> Value) {
    let api = gateway.admin();
    let upstream = Upstream::answering("x");
    api.put("upstreams/used", &json!({"nodes": {upstream.node(): 1}}));
    api.put("routes/used", &json!({"uri": "/used", "upstream_id": "used"}));
    let put = |key: &str, value: Value| json!({"key": key, "value": value});
    let good = |id: &str| put(&format!("routes/{id}"), route(&format!("/{id}"), &upstream));
    let before = (api.everything(), stored());
    for (bad, named) in [
        (put("routes/bad", json!({"uri": 5})), "routes/bad"),
        (put("routes/bad", json!({"uri": "/", "upstream_id": "none"})), "routes/bad"),
        (put("routes/bad", json!({"uri": "/", "create_time": 1})), "routes/bad"),
        (put("routes/bad", json!({"uri": "/", "id": "other"})), "routes/bad"),
        (put("nothing/bad", json!({})), "nothing/bad"),
        (put("global_rules/bad", json!({"plugins": {"none": {}}})), "global_rules/bad"),
    ] {
        for dry_run in [false, true] {
            let set = json!({
                "put": [good("one"), bad, good("two")], "delete": ["routes/used"],
                "dry_run": dry_run,
            });
            let answer = api.call("POST", "/apisix/admin/transaction", &set.to_string());
            let (status, reason) = refusal(&answer);
            assert_eq!(
                (status, reason.as_str()),
                (400, "1 resource is refused; nothing was written")
            );
            assert_eq!(json_of(&answer)["errors"][0]["key"], named);
        }
    }
    let set = json!({"put": [good("one")], "delete": ["upstreams/used"]});
    let answer = api.call("POST", "/apisix/admin/transaction", &set.to_string());
    assert_eq!(answer.status(), 400, "{answer}");
    assert!(answer.text().contains("routes/used still refers to it"), "{answer}");
    let revision = before.0["export"]["revision"].as_u64().unwrap();
    let set = json!({"put": [good("one")], "expect_revision": revision - 1});
    let answer = api.call("POST", "/apisix/admin/transaction", &set.to_string());
    assert_eq!(answer.status(), 409, "{answer}");
    assert_eq!((api.everything(), stored()), before);
    assert_eq!((gateway.get("/one").status(), gateway.get("/used").status()), (404, 200));
    // The same without what is wrong.
    let set = json!({
        "put": [good("one"), good("two")], "delete": ["upstreams/used", "routes/used"],
        "expect_revision": revision,
    });
    let done = transact(api, &set);
    assert_eq!(done["created"], json!(["routes/one", "routes/two"]));
    assert_eq!(done["deleted"], json!(["routes/used", "upstreams/used"]));
    assert_eq!((gateway.get("/one").status(), gateway.get("/used").status()), (200, 404));
    let entry = history(api, "?limit=1")["list"][0].clone();
    assert_eq!((&entry["revision"], &entry["changes_total"]), (&done["revision"], &json!(4)));
}

#[test]
fn a_set_that_is_refused_writes_nothing() {
    nothing_of_a_refused_set(&Config::new().plane("embedded").start(), || Value::Null);
}

#[test]
fn a_set_that_is_refused_writes_nothing_to_etcd() {
    let etcd = Etcd::start();
    let gateway = Config::new().etcd(&etcd).start();
    let revision = || json!([etcd.revision(), etcd.contents("/apisix/")]);
    let api = gateway.admin();
    let upstream = Upstream::answering("x");
    api.put("routes/0", &route("/0", &upstream));
    eventually("the journal is caught up", || history(api, "?limit=1")["list"][0].is_object());
    nothing_of_a_refused_set_on_etcd(&gateway, &revision);
}

/// As the embedded store's, but that the journal follows the store by a moment.
fn nothing_of_a_refused_set_on_etcd(gateway: &Gateway, stored: &dyn Fn() -> Value) {
    let api = gateway.admin();
    let upstream = Upstream::answering("x");
    let good = json!({"key": "routes/one", "value": route("/one", &upstream)});
    let bad = json!({"key": "routes/bad", "value": {"uri": "/", "upstream_id": "none"}});
    let before = stored();
    let set = json!({"put": [good, bad], "delete": ["routes/0"]}).to_string();
    assert_eq!(api.call("POST", "/apisix/admin/transaction", &set).status(), 400);
    assert_eq!(stored(), before);
    assert_eq!((gateway.get("/one").status(), gateway.get("/0").status()), (404, 200));
    // More than etcd takes in one transaction is refused as a whole, or done as a whole.
    let many: Vec<Value> = (0..300)
        .map(|n| {
            let value = route(&format!("/many/{n}"), &upstream);
            json!({"key": format!("routes/many-{n}"), "value": value})
        })
        .collect();
    let rehearsal = json!({"put": many, "dry_run": true}).to_string();
    let rehearsal = api.call("POST", "/apisix/admin/transaction", &rehearsal);
    assert_eq!(stored(), before, "{rehearsal}");
    let set = json!({"put": many}).to_string();
    let answer = api.call("POST", "/apisix/admin/transaction", &set);
    assert_eq!(rehearsal.status(), answer.status(), "{rehearsal}");
    let count = stored()[1].as_object().unwrap().keys().filter(|k| k.contains("many-")).count();
    match answer.status() {
        200 => {
            assert_eq!(count, 300);
            assert_eq!(stored()[0], json!(before[0].as_u64().unwrap() + 1), "one revision");
            serves(gateway, "/many/299", 200);
        }
        400 => {
            let (_, reason) = refusal(&answer);
            assert_eq!(count, 0, "{reason}");
            assert!(reason.contains("--max-txn-ops"), "{reason}");
        }
        _ => panic!("{answer}"),
    }
}

#[test]
fn a_set_becomes_effective_at_once() {
    let upstream = Upstream::answering("x");
    let config = Config::new().plane("embedded").set("osmia.keepalive_requests", 0);
    let gateway = config.start();
    let api = gateway.admin();
    let set = |version: usize| {
        let put = |name: &str| {
            let value = route(&format!("/{name}/{version}"), &upstream);
            json!({"key": format!("routes/{name}"), "value": value})
        };
        json!({"put": [put("a"), put("b"), put("c")]})
    };
    transact(api, &set(0));
    let ended = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut client = gateway.client();
            let (mut version, mut whole) = (0, 0);
            while !ended.load(Ordering::Acquire) {
                let mut is_there =
                    |name: &str, version: usize| client.get(&format!("/{name}/{version}")).status();
                // What is there before and after must have been there in between, completely.
                for (first, second) in [("a", "b"), ("b", "c"), ("c", "a"), ("b", "a")] {
                    let before = is_there(first, version);
                    let between = is_there(second, version);
                    let after = is_there(first, version);
                    if before == 200 && after == 200 {
                        assert_eq!(between, 200, "{first} without {second} at {version}");
                        whole += 1;
                    } else if is_there("a", version + 1) == 200 {
                        assert_eq!(is_there(second, version), 404, "old and new at {version}");
                        version += 1;
                    }
                }
            }
            whole
        });
        for version in 1..60 {
            transact(api, &set(version));
            // An answer means that it is effective.
            assert_eq!(gateway.get(&format!("/c/{version}")).status(), 200);
        }
        ended.store(true, Ordering::Release);
        reader.join().unwrap()
    });
    assert!(seen > 0, "the reader never saw a whole set");
}

#[test]
fn sets_that_meet_are_applied_one_after_the_other() {
    let upstream = Upstream::answering("x");
    let gateway = Config::new().plane("embedded").start();
    let api = gateway.admin();
    let set = |author: usize, round: usize| {
        let put = |n: usize| {
            let mut value = route(&format!("/{n}"), &upstream);
            value["desc"] = json!(format!("{author}-{round}"));
            json!({"key": format!("routes/{n}"), "value": value})
        };
        json!({"put": [put(1), put(2), put(3)], "replace": true}).to_string()
    };
    std::thread::scope(|scope| {
        for author in 0..4 {
            scope.spawn(move || {
                for round in 0..10 {
                    let headers = [("X-API-KEY", KEY)];
                    let body = set(author, round);
                    let path = "/apisix/admin/transaction";
                    let status = api.send("POST", path, &headers, body.as_bytes()).status();
                    assert!([200, 409].contains(&status), "{status}");
                }
            });
        }
    });
    let export = api.json("/apisix/admin/export");
    let said: Vec<&Value> =
        export["items"].as_array().unwrap().iter().map(|item| &item["value"]["desc"]).collect();
    assert_eq!(said.len(), 3);
    assert!(said.iter().all(|desc| *desc == said[0]), "parts of different sets: {said:?}");
    for entry in history(api, "?limit=500")["list"].as_array().unwrap() {
        assert_eq!(entry["changes_total"], 3, "{entry}");
    }
}
