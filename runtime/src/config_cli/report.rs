//! Answers of the Admin API as lines for people.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::Value;

use super::texts;

/// What a transaction or a rollback has done.
pub(super) fn done(answer: &Value) -> String {
    let mut text = String::new();
    let mut counts = Vec::new();
    for what in ["created", "updated", "deleted"] {
        for key in texts(answer, what) {
            let _ = writeln!(text, "{what} {key}");
        }
        counts.push(format!("{} {what}", texts(answer, what).count()));
    }
    let (revision, unchanged) = (&answer["revision"], answer["unchanged"].as_u64().unwrap_or(0));
    let dry = if answer["dry_run"] == true { "dry run, nothing was written; at " } else { "" };
    let _ =
        writeln!(text, "{dry}revision {revision}: {}, {unchanged} unchanged", counts.join(", "));
    text
}

/// A list of revisions.
pub(super) fn history(answer: &Value) -> String {
    let mut text = String::new();
    for entry in answer["list"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{}", head(entry));
        let changes = entry["changes"].as_array().map_or(&[][..], Vec::as_slice);
        for change in changes {
            let _ = writeln!(text, "    {}", one_change(change));
        }
        let total = entry["changes_total"].as_u64().unwrap_or(0);
        let more = total.saturating_sub(changes.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "    and {more} more");
        }
    }
    if let Some(next) = answer["next_before"].as_u64() {
        let _ = writeln!(text, "older ones: --before {next}");
    }
    text
}

/// One revision with its values.
pub(super) fn entry(entry: &Value) -> String {
    let mut text = format!("{}\n", head(entry));
    for change in entry["changes"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{}", one_change(change));
        for (sign, name) in [('-', "before"), ('+', "after")] {
            if !change[name].is_null() {
                let value = serde_json::to_string_pretty(&change[name]).unwrap_or_default();
                value.lines().for_each(|line| {
                    let _ = writeln!(text, "  {sign} {line}");
                });
            }
        }
        if change["hidden_changed"] == true {
            let _ = writeln!(text, "  a hidden value has changed");
        }
    }
    text
}

fn one_change(change: &Value) -> String {
    let text = |name: &str| change[name].as_str().unwrap_or("?").to_owned();
    format!("{} {}", text("action"), text("key"))
}

/// `revision 7  2026-01-01T00:00:00Z  admin from 127.0.0.1`.
fn head(entry: &Value) -> String {
    let at = entry["time_ms"].as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(|| "?".to_owned(), |at| at.to_string());
    let author = &entry["author"];
    let who = match (author["name"].as_str(), author["address"].as_str()) {
        (Some(name), Some("") | None) => name.to_owned(),
        (Some(name), Some(address)) => format!("{name} from {address}"),
        (None, _) => "not through Osmia".to_owned(),
    };
    format!("revision {}  {at}  {who}", entry["revision"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_done_is_counted() {
        let answer = json!({
            "dry_run": false, "revision": 7, "created": ["routes/1"], "updated": [],
            "deleted": ["routes/2"], "unchanged": 3,
        });
        let text = "created routes/1\ndeleted routes/2\n\
                    revision 7: 1 created, 0 updated, 1 deleted, 3 unchanged\n";
        assert_eq!(done(&answer), text);
        let text = done(&json!({"dry_run": true, "revision": 7}));
        assert!(text.starts_with("dry run, nothing was written; at revision 7"), "{text}");
    }

    #[test]
    fn the_history_has_times_and_names() {
        let change = json!({"key": "routes/1", "action": "updated"});
        let answer = json!({
            "list": [
                {"revision": 2, "time_ms": 1500, "author": {"name": "a", "address": "::1"},
                 "changes": [change], "changes_total": 3},
                {"revision": 1, "time_ms": 0, "author": null, "changes": []},
            ],
            "next_before": 1,
        });
        let text = "revision 2  1970-01-01T00:00:01.5Z  a from ::1\n    updated routes/1\n    \
                    and 2 more\nrevision 1  1970-01-01T00:00:00Z  not through Osmia\n\
                    older ones: --before 1\n";
        assert_eq!(history(&answer), text);
    }

    #[test]
    fn a_revision_is_shown_with_its_values() {
        let answer = json!({
            "revision": 2, "time_ms": 0, "author": {"name": "a", "address": ""},
            "changes": [{"key": "ssls/1", "action": "updated", "before": {"a": 1}, "after": {"a": 2},
                         "hidden_changed": true}],
        });
        let text = "revision 2  1970-01-01T00:00:00Z  a\nupdated ssls/1\n  - {\n  -   \"a\": 1\n  - }\n\
                    \x20 + {\n  +   \"a\": 2\n  + }\n  a hidden value has changed\n";
        assert_eq!(entry(&answer), text);
    }
}
