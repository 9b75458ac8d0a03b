//! `JSONPath` in variables such as `post_arg.messages[*].role` (APISIX, lua-jsonpath).

use serde_json::Value;

const PREFIX: &str = "post_arg.";

/// Checks the paths of all conditions in `vars` on fields of a JSON body.
pub(super) fn check_post_args(value: &Value) -> Result<(), String> {
    let Value::Array(items) = value else { return Ok(()) };
    if let [Value::String(name), _, _, ..] = items.as_slice()
        && let Some(path) = name.strip_prefix(PREFIX)
    {
        return check(path);
    }
    items.iter().try_for_each(check_post_args)
}

/// Checks what follows `$.`: names, `*`, `..` and what is in brackets.
fn check(path: &str) -> Result<(), String> {
    let wrong = |rest: &str| format!("invalid expression near '{rest}'");
    let mut rest = member(path).ok_or_else(|| wrong(path))?;
    while !rest.is_empty() {
        let after = match rest.strip_prefix("..").or_else(|| rest.strip_prefix('.')) {
            // After two dots brackets may follow at once.
            Some(after) if rest.starts_with("..[") => Some(after),
            Some(after) => member(after),
            None => rest.strip_prefix('[').and_then(subscript),
        };
        rest = after.ok_or_else(|| wrong(rest))?;
    }
    Ok(())
}

/// What follows the name or `*` at the start of `text`.
fn member(text: &str) -> Option<&str> {
    let name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    match text.find(|c: char| !name(c)).unwrap_or(text.len()) {
        0 => text.strip_prefix('*'),
        end => Some(&text[end..]),
    }
}

/// What follows the bracket that closes the subscript at the start of `text`; `None` when it is
/// empty, not closed, or neither `*`, nor names in quotes, nor positions, nor an expression.
fn subscript(text: &str) -> Option<&str> {
    let mut quote = None;
    let mut depth = 0usize;
    let mut close = None;
    for (at, c) in text.char_indices() {
        if let Some(open) = quote {
            quote = Some(open).filter(|open| *open != c);
            continue;
        }
        match c {
            '\'' | '"' => quote = Some(c),
            '(' | '[' => depth += 1,
            ']' if depth == 0 => {
                close = Some(at);
                break;
            }
            ')' | ']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    let close = close?;
    let inner = text[..close].trim();
    let quoted = |part: &str| {
        ['\'', '"'].iter().any(|q| part.len() > 1 && part.starts_with(*q) && part.ends_with(*q))
    };
    let position = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || b"-: ".contains(&b))
    };
    let expression =
        |part: &str| part.strip_prefix('?').unwrap_or(part).starts_with('(') && part.ends_with(')');
    let valid = inner == "*"
        || expression(inner)
        || inner.split(',').map(str::trim).all(|part| quoted(part) || position(part));
    valid.then(|| &text[close + 1..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_paths() {
        for path in [
            "model",
            "messages[*].content[*].type",
            "messages[0].role",
            "messages[-1:]['a','b.]c']",
            "messages[?(@.role == 'user')].x",
            "a..b",
            "a..[0]",
            "*",
            "snake_case.kebab-case",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for path in ["", "messages[.content[*].type", "a.", "a[", "a[]", "a b", "a[x]", "a[)]"] {
            let error = check(path).unwrap_err();
            assert!(error.starts_with("invalid expression near"), "{path}: {error}");
        }
    }

    #[test]
    fn finds_the_paths_in_conditions() {
        let vars = json!([[["post_arg.messages[.content[*].type", "has", "image_url"]]]);
        assert!(check_post_args(&vars).is_err());
        assert_eq!(check_post_args(&json!([["post_arg.a", "==", "b"], ["x", "[", 1]])), Ok(()));
        assert_eq!(check_post_args(&json!("post_arg.[")), Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(path in "[a.\\[\\]*'\"(),:é0-9?]{0,20}") {
            let _ = check(&path);
        }
    }
}
