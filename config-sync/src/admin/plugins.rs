//! `/plugins/list`, `/plugins/{name}` and `/plugins/reload`.

use axum::http::{Method, StatusCode};
use osmia_core::plugin::{Descriptor, Registry};
use serde_json::{Map, Value, json};

use super::query::Query;
use super::reply::{Answer, Reply};

/// Everything below `/plugins`; `path` is what follows.
pub(crate) fn answer(
    registry: &Registry,
    method: &Method,
    path: &[String],
    query: &Query,
) -> Answer {
    let name = path.first().map(String::as_str);
    match (method, name) {
        (&Method::PUT, Some("reload")) => reload(),
        (method, Some("reload")) => {
            let message = format!(
                "please use PUT method to reload the plugins, {method} method is not allowed."
            );
            Err(Reply::error(StatusCode::METHOD_NOT_ALLOWED, message))
        }
        (&Method::GET, Some("list")) => list(registry, query),
        (&Method::GET, name) => one(registry, name, query),
        _ => Err(Reply::error(StatusCode::NOT_FOUND, "not found")),
    }
}

/// Plugins are part of the binary, so that there is nothing to be loaded again: whoever asks finds
/// them as they should be.
#[allow(clippy::unnecessary_wraps, reason = "handlers answer alike")]
fn reload() -> Answer {
    Ok(Reply::text(StatusCode::OK, "done"))
}

/// Where plugins run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subsystem {
    Http,
    Stream,
}

impl Subsystem {
    /// The argument `subsystem`; HTTP when it is not given, the text when it is another one.
    fn read(query: &Query) -> Result<Self, &str> {
        match query.get("subsystem") {
            None | Some("http") => Ok(Self::Http),
            Some("stream") => Ok(Self::Stream),
            Some(other) => Err(other),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Stream => "stream",
        }
    }

    fn has(self, plugin: &Descriptor) -> bool {
        self == Self::Http || plugin.stream
    }
}

/// Names, the plugin that runs first first.
fn list(registry: &Registry, query: &Query) -> Answer {
    let subsystem = Subsystem::read(query)
        .map_err(|_| Reply::text(StatusCode::BAD_REQUEST, "invalid subsystem passed"))?;
    let plugins = registry.iter().filter(|plugin| subsystem.has(plugin));
    let names: Vec<&str> = plugins.map(|plugin| plugin.name).collect();
    Ok(Reply::json(StatusCode::OK, &json!(names)))
}

/// The schema of one plugin, or with `all=true` what is known of all.
pub(crate) fn one(registry: &Registry, name: Option<&str>, query: &Query) -> Answer {
    let subsystem = Subsystem::read(query)
        .map_err(|other| Reply::bad(format!("unsupported subsystem: {other}")))?;
    if query.get("all") == Some("true") {
        let known = registry.iter().filter(|plugin| subsystem.has(plugin));
        let all: Map<String, Value> =
            known.map(|plugin| (plugin.name.to_owned(), describe(plugin))).collect();
        return Ok(Reply::json(StatusCode::OK, &Value::Object(all)));
    }
    let found = name.and_then(|name| registry.get(name));
    let plugin = found.filter(|plugin| subsystem.has(plugin)).ok_or_else(|| {
        let message = format!("plugin not found in subsystem {}", subsystem.name());
        Reply::error(StatusCode::NOT_FOUND, message)
    })?;
    let schema = match query.get("schema_type") {
        Some("consumer") => {
            plugin.consumer_schema.as_ref().ok_or_else(|| Reply::bad("not found schema"))?
        }
        _ => &plugin.schema,
    };
    Ok(Reply::json(StatusCode::OK, schema))
}

fn describe(plugin: &Descriptor) -> Value {
    let mut known = Map::new();
    known.insert("priority".to_owned(), plugin.priority.into());
    known.insert("schema".to_owned(), plugin.schema.clone());
    if let Some(schema) = &plugin.consumer_schema {
        known.insert("type".to_owned(), "auth".into());
        known.insert("consumer_schema".to_owned(), schema.clone());
    }
    if let Some(schema) = &plugin.metadata_schema {
        known.insert("metadata_schema".to_owned(), schema.clone());
    }
    Value::Object(known)
}
