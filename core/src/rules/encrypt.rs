//! Sensitive fields, encrypted at rest.

use serde_json::Value;

use super::Rules;
use crate::plugin::Place;
use crate::resource::Kind;

/// What becomes of a text; `None`: it stays.
type Change<'c> = &'c dyn Fn(&str) -> Option<String>;

impl Rules {
    /// Encrypts the sensitive fields of what has been [checked](Self::check): private keys of
    /// certificates and of upstreams that are in PEM form, and what plugins name, which must not be
    /// encrypted yet.
    pub fn encrypt(&self, kind: Kind, value: &mut Value) {
        let pem = |text: &str| Some(self.keyring.encrypt_pem(text));
        let any = |text: &str| Some(self.keyring.encrypt(text));
        self.change(kind, value, &pem, &any);
    }

    /// Decrypts what [`Self::encrypt`] has encrypted, or APISIX under one of the keys. What cannot
    /// be decrypted stays as it is: it was stored before its field became a sensitive one.
    pub fn decrypt(&self, kind: Kind, value: &mut Value) {
        let pem = |text: &str| self.keyring.decrypt_pem(text);
        let any = |text: &str| self.keyring.decrypt(text);
        self.change(kind, value, &pem, &any);
    }

    fn change(&self, kind: Kind, value: &mut Value, pem: Change<'_>, any: Change<'_>) {
        if self.keyring.is_empty() {
            return;
        }
        match kind {
            Kind::Ssl => {
                at_path(value, "key", pem);
                at_path(value, "keys", pem);
            }
            Kind::Upstream => at_path(value, "tls.client_key", pem),
            Kind::Route | Kind::Service | Kind::StreamRoute => {
                at_path(value, "upstream.tls.client_key", pem);
            }
            _ => {}
        }
        if !self.encrypt_fields {
            return;
        }
        match kind {
            Kind::Consumer | Kind::Credential => self.plugins_fields(value, Place::Consumer, any),
            Kind::Route
            | Kind::Service
            | Kind::ConsumerGroup
            | Kind::GlobalRule
            | Kind::PluginConfig => self.plugins_fields(value, Place::Http, any),
            Kind::PluginMetadata => {
                let name = value.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
                self.plugin_fields(&name, value, Place::Metadata, any);
            }
            _ => {}
        }
    }

    fn plugins_fields(&self, value: &mut Value, place: Place, change: Change<'_>) {
        let plugins = value.get_mut("plugins").and_then(Value::as_object_mut);
        for (name, conf) in plugins.into_iter().flatten() {
            self.plugin_fields(name, conf, place, change);
        }
    }

    fn plugin_fields(&self, name: &str, conf: &mut Value, place: Place, change: Change<'_>) {
        let Some(plugin) = self.plugins.get(name) else { return };
        for path in plugin.encrypt_fields(place) {
            at_path(conf, path, change);
        }
    }
}

/// Changes the texts at a path with dots: through each item of an array, and at its end a text, or
/// the texts in a list or map.
fn at_path(value: &mut Value, path: &str, change: Change<'_>) {
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let Some(field) = value.get_mut(name) else { return };
    match (rest, field) {
        (Some(rest), Value::Array(items)) => {
            for item in items {
                at_path(item, rest, change);
            }
        }
        (Some(rest), inner) => at_path(inner, rest, change),
        (None, Value::Array(items)) => {
            for item in items {
                text(item, change);
            }
        }
        (None, Value::Object(map)) => {
            for item in map.values_mut() {
                text(item, change);
            }
        }
        (None, leaf) => text(leaf, change),
    }
}

fn text(value: &mut Value, change: Change<'_>) {
    let changed = value.as_str().and_then(change);
    if let Some(changed) = changed {
        *value = Value::String(changed);
    }
}
