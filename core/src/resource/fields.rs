//! Checks on JSON values, one function per schema rule, with APISIX's error texts.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Status, Violation};
use crate::net_set::parse_net;

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

/// An object. An empty array counts as one, since Lua writes both the same way.
pub(super) fn object(value: &Value) -> Checked<&Object> {
    static EMPTY: LazyLock<Object> = LazyLock::new(Object::new);
    match value {
        Value::Object(map) => Ok(map),
        Value::Array(items) if items.is_empty() => Ok(&EMPTY),
        _ => wrong_type("object", value),
    }
}

/// An array. An empty object counts as one.
pub(super) fn array(value: &Value) -> Checked<&[Value]> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Object(map) if map.is_empty() => Ok(&[]),
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
pub(super) fn unique_strings<'v, 't>(
    value: &'v Value,
    min: usize,
    check: impl FnMut(&'v Value) -> Checked<&'t str>,
) -> Checked<Vec<&'t str>> {
    let values = array(value)?;
    if values.len() < min {
        return Err(Violation::TooFewItems(min));
    }
    let texts = items(values, check)?;
    match duplicate(&texts) {
        Some((first, second)) => Err(Violation::Duplicate(first + 1, second + 1)),
        None => Ok(texts),
    }
}

/// The first item that was there before, with the earlier one's position before its own.
fn duplicate<T: Eq + Hash>(items: &[T]) -> Option<(usize, usize)> {
    // A hash table costs more than it saves on the one or two items of almost every list.
    let second = if items.len() < 8 {
        (1..items.len()).find(|at| items[..*at].contains(&items[*at]))?
    } else {
        let mut seen = HashSet::with_capacity(items.len());
        items.iter().position(|item| !seen.insert(item))?
    };
    let first = items.iter().position(|item| *item == items[second])?;
    Some((first, second))
}

/// An array of at least `min` distinct integers between `low` and `high`.
pub(super) fn unique_integers(
    value: &Value,
    min: usize,
    (low, high): (i64, i64),
) -> Checked<Vec<i64>> {
    let values = array(value)?;
    if values.len() < min {
        return Err(Violation::TooFewItems(min));
    }
    let numbers = items(values, |item| integer(item, low, high))?;
    match duplicate(&numbers) {
        Some((first, second)) => Err(Violation::Duplicate(first + 1, second + 1)),
        None => Ok(numbers),
    }
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

/// Hands each field to `take`, which says whether the resource has such a field. Others are refused
/// (`additionalProperties: false`).
pub(super) fn each<'v>(
    map: &'v Object,
    mut take: impl FnMut(&'v str, &'v Value) -> Checked<bool>,
) -> Checked<()> {
    for (name, value) in map {
        match take(name, value) {
            Ok(true) => {}
            Ok(false) => return Err(Violation::Additional(name.clone())),
            Err(cause) => return Err(cause.at(name)),
        }
    }
    Ok(())
}

/// Any string.
pub(super) fn text(value: &Value) -> Checked<String> {
    string(value).map(str::to_owned)
}

/// `plugins`: an object; what is in it is the plugins' business.
pub(super) fn plugins(value: &Value) -> Checked<Object> {
    object(value).cloned()
}

/// `script`: 10 to 102,400 characters of Lua.
pub(super) fn script(value: &Value) -> Checked<String> {
    bounded(value, 10, 102_400).map(str::to_owned)
}

/// `hosts`, lower-cased: distinct names, at least one.
pub(super) fn hosts(value: &Value) -> Checked<Vec<String>> {
    let hosts = unique_strings(value, 1, host)?;
    Ok(hosts.into_iter().map(str::to_ascii_lowercase).collect())
}

/// APISIX's `ip_def`: an IPv4 or IPv6 address, with or without the length of a network's prefix.
pub(super) fn address(value: &Value) -> Checked<&str> {
    let text = string(value)?;
    if is_address(text) {
        return Ok(text);
    }
    let cause = Violation::Rule(format!("\"{text}\" is neither an IP address nor a network"));
    Err(Violation::NoAlternative { required: &[], cause: Some(Box::new(cause)) })
}

/// Whether a text is an IPv4 or IPv6 address, or a network as an address with the length of its
/// prefix.
pub fn is_address(text: &str) -> bool {
    parse_net(text).is_some()
}

/// `status`: 1 or 0.
pub(super) fn status(value: &Value) -> Checked<Status> {
    match value.as_f64() {
        Some(1.0) => Ok(Status::Enabled),
        Some(0.0) => Ok(Status::Disabled),
        Some(_) => Err(Violation::NotInEnum { allowed: &["0", "1"], found: value.to_string() }),
        None => integer(value, 0, 1).map(|_| Status::Enabled),
    }
}

/// What this version cannot honour of a kind: the field's name, and what is wrong when the resource
/// uses it. A later version deletes the line.
pub(super) type Unsupported<T> = (&'static str, fn(&T) -> Option<Violation>);

/// The first entry of `table` that `resource` uses.
pub(super) fn first_unsupported<T>(table: &[Unsupported<T>], resource: &T) -> Option<Violation> {
    table.iter().find_map(|(name, check)| check(resource).map(|cause| cause.at(name)))
}

/// The violation of a field that is `used` but not supported at all.
pub(super) fn unless(used: bool, name: &str) -> Option<Violation> {
    used.then(|| Violation::Unsupported(format!("\"{name}\"")))
}

/// Gives typed resources their `TryFrom<Value>`, through which serde reads them.
macro_rules! from_value {
    ($($kind:ty),+) => {
        $(impl TryFrom<serde_json::Value> for $kind {
            type Error = $crate::resource::Violation;

            fn try_from(value: serde_json::Value) -> Result<Self, $crate::resource::Violation> {
                Self::from_json(&value)
            }
        })+
    };
}
pub(super) use from_value;
