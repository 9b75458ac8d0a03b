//! YAML as JSON values.

use serde::Deserialize;
use serde_json::Value;

/// Most nodes of a document: 100,000 routes of some 40 nodes each, and room.
const NODES_MAX: usize = 10_000_000;
/// Most nodes that aliases may add, so that a small file cannot expand into gigabytes.
const ALIAS_NODES_MAX: usize = 100_000;

/// Parses one document; an empty one is `null`. The error is one line with line and column.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    stream(text, |deserializer| Value::deserialize(deserializer))
}

/// Reads one document with `read`, under the same limits.
pub(crate) fn stream<'t, T>(
    text: &'t str,
    read: impl for<'e> FnOnce(serde_saphyr::Deserializer<'t, 'e>) -> Result<T, serde_saphyr::Error>,
) -> Result<T, String> {
    serde_saphyr::with_deserializer_from_str_with_options(text, options(), read)
        .map_err(|error| error.to_string())
}

fn options() -> serde_saphyr::Options {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_nodes = NODES_MAX;
    budget.max_events = 2 * NODES_MAX;
    let mut aliases = serde_saphyr::options::AliasLimits::default();
    aliases.max_total_replayed_events = ALIAS_NODES_MAX;
    serde_saphyr::options! {
        budget: Some(budget),
        alias_limits: aliases,
        with_snippet: false,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn reads_scalars_as_yaml_types_them() {
        let text = "a: 1\nb: '1'\nc: true\nd: ~\ne: 1.5\nf: 60s\n9080: [x]\n";
        let expected =
            json!({"a": 1, "b": "1", "c": true, "d": null, "e": 1.5, "f": "60s", "9080": ["x"]});
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("# nothing\n").unwrap(), Value::Null);
    }

    #[test]
    fn errors_are_one_line_with_a_position() {
        for text in ["a: [1,\n", "a: 1\na: 2\n", "a:\n\t- x\n", "a: 1\n---\nb: 1\n"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("line") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn alias_bombs_and_deep_nesting_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(",");
            writeln!(bomb, "a{level}: &a{level} [{aliases}]").unwrap();
        }
        assert!(parse(&bomb).is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
