use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Map, Value, json};

use super::*;
use crate::resource::Kind;

/// Any JSON of little depth.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..4i64).prop_map(Value::from),
        prop_oneof![Just(1.0), Just(0.5), any::<f64>()].prop_map(Value::from),
        "[ab\"\\\\/é$]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-c]", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// What `schema` says about `value`, and the value with its defaults.
fn checked(schema: &Value, mut value: Value) -> Result<Value, String> {
    Validator::new(schema)?.check(&mut value).map(|()| value)
}

#[track_caller]
fn refuses(schema: &Value, value: Value, text: &str) {
    assert_eq!(checked(schema, value), Err(text.to_owned()));
}

#[track_caller]
fn takes(schema: &Value, value: Value) {
    assert_eq!(checked(schema, value.clone()), Ok(value));
}

#[test]
fn every_keyword_has_its_text() {
    let cases = [
        (json!({"type": "string"}), json!(1), "wrong type: expected string, got number"),
        (json!({"type": "object"}), json!([1]), "wrong type: expected object, got table"),
        (json!({"type": "string"}), json!(null), "wrong type: expected string, got userdata"),
        (json!({"type": "integer"}), json!(1.5), "wrong type: expected integer, got number"),
        (
            json!({"type": ["string", "null"]}),
            json!(true),
            "wrong type: expected one of string, null, got boolean",
        ),
        (json!({"minProperties": 1}), json!({}), "expect object to have at least 1 properties"),
        (
            json!({"maxProperties": 1}),
            json!({"a": 1, "b": 1}),
            "expect object to have at most 1 properties",
        ),
        (
            json!({"additionalProperties": {"type": "string"}}),
            json!({"a": 1}),
            "failed to validate additional property a: wrong type: expected string, got number",
        ),
        (
            json!({"dependencies": {"a": ["b"]}}),
            json!({"a": 1}),
            "property \"b\" is required when \"a\" is set",
        ),
        (json!({"maxItems": 1}), json!([1, 2]), "expect array to have at most 1 items"),
        (
            json!({"items": [{"type": "string"}]}),
            json!([1]),
            "failed to validate item 1: wrong type: expected string, got number",
        ),
        (
            json!({"items": [{}], "additionalItems": false}),
            json!([1, 2]),
            "found unexpected extra items in array",
        ),
        (
            json!({"items": [{}], "additionalItems": {"type": "string"}}),
            json!([1, 2]),
            "failed to validate additional item 2: wrong type: expected string, got number",
        ),
        (json!({"maximum": 1.5}), json!(2), "expected 2 to be at most 1.5"),
        (json!({"exclusiveMaximum": 2}), json!(2), "expected 2 to be smaller than 2"),
        (
            json!({"minimum": 2, "exclusiveMinimum": true}),
            json!(2),
            "expected 2 to be greater than 2",
        ),
        (json!({"multipleOf": 0.01}), json!(0.005), "expected 0.005 to be a multiple of 0.01"),
        (
            json!({"pattern": "^a\\d$"}),
            json!("b\""),
            "failed to match pattern \"^a\\\\d$\" with \"b\\\"\"",
        ),
        (json!({"format": "ipv4"}), json!("1.2.3"), "expect valid ipv4 format but got: 1.2.3"),
        (
            json!({"format": "date"}),
            json!("2020-13-01"),
            "expect valid date format but got: 2020-13-01",
        ),
        (json!({"const": {"a": 1}}), json!({"a": 2}), "failed to check const value"),
        (json!({"contains": {"const": 1}}), json!([2]), "failed to check contains"),
        (json!({"contains": {}}), json!([]), "check contains: empty array is invalid"),
        (json!({"if": {"const": 1}, "then": false}), json!(1), "then clause did not match"),
        (json!({"if": {"const": 1}, "else": false}), json!(2), "else clause did not match"),
        (
            json!({"properties": {"a": false}}),
            json!({"a": 1}),
            "property \"a\" validation failed: expect false always",
        ),
        (
            json!({"oneOf": [true, {"type": "string"}, {"type": "number"}]}),
            json!(1),
            "value should match only one schema, but matches both schemas 1 and 3",
        ),
    ];
    for (schema, value, text) in cases {
        refuses(&schema, value, text);
    }
}

#[test]
fn keywords_that_pass_leave_the_value_alone() {
    takes(&json!({"multipleOf": 0.01}), json!(1.13));
    takes(&json!({"type": "integer"}), json!(2.0));
    takes(&json!({"items": [{"type": "string"}, true]}), json!(["a"]));
    takes(&json!({"format": "no-such-format"}), json!("x"));
    takes(&json!({"format": "date-time"}), json!("2020-01-01T00:00:00Z"));
    takes(&json!({"minLength": 2, "maxLength": 2}), json!("éé"));
    takes(&json!({"enum": [1, {"a": [2]}]}), json!({"a": [2.0]}));
    takes(&json!({"pattern": "^(?!admin)[^[]+$"}), json!("user"));
    takes(&json!(true), json!([null]));
}

#[test]
fn look_around_is_taken() {
    refuses(
        &json!({"pattern": "^(?!admin)"}),
        json!("admin1"),
        "failed to match pattern \"^(?!admin)\" with \"admin1\"",
    );
}

#[test]
fn rules_that_apisix_lacks_are_the_crates() {
    let schema = json!({"propertyNames": {"maxLength": 2}});
    assert!(checked(&schema, json!({"abc": 1})).unwrap_err().contains("longer than 2"));
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "prefixItems": [{"type": "string"}], "items": {"type": "number"},
    });
    assert!(checked(&schema, json!(["a", 1])).is_ok());
    assert!(checked(&schema, json!(["a", "b"])).unwrap_err().ends_with("(at /1)"));
}

#[test]
fn a_wrong_schema_is_refused_with_the_place() {
    for (schema, part) in [
        (json!({"type": "strin"}), "/type"),
        (json!({"properties": {"a": {"minLength": "x"}}}), "/properties/a/minLength"),
        (json!({"pattern": "("}), "("),
        (json!({"$ref": "http://127.0.0.1:1/x.json"}), "127.0.0.1"),
        (json!({"$ref": "#/definitions/none"}), "definitions"),
        (json!(5), "5"),
    ] {
        let reason = Validator::new(&schema).unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
    assert!(!Validator::refusing("why".to_owned()).is_valid(&json!({})));
    let refused = Validator::refusing("why".to_owned()).check(&mut json!({}));
    assert_eq!(refused, Err("why".to_owned()));
}

#[test]
fn defaults_go_where_they_are_missing() {
    let schema = json!({"properties": {
        "a": {"default": 1},
        "b": {"type": "object", "properties": {"c": {"default": []}, "n": {"default": null}}},
    }});
    assert_eq!(checked(&schema, json!({})), Ok(json!({"a": 1})));
    let value = json!({"a": null, "b": {}, "x": 1});
    assert_eq!(checked(&schema, value), Ok(json!({"a": null, "b": {"c": []}, "x": 1})));
}

#[test]
fn only_the_alternative_that_fits_gives_defaults() {
    let kind = |name: &str| json!({"properties": {"kind": {"const": name}, name: {"default": 1}}, "required": ["kind"]});
    for keyword in ["anyOf", "oneOf"] {
        let schema = json!({keyword: [kind("a"), kind("b")]});
        assert_eq!(checked(&schema, json!({"kind": "b"})), Ok(json!({"kind": "b", "b": 1})));
    }
    let schema = json!({"if": kind("a"), "then": kind("a"), "else": kind("b")});
    assert_eq!(checked(&schema, json!({"kind": "b"})), Ok(json!({"kind": "b", "b": 1})));
    let schema = json!({"not": kind("a")});
    assert_eq!(checked(&schema, json!({"kind": "b"})), Ok(json!({"kind": "b"})));
}

#[test]
fn defaults_decide_what_comes_after_them() {
    let schema = json!({
        "properties": {"type": {"default": "server"}},
        "if": {"properties": {"type": {"const": "server"}}},
        "then": {"required": ["sni"]},
    });
    refuses(&schema, json!({}), "then clause did not match");
}

#[test]
fn an_empty_table_is_an_object_and_an_array() {
    let object = json!({"type": "object", "properties": {"a": {"default": 1}}});
    assert_eq!(checked(&object, json!([])), Ok(json!({"a": 1})));
    let array = json!({"type": "array", "minItems": 1});
    refuses(&array, json!({}), "expect array to have at least 1 items");
    assert_eq!(checked(&json!({"type": "array"}), json!({})), Ok(json!([])));
    // Within alternatives it stays what it was.
    let either = json!({"anyOf": [{"type": "object"}, {"type": "array"}]});
    takes(&either, json!([]));
}

#[test]
fn a_reference_to_a_secret_stands_for_any_string() {
    let schema = json!({"properties": {
        "s": {"type": "string", "minLength": 100, "pattern": "^x", "enum": ["x"]},
        "n": {"type": "number"},
        "any": {"enum": [1]},
    }});
    takes(&schema, json!({"s": "$secret://vault/1/a/b", "any": "$env://A"}));
    takes(&schema, json!({"s": "$ENV://NAME"}));
    let text = "property \"n\" validation failed: wrong type: expected number, got string";
    refuses(&schema, json!({"n": "$secret://vault/1/a/b"}), text);
    assert!(checked(&schema, json!({"s": "secret://vault/1/a/b"})).is_err());
    assert!(checked(&schema, json!({"s": "$en\u{e9}://"})).is_err());
}

#[test]
fn references_within_the_document_are_followed() {
    let schema = json!({
        "definitions": {
            "a b": {"type": "object", "properties": {"x": {"default": 1}}},
            "tree": {"properties": {"left": {"$ref": "#/definitions/tree"}, "v": {"default": 0}}},
            "alias": {"$ref": "#/definitions/a%20b"},
        },
        "properties": {"a": {"$ref": "#/definitions/alias"}, "t": {"$ref": "#/definitions/tree"}},
    });
    assert_eq!(checked(&schema, json!({"a": {}})), Ok(json!({"a": {"x": 1}})));
    let value = json!({"t": {"left": {"left": {}}}});
    let filled = json!({"t": {"v": 0, "left": {"v": 0, "left": {"v": 0}}}});
    assert_eq!(checked(&schema, value), Ok(filled));
    let text = "property \"a\" validation failed: allOf 1 failed: \
        wrong type: expected object, got number";
    refuses(&schema, json!({"a": 1}), text);
}

#[test]
fn a_schema_that_never_ends_is_given_up() {
    let mut compiled = 0;
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"not": {"$ref": "#"}}),
    ] {
        if let Ok(validator) = Validator::new(&schema) {
            let reason = validator.check(&mut json!({})).unwrap_err();
            assert!(reason.starts_with("too many steps"), "{reason}");
            compiled += 1;
        }
    }
    assert!(compiled > 0, "the crate refused all of them");
}

#[test]
fn deep_nesting_is_refused() {
    let wrapped = |inner, _| Value::Object(Map::from_iter([("items".to_owned(), inner)]));
    let deep = (0..5_000).fold(json!({}), wrapped);
    assert!(Validator::new(&deep).unwrap_err().contains("nested deeper"));
    let validator = Validator::new(&json!({"uniqueItems": true})).unwrap();
    let mut deep = (0..5_000).fold(json!([1]), |inner, _| Value::Array(vec![inner, 1.into()]));
    assert!(validator.check(&mut deep).unwrap_err().contains("nested deeper"));
    let mut most = (0..MAX_NESTING).fold(json!(1), |inner, _| json!([inner]));
    let recursive = Validator::new(&json!({"items": {"$ref": "#"}})).unwrap();
    assert_eq!(recursive.check(&mut most), Ok(()));
}

#[test]
fn filling_leaves_what_is_invalid() {
    let schema = json!({"properties": {"a": {"default": 1}, "b": {"type": "string"}}});
    let mut value = json!({"b": 1});
    fill_defaults(&schema, &mut value);
    assert_eq!(value, json!({"b": 1}));
    let mut value = json!({"b": "x"});
    fill_defaults(&schema, &mut value);
    assert_eq!(value, json!({"a": 1, "b": "x"}));
}

/// Schemas out of keywords that both judges know in the same way.
fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        proptest::sample::select(vec![
            "object", "array", "string", "integer", "number", "boolean", "null"
        ])
        .prop_map(|name| json!({ "type": name })),
        (0..3u8).prop_map(|n| json!({"minLength": n})),
        (0..3u8).prop_map(|n| json!({"maxItems": n, "uniqueItems": true})),
        (-2..3i8).prop_map(|n| json!({"minimum": n, "exclusiveMaximum": 2})),
        (1..3u8).prop_map(|n| json!({ "minProperties": n })),
        Just(json!({"pattern": "^a"})),
        Just(json!({"required": ["a"]})),
        any_json().prop_map(|value| json!({ "const": value })),
        any_json().prop_map(|value| json!({ "enum": [value, 1] })),
        any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let list = proptest::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            (inner.clone(), inner.clone(), any::<bool>()).prop_map(|(a, b, more)| {
                json!({"properties": {"a": a, "b": b}, "additionalProperties": more})
            }),
            inner.clone().prop_map(|schema| json!({"patternProperties": {"^[ab]": schema}})),
            inner.clone().prop_map(|schema| json!({ "items": schema })),
            list.clone().prop_map(|list| json!({"items": list, "additionalItems": false})),
            inner.clone().prop_map(|schema| json!({ "not": schema })),
            inner.clone().prop_map(|schema| json!({"dependencies": {"a": schema, "b": ["c"]}})),
            inner.clone().prop_map(|schema| json!({ "contains": schema })),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| json!({"if": a, "then": b, "else": c})),
            list.clone().prop_map(|list| json!({ "allOf": list })),
            list.clone().prop_map(|list| json!({ "anyOf": list })),
            list.prop_map(|list| json!({ "oneOf": list })),
        ]
    })
}

/// A value that a schema may take, or nearly so, by what it says about its parts.
fn near(schema: &Value, levels: u32) -> BoxedStrategy<Value> {
    if levels == 0 {
        return any_json().boxed();
    }
    let below = |schema: &Value| near(schema, levels - 1);
    let mut ways = Vec::new();
    for list in ["anyOf", "oneOf", "allOf"].map(|name| &schema[name]) {
        ways.extend(list.as_array().into_iter().flatten().map(below));
    }
    if let Some(allowed) = schema["enum"].as_array() {
        ways.push(proptest::sample::select(allowed.clone()).boxed());
    }
    if schema["items"].is_object() {
        let items = proptest::collection::vec(below(&schema["items"]), 0..3);
        ways.push(items.prop_map(Value::from).boxed());
    }
    if let Some(properties) = schema["properties"].as_object() {
        let fields = properties.iter().map(|(name, schema)| (Just(name.clone()), below(schema)));
        let fields: Vec<_> = fields.map(Strategy::boxed).collect();
        let few = proptest::sample::subsequence(fields, 0..=properties.len().min(3));
        let object = |fields: Vec<_>| Value::Object(fields.into_iter().collect());
        ways.push(few.prop_flat_map(|fields| fields).prop_map(object).boxed());
    }
    match schema["type"].as_str() {
        Some("string") => {
            let text = "[a-z0-9.:/_*-]{0,6}|1\\.2\\.3\\.4(/8)?|::1|function x|\\$env://A|[éß ]";
            ways.push(text.prop_map(Value::from).boxed());
        }
        Some("integer" | "number") => {
            ways.push((-2..70_000i64).prop_map(Value::from).boxed());
            ways.push(prop_oneof![Just(0.0), Just(1.0), Just(1.5)].prop_map(Value::from).boxed());
        }
        Some("boolean") => ways.push(any::<bool>().prop_map(Value::from).boxed()),
        _ => {}
    }
    let near = if ways.is_empty() { any_json().boxed() } else { Union::new(ways).boxed() };
    prop_oneof![12 => near, 1 => any_json()].boxed()
}

/// What a resource of the kind cannot do without.
fn needed(kind: Kind) -> Value {
    match kind {
        Kind::Route => json!({"uri": "/a", "service_id": 1}),
        Kind::Upstream => json!({"nodes": {"127.0.0.1:80": 1}}),
        Kind::Consumer => json!({"username": "jack"}),
        Kind::Ssl => {
            let pem = "x".repeat(128);
            json!({"cert": pem, "key": pem, "snis": ["a.test"]})
        }
        Kind::Proto => json!({"content": "syntax"}),
        Kind::PluginConfig | Kind::ConsumerGroup => json!({"id": 1, "plugins": {}}),
        Kind::GlobalRule => json!({"plugins": {}}),
        Kind::GraphqlCost => json!({"service_id": "s", "field_path": "a", "add_arguments": []}),
        _ => json!({}),
    }
}

/// A resource with a chance to be a good one: what it cannot do without, and some other fields.
fn any_resource() -> impl Strategy<Value = (Kind, Value)> {
    let resource = |kind: Kind| {
        (Just(kind), near(of(kind), 5)).prop_map(|(kind, mut value)| {
            if let (Value::Object(map), Value::Object(needed)) = (&mut value, needed(kind)) {
                for (name, field) in needed {
                    map.entry(name).or_insert(field);
                }
            }
            (kind, value)
        })
    };
    Union::new(Kind::ALL.map(|kind| resource(kind).boxed()))
}

/// Whether Lua's empty table, which is both, plays a part.
fn has_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty() || items.iter().any(has_empty),
        Value::Object(map) => map.is_empty() || map.values().any(has_empty),
        _ => false,
    }
}

proptest! {
    /// The rules alone, without the crate behind them, say what the crate says.
    #[test]
    fn the_rules_agree_with_the_crate(schema in any_schema(), mut value in any_json()) {
        prop_assume!(!has_empty(&value) && !has_empty(&schema));
        let validator = Validator::new(&schema).unwrap();
        let judged = judge(&schema).unwrap().is_valid(&value);
        let outcome = Run::new(&validator.tree).root(&mut value);
        prop_assert_eq!(outcome.is_ok(), judged, "{:?}", outcome);
        prop_assert_ne!(outcome, Err(String::new()));
    }

    #[test]
    fn any_json_is_a_schema_or_refused_with_a_reason(schema in any_json(), mut value in any_json()) {
        match Validator::new(&schema) {
            Ok(validator) => prop_assert_ne!(validator.check(&mut value), Err(String::new())),
            Err(reason) => prop_assert!(!reason.is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// What the rules accept of a resource the crate accepts, which is not asked.
    #[test]
    fn the_crate_has_nothing_to_add_about_resources((kind, mut value) in any_resource()) {
        let validator = validator(kind);
        prop_assert!(validator.judge.is_none());
        let mut run = Run::new(&validator.tree);
        if run.root(&mut value).is_ok() && !run.lenient {
            let judge = judge(of(kind)).unwrap();
            prop_assert!(judge.is_valid(&value), "{kind} {value}: {}", said(&judge, &value));
        }
    }
}
