use serde_json::json;

use super::*;

fn error(value: &Value) -> String {
    Route::from_json(value).unwrap_err().to_string()
}

/// A valid route with the fields of `extra` over it.
fn with(extra: Value) -> Value {
    let mut route = json!({"uri": "/a", "upstream_id": 1});
    let Value::Object(extra) = extra else { panic!("not an object") };
    route.as_object_mut().unwrap().extend(extra);
    route
}

#[test]
fn takes_every_supported_field() {
    let route = Route::from_json(&json!({
        "id": 5, "name": "n", "desc": "", "labels": {"team": "a"}, "create_time": 1,
        "update_time": 2, "uris": ["/a/*", "/b"], "hosts": ["Foo.com", "*.BAR.com"],
        "methods": ["GET", "PURGE"], "priority": -3, "status": 0,
        "timeout": {"connect": 1, "send": 0.5, "read": 3}, "enable_websocket": true,
        "upstream": {"nodes": {"127.0.0.1:80": 1}}, "plugins": {}, "vars": [],
    }))
    .unwrap();
    assert_eq!(route.meta.id.as_ref().unwrap().as_str(), "5");
    assert_eq!(route.hosts, ["foo.com", "*.bar.com"]);
    assert_eq!(route.methods, ["GET", "PURGE"]);
    assert_eq!((route.priority, route.status), (-3, Status::Disabled));
    let send = route.timeout.unwrap().compile().send;
    assert_eq!(send, std::time::Duration::from_millis(500));
    assert_eq!(route.enable_websocket, Some(true));
    assert_eq!(route.uris.len(), 2);
}

#[test]
fn survives_a_round_trip_through_json() {
    let route = Route::from_json(&with(json!({"host": "a.com", "priority": 2}))).unwrap();
    let json = serde_json::to_value(&route).unwrap();
    assert_eq!(serde_json::from_value::<Route>(json).unwrap(), route);
}

#[test]
fn keeps_what_it_cannot_honour_and_names_it() {
    let cases = [
        ("filter_func", json!("function() end"), "filter_func"),
        ("script", json!("return {} -- nothing"), "script"),
        ("script_id", json!(1), "script_id"),
    ];
    for (name, value, field) in cases {
        let route = Route::from_json(&with(json!({name: value}))).unwrap();
        let expected = format!(
            "property \"{field}\" validation failed: \"{field}\" is not supported yet by this version"
        );
        assert_eq!(route.unsupported(), Some(expected));
        let written = serde_json::to_value(&route).unwrap();
        assert_eq!(Route::from_json(&written), Ok(route));
    }
    let nested = json!({"upstream": {"nodes": {}, "scheme": "udp"}});
    assert_eq!(
        Route::from_json(&with(nested)).unwrap().unsupported().unwrap(),
        "property \"upstream\" validation failed: property \"scheme\" validation failed: \
         \"udp\" is not supported yet by this version"
    );
}

#[test]
fn conditions_are_compiled() {
    for (name, value) in [
        ("vars", json!([["arg_a", "==", "1"]])),
        ("remote_addr", json!("10.0.0.1")),
        ("remote_addrs", json!(["10.0.0.0/8", "::1", "fe80::/10"])),
    ] {
        let route = Route::from_json(&with(json!({name: value}))).unwrap();
        assert_eq!(route.unsupported(), None);
        assert!(route.conditions().unwrap().is_some(), "{name}");
        let written = serde_json::to_value(&route).unwrap();
        assert_eq!(Route::from_json(&written), Ok(route));
    }
    let error = Route::from_json(&with(json!({"vars": [["arg_a", "=", "1"]]}))).unwrap_err();
    assert_eq!(error.to_string(), "vars: invalid operator '='");
    assert_eq!(Route::from_json(&with(json!({}))).unwrap().conditions(), Ok(None));
}

#[test]
fn what_changes_nothing_is_supported() {
    let extra = json!({"plugins": {}, "vars": [], "service_id": 1, "plugin_config_id": "c",
        "methods": [], "labels": {"a": "b"}});
    let route = Route::from_json(&with(extra)).unwrap();
    assert_eq!(route.unsupported(), None);
    assert_eq!(route.service_id.unwrap().as_str(), "1");
    assert_eq!(route.plugin_config_id.unwrap().as_str(), "c");
}

#[test]
fn keeps_plugins_as_written() {
    let plugins = json!({"key-auth": {"header": "x"}, "other": 1});
    let route = Route::from_json(&json!({"uri": "/a", "plugins": plugins})).unwrap();
    assert_eq!(Value::Object(route.plugins), plugins);
}

#[test]
fn refuses_in_the_words_of_apisix() {
    let cases = [
        (json!({"nope": 1}), "additional properties forbidden, found nope"),
        (
            json!({"uri": ""}),
            "property \"uri\" validation failed: string too short, expected at least 1, got 0",
        ),
        (
            json!({"uri": 1}),
            "property \"uri\" validation failed: wrong type: expected string, got number",
        ),
        (
            json!({"name": "x".repeat(257)}),
            "property \"name\" validation failed: string too long, expected at most 256, got 257",
        ),
        (
            json!({"labels": "a"}),
            "property \"labels\" validation failed: wrong type: expected object, got string",
        ),
        (
            json!({"labels": {"env": ["a"]}}),
            "property \"labels\" validation failed: failed to validate env (matching \".*\"): \
             wrong type: expected string, got table",
        ),
        (
            json!({"methods": ["get"]}),
            "property \"methods\" validation failed: failed to validate item 1: matches none of \
             the enum values",
        ),
        (
            json!({"hosts": []}),
            "property \"hosts\" validation failed: expect array to have at least 1 items",
        ),
        (
            json!({"hosts": ["a", "b", "a"]}),
            "property \"hosts\" validation failed: expected unique items but items 1 and 3 are \
             equal",
        ),
        (
            json!({"host": "a b"}),
            "property \"host\" validation failed: failed to match pattern \
             \"^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$\" with \"a b\"",
        ),
        (json!({"host": "a", "hosts": ["b"]}), "only one of host or hosts is allowed"),
        (
            json!({"status": 2}),
            "property \"status\" validation failed: matches none of the enum values",
        ),
        (
            json!({"priority": "1"}),
            "property \"priority\" validation failed: wrong type: expected integer, got string",
        ),
        (
            json!({"timeout": {"connect": 0, "send": 1, "read": 1}}),
            "property \"timeout\" validation failed: property \"connect\" validation failed: \
             expected 0 to be greater than 0",
        ),
        (
            json!({"uris": ["/b"]}),
            "allOf 1 failed: value should match only one schema, but matches both schemas 1 and 2",
        ),
        (
            json!({"upstream_id": "a/b"}),
            "property \"upstream_id\" validation failed: object matches none of the required",
        ),
    ];
    for (extra, expected) in cases {
        assert_eq!(error(&with(extra)), expected);
    }
    let none = "allOf 1 failed: value should match only one schema, but matches none";
    assert_eq!(error(&json!({"upstream_id": 1})), none);
    assert_eq!(error(&json!([1])), "wrong type: expected object, got table");
}

#[test]
fn refuses_conditions_in_the_words_of_apisix() {
    let cases = [
        (
            json!({"remote_addr": "127.0.0."}),
            "property \"remote_addr\" validation failed: object matches none of the required",
        ),
        (
            json!({"remote_addrs": ["::1", "10.0.0.0/33"]}),
            "property \"remote_addrs\" validation failed: failed to validate item 2: object \
             matches none of the required",
        ),
        (
            json!({"remote_addr": "::1", "remote_addrs": ["::1"]}),
            "only one of remote_addr or remote_addrs is allowed",
        ),
        (
            json!({"vars": "a"}),
            "property \"vars\" validation failed: wrong type: expected array, got string",
        ),
        (
            json!({"filter_func": "func() return 1 end"}),
            "property \"filter_func\" validation failed: failed to match pattern \"^function\" \
             with \"func() return 1 end\"",
        ),
        (
            json!({"script": "local _M = {} return _M", "plugins": {"a": {}}}),
            "value wasn't supposed to match schema",
        ),
        (
            json!({"script": "local _M = {} return _M", "plugin_config_id": 1}),
            "value wasn't supposed to match schema",
        ),
    ];
    for (extra, expected) in cases {
        assert_eq!(error(&with(extra)), expected);
    }
}

#[test]
fn requires_a_place_to_go() {
    let text = error(&json!({"uri": "/a"}));
    assert!(
        text.starts_with(
            "object matches none of the required: [\"plugins\",\"uri\"] or [\"upstream\",\"uri\"]"
        ),
        "{text}"
    );
}
