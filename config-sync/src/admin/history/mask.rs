//! Values without their secrets.

use osmia_core::plugin::Place;
use osmia_core::resource::{Key, Kind};
use osmia_core::rules::Rules;
use serde_json::Value;

/// What stands for a secret.
const HIDDEN: &str = "(hidden)";

/// A value without its secrets.
#[derive(Debug)]
pub(super) struct Masked {
    pub(super) value: Value,
    /// What was hidden, in the order in which it was found: tells whether a secret has changed.
    pub(super) hidden: Vec<Value>,
}

/// Hides the secrets of a stored text: the fields that APISIX never returns or encrypts at rest,
/// and the credentials of secret managers.
pub(super) fn masked(rules: &Rules, key: Option<&Key>, text: &[u8]) -> Masked {
    let hidden = Vec::new();
    let (Some(key), Ok(value)) = (key, serde_json::from_slice::<Value>(text)) else {
        // Neither a resource nor JSON: nobody knows what is in it.
        return Masked { value: HIDDEN.into(), hidden: vec![String::from_utf8_lossy(text).into()] };
    };
    let mut masked = Masked { value, hidden };
    masked.hide_fields(own_fields(key.kind).iter().copied());
    masked.hide_plugins(rules, key.kind);
    if let (Kind::PluginMetadata, Some(plugin)) = (key.kind, rules.plugins.get(&key.id)) {
        masked.hide_fields(plugin.encrypt_fields(Place::Metadata));
    }
    masked
}

/// Paths of secrets that a kind has itself.
fn own_fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Ssl => &["key", "keys"],
        Kind::Upstream => &["tls.client_key"],
        Kind::Route | Kind::Service | Kind::StreamRoute => &["upstream.tls.client_key"],
        Kind::Secret => &["token", "secret_access_key", "session_token", "auth_config.private_key"],
        _ => &[],
    }
}

impl Masked {
    fn hide_fields<'p>(&mut self, paths: impl Iterator<Item = &'p str>) {
        for path in paths {
            hide_path(&mut self.value, path, &mut self.hidden);
        }
    }

    fn hide_plugins(&mut self, rules: &Rules, kind: Kind) {
        let Some(plugins) = self.value.get_mut("plugins").and_then(Value::as_object_mut) else {
            return;
        };
        let of_consumer = matches!(kind, Kind::Consumer | Kind::Credential);
        let place = if of_consumer { Place::Consumer } else { Place::Http };
        for (name, conf) in plugins {
            match rules.plugins.get(name) {
                Some(plugin) => {
                    for path in plugin.encrypt_fields(place) {
                        hide_path(conf, path, &mut self.hidden);
                    }
                }
                // Nobody knows which of its fields is the credential.
                None if of_consumer => hide_texts(conf, &mut self.hidden),
                None => {}
            }
        }
    }
}

/// Hides what a path of names with dots between them leads to, through lists.
fn hide_path(value: &mut Value, path: &str, hidden: &mut Vec<Value>) {
    if let Value::Array(items) = value {
        for item in items {
            hide_path(item, path, hidden);
        }
        return;
    }
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let Some(found) = value.get_mut(name) else { return };
    match rest {
        Some(rest) => hide_path(found, rest, hidden),
        None => hidden.push(std::mem::replace(found, HIDDEN.into())),
    }
}

fn hide_texts(value: &mut Value, hidden: &mut Vec<Value>) {
    match value {
        Value::String(_) => hidden.push(std::mem::replace(value, HIDDEN.into())),
        Value::Array(items) => items.iter_mut().for_each(|item| hide_texts(item, hidden)),
        Value::Object(map) => map.values_mut().for_each(|item| hide_texts(item, hidden)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use osmia_core::plugin::{Descriptor, Registry};
    use serde_json::json;

    use super::*;

    fn rules() -> Rules {
        let plugin = Descriptor {
            name: "key-auth",
            priority: 0,
            stream: false,
            schema: json!({"type": "object", "encrypt_fields": ["key", "deep.secret"]}),
            consumer_schema: None,
            metadata_schema: Some(json!({"type": "object", "encrypt_fields": ["token"]})),
            check: None,
        };
        Rules { plugins: Arc::new(Registry::new(vec![plugin]).unwrap()), ..Rules::default() }
    }

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        for (path, stored, shown) in [
            (
                "ssls/1",
                json!({"cert": "c", "key": "k", "keys": ["l"]}),
                json!({"cert": "c", "key": HIDDEN, "keys": HIDDEN}),
            ),
            (
                "routes/1",
                json!({"uri": "/", "upstream": {"tls": {"client_key": "k", "client_cert": "c"}}}),
                json!({"uri": "/", "upstream": {"tls": {"client_key": HIDDEN, "client_cert": "c"}}}),
            ),
            (
                "secrets/vault/1",
                json!({"uri": "u", "token": "t"}),
                json!({"uri": "u", "token": HIDDEN}),
            ),
            (
                "consumers/jack",
                json!({"plugins": {"key-auth": {"key": "k", "header": "h"}, "x": {"a": ["s", 1]}}}),
                json!({"plugins": {"key-auth": {"key": HIDDEN, "header": "h"}, "x": {"a": [HIDDEN, 1]}}}),
            ),
            (
                "plugin_metadata/key-auth",
                json!({"token": "t", "a": 1}),
                json!({"token": HIDDEN, "a": 1}),
            ),
            (
                "routes/2",
                json!({"plugins": {"key-auth": {"deep": [{"secret": 1}]}, "x": {"a": "s"}}}),
                json!({"plugins": {"key-auth": {"deep": [{"secret": HIDDEN}]}, "x": {"a": "s"}}}),
            ),
        ] {
            let key = Key::parse(path).unwrap();
            let text = stored.to_string();
            let masked = masked(&rules(), Some(&key), text.as_bytes());
            assert_eq!(masked.value, shown, "{path}");
            assert!(!masked.hidden.is_empty());
        }
        let key = Key::parse("ssls/1").unwrap();
        assert_eq!(masked(&rules(), Some(&key), b"no json").value, HIDDEN);
    }
}
