//! Expressions over variables: `vars` of routes, `_meta.filter` of plugins.

use serde_json::Value;

use crate::expr::Expr;

/// Checks an expression. The error is what lua-resty-expr says where it has words for it.
pub(super) fn check(expression: &Value) -> Result<(), String> {
    Expr::from_json(expression).map(drop).map_err(|error| error.to_string())
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
