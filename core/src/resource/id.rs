//! Resource ids.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::Violation;

/// Most characters of an id.
const ID_CHARS: usize = 64;

/// A resource's id: 1 to 64 characters of `[A-Za-z0-9-_.]`; an integer of at least 1 is written in
/// decimal (admin-api.md, `id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Id(Arc<str>);

impl Id {
    /// Checks and takes an id.
    pub fn new(text: &str) -> Result<Self, Violation> {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if (1..=ID_CHARS).contains(&text.len()) && text.bytes().all(valid) {
            return Ok(Self(text.into()));
        }
        let cause = match text.chars().count() {
            0 => Violation::TooShort { min: 1, found: 0 },
            found if found > ID_CHARS => Violation::TooLong { max: ID_CHARS, found },
            _ => Violation::Pattern { pattern: "^[a-zA-Z0-9-_.]+$", found: text.to_owned() },
        };
        Err(Violation::NoAlternative { required: &[], cause: Some(Box::new(cause)) })
    }

    /// The id APISIX gives to the item at `index` (counted from 0) of a list in `apisix.yaml` that
    /// has none: `arr_1`, `arr_2`, ...
    pub fn from_position(index: usize) -> Self {
        Self(format!("arr_{}", index + 1).into())
    }

    /// An id from JSON: a string or a positive integer.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let refused =
            |cause| Violation::NoAlternative { required: &[], cause: Some(Box::new(cause)) };
        match value {
            Value::String(text) => Self::new(text),
            other => {
                let number = super::fields::integer(other, 1, i64::MAX).map_err(refused)?;
                Ok(Self(number.to_string().into()))
            }
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as shared text.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_text_and_positive_integers() {
        assert_eq!(Id::from_json(&json!("a-b_c.9")).unwrap().as_str(), "a-b_c.9");
        assert_eq!(Id::from_json(&json!(17)).unwrap().as_str(), "17");
        assert_eq!(Id::from_json(&json!(2.0)).unwrap().as_str(), "2");
        assert_eq!(Id::from_json(&json!("x".repeat(64))).unwrap().as_str().len(), 64);
    }

    #[test]
    fn refuses_with_apisix_text() {
        for bad in [json!(0), json!(-1), json!(1.5), json!(""), json!("a b"), json!("a/b")] {
            let error = Id::from_json(&bad).unwrap_err();
            assert_eq!(error.to_string(), "object matches none of the required", "{bad}");
        }
        assert!(Id::from_json(&json!("x".repeat(65))).is_err());
        assert!(Id::from_json(&json!("é")).is_err());
        assert!(Id::from_json(&json!(null)).is_err());
    }

    #[test]
    fn alternate_text_says_why() {
        let error = Id::from_json(&json!(0)).unwrap_err();
        let text = "object matches none of the required (expected 0 to be at least 1)";
        assert_eq!(format!("{error:#}"), text);
    }

    #[test]
    fn items_without_an_id_are_numbered_from_one() {
        assert_eq!(Id::from_position(0).as_str(), "arr_1");
    }
}
