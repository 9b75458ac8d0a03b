//! The status endpoint: probes and metrics.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use super::{answer, metrics};
use crate::plane::Plane;

/// What the probes look at.
#[derive(Debug, Clone)]
pub(super) struct Probed {
    pub(super) plane: Plane,
    /// Workers this process is meant to have.
    workers: usize,
}

/// The status API of a process that is meant to have `workers` workers: `/status`, `/status/ready`,
/// and `/metrics` in Prometheus' text format.
pub fn status_router(plane: Plane, workers: usize) -> Router {
    Router::new()
        .route("/status", get(alive))
        // APISIX answers every path below with it.
        .route("/status/{*rest}", get(alive))
        .route("/status/ready", get(ready))
        .route("/metrics", get(metrics::show))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::not_found)
        .layer(middleware::from_fn(super::discard_body))
        .with_state(Probed { plane, workers })
}

async fn alive() -> Response {
    answer::ok(&json!({ "status": "ok" }))
}

async fn ready(State(probed): State<Probed>) -> Response {
    match unready(probed.workers, &probed.plane.publisher.installed()) {
        None => answer::ok(&json!({ "status": "ok" })),
        Some(reason) => {
            let body = json!({ "status": "error", "error": reason });
            answer::json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

/// Why the process cannot serve yet, in APISIX's words (`apisix/init.lua`, `config_ready_check`).
fn unready(expected: usize, installed: &[u64]) -> Option<String> {
    if installed.len() < expected {
        let count = installed.len();
        return Some(format!("worker count: {expected} but status report count: {count}"));
    }
    let waiting = installed.iter().position(|revision| *revision == 0)?;
    Some(format!("worker id: {waiting} has not received configuration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_worker_has_a_snapshot() {
        assert_eq!(unready(2, &[1, 7]), None);
        let text = "worker count: 2 but status report count: 1";
        assert_eq!(unready(2, &[1]).as_deref(), Some(text));
        let text = "worker id: 1 has not received configuration";
        assert_eq!(unready(2, &[1, 0]).as_deref(), Some(text));
        assert!(unready(1, &[]).is_some());
    }
}
