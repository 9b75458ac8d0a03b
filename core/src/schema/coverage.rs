//! Which schemas the rules in [`super::run`] cover: what they accept of such a schema, JSON Schema
//! accepts as well, so that nobody else has to be asked.

use serde_json::Value;

/// Keywords that say nothing about a value.
const ANNOTATIONS: [&str; 5] = ["title", "description", "default", "examples", "$comment"];

/// Keywords that hold no schema, and that the rules know as JSON Schema does.
const PLAIN: [&str; 12] = [
    "type",
    "enum",
    "const",
    "pattern",
    "required",
    "uniqueItems",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];

/// Bounds beyond this are not told apart by the floating point numbers of the rules.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Whether the rules cover `schema`, read as draft 7.
pub(super) fn covers(schema: &Value) -> bool {
    schema.get("$schema").is_none() && covered(schema, false)
}

/// `reversed`: below a keyword where more may be accepted because something is refused. There the
/// rules have to be exactly as strict as JSON Schema, elsewhere they may be stricter.
fn covered(schema: &Value, reversed: bool) -> bool {
    let Value::Object(keywords) = schema else { return schema.is_boolean() };
    keywords.iter().all(|(keyword, value)| match (keyword.as_str(), value) {
        ("items" | "additionalProperties", schema) => covered(schema, reversed),
        ("properties" | "patternProperties", Value::Object(schemas)) => {
            schemas.values().all(|schema| covered(schema, reversed))
        }
        ("dependencies", Value::Object(dependencies)) => dependencies
            .values()
            .all(|dependency| dependency.is_array() || covered(dependency, reversed)),
        ("allOf" | "anyOf", Value::Array(schemas)) => {
            schemas.iter().all(|schema| covered(schema, reversed))
        }
        ("oneOf", Value::Array(schemas)) => schemas.iter().all(|schema| covered(schema, true)),
        ("not" | "if" | "then" | "else", schema) => covered(schema, true),
        // Not a flag, as in draft 4.
        ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum", Value::Number(bound)) => {
            bound.as_f64().is_some_and(|bound| bound.abs() < EXACT)
        }
        // Draft 7 leaves it to who validates whether formats are looked at. The rules do.
        ("format", Value::String(_)) => !reversed,
        (keyword, _) => ANNOTATIONS.contains(&keyword) || PLAIN.contains(&keyword),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::Kind;

    #[test]
    fn the_resources_own_schemas_are_covered() {
        for kind in Kind::ALL {
            assert!(covers(crate::schema::of(kind)), "{kind}");
        }
    }

    #[test]
    fn what_the_rules_do_not_know_is_not_covered() {
        for schema in [
            json!({"$schema": "http://json-schema.org/draft-04/schema#"}),
            json!({"propertyNames": {"maxLength": 1}}),
            json!({"contains": {"type": "string"}}),
            json!({"multipleOf": 0.1}),
            json!({"exclusiveMinimum": true, "minimum": 1}),
            json!({"minimum": 9_007_199_254_740_993_u64}),
            json!({"items": [{"type": "string"}]}),
            json!({"properties": {"a": {"$ref": "#"}}}),
            json!({"anyOf": [{"properties": {"a": {"prefixItems": []}}}]}),
            json!({"not": {"format": "ipv4"}}),
            json!({"oneOf": [{"properties": {"a": {"format": "ipv4"}}}]}),
            json!({"dependencies": {"a": {"unevaluatedProperties": false}}}),
        ] {
            assert!(!covers(&schema), "{schema}");
        }
        assert!(covers(&json!({"properties": {"a": {"anyOf": [{"format": "ipv4"}, true]}}})));
    }
}
