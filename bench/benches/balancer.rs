//! Micro-benchmarks of balancers: `cargo bench -p osmia-bench --bench balancer`. Each iteration is
//! one pick, for `least_conn` and `ewma` with the release of the one before.

#![allow(missing_docs)] // what criterion's macros define

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use criterion::{Criterion, criterion_group, criterion_main};
use osmia_core::balancer::{Ask, Chash, ChashKey, Outcome, State, hash};
use osmia_core::node_set::NodeSet;
use osmia_core::resource::HashOn;
use osmia_core::snapshot::{Balancer, Node, Slot, Upstream};

fn upstream(balancer: Balancer, count: u32, weight: impl Fn(u32) -> u32) -> Upstream {
    let node = |n: u32| {
        let addr = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + n), 80));
        Node {
            unix: None,
            addr,
            authority: addr.to_string().into(),
            label: addr.to_string().into(),
            weight: weight(n),
            priority: 0,
            pool: Slot::default(),
        }
    };
    let nodes = (0..count).map(node).collect();
    let upstream = Upstream { id: "1".into(), balancer, nodes, ..Upstream::default() };
    upstream.prepare();
    upstream
}

/// Measures one pick with its bookkeeping.
fn bench(criterion: &mut Criterion, name: &str, upstream: &Upstream) {
    let (mut state, tried) = (State::starting_at(1), NodeSet::default());
    let (mut random, mut now_ms) = (1_u64, 0);
    // Requests in flight, so that releases are not of the last pick.
    let mut open = [0; 64];
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            now_ms += random >> 63;
            let hash = (random >> 32) as u32;
            let random = random ^ random >> 32;
            let ask = Ask { tried: &tried, down: None, hash, now_ms, random };
            let picked = state.pick(black_box(upstream), &ask).unwrap_or_default();
            let ended = std::mem::replace(&mut open[(random % 64) as usize], picked);
            let outcome = Outcome { latency_us: random % 4096, ok: true, now_ms };
            if matches!(upstream.balancer, Balancer::Ewma | Balancer::LeastConn) {
                state.release(upstream, ended, outcome);
            }
            picked
        });
    });
}

/// Measures picks alone: requests that never end.
fn bench_picks(criterion: &mut Criterion, name: &str, upstream: &Upstream) {
    let (mut state, tried) = (State::starting_at(1), NodeSet::default());
    let mut random = 1_u64;
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let ask = Ask { tried: &tried, down: None, hash: 0, now_ms: 1, random };
            state.pick(black_box(upstream), &ask)
        });
    });
}

fn balancers(criterion: &mut Criterion) {
    for count in [10, 100] {
        let equal = upstream(Balancer::RoundRobin, count, |_| 1);
        bench(criterion, &format!("roundrobin equal {count}"), &equal);
        let weighted = upstream(Balancer::RoundRobin, count, |n| 1 + n % 5);
        bench(criterion, &format!("roundrobin weighted {count}"), &weighted);
        let long = upstream(Balancer::RoundRobin, count, |n| 100_003 + 977 * n);
        bench(criterion, &format!("roundrobin long round {count}"), &long);
        for (name, weight) in [("equal", 1), ("weighted", 5)] {
            let least = upstream(Balancer::LeastConn, count, |n| 1 + n % weight);
            bench_picks(criterion, &format!("least_conn {name} {count}"), &least);
            bench(criterion, &format!("least_conn {name} {count} with release"), &least);
        }
        let ewma = upstream(Balancer::Ewma, count, |_| 1);
        bench_picks(criterion, &format!("ewma {count}"), &ewma);
        bench(criterion, &format!("ewma {count} with release"), &ewma);
    }
    let Ok(key) = ChashKey::parse(HashOn::Vars, Some("remote_addr")) else { return };
    let chash = upstream(Balancer::Chash(Chash::new(key)), 1000, |_| 1);
    bench(criterion, "chash 1000", &chash);
    criterion
        .bench_function("hash of an address", |b| b.iter(|| hash(black_box(b"192.168.100.200"))));
}

criterion_group!(benches, balancers);
criterion_main!(benches);
