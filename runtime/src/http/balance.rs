//! The choice of a node, and what is told of it afterwards.

use std::time::{Duration, Instant};

use osmia_config_sync::health::Report;
use osmia_core::balancer::{self, Ask};
use osmia_core::health::{Event, Outcome};
use osmia_core::node_set::NodeSet;
use osmia_core::reply::Failure;
use osmia_core::request::View;
use osmia_core::router::Matched;
use osmia_core::snapshot::{Balancer, Timeouts, Upstream};

use super::attempts::Attempts;
use crate::net::Net;
use crate::worker::Worker;

/// Where a request goes.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The upstream.
    pub upstream: &'a Upstream,
    /// Its nodes that are taken to be down.
    pub down: Option<&'a NodeSet>,
    /// Its nodes of which the health checks want to know successes.
    pub counted: Option<&'a NodeSet>,
    /// The route's timeouts, or the upstream's.
    pub timeouts: Timeouts,
    /// Whether an upgrade is passed on.
    pub websocket: bool,
}

/// A node that a balancer chose.
pub struct Pick {
    /// Its place among the upstream's nodes.
    pub index: usize,
    /// When, if the balancer wants to know.
    began: Option<Instant>,
}

/// The hash of the key that the route's upstream balances by; zero when it does not balance by one.
pub fn hash<'v>(matched: Matched<'v>, view: &mut View<'v>) -> u32 {
    let Ok(upstream) = &matched.route.upstream else { return 0 };
    let Balancer::Chash(chash) = &upstream.balancer else { return 0 };
    view.matched = Some(matched);
    let mut key = Vec::new();
    chash.key.append(view, &mut key);
    balancer::hash(&key)
}

/// Chooses a node for the next attempt.
pub fn pick<N: Net>(
    worker: &Worker<N>,
    target: &Target<'_>,
    attempts: &Attempts<'_>,
) -> Option<Pick> {
    let mut upstreams = worker.upstreams.borrow_mut();
    let by_latency = target.upstream.balancer == Balancer::Ewma;
    let ask = Ask {
        tried: &attempts.tried,
        down: target.down,
        hash: attempts.hash,
        now_ms: worker.clock.now_ms(),
        random: if by_latency { upstreams.random() } else { 0 },
    };
    let index = upstreams.pick(target.upstream, &ask)?;
    Some(Pick { index, began: by_latency.then(Instant::now) })
}

/// Tells the balancer, if it wants to know, that a try has ended.
pub fn release<N: Net>(worker: &Worker<N>, upstream: &Upstream, pick: &Pick, ok: bool) {
    if upstream.balancer.follows_tries() {
        let took = pick.began.map_or(Duration::ZERO, |began| began.elapsed());
        let (latency_us, now_ms) = (took.as_micros() as u64, worker.clock.now_ms());
        let outcome = balancer::Outcome { latency_us, ok, now_ms };
        worker.upstreams.borrow_mut().release(upstream, pick.index, outcome);
    }
}

/// Tells the health checks of what they count: failures, and successes of a node that something is
/// counted against.
pub fn observe<N: Net>(worker: &Worker<N>, target: &Target<'_>, pick: &Pick, outcome: Outcome) {
    let Some(passive) = &target.upstream.passive else { return };
    let wanted = match passive.judge(outcome) {
        None => false,
        Some(Event::Success) => target.counted.is_some_and(|nodes| nodes.contains(pick.index)),
        Some(_) => true,
    };
    if wanted && let Some(node) = target.upstream.nodes.get(pick.index) {
        let upstream = target.upstream.slot;
        worker.reports.report(Report { upstream, addr: node.addr, outcome, count: 1 });
    }
}

/// What a failed try is to the health checks (`apisix/balancer.lua`).
pub fn outcome_of(failure: Failure) -> Outcome {
    match failure {
        Failure::ConnectTimeout | Failure::SendTimeout | Failure::ReadTimeout => Outcome::Timeout,
        _ => Outcome::TcpFailure,
    }
}
