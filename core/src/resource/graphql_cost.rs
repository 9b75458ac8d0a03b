//! Costs of GraphQL fields, of a service (APISIX: graphql-limit-count.md).

use serde_json::Value;

use super::fields;
use super::{Id, Meta, Violation};

/// The cost of one position in a service's GraphQL schema: `(children) * mul + add`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct GraphqlCost {
    /// Id, name, description, labels, times.
    #[serde(flatten)]
    pub meta: Meta,
    /// `service_id`: the owner, from the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_id: Option<Id>,
    /// `field_path`: `Type`, `Type.field`, or a chain of fields.
    pub field_path: String,
    /// `add_value`.
    pub add_value: f64,
    /// `add_arguments`: arguments whose values are added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_arguments: Vec<String>,
    /// `mul_value`.
    pub mul_value: f64,
    /// `mul_arguments`: arguments whose values are multiplied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mul_arguments: Vec<String>,
}

fields::from_value!(GraphqlCost);

impl GraphqlCost {
    /// Checks a JSON object and takes the cost from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let mut cost = Self {
            meta: Meta::default(),
            service_id: None,
            field_path: String::new(),
            add_value: 1.0,
            add_arguments: Vec::new(),
            mul_value: 1.0,
            mul_arguments: Vec::new(),
        };
        fields::each(fields::object(value)?, |name, value| cost.take(name, value))?;
        if cost.field_path.is_empty() {
            return Err(Violation::Missing("field_path"));
        }
        Ok(cost)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "service_id" => self.service_id = Some(Id::from_json(value)?),
            "field_path" => self.field_path = field_path(value)?,
            "add_value" => self.add_value = weight(value)?,
            "add_arguments" => self.add_arguments = arguments(value)?,
            "mul_value" => self.mul_value = weight(value)?,
            "mul_arguments" => self.mul_arguments = arguments(value)?,
            _ => return self.meta.take(name, value),
        }
        Ok(true)
    }
}

fn field_path(value: &Value) -> Result<String, Violation> {
    const PATTERN: &str = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$";
    let text = fields::string(value)?;
    let name = |part: &str| {
        let first = part.bytes().next();
        first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if text.split('.').all(name) {
        return Ok(text.to_owned());
    }
    Err(Violation::Pattern { pattern: PATTERN, found: text.to_owned() })
}

fn weight(value: &Value) -> Result<f64, Violation> {
    let found = fields::number(value)?;
    if found < 0.0 {
        return Err(Violation::AtLeast { found: value.to_string(), min: 0 });
    }
    Ok(found)
}

fn arguments(value: &Value) -> Result<Vec<String>, Violation> {
    let name = |item| fields::bounded(item, 1, usize::MAX).map(str::to_owned);
    fields::items(fields::array(value)?, name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_every_field_and_fills_in_defaults() {
        let value = json!({"id": "a", "service_id": "s", "field_path": "Query.products.nodes",
            "add_value": 2.5, "add_arguments": ["first"], "mul_value": 3.0,
            "mul_arguments": ["last"], "name": "n"});
        let cost = GraphqlCost::from_json(&value).unwrap();
        assert_eq!(serde_json::to_value(&cost).unwrap(), value);
        let short = GraphqlCost::from_json(&json!({"field_path": "Product"})).unwrap();
        assert_eq!((short.add_value, short.mul_value), (1.0, 1.0));
    }

    #[test]
    fn refuses_odd_paths_and_weights() {
        let missing = GraphqlCost::from_json(&json!({})).unwrap_err();
        assert_eq!(missing.to_string(), "property \"field_path\" is required");
        for path in ["", "1a", "a.", "a..b", "a-b"] {
            assert!(GraphqlCost::from_json(&json!({"field_path": path})).is_err(), "{path}");
        }
        let negative = json!({"field_path": "a", "mul_value": -1});
        assert_eq!(
            GraphqlCost::from_json(&negative).unwrap_err().to_string(),
            "property \"mul_value\" validation failed: expected -1 to be at least 0"
        );
    }
}
