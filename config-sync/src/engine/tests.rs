mod tls;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use osmia_core::reply::Failure;
use osmia_core::rules::{Rules, UnknownPlugins};
use osmia_core::snapshot::{self, KeepalivePool, Timeouts, Upstream};
use osmia_tests::routes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::applied::Applied;
use crate::compile;
use crate::discovery::Known;
use crate::state::Serving;

/// An engine, and a store as simple as can be.
struct Fixture {
    engine: Engine,
    stored: BTreeMap<String, Item>,
    revision: u64,
    applied: Arc<Applied>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self::with(Rules::default())
    }
}

impl Fixture {
    fn with(rules: Rules) -> Self {
        let first =
            Snapshot { router: compile::refusing(Failure::NotConfigured), ..Default::default() };
        let (publisher, _) = Publisher::new(Arc::new(first));
        let applied = Arc::new(Applied::default());
        let recorder = Recorder::start(None, None).unwrap();
        let compiler = Compiler::new(Arc::new(rules));
        let (state, publisher, health) = (Arc::default(), Arc::new(publisher), Arc::default());
        let engine =
            Engine::new(state, compiler, publisher, health, Arc::clone(&applied), recorder);
        Self { engine, stored: BTreeMap::new(), revision: 0, applied }
    }

    fn commit(&mut self, changes: &[(&str, Option<Value>)]) -> Event {
        self.revision += 1;
        let changes = changes.iter().map(|(path, value)| {
            let path = (*path).to_owned();
            let Some(value) = value else {
                self.stored.remove(&path);
                return Change::Delete { path };
            };
            let text = match value {
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            let created = self.stored.get(&path).map_or(self.revision, |item| item.created);
            let (value, modified) = (text.into(), self.revision);
            let item = Item { path: path.clone(), value, created, modified };
            self.stored.insert(path, item.clone());
            Change::Put(item)
        });
        let changes = changes.collect();
        Event::Commits(vec![Commit { revision: self.revision, author: None, changes }])
    }

    fn put(&mut self, path: &str, value: Value) -> Arc<Snapshot> {
        let event = self.commit(&[(path, Some(value))]);
        self.engine.apply(vec![event]);
        self.snapshot()
    }

    fn delete(&mut self, path: &str) -> Arc<Snapshot> {
        let event = self.commit(&[(path, None)]);
        self.engine.apply(vec![event]);
        self.snapshot()
    }

    fn load(&mut self) -> Arc<Snapshot> {
        let items = self.stored.values().cloned().collect();
        self.engine.apply(vec![Event::Load(Contents { revision: self.revision, items })]);
        self.snapshot()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.engine.publisher.current()
    }

    fn answer(&mut self, name: &str, ips: &[&str]) {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let known = Known::Addresses(ips);
        let answer =
            if known == Known::Addresses(vec![]) { Err("no such name".into()) } else { Ok(known) };
        self.engine.resolved(vec![(Subject::Name(name.into()), answer)]);
    }

    fn quarantined(&self) -> Vec<(String, Serving, String)> {
        let state = self.engine.state.read().unwrap();
        let row = |(key, item): (&Key, &crate::state::Quarantined)| {
            (key.path(), item.serving, item.reason.clone())
        };
        state.quarantine().iter().map(row).collect()
    }
}

fn find(snapshot: &Snapshot, path: &str) -> Option<Arc<snapshot::Route>> {
    routes::find(snapshot, "h", path)
}

fn upstream(snapshot: &Snapshot, path: &str) -> Arc<Upstream> {
    find(snapshot, path).unwrap().upstream.clone().unwrap()
}

fn failure(snapshot: &Snapshot, path: &str) -> Failure {
    find(snapshot, path).unwrap().upstream.clone().unwrap_err()
}

fn node(address: &str) -> Value {
    json!({"nodes": {address: 1}})
}

/// Two routes: `/a` by the upstream `u`, `/b` with nodes of its own.
fn two() -> Fixture {
    let mut fixture = Fixture::default();
    let b = json!({"10.0.0.1:80": 1, "10.0.0.2:80": 1});
    fixture.commit(&[
        ("upstreams/u", Some(node("10.0.0.2:80"))),
        ("routes/1", Some(json!({"uri": "/a", "upstream_id": "u"}))),
        ("routes/2", Some(json!({"uri": "/b", "name": "bee", "upstream": {"nodes": b}}))),
    ]);
    fixture.load();
    fixture
}

#[test]
fn resolves_routes_completely() {
    let fixture = two();
    let snapshot = fixture.snapshot();
    assert_eq!((snapshot.revision, snapshot.source_revision), (1, 1));
    assert_eq!(fixture.applied.revision(), 1);
    let (a, b) = (upstream(&snapshot, "/a"), upstream(&snapshot, "/b"));
    assert_eq!((&*a.id, &*b.id), ("u", "route#2"));
    assert_eq!((a.retries, b.retries), (0, 1));
    assert_eq!(&*find(&snapshot, "/b").unwrap().name, "bee");
    assert_ne!(a.slot, b.slot);
    assert_eq!(a.nodes[0].pool, b.nodes[1].pool, "pools are shared by address");
    assert_ne!(b.nodes[0].pool, b.nodes[1].pool);
    assert_eq!(&*b.nodes[1].label, "10.0.0.2:80");
    assert_eq!(a.timeout, Timeouts::default());
}

#[test]
fn takes_every_field_over() {
    let mut fixture = Fixture::default();
    let route = json!({
        "uri": "/a",
        "timeout": {"connect": 1, "send": 2, "read": 3},
        "enable_websocket": false,
        "upstream": {
            "nodes": {"10.0.0.1:80": 3},
            "retries": 5,
            "retry_timeout": 9,
            "pass_host": "rewrite",
            "upstream_host": "x.y",
            "timeout": {"connect": 4, "send": 5, "read": 6},
            "keepalive_pool": {"size": 1, "idle_timeout": 2, "requests": 3},
        },
    });
    let route = find(&fixture.put("routes/1", route), "/a").unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(route.timeout().unwrap().read, seconds(3));
    assert!(!route.enable_websocket);
    let upstream = route.upstream.as_ref().unwrap();
    assert_eq!(upstream.pass_host, snapshot::PassHost::Rewrite("x.y".into()));
    assert_eq!((upstream.retries, upstream.retry_timeout), (5, Some(seconds(9))));
    assert_eq!(upstream.timeout.send, seconds(5));
    let pool = KeepalivePool { size: 1, idle_timeout: seconds(2), requests: 3 };
    assert_eq!(upstream.keepalive, pool);
}

#[test]
fn the_same_contents_are_no_change() {
    let mut fixture = two();
    let first = fixture.snapshot();
    assert!(Arc::ptr_eq(&first, &fixture.load()));
    // Something else in the store moves the revision on, not the snapshot.
    fixture.put("protos/1", json!({"content": "syntax = \"proto3\";"}));
    assert!(Arc::ptr_eq(&first, &fixture.snapshot()));
    assert_eq!(fixture.applied.revision(), 2);
}

#[test]
fn what_did_not_change_is_shared() {
    let mut fixture = two();
    let first = fixture.snapshot();
    let nodes = json!({"10.0.0.1:80": 1, "10.0.0.3:80": 1});
    let second =
        fixture.put("routes/2", json!({"uri": "/c", "name": "bee", "upstream": {"nodes": nodes}}));
    assert!(Arc::ptr_eq(&find(&first, "/a").unwrap(), &find(&second, "/a").unwrap()));
    assert!(find(&second, "/b").is_none());
    let (before, after) = (upstream(&first, "/b"), upstream(&second, "/c"));
    assert!(!Arc::ptr_eq(&before, &after));
    assert_eq!(before.slot, after.slot, "balancer state survives a change of nodes");
    assert_eq!(before.nodes[0].pool, after.nodes[0].pool);
    assert_ne!(before.nodes[1].pool, after.nodes[1].pool);
    let third =
        fixture.put("routes/2", json!({"uri": "/d", "name": "bee", "upstream": {"nodes": nodes}}));
    assert!(Arc::ptr_eq(&upstream(&second, "/c"), &upstream(&third, "/d")));
}

#[test]
fn a_changed_upstream_changes_its_routes_only() {
    let mut fixture = two();
    fixture
        .put("services/s", json!({"upstream_id": "u", "hosts": ["h"], "enable_websocket": false}));
    let first = fixture.put("routes/3", json!({"uri": "/c", "service_id": "s"}));
    assert_eq!(&*find(&first, "/c").unwrap().hosts[0], "h");
    assert!(!find(&first, "/c").unwrap().enable_websocket);
    let changed = json!({"nodes": {"10.0.0.2:80": 1}, "retries": 3});
    let second = fixture.put("upstreams/u", changed);
    assert_eq!(upstream(&second, "/a").retries, 3);
    assert!(Arc::ptr_eq(&upstream(&second, "/a"), &upstream(&second, "/c")));
    assert!(Arc::ptr_eq(&find(&first, "/b").unwrap(), &find(&second, "/b").unwrap()));
    assert_eq!(upstream(&first, "/a").slot, upstream(&second, "/a").slot);
}

#[test]
fn slots_of_removed_things_are_given_away_with_a_new_generation() {
    let mut fixture = Fixture::default();
    let route = |address| json!({"uri": "/", "upstream": node(address)});
    let first = upstream(&fixture.put("routes/a", route("10.0.0.1:80")), "/");
    fixture.delete("routes/a");
    fixture.put("routes/b", route("10.0.0.2:80"));
    let second = upstream(&fixture.snapshot(), "/");
    assert_eq!(second.slot.index, first.slot.index);
    assert_eq!(second.slot.generation, first.slot.generation + 1);
    assert_eq!(second.nodes[0].pool.index, first.nodes[0].pool.index);
    assert_eq!(second.nodes[0].pool.generation, first.nodes[0].pool.generation + 1);
}

#[test]
fn a_missing_reference_fails_requests_until_it_is_there() {
    let mut fixture = Fixture::default();
    fixture.put("routes/1", json!({"uri": "/u", "upstream_id": "u"}));
    fixture.put("routes/2", json!({"uri": "/s", "service_id": "s"}));
    fixture.put("routes/3", json!({"uri": "/p", "plugin_config_id": "p", "upstream_id": "u"}));
    let snapshot = fixture.put("routes/4", json!({"uri": "/n", "plugins": {}}));
    assert_eq!(failure(&snapshot, "/u"), Failure::NoUpstream);
    assert_eq!(failure(&snapshot, "/s"), Failure::NoService);
    assert_eq!(failure(&snapshot, "/p"), Failure::NoPluginConfig);
    assert_eq!(failure(&snapshot, "/n"), Failure::NoNode);
    assert!(fixture.quarantined().is_empty());
    fixture.put("upstreams/u", node("10.0.0.1:80"));
    fixture.put("services/s", json!({"upstream_id": "u"}));
    let snapshot = fixture.put("plugin_configs/p", json!({"plugins": {}}));
    for path in ["/u", "/s", "/p"] {
        assert_eq!(&*upstream(&snapshot, path).id, "u");
    }
    let snapshot = fixture.delete("upstreams/u");
    for path in ["/u", "/s", "/p"] {
        assert_eq!(failure(&snapshot, path), Failure::NoUpstream);
    }
}

#[test]
fn a_bad_item_keeps_its_last_valid_version_and_takes_nobody_along() {
    let mut fixture = two();
    let bad = fixture.commit(&[
        ("routes/1", Some(json!({"uri": 7}))),
        ("routes/2", Some(json!("{not json"))),
        ("routes/3", Some(json!({"uri": "/new", "upstream_id": "u"}))),
        ("routes/4", Some(json!({"uris": []}))),
        ("upstreams/u", Some(json!({"nodes": {"10.0.0.9:80": "x"}}))),
    ]);
    fixture.engine.apply(vec![bad]);
    let snapshot = fixture.snapshot();
    assert_eq!(&*upstream(&snapshot, "/a").nodes[0].label, "10.0.0.2:80");
    assert_eq!(upstream(&snapshot, "/b").nodes.len(), 2);
    assert!(find(&snapshot, "/new").is_some());
    let rows: Vec<_> =
        fixture.quarantined().into_iter().map(|(path, serving, _)| (path, serving)).collect();
    let last = Serving::LastValid;
    assert_eq!(
        rows,
        [
            ("routes/1".to_owned(), last),
            ("routes/2".to_owned(), last),
            ("routes/4".to_owned(), Serving::Nothing),
            ("upstreams/u".to_owned(), last),
        ]
    );
    // Bad again: the last valid version is still the one from before.
    let snapshot = fixture.put("routes/1", json!({"uri": []}));
    assert!(find(&snapshot, "/a").is_some());
    fixture.put("routes/4", json!({"uris": [1]}));
    assert_eq!(fixture.quarantined()[2].1, Serving::Nothing);
    // A dependency changes: the last valid version follows it.
    let snapshot = fixture.put("upstreams/u", node("10.0.0.5:80"));
    assert_eq!(&*upstream(&snapshot, "/a").nodes[0].label, "10.0.0.5:80");
    // Good again, and gone.
    fixture.put("routes/1", json!({"uri": "/z", "upstream_id": "u"}));
    fixture.delete("routes/2");
    let snapshot = fixture.delete("routes/4");
    assert!(fixture.quarantined().is_empty());
    assert!(find(&snapshot, "/z").is_some() && find(&snapshot, "/a").is_none());
    assert!(find(&snapshot, "/b").is_none());
}

#[test]
fn what_cannot_be_honoured_is_refused_and_said() {
    let mut fixture = two();
    let plugins = json!({"ip-restriction": {"whitelist": ["10.0.0.0/8"]}});
    let snapshot =
        fixture.put("routes/1", json!({"uri": "/a", "upstream_id": "u", "plugins": plugins}));
    assert_eq!(failure(&snapshot, "/a"), Failure::Quarantined);
    assert_eq!(
        fixture.quarantined(),
        [("routes/1".to_owned(), Serving::Refusal, "unknown plugin [ip-restriction]".to_owned())]
    );
    fixture.put("services/s", json!({"upstream_id": "u", "plugins": plugins}));
    fixture.put("plugin_configs/p", json!({"plugins": plugins}));
    fixture.put("routes/3", json!({"uri": "/s", "service_id": "s"}));
    let snapshot =
        fixture.put("routes/4", json!({"uri": "/p", "plugin_config_id": "p", "upstream_id": "u"}));
    assert_eq!(failure(&snapshot, "/s"), Failure::Quarantined);
    assert_eq!(failure(&snapshot, "/p"), Failure::Quarantined);
    assert!(find(&snapshot, "/b").unwrap().upstream.is_ok());
    // A global rule concerns every request.
    let snapshot = fixture.put("global_rules/1", json!({"plugins": plugins}));
    assert_eq!(failure(&snapshot, "/b"), Failure::Quarantined);
    assert_eq!(failure(&snapshot, "/nowhere"), Failure::Quarantined);
    let snapshot = fixture.delete("global_rules/1");
    assert!(find(&snapshot, "/b").unwrap().upstream.is_ok());
    assert!(find(&snapshot, "/nowhere").is_none());
    // Disabled by itself it restricts nothing.
    let plugins = json!({"ip-restriction": {"_meta": {"disable": true}}});
    let snapshot =
        fixture.put("routes/1", json!({"uri": "/a", "upstream_id": "u", "plugins": plugins}));
    assert!(find(&snapshot, "/a").unwrap().upstream.is_ok());
}

#[test]
fn unknown_plugins_are_skipped_when_the_operator_says_so() {
    let unknown = UnknownPlugins::SkipNamed(vec!["prometheus".to_owned()]);
    let mut fixture = Fixture::with(Rules { unknown, ..Rules::default() });
    let route = |plugin: &str| json!({"uri": "/", "upstream": node("10.0.0.1:80"), "plugins": {plugin: {}}});
    assert!(find(&fixture.put("routes/1", route("prometheus")), "/").unwrap().upstream.is_ok());
    assert_eq!(failure(&fixture.put("routes/1", route("key-auth")), "/"), Failure::Quarantined);
}

#[test]
fn disabled_routes_do_not_match() {
    let mut fixture = two();
    let snapshot = fixture.put("routes/1", json!({"uri": "/a", "status": 0, "upstream_id": "u"}));
    assert!(find(&snapshot, "/a").is_none() && find(&snapshot, "/b").is_some());
}

#[test]
fn names_are_asked_for_once_and_followed() {
    let mut fixture = Fixture::default();
    fixture.put("upstreams/u", json!({"nodes": {"a.example:80": 1}}));
    let snapshot = fixture.put("routes/1", json!({"uri": "/", "upstream_id": "u"}));
    assert_eq!(failure(&snapshot, "/"), Failure::NoNode);
    let subject = || Subject::Name("a.example".into());
    assert_eq!(fixture.engine.subjects(), (vec![subject()], vec![]));
    assert_eq!(fixture.engine.subjects(), (vec![], vec![]));
    fixture.answer("a.example", &[]);
    assert_eq!(failure(&fixture.snapshot(), "/"), Failure::NoNode);
    let [(path, serving, reason)] = &fixture.quarantined()[..] else { panic!() };
    assert_eq!((path.as_str(), *serving), ("upstreams/u", Serving::Nothing));
    assert!(
        reason.contains("host name \"a.example\" cannot be resolved: no such name"),
        "{reason}"
    );
    fixture.answer("a.example", &["10.0.0.2", "10.0.0.3"]);
    assert_eq!(upstream(&fixture.snapshot(), "/").nodes.len(), 2);
    assert!(fixture.quarantined().is_empty());
    // It keeps its addresses while the resolver is away.
    fixture.answer("a.example", &[]);
    assert_eq!(upstream(&fixture.snapshot(), "/").nodes.len(), 2);
    fixture.delete("upstreams/u");
    assert_eq!(fixture.engine.subjects(), (vec![], vec![subject()]));
}

#[test]
fn outages_and_refusals_keep_what_is_served() {
    let mut fixture = two();
    let before = fixture.snapshot();
    fixture.engine.apply(vec![Event::Lost { reason: "gone".to_owned() }]);
    let source = fixture.engine.state.read().unwrap().source.clone();
    assert_eq!((source.reachable, source.problem.as_deref()), (false, Some("gone")));
    fixture.engine.apply(vec![Event::Refused { reason: "empty".to_owned() }]);
    let source = fixture.engine.state.read().unwrap().source.clone();
    assert_eq!((source.reachable, source.refused), (true, 1));
    assert!(Arc::ptr_eq(&before, &fixture.snapshot()));
    fixture.load();
    assert_eq!(fixture.engine.state.read().unwrap().source.problem, None);
}

#[test]
fn a_restore_to_older_contents_is_followed_although_revisions_repeat() {
    let mut fixture = two();
    fixture.put("routes/3", json!({"uri": "/c", "upstream_id": "u"}));
    fixture.stored.remove("routes/3");
    fixture.revision = 1;
    let other = json!({"uri": "/other", "upstream_id": "u"}).to_string();
    fixture.stored.get_mut("routes/1").unwrap().value = other.into();
    let snapshot = fixture.load();
    assert!(find(&snapshot, "/c").is_none() && find(&snapshot, "/a").is_none());
    assert!(find(&snapshot, "/other").is_some());
    assert_eq!(fixture.engine.state.read().unwrap().revision(), 1);
}

#[test]
fn the_copy_on_disk_serves_until_the_store_is_there() {
    let mut fixture = Fixture::default();
    let mut source = two();
    let items = source.stored.values().cloned().collect();
    fixture.engine.apply(vec![Event::Lost { reason: "away".to_owned() }]);
    assert_eq!(failure(&fixture.snapshot(), "/a"), Failure::NotConfigured);
    fixture.engine.apply_copy(Contents { revision: 1, items });
    assert!(find(&fixture.snapshot(), "/a").unwrap().upstream.is_ok());
    assert!(fixture.engine.state.read().unwrap().source.from_copy);
    source.delete("routes/1");
    let items = source.stored.values().cloned().collect();
    fixture.engine.apply(vec![Event::Load(Contents { revision: 2, items })]);
    assert!(find(&fixture.snapshot(), "/a").is_none());
    assert!(!fixture.engine.state.read().unwrap().source.from_copy);
}

#[test]
fn what_is_not_a_resource_is_passed_over() {
    let mut fixture = Fixture::default();
    for path in ["routes/", "gen_id", "data_plane/server_info/1", "osmia/author"] {
        fixture.put(path, json!("init_dir"));
    }
    fixture.load();
    assert!(fixture.quarantined().is_empty());
    assert!(fixture.snapshot().router.is_empty());
}

/// A change to one of a few resources that refer to each other.
fn change() -> impl Strategy<Value = (String, Option<Value>)> {
    let id = 0..3u8;
    let upstream = (id.clone(), 0..3u8, any::<bool>()).prop_map(|(id, port, bad)| {
        let weight = if bad { json!("x") } else { json!(1) };
        (format!("upstreams/{id}"), json!({"nodes": {format!("10.0.0.1:{}", port + 1): weight}}))
    });
    let service = (id.clone(), id.clone(), any::<bool>()).prop_map(|(id, upstream, hosts)| {
        let mut service = json!({"upstream_id": upstream.to_string()});
        if hosts {
            service["hosts"] = json!(["h", "*.x"]);
        }
        (format!("services/{id}"), service)
    });
    let route = (id.clone(), id, 0..6u8, 0..4u8).prop_map(|(id, to, uri, form)| {
        let uri = ["/a", "/a*", "/a/b", "/*", "/b", "/a/*/c"][usize::from(uri)];
        let mut route = json!({"uri": uri, "priority": id % 2});
        match form {
            0 => route["upstream_id"] = json!(to.to_string()),
            1 => route["service_id"] = json!(to.to_string()),
            2 => route["upstream"] = node(&format!("10.0.0.2:{}", to + 1)),
            _ => route = json!({"uri": 1}),
        }
        (format!("routes/{id}"), route)
    });
    (prop_oneof![upstream, service, route], 0..4u8)
        .prop_map(|((path, value), delete)| (path, (delete > 0).then_some(value)))
}

/// What a request would meet, without what depends on the order of events (slots).
fn answers(snapshot: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    for host in ["h", "a.x", "other"] {
        for path in ["/", "/a", "/a/b", "/a/x/c", "/b", "/bc"] {
            let route = routes::find(snapshot, host, path);
            let shown = route.map(|route| {
                let place = |upstream: &Arc<Upstream>| {
                    (upstream.id.to_string(), upstream.nodes[0].label.to_string())
                };
                let target = route.upstream.as_ref().map(place).map_err(|failure| *failure);
                (route.id.to_string(), target)
            });
            found.push(format!("{host}{path} {shown:?}"));
        }
    }
    found
}

proptest! {
    #[test]
    fn changes_one_by_one_lead_where_a_fresh_start_leads(
        changes in proptest::collection::vec(proptest::collection::vec(change(), 1..4), 1..25),
    ) {
        let mut fixture = Fixture::default();
        fixture.load();
        for changes in changes {
            // Each path once, in any order.
            let mut seen = std::collections::BTreeSet::new();
            let changes: Vec<_> = changes
                .iter()
                .filter(|(path, _)| seen.insert(path.as_str()))
                .map(|(path, value)| (path.as_str(), value.clone()))
                .collect();
            let event = fixture.commit(&changes);
            fixture.engine.apply(vec![event]);
        }
        // From scratch with what is in force: the last valid texts.
        let mut fresh = Fixture::default();
        {
            let state = fixture.engine.state.read().unwrap();
            for (path, item) in &fixture.stored {
                let text = state.effective(&Key::parse(path).unwrap()).unwrap();
                fresh.stored.insert(path.clone(), Item { value: text, ..item.clone() });
            }
        }
        fresh.revision = fixture.revision;
        fresh.load();
        prop_assert_eq!(answers(&fixture.snapshot()), answers(&fresh.snapshot()));
        // Nothing is left behind once all is gone.
        for path in fixture.stored.keys().cloned().collect::<Vec<_>>() {
            fixture.delete(&path);
        }
        prop_assert!(fixture.snapshot().router.is_empty());
        let state = fixture.engine.state.read().unwrap();
        prop_assert!(state.users.is_empty());
        prop_assert!(state.quarantine.is_empty() && state.fallback.is_empty());
    }
}

/// The upstreams that are checked.
fn checked(fixture: &Fixture) -> Vec<String> {
    let views = fixture.engine.health.views();
    views.into_iter().map(|view| view.upstream.to_string()).collect()
}

#[test]
fn what_is_in_force_is_checked() {
    let mut fixture = Fixture::default();
    let upstream = |nodes: Value| json!({"nodes": nodes, "checks": {"active": {}, "passive": {}}});
    let node = || json!({"10.0.0.1:80": 1});
    let route = |more: Value| {
        let mut route = json!({"uri": "/a", "upstream": upstream(node())});
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        route
    };
    fixture.put("upstreams/u", upstream(node()));
    let snapshot = fixture.put("routes/r", route(json!({})));
    assert_eq!(checked(&fixture), ["route#r", "u"]);
    assert!(self::upstream(&snapshot, "/a").passive.is_some());
    // What a route cannot use is not checked, be it in force before or not.
    fixture.put("routes/r", route(json!({"plugin_config_id": "none"})));
    assert_eq!(checked(&fixture), ["u"]);
    fixture.put("routes/s", route(json!({"plugin_config_id": "none", "desc": "new"})));
    assert_eq!(checked(&fixture), ["u"]);
    fixture.put("routes/s", route(json!({"status": 0})));
    fixture.put("routes/r", route(json!({"upstream_id": "u"})));
    assert_eq!(checked(&fixture), ["u"]);
    // A name that is asked for keeps the nodes that are there, and their checks.
    fixture.put("upstreams/u", upstream(json!({"a.com:80": 1})));
    assert_eq!(fixture.engine.health.view("u").unwrap().targets[0].addr.port(), 80);
    fixture.answer("a.com", &["10.0.0.7", "10.0.0.8"]);
    assert_eq!(fixture.engine.health.view("u").unwrap().targets.len(), 2);
    fixture.put("upstreams/u", json!({"nodes": node()}));
    assert!(checked(&fixture).is_empty());
}
