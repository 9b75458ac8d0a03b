//! Sensitive fields on their way into the store and out of it.

use osmia_core::resource::Kind;
use osmia_core::rules::Rules;
use serde_json::{Map, Value};

/// The value as it is stored.
pub(crate) fn encrypted(
    rules: &Rules,
    kind: Kind,
    value: Map<String, Value>,
) -> Map<String, Value> {
    changed(value, |value| rules.encrypt(kind, value))
}

/// The value as it was written.
pub(crate) fn decrypted(
    rules: &Rules,
    kind: Kind,
    value: Map<String, Value>,
) -> Map<String, Value> {
    changed(value, |value| rules.decrypt(kind, value))
}

/// The value as a client may see it: fields of plugins in plain text, private keys of upstreams as
/// they are stored, those of certificates not at all. So it is in APISIX.
pub(crate) fn shown(rules: &Rules, kind: Kind, value: Map<String, Value>) -> Map<String, Value> {
    let stored = Value::Object(value);
    let key = client_key(kind);
    let kept = key.and_then(|key| stored.pointer(key)).cloned();
    let mut shown = stored;
    rules.decrypt(kind, &mut shown);
    if let (Some(kept), Some(place)) = (kept, key.and_then(|key| shown.pointer_mut(key))) {
        *place = kept;
    }
    let mut shown = object(shown);
    hide(kind, &mut shown);
    shown
}

/// Whether a kind has anything that is never shown.
pub(crate) fn hides(kind: Kind) -> bool {
    kind == Kind::Ssl
}

/// Takes out what is never shown.
pub(crate) fn hide(kind: Kind, value: &mut Map<String, Value>) {
    if hides(kind) {
        value.remove("key");
        value.remove("keys");
    }
}

/// Where the private key of an upstream is.
fn client_key(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Upstream => Some("/tls/client_key"),
        Kind::Route | Kind::Service | Kind::StreamRoute => Some("/upstream/tls/client_key"),
        _ => None,
    }
}

fn changed(value: Map<String, Value>, change: impl FnOnce(&mut Value)) -> Map<String, Value> {
    let mut value = Value::Object(value);
    change(&mut value);
    object(value)
}

/// What changes the fields of an object leaves an object.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use osmia_core::keyring::Keyring;
    use serde_json::json;

    use super::*;

    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n";

    fn rules() -> Rules {
        let keyring = Keyring::new(vec!["0123456789abcdef".to_owned()]);
        Rules { keyring, ..Rules::default() }
    }

    fn map(value: Value) -> Map<String, Value> {
        object(value)
    }

    #[test]
    fn private_keys_are_encrypted_and_not_shown() {
        let rules = rules();
        let ssl = map(json!({"cert": "C", "key": PEM, "keys": [PEM]}));
        let stored = encrypted(&rules, Kind::Ssl, ssl.clone());
        assert!(stored["key"] != ssl["key"] && stored["keys"] != ssl["keys"]);
        assert_eq!(decrypted(&rules, Kind::Ssl, stored.clone()), ssl);
        assert_eq!(shown(&rules, Kind::Ssl, stored), map(json!({"cert": "C"})));
    }

    #[test]
    fn a_private_key_of_an_upstream_is_shown_as_it_is_stored() {
        let rules = rules();
        let tls = json!({"client_cert": "C", "client_key": PEM});
        for (kind, value) in [
            (Kind::Upstream, json!({"tls": tls})),
            (Kind::Route, json!({"upstream": {"tls": tls}})),
        ] {
            let stored = encrypted(&rules, kind, map(value.clone()));
            assert!(!Value::Object(stored.clone()).to_string().contains("QUJD"));
            assert_eq!(shown(&rules, kind, stored.clone()), stored);
            assert_eq!(decrypted(&rules, kind, stored), map(value));
        }
    }
}
