//! The request's life on a virtual network: clients, the gateway and upstreams in one thread, with
//! random cuts, delays, reordering, refusals and resets, repeatable by seed.
//!
//! `OSMIA_SIM_SEED=n` repeats one world, `OSMIA_SIM_WORLDS=n` runs more of them.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

mod client;
mod panic;
mod upstream;
mod world;

use osmia::net::sim::Conditions;
use world::{Faults, Outcome, World};

const CALM: Faults = Faults { upstream_dies: 0, idle_close: 0, client_aborts: 0 };

fn worlds(default: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("OSMIA_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("OSMIA_SIM_WORLDS").unwrap_or(default)).collect(),
    }
}

/// Runs worlds under `conditions`, and checks what holds in all of them.
fn explore(name: &str, conditions: Conditions, faults: Faults, count: u64) -> Outcome {
    let mut total = Outcome::default();
    for seed in worlds(count) {
        let outcome = World::new(seed, conditions, faults).run();
        let context = format!("{name}: OSMIA_SIM_SEED={seed} repeats this");
        assert_eq!(outcome.stuck, 0, "tasks hang; {context}");
        assert_eq!(outcome.violations, Vec::<String>::new(), "{context}");
        assert_eq!(outcome.open, 0, "connections leak; {context}");
        assert_eq!(outcome.slots, 0, "deadline slots leak; {context}");
        assert_eq!(outcome.panics, 0, "{context}");
        total.add(&outcome);
    }
    println!("{name}: {total:?}");
    total
}

#[test]
fn on_a_perfect_network_every_request_is_answered() {
    let total = explore("perfect", Conditions::PERFECT, CALM, 20);
    assert!(total.answered > 0);
    assert_eq!(total.answered, total.sent);
}

#[test]
fn cuts_delays_and_small_windows_change_nothing() {
    let conditions = Conditions { delay_us: 30_000, window: 700, cut: true, refuse: 0, reset: 0 };
    let total = explore("slow and cut", conditions, CALM, 12);
    assert!(total.answered > 0);
    assert_eq!(total.answered, total.sent);
}

#[test]
fn refused_and_idle_closed_connections_are_hidden_from_idempotent_requests() {
    let conditions = Conditions { delay_us: 2_000, window: 20_000, cut: true, refuse: 0, reset: 0 };
    let faults = Faults { idle_close: 5_000, ..CALM };
    let total = explore("idle close", conditions, faults, 25);
    assert!(total.answered > 0);
    assert_eq!(total.failed_idempotent, 0);
}

#[test]
fn resets_refusals_dying_upstreams_and_aborting_clients_leave_no_trace() {
    let conditions =
        Conditions { delay_us: 20_000, window: 3_000, cut: true, refuse: 500, reset: 20 };
    let faults = Faults { upstream_dies: 300, idle_close: 2_000, client_aborts: 300 };
    let total = explore("stormy", conditions, faults, 40);
    assert!(total.answered > 0);
    assert!(total.failed > 0, "the storm must be felt, or this test shows nothing");
}

#[test]
fn a_world_is_repeated_by_its_seed() {
    let conditions =
        Conditions { delay_us: 20_000, window: 3_000, cut: true, refuse: 500, reset: 20 };
    let faults = Faults { upstream_dies: 300, idle_close: 2_000, client_aborts: 300 };
    let run = || format!("{:?}", World::new(42, conditions, faults).run());
    assert_eq!(run(), run());
}
