//! APISIX resources: parsed, validated and typed.
//!
//! One file per resource kind. A value that exists as a [`Route`] or [`Upstream`] has passed every
//! check that needs no other resource, so that nothing unvalidated reaches the compiler. Field
//! names, limits and error texts are those of APISIX (`apisix/schema_def.lua`, admin-api.md). What
//! Osmia does not support yet is refused by name: a gateway that skips a field it does not know
//! may skip an access rule.

mod fields;
mod id;
mod meta;
mod route;
mod upstream;
mod violation;

pub use id::Id;
pub use meta::Meta;
pub use route::{Route, Status};
pub use upstream::{KeepalivePool, Node, PassHost, Scheme, Timeout, Upstream, UpstreamType};
pub use violation::Violation;

/// The kinds of resources, by their directory name in the Admin API and in etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `routes`
    Route,
    /// `upstreams`
    Upstream,
}

impl Kind {
    /// The collection's name: `routes`, `upstreams`.
    pub const fn collection(self) -> &'static str {
        match self {
            Self::Route => "routes",
            Self::Upstream => "upstreams",
        }
    }

    /// One member's name: `route`, `upstream`.
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Upstream => "upstream",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.singular())
    }
}
