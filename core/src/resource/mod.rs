//! APISIX resources: parsed, validated and typed.
//!
//! One file per resource kind. A value that exists as a [`Route`] or [`Upstream`] has passed every
//! check that needs no other resource, so that nothing unvalidated reaches the compiler. Field
//! names, limits and error texts are those of APISIX (`apisix/schema_def.lua`, admin-api.md). What
//! Osmia does not support yet is refused by name: a gateway that skips a field it does not know
//! may skip an access rule.

mod fields;
mod id;
mod kind;
mod meta;
mod route;
mod upstream;
mod violation;

pub use id::Id;
pub use kind::{Key, Kind};
pub use meta::Meta;
pub use route::{Route, Status};
pub use upstream::{KeepalivePool, Node, PassHost, Scheme, Timeout, Upstream, UpstreamType};
pub use violation::Violation;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    /// JSON with a taste for the names and values that resources know.
    fn json() -> impl Strategy<Value = Value> {
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

    proptest! {
        #[test]
        fn any_json_is_taken_or_refused_with_a_reason(value in json()) {
            if let Err(violation) = Route::from_json(&value) {
                let reason = format!("{violation:#}");
                prop_assert!(!reason.is_empty());
            }
            if let Err(violation) = Upstream::from_json(&value) {
                let reason = format!("{violation:#}");
                prop_assert!(!reason.is_empty());
            }
        }

        #[test]
        fn what_was_taken_is_taken_again_as_it_is_written(mut value in json()) {
            // A valid frame, so that the random parts are reached.
            if let Value::Object(map) = &mut value {
                map.remove("uris");
                map.remove("hosts");
                map.insert("uri".to_owned(), "/a*".into());
                map.insert("upstream_id".to_owned(), 1.into());
            }
            if let Ok(route) = Route::from_json(&value) {
                let written = serde_json::to_value(&route).unwrap();
                prop_assert_eq!(Route::from_json(&written), Ok(route));
            }
        }
    }
}
