//! Finding a route allocates nothing: neither the view of an ordinary request nor the lookup.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use osmia_core::http1::RequestHead;
use osmia_core::limits::HttpLimits;
use osmia_core::reply::Failure;
use osmia_core::request::{RequestVariables, View, ViewOptions};
use osmia_core::router::{MethodSet, PathPattern, Router};
use osmia_core::snapshot::Route;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the one that `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn route(id: usize, host: &str, uri: &str) -> Arc<Route> {
    Arc::new(Route {
        id: id.to_string().into(),
        name: "".into(),
        hosts: Some(host).filter(|host| !host.is_empty()).into_iter().map(Into::into).collect(),
        uris: PathPattern::parse(uri).into_iter().collect(),
        methods: MethodSet::ANY,
        priority: 0,
        order: id as u64,
        upstream: Err(Failure::NoNode),
        extras: None,
        enable_websocket: true,
    })
}

#[test]
fn finding_a_route_allocates_nothing() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8]))) > 0, "the counter counts");
    let mut routes: Vec<_> =
        (0..2000).map(|id| route(id, "", &format!("/deep/{}/service/{id}/*", id % 7))).collect();
    for (host, uri) in [("a.test", "/x/*"), ("*.wild.test", "/*"), ("", "/exact"), ("", "/g/*/z")] {
        routes.push(route(routes.len(), host, uri));
    }
    let router = Router::build(routes);
    for (host, path, found) in [
        ("a.test", "/x/1?y=2", true),
        ("b.wild.test:8080", "/any", true),
        ("other.test", "/exact", true),
        ("other.test", "/g/a/b/z", true),
        ("other.test", "/deep/3/service/3/a/b", true),
        ("other.test", "/deep/3/none", false),
    ] {
        let buf = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let mut request = RequestHead::default();
        assert_eq!(request.parse(&buf, &HttpLimits::default()), Ok(true));
        let mut hit = false;
        let counted = allocations(|| {
            let view = View::new(RequestVariables::local(&request, &buf), &ViewOptions::default());
            hit = view.is_ok_and(|view| router.find(&view, &mut ()).is_some());
        });
        assert_eq!((hit, counted), (found, 0), "{host}{path}");
    }
}
