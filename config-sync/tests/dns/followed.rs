//! Names and services that are asked for again and again, and the configuration that uses them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use osmia_config_sync::discovery::{Answer, Known, Lookups, Service, Subject};
use osmia_config_sync::dns::Counters;
use osmia_config_sync::settings::{self, Overrides};
use osmia_config_sync::sync::{self, SyncHandle};
use osmia_core::settings::{ConfigProvider, Settings};

use osmia_tests::dns::{Mode, Server, a, alias, srv};

/// What is waited for comes sooner, or never.
const DEADLINE: Duration = Duration::from_secs(60);

fn settings(text: &str) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, text).unwrap();
    settings::load(Some(&file), &Overrides::default()).unwrap().settings
}

/// Names and services are asked for at `server`.
fn at(server: &Server, more: &str) -> Settings {
    let addr = server.addr;
    settings(&format!(
        "apisix:\n  dns_resolver: ['{addr}']\n  resolver_timeout: 1s\n  \
         enable_resolv_search_opt: false\ndiscovery: {{dns: {{servers: ['{addr}']{more}}}}}\n"
    ))
}

/// Subjects that are followed, and what is known of them.
struct World {
    lookups: Lookups,
    counters: Arc<Counters>,
    known: HashMap<Subject, Answer>,
}

fn host(text: &str) -> Subject {
    Subject::Name(text.into())
}

fn service(text: &str) -> Subject {
    let (kind, name, args) = ("dns".into(), text.into(), "".into());
    Subject::Service(Arc::new(Service { kind, name, args }))
}

impl World {
    fn new(settings: &Settings, subjects: &[Subject]) -> Self {
        let counters = Arc::new(Counters::default());
        let mut lookups = Lookups::new(settings, Arc::clone(&counters));
        lookups.follow(subjects.to_vec(), &[]);
        Self { lookups, counters, known: HashMap::new() }
    }

    /// Takes changes until one makes the subject what it should be.
    async fn until(&mut self, subject: &Subject, expected: impl Fn(&Answer) -> bool) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !self.known.get(subject).is_some_and(&expected) {
            match tokio::time::timeout_at(deadline, self.lookups.changed()).await {
                Ok(changes) => self.known.extend(changes),
                Err(error) => panic!("{error}: {subject} stays {:?}", self.known.get(subject)),
            }
        }
    }

    async fn until_known(&mut self, subject: &Subject, expected: &[&str]) {
        self.until(subject, |answer| rows(answer).is_some_and(|rows| rows == expected)).await;
    }
}

/// Addresses, or nodes as `host:port weight/priority`.
fn rows(answer: &Answer) -> Option<Vec<String>> {
    Some(match answer.as_ref().ok()? {
        Known::Addresses(ips) => ips.iter().map(ToString::to_string).collect(),
        Known::Nodes(nodes) => {
            let port = |port: Option<u16>| port.map_or_else(String::new, |port| format!(":{port}"));
            let row = |n: &osmia_core::resource::Node| {
                format!("{}{} {}/{}", n.host, port(n.port), n.weight, n.priority)
            };
            nodes.iter().map(row).collect()
        }
    })
}

#[tokio::test]
async fn a_name_follows_its_records_as_their_time_ends() {
    let server = Server::start(vec![a("a.test.", 1, "10.0.0.1"), a("zero.test.", 0, "10.0.1.1")]);
    let subjects = [host("a.test"), host("zero.test")];
    let mut world = World::new(&at(&server, ""), &subjects);
    world.until_known(&subjects[0], &["10.0.0.1"]).await;
    world.until_known(&subjects[1], &["10.0.1.1"]).await;
    server.set(vec![
        a("a.test.", 3600, "10.0.0.2"),
        a("a.test.", 3600, "10.0.0.3"),
        a("zero.test.", 0, "10.0.1.2"),
    ]);
    world.until_known(&subjects[0], &["10.0.0.2", "10.0.0.3"]).await;
    world.until_known(&subjects[1], &["10.0.1.2"]).await;
    // A name that is known for an hour is left alone, whatever else is asked for.
    let asked = server.asked("a.test.", RecordType::A);
    server.set(vec![a("zero.test.", 0, "10.0.1.3")]);
    world.until_known(&subjects[1], &["10.0.1.3"]).await;
    assert_eq!(server.asked("a.test.", RecordType::A), asked);
    // Unless all are asked for again.
    server.set(vec![a("a.test.", 3600, "10.0.0.4")]);
    world.lookups.refresh();
    world.until_known(&subjects[0], &["10.0.0.4"]).await;
}

#[tokio::test]
async fn a_name_that_appears_is_found() {
    let server = Server::start(vec![]);
    server.zone().minimum = Some(1);
    let name = host("later.test");
    let mut world = World::new(&at(&server, ""), std::slice::from_ref(&name));
    world.until(&name, |answer| answer == &Err("no such name".into())).await;
    server.set(vec![a("later.test.", 60, "10.0.0.1")]);
    world.until_known(&name, &["10.0.0.1"]).await;
    assert_eq!(world.counters.stale(), 0);
}

#[tokio::test]
async fn a_server_that_fails_is_told_of_and_asked_again() {
    let server = Server::start(vec![a("a.test.", 0, "10.0.0.1")]);
    let name = host("a.test");
    let mut world = World::new(&at(&server, ""), std::slice::from_ref(&name));
    for mode in [Mode::Fail(ResponseCode::ServFail), Mode::Silent, Mode::Garble] {
        world.until_known(&name, &["10.0.0.1"]).await;
        server.mode(mode);
        world.until(&name, Result::is_err).await;
        assert_eq!(world.counters.stale(), 1, "{mode:?}");
        server.mode(Mode::Answer);
    }
    world.until_known(&name, &["10.0.0.1"]).await;
    assert_eq!(world.counters.stale(), 0);
}

#[tokio::test]
async fn what_is_not_used_is_not_asked_for() {
    let server = Server::start(vec![a("a.test.", 0, "10.0.0.1"), a("b.test.", 0, "10.0.0.2")]);
    let (one, two) = (host("a.test"), host("b.test"));
    let mut world = World::new(&at(&server, ""), &[one.clone(), two.clone()]);
    world.until_known(&one, &["10.0.0.1"]).await;
    world.until_known(&two, &["10.0.0.2"]).await;
    world.lookups.follow(vec![], std::slice::from_ref(&one));
    let asked = server.asked("a.test.", RecordType::A);
    for ip in ["10.0.0.3", "10.0.0.4", "10.0.0.5"] {
        server.set(vec![a("b.test.", 0, ip)]);
        world.until_known(&two, &[ip]).await;
    }
    // One may have been under way.
    assert!(server.asked("a.test.", RecordType::A) <= asked + 1);
}

#[tokio::test]
async fn services_are_srv_records_with_their_targets() {
    // As in APISIX's own tests and documentation.
    let records = || {
        vec![
            a("a.test.", 60, "127.0.0.1"),
            a("b.test.", 60, "127.0.0.2"),
            a("c.test.", 60, "127.0.0.3"),
            a("c.test.", 60, "127.0.0.4"),
            srv("srv.test.", 60, (10, 60, 1980), "a.test."),
            srv("srv.test.", 60, (10, 20, 1981), "b.test."),
            srv("_sip._tcp.srv.test.", 60, (10, 60, 1980), "a.test."),
            srv("split.test.", 60, (10, 100, 1980), "a.test."),
            srv("split.test.", 60, (10, 0, 1980), "c.test."),
            srv("priority.test.", 60, (20, 60, 1980), "b.test."),
            srv("priority.test.", 60, (10, 60, 1979), "a.test."),
            srv("zero.test.", 60, (10, 60, 0), "a.test."),
            srv("partly.test.", 60, (10, 60, 1), "nowhere.test."),
            srv("partly.test.", 60, (10, 60, 2), "b.test."),
            srv("both.test.", 60, (10, 60, 1980), "a.test."),
            a("both.test.", 60, "127.0.0.9"),
            alias("alias.test.", 60, "srv.test."),
        ]
    };
    let cases: [(&str, &[&str]); 10] = [
        ("srv.test", &["127.0.0.1:1980 60/-10", "127.0.0.2:1981 20/-10"]),
        ("srv.test:8848", &["127.0.0.1:8848 60/-10", "127.0.0.2:8848 20/-10"]),
        ("_sip._tcp.srv.test", &["127.0.0.1:1980 60/-10"]),
        ("split.test", &["127.0.0.1:1980 200/-10", "127.0.0.3:1980 1/-10", "127.0.0.4:1980 1/-10"]),
        ("priority.test", &["127.0.0.1:1979 60/-10", "127.0.0.2:1980 60/-20"]),
        ("zero.test", &["127.0.0.1 60/-10"]),
        ("partly.test", &["127.0.0.2:2 60/-10"]),
        ("both.test", &["127.0.0.1:1980 60/-10"]),
        ("alias.test", &["127.0.0.1:1980 60/-10", "127.0.0.2:1981 20/-10"]),
        ("c.test:1980", &["127.0.0.3:1980 1/0", "127.0.0.4:1980 1/0"]),
    ];
    let server = Server::start(records());
    let subjects: Vec<Subject> = cases.iter().map(|(name, _)| service(name)).collect();
    let mut world = World::new(&at(&server, ""), &subjects);
    for (subject, (_, expected)) in subjects.iter().zip(cases) {
        world.until_known(subject, expected).await;
    }
    // In another order there are no SRV records.
    let mut world = World::new(&at(&server, ", order: [A, SRV]"), &[service("both.test")]);
    world.until_known(&service("both.test"), &["127.0.0.9 1/0"]).await;
}

#[tokio::test]
async fn services_follow_their_records_and_the_last_type_goes_first() {
    let server = Server::start(vec![a("s.test.", 0, "10.0.0.1")]);
    let name = service("s.test:80");
    let mut world = World::new(&at(&server, ""), &[name.clone(), service("no:port:here")]);
    world.until_known(&name, &["10.0.0.1:80 1/0"]).await;
    world.until(&service("no:port:here"), Result::is_err).await;
    let asked = server.asked("s.test.", RecordType::SRV);
    for (ip, row) in [("10.0.0.2", "10.0.0.2:80 1/0"), ("10.0.0.3", "10.0.0.3:80 1/0")] {
        server.set(vec![a("s.test.", 0, ip)]);
        world.until_known(&name, &[row]).await;
    }
    assert_eq!(server.asked("s.test.", RecordType::SRV), asked);
    server.set(vec![a("t.test.", 0, "::9"), srv("s.test.", 0, (1, 2, 3), "t.test.")]);
    world.until_known(&name, &["::9:80 2/-1"]).await;
    // A target that cannot be asked for makes it a failure: the nodes are not known to be gone.
    server.mode(Mode::Fail(ResponseCode::ServFail));
    world.until(&name, Result::is_err).await;
    assert_eq!(world.counters.stale(), 1);
}

/// A running configuration plane.
struct Plane {
    handle: SyncHandle,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Plane {
    fn start(mut settings: Settings, resources: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("apisix.yaml");
        std::fs::write(&file, resources).unwrap();
        settings.provider = ConfigProvider::yaml(file.clone());
        settings.data_dir = directory.path().join("data");
        (settings.admin, settings.control, settings.status) = (None, None, None);
        let handle = sync::start(&settings, 0).unwrap();
        Self { handle, file, _directory: directory }
    }

    /// The addresses behind a path.
    fn nodes(&self, path: &str) -> Option<Vec<String>> {
        let route = osmia_tests::routes::find(&self.handle.current(), "h", path)?;
        let upstream = route.upstream.as_ref().ok()?;
        Some(upstream.nodes.iter().map(|node| node.addr.to_string()).collect())
    }

    fn until(&self, path: &str, expected: &[&str]) {
        let deadline = Instant::now() + DEADLINE;
        while self.nodes(path).is_none_or(|nodes| nodes != expected) {
            assert!(Instant::now() < deadline, "{path}: {:?}", self.nodes(path));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

#[test]
fn what_changes_in_the_dns_changes_what_is_served() {
    let server = Server::start(vec![
        a("a.test.", 1, "10.0.0.1"),
        a("t.test.", 1, "10.0.1.1"),
        srv("s.test.", 1, (10, 1, 81), "t.test."),
    ]);
    let resources = "routes:\n\
        - {id: 1, uri: /a, upstream: {nodes: {'a.test:80': 1}}}\n\
        - {id: 2, uri: /b, upstream: {nodes: {'a.test:80': 1}}}\n\
        - {id: 3, uri: /s, upstream: {service_name: s.test, discovery_type: dns}}\n#END\n";
    let plane = Plane::start(at(&server, ""), resources);
    plane.until("/a", &["10.0.0.1:80"]);
    plane.until("/b", &["10.0.0.1:80"]);
    plane.until("/s", &["10.0.1.1:81"]);
    server.set(vec![
        a("a.test.", 1, "10.0.0.2"),
        a("a.test.", 1, "10.0.0.3"),
        a("t.test.", 1, "10.0.1.2"),
        srv("s.test.", 1, (10, 1, 82), "t.test."),
        a("new.test.", 1, "10.0.3.1"),
    ]);
    plane.until("/a", &["10.0.0.2:80", "10.0.0.3:80"]);
    plane.until("/b", &["10.0.0.2:80", "10.0.0.3:80"]);
    plane.until("/s", &["10.0.1.2:82"]);
    // A server that is gone takes no addresses along, and new configuration comes all the same.
    server.mode(Mode::Silent);
    let more = "routes:\n- {id: 1, uri: /a, upstream: {nodes: {'a.test:80': 1}}}\n\
        - {id: 4, uri: /fixed, upstream: {nodes: {'10.0.9.9:80': 1}}}\n\
        - {id: 5, uri: /new, upstream: {nodes: {'new.test:80': 1}}}\n#END\n";
    std::fs::write(&plane.file, more).unwrap();
    plane.handle.reload();
    plane.until("/fixed", &["10.0.9.9:80"]);
    assert_eq!(plane.nodes("/a").unwrap(), ["10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(plane.nodes("/new"), None);
    server.mode(Mode::Answer);
    plane.until("/new", &["10.0.3.1:80"]);
}

#[test]
fn discovery_without_its_settings_is_refused() {
    let resources = "routes:\n\
        - {id: 1, uri: /a, upstream: {service_name: a, discovery_type: dns}}\n\
        - {id: 2, uri: /b, upstream: {nodes: {'10.0.0.1:80': 1}}}\n#END\n";
    let plane = Plane::start(settings(""), resources);
    assert_eq!(plane.nodes("/a"), None);
    assert_eq!(plane.nodes("/b").unwrap(), ["10.0.0.1:80"]);
}
