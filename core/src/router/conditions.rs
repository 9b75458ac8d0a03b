//! Tests of a route besides host, path and method.

use std::net::IpAddr;

/// What else a request must fulfil; few routes have any of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    remote: Vec<IpAddr>,
}

impl Conditions {
    /// Whether requests of this client are admitted.
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        self.remote.contains(&client)
    }
}
