//! How resources are read: plugins, encryption, layer 4.

use osmia_core::keyring::Keyring;
use osmia_core::router::Mode;
use osmia_core::rules::UnknownPlugins;
use osmia_core::settings::ResourceSettings;
use serde_json::Value;

use super::read::Key;
use super::{KeyError, KeyProblem};

/// APISIX's published default keyring (`apisix/cli/config.lua`): data that was written under it
/// must stay readable, for APISIX as well.
const KEYRING: [&str; 2] = ["qeddd145sfvddff3", "edd1c9f0985e76a2"];

const PROXY_MODES: [(&str, bool); 3] = [("http", false), ("stream", true), ("http&stream", true)];

const ROUTERS: [(&str, Mode); 3] = [
    ("radixtree_host_uri", Mode::HostUri),
    ("radixtree_uri", Mode::Uri),
    ("radixtree_uri_with_parameter", Mode::UriWithParameter),
];

pub(super) fn settings(root: &Key<'_>) -> Result<ResourceSettings, KeyError> {
    let apisix = root.get("apisix")?;
    let encryption = apisix.get("data_encryption")?;
    Ok(ResourceSettings {
        plugins: plugins(&root.get("plugins")?)?,
        unknown_plugins: unknown_plugins(&root.get("osmia")?.get("unknown_plugins")?)?,
        keyring: keyring(&encryption.get("keyring")?)?,
        encrypt_fields: encryption.get("enable_encrypt_fields")?.boolean(true)?,
        stream: apisix.get("proxy_mode")?.choice(&PROXY_MODES, false)?,
        router: apisix.get("router")?.get("http")?.choice(&ROUTERS, Mode::HostUri)?,
    })
}

fn plugins(key: &Key<'_>) -> Result<Option<Vec<String>>, KeyError> {
    if key.value().is_none() { Ok(None) } else { names(key).map(Some) }
}

fn names(key: &Key<'_>) -> Result<Vec<String>, KeyError> {
    key.items()?.map(|item| item.text()?.ok_or_else(|| item.wrong("a plugin's name"))).collect()
}

fn unknown_plugins(key: &Key<'_>) -> Result<UnknownPlugins, KeyError> {
    match key.value() {
        None => Ok(UnknownPlugins::Refuse),
        Some(Value::Array(_)) => names(key).map(UnknownPlugins::SkipNamed),
        Some(value) => match value.as_str() {
            Some("refuse") => Ok(UnknownPlugins::Refuse),
            Some("skip") => Ok(UnknownPlugins::Skip),
            _ => Err(key.wrong("refuse, skip, or a list of names to skip")),
        },
    }
}

/// A key or a list of keys; `null` or an empty list: nothing is encrypted.
fn keyring(key: &Key<'_>) -> Result<Keyring, KeyError> {
    let keys = match key.value() {
        None if key.is_null() => Vec::new(),
        None => KEYRING.map(str::to_owned).to_vec(),
        Some(Value::String(_)) => vec![encryption_key(key)?],
        Some(_) => key.items()?.map(|item| encryption_key(&item)).collect::<Result<_, _>>()?,
    };
    Ok(Keyring::new(keys))
}

fn encryption_key(key: &Key<'_>) -> Result<String, KeyError> {
    match key.value().and_then(Value::as_str) {
        Some(text) if [16, 32].contains(&text.len()) => Ok(text.to_owned()),
        // Not with its value: a secret does not belong into a message.
        _ => {
            let text = "expected a string of 16 bytes (AES-128) or 32 bytes (AES-256)".to_owned();
            Err((key.path().to_owned(), KeyProblem::Rule(text)))
        }
    }
}
