//! What the Control API and the metrics show of checkers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use osmia_core::health::{Counters, State};

/// The checks of one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckerView {
    /// The upstream's id in snapshots: `{kind}#{owner id}` when it is written inline.
    pub upstream: Arc<str>,
    /// In the order of the nodes; what is probed in the same way is there once.
    pub targets: Vec<TargetView>,
}

/// One node that is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetView {
    /// Where it is probed.
    pub addr: SocketAddr,
    /// The Unix domain socket that `addr` stands for.
    pub unix: Option<Arc<Path>>,
    /// `checks.active.host`.
    pub hostname: Option<Arc<str>>,
    /// The `Host` of a probe, when it is not the address.
    pub host_header: Option<Arc<str>>,
    /// Where it stands.
    pub state: State,
    /// What is counted.
    pub counters: Counters,
}

impl TargetView {
    /// Its address as it is shown: without port, or `unix:/path`.
    pub fn ip(&self) -> String {
        match &self.unix {
            Some(path) => format!("unix:{}", path.display()),
            None => self.addr.ip().to_string(),
        }
    }
}
