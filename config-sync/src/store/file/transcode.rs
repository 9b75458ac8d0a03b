//! From whatever a deserializer brings to compact JSON text, without a value tree in between:
//! 100,000 routes are read in one pass.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

/// Appends one value.
pub(super) struct Json<'b>(pub(super) &'b mut Vec<u8>);

/// Appends one key of a map.
pub(super) struct JsonKey<'b>(pub(super) &'b mut Vec<u8>);

/// Appends a number or a string.
fn push<E: Error>(out: &mut Vec<u8>, value: impl serde::Serialize) -> Result<(), E> {
    serde_json::to_writer(out, &value).map_err(E::custom)
}

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> DeserializeSeed<'de> for JsonKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for JsonKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        push(self.0, text)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        push(self.0, value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        push(self.0, value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        push(self.0, value)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<(), E> {
        push(self.0, value as f64)
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<(), E> {
        push(self.0, value as f64)
    }

    /// JSON has no infinities; they become `null`, as in a value tree.
    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        push(self.0, value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        push(self.0, value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        self.deserialize(inner)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        self.deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self(out) = self;
        out.push(b'[');
        let mut end = out.len();
        while items.next_element_seed(Json(out))?.is_some() {
            end = out.len();
            out.push(b',');
        }
        out.truncate(end);
        out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(out) = self;
        out.push(b'{');
        let mut end = out.len();
        while map.next_key_seed(JsonKey(out))?.is_some() {
            out.push(b':');
            map.next_value_seed(Json(out))?;
            end = out.len();
            out.push(b',');
        }
        out.truncate(end);
        out.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn transcoded(value: &Value) -> String {
        let mut out = Vec::new();
        Json(&mut out).deserialize(value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn all_types_and_empty_ones() {
        let value = json!({
            "a": [], "b": {}, "c": [1, -1, 1.5, true, null, "x\"\n\u{e9}"], "d": {"e": {"f": [{}]}},
            "g": u64::MAX,
        });
        assert_eq!(serde_json::from_str::<Value>(&transcoded(&value)).unwrap(), value);
        assert_eq!(transcoded(&json!({"a": [1, 2], "b": ""})), r#"{"a":[1,2],"b":""}"#);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(".{0,3}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn means_what_it_was_made_from(value in any_json()) {
            prop_assert_eq!(serde_json::from_str::<Value>(&transcoded(&value)).unwrap(), value);
        }
    }
}
