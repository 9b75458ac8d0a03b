//! `/configs/validate`: a whole configuration is checked, nothing is stored.

use std::collections::HashSet;

use axum::http::{HeaderMap, StatusCode, header};
use osmia_core::resource::Kind;
use osmia_core::rules::Rules;
use serde_json::{Map, Value, json};

use super::body;
use super::check::lua_type;
use super::refs::id_text;
use super::reply::{Answer, Reply};

/// The collections of a standalone file, in the order in which they are checked.
const COLLECTIONS: [(&str, Kind); 13] = [
    ("routes", Kind::Route),
    ("services", Kind::Service),
    ("upstreams", Kind::Upstream),
    ("consumers", Kind::Consumer),
    ("consumer_groups", Kind::ConsumerGroup),
    ("global_rules", Kind::GlobalRule),
    ("plugin_configs", Kind::PluginConfig),
    ("plugin_metadata", Kind::PluginMetadata),
    ("plugins", Kind::Plugins),
    ("protos", Kind::Proto),
    ("ssls", Kind::Ssl),
    ("stream_routes", Kind::StreamRoute),
    ("secrets", Kind::Secret),
];

/// What marks a credential among the consumers: it is in the middle of its id.
const CREDENTIAL: &str = "/credentials/";

/// Answers a request with the given body.
pub(crate) fn answer(rules: &Rules, headers: &HeaderMap, bytes: Option<&[u8]>) -> Answer {
    let bytes = bytes.ok_or_else(|| body::refused("empty request body"))?;
    let Value::Object(set) = parse(headers, bytes)? else {
        return Err(body::refused("expected an object of collections"));
    };
    let problems = problems(rules, &set);
    if problems.is_empty() {
        return Ok(Reply::json(StatusCode::OK, &json!({})));
    }
    let answer = json!({ "error_msg": "Configuration validation failed", "errors": problems });
    Err(Reply::json(StatusCode::BAD_REQUEST, &answer))
}

fn parse(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, Reply> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/yaml")) {
        return serde_json::from_slice(bytes).map_err(|error| body::refused(&error.to_string()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string());
    text.and_then(crate::yaml::parse)
        .map_err(|error| body::refused(&format!("invalid yaml request body: {error}")))
}

/// Everything that is wrong with the set.
fn problems(rules: &Rules, set: &Map<String, Value>) -> Vec<Value> {
    let mut problems = Vec::new();
    for (name, kind) in COLLECTIONS {
        let version = format!("{name}_conf_version");
        if let Some(found) = set.get(&version).filter(|found| !found.is_number()) {
            let error = format!("{version} must be a number, got {}", lua_type(found));
            problems.push(json!({ "resource_type": name, "error": error }));
        }
        let items = match set.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(items)) => items,
            // A script language's empty list may come out as an empty object.
            Some(Value::Object(map)) if map.is_empty() => continue,
            Some(other) => {
                let error = format!("{name} must be an array, got {}", lua_type(other));
                problems.push(json!({ "resource_type": name, "error": error }));
                continue;
            }
        };
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let mut report = |error: String| {
                problems.push(json!({
                    "resource_type": name,
                    "resource_id": shown_id(item),
                    "index": index,
                    "error": error,
                }));
            };
            if let Err(error) = check(rules, kind, item) {
                report(error);
            }
            if let Some(error) = duplicate(name, item, &mut seen) {
                report(error);
            }
        }
    }
    problems
}

fn shown_id(item: &Value) -> Value {
    item.get("id").or_else(|| item.get("username")).cloned().unwrap_or_else(|| "".into())
}

fn check(rules: &Rules, kind: Kind, item: &Value) -> Result<(), String> {
    if kind == Kind::Plugins {
        return Ok(());
    }
    let id = item.get("id").and_then(id_text);
    let mut copy = item.clone();
    let kind = match &id {
        Some(id) if kind == Kind::Consumer && id.contains(CREDENTIAL) => {
            let own = id.rsplit('/').next().unwrap_or_default();
            if let Value::Object(map) = &mut copy {
                map.insert("id".to_owned(), own.into());
            }
            Kind::Credential
        }
        Some(id) if kind == Kind::Secret && !id.contains('/') => {
            return Err(format!("invalid secret id: {id}"));
        }
        None if kind == Kind::Secret => return Err("invalid secret id: ".to_owned()),
        None if kind == Kind::PluginMetadata => return Err("missing plugin name".to_owned()),
        _ => kind,
    };
    rules.check(kind, &mut copy)
}

fn duplicate(name: &str, item: &Value, seen: &mut HashSet<String>) -> Option<String> {
    let id = item.get("id").and_then(id_text);
    let (what, id) = match (name, id) {
        ("consumers", Some(id)) => ("credential id", id),
        ("consumers", None) => ("username", item.get("username").and_then(id_text)?),
        (_, id) => ("id", id?),
    };
    let error = format!("found duplicate {what} {id} in {name}");
    (!seen.insert(id)).then_some(error)
}
