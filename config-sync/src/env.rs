//! `${{VAR}}` and `${{VAR:=default}}` (APISIX, deployment configuration; `apisix/cli/file.lua`).

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// Reads an environment variable.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment; a value that is not UTF-8 counts as not set.
pub(crate) fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A variable that is not set and has no default.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "environment variable {name} is not set: set it, or give a default as ${{{{{name}:=default}}}}"
)]
pub struct MissingVariable {
    /// Its name.
    pub name: String,
}

/// Replaces every reference in `text`. What is not a well-formed reference stays as it is.
pub(crate) fn substitute<'t>(
    text: &'t str,
    env: Lookup<'_>,
) -> Result<Cow<'t, str>, MissingVariable> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, body, after)) = next_reference(rest) {
        let (name, default) = match body.split_once(":=") {
            Some((name, default)) => (name.trim_end(), Some(default.trim())),
            None => (body, None),
        };
        let value = env(name).or_else(|| default.map(str::to_owned));
        let value = value.ok_or_else(|| MissingVariable { name: name.to_owned() })?;
        result.push_str(before);
        result.push_str(&value);
        rest = after;
    }
    if rest.len() == text.len() {
        return Ok(Cow::Borrowed(text));
    }
    result.push_str(rest);
    Ok(Cow::Owned(result))
}

/// Splits `text` at its first reference: before, the trimmed body, after.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("${{")?;
        let inner = &text[start + 3..];
        let end = inner.find("}}")?;
        let body = inner[..end].trim();
        if body.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            return Some((&text[..start], body, &inner[end + 2..]));
        }
        from = start + 3;
    }
}

/// Replaces references in all keys and values below `value`. A value that had one becomes a number
/// or a boolean when it reads as one. The error comes with the key's path.
pub(crate) fn resolve(
    value: &mut Value,
    path: &str,
    env: Lookup<'_>,
) -> Result<(), (String, MissingVariable)> {
    match value {
        Value::String(text) => {
            let replaced = substitute(text, env).map_err(|missing| (path.to_owned(), missing))?;
            if let Cow::Owned(text) = replaced {
                *value = typed(text);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                resolve(item, &format!("{path}[{index}]"), env)?;
            }
        }
        Value::Object(map) => resolve_map(map, path, env)?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

fn resolve_map(
    map: &mut Map<String, Value>,
    path: &str,
    env: Lookup<'_>,
) -> Result<(), (String, MissingVariable)> {
    for (key, mut value) in std::mem::take(map) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        resolve(&mut value, &path, env)?;
        let key = substitute(&key, env).map_err(|missing| (path, missing))?.into_owned();
        map.insert(key, value);
    }
    Ok(())
}

/// The number or boolean that `text` reads as, or the text.
fn typed(text: String) -> Value {
    let trimmed = text.trim();
    if let Ok(number) = trimmed.parse::<i64>() {
        return number.into();
    }
    match trimmed.parse::<f64>().ok().and_then(Number::from_f64) {
        Some(number) => Value::Number(number),
        None if text == "true" => true.into(),
        None if text == "false" => false.into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "PORT" => "9080",
            "HOST" => "h",
            "ON" => "true",
            "EMPTY" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn replaces_references_in_text() {
        let cases = [
            ("a", "a"),
            ("${{PORT}}", "9080"),
            ("x-${{ HOST }}:${{PORT}}-y", "x-h:9080-y"),
            ("${{NO:=d e }}", "d e"),
            ("${{ NO := d }}", "d"),
            ("${{NO:=}}", ""),
            ("${{EMPTY:=d}}", ""),
            ("${{HOST:=d}}", "h"),
            ("${HOST} $HOST ${{ ${{-x}} ${{", "${HOST} $HOST ${{ ${{-x}} ${{"),
            ("${{HOST}}}", "h}"),
        ];
        for (text, expected) in cases {
            assert_eq!(substitute(text, &env).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn names_the_missing_variable() {
        let missing = substitute("a ${{NO}}", &env).unwrap_err();
        let text =
            "environment variable NO is not set: set it, or give a default as ${{NO:=default}}";
        assert_eq!(missing.to_string(), text);
    }

    #[test]
    fn resolves_keys_and_values_and_types_them() {
        let mut value = json!({
            "port": "${{PORT}}", "list": ["${{ON}}", "${{HOST}}"], "n": {"${{HOST}}": "9080"},
            "ratio": "${{NO:=1.5}}", "inf": "${{NO:=inf}}",
        });
        resolve(&mut value, "", &env).unwrap();
        let expected = json!({
            "port": 9080, "list": [true, "h"], "n": {"h": "9080"}, "ratio": 1.5, "inf": "inf",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn reports_the_path_of_a_missing_variable() {
        let mut value = json!({"a": {"b": ["x", "${{NO}}"]}});
        assert_eq!(resolve(&mut value, "", &env).unwrap_err().0, "a.b[1]");
    }
}
