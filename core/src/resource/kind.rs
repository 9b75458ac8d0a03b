//! The kinds of resources, and how a key names one.

use std::fmt;
use std::sync::Arc;

/// The kinds of resources, by their directory in the Admin API and in etcd (admin-api.md;
/// `apisix/constants.lua`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `routes`
    Route,
    /// `services`
    Service,
    /// `upstreams`
    Upstream,
    /// `consumers`
    Consumer,
    /// `consumers/{username}/credentials`
    Credential,
    /// `consumer_groups`
    ConsumerGroup,
    /// `global_rules`
    GlobalRule,
    /// `plugin_configs`
    PluginConfig,
    /// `plugin_metadata`; the id is the plugin's name
    PluginMetadata,
    /// `plugins`: one list of plugin names, without an id
    Plugins,
    /// `protos`
    Proto,
    /// `ssls`
    Ssl,
    /// `stream_routes`
    StreamRoute,
    /// `secrets`; the id is `{manager}/{id}`
    Secret,
    /// `services/{id}/graphql_cost_decorations`
    GraphqlCost,
}

impl Kind {
    /// All kinds, in the order in which references point backwards: what a kind refers to comes
    /// before it.
    pub const ALL: [Self; 15] = [
        Self::Plugins,
        Self::PluginMetadata,
        Self::Secret,
        Self::Proto,
        Self::Ssl,
        Self::Upstream,
        Self::Service,
        Self::GraphqlCost,
        Self::PluginConfig,
        Self::ConsumerGroup,
        Self::Consumer,
        Self::Credential,
        Self::GlobalRule,
        Self::Route,
        Self::StreamRoute,
    ];

    /// The directory: `routes`. Nested kinds lie in their owner's directory.
    pub const fn collection(self) -> &'static str {
        match self {
            Self::Route => "routes",
            Self::Service | Self::GraphqlCost => "services",
            Self::Upstream => "upstreams",
            Self::Consumer | Self::Credential => "consumers",
            Self::ConsumerGroup => "consumer_groups",
            Self::GlobalRule => "global_rules",
            Self::PluginConfig => "plugin_configs",
            Self::PluginMetadata => "plugin_metadata",
            Self::Plugins => "plugins",
            Self::Proto => "protos",
            Self::Ssl => "ssls",
            Self::StreamRoute => "stream_routes",
            Self::Secret => "secrets",
        }
    }

    /// One member's name as in APISIX's messages: `route`, `plugin config`.
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Service => "service",
            Self::Upstream => "upstream",
            Self::Consumer => "consumer",
            Self::Credential => "credential",
            Self::ConsumerGroup => "consumer group",
            Self::GlobalRule => "global rule",
            Self::PluginConfig => "plugin config",
            Self::PluginMetadata => "plugin metadata",
            Self::Plugins => "plugin list",
            Self::Proto => "proto",
            Self::Ssl => "ssl",
            Self::StreamRoute => "stream route",
            Self::Secret => "secret",
            Self::GraphqlCost => "graphql cost decoration",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.singular())
    }
}

/// Names one resource: its kind, and what follows the directory in its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// What follows `{collection}/`: `1`, `vault/1` of a secret, `jack/credentials/c1` of a
    /// credential; empty for the list of plugins.
    pub id: Arc<str>,
}

impl Key {
    /// A key of a kind that is not nested.
    pub fn new(kind: Kind, id: &str) -> Self {
        Self { kind, id: id.into() }
    }

    /// The key of a consumer's credential.
    pub fn credential(username: &str, id: &str) -> Self {
        Self { kind: Kind::Credential, id: format!("{username}/credentials/{id}").into() }
    }

    /// Reads a path relative to the store's prefix, such as `routes/1`. `None` for what is not a
    /// resource: the `init_dir` markers at `routes/`, other directories, `gen_id`.
    pub fn parse(path: &str) -> Option<Self> {
        if path == Kind::Plugins.collection() {
            return Some(Self::new(Kind::Plugins, ""));
        }
        let (collection, id) = path.split_once('/')?;
        if id.is_empty() || id.ends_with('/') {
            return None;
        }
        let nested = |name: &str| {
            let mut parts = id.splitn(3, '/');
            matches!((parts.next(), parts.next(), parts.next()),
                (Some(owner), Some(middle), Some(own))
                    if !owner.is_empty() && middle == name && !own.is_empty() && !own.contains('/'))
        };
        let plain = !id.contains('/');
        let kind = match collection {
            "consumers" if nested("credentials") => Kind::Credential,
            "services" if nested("graphql_cost_decorations") => Kind::GraphqlCost,
            "secrets" if !plain && id.matches('/').count() == 1 => Kind::Secret,
            _ if !plain => return None,
            "routes" => Kind::Route,
            "services" => Kind::Service,
            "upstreams" => Kind::Upstream,
            "consumers" => Kind::Consumer,
            "consumer_groups" => Kind::ConsumerGroup,
            "global_rules" => Kind::GlobalRule,
            "plugin_configs" => Kind::PluginConfig,
            "plugin_metadata" => Kind::PluginMetadata,
            "protos" => Kind::Proto,
            "ssls" => Kind::Ssl,
            "stream_routes" => Kind::StreamRoute,
            _ => return None,
        };
        Some(Self { kind, id: id.into() })
    }

    /// The path relative to the store's prefix: the reverse of [`Key::parse`].
    pub fn path(&self) -> String {
        if self.id.is_empty() {
            return self.kind.collection().to_owned();
        }
        format!("{}/{}", self.kind.collection(), self.id)
    }

    /// The resource's own id, without its owner's: the last part of the path.
    pub fn own_id(&self) -> &str {
        match self.kind {
            Kind::Credential | Kind::GraphqlCost => {
                self.id.rsplit_once('/').map_or(&self.id, |(_, own)| own)
            }
            _ => &self.id,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_keys_are_each_others_reverse() {
        for (path, kind, own) in [
            ("routes/1", Kind::Route, "1"),
            ("consumers/jack", Kind::Consumer, "jack"),
            ("consumers/jack/credentials/c-1", Kind::Credential, "c-1"),
            ("secrets/vault/1", Kind::Secret, "vault/1"),
            ("services/1/graphql_cost_decorations/2", Kind::GraphqlCost, "2"),
            ("plugin_metadata/http-logger", Kind::PluginMetadata, "http-logger"),
            ("plugins", Kind::Plugins, ""),
        ] {
            let key = Key::parse(path).unwrap();
            assert_eq!((key.kind, key.own_id()), (kind, own), "{path}");
            assert_eq!(key.path(), path);
        }
    }

    #[test]
    fn what_is_no_resource_is_passed_over() {
        for path in [
            "",
            "routes",
            "routes/",
            "routes/1/2",
            "gen_id",
            "secrets/1",
            "secrets/a/b/c",
            "consumers/jack/credentials/",
            "consumers/jack/credentials",
            "consumers/jack/other/1",
            "data_plane/server_info/x",
            "osmia/author",
            "/routes/1",
            "proto/1",
        ] {
            assert_eq!(Key::parse(path), None, "{path}");
        }
    }
}
