//! Where a request would go.

use osmia_core::snapshot::{Balancer, Node, PassHost, Snapshot, Upstream};
use serde_json::{Value, json};

/// The upstream, and how each of its nodes stands.
pub(super) fn describe(upstream: &Upstream, snapshot: &Snapshot) -> Value {
    let down = snapshot.health.down(upstream.slot);
    let status = |(index, node): (usize, &Node)| {
        let status = match down {
            _ if node.weight == 0 => "weight 0",
            Some(down) if down.contains(index) => "down",
            _ => "up",
        };
        json!({
            "node": node.authority,
            "address": node.label,
            "weight": node.weight,
            "priority": node.priority,
            "status": status,
        })
    };
    let host = match &upstream.pass_host {
        PassHost::Pass => "the client's".to_owned(),
        PassHost::Node => "the node's".to_owned(),
        PassHost::Rewrite(host) => host.to_string(),
    };
    json!({
        "id": upstream.id,
        "type": match upstream.balancer {
            Balancer::RoundRobin => "roundrobin",
            Balancer::Chash(_) => "chash",
            Balancer::LeastConn => "least_conn",
            Balancer::Ewma => "ewma",
        },
        "host": host,
        "retries": upstream.retries,
        "nodes": upstream.nodes.iter().enumerate().map(status).collect::<Value>(),
    })
}
