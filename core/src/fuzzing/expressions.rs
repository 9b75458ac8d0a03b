//! Invariants of expressions and of the body's variables.

use std::borrow::Cow;

use serde_json::{Value as Json, json};

use super::Outcome;
use super::model::show;
use crate::body_vars::{BodyLimits, BodyRequest, BodyValue, BodyVars, Value};
use crate::expr::{Expr, Verdict};
use crate::vars::{Variable, VariableSource};

/// Answers every variable with the same bytes; none of the body if it has not been read.
struct Same<'a> {
    bytes: &'a [u8],
    is_read: bool,
}

impl VariableSource for Same<'_> {
    fn append(&self, _: &Variable, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.bytes);
        true
    }

    fn body_value(&self, _: &Variable) -> BodyValue<'_> {
        if self.is_read {
            BodyValue::Present(Value::Bytes(Cow::Borrowed(self.bytes)))
        } else {
            BodyValue::Unread
        }
    }
}

/// An expression in JSON, a line end, and the value of all variables: its negation is its
/// complement, the body decides what waits for it, and it reads what it writes.
pub fn expression(data: &[u8]) -> Outcome {
    let (text, bytes) = split_line(data);
    let Ok(json) = serde_json::from_slice::<Json>(text) else { return Outcome::Refused };
    let Ok(expr) = Expr::from_json(&json) else { return Outcome::Refused };
    let read = Same { bytes, is_read: true };
    let verdict = check(&expr, &read);
    assert_ne!(verdict, Verdict::NeedsBody, "{}", show(data));
    let early = check(&expr, &Same { bytes, is_read: false });
    assert!(early == Verdict::NeedsBody || early == verdict, "{}", show(data));
    if json.as_array().is_some_and(|rules| !rules.is_empty()) {
        let negated = Expr::from_json(&json!(["!AND", json, json]));
        // One level more may be one too many.
        let negated = negated.ok().map(|negated| negated.eval(&read, &mut Vec::new()));
        let holds = verdict == Verdict::True;
        assert!(negated.is_none_or(|it| (it == Verdict::False) == holds), "{}", show(data));
    }
    let written = serde_json::from_str::<Json>(&expr.to_string()).ok();
    let again = written.as_ref().and_then(|json| Expr::from_json(json).ok());
    let again = again.map(|expr| expr.eval(&read, &mut Vec::new()));
    assert_eq!(again, Some(verdict), "{}", show(data));
    Outcome::Accepted
}

fn check(expr: &Expr, source: &Same<'_>) -> Verdict {
    let mut scratch = b"kept".to_vec();
    let verdict = expr.eval(source, &mut scratch);
    let explained = expr.explain(source, &mut scratch);
    assert_eq!(explained.is_none(), verdict == Verdict::True);
    assert_eq!(scratch, b"kept");
    verdict
}

const CONTENT_TYPES: [&str; 4] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "application/graphql",
];

/// A content type, a path up to a line end, and a body: values are the same when asked again, and
/// a limit takes them away.
pub fn body_vars(data: &[u8]) -> Outcome {
    let Some((kind, rest)) = data.split_first() else { return Outcome::Refused };
    let (path, body) = split_line(rest);
    let request = BodyRequest {
        method: b"POST",
        query: None,
        content_type: Some(CONTENT_TYPES[usize::from(*kind) % CONTENT_TYPES.len()].as_bytes()),
        content_length: None,
    };
    let path = format!("post_arg.{}", String::from_utf8_lossy(path));
    let names = ["post_arg_a", "post_arg.*", "graphql_root_fields", "graphql_name", path.as_str()];
    let mut vars = BodyVars::new(request, BodyLimits::default());
    let mut limited = BodyVars::new(request, BodyLimits { post_args: 0, graphql: 0 });
    vars.set_body(body);
    limited.set_body(body);
    let mut outcome = Outcome::Refused;
    for variable in names.into_iter().filter_map(Variable::parse) {
        let value = vars.value(&variable);
        assert_ne!(value, BodyValue::Unread, "{}", show(data));
        assert_eq!(value, vars.value(&variable), "{}", show(data));
        assert_eq!(limited.value(&variable), BodyValue::Absent, "{}", show(data));
        if value != BodyValue::Absent {
            outcome = Outcome::Accepted;
        }
    }
    outcome
}

fn split_line(data: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', data) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, b""),
    }
}
