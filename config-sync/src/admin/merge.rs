//! What PATCH does to a stored value.

use serde_json::{Map, Value};

/// Merges `change` into `value`: null deletes, objects are merged, everything else replaces what
/// was there. As in APISIX an empty object replaces too.
pub(crate) fn merge(value: &mut Map<String, Value>, change: Map<String, Value>) {
    for (name, new) in change {
        match (value.get_mut(&name), new) {
            (_, Value::Null) => {
                value.remove(&name);
            }
            (Some(Value::Object(old)), Value::Object(new)) if !new.is_empty() => merge(old, new),
            (_, Value::Object(new)) => {
                let mut fresh = Map::new();
                merge(&mut fresh, new);
                value.insert(name, Value::Object(fresh));
            }
            (_, other) => {
                value.insert(name, other);
            }
        }
    }
}

/// Replaces the node at `path` (not empty) by `new`; objects on the way are created. The error
/// names the part of the path that is no object.
pub(crate) fn replace(
    value: &mut Map<String, Value>,
    path: &[String],
    new: Value,
) -> Result<(), String> {
    let Some((last, way)) = path.split_last() else {
        return Err("invalid sub-path: /".to_owned());
    };
    let mut node = value;
    for (position, name) in way.iter().enumerate() {
        let next = node.entry(name.as_str()).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(next) = next else {
            return Err(format!("invalid sub-path: /{}", path[..=position].join("/")));
        };
        node = next;
    }
    node.insert(last.clone(), new);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn objects_merge_and_the_rest_replaces() {
        let mut value = map(json!({
            "nodes": {"a:80": 1, "b:80": 2}, "methods": ["GET"], "name": "x", "labels": {"k": "v"},
        }));
        merge(
            &mut value,
            map(json!({
                "nodes": {"a:80": null, "c:80": 3}, "methods": ["POST"], "name": null,
                "labels": {}, "new": {"deep": null, "kept": 1},
            })),
        );
        let expected = json!({
            "nodes": {"b:80": 2, "c:80": 3}, "methods": ["POST"], "labels": {}, "new": {"kept": 1},
        });
        assert_eq!(Value::Object(value), expected);
    }

    #[test]
    fn arrays_and_objects_replace_each_other() {
        let mut value = map(json!({"nodes": {"a:80": 1}, "list": [1, 2]}));
        merge(&mut value, map(json!({"nodes": [{"host": "a"}], "list": {"a": 1}})));
        let expected = json!({"nodes": [{"host": "a"}], "list": {"a": 1}});
        assert_eq!(Value::Object(value), expected);
    }

    #[test]
    fn a_sub_path_replaces_one_node() {
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let mut value = map(json!({"upstream": {"nodes": {"a:80": 1}}, "uris": ["/a"]}));
        replace(&mut value, &path("upstream/nodes"), json!({"b:80": 1})).unwrap();
        replace(&mut value, &path("labels/env"), json!("test")).unwrap();
        replace(&mut value, &path("uris"), json!(["/b"])).unwrap();
        let expected = json!({
            "upstream": {"nodes": {"b:80": 1}}, "uris": ["/b"], "labels": {"env": "test"},
        });
        assert_eq!(Value::Object(value.clone()), expected);
        let error = replace(&mut value, &path("uris/0/x"), json!(1)).unwrap_err();
        assert_eq!(error, "invalid sub-path: /uris");
        assert!(replace(&mut value, &[], json!(1)).is_err());
    }
}
