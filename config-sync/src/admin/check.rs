//! What a body must fulfil before it is stored: its id, its times, the kind's own rules.

use axum::http::StatusCode;
use osmia_core::resource::{Id, Kind};
use serde_json::{Map, Value};

use super::refs::id_text;
use super::reply::Reply;
use super::target::{Target, noun};

/// Longest user name (`username` of `apisix/schema_def.lua`), in characters.
const NAME_MAX: usize = 256;

/// The body as an object.
pub(crate) fn object(body: Option<Value>) -> Result<Map<String, Value>, Reply> {
    match body {
        None => Err(Reply::bad("missing configurations")),
        Some(Value::Object(map)) => Ok(map),
        Some(other) => {
            let found = lua_type(&other);
            let message =
                format!("invalid configuration: wrong type: expected object, got {found}");
            Err(Reply::bad(message))
        }
    }
}

/// The name of a JSON type in APISIX's messages.
pub(crate) fn lua_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "table",
    }
}

/// Decides on the id of what is written: the path's, or else the body's, and both must agree. The
/// value then has it as `id` where the kind has that field.
pub(crate) fn settle_id(target: &Target, value: &mut Map<String, Value>) -> Result<String, Reply> {
    let noun = noun(target.kind);
    match target.kind {
        Kind::Consumer => consumer_name(target, value),
        Kind::PluginMetadata => {
            let name = target.id.clone().ok_or_else(|| Reply::bad("missing plugin name"))?;
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
                return Err(Reply::bad("invalid plugin name"));
            }
            value.insert("id".to_owned(), name.clone().into());
            Ok(name)
        }
        Kind::Secret => {
            let Some(manager) = &target.owner else {
                return Err(Reply::bad("missing secret type"));
            };
            let Some(own) = &target.id else { return Err(Reply::bad("missing secret id")) };
            valid_id(&own.as_str().into())?;
            valid_id(&manager.as_str().into())?;
            let id = format!("{manager}/{own}");
            if value.get("id").is_some_and(|given| id_text(given).as_deref() != Some(&id)) {
                return Err(Reply::bad("wrong secret id"));
            }
            value.insert("id".to_owned(), id.into());
            Ok(own.clone())
        }
        _ => {
            let given = value.get("id");
            let id = match (&target.id, given) {
                (None, None) => return Err(Reply::bad(format!("missing {noun} id"))),
                (Some(id), Some(given)) if id_text(given).as_deref() != Some(id) => {
                    return Err(Reply::bad(format!("wrong {noun} id")));
                }
                (Some(id), _) => Value::from(id.as_str()),
                (None, Some(given)) => given.clone(),
            };
            let text = valid_id(&id)?;
            value.insert("id".to_owned(), id);
            Ok(text)
        }
    }
}

fn consumer_name(target: &Target, value: &Map<String, Value>) -> Result<String, Reply> {
    let invalid = |reason: &str| Reply::bad(format!("invalid configuration: {reason}"));
    let name = match value.get("username") {
        None => return Err(invalid("property \"username\" is required")),
        Some(Value::String(name)) => name,
        Some(other) => {
            let reason = format!("wrong type: expected string, got {}", lua_type(other));
            return Err(invalid(&format!("property \"username\" validation failed: {reason}")));
        }
    };
    if target.id.as_ref().is_some_and(|id| id != name) {
        return Err(Reply::bad("wrong username"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let reason = match name.chars().count() {
        0 => "string too short, expected at least 1, got 0".to_owned(),
        found if found > NAME_MAX => {
            format!("string too long, expected at most {NAME_MAX}, got {found}")
        }
        _ if name.chars().all(plain) => return Ok(name.clone()),
        _ => format!("failed to match pattern \"^[a-zA-Z0-9_\\-]+$\" with \"{name}\""),
    };
    Err(invalid(&format!("property \"username\" validation failed: {reason}")))
}

/// An id of 1 to 64 characters of `[A-Za-z0-9-_.]`, or a positive integer, as text.
fn valid_id(id: &Value) -> Result<String, Reply> {
    let refused = |reason: &str| {
        Reply::bad(format!("invalid configuration: property \"id\" validation failed: {reason}"))
    };
    let valid = Id::from_json(id).map_err(|reason| refused(&reason.to_string()))?.to_string();
    // Neither what paths have a meaning for, nor numbers that are not written as they are meant.
    if matches!(valid.as_str(), "." | "..") || id_text(id).as_ref() != Some(&valid) {
        return Err(refused("it cannot be part of a path"));
    }
    Ok(valid)
}

/// POST takes no id: the store gives one.
pub(crate) fn no_id(target: &Target, value: &Map<String, Value>) -> Result<(), Reply> {
    if target.id.is_some() || value.contains_key("id") {
        let message = format!("wrong {} id, do not need it", noun(target.kind));
        return Err(Reply::bad(message));
    }
    Ok(())
}

/// Refuses times in a body: the server sets them.
pub(crate) fn no_times(value: &Map<String, Value>) -> Result<(), Reply> {
    let parts = [
        ("", Some(value)),
        ("upstream.", value.get("upstream").and_then(Value::as_object)),
        ("plugins.", value.get("plugins").and_then(Value::as_object)),
    ];
    for (place, part) in parts {
        for name in ["create_time", "update_time"] {
            if part.is_some_and(|part| part.contains_key(name)) {
                let message = format!("the property is forbidden:  {place}{name}");
                return Err(Reply::bad(message));
            }
        }
    }
    Ok(())
}

/// 405 for a verb that the kind does not have.
pub(crate) fn unsupported(method: &str, kind: Kind) -> Reply {
    let message = format!("not supported `{method}` method for {}", noun(kind));
    Reply::error(StatusCode::METHOD_NOT_ALLOWED, message)
}
