//! Expressions over variables: `vars` of routes, `_meta.filter` of plugins (lua-resty-expr).
//!
//! A list of conditions, all of which must hold; a condition is `[name, operator, value]`,
//! `[name, "!", operator, value]` or `[name, value]`; a list that begins with `AND`, `OR`, `!AND`
//! or `!OR` joins those behind it.

use serde_json::Value;

use crate::resource;

const LOGIC: [&str; 4] = ["AND", "OR", "!AND", "!OR"];

const OPERATORS: [&str; 11] =
    ["==", "~=", ">", ">=", "<", "<=", "~~", "~*", "in", "has", "ipmatch"];

/// Checks an expression. The error is what lua-resty-expr says where it has words for it.
pub(super) fn check(expression: &Value) -> Result<(), String> {
    let Some(rules) = list(expression) else {
        return Err("rule should be wrapped inside brackets".to_owned());
    };
    match rules.first() {
        None => Ok(()),
        Some(first) if list(first).is_some() || logic(first) => compile(expression),
        Some(_) => Err("rule should be wrapped inside brackets".to_owned()),
    }
}

/// A Lua table as a list: an object without fields is an empty one.
fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        // Its fields are not numbered, so Lua sees a list without items.
        Value::Object(_) => Some(&[]),
        _ => None,
    }
}

fn logic(value: &Value) -> bool {
    value.as_str().is_some_and(|text| LOGIC.iter().any(|name| name.eq_ignore_ascii_case(text)))
}

/// A condition, a list of them, or some joined by a logical operator.
fn compile(value: &Value) -> Result<(), String> {
    let Some(rules) = list(value) else { return Err("invalid expression".to_owned()) };
    let Some(first) = rules.first() else { return Err("rule too short".to_owned()) };
    if list(first).is_some() {
        return rules.iter().try_for_each(compile);
    }
    if logic(first) {
        if rules.len() <= 2 {
            return Err("rule too short".to_owned());
        }
        return rules[1..].iter().try_for_each(compile);
    }
    condition(rules)
}

fn condition(parts: &[Value]) -> Result<(), String> {
    let (operator, operand) = match parts {
        [_, not, operator, operand] => {
            if not != "!" {
                return Err("bad 'not' expression".to_owned());
            }
            (operator, Some(operand))
        }
        [_, operator, rest @ ..] => (operator, rest.first()),
        _ => return Err("invalid expression".to_owned()),
    };
    let name = match operator {
        Value::String(text) => text.to_lowercase(),
        other => other.to_string(),
    };
    if OPERATORS.contains(&name.as_str()) {
        return if name == "ipmatch" { addresses(operand) } else { Ok(()) };
    }
    // Without a third part the second one is a value to be equal to.
    if operand.is_none() { Ok(()) } else { Err(format!("invalid operator '{name}'")) }
}

/// The operand of `ipmatch`: an address or network, or a list of them.
fn addresses(operand: Option<&Value>) -> Result<(), String> {
    let items = match operand {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let odd = |item: &&Value| !item.as_str().is_some_and(resource::is_address);
    match items.iter().find(odd) {
        Some(item) => Err(format!("invalid ip address: {item}")),
        None if items.is_empty() => Err("invalid expression".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_what_apisix_takes() {
        for expression in [
            json!([]),
            json!({}),
            json!([["arg_name", "==", "json"]]),
            json!([["arg_name", "==", "json"], ["arg_age", ">", 18]]),
            json!([["http_user_agent", "!", "~*", "android"]]),
            json!([["http_user_agent", "IN", ["android", "ios"]]]),
            json!([["http_user_agent", "==", null]]),
            json!([["http_user_agent", "ios"]]),
            json!([["a", "has"]]),
            json!(["AND", ["a", "==", "1"], ["OR", ["b", "==", "1"], ["c", "in", [1, 2]]]]),
            json!(["!or", ["a", "==", "1"], ["b", "==", "1"]]),
            json!([[["post_arg.model.name", "==", "deepseek"]]]),
            json!([["remote_addr", "ipmatch", ["127.0.0.1", "10.0.0.0/8", "::1"]]]),
            json!([["remote_addr", "!", "ipmatch", "127.0.0.1"]]),
        ] {
            assert_eq!(check(&expression), Ok(()), "{expression}");
        }
    }

    #[test]
    fn refuses_what_apisix_refuses() {
        for (expression, expected) in [
            (json!(["arg_k", "==", "v"]), "rule should be wrapped inside brackets"),
            (json!("arg_k == v"), "rule should be wrapped inside brackets"),
            (json!([1]), "rule should be wrapped inside brackets"),
            (json!([["remote_addr", "=", "127.0.0.1"]]), "invalid operator '='"),
            (json!([["arg_k", "*=", "v"]]), "invalid operator '*='"),
            (json!([["arg_k", "123", "v"]]), "invalid operator '123'"),
            (json!([["a", "no", "==", "v"]]), "bad 'not' expression"),
            (json!([["a"]]), "invalid expression"),
            (json!([[]]), "rule too short"),
            (json!([{}]), "rule too short"),
            (json!(["AND", ["a", "==", "1"]]), "rule too short"),
            (json!(["OR"]), "rule too short"),
            (json!([["a", "==", "1"], "b"]), "invalid expression"),
            (json!([["a", "ipmatch", ["x"]]]), "invalid ip address: \"x\""),
            (json!([["a", "ipmatch"]]), "invalid expression"),
        ] {
            assert_eq!(check(&expression), Err(expected.to_owned()), "{expression}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_taken_or_refused(items in proptest::collection::vec(
            proptest::sample::select(vec![
                json!("AND"), json!("!OR"), json!("a"), json!("=="), json!("!"), json!(null),
                json!([]), json!(["a", "==", 1]), json!(["a", "!", "in", [1]]), json!({"a": 1}),
            ]), 0..6)
        ) {
            let _ = check(&Value::Array(items));
        }
    }
}
