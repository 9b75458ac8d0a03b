//! Resources in the layout of apisix.yaml.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use osmia_config_sync::store::file::Document;
use osmia_core::resource::{Key, Kind};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::client::ExportItem;

/// The last line of a complete file.
const END: &str = "#END";

/// Reads a file as the body of a transaction. Warnings go to standard error.
pub(super) fn transaction(file: &Path) -> anyhow::Result<Value> {
    let document = Document::read(file).with_context(|| file.display().to_string())?;
    for warning in &document.warnings {
        eprintln!("osmia: warning: {}: {warning}", file.display());
    }
    let mut put = Vec::with_capacity(document.resources.len());
    for resource in document.resources {
        let value: Value = serde_json::from_slice(&resource.value)
            .with_context(|| format!("{}: {}", file.display(), resource.path))?;
        put.push(json!({ "key": resource.path, "value": value }));
    }
    Ok(json!({ "put": put }))
}

/// The values of a transaction by key.
pub(super) fn values(transaction: &Value) -> BTreeMap<String, Value> {
    let items = transaction["put"].as_array().into_iter().flatten();
    items
        .filter_map(|item| Some((item["key"].as_str()?.to_owned(), item["value"].clone())))
        .collect()
}

/// A resource with its id in front.
#[derive(Serialize)]
struct Item<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A top-level key of the file.
#[derive(Serialize)]
#[serde(untagged)]
enum List<'a> {
    Items(Vec<Item<'a>>),
    /// The list of plugins, which is one resource.
    Plain(&'a Value),
}

/// The lists of the file, in the order in which references point backwards.
struct Layout<'a>(Vec<(&'static str, List<'a>)>);

impl Serialize for Layout<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, list)| (name, list)))
    }
}

fn layout(items: &[ExportItem]) -> anyhow::Result<Layout<'_>> {
    let mut keys = Vec::with_capacity(items.len());
    for item in items {
        let key = Key::parse(&item.key)
            .with_context(|| format!("{} is not the key of a resource", item.key))?;
        keys.push((key, item));
    }
    let mut lists: Vec<(&'static str, List<'_>)> = Vec::new();
    for kind in Kind::ALL {
        for (key, item) in keys.iter().filter(|(key, _)| key.kind == kind) {
            let name = kind.collection();
            if kind == Kind::Plugins {
                lists.push((name, List::Plain(&item.value)));
                continue;
            }
            let laid = Item::of(key, item)?;
            match lists.iter_mut().find(|(own, _)| *own == name) {
                Some((_, List::Items(list))) => list.push(laid),
                _ => lists.push((name, List::Items(vec![laid]))),
            }
        }
    }
    Ok(Layout(lists))
}

impl<'a> Item<'a> {
    fn of(key: &Key, item: &'a ExportItem) -> anyhow::Result<Self> {
        let Value::Object(mut rest) = item.value.clone() else {
            anyhow::bail!("{} holds {}, which is not a resource", item.key, item.value);
        };
        rest.remove("id");
        let (_, id) = item.key.split_once('/').unwrap_or_default();
        // A consumer is found by its username.
        Ok(Self { id: (key.kind != Kind::Consumer).then_some(id), rest })
    }
}

/// apisix.yaml.
pub(super) fn yaml(items: &[ExportItem]) -> anyhow::Result<String> {
    let layout = layout(items)?;
    if layout.0.is_empty() {
        return Ok(format!("{END}\n"));
    }
    let mut text = serde_saphyr::to_string(&layout)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    Ok(text)
}

/// apisix.json.
pub(super) fn json(items: &[ExportItem]) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&layout(items)?)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<ExportItem> {
        let item = |key: &str, value| ExportItem { key: key.to_owned(), value };
        vec![
            item("plugins", json!([{"name": "limit-count"}])),
            item("upstreams/1", json!({"id": "1", "nodes": {"127.0.0.1:80": 1}})),
            item("consumers/jack", json!({"username": "jack"})),
            item(
                "consumers/jack/credentials/c",
                json!({"id": "c", "plugins": {"key-auth": {"key": "yes"}}}),
            ),
            item(
                "routes/r",
                json!({
                    "id": "r", "uri": "/*", "desc": "a: b #c\n- d ", "hosts": ["*.a", "1.0", "~", "no"],
                    "vars": [["arg_a", "==", "1"]], "priority": -1, "labels": {"a": ""},
                }),
            ),
            item("secrets/vault/1", json!({"id": "vault/1", "uri": "http://v"})),
        ]
    }

    fn round_trip(name: &str, text: &str) -> BTreeMap<String, Value> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        values(&transaction(&path).unwrap())
    }

    #[test]
    fn what_is_dumped_can_be_read_again() {
        let expected: BTreeMap<_, _> =
            items().into_iter().map(|item| (item.key, item.value)).collect();
        let text = yaml(&items()).unwrap();
        assert!(text.ends_with("\n#END\n"), "{text}");
        assert_eq!(round_trip("a.yaml", &text), expected, "{text}");
        assert_eq!(round_trip("a.json", &json(&items()).unwrap()), expected);
        assert!(round_trip("a.yaml", &yaml(&[]).unwrap()).is_empty());
    }
}
