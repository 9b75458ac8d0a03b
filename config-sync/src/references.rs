//! References from one resource to another.

use std::fmt;

use osmia_core::resource::{Key, Kind};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The fields of resources in which they name others.
const FIELDS: [&str; 8] = [
    "upstream_id",
    "service_id",
    "plugin_config_id",
    "group_id",
    "upstream",
    "tls",
    "protocol",
    "plugins",
];

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

/// What a stored text says about others, and when it was created. The rest is passed over; no
/// values are made of it.
#[derive(Debug, Default)]
pub(crate) struct Excerpt {
    fields: Map<String, Value>,
    /// `create_time`, where it is a number.
    pub(crate) create_time: Option<Value>,
}

impl Excerpt {
    /// An empty one where the text is not a JSON object.
    pub(crate) fn of(text: &[u8]) -> Self {
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// See [`references`].
    pub(crate) fn references(&self, key: &Key) -> Vec<Reference> {
        references(key, &self.fields)
    }

    /// See [`dependencies`].
    pub(crate) fn dependencies(&self, key: &Key) -> Vec<Key> {
        dependencies(key, &self.fields)
    }
}

impl<'de> Deserialize<'de> for Excerpt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Excerpt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Excerpt, M::Error> {
                let mut excerpt = Excerpt::default();
                while let Some(name) = map.next_key()? {
                    match name {
                        Name::Reference(name) => {
                            excerpt.fields.insert(name.to_owned(), map.next_value()?);
                        }
                        Name::CreateTime => {
                            let time: Value = map.next_value()?;
                            excerpt.create_time = Some(time).filter(Value::is_number);
                        }
                        Name::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(excerpt)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// A field's name, as far as it matters here.
enum Name {
    /// One of [`FIELDS`].
    Reference(&'static str),
    CreateTime,
    Other,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                let known = FIELDS.into_iter().find(|known| *known == name);
                Ok(match known {
                    Some(name) => Name::Reference(name),
                    None if name == "create_time" => Name::CreateTime,
                    None => Name::Other,
                })
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// The resources whose change or absence changes what the resource under `key` does.
pub(crate) fn dependencies(key: &Key, value: &Map<String, Value>) -> Vec<Key> {
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

    #[test]
    fn an_excerpt_says_what_the_whole_text_says() {
        let texts = [
            r#"{"uri": "/a", "upstream_id": 1, "labels": {"upstream_id": "no"}, "service_id": "s",
                "plugin_config_id": 2.0, "create_time": 5, "vars": [["a", "==", {"b": [null]}]],
                "upstream": {"tls": {"client_cert_id": "c"}, "nodes": {}},
                "plugins": {"grpc-transcode": {"proto_id": "p"}}}"#,
            r#"{"service_id": "first", "ser\u0076ice_id": "last"}"#,
            r#"{"protocol": {"superior_id": 7, "name": "x"}, "tls": {"client_cert_id": 3}}"#,
            r#"{"group_id": "g", "create_time": "5"}"#,
            r#"{"upstream_id": {}, "upstream": 1, "plugins": []}"#,
            "{}",
            "[1]",
            "null",
            r#"{"service_id": 1"#,
            r#"{"service_id": 1} x"#,
            "",
        ];
        for text in texts {
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            let map = value.as_object().cloned().unwrap_or_default();
            let excerpt = Excerpt::of(text.as_bytes());
            for key in ["routes/1", "services/1", "stream_routes/1", "upstreams/1", "consumers/j"] {
                let key = Key::parse(key).unwrap();
                assert_eq!(excerpt.references(&key), references(&key, &map), "{key}: {text}");
            }
            let created = map.get("create_time").filter(|time| time.is_number());
            assert_eq!(excerpt.create_time.as_ref(), created, "{text}");
        }
    }
}
