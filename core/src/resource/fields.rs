//! Checks on JSON values, one function per schema rule, with APISIX's error texts.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Violation;

pub(super) type Object = Map<String, Value>;
type Checked<T> = Result<T, Violation>;

/// The JSON type's name as APISIX's validator (in Lua) reports it.
fn lua_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "userdata",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "table",
    }
}

fn wrong_type<T>(expected: &'static str, value: &Value) -> Checked<T> {
    Err(Violation::WrongType { expected, found: lua_type(value) })
}

pub(super) fn object(value: &Value) -> Checked<&Object> {
    match value {
        Value::Object(map) => Ok(map),
        _ => wrong_type("object", value),
    }
}

pub(super) fn array(value: &Value) -> Checked<&Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        _ => wrong_type("array", value),
    }
}

pub(super) fn boolean(value: &Value) -> Checked<bool> {
    value.as_bool().map_or_else(|| wrong_type("boolean", value), Ok)
}

pub(super) fn number(value: &Value) -> Checked<f64> {
    value.as_f64().map_or_else(|| wrong_type("number", value), Ok)
}

/// An integer between `min` and `max`; `1.0` counts as one, as in JSON Schema.
pub(super) fn integer(value: &Value, min: i64, max: i64) -> Checked<i64> {
    let Value::Number(number) = value else { return wrong_type("integer", value) };
    let found = match (number.as_i64(), number.as_f64()) {
        (Some(found), _) => found,
        // The cast saturates, and the range check below reports the value as it was written.
        (None, Some(found)) if found.fract() == 0.0 => found as i64,
        _ => return wrong_type("integer", value),
    };
    if found < min {
        return Err(Violation::AtLeast { found: number.to_string(), min });
    }
    if found > max {
        return Err(Violation::AtMost { found: number.to_string(), max });
    }
    Ok(found)
}

pub(super) fn string(value: &Value) -> Checked<&str> {
    value.as_str().map_or_else(|| wrong_type("string", value), Ok)
}

/// A string of `min` to `max` characters.
pub(super) fn bounded(value: &Value, min: usize, max: usize) -> Checked<&str> {
    let text = string(value)?;
    let found = text.chars().count();
    if found < min {
        return Err(Violation::TooShort { min, found });
    }
    if found > max {
        return Err(Violation::TooLong { max, found });
    }
    Ok(text)
}

/// One of the strings in `allowed`.
pub(super) fn one_of(value: &Value, allowed: &'static [&'static str]) -> Checked<&'static str> {
    let found = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match allowed.iter().find(|name| value.as_str() == Some(**name)) {
        Some(name) => Ok(name),
        None => Err(Violation::NotInEnum { allowed, found }),
    }
}

/// APISIX's `host_def`: a name, an address, `*`, or `*` before a suffix.
pub(super) fn host(value: &Value) -> Checked<&str> {
    const PATTERN: &str = r"^\*$|^\*?[0-9a-zA-Z-._\[\]:]+$";
    let text = string(value)?;
    let body = text.strip_prefix('*').unwrap_or(text);
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
    if text == "*" || (!body.is_empty() && body.bytes().all(valid)) {
        return Ok(text);
    }
    Err(Violation::Pattern { pattern: PATTERN, found: text.to_owned() })
}

/// Checks each item of an array with `check`.
pub(super) fn items<'v, T>(
    values: &'v [Value],
    mut check: impl FnMut(&'v Value) -> Checked<T>,
) -> Checked<Vec<T>> {
    let checked = |(index, value)| check(value).map_err(|cause: Violation| cause.at_item(index));
    values.iter().enumerate().map(checked).collect()
}

/// An array of at least `min` distinct strings, each passing `check`.
pub(super) fn unique_strings<'v>(
    value: &'v Value,
    min: usize,
    check: impl FnMut(&'v Value) -> Checked<&'v str>,
) -> Checked<Vec<String>> {
    let values = array(value)?;
    if values.len() < min {
        return Err(Violation::TooFewItems(min));
    }
    let texts = items(values, check)?;
    let mut seen = HashSet::with_capacity(texts.len());
    if let Some(second) = texts.iter().position(|text| !seen.insert(*text)) {
        let first = texts.iter().position(|text| *text == texts[second]).unwrap_or(0);
        return Err(Violation::Duplicate(first + 1, second + 1));
    }
    Ok(texts.into_iter().map(str::to_owned).collect())
}

/// The field `name` of `map`, checked; `None` when it is not there.
pub(super) fn optional<'v, T>(
    map: &'v Object,
    name: &str,
    check: impl FnOnce(&'v Value) -> Checked<T>,
) -> Checked<Option<T>> {
    map.get(name).map(check).transpose().map_err(|cause| cause.at(name))
}

/// The field `name` of `map`, checked; missing is an error.
pub(super) fn required<'v, T>(
    map: &'v Object,
    name: &'static str,
    check: impl FnOnce(&'v Value) -> Checked<T>,
) -> Checked<T> {
    optional(map, name, check)?.ok_or(Violation::Missing(name))
}

/// Refuses fields that are in neither list, and those of `unsupported` unless they are empty
/// objects or arrays, which change nothing.
pub(super) fn known(map: &Object, supported: &[&str], unsupported: &[&str]) -> Checked<()> {
    for (name, value) in map {
        if supported.contains(&name.as_str()) {
            continue;
        }
        if !unsupported.contains(&name.as_str()) {
            return Err(Violation::Additional(name.clone()));
        }
        let neutral = match value {
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if !neutral {
            return Err(Violation::Unsupported(format!("\"{name}\"")).at(name));
        }
    }
    Ok(())
}
