//! The one place that knows which cryptography is used.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::ProducesTickets;

/// The cryptography of every TLS connection.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Keys for session tickets, which nobody else has; they change every six hours, and the one before
/// is still taken. Fails when the system gives no random numbers.
pub(super) fn ticketer() -> Result<Arc<dyn ProducesTickets>, String> {
    ring::Ticketer::new().map_err(|error| format!("ssl_session_tickets: no key: {error}"))
}
