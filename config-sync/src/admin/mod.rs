//! The Admin API: APISIX's paths, verbs, envelopes and error texts over a [`Store`].
//!
//! ```text
//! gate (who may) -> dispatch (which resource, which verb) -> read | write | patch | delete
//!                                                              |      check, refs, unique
//!                                                             list
//!                -> transaction, history (whole sets of resources)
//! ```
//!
//! A write is one commit with guards: the previous version of the resource is still the one that
//! was looked at, and everything the resource refers to still exists. It is answered when it has
//! been published to the workers.
//!
//! [`Store`]: crate::store::Store

mod body;
mod check;
pub mod configs;
mod delete;
mod dispatch;
mod gate;
pub mod history;
mod keys;
mod list;
mod merge;
mod patch;
mod plugins;
mod query;
mod read;
mod refs;
pub(crate) mod reply;
mod schema;
mod sealed;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod transaction;
mod unique;
mod validate;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use osmia_core::settings::AdminSettings;
use tokio::sync::RwLock;

pub use gate::guarded;
pub use keys::{Keys, KeysError};
pub use refs::{Reference, Via, in_use, references};

use self::reply::Reply;
use crate::plane::Plane;
use crate::store::{Outcome, StoreError, Transaction};

/// How long an answer waits for a change to reach the workers. It is answered then anyway: the
/// change is durable and will be published.
const PUBLISH_LIMIT: Duration = Duration::from_secs(1);

/// The Admin API, complete with access control. Requests must carry the client's address as
/// [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo) unless `allow_admin` is empty.
pub fn router(plane: Plane, settings: &AdminSettings, keys: Keys) -> Router {
    guarded(resources(plane, settings), settings, keys)
}

/// The Admin API without access control: for [`guarded`], together with other routes that are to
/// be below the same access control.
pub fn resources(plane: Plane, settings: &AdminSettings) -> Router {
    let api = Arc::new(Api {
        plane,
        body_bytes: settings.body_bytes,
        order: RwLock::new(()),
        committed: AtomicU64::new(0),
        claims: Arc::default(),
    });
    let ordered = |routes: Router, most: usize| {
        let layer = middleware::from_fn_with_state((Arc::clone(&api), most), in_order);
        routes.method_not_allowed_fallback(dispatch::wrong_method).layer(layer)
    };
    let sets = ordered(transaction::router(api.plane.clone()), transaction::BODY_MAX)
        .merge(ordered(history::router(api.plane.clone()), history::BODY_MAX));
    Router::new()
        .route(target::ROOT, any(dispatch::root))
        .route("/apisix/admin/{*path}", any(dispatch::dispatch))
        .fallback(dispatch::nowhere)
        .with_state(api)
        .nest(target::ROOT, sets)
}

/// Lets nobody else write while a whole set of resources is checked and written. A body may have
/// so many bytes.
async fn in_order(
    State((api, most)): State<(Arc<Api>, usize)>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    // A slow client must not keep the others waiting.
    let (parts, body) = request.into_parts();
    // Refused before it is sent, by clients that wait to be told.
    if body.size_hint().lower() > most as u64 {
        return body::refused("length limit exceeded").into_response();
    }
    let body = match axum::body::to_bytes(body, most).await {
        Ok(body) => body,
        Err(error) => return body::refused(&error.to_string()).into_response(),
    };
    let _alone = api.order.write().await;
    match api.caught_up().await {
        Ok(()) => next.run(Request::from_parts(parts, body.into())).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// What the handlers share.
#[derive(Debug)]
struct Api {
    plane: Plane,
    /// Largest body, in bytes.
    body_bytes: usize,
    /// Held for reading by commits that may add references, for writing by those that must see all
    /// references: a delete of what others may use.
    order: RwLock<()>,
    /// The last revision that was committed here.
    committed: AtomicU64,
    claims: Arc<unique::Claims>,
}

impl Api {
    /// What clients see of a path: `/apisix/routes/1`.
    fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.plane.store.prefix())
    }

    /// Commits, and remembers the revision.
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let outcome = self.plane.store.commit(transaction).await?;
        if let Outcome::Committed { revision, .. } = &outcome {
            self.committed.fetch_max(*revision, Ordering::Relaxed);
        }
        Ok(outcome)
    }

    /// Waits until a change is on every core; false when that takes too long.
    async fn published(&self, revision: u64) -> bool {
        let published = self.plane.applied(revision, PUBLISH_LIMIT).await;
        if !published {
            tracing::warn!(
                "revision {revision} is stored but was not published within {PUBLISH_LIMIT:?}"
            );
        }
        published
    }

    /// Waits until [`Plane::state`] has everything that was committed here. What depends on that is
    /// refused with 503 when it takes too long.
    async fn caught_up(&self) -> Result<(), Reply> {
        if self.published(self.committed.load(Ordering::Relaxed)).await {
            return Ok(());
        }
        let message = "the last change has not been published yet, try again";
        Err(Reply::error(StatusCode::SERVICE_UNAVAILABLE, message))
    }
}
