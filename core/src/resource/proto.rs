//! Protocol buffer definitions for gRPC transcoding (admin-api.md, "Proto").

use serde_json::Value;

use super::fields;
use super::{Meta, Violation};

/// Longest `content`, in characters.
const CONTENT_CHARS: usize = 1024 * 1024;

/// A definition as configured.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Proto {
    /// Id, name, description, labels, times.
    #[serde(flatten)]
    pub meta: Meta,
    /// `content`: the text of a `.proto` file, or a `FileDescriptorSet` in base64.
    pub content: String,
}

fields::from_value!(Proto);

impl Proto {
    /// Checks a JSON object and takes the definition from it. The content is compiled by
    /// [`Rules::check`](crate::rules::Rules::check).
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let mut proto = Self::default();
        fields::each(map, |name, value| match name {
            "content" => {
                fields::bounded(value, 1, CONTENT_CHARS)?.clone_into(&mut proto.content);
                Ok(true)
            }
            _ => proto.meta.take(name, value),
        })?;
        if proto.content.is_empty() { Err(Violation::Missing("content")) } else { Ok(proto) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn content_is_required() {
        let proto = Proto::from_json(&json!({"id": "1", "content": "syntax = \"proto3\";"}));
        assert_eq!(proto.unwrap().content, "syntax = \"proto3\";");
        let error = Proto::from_json(&json!({"id": 1})).unwrap_err();
        assert_eq!(error.to_string(), "property \"content\" is required");
        assert_eq!(
            Proto::from_json(&json!({"content": ""})).unwrap_err().to_string(),
            "property \"content\" validation failed: string too short, expected at least 1, got 0"
        );
    }
}
