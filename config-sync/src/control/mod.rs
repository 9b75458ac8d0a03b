//! The Control API and the status endpoint: what this process knows and serves, for operators on
//! the same machine and for probes.
//!
//! [`router`] is APISIX's Control API (control-api.md; `apisix/control/v1.lua`) with
//! `/v1/osmia/status` beside it. [`status_router`] is APISIX's status API (status-api.md) with
//! `/metrics` beside it. Neither writes to the store.

mod answer;
mod dump;
mod health;
mod metrics;
mod plane_status;
mod schema;
mod status;
#[cfg(test)]
pub(crate) mod testing;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post, put};
use futures_util::StreamExt as _;

use crate::plane::Plane;

pub use status::status_router;

/// The Control API. It shows the configuration as it is stored: keep it on a local address.
pub fn router(plane: Plane) -> Router {
    Router::new()
        .route("/v1/schema", get(schema::all))
        .route("/v1/healthcheck", get(health::all))
        .route("/v1/healthcheck/{*which}", get(health::one))
        .route("/v1/routes", get(dump::routes))
        .route("/v1/route/{*id}", get(dump::route))
        .route("/v1/services", get(dump::services))
        .route("/v1/service/{*id}", get(dump::service))
        .route("/v1/upstreams", get(dump::upstreams))
        .route("/v1/upstream/{*id}", get(dump::upstream))
        .route("/v1/plugin_metadatas", get(dump::metadatas))
        .route("/v1/plugin_metadata/{*name}", get(dump::metadata))
        .route("/v1/gc", post(gc))
        .route("/v1/plugins/reload", put(reload))
        .route("/v1/discovery/{kind}/dump", get(answer::no_discovery))
        .route("/v1/osmia/status", get(plane_status::show))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::not_found)
        .layer(middleware::from_fn(discard_body))
        .with_state(plane)
}

/// Most bytes that are read of a body that nobody wants. Who sends more may not see the answer.
const DISCARDED: usize = 16 << 20;

/// Reads what comes with the request before it is answered: a client that is still sending when the
/// connection ends would lose the answer.
async fn discard_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let mut body = body.into_data_stream();
    let mut read = 0;
    while read < DISCARDED
        && let Some(Ok(data)) = body.next().await
    {
        read += data.len();
    }
    next.run(Request::from_parts(parts, Body::empty())).await
}

/// There is no collector to run: what is replaced is freed at once.
async fn gc() -> StatusCode {
    StatusCode::OK
}

/// Plugins are part of the binary; what APISIX's users want of a reload is that configuration which
/// was changed elsewhere is read now.
async fn reload(State(plane): State<Plane>) -> Response {
    plane.store.refresh();
    answer::text("done")
}

#[cfg(test)]
mod tests;
