use serde_json::json;

use super::*;

fn descriptor(name: &'static str, priority: i32) -> Descriptor {
    Descriptor {
        name,
        priority,
        stream: false,
        schema: json!({"type": "object", "properties": {}}),
        consumer_schema: None,
        metadata_schema: None,
        check: None,
    }
}

/// Plugins with one peculiarity each: `count` has a schema with defaults, `key` authenticates,
/// `both` works in streams and has metadata, `fussy` checks more than its schema.
pub(crate) fn some() -> Registry {
    let count = Descriptor {
        schema: json!({
            "type": "object",
            "properties": {
                "count": {"type": "integer", "minimum": 0},
                "policy": {"type": "string", "enum": ["local", "redis"], "default": "local"},
                "redis": {"type": "object"},
            },
            "required": ["count"],
            "encrypt_fields": ["redis.password", "redis.others"],
        }),
        ..descriptor("count", 1002)
    };
    let key = Descriptor {
        schema: json!({"type": "object", "properties": {"header": {"type": "string"}}}),
        consumer_schema: Some(json!({
            "type": "object", "properties": {"key": {"type": "string"}},
            "required": ["key"], "encrypt_fields": ["key"],
        })),
        ..descriptor("key", 2500)
    };
    let both = Descriptor {
        stream: true,
        metadata_schema: Some(json!({
            "type": "object",
            "properties": {"level": {"type": "integer", "default": 3}, "token": {"type": "string"}},
            "additionalProperties": false,
            "encrypt_fields": ["token"],
        })),
        ..descriptor("both", 100)
    };
    let fussy = Descriptor {
        check: Some(|conf, place| match conf.get("word") {
            Some(word) if place == Place::Http => Err(format!("{word} is not allowed")),
            _ => Ok(()),
        }),
        ..descriptor("fussy", 7)
    };
    Registry::new(vec![both, fussy, key, count]).unwrap()
}

#[test]
fn plugins_are_found_and_ordered_by_priority() {
    let registry = some();
    let names: Vec<&str> = registry.iter().map(|plugin| plugin.name).collect();
    assert_eq!(names, ["key", "count", "both", "fussy"]);
    assert_eq!(registry.get("count").unwrap().priority, 1002);
    assert!(registry.get("other").is_none());
    assert_eq!(format!("{registry:?}"), r#"["key", "count", "both", "fussy"]"#);
}

#[test]
fn each_place_has_its_schema() {
    let registry = some();
    let check = |name, place, mut conf: Value| {
        let outcome = registry.check(name, place, &mut conf).unwrap();
        outcome.map(|()| conf)
    };
    assert_eq!(
        check("count", Place::Http, json!({"count": 1})),
        Ok(json!({"count": 1, "policy": "local"}))
    );
    let missing = Err("property \"count\" is required".to_owned());
    assert_eq!(check("count", Place::Consumer, json!({})), missing);
    assert_eq!(check("key", Place::Http, json!({})), Ok(json!({})));
    let missing = Err("property \"key\" is required".to_owned());
    assert_eq!(check("key", Place::Consumer, json!({})), missing);
    assert_eq!(check("both", Place::Metadata, json!({})), Ok(json!({"level": 3})));
    let any = json!({"any": 1});
    assert_eq!(check("key", Place::Metadata, any.clone()), Ok(any));
    let wrong = check("fussy", Place::Http, json!({"word": "x"}));
    assert_eq!(wrong, Err("\"x\" is not allowed".to_owned()));
    assert!(check("fussy", Place::Stream, json!({"word": "x"})).is_ok());
    assert!(registry.check("other", Place::Http, &mut json!({})).is_none());
}

#[test]
fn every_plugin_takes_meta() {
    let registry = some();
    let meta =
        |meta: Value| registry.check("both", Place::Http, &mut json!({"_meta": meta})).unwrap();
    let full = json!({"disable": true, "priority": 5, "filter": [], "error_response": "no",
        "pre_function": "return function() end"});
    assert_eq!(meta(full), Ok(()));
    assert!(meta(json!({"disable": "yes"})).unwrap_err().contains("wrong type"));
    assert!(meta(json!({"other": 1})).unwrap_err().contains("additional properties forbidden"));
    assert!(registry.get("both").unwrap().schema.pointer("/properties/_meta").is_some());
}

#[test]
fn encrypted_fields_depend_on_the_place() {
    let registry = some();
    let fields = |name, place| {
        registry.get(name).unwrap().encrypt_fields(place).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(fields("key", Place::Consumer), ["key"]);
    assert!(fields("key", Place::Http).is_empty());
    assert_eq!(fields("count", Place::Consumer), ["redis.password", "redis.others"]);
    assert_eq!(fields("both", Place::Metadata), ["token"]);
    assert!(fields("fussy", Place::Metadata).is_empty());
}

#[test]
fn what_cannot_be_registered_is_refused() {
    let error = |plugins| Registry::new(plugins).unwrap_err().to_string();
    let twice = error(vec![descriptor("a", 1), descriptor("a", 2)]);
    assert_eq!(twice, "plugin a: registered twice");
    let meta = Descriptor {
        schema: json!({"type": "object", "properties": {"_meta": {}}}),
        ..descriptor("a", 1)
    };
    assert_eq!(error(vec![meta]), "plugin a: its schema has a field \"_meta\"");
    let odd = Descriptor {
        metadata_schema: Some(json!({"type": "object", "properties": 1})),
        ..descriptor("a", 1)
    };
    assert!(error(vec![odd]).starts_with("plugin a: "));
}
