//! `osmia config` and `osmia check`, end to end.

use std::fs;

use osmia_tests::admin::KEY;
use osmia_tests::config::{Ended, run_in};
use osmia_tests::{Config, Etcd, Gateway, Upstream};
use serde_json::{Value, json};

use crate::{route, serves};

#[track_caller]
fn done(ended: &Ended) -> &str {
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    &ended.stdout
}

/// It ended with `code` and says all of `parts` on standard error.
#[track_caller]
fn failed(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "{part:?} in {}", ended.stderr);
    }
    assert!(ended.stderr.starts_with("osmia: "), "{}", ended.stderr);
}

/// The revision in a report such as `revision 7: 1 created, ...`.
#[track_caller]
fn revision(report: &str) -> String {
    let line = report.lines().find_map(|line| line.strip_prefix("revision "));
    line.and_then(|line| line.split(':').next()).expect("a revision").to_owned()
}

/// The way an operator goes, on any store.
fn life(gateway: &Gateway) {
    let (one, two) = (Upstream::answering("one"), Upstream::answering("two"));
    let admin = gateway.admin();
    admin.put("upstreams/1", &json!({"nodes": {one.node(): 1}, "type": "roundrobin"}));
    admin.put("routes/a", &json!({"uri": "/a", "upstream_id": "1", "desc": "1.0"}));
    admin.put("routes/b", &route("/b", &one));
    admin.put("consumers/jack", &json!({"username": "jack", "desc": "#1: a"}));
    serves(gateway, "/b", 200);

    // What is dumped is what is stored.
    for format in ["yaml", "json"] {
        let file = format!("dump.{format}");
        done(&gateway.cli(&["dump", "--format", format, "--output", &file]));
        let same = gateway.cli(&["diff", &file]);
        assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""), "{}", same.stderr);
        assert!(done(&gateway.cli(&["apply", &file])).contains("4 unchanged"));
        assert_eq!(done(&gateway.cli(&["dump", "--format", format])), {
            fs::read_to_string(gateway.file(&file)).unwrap()
        });
    }

    // Edited: a node, a route that goes, one that comes.
    let text = fs::read_to_string(gateway.file("dump.json")).unwrap();
    let mut edited: Value = serde_json::from_str(&text).unwrap();
    edited["upstreams"][0]["nodes"] = json!({two.node(): 1});
    let routes = edited["routes"].as_array_mut().unwrap();
    routes.retain(|route| route["id"] != "b");
    routes.push(json!({"id": "c", "uri": "/c", "upstream_id": "1"}));
    fs::write(gateway.file("edited.json"), edited.to_string()).unwrap();
    let diff = gateway.cli(&["diff", "edited.json"]);
    assert_eq!(diff.code, Some(1), "{}", diff.stderr);
    for part in ["@@ upstreams/1 @@", "@@ routes/b @@", "@@ routes/c @@", "--- stored", "+++ "] {
        assert!(diff.stdout.contains(part), "{part} in {}", diff.stdout);
    }
    for (sign, node) in [("-", one.node()), ("+", two.node())] {
        let line = diff.stdout.lines().find(|line| line.contains(&node));
        assert!(line.is_some_and(|line| line.starts_with(sign)), "{node} in {}", diff.stdout);
    }
    assert!(!diff.stdout.contains("routes/a") && !diff.stdout.contains("jack"), "{}", diff.stdout);

    let before = admin.everything();
    let dry = gateway.cli(&["apply", "edited.json", "--prune", "--dry-run"]);
    for part in ["dry run", "updated upstreams/1", "deleted routes/b", "created routes/c"] {
        assert!(done(&dry).contains(part), "{part} in {}", dry.stdout);
    }
    assert_eq!(admin.everything(), before, "a dry run writes nothing");

    // Without --prune what is not in the file stays.
    let applied = gateway.cli(&["apply", "edited.json"]);
    assert!(!done(&applied).contains("deleted routes/b"), "{}", applied.stdout);
    assert!(applied.stdout.contains("1 created, 1 updated, 0 deleted"), "{}", applied.stdout);
    serves(gateway, "/c", 200);
    serves(gateway, "/b", 200);
    assert_eq!(gateway.get("/a").text(), "two");
    let kept = revision(&applied.stdout);
    let pruned = gateway.cli(&["apply", "edited.json", "--prune"]);
    assert!(done(&pruned).contains("deleted routes/b"), "{}", pruned.stdout);
    serves(gateway, "/b", 404);
    let same = gateway.cli(&["diff", "edited.json"]);
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""), "{}", same.stderr);

    // Somebody else was there first.
    let overtaken = gateway.cli(&["apply", "dump.json", "--expect-revision", &kept]);
    failed(&overtaken, 2, &["409", "was changed after revision"]);
    serves(gateway, "/b", 404);

    history(gateway, &kept, &revision(&pruned.stdout));

    let dry = gateway.cli(&["rollback", &kept, "--dry-run"]);
    assert!(done(&dry).contains("dry run") && dry.stdout.contains("created routes/b"));
    serves(gateway, "/b", 404);
    assert!(done(&gateway.cli(&["rollback", &kept])).contains("created routes/b"));
    serves(gateway, "/b", 200);
    let text = done(&gateway.cli(&["history", "--limit", "1"])).to_owned();
    assert!(text.contains(&format!("rollback to {kept} by admin from 127.0.0.1")), "{text}");
    failed(&gateway.cli(&["rollback", "99999999"]), 2, &["400", "99999999 does not exist"]);
}

fn history(gateway: &Gateway, applied: &str, pruned: &str) {
    let list = gateway.cli(&["history"]);
    for part in ["admin from 127.0.0.1", "created routes/a", "deleted routes/b"] {
        assert!(done(&list).contains(part), "{part} in {}", list.stdout);
    }
    let newest = list.stdout.lines().next().unwrap();
    assert!(newest.starts_with(&format!("revision {pruned} ")), "{newest}");
    let one = gateway.cli(&["history", applied]);
    for part in ["created routes/c", "updated upstreams/1", "  - ", "  + "] {
        assert!(done(&one).contains(part), "{part} in {}", one.stdout);
    }
    let of_one = gateway.cli(&["history", "--resource", "routes/b"]);
    assert_eq!(done(&of_one).matches("\nrevision ").count() + 1, 2, "{}", of_one.stdout);
    let older = gateway.cli(&["history", "--before", pruned, "--limit", "1"]);
    assert!(done(&older).starts_with(&format!("revision {applied} ")), "{}", older.stdout);
    assert!(older.stdout.contains("older ones: --before"), "{}", older.stdout);
    failed(&gateway.cli(&["history", "99999999"]), 2, &["404", "no entry of revision 99999999"]);
    failed(&gateway.cli(&["history", "--resource", "nothing"]), 2, &["400", "nothing"]);
}

#[test]
fn the_embedded_store_from_dump_to_rollback() {
    life(&Config::new().plane("embedded").start());
}

#[test]
fn etcd_from_dump_to_rollback() {
    let etcd = Etcd::start();
    life(&Config::new().etcd(&etcd).start());
}

#[test]
fn certificates_keep_their_keys() {
    let certificates = osmia_tests::etcd::Certificates::make();
    let read = |name| fs::read_to_string(certificates.file(name)).unwrap();
    let ssl = json!({"cert": read("server.crt"), "key": read("server.key"), "sni": "etcd.test"});
    let gateway = Config::new().plane("embedded").start();
    gateway.admin().put("ssls/1", &ssl);
    let dump = gateway.cli(&["dump", "-o", "dump.yaml"]);
    done(&dump);
    let text = fs::read_to_string(gateway.file("dump.yaml")).unwrap();
    assert!(text.contains("BEGIN CERTIFICATE") && !text.contains("PRIVATE KEY"), "{text}");
    let same = gateway.cli(&["diff", "dump.yaml"]);
    assert_eq!(same.code, Some(0), "{}{}", same.stdout, same.stderr);
    let edited = text.replace("etcd.test", "other.test");
    fs::write(gateway.file("edited.yaml"), edited).unwrap();
    assert!(done(&gateway.cli(&["apply", "edited.yaml"])).contains("updated ssls/1"));
    for path in ["export", "ssls/1", "history", "history/2"] {
        let shown = gateway.admin().json(&format!("/apisix/admin/{path}")).to_string();
        assert!(!shown.contains("PRIVATE KEY"), "{path}: {shown}");
    }
    let shown = gateway.cli(&["history", "2"]);
    assert!(!done(&shown).contains("PRIVATE KEY"), "{}", shown.stdout);
}

#[test]
fn files_that_are_refused() {
    let gateway = Config::new().plane("embedded").start();
    let upstream = Upstream::answering("x");
    gateway.admin().put("routes/1", &route("/one", &upstream));
    let before = gateway.admin().everything();
    for (name, text, parts) in [
        ("cut.yaml", "routes:\n  - id: 2\n    uri: /\n", &["cut.yaml", "#END"][..]),
        ("broken.yaml", "routes: [\n#END\n", &["broken.yaml", "line"]),
        ("broken.json", "{\"routes\": [", &["broken.json"]),
        ("text.yaml", "just text\n#END\n", &["text.yaml"]),
        ("list.yaml", "routes: 5\n#END\n", &["list.yaml", "routes"]),
        (
            "wrong.json",
            r#"{"routes": [{"id": "2", "uri": 5, "upstream": {"nodes": {"127.0.0.1:1": 1}}},
                {"id": "3", "uri": "/3", "upstream": {"nodes": {"127.0.0.1:1": 1}}},
                {"id": "4", "uri": "/4", "upstream_id": "none"}]}"#,
            &["400", "routes/2", "uri", "nothing was written"],
        ),
        (
            "lost.json",
            r#"{"routes": [{"id": "3", "uri": "/3", "upstream": {"nodes": {"127.0.0.1:1": 1}}},
                {"id": "4", "uri": "/4", "upstream_id": "none"}]}"#,
            &["400", "routes/4", "upstreams/none", "nothing was written"],
        ),
        (
            "plugin.json",
            r#"{"global_rules": [{"id": "1", "plugins": {"no-such-plugin": {}}}]}"#,
            &["400", "global_rules/1", "no-such-plugin"],
        ),
    ] {
        fs::write(gateway.file(name), text).unwrap();
        failed(&gateway.cli(&["apply", name]), 2, parts);
        failed(&gateway.cli(&["apply", "--dry-run", "--prune", name]), 2, parts);
        failed(&gateway.cli(&["diff", name]), 2, parts);
    }
    failed(&gateway.cli(&["apply", "nowhere.yaml"]), 2, &["nowhere.yaml"]);
    failed(&gateway.cli(&["dump", "--output", "no/where.yaml"]), 2, &["no/where.yaml"]);
    assert_eq!(gateway.admin().everything(), before);
}

#[test]
fn a_gateway_that_is_away_and_a_wrong_key() {
    let config = Config::new().plane("embedded");
    let directory = config.file("").display().to_string();
    let gateway = config.start();
    let directory = std::path::Path::new(&directory);
    let admin = format!("http://{}", gateway.admin().addr);
    let run = |arguments: &[&str]| run_in(directory, &[&["config"], arguments].concat());
    failed(&run(&["--admin", &admin, "dump"]), 2, &["401", "missing apikey"]);
    failed(&run(&["--admin", &admin, "--key", "wrong", "dump"]), 2, &["401", "wrong apikey"]);
    done(&run(&["--admin", &admin, "--key", KEY, "dump"]));
    done(&run(&["dump", "--admin", &admin, "--key", KEY]));
    let nobody = osmia_tests::etcd::nobody();
    let away = format!("http://{}", nobody.addr());
    for command in [&["dump"][..], &["history"], &["rollback", "1"]] {
        let arguments = [&["--admin", &away, "--key", KEY][..], command].concat();
        failed(&run(&arguments), 2, &["cannot reach the Admin API", &away]);
    }
    failed(&run(&["--admin", "127.0.0.1:1", "dump"]), 2, &["http://"]);
    let admin_of_control = format!("http://{}", gateway.control().addr);
    failed(&run(&["--admin", &admin_of_control, "--key", KEY, "dump"]), 2, &["404"]);
    for arguments in [&[][..], &["nothing"], &["apply"], &["rollback", "x"], &["diff"]] {
        assert_eq!(run(arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn the_generated_key_is_found() {
    let gateway =
        Config::new().plane("embedded").set("deployment.admin.admin_key", json!([])).start();
    let admin = format!("http://{}", gateway.admin().addr);
    let directory = gateway.file("");
    done(&run_in(&directory, &["config", "--admin", &admin, "dump"]));
    let elsewhere = tempfile::tempdir().unwrap();
    let data = gateway.file("data").display().to_string();
    let named = ["config", "--admin", &admin, "--data-dir", &data, "dump"];
    done(&run_in(elsewhere.path(), &named));
    failed(
        &run_in(elsewhere.path(), &["config", "--admin", &admin, "dump"]),
        2,
        &["missing apikey"],
    );
}

#[test]
fn check_tells_good_files_from_bad_ones() {
    let good = "upstreams:\n  - id: 1\n    nodes: {'127.0.0.1:1': 1}\n\
                routes:\n  - id: 1\n    uri: /\n    upstream_id: 1\n#END\n";
    for provider in ["yaml", "embedded", "etcd"] {
        let ended = Config::new().plane(provider).routes_text(good).check();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{provider}");
    }
    for (text, parts) in [
        (good.replace("#END", ""), &["apisix.yaml", "#END"][..]),
        (good.replace("upstream_id: 1", "upstream_id: 2"), &["routes/1", "upstreams/2"]),
        (good.replace("uri: /", "uri: 7"), &["routes/1", "uri"]),
        (good.replace("uri: /", "surprise: 7\n    uri: /"), &["routes/1", "surprise"]),
        (good.replace("routes:", "routs:"), &["routs"]),
    ] {
        let ended = Config::new().plane("yaml").routes_text(text.clone()).check();
        let is_unknown_key = text.contains("routs");
        assert_eq!(ended.code, Some(i32::from(!is_unknown_key)), "{text}: {}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "{part:?} in {}", ended.stderr);
        }
    }
    for (key, value, parts) in [
        ("deployment.admin.admin_listen", json!({"port": 0}), "admin_listen"),
        ("deployment.admin.admin_key", json!([{"name": "a", "key": "b"}]), "admin_key"),
        ("deployment.admin.admin_key", json!([{"key": "b", "role": "king"}]), "role"),
        ("deployment.admin.admin_api_version", json!("v2"), "admin_api_version"),
        ("deployment.admin.https_admin", json!(true), "admin_ssl_cert"),
        ("deployment.etcd.host", json!("127.0.0.1:2379"), "deployment.etcd.host"),
        ("deployment.etcd.host", json!(["ftp://127.0.0.1:2379"]), "deployment.etcd.host"),
        ("deployment.etcd.prefix", json!("/"), "deployment.etcd.prefix"),
        ("deployment.etcd.timeout", json!(-1), "deployment.etcd.timeout"),
        ("deployment.etcd.user", json!("root"), "deployment.etcd.password"),
        ("apisix.control.port", json!(99_999), "apisix.control.port"),
    ] {
        let ended = Config::new().plane("etcd").set(key, value).check();
        assert_eq!(ended.code, Some(1), "{key}: {}", ended.stderr);
        assert!(ended.stderr.contains(parts), "{parts} in {}", ended.stderr);
    }
}
