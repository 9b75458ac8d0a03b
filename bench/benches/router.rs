//! What it takes to find a route: few and many of them, by host and by path, hits and misses; and
//! to change one.

#![allow(missing_docs)] // what criterion's macros define

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use osmia_core::http1::RequestHead;
use osmia_core::limits::HttpLimits;
use osmia_core::reply::Failure;
use osmia_core::request::{RequestVariables, View, ViewOptions};
use osmia_core::router::{MethodSet, PathPattern, Router};
use osmia_core::snapshot::Route;

fn route(id: usize, host: Option<String>, uri: &str) -> Arc<Route> {
    Arc::new(Route {
        id: id.to_string().into(),
        name: "".into(),
        hosts: host.into_iter().map(Into::into).collect(),
        uris: PathPattern::parse(uri).into_iter().collect(),
        methods: MethodSet::ANY,
        priority: 0,
        order: id as u64,
        upstream: Err(Failure::NoNode),
        extras: None,
        enable_websocket: true,
    })
}

/// A tenth of the routes have a host of their own, the others deep paths.
fn router(routes: usize) -> Router {
    Router::build((0..routes).map(|id| match id % 10 {
        0 => route(id, Some(format!("h{id}.example.com")), "/api/*"),
        1 => route(id, None, &format!("/exact/{id}/of/many/segments")),
        _ => route(id, None, &format!("/deep/{}/{}/service/{id}/*", id % 7, id % 31)),
    }))
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find");
    for routes in [10, 1000, 100_000] {
        let router = router(routes);
        let last = routes - 10;
        let deep = last + 5;
        for (name, host, path) in [
            ("host", format!("h{last}.example.com"), "/api/orders/7".to_owned()),
            (
                "exact",
                "www.example.com".to_owned(),
                format!("/exact/{}/of/many/segments", last + 1),
            ),
            (
                "prefix",
                "www.example.com".to_owned(),
                format!("/deep/{}/{}/service/{deep}/x/y", deep % 7, deep % 31),
            ),
            ("miss", "www.example.com".to_owned(), "/deep/3/3/service/none".to_owned()),
        ] {
            let buf = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
            let mut request = RequestHead::default();
            assert_eq!(request.parse(&buf, &HttpLimits::default()), Ok(true));
            let head = RequestVariables::local(&request, &buf);
            let Ok(view) = View::new(head, &ViewOptions::default()) else { continue };
            assert_eq!(router.find(&view, &mut ()).is_some(), name != "miss", "{name} {routes}");
            group.bench_function(BenchmarkId::new(name, routes), |b| {
                b.iter(|| black_box(&router).find(black_box(&view), &mut ()).is_some());
            });
        }
    }
    group.finish();
}

/// One route of many takes another path, and the router of before goes: what a change costs besides
/// reading it.
fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("change");
    for routes in [10, 1000, 100_000] {
        let one = |id: usize, version: usize| {
            route(id, Some(format!("h{id}.example.com")), &format!("/v{version}/{id}"))
        };
        let mut current: Vec<Arc<Route>> = (0..routes).map(|id| one(id, 0)).collect();
        let mut router = Router::build(current.iter().map(Arc::clone));
        let mut version = 0;
        group.bench_function(BenchmarkId::new("path", routes), |b| {
            b.iter(|| {
                version += 1;
                // Somewhere else each time, as changes come.
                let id = (version * 7919) % routes;
                let next = one(id, version);
                let mut changed = router.clone();
                changed.replace(&current[id], &next);
                current[id] = next;
                router = changed;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, find, change);
criterion_main!(benches);
