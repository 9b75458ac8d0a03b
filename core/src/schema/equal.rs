//! Equality of JSON values: numbers by value, so that 1 equals 1.0.

use std::collections::HashMap;

use serde_json::{Number, Value};

/// Whether two values are equal.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64()
}

/// The first two equal items, counted from 0: scalars before arrays and objects, the lowest
/// positions first. Takes time in proportion to the size of the items.
pub(super) fn duplicates(items: &[Value]) -> Option<(usize, usize)> {
    let is_table = |value: &Value| matches!(value, Value::Array(_) | Value::Object(_));
    // The usual few methods or hosts need no map.
    if items.len() <= 8 && !items.iter().any(is_table) {
        let first =
            |index: usize| (0..index).find(|earlier| equal(&items[*earlier], &items[index]));
        return (1..items.len()).find_map(|index| Some((first(index)?, index)));
    }
    let mut first = HashMap::with_capacity(items.len());
    for (index, value) in items.iter().enumerate().filter(|(_, value)| !is_table(value)) {
        if let Some(earlier) = first.insert(canonical(value), index) {
            return Some((earlier, index));
        }
    }
    let mut first = HashMap::new();
    let mut lowest: Option<(usize, usize)> = None;
    for (index, value) in items.iter().enumerate().filter(|(_, value)| is_table(value)) {
        let earlier = *first.entry(canonical(value)).or_insert(index);
        if earlier != index {
            let pair = (earlier, index);
            lowest = Some(lowest.map_or(pair, |known| known.min(pair)));
        }
    }
    lowest
}

/// A text that equal values share and no others.
fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => match number.as_f64() {
            // 1.0 and 1 are equal.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e18 => {
                out.push_str(&(float as i64).to_string());
            }
            _ => out.push_str(&number.to_string()),
        },
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push('[');
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                out.push('{');
                out.push_str(&Value::from(name.as_str()).to_string());
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_compared_by_value() {
        assert!(equal(&json!({"a": [1, 2.0]}), &json!({"a": [1.0, 2]})));
        assert!(!equal(&json!(1), &json!("1")));
        assert!(!equal(&json!([]), &json!([{}])));
        assert!(!equal(&json!([]), &json!({})));
    }

    #[test]
    fn the_first_duplicates_are_found() {
        let find = |value: Value| duplicates(value.as_array().unwrap());
        assert_eq!(find(json!([1, "1", true, null])), None);
        assert_eq!(find(json!([[1], {"a": 1}, "x", "x"])), Some((2, 3)));
        assert_eq!(find(json!([1, 2, 1.0])), Some((0, 2)));
        assert_eq!(find(json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 3.0, 1])), Some((2, 9)));
        assert_eq!(find(json!([{"b": 2}, {"a": 1}, {"a": 1}, {"b": 2}])), Some((0, 3)));
    }

    proptest! {
        #[test]
        fn equal_values_are_duplicates(
            a in crate::schema::tests::any_json(), b in crate::schema::tests::any_json(),
        ) {
            let found = duplicates(&[a.clone(), b.clone()]).is_some();
            prop_assert_eq!(found, equal(&a, &b));
        }
    }
}
