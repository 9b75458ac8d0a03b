use std::io;
use std::net::IpAddr;
use std::sync::Mutex;

use super::*;
use crate::standalone;

/// Answers with the addresses that the test has set.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<HashMap<String, Vec<IpAddr>>>>);

impl Names {
    fn set(&self, host: &str, ips: &[&str]) {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(host.to_owned(), ips);
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let known = self.0.lock().unwrap();
        known.get(host).cloned().ok_or_else(|| io::Error::other("no such name"))
    }
}

fn resources(yaml: &str) -> Resources {
    standalone::parse(&format!("{yaml}\n#END"), &|_| None).unwrap().resources
}

/// Compiles and expects a new snapshot.
fn changed(compiler: &mut Compiler, yaml: &str, revision: u64) -> Arc<Snapshot> {
    match compiler.compile(resources(yaml), revision).unwrap() {
        Compiled::Changed(snapshot) => snapshot,
        Compiled::Unchanged => panic!("unchanged"),
    }
}

fn find(snapshot: &Snapshot, path: &str) -> Option<Arc<snapshot::Route>> {
    snapshot.router.find(b"h", path.as_bytes(), "GET").cloned()
}

fn upstream(snapshot: &Snapshot, path: &str) -> Arc<snapshot::Upstream> {
    find(snapshot, path).unwrap().upstream.clone().unwrap()
}

const TWO: &str = "
routes:
  - {id: 1, uri: /a, upstream_id: u}
  - {id: 2, uri: /b, name: bee, upstream: {nodes: {'10.0.0.1:80': 1, '10.0.0.2:80': 1}}}
upstreams:
  - {id: u, nodes: {'10.0.0.2:80': 1}}
";

#[test]
fn resolves_routes_completely() {
    let snapshot = changed(&mut Compiler::default(), TWO, 7);
    assert_eq!(snapshot.revision, 7);
    let a = upstream(&snapshot, "/a");
    let b = upstream(&snapshot, "/b");
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
    let yaml = "
routes:
  - id: 1
    uri: /a
    timeout: {connect: 1, send: 2, read: 3}
    enable_websocket: false
    upstream:
      nodes: {'10.0.0.1:80': 3}
      retries: 5
      retry_timeout: 9
      pass_host: rewrite
      upstream_host: x.y
      timeout: {connect: 4, send: 5, read: 6}
      keepalive_pool: {size: 1, idle_timeout: 2, requests: 3}
";
    let snapshot = changed(&mut Compiler::default(), yaml, 1);
    let route = find(&snapshot, "/a").unwrap();
    let seconds = std::time::Duration::from_secs;
    assert_eq!(route.timeout.unwrap().read, seconds(3));
    assert!(!route.enable_websocket);
    let upstream = route.upstream.as_ref().unwrap();
    assert_eq!(upstream.pass_host, snapshot::PassHost::Rewrite("x.y".into()));
    assert_eq!((upstream.retries, upstream.retry_timeout), (5, Some(seconds(9))));
    assert_eq!(upstream.timeout.send, seconds(5));
    let pool = KeepalivePool { size: 1, idle_timeout: seconds(2), requests: 3 };
    assert_eq!(upstream.keepalive, pool);
}

#[test]
fn the_same_content_is_no_change() {
    let mut compiler = Compiler::default();
    changed(&mut compiler, TWO, 1);
    assert!(matches!(compiler.compile(resources(TWO), 2).unwrap(), Compiled::Unchanged));
    changed(&mut compiler, &TWO.replace("uri: /b", "uri: /c"), 2);
}

#[test]
fn what_did_not_change_is_shared() {
    let mut compiler = Compiler::default();
    let first = changed(&mut compiler, TWO, 1);
    let second = changed(&mut compiler, &TWO.replace("uri: /b", "uri: /c"), 2);
    assert!(Arc::ptr_eq(&find(&first, "/a").unwrap(), &find(&second, "/a").unwrap()));
    // What the route leads to is the same, although it is found by another path.
    assert!(Arc::ptr_eq(&find(&first, "/b").unwrap(), &find(&second, "/c").unwrap()));
    assert!(find(&second, "/b").is_none());

    let third = changed(&mut compiler, &TWO.replace("1, '10.0.0.2:80'", "1, '10.0.0.3:80'"), 3);
    assert!(Arc::ptr_eq(&find(&first, "/a").unwrap(), &find(&third, "/a").unwrap()));
    let (before, after) = (upstream(&first, "/b"), upstream(&third, "/b"));
    assert!(!Arc::ptr_eq(&before, &after));
    assert_eq!(before.slot, after.slot, "balancer state survives a change of nodes");
    assert_eq!(before.nodes[0].pool, after.nodes[0].pool);
    assert_ne!(before.nodes[1].pool, after.nodes[1].pool);
}

#[test]
fn a_changed_upstream_changes_its_routes_only() {
    let mut compiler = Compiler::default();
    let first = changed(&mut compiler, TWO, 1);
    let yaml = TWO.replace("id: u, nodes", "id: u, retries: 3, nodes");
    let second = changed(&mut compiler, &yaml, 2);
    assert!(!Arc::ptr_eq(&find(&first, "/a").unwrap(), &find(&second, "/a").unwrap()));
    assert!(Arc::ptr_eq(&find(&first, "/b").unwrap(), &find(&second, "/b").unwrap()));
    assert_eq!(upstream(&first, "/a").slot, upstream(&second, "/a").slot);
}

#[test]
fn slots_of_removed_things_are_given_away_with_a_new_generation() {
    let one = |id: &str, address: &str| {
        format!("routes: [{{id: {id}, uri: /, upstream: {{nodes: {{'{address}': 1}}}}}}]")
    };
    let mut compiler = Compiler::default();
    let first = upstream(&changed(&mut compiler, &one("a", "10.0.0.1:80"), 1), "/");
    changed(&mut compiler, &one("b", "10.0.0.2:80"), 2);
    let third = upstream(&changed(&mut compiler, &one("c", "10.0.0.3:80"), 3), "/");
    assert_eq!(third.slot.index, first.slot.index);
    assert_eq!(third.slot.generation, first.slot.generation + 1);
    assert_eq!(third.nodes[0].pool.index, first.nodes[0].pool.index);
    assert_eq!(third.nodes[0].pool.generation, first.nodes[0].pool.generation + 1);
}

#[test]
fn reports_all_problems_and_changes_nothing() {
    let mut compiler = Compiler::new(Box::new(Names::default()));
    changed(&mut compiler, TWO, 1);
    let bad = "
routes:
  - {id: 1, uri: /a, upstream_id: nope}
  - {id: 2, uri: /b, upstream_id: u}
  - {id: 3, uri: /c, upstream: {nodes: {'gone.example:80': 1}}}
  - {id: 4, uri: /d, status: 0, upstream_id: nope}
  - {id: 5, uri: /e, status: 0, upstream: {nodes: {'gone.example:80': 1}}}
upstreams:
  - {id: u, nodes: {'lost.example:80': 1}}
  - {id: unused, nodes: {'lost.example:80': 1}}
";
    let Problems(problems) = compiler.compile(resources(bad), 2).unwrap_err();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "routes[0] (id \"1\"): property \"upstream_id\" validation failed: upstream \"nope\" \
             does not exist",
            "routes[2] (id \"3\"): property \"upstream\" validation failed: property \"nodes\" \
             validation failed: host name \"gone.example\" cannot be resolved: no such name",
            "routes[3] (id \"4\"): property \"upstream_id\" validation failed: upstream \"nope\" \
             does not exist",
            "upstreams[0] (id \"u\"): property \"nodes\" validation failed: host name \
             \"lost.example\" cannot be resolved: no such name",
        ]
    );
    assert!(matches!(compiler.compile(resources(TWO), 2).unwrap(), Compiled::Unchanged));
}

#[test]
fn disabled_routes_do_not_match() {
    let yaml = TWO.replace("uri: /a,", "uri: /a, status: 0,");
    let snapshot = changed(&mut Compiler::default(), &yaml, 1);
    assert!(find(&snapshot, "/a").is_none());
    assert!(find(&snapshot, "/b").is_some());
}

#[test]
fn another_answer_for_a_name_is_a_change() {
    let yaml = "routes: [{id: 1, uri: /, upstream: {nodes: {'a.example:80': 1}}}]";
    let names = Names::default();
    names.set("a.example", &["10.0.0.1"]);
    let mut compiler = Compiler::new(Box::new(names.clone()));
    changed(&mut compiler, yaml, 1);
    assert!(matches!(compiler.compile(resources(yaml), 2).unwrap(), Compiled::Unchanged));
    names.set("a.example", &["10.0.0.2", "10.0.0.3"]);
    let snapshot = changed(&mut compiler, yaml, 2);
    let nodes = &upstream(&snapshot, "/").nodes;
    assert_eq!((nodes.len(), &*nodes[1].label), (2, "10.0.0.3:80"));
}
