//! The texts of the validator that APISIX uses (`jsonschema` for Lua), and how Lua prints values.
//!
//! Tools match on these texts, so they are a wire format: keep them to the letter.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// What a schema of `false` says to every value.
pub(super) const ALWAYS_FALSE: &str = "expect false always";
/// `enum`
pub(super) const NOT_IN_ENUM: &str = "matches none of the enum values";
/// `anyOf`, followed by the alternatives' required fields where they have some.
pub(super) const NO_ALTERNATIVE: &str = "object matches none of the required";
/// `oneOf` without a match.
pub(super) const ONE_OF_NONE: &str = "value should match only one schema, but matches none";
/// `then`
pub(super) const THEN: &str = "then clause did not match";
/// `else`
pub(super) const ELSE: &str = "else clause did not match";
/// `not`
pub(super) const NOT: &str = "value wasn't supposed to match schema";
/// `const`
pub(super) const CONSTANT: &str = "failed to check const value";
/// `additionalItems: false`
pub(super) const EXTRA_ITEMS: &str = "found unexpected extra items in array";
/// `contains` in an empty array.
pub(super) const CONTAINS_EMPTY: &str = "check contains: empty array is invalid";
/// `contains` without a match.
pub(super) const CONTAINS: &str = "failed to check contains";

/// The JSON type by its name in Lua; `null` is a userdata there.
pub(super) fn lua_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "userdata",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "table",
    }
}

pub(super) fn property(name: &str, cause: &str) -> String {
    format!("property \"{name}\" validation failed: {cause}")
}

pub(super) fn missing(name: &str) -> String {
    format!("property \"{name}\" is required")
}

pub(super) fn item(index: usize, cause: &str) -> String {
    format!("failed to validate item {}: {cause}", index + 1)
}

pub(super) fn failed_pattern(pattern: &str, found: &str) -> String {
    format!("failed to match pattern {} with {}", quoted(pattern), quoted(found))
}

/// Lua's `%q`: in quotes, with quotes, backslashes and line ends escaped.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\000"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A number as Lua prints it: 14 significant digits (`%.14g`), no fraction where there is none.
pub(super) fn number(number: &Number) -> String {
    const DIGITS: i32 = 14;
    let float = number.as_f64().unwrap_or(f64::NAN);
    if !float.is_finite() {
        return number.to_string();
    }
    if float == 0.0 {
        return if float.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{:.*e}", (DIGITS - 1) as usize, float);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        return trimmed(&format!("{float:.decimals$}")).to_owned();
    }
    let mut out = trimmed(mantissa).to_owned();
    let sign = if exponent < 0 { '-' } else { '+' };
    // Writing to a string cannot fail.
    let _ = write!(out, "e{sign}{:02}", exponent.unsigned_abs());
    out
}

/// Without the zeros that end a fraction.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_lua() {
        for (json, lua) in [
            ("0", "0"),
            ("-1", "-1"),
            ("65536", "65536"),
            ("1.0", "1"),
            ("0.5", "0.5"),
            ("-0.25", "-0.25"),
            ("1.1", "1.1"),
            ("0.1e-5", "1e-06"),
            ("1e14", "1e+14"),
            ("12345678901234", "12345678901234"),
            ("123456789012345678", "1.2345678901235e+17"),
            ("1e100", "1e+100"),
            ("3.14159265358979", "3.1415926535898"),
        ] {
            let value: Number = serde_json::from_str(json).unwrap();
            assert_eq!(number(&value), lua, "{json}");
        }
    }

    #[test]
    fn strings_are_quoted_as_in_lua() {
        assert_eq!(quoted("a\"b\\c\nd\re\0"), "\"a\\\"b\\\\c\\\nd\\re\\000\"");
    }
}
