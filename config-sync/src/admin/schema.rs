//! `/schema/{name}`, `/schema/plugins/{name}` and `/schema/validate/{resource}`.

use axum::http::{Method, StatusCode};
use osmia_core::resource::Kind;
use osmia_core::schema;
use serde_json::Value;

use super::query::Query;
use super::reply::{Answer, Reply};
use super::{Api, plugins, target};

/// GET and POST below `/schema`; `path` is what follows.
pub(crate) fn answer(
    api: &Api,
    method: &Method,
    path: &[String],
    query: &Query,
    body: Option<Value>,
) -> Answer {
    let first = path.first().map(String::as_str);
    match (method, first) {
        (&Method::POST, Some("validate")) => validate(&path[1..], body),
        (&Method::GET, Some("plugins")) if path.len() > 1 => {
            plugins::one(&api.plane.rules.plugins, path.get(1).map(String::as_str), query)
        }
        (&Method::GET, name) => named(name.unwrap_or_default()),
        _ => Err(Reply::error(StatusCode::NOT_FOUND, "not found")),
    }
}

fn named(name: &str) -> Answer {
    let schema =
        schema::named(name).ok_or_else(|| Reply::bad(format!("not found schema: {name}")))?;
    Ok(Reply::json(StatusCode::OK, schema))
}

/// Checks a body against the schema of a resource, and nothing else: no plugins, no references.
fn validate(path: &[String], body: Option<Value>) -> Answer {
    let name = path.first().map(String::as_str).unwrap_or_default();
    let validator = match (target::kind(name), path.get(1)) {
        (Some(Kind::Secret), Some(manager)) => schema::validator_of_secret(manager)
            .ok_or_else(|| Reply::bad(format!("invalid secret manager: {manager}")))?,
        (Some(kind), _) => schema::validator(kind),
        (None, _) => {
            let message = format!("Unsupported resource type: {name}");
            return Err(Reply::error(StatusCode::NOT_FOUND, message));
        }
    };
    let body = body.ok_or_else(|| Reply::bad("missing configurations"))?;
    match schema::validate(validator, &body) {
        Ok(()) => Ok(Reply::empty(StatusCode::OK)),
        Err(reason) => Err(Reply::bad(reason)),
    }
}
