//! How stored resources and a file's differ, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use similar::TextDiff;

use super::texts;

/// Lines of context around a difference.
const CONTEXT: usize = 3;

/// The differences, resource by resource; empty when there are none. `done` is a dry run's answer.
pub(super) fn text(
    done: &Value,
    stored: &BTreeMap<&str, &Value>,
    given: &BTreeMap<String, Value>,
) -> String {
    let mut changed: Vec<&str> =
        ["deleted", "updated", "created"].into_iter().flat_map(|what| texts(done, what)).collect();
    changed.sort_unstable();
    let lines = |value: Option<&Value>| {
        let value = value.and_then(|value| serde_json::to_string_pretty(value).ok());
        value.map_or_else(String::new, |text| text + "\n")
    };
    let mut text = String::new();
    for key in changed {
        let before = lines(stored.get(key).copied());
        let after = lines(given.get(key));
        text.push_str("@@ ");
        text.push_str(key);
        text.push_str(" @@\n");
        let diff = TextDiff::from_lines(&before, &after);
        for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
            for change in hunk.iter_changes() {
                // Writing to a String cannot fail.
                let _ = write!(text, "{}{}", change.tag(), change.value());
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shows_each_resource_that_differs() {
        let done = json!({
            "created": ["routes/2"], "updated": ["routes/1"], "deleted": ["routes/0"],
        });
        let old = json!({"uri": "/", "desc": "a"});
        let stored = BTreeMap::from([("routes/0", &old), ("routes/1", &old)]);
        let given = BTreeMap::from([
            ("routes/1".to_owned(), json!({"uri": "/", "desc": "b"})),
            ("routes/2".to_owned(), json!({"uri": "/2"})),
        ]);
        let expected = "@@ routes/0 @@\n-{\n-  \"desc\": \"a\",\n-  \"uri\": \"/\"\n-}\n\
                        @@ routes/1 @@\n {\n-  \"desc\": \"a\",\n+  \"desc\": \"b\",\n   \"uri\": \"/\"\n }\n\
                        @@ routes/2 @@\n+{\n+  \"uri\": \"/2\"\n+}\n";
        assert_eq!(text(&done, &stored, &given), expected);
        assert_eq!(text(&json!({}), &stored, &given), "");
    }
}
