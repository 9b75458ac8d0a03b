//! The plugins that a request would meet, and where each comes from.

use std::collections::BTreeMap;

use osmia_core::resource::{Key, Kind};
use serde_json::{Value, json};

use crate::state::State;

/// The plugins of a route in APISIX's order of precedence: of the route itself, of its
/// `plugin_config`, of its service; global rules are beside them. Whatever comes later gives way.
pub(super) fn chain(state: &State, route: &str) -> Value {
    let key = Key::new(Kind::Route, route);
    let value = read(state, &key).unwrap_or_default();
    let mut sources = vec![(key, value.clone())];
    for (field, kind) in [("plugin_config_id", Kind::PluginConfig), ("service_id", Kind::Service)] {
        let id = match &value[field] {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => continue,
        };
        let key = Key::new(kind, id.as_str());
        if let Some(value) = read(state, &key) {
            sources.push((key, value));
        }
    }
    let mut merged: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in &sources {
        for name in value["plugins"].as_object().into_iter().flatten().map(|(name, _)| name) {
            merged.entry(name.clone()).or_default().push(key.path());
        }
    }
    let own = merged.into_iter().map(|(name, mut from)| {
        let overridden = from.split_off(1);
        let mut shown = json!({"name": name, "from": from[0]});
        if !overridden.is_empty() {
            shown["overrides"] = json!(overridden);
        }
        shown
    });
    global(state).into_iter().chain(own).collect()
}

fn global(state: &State) -> Vec<Value> {
    let mut shown = Vec::new();
    for (id, _) in state.items(Kind::GlobalRule) {
        let key = Key::new(Kind::GlobalRule, id.as_ref());
        let value = read(state, &key).unwrap_or_default();
        for name in value["plugins"].as_object().into_iter().flatten().map(|(name, _)| name) {
            shown.push(json!({"name": name, "from": key.path()}));
        }
    }
    shown
}

/// What is in force for a key.
fn read(state: &State, key: &Key) -> Option<Value> {
    serde_json::from_slice(&state.effective(key)?).ok()
}
