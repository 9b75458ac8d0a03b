//! APISIX resources: parsed, validated and typed.
//!
//! One file per resource kind. A value that exists as a [`Route`] or [`Upstream`] has passed every
//! check that needs no other resource, so that nothing unvalidated reaches the compiler. Field
//! names, limits and error texts are those of APISIX (`apisix/schema_def.lua`, admin-api.md). What
//! Osmia does not support yet is typed and kept, and `unsupported` names it: a gateway that skips a
//! field it does not know may skip an access rule. Unknown fields are refused.

mod consumer;
mod fields;
mod graphql_cost;
mod id;
mod kind;
mod meta;
mod plugins;
mod proto;
mod route;
mod secret;
mod service;
mod ssl;
mod stream_route;
mod upstream;
mod violation;

pub use consumer::{Consumer, ConsumerGroup, Credential};
pub use fields::is_address;
pub use graphql_cost::GraphqlCost;
pub use id::Id;
pub use kind::{Key, Kind};
pub use meta::Meta;
pub use plugins::{GlobalRule, ListedPlugin, PluginConfig, PluginList, PluginMetadata};
pub use proto::Proto;
pub use route::{Route, Status};
pub use secret::{Manager, Secret};
pub use service::Service;
pub use ssl::{ClientVerification, OcspStapling, Ssl, SslType, is_secret_ref};
pub use stream_route::{Protocol, StreamRoute};
pub use upstream::{
    ActiveCheck, Checks, HashOn, KeepalivePool, Node, Outcome, PassHost, PassiveCheck, Scheme,
    Timeout, Tls, Upstream, UpstreamType,
};
pub use violation::Violation;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    /// JSON with a taste for the names and values that resources know.
    pub(crate) fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (0..3i64).prop_map(Value::from),
            "[*/a:.\\[\\]0-9 é]{0,8}".prop_map(Value::from),
            proptest::sample::select(vec!["GET", "http", "roundrobin", "rewrite", "/a", "a:80"])
                .prop_map(Value::from),
        ];
        let names = vec![
            "id",
            "name",
            "desc",
            "labels",
            "uri",
            "uris",
            "host",
            "hosts",
            "methods",
            "priority",
            "status",
            "timeout",
            "upstream",
            "upstream_id",
            "nodes",
            "retries",
            "retry_timeout",
            "keepalive_pool",
            "type",
            "scheme",
            "pass_host",
            "upstream_host",
            "weight",
            "port",
            "connect",
            "send",
            "read",
            "plugins",
            "checks",
            "active",
            "healthy",
            "successes",
            "http_statuses",
            "hash_on",
            "key",
            "tls",
            "vars",
            "remote_addr",
            "script",
            "service_id",
            "plugin_config_id",
            "group_id",
            "server_port",
            "protocol",
            "client",
            "content",
            "add_value",
            "other",
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            let entry = (proptest::sample::select(names.clone()), inner.clone());
            let object = proptest::collection::vec(entry, 0..6).prop_map(|entries| {
                let own = |(name, value): (&str, Value)| (name.to_owned(), value);
                Value::Object(entries.into_iter().map(own).collect::<Map<_, _>>())
            });
            prop_oneof![proptest::collection::vec(inner, 0..4).prop_map(Value::from), object]
        })
    }

    /// Reads `value` as a resource; when it is one, it must be read back as it is written.
    fn check<T>(
        value: &Value,
        read: fn(&Value) -> Result<T, Violation>,
    ) -> Result<bool, TestCaseError>
    where
        T: serde::Serialize + PartialEq + std::fmt::Debug,
    {
        match read(value) {
            Err(violation) => {
                let reason = format!("{violation:#}");
                prop_assert!(!reason.is_empty());
                Ok(false)
            }
            Ok(resource) => {
                let written = serde_json::to_value(&resource).unwrap();
                prop_assert_eq!(read(&written), Ok(resource));
                Ok(true)
            }
        }
    }

    /// `value` with the fields of `frame`, so that the random parts of it are reached.
    fn framed(value: &Value, frame: Value) -> Value {
        let mut map = value.as_object().cloned().unwrap_or_default();
        if let Value::Object(frame) = frame {
            map.extend(frame);
        }
        Value::Object(map)
    }

    fn without(value: &Value, names: &[&str]) -> Value {
        let mut map = value.as_object().cloned().unwrap_or_default();
        map.retain(|name, _| !names.contains(&name.as_str()));
        Value::Object(map)
    }

    proptest! {
        #[test]
        fn any_json_is_taken_or_refused_with_a_reason(value in json()) {
            check(&value, Route::from_json)?;
            check(&value, Service::from_json)?;
            check(&value, Consumer::from_json)?;
            check(&value, Credential::from_json)?;
            check(&value, ConsumerGroup::from_json)?;
            check(&value, GlobalRule::from_json)?;
            check(&value, PluginConfig::from_json)?;
            check(&value, PluginMetadata::from_json)?;
            check(&value, PluginList::from_json)?;
            check(&value, Proto::from_json)?;
            check(&value, Ssl::from_json)?;
            check(&value, StreamRoute::from_json)?;
            check(&value, Secret::from_json)?;
            check(&value, GraphqlCost::from_json)?;
        }

        #[test]
        fn what_was_taken_is_taken_again_as_it_is_written(value in json()) {
            let route = framed(
                &without(&value, &["uris", "hosts"]),
                serde_json::json!({"uri": "/a*", "upstream_id": 1}),
            );
            check(&route, Route::from_json)?;
            // With service discovery in place of nodes, an empty list of them would be written.
            let upstream = framed(
                &without(&value, &["service_name", "discovery_type"]),
                serde_json::json!({"nodes": {"a:80": 1}}),
            );
            check(&upstream, Upstream::from_json)?;
            let service = framed(&without(&value, &["uri"]), serde_json::json!({"upstream": upstream}));
            check(&service, Service::from_json)?;
            check(&framed(&value, serde_json::json!({"username": "a"})), Consumer::from_json)?;
            check(&framed(&value, serde_json::json!({"plugins": {}})), GlobalRule::from_json)?;
            check(&framed(&value, serde_json::json!({"plugins": {}})), PluginConfig::from_json)?;
            check(&framed(&value, serde_json::json!({"content": "a"})), Proto::from_json)?;
            check(&framed(&value, serde_json::json!({"field_path": "a"})), GraphqlCost::from_json)?;
            let secret = serde_json::json!({"id": "gcp/1", "auth_file": "f"});
            check(&framed(&value, secret), Secret::from_json)?;
            let ssl = serde_json::json!({
                "cert": "c".repeat(128), "key": "k".repeat(64), "sni": "a",
            });
            check(&framed(&without(&value, &["snis"]), ssl), Ssl::from_json)?;
        }
    }
}
