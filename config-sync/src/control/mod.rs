//! The Control API and the status endpoint.
