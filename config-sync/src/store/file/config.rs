//! A configuration that came through the standalone Admin API (APISIX, deployment-modes.md,
//! "API-driven").

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use osmia_core::resource::{Key, Kind};
use serde_json::Value;

use super::document::{Document, LoadError};
use crate::store::Contents;

/// Versions of collections; one that is not there has version 0.
pub(crate) type Versions = HashMap<&'static str, f64>;

/// A whole configuration as a client gave it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Config {
    /// `X-Digest`.
    pub(crate) digest: String,
    /// `X-Last-Modified`: seconds since 1970.
    pub(crate) last_modified: u64,
    /// `<collection>_conf_version`.
    pub(crate) versions: Versions,
    /// The lists that are not empty, as JSON text.
    pub(crate) lists: BTreeMap<&'static str, Bytes>,
}

impl Config {
    /// The resources in it.
    pub(crate) fn document(&self) -> Result<Document, LoadError> {
        let mut text = b"{".to_vec();
        self.write_lists(&mut text);
        text.push(b'}');
        Document::from_json(&text)
    }

    /// Appends the lists as members of a JSON object.
    pub(crate) fn write_lists(&self, out: &mut Vec<u8>) {
        for (name, list) in &self.lists {
            if !out.ends_with(b"{") {
                out.push(b',');
            }
            out.extend_from_slice(format!("\"{name}\":").as_bytes());
            out.extend_from_slice(list);
        }
    }
}

/// The lists that a file's resources came from, in the form that clients give them.
pub(crate) fn lists(contents: &Contents) -> BTreeMap<&'static str, Bytes> {
    let mut lists: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
    for item in &contents.items {
        let Some(key) = Key::parse(&item.path) else { continue };
        let name = key.kind.collection();
        if key.kind == Kind::Plugins {
            lists.insert(name, item.value.to_vec());
            continue;
        }
        let list = lists.entry(name).or_default();
        list.push(if list.is_empty() { b'[' } else { b',' });
        list.extend_from_slice(&with_whole_id(&key, &item.value));
    }
    let close = |(name, mut list): (&'static str, Vec<u8>)| {
        if name != Kind::Plugins.collection() {
            list.push(b']');
        }
        (name, list.into())
    };
    lists.into_iter().map(close).collect()
}

/// A nested resource names its owner in its `id`, where it stands in one list with it.
fn with_whole_id(key: &Key, value: &Bytes) -> Bytes {
    if key.own_id() == &*key.id {
        return value.clone();
    }
    match serde_json::from_slice(value) {
        Ok(Value::Object(mut map)) => {
            map.insert("id".to_owned(), Value::from(&*key.id));
            Value::Object(map).to_string().into()
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Item;

    #[test]
    fn lists_read_back_as_the_same_resources() {
        let text = br#"{"consumers":[{"username":"jack"},{"id":"jack/credentials/a","plugins":{}}],
            "plugins":[{"name":"x"}],"routes":[{"id":"1","uri":"/"},{"uri":"/b"},7]}"#;
        let document = Document::from_json(text).unwrap();
        let item = |resource: &super::super::Resource| Item {
            path: resource.path.clone(),
            value: resource.value.clone(),
            created: 1,
            modified: 1,
        };
        let items = document.resources.iter().map(item).collect();
        let contents = Contents { revision: 1, items };
        let config = Config { lists: lists(&contents), ..Config::default() };
        assert_eq!(
            config.lists["consumers"],
            r#"[{"username":"jack"},{"id":"jack/credentials/a","plugins":{}}]"#
        );
        assert_eq!(config.lists["plugins"], r#"[{"name":"x"}]"#);
        let again = config.document().unwrap();
        let mut ids: Vec<&str> = again.resources.iter().map(|one| one.path.as_str()).collect();
        ids.retain(|path| !path.ends_with("arr_1"));
        assert_eq!(
            ids,
            [
                "consumers/jack",
                "consumers/jack/credentials/a",
                "plugins",
                "routes/1",
                "routes/arr_2",
                "routes/arr_3"
            ]
        );
    }
}
