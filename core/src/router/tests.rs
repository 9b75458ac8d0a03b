use std::cell::RefMut;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::reply::Failure;
use crate::vars::{Variable, VariableSource};

/// A route as the tests describe it.
#[derive(Debug, Clone)]
struct Spec {
    hosts: Vec<String>,
    uris: Vec<String>,
    methods: Vec<&'static str>,
    priority: i64,
}

fn spec(hosts: &[&str], uris: &[&str], methods: &[&'static str], priority: i64) -> Spec {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Spec { hosts: owned(hosts), uris: owned(uris), methods: methods.to_vec(), priority }
}

fn route(id: usize, spec: &Spec) -> Arc<Route> {
    Arc::new(Route {
        id: id.to_string().into(),
        name: "".into(),
        hosts: spec.hosts.iter().map(|host| host.as_str().into()).collect(),
        uris: spec.uris.iter().map(|uri| PathPattern::parse(uri).unwrap()).collect(),
        methods: MethodSet::of(&spec.methods),
        priority: spec.priority,
        order: id as u64,
        upstream: Err(Failure::NoNode),
        extras: None,
        enable_websocket: true,
    })
}

fn router(specs: &[Spec]) -> Router {
    Router::build(specs.iter().enumerate().map(|(id, spec)| route(id, spec)))
}

/// A request of which nothing matters but this.
struct Plain<'a>(&'a str, &'a str, &'a str);

impl Request for Plain<'_> {
    fn host(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn full_host(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.1.as_bytes()
    }

    fn method(&self) -> &str {
        self.2
    }

    fn client(&self) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, 1]))
    }

    fn scratch(&self) -> RefMut<'_, Vec<u8>> {
        unreachable!("no route has conditions")
    }
}

impl VariableSource for Plain<'_> {
    fn append(&self, _: &Variable, _: &mut Vec<u8>) -> bool {
        false
    }
}

/// The position of the winning route in `specs`.
fn find(router: &Router, host: &str, path: &str, method: &str) -> Option<usize> {
    match router.find(&Plain(host, path, method), &mut ())? {
        Hit::Matched(matched) => Some(matched.route.id.parse().unwrap()),
        Hit::NeedsBody => panic!("nothing depends on the body"),
    }
}

#[test]
fn the_default_router_matches_nothing() {
    let router = Router::default();
    assert!(router.is_empty());
    assert_eq!(find(&router, "a.com", "/", "GET"), None);
    assert!(format!("{router:?}").contains("routes: 0"));
}

#[test]
fn exact_host_then_longest_wildcard_then_no_host() {
    let router = router(&[
        spec(&[], &["/x"], &[], 9),
        spec(&["*.com"], &["/x"], &[], 9),
        spec(&["*.foo.com"], &["/x"], &[], 0),
        spec(&["a.foo.com"], &["/x"], &[], 0),
        spec(&["*"], &["/star"], &[], 0),
    ]);
    assert_eq!(find(&router, "a.foo.com", "/x", "GET"), Some(3));
    assert_eq!(find(&router, "b.foo.com", "/x", "GET"), Some(2));
    assert_eq!(find(&router, "b.c.foo.com", "/x", "GET"), Some(2));
    assert_eq!(find(&router, "foo.com", "/x", "GET"), Some(1));
    assert_eq!(find(&router, "foo.org", "/x", "GET"), Some(0));
    assert_eq!(find(&router, "", "/star", "GET"), Some(4));
    assert_eq!(router.len(), 5);
}

#[test]
fn a_host_without_a_matching_path_falls_through() {
    let router = router(&[
        spec(&["a.foo.com"], &["/only"], &[], 0),
        spec(&["*.foo.com"], &["/wild"], &[], 0),
        spec(&[], &["/*"], &[], 0),
    ]);
    assert_eq!(find(&router, "a.foo.com", "/only", "GET"), Some(0));
    assert_eq!(find(&router, "a.foo.com", "/wild", "GET"), Some(1));
    assert_eq!(find(&router, "a.foo.com", "/else", "GET"), Some(2));
}

#[test]
fn exact_path_beats_prefix_and_longer_prefix_beats_priority() {
    let router = router(&[
        spec(&[], &["/a/*"], &[], 100),
        spec(&[], &["/a/b/*"], &[], 0),
        spec(&[], &["/a/b/c"], &[], -5),
    ]);
    assert_eq!(find(&router, "h", "/a/b/c", "GET"), Some(2));
    assert_eq!(find(&router, "h", "/a/b/d", "GET"), Some(1));
    assert_eq!(find(&router, "h", "/a/d", "GET"), Some(0));
    assert_eq!(find(&router, "h", "/a", "GET"), None);
}

#[test]
fn a_failing_method_falls_back_to_shorter_paths() {
    let router = router(&[
        spec(&[], &["/*"], &[], 0),
        spec(&[], &["/a/*"], &["PUT"], 0),
        spec(&[], &["/a/b"], &["POST"], 0),
    ]);
    assert_eq!(find(&router, "h", "/a/b", "POST"), Some(2));
    assert_eq!(find(&router, "h", "/a/b", "PUT"), Some(1));
    assert_eq!(find(&router, "h", "/a/b", "GET"), Some(0));
    assert_eq!(find(&router, "h", "/a/b", "PROPFIND"), Some(0));
}

#[test]
fn priority_then_pattern_length_then_order() {
    let router = router(&[
        spec(&[], &["/p"], &[], 0),
        spec(&[], &["/p"], &[], 1),
        spec(&[], &["/q/*"], &[], 0),
        spec(&[], &["/q/*/r"], &[], 0),
        spec(&[], &["/s"], &[], 0),
        spec(&[], &["/s"], &[], 0),
    ]);
    assert_eq!(find(&router, "h", "/p", "GET"), Some(1));
    assert_eq!(find(&router, "h", "/q/1/r", "GET"), Some(3));
    assert_eq!(find(&router, "h", "/q/1/s", "GET"), Some(2));
    assert_eq!(find(&router, "h", "/s", "GET"), Some(4));
}

fn naive(specs: &[Spec], host: &str, path: &str, method: &str) -> Option<usize> {
    naive_in(Mode::HostUri, specs, host, path, method)
}

/// The rules of the module's documentation, by trying everything.
fn naive_in(mode: Mode, specs: &[Spec], host: &str, path: &str, method: &str) -> Option<usize> {
    let mut hits = Vec::new();
    for (id, spec) in specs.iter().enumerate() {
        if !spec.methods.is_empty() && !spec.methods.contains(&method) {
            continue;
        }
        let any = [String::new()];
        let hosts = if spec.hosts.is_empty() { &any[..] } else { &spec.hosts };
        for wanted in hosts {
            // Smaller is better: exact, then the longest wildcard, then none.
            let host_rank = match wanted.strip_prefix('*') {
                Some(suffix) if host.ends_with(suffix) => 1000 - suffix.len(),
                None if wanted.is_empty() => 2000,
                None if wanted == host => 0,
                _ => continue,
            };
            // By path first, a host matches or does not.
            let host_rank = if mode == Mode::HostUri { host_rank } else { 0 };
            for uri in &spec.uris {
                let path_rank = match uri.strip_suffix('*') {
                    Some(prefix) if path.starts_with(prefix) => 1000 - prefix.len(),
                    None if uri == path => 0,
                    _ => continue,
                };
                hits.push((host_rank, path_rank, std::cmp::Reverse(spec.priority), id));
            }
        }
    }
    hits.into_iter().min().map(|(.., id)| id)
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let host = prop_oneof![Just("*".to_owned()), r"[ab]\.[ab]\.c", r"\*\.([ab]\.)?c", "[ab]"];
    let uri = prop_oneof!["(/[ab]){1,3}", r"(/[ab]){0,2}/\*", r"(/[ab]){0,2}\*"];
    let methods = proptest::sample::subsequence(vec!["GET", "POST", "PUT"], 0..=2);
    let hosts = proptest::collection::btree_set(host, 0..3);
    let uris = proptest::collection::btree_set(uri, 1..3);
    let one = (hosts, uris, methods, -1..2i64).prop_map(|(hosts, uris, methods, priority)| Spec {
        hosts: hosts.into_iter().collect(),
        uris: uris.into_iter().collect(),
        methods,
        priority,
    });
    proptest::collection::vec(one, 0..30)
}

proptest! {
    #[test]
    fn agrees_with_the_naive_matcher(
        specs in specs(),
        requests in proptest::collection::vec(
            (
                r"([ab]\.){0,3}[abc]",
                "(/[ab]{0,2}){1,4}",
                proptest::sample::select(vec!["GET", "POST", "PUT", "PATCH", "ODD"]),
            ),
            1..20,
        ),
    ) {
        let router = router(&specs);
        for (host, path, method) in requests {
            let expected = naive(&specs, &host, &path, method);
            prop_assert_eq!(find(&router, &host, &path, method), expected, "{} {}", host, path);
        }
    }

    #[test]
    fn by_path_it_agrees_with_the_naive_matcher(
        specs in specs(),
        mode in proptest::sample::select(vec![Mode::Uri, Mode::UriWithParameter]),
        requests in proptest::collection::vec(
            (
                r"([ab]\.){0,3}[abc]",
                "(/[ab]{0,2}){1,4}",
                proptest::sample::select(vec!["GET", "POST", "PUT", "PATCH", "ODD"]),
            ),
            1..20,
        ),
    ) {
        let mut router = Router::new(mode);
        specs.iter().enumerate().for_each(|(id, spec)| router.insert(&route(id, spec)));
        for (host, path, method) in requests {
            let expected = naive_in(mode, &specs, &host, &path, method);
            prop_assert_eq!(find(&router, &host, &path, method), expected, "{} {}", host, path);
        }
        specs.iter().enumerate().for_each(|(id, spec)| router.remove(&route(id, spec)));
        prop_assert!(router.is_empty() && router.any_host.is_empty());
    }

    #[test]
    fn a_router_that_was_changed_is_like_one_that_was_built(
        specs in specs(),
        present in proptest::collection::vec(any::<bool>(), 30),
        seed in any::<u64>(),
        requests in proptest::collection::vec(
            (r"([ab]\.){0,3}[abc]", "(/[ab]{0,2}){1,4}", Just("GET")),
            1..20,
        ),
    ) {
        // All go in, in another order than in the configuration; then some go out again.
        let mut order: Vec<usize> = (0..specs.len()).collect();
        order.sort_by_key(|id| (*id as u64 + 1).wrapping_mul(seed | 1));
        let full = Router::build(order.iter().map(|id| route(*id, &specs[*id])));
        let mut changed = full.clone();
        for id in &order {
            if !present[*id] {
                changed.remove(&route(*id, &specs[*id]));
            }
        }
        let absent = Spec { uris: vec![], ..spec(&[], &[], &[], 0) };
        let left: Vec<Spec> = specs.iter().zip(&present)
            .map(|(spec, present)| if *present { spec.clone() } else { absent.clone() })
            .collect();
        for (host, path, method) in requests {
            prop_assert_eq!(find(&changed, &host, &path, method), naive(&left, &host, &path, method));
            prop_assert_eq!(find(&full, &host, &path, method), naive(&specs, &host, &path, method));
        }
        for id in order {
            if present[id] {
                changed.remove(&route(id, &specs[id]));
            }
        }
        prop_assert!(changed.is_empty() && changed.any_host.is_empty());
        prop_assert!(changed.exact_hosts.is_empty() && changed.wildcard_hosts.is_empty());
    }

    #[test]
    fn a_route_in_the_place_of_another_is_like_one_that_was_built(
        specs in specs(),
        others in specs(),
        moved in proptest::collection::vec(0..4u8, 30),
        mode in proptest::sample::select(vec![Mode::HostUri, Mode::Uri]),
        requests in proptest::collection::vec(
            (r"([ab]\.){0,3}[abc]", "(/[ab]{0,2}){1,4}", Just("GET")),
            1..20,
        ),
    ) {
        let mut before = Router::new(mode);
        specs.iter().enumerate().for_each(|(id, spec)| before.insert(&route(id, spec)));
        let mut after = before.clone();
        // All of it is another, or only its hosts, its paths or its rank.
        let mut changed = specs.clone();
        for (id, (spec, other)) in changed.iter_mut().zip(&others).enumerate() {
            let last = route(id, spec);
            let other = other.clone();
            match moved[id % moved.len()] {
                0 => *spec = other,
                1 => spec.hosts = other.hosts,
                2 => spec.uris = other.uris,
                _ => spec.priority = other.priority,
            }
            after.replace(&last, &route(id, spec));
        }
        prop_assert_eq!(after.len(), specs.len());
        for (host, path, method) in requests {
            let find = |router| find(router, &host, &path, method);
            prop_assert_eq!(find(&after), naive_in(mode, &changed, &host, &path, method));
            prop_assert_eq!(find(&before), naive_in(mode, &specs, &host, &path, method));
        }
        changed.iter().enumerate().for_each(|(id, spec)| after.remove(&route(id, spec)));
        prop_assert!(after.is_empty() && after.any_host.is_empty());
        prop_assert!(after.exact_hosts.is_empty() && after.wildcard_hosts.is_empty());
    }
}
