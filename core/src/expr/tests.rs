//! Operator by operator; the facts are those of lua-resty-expr's README and tests.

use std::borrow::Cow;
use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::body_vars::{BodyValue, Value as BodyVar};

/// Variables by name: plain ones, and what a body has if it has been read.
#[derive(Default)]
struct Source {
    plain: HashMap<String, String>,
    body: Option<HashMap<String, Json>>,
}

impl VariableSource for Source {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let value = self.plain.get(&variable.to_string());
        out.extend(value.into_iter().flat_map(|value| value.bytes()));
        value.is_some()
    }

    fn body_value(&self, variable: &Variable) -> BodyValue<'_> {
        let Some(body) = &self.body else { return BodyValue::Unread };
        body.get(&variable.to_string()).map(BodyVar::Json).into()
    }
}

/// A source with these query arguments.
fn args(pairs: &[(&str, &str)]) -> Source {
    let plain = pairs.iter().map(|(name, value)| (format!("arg_{name}"), (*value).to_owned()));
    Source { plain: plain.collect(), body: Some(HashMap::new()) }
}

/// A source with these fields of a JSON body.
fn body(fields: &Json) -> Source {
    let fields = fields.as_object().unwrap().iter();
    let body = fields.map(|(name, value)| (format!("post_arg.{name}"), value.clone())).collect();
    Source { plain: HashMap::new(), body: Some(body) }
}

fn compile(expression: &Json) -> Expr {
    Expr::from_json(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn eval(expression: &Json, source: &Source) -> Verdict {
    let mut scratch = b"kept".to_vec();
    let verdict = compile(expression).eval(source, &mut scratch);
    assert_eq!(scratch, b"kept");
    verdict
}

/// Checks a condition and its negation.
fn check(condition: &Json, source: &Source, expected: bool) {
    let seen: Vec<_> = source.plain.iter().collect();
    let verdict = eval(&json!([condition]), source);
    assert_eq!(verdict, Verdict::of(expected), "{condition} with {seen:?}");
    if let [name, operator, operand] = condition.as_array().unwrap().as_slice() {
        let negated = json!([[name, "!", operator, operand]]);
        assert_eq!(eval(&negated, source), Verdict::of(!expected), "{negated} with {seen:?}");
    }
}

/// The condition `[arg_k, operator, operand]` for the argument `k`, which may be missing.
fn check_arg(operator: &str, operand: &Json, k: Option<&str>, expected: bool) {
    let source = k.map_or_else(|| args(&[]), |k| args(&[("k", k)]));
    check(&json!(["arg_k", operator, operand]), &source, expected);
}

#[test]
fn equal() {
    for (operand, k, expected) in [
        (json!("v"), Some("v"), true),
        (json!("v"), Some("V"), false),
        (json!("v"), Some(""), false),
        (json!("v"), None, false),
        (json!(""), Some(""), true),
        (json!(""), None, false),
        (json!(18), Some("18"), true),
        (json!(18), Some("18.0"), true),
        (json!(18), Some(" 0x12 "), true),
        (json!(18), Some("aa"), false),
        (json!(18), None, false),
        (json!("18"), Some("18.0"), false),
        (json!(true), Some("true"), false),
        (json!(null), None, true),
        (json!(null), Some(""), false),
        (json!(["v"]), Some("v"), false),
    ] {
        check_arg("==", &operand, k, expected);
        check_arg("~=", &operand, k, !expected);
    }
}

#[test]
fn order() {
    for (operator, operand, k, expected) in [
        (">", json!(10), Some("11"), true),
        (">", json!(10), Some("10"), false),
        (">", json!(10), Some("9"), false),
        (">", json!("10"), Some("11"), true),
        (">", json!("x"), Some("11"), false),
        (">", json!(10), Some("x"), false),
        (">", json!(10), None, false),
        (">", json!(null), Some("1"), false),
        (">=", json!("2"), Some("2"), true),
        (">=", json!(3), Some("2"), false),
        ("<", json!(3), Some("2.5"), true),
        ("<", json!(3), Some(""), false),
        ("<", json!(3), Some("nan"), false),
        ("<", json!(3), None, false),
        ("<=", json!("2"), Some("3"), false),
        ("<=", json!(3), Some("3"), true),
        ("<=", json!([3]), Some("3"), false),
    ] {
        check_arg(operator, &operand, k, expected);
    }
}

#[test]
fn regular_expressions() {
    for (operator, operand, k, expected) in [
        ("~~", json!("[a-z]"), Some("a"), true),
        ("~~", json!("[a-z]"), Some("9"), false),
        ("~~", json!("[a-z]{1,4}"), None, false),
        ("~~", json!("A"), Some("a"), false),
        ("~*", json!("A"), Some("a"), true),
        ("~*", json!("A"), Some("b"), false),
        ("~*", json!("A"), Some(""), false),
        ("~*", json!("A"), None, false),
        ("~~", json!("^(?!a)"), Some("b"), true),
        ("~~", json!(12), Some("3123"), true),
        ("~~", json!("a("), Some("a("), false),
        ("~~", json!(null), Some("a"), false),
    ] {
        check_arg(operator, &operand, k, expected);
    }
}

#[test]
fn lists() {
    for (operand, k, expected) in [
        (json!(["1", "2"]), Some("1"), true),
        (json!(["1", "2"]), Some("4"), false),
        (json!(["1", "2"]), None, false),
        // Nothing is converted.
        (json!([1, 2]), Some("1"), false),
        (json!([]), Some("1"), false),
        (json!([null]), None, false),
        (json!("1"), Some("1"), false),
        (json!({"1": "1"}), Some("1"), false),
    ] {
        check_arg("in", &operand, k, expected);
    }
    // A text is not a list.
    check_arg("has", &json!("a"), Some("a"), false);
    check_arg("has", &json!("a"), None, false);
}

#[test]
fn addresses() {
    for (operand, k, expected) in [
        (json!("127.0.0.1"), Some("127.0.0.1"), true),
        (json!(["127.0.0.0/16"]), Some("127.0.255.1"), true),
        (json!(["127.0.0.2", "127.0.0.3"]), Some("127.0.0.1"), false),
        (json!(["::1", "fe80::/32"]), Some("fe80::8"), true),
        (json!(["10.0.0.0/8"]), Some("::ffff:10.1.2.3"), true),
        (json!(["127.0.0.1"]), Some("localhost"), false),
        (json!(["127.0.0.1"]), Some(""), false),
        (json!(["127.0.0.1"]), None, false),
    ] {
        check_arg("ipmatch", &operand, k, expected);
    }
}

#[test]
fn values_of_a_body_have_types() {
    let source = body(&json!({
        "n": 3, "s": "3", "t": true, "f": false, "z": null, "l": ["a", 1, null], "o": {"a": 1},
    }));
    for (condition, expected) in [
        (json!(["post_arg.n", "==", 3]), true),
        (json!(["post_arg.n", "==", "3"]), false),
        (json!(["post_arg.n", ">", "2"]), true),
        (json!(["post_arg.n", "~~", "^3$"]), true),
        (json!(["post_arg.n", "in", [3]]), true),
        (json!(["post_arg.n", "in", ["3"]]), false),
        (json!(["post_arg.n", "ipmatch", "0.0.0.3"]), false),
        (json!(["post_arg.s", "==", 3]), true),
        (json!(["post_arg.s", "in", [3]]), false),
        (json!(["post_arg.t", "==", true]), true),
        (json!(["post_arg.t", "==", "true"]), false),
        (json!(["post_arg.t", "~~", "true"]), true),
        (json!(["post_arg.f", "==", false]), true),
        (json!(["post_arg.f", "~~", "false"]), false),
        // A missing value is nil, `null` in a body is not.
        (json!(["post_arg.z", "==", null]), false),
        (json!(["post_arg.x", "==", null]), true),
        (json!(["post_arg.z", "in", [null]]), true),
        (json!(["post_arg.z", ">", -1]), false),
        (json!(["post_arg.l", "has", "a"]), true),
        (json!(["post_arg.l", "has", 1]), true),
        (json!(["post_arg.l", "has", "1"]), false),
        (json!(["post_arg.l", "has", null]), false),
        (json!(["post_arg.l", "==", "a"]), false),
        (json!(["post_arg.l", "in", ["a"]]), false),
        (json!(["post_arg.o", "has", 1]), false),
        (json!(["post_arg.o", "~~", "."]), false),
    ] {
        check(&condition, &source, expected);
    }
}

#[test]
fn two_parts_and_odd_operators() {
    let source = args(&[("k", "v"), ("n", "5"), ("e", "")]);
    for (condition, expected) in [
        (json!(["arg_k", "v"]), true),
        (json!(["arg_k", "w"]), false),
        // The second part is in lower case by then, and a text.
        (json!(["arg_k", "V"]), true),
        (json!(["arg_n", 5]), true),
        (json!(["arg_n", 5.5]), false),
        // Operators without an operand.
        (json!(["arg_x", "=="]), true),
        (json!(["arg_k", "~="]), true),
        (json!(["arg_k", "IN"]), false),
        (json!(["arg_k", "has"]), false),
        (json!(["arg_k", "==", "v", "!", "more"]), true),
        // Unknown variables are missing ones.
        (json!(["nothing", "==", null]), true),
        (json!(["nothing", "==", "a"]), false),
        (json!([7, "==", null]), true),
    ] {
        check(&condition, &source, expected);
    }
}

#[test]
fn logic_of_the_readme() {
    let and_not = json!([["arg_x", ">", 10], ["arg_x", "!", ">", 15]]);
    let nested = json!([
        "!AND",
        ["arg_name", "==", "json"],
        ["OR", ["arg_weight", ">", 10], ["arg_height", "!", ">", 15]]
    ]);
    let lists = json!([
        "or",
        [["arg_weight", "!", ">", 15]],
        [["arg_height", ">", 10], ["arg_height", "!", "<", 15]]
    ]);
    let not_or = json!(["!OR", ["arg_weight", ">", 10], ["arg_weight", "!", "<", 15]]);
    for (expression, values, expected) in [
        (&and_not, [("x", "11")].as_slice(), true),
        (&and_not, &[("x", "16")], false),
        (&nested, &[("name", "json"), ("weight", "6"), ("height", "6")], false),
        (&nested, &[("name", "xx"), ("weight", "6"), ("height", "6")], true),
        (&nested, &[("name", "json"), ("weight", "6"), ("height", "16")], true),
        (&lists, &[("weight", "16"), ("height", "16")], true),
        (&lists, &[("weight", "16"), ("height", "14")], false),
        (&not_or, &[("weight", "8")], true),
        (&not_or, &[("weight", "12")], false),
        (&json!([]), &[], true),
        (&json!({}), &[], true),
    ] {
        assert_eq!(
            eval(expression, &args(values)),
            Verdict::of(expected),
            "{expression} {values:?}"
        );
    }
}

#[test]
fn the_body_is_asked_for_only_if_it_decides() {
    let source = Source { plain: args(&[("k", "v")]).plain, body: None };
    for (expression, expected) in [
        (json!([["post_arg.a", "==", "b"]]), Verdict::NeedsBody),
        (json!([["post_arg.a", "!", "==", "b"]]), Verdict::NeedsBody),
        (json!([["post_arg.a", "==", "b"], ["arg_k", "==", "w"]]), Verdict::False),
        (json!([["post_arg.a", "==", "b"], ["arg_k", "==", "v"]]), Verdict::NeedsBody),
        (json!(["OR", ["graphql_name", "==", "b"], ["arg_k", "==", "v"]]), Verdict::True),
        (json!(["!OR", ["post_arg_a", "==", "b"], ["arg_k", "==", "v"]]), Verdict::False),
        (json!(["!AND", ["post_arg_a", "==", "b"], ["arg_k", "==", "w"]]), Verdict::True),
        (json!(["!AND", ["post_arg_a", "==", "b"], ["arg_k", "==", "v"]]), Verdict::NeedsBody),
        // Such a path does not exist.
        (json!([["post_arg.a[", "==", null]]), Verdict::True),
    ] {
        assert_eq!(eval(&expression, &source), expected, "{expression}");
    }
    assert!(compile(&json!(["OR", ["a", 1], [["post_arg.a", 1]]])).reads_body());
    assert!(!compile(&json!(["OR", ["host", "a"], [["arg_a", 1]]])).reads_body());
    let mut names = Vec::new();
    let expr = compile(&json!([["host", "a"], ["none", "b"], ["OR", ["uri", 1], ["arg_x", 2]]]));
    expr.for_each_variable(|variable| names.push(variable.to_string()));
    assert_eq!(names, ["host", "uri", "arg_x"]);
}

#[test]
fn explains_the_first_condition_that_failed() {
    let expression = json!([
        ["arg_a", "==", "1"],
        ["OR", ["arg_b", ">", 5], ["post_arg.c", "==", "x"]],
        ["!AND", ["arg_a", "==", "1"], ["arg_a", "==", "1"]]
    ]);
    let explain = |source: &Source| compile(&expression).explain(source, &mut Vec::new());
    let explanation =
        |condition: &Json, seen| Some(Explanation { condition: condition.to_string(), seen });
    let first = json!(["arg_a", "==", "1"]);
    assert_eq!(explain(&args(&[])), explanation(&first, Seen::Absent));
    let seen = Seen::Value("2".to_owned());
    assert_eq!(explain(&args(&[("a", "2")])), explanation(&first, seen));
    let second = json!(["arg_b", ">", 5]);
    let seen = Seen::Value("4".to_owned());
    assert_eq!(explain(&args(&[("a", "1"), ("b", "4")])), explanation(&second, seen));
    let group = explanation(&expression[2], Seen::Group);
    assert_eq!(explain(&args(&[("a", "1"), ("b", "6")])), group);
    let unread = Source { body: None, ..args(&[("a", "1"), ("b", "4")]) };
    // Beside a group that fails for certain, what waits for the body is not blamed.
    assert_eq!(explain(&unread), group);
    let waits = compile(&json!([["post_arg.c", "x"]])).explain(&unread, &mut Vec::new());
    assert_eq!(waits, explanation(&json!(["post_arg.c", "x"]), Seen::Unread));
    assert_eq!(compile(&json!([first])).explain(&unread, &mut Vec::new()), None);
    let long = args(&[("a", &"x".repeat(1000))]);
    let Some(Explanation { seen: Seen::Value(text), .. }) = explain(&long) else { panic!() };
    assert_eq!(text.len(), 259);
}

#[test]
fn invalid_patterns_are_told() {
    let expr = compile(&json!([["arg_a", "~~", "a("], ["arg_a", "~*", "a"], ["b", "~~", null]]));
    let [first, second] = expr.invalid_patterns() else { panic!("{:?}", expr.invalid_patterns()) };
    assert!(first.contains("'a('"), "{first}");
    assert!(second.contains("'null'"), "{second}");
}

/// The words that `rules::expr` does not cover.
#[test]
fn errors_are_those_of_lua() {
    for (expression, expected) in [
        (json!([["a", "ipmatch", []]]), "invalid ip address"),
        (json!([["a", "ipmatch", ""]]), "invalid ip address"),
        (json!([["a", "ipmatch", {}]]), "invalid ip address"),
        (json!([["!", "arg_k", "==", "1"]]), "bad 'not' expression"),
        (json!([["a", null, "b"]]), "invalid expression"),
        (json!([["a", true]]), "invalid expression"),
        (json!([[null, "==", "b"]]), "invalid expression"),
        (json!(["OR", ["a", ">", 1], ["AND"]]), "rule too short"),
    ] {
        let error = Expr::from_json(&expression).unwrap_err();
        assert_eq!(error.to_string(), expected, "{expression}");
    }
    let deep = (0..1000).fold(json!(["a", "b"]), |inner, _| json!([inner]));
    assert_eq!(Expr::from_json(&deep).unwrap_err(), ExprError::TooDeep);
    // Dropping it level by level, so that the test's own stack suffices.
    let mut rest = deep;
    while let Some(inner) = rest.get_mut(0) {
        rest = inner.take();
    }
}

/// A source that answers every variable alike.
struct Same<'a>(Option<&'a [u8]>);

impl VariableSource for Same<'_> {
    fn append(&self, _: &Variable, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.0.unwrap_or_default());
        self.0.is_some()
    }

    fn body_value(&self, _: &Variable) -> BodyValue<'_> {
        self.0.map(|bytes| BodyVar::Bytes(Cow::Borrowed(bytes))).into()
    }
}

fn operand() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        (-3i64..3).prop_map(Json::from),
        "[a-c0-9.:/]{0,4}".prop_map(Json::from),
        "\\PC{0,8}".prop_map(Json::from),
        Just(json!("10.0.0.0/8")),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        proptest::collection::vec(inner, 0..3).prop_map(Json::from)
    })
}

fn condition() -> impl Strategy<Value = Json> {
    let name = proptest::sample::select(vec!["arg_a", "post_arg.a", "graphql_name", "none", "uri"]);
    let operator = proptest::sample::select(vec![
        "==", "~=", ">", ">=", "<", "<=", "~~", "~*", "in", "has", "IPMATCH",
    ]);
    (name, operator, operand()).prop_map(|(name, operator, value)| json!([name, operator, value]))
}

proptest! {
    #[test]
    fn compiling_anything_is_safe(value in operand()) {
        let _ = Expr::from_json(&value);
        let _ = Expr::from_json(&json!([value]));
        let _ = Expr::from_json(&json!([["a", value]]));
    }

    #[test]
    fn negation_is_the_complement(
        first in condition(),
        second in condition(),
        value in proptest::option::of("\\PC{0,6}|[0-9]{1,3}"),
    ) {
        let source = Same(value.as_ref().map(String::as_bytes));
        let eval = |expression: Json| {
            Expr::from_json(&expression).ok().map(|expr| expr.eval(&source, &mut Vec::new()))
        };
        if let (Some(a), Some(b)) = (eval(json!([first])), eval(json!([second]))) {
            let negated = json!([first[0], "!", first[1], first[2]]);
            prop_assert_eq!(eval(json!([negated])), Some(a.negated_if(true)));
            let both = a == Verdict::True && b == Verdict::True;
            let any = a == Verdict::True || b == Verdict::True;
            prop_assert_eq!(eval(json!([first, second])), Some(Verdict::of(both)));
            prop_assert_eq!(eval(json!(["AND", first, second])), Some(Verdict::of(both)));
            prop_assert_eq!(eval(json!(["!AND", first, second])), Some(Verdict::of(!both)));
            prop_assert_eq!(eval(json!(["OR", first, second])), Some(Verdict::of(any)));
            prop_assert_eq!(eval(json!(["!OR", first, second])), Some(Verdict::of(!any)));
        }
    }
}
