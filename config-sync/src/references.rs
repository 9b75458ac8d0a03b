//! References from one resource to another.

use osmia_core::resource::{Key, Kind};
use serde_json::{Map, Value};

/// How a resource refers to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `upstream_id`, `service_id`, `plugin_config_id` or `group_id`.
    Id,
    /// `tls.client_cert_id` of an upstream.
    ClientCertificate,
    /// `protocol.superior_id` of a stream route.
    Superior,
    /// It lies in the other one's directory: a credential in its consumer's.
    Owner,
    /// A plugin's configuration names it: traffic-split an upstream, grpc-transcode a proto.
    Plugin,
}

/// One resource that another one needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What is needed.
    pub key: Key,
    /// How it is named.
    pub via: Via,
}

/// Everything that the resource under `key` refers to.
pub fn references(key: &Key, value: &Map<String, Value>) -> Vec<Reference> {
    let mut found = Vec::new();
    let at = |field: &str, below: &str| value.get(field)?.pointer(below);
    let mut add = |kind, id: Option<&Value>, via| {
        if let Some(id) = id.and_then(id_text) {
            found.push(Reference { key: Key::new(kind, &id), via });
        }
    };
    match key.kind {
        Kind::Route | Kind::Service | Kind::StreamRoute => {
            add(Kind::Upstream, value.get("upstream_id"), Via::Id);
            add(Kind::Service, value.get("service_id"), Via::Id);
            add(Kind::PluginConfig, value.get("plugin_config_id"), Via::Id);
            let certificate = at("upstream", "/tls/client_cert_id");
            add(Kind::Ssl, certificate, Via::ClientCertificate);
            add(Kind::StreamRoute, at("protocol", "/superior_id"), Via::Superior);
        }
        Kind::Upstream => {
            add(Kind::Ssl, at("tls", "/client_cert_id"), Via::ClientCertificate);
        }
        Kind::Consumer => add(Kind::ConsumerGroup, value.get("group_id"), Via::Id),
        Kind::Credential => add(Kind::Consumer, owner(key).as_ref(), Via::Owner),
        Kind::GraphqlCost => add(Kind::Service, owner(key).as_ref(), Via::Owner),
        _ => {}
    }
    for rule in list(at("plugins", "/traffic-split/rules")) {
        for upstream in list(rule.get("weighted_upstreams")) {
            add(Kind::Upstream, upstream.get("upstream_id"), Via::Plugin);
        }
    }
    add(Kind::Proto, at("plugins", "/grpc-transcode/proto_id"), Via::Plugin);
    found
}

/// The resources whose change or absence changes what the resource under `key` does.
pub(crate) fn dependencies(key: &Key, value: &Value) -> Vec<Key> {
    let Value::Object(value) = value else { return Vec::new() };
    let others = references(key, value).into_iter().filter(|found| found.via != Via::Owner);
    others.map(|found| found.key).collect()
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn owner(key: &Key) -> Option<Value> {
    key.id.split_once('/').map(|(owner, _)| Value::from(owner))
}

/// An id in JSON as text: a string, or a number that is whole.
pub(crate) fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                (float as i64).to_string()
            }
            _ => number.to_string(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(key: &str, value: &Value) -> Vec<(String, Via)> {
        let key = Key::parse(key).unwrap();
        let value = value.as_object().unwrap();
        references(&key, value).into_iter().map(|found| (found.key.path(), found.via)).collect()
    }

    #[test]
    fn every_reference_is_found() {
        let route = json!({
            "upstream_id": 1, "service_id": "s", "plugin_config_id": 2.0,
            "upstream": {"tls": {"client_cert_id": "c"}},
            "plugins": {
                "traffic-split": {"rules": [{"weighted_upstreams": [{"upstream_id": 7}, {}]}]},
                "grpc-transcode": {"proto_id": "p"},
            },
        });
        let expected = [
            ("upstreams/1", Via::Id),
            ("services/s", Via::Id),
            ("plugin_configs/2", Via::Id),
            ("ssls/c", Via::ClientCertificate),
            ("upstreams/7", Via::Plugin),
            ("protos/p", Via::Plugin),
        ];
        assert_eq!(named("routes/1", &route), expected.map(|(path, via)| (path.to_owned(), via)));
        let owner = named("consumers/jack/credentials/1", &json!({}));
        assert_eq!(owner, [("consumers/jack".to_owned(), Via::Owner)]);
        let group = named("consumers/jack", &json!({"group_id": "g"}));
        assert_eq!(group, [("consumer_groups/g".to_owned(), Via::Id)]);
        let odd = json!({"upstream_id": {}, "plugins": {"traffic-split": {"rules": 1}}});
        assert_eq!(named("routes/1", &odd), []);
    }
}
