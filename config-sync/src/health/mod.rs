//! Health checks of upstream nodes: probes of the gateway's own, and what workers saw.
//!
//! ```text
//! compile -- which upstreams, which nodes --> registry <-- reports -- workers
//!                                            |      ^
//!                                       due probes  what they found
//!                                            v      |
//!                                          run (one task, one timer)
//!                                            |
//!                                            +--> down nodes -> publish -> workers
//! ```
//!
//! Counters and states are those of APISIX (`osmia_core::health`). They are kept by upstream and
//! node across changes of the configuration, and end with the node or its checks.

mod answer;
mod log;
mod plan;
mod probe;
mod registry;
mod report;
mod room;
mod run;
mod tls;
mod view;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osmia_core::snapshot::Health;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::compile::CheckChange;
use registry::Registry;
pub use report::{Report, Reporter, channel};
pub use room::DESCRIPTORS;
use room::Room;
use tls::Tls;
pub use view::{CheckerView, TargetView};

/// The health checks of this process. Nothing is probed until [`HealthChecks::run`] runs.
pub struct HealthChecks {
    registry: Mutex<Registry>,
    /// The configuration has changed.
    applied: Notify,
    tls: Arc<Tls>,
}

impl HealthChecks {
    /// No checks yet. `trusted` are the authorities for HTTPS
    /// (`apisix.ssl.ssl_trusted_certificate`), by default the system's.
    pub fn new(trusted: Option<PathBuf>) -> Self {
        let tls = Arc::new(Tls::new(trusted));
        let registry = Mutex::new(Registry::new(Room::of_process()));
        Self { registry, applied: Notify::new(), tls }
    }

    /// Follows the configuration. Whether [`HealthChecks::take_health`] has something new.
    pub fn apply(&self, changes: Vec<CheckChange>) -> bool {
        let mut registry = self.lock();
        if !changes.is_empty() {
            registry.apply(changes, Instant::now());
            self.applied.notify_one();
        }
        registry.has_changed()
    }

    /// What is known of nodes, to be published.
    pub fn take_health(&self) -> Health {
        self.lock().take_health()
    }

    /// The checks of an upstream, by its id in snapshots; `None`: it has none.
    pub fn view(&self, upstream: &str) -> Option<CheckerView> {
        self.lock().view(upstream)
    }

    /// All checks, sorted by upstream.
    pub fn views(&self) -> Vec<CheckerView> {
        self.lock().views()
    }

    /// A panic while the lock was held is a mistake in counting, which ends with the next change.
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self::new(None)
    }
}

impl fmt::Debug for HealthChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthChecks").finish_non_exhaustive()
    }
}
