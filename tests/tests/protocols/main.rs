//! Protocols with clients and servers that are not ours: curl, h2load, openssl, gRPC and WebSocket
//! of Python, Chromium. What they are is installed by `make test`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests, though not all of their functions are marked as such"
)]

mod chromium;
mod curl;
mod grpc;
mod h2load;
mod hostile_tls;
mod openssl;
mod program;
mod renewal;
mod websocket;

use std::path::PathBuf;

use osmia_tests::config::upstream_of;
use osmia_tests::tls::{Authority, Identity};
use osmia_tests::{Config, Driver, Gateway, Origin};
use serde_json::{Value, json};

/// The name that certificates are for, unless a test says otherwise.
const NAME: &str = "a.test";

/// A gateway with a plain and a TLS listener before an [`Origin`].
struct Front {
    gateway: Gateway,
    origin: Origin,
    authority: Authority,
    identity: Identity,
}

impl Front {
    #[track_caller]
    fn start(driver: Driver) -> Self {
        Self::start_with(driver, |config| config)
    }

    #[track_caller]
    fn start_with(driver: Driver, change: impl FnOnce(Config) -> Config) -> Self {
        let authority = Authority::default();
        let identity = authority.issue(&[NAME]);
        let origin = Origin::new();
        let config = Config::new()
            .driver(driver)
            .tls()
            .ssl(identity.resource("1", &[NAME]))
            .route(route(&origin.upstream.node(), json!({})));
        let gateway = change(config).start();
        std::fs::write(gateway.file("ca.pem"), authority.pem()).unwrap();
        Self { gateway, origin, authority, identity }
    }

    /// The file with the authority's certificate.
    fn ca(&self) -> PathBuf {
        self.gateway.file("ca.pem")
    }

    /// Writes a certificate and its key to files of its directory.
    fn write(&self, name: &str, identity: &Identity) -> (PathBuf, PathBuf) {
        let cert = self.gateway.file(&format!("{name}.pem"));
        let key = self.gateway.file(&format!("{name}.key"));
        std::fs::write(&cert, &identity.cert).unwrap();
        std::fs::write(&key, &identity.key).unwrap();
        (cert, key)
    }

    /// The URL of a path on the TLS listener.
    fn url(&self, name: &str, path: &str) -> String {
        format!("https://{name}:{}{path}", self.gateway.tls_addr().port())
    }
}

/// A route for everything to one node.
fn route(node: &str, options: Value) -> Value {
    let upstream = upstream_of(&[node.to_owned()], options);
    json!({"id": "all", "uri": "/*", "enable_websocket": true, "upstream": upstream})
}
