//! What the Admin, Control and status API work on.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use osmia_core::net_set::NetSet;
use osmia_core::request::ViewOptions;
use osmia_core::rules::Rules;

use crate::applied::Applied;
use crate::health::HealthChecks;
use crate::local::Journal;
use crate::publish::Publisher;
use crate::state::State;
use crate::store::Store;

/// The configuration plane of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Plane {
    /// Where resources are kept.
    pub store: Arc<dyn Store>,
    /// Checks for what is written.
    pub rules: Arc<Rules>,
    /// How routes see requests.
    pub view: ViewOptions,
    /// `apisix.trusted_addresses`.
    pub trusted_addresses: Option<Arc<NetSet>>,
    /// Who changed what and when.
    pub journal: Journal,
    /// Snapshots on their way to the workers.
    pub publisher: Arc<Publisher>,
    /// Health checks of upstream nodes.
    pub health: Arc<HealthChecks>,
    pub(crate) state: Arc<RwLock<State>>,
    /// The store's revision that has been published.
    pub(crate) applied: Arc<Applied>,
}

impl Plane {
    /// What this process knows of the store. Do not hold it across an await.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        // The engine replaces the state's parts one by one, none of which can panic half-way.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the store's `revision` has been published to the workers; false when that takes
    /// longer than `limit`.
    pub async fn applied(&self, revision: u64, limit: Duration) -> bool {
        self.applied.wait(revision, limit).await
    }
}
