//! The expected nodes are what lua-resty-balancer 0.05 picked under `LuaJIT`, given ids and weights
//! as `apisix/balancer/chash.lua` makes them.
//!
//! Where points of two nodes coincide, the library's choice differs from process to process. For
//! the digests they were put in the order of the nodes, which changes 2 of the 10 000 keys of a
//! thousand nodes.

use std::fmt::Write;

use proptest::prelude::*;

use super::super::tests::{Tries, nodes_with, upstream};
use super::*;
use crate::balancer::State;
use crate::resource::HashOn;
use crate::snapshot::{Balancer, Upstream};

fn chash() -> Balancer {
    Balancer::Chash(Chash::new(ChashKey::parse(HashOn::Vars, Some("uri")).unwrap()))
}

fn labelled(nodes: &[(&str, u32)]) -> Upstream {
    let weights: Vec<(u32, i32)> = nodes.iter().map(|(_, weight)| (*weight, 0)).collect();
    let mut nodes_with = nodes_with(&weights);
    for (node, (label, _)) in nodes_with.iter_mut().zip(nodes) {
        node.label = (*label).into();
    }
    upstream(chash(), nodes_with)
}

/// The nodes that a request with this key goes to, if it fails `count - 1` times.
fn order(upstream: &Upstream, key: &str, count: usize) -> Vec<usize> {
    Tries { hash: hash(key.as_bytes()), ..Tries::default() }.take(
        &mut State::default(),
        upstream,
        count,
    )
}

/// The first two nodes of ten thousand keys in one number.
fn digest(upstream: &Upstream) -> u32 {
    let mut all = String::new();
    for key in 0..10_000 {
        let order = order(upstream, &format!("/item/{key}"), 2);
        write!(all, "{}>{};", order[0], order[1]).unwrap();
    }
    hash(all.as_bytes())
}

fn assert_orders<const N: usize>(upstream: &Upstream, of_keys: [[usize; N]; 13]) {
    let names = (0..12).map(|n| format!("key-{n}")).chain([String::new()]);
    for (key, want) in names.zip(of_keys) {
        assert_eq!(order(upstream, &key, N), want, "{key:?}");
    }
}

#[test]
fn equal_nodes_as_in_the_library() {
    let nodes = [("127.0.0.1:1980", 1), ("127.0.0.1:1981", 1), ("127.0.0.1:1982", 1)];
    let upstream = labelled(&nodes);
    #[rustfmt::skip]
    assert_orders(&upstream, [
        [2, 0, 1], [2, 0, 1], [2, 1, 0], [2, 1, 0], [0, 1, 2], [2, 1, 0], [2, 1, 0], [2, 1, 0],
        [0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1], [2, 0, 1],
    ]);
    assert_eq!(digest(&upstream), 0x13d2_c19a);
}

#[test]
fn weights_with_a_divisor_and_a_zero_as_in_the_library() {
    let nodes = [("10.0.0.1:80", 2), ("10.0.0.2:80", 4), ("10.0.0.3:8080", 0), ("10.0.0.4:80", 10)];
    let upstream = labelled(&nodes);
    #[rustfmt::skip]
    assert_orders(&upstream, [
        [3, 1, 0], [3, 1, 0], [3, 1, 0], [1, 3, 0], [0, 1, 3], [3, 0, 1], [3, 1, 0], [1, 3, 0],
        [0, 3, 1], [0, 3, 1], [3, 1, 0], [3, 0, 1], [0, 3, 1],
    ]);
    assert_eq!(digest(&upstream), 0xdfb9_7667);
}

#[test]
fn ipv6_as_in_the_library() {
    let upstream = labelled(&[("[::1]:80", 1), ("[2001:db8::7]:8080", 3), ("192.0.2.1:443", 2)]);
    #[rustfmt::skip]
    assert_orders(&upstream, [
        [0, 2, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2], [0, 1, 2], [2, 0, 1], [1, 2, 0], [1, 2, 0],
        [0, 2, 1], [2, 1, 0], [2, 1, 0], [1, 0, 2], [1, 2, 0],
    ]);
    assert_eq!(digest(&upstream), 0xf1dd_8801);
}

#[test]
fn many_points_as_in_the_library() {
    let ten: Vec<(String, u32)> =
        (0..10).map(|n| (format!("172.16.0.{n}:{}", 9000 + n), 100 + n * 7)).collect();
    let ten: Vec<(&str, u32)> = ten.iter().map(|(label, weight)| (&**label, *weight)).collect();
    let upstream = labelled(&ten);
    #[rustfmt::skip]
    assert_orders(&upstream, [
        [9, 0, 8, 3], [3, 1, 7, 9], [1, 4, 9, 6], [6, 1, 9, 5], [9, 0, 3, 7], [0, 3, 6, 7],
        [3, 0, 6, 4], [6, 5, 7, 0], [2, 4, 6, 1], [3, 5, 1, 7], [5, 8, 9, 2], [9, 0, 6, 8],
        [4, 9, 8, 0],
    ]);
    assert_eq!(digest(&upstream), 0x2d32_9efb);
}

#[test]
fn a_thousand_nodes_as_in_the_library() {
    let many: Vec<(String, u32)> =
        (0..1000).map(|n| (format!("10.1.{}.{}:80", n / 250, n % 250), 1 + n % 3)).collect();
    let many: Vec<(&str, u32)> = many.iter().map(|(label, weight)| (&**label, *weight)).collect();
    let upstream = labelled(&many);
    #[rustfmt::skip]
    assert_orders(&upstream, [
        [85, 484, 992], [221, 633, 722], [227, 505, 337], [994, 616, 240], [575, 448, 167],
        [199, 643, 122], [8, 483, 620], [602, 865, 409], [692, 866, 219], [706, 300, 565],
        [10, 525, 59], [743, 89, 217], [175, 354, 929],
    ]);
    assert_eq!(digest(&upstream), 0x21ef_cbde);
}

#[test]
fn keys_of_a_node_that_is_down_go_to_the_next_and_the_others_stay() {
    let weights = [(1, 0); 8];
    let upstream = upstream(chash(), nodes_with(&weights));
    let down: NodeSet = [3].into_iter().collect();
    for key in 0..1000 {
        let hash = hash(format!("{key}").as_bytes());
        let mut state = State::default();
        let up = Tries { hash, ..Tries::default() }.take(&mut state, &upstream, 2);
        let tries = Tries { hash, down: Some(&down), ..Tries::default() };
        let first = tries.take(&mut state, &upstream, 1)[0];
        assert_eq!(first, if up[0] == 3 { up[1] } else { up[0] });
    }
}

#[test]
fn shares_follow_the_weights() {
    let upstream = upstream(chash(), nodes_with(&[(1, 0), (3, 0), (4, 0)]));
    let mut counts = [0.0_f64; 3];
    for key in 0..20_000 {
        counts[order(&upstream, &format!("{key}"), 1)[0]] += 1.0 / 20_000.0;
    }
    for (count, share) in counts.iter().zip([0.125, 0.375, 0.5]) {
        assert!((count - share).abs() < 0.05, "{counts:?}");
    }
}

#[test]
fn enormous_weights_are_scaled_down() {
    let nodes = nodes_with(&[(1, 0), (u32::MAX, 0), (u32::MAX / 2, 0)]);
    let members = [0, 1, 2].into();
    let ring = Ring::new(members, &nodes, 999);
    let of = |node: usize| ring.points.iter().filter(|point| node_of(**point) == node).count();
    assert_eq!(of(0), POINTS as usize);
    assert!((of(1) as f64 / of(2) as f64 - 2.0).abs() < 0.01);
    assert!(ring.points.len() as u64 <= 1000 * POINTS);
}

#[test]
fn equality_is_that_of_keys() {
    let (one, other) = (chash(), chash());
    upstream(one.clone(), nodes_with(&[(1, 0)])).prepare();
    assert_eq!(one, other);
    let third = Chash::new(ChashKey::parse(HashOn::Consumer, None).unwrap());
    assert_ne!(one, Balancer::Chash(third));
}

proptest! {
    #[test]
    fn seeking_agrees_with_a_plain_search(
        hashes in proptest::collection::vec(any::<u32>(), 0..50),
        at in any::<u32>(),
    ) {
        let mut points: Vec<u64> = hashes.iter().map(|hash| point(*hash, 0)).collect();
        points.sort_unstable();
        let plain = points.iter().position(|point| hash_of(*point) >= at).unwrap_or(0);
        let ring = Ring::with_points([].into(), points.into());
        prop_assert_eq!(ring.seek(at), plain);
        for hash in hashes {
            prop_assert_eq!(hash_of(ring.points[ring.seek(hash)]), hash);
        }
    }
}
