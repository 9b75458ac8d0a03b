use serde_json::json;

use super::*;

fn none(_: &str) -> Option<String> {
    None
}

fn yaml(text: &str) -> Result<Document, LoadError> {
    Document::parse(text, FileFormat::Yaml, &none)
}

fn json(text: &str) -> Result<Document, LoadError> {
    Document::parse(text, FileFormat::Json, &none)
}

fn error(text: &str) -> String {
    yaml(text).unwrap_err().to_string()
}

/// Paths and texts.
fn contents(document: &Document) -> Vec<(&str, &str)> {
    let text = |resource| std::str::from_utf8(resource).unwrap();
    document.resources.iter().map(|one| (one.path.as_str(), text(&one.value[..]))).collect()
}

#[test]
fn reads_all_collections_sorted_by_path() {
    let document = yaml(
        "routes:\n  - id: r\n    uri: /a\n    upstream_id: 7\n  - uri: /b\n\
         upstreams: [{id: 7, nodes: {}}]\nconsumers: [{username: jack}]\n\
         secrets: [{id: vault/1}]\nplugins:\n  - name: a\n  - name: b\n    stream: true\n\
         plugin_metadata: [{id: x, a: 1}]\nroutes_conf_version: 3\nservices: []\n\
         protos:\nssls: {}\n#END\n",
    )
    .unwrap();
    assert_eq!(
        contents(&document),
        [
            ("consumers/jack", r#"{"username":"jack"}"#),
            ("plugin_metadata/x", r#"{"a":1,"id":"x"}"#),
            ("plugins", r#"[{"name":"a"},{"name":"b","stream":true}]"#),
            ("routes/arr_2", r#"{"uri":"/b","id":"arr_2"}"#),
            ("routes/r", r#"{"uri":"/a","upstream_id":7,"id":"r"}"#),
            ("secrets/vault/1", r#"{"id":"vault/1"}"#),
            ("upstreams/7", r#"{"nodes":{},"id":"7"}"#),
        ]
    );
    assert!(document.warnings.is_empty(), "{:?}", document.warnings);
    assert_eq!(document.versions, HashMap::from([("routes", 3.0)]));
}

#[test]
fn yaml_needs_the_end_marker() {
    for complete in ["#END", "#END\n", "routes:\n#END \n\n", "routes: [] #END\r\n"] {
        assert!(yaml(complete).is_ok(), "{complete:?}");
    }
    for partial in ["", "routes: []\n", "#END\nroutes: []\n", "#EN"] {
        assert!(matches!(yaml(partial), Err(LoadError::Incomplete)), "{partial:?}");
    }
}

#[test]
fn json_means_the_same() {
    let text = json!({"routes": [{"uri": "/a"}, {"id": 1, "uri": "/b"}], "upstreams": {}});
    let document = json(&text.to_string()).unwrap();
    assert_eq!(
        contents(&document),
        [
            ("routes/1", r#"{"uri":"/b","id":"1"}"#),
            ("routes/arr_1", r#"{"uri":"/a","id":"arr_1"}"#),
        ]
    );
    for bad in ["", "{", "{} x", "{\"routes\": [}", "[1"] {
        let error = json(bad).unwrap_err();
        assert!(matches!(error, LoadError::Syntax { .. } | LoadError::Key { .. }), "{error}");
    }
    assert!(json("nothing").unwrap_err().to_string().starts_with("not valid JSON: "));
}

#[test]
fn variables_are_replaced_before_yaml_and_after_json() {
    let env = |name: &str| (name == "URI").then(|| "/a\n    priority: 3".to_owned());
    let text = "routes:\n  - uri: ${{URI}}\n    upstream_id: '${{ID:=4}}'\n#END";
    let document = Document::parse(text, FileFormat::Yaml, &env).unwrap();
    let text = r#"{"uri":"/a","priority":3,"upstream_id":"4","id":"arr_1"}"#;
    assert_eq!(contents(&document), [("routes/arr_1", text)]);
    let text = r#"{"routes": [{"uri": "/${{NAME:=x}}", "priority": "${{P:=3}}"}]}"#;
    let document = json(text).unwrap();
    let text = r#"{"priority":3,"uri":"/x","id":"arr_1"}"#;
    assert_eq!(contents(&document), [("routes/arr_1", text)]);
    assert!(error("x: ${{NO}}\n#END").contains("NO is not set"));
    assert!(json(r#"{"routes": ["${{NO}}"]}"#).unwrap_err().to_string().contains("NO is not set"));
}

#[test]
fn items_that_are_wrong_are_passed_on() {
    let document = yaml("routes:\n  - 1\n  - {uri: 3, nonsense: [a]}\n#END").unwrap();
    assert_eq!(
        contents(&document),
        [("routes/arr_1", "1"), ("routes/arr_2", r#"{"uri":3,"nonsense":["a"],"id":"arr_2"}"#),]
    );
}

#[test]
fn the_later_of_two_equal_ids_wins() {
    let text = "routes:\n  - {id: 1, uri: /a}\n  - {id: 2, uri: /b}\n  - {id: \"1\", uri: /c}\n\
                #END";
    let document = yaml(text).unwrap();
    assert_eq!(
        contents(&document),
        [("routes/1", r#"{"uri":"/c","id":"1"}"#), ("routes/2", r#"{"uri":"/b","id":"2"}"#)]
    );
    assert_eq!(document.warnings, ["routes/1: replaces an earlier one with the same id"]);
}

#[test]
fn what_is_left_out_or_cannot_match_is_reported() {
    let document = yaml(
        "rouets: []\nrouetz: [1]\nsecrets: [{id: x}]\nupstreams_conf_version: x\n\
         odd_conf_version: 1\nroutes: [{id: 1, uri: a, host: 'h:80'}]\n#END",
    )
    .unwrap();
    let mut warnings = document.warnings;
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "rouetz: unknown key, left out",
            "routes[0] (id \"1\"): host \"h:80\" never matches: hosts are compared without the port",
            "routes[0] (id \"1\"): uri \"a\" never matches: paths start with /",
            "secrets[0] (id \"x\"): left out: the id must be {manager}/{id}, such as vault/1",
            "upstreams_conf_version: not a number, left out",
        ]
    );
}

#[test]
fn refuses_other_shapes() {
    for text in ["- a\n#END", "a\n#END", "1\n#END", "true\n#END", "1.5\n#END"] {
        assert_eq!(error(text), "top level: expected keys such as routes and upstreams", "{text}");
    }
    for value in ["{a: 1}", "x", "1", "-1", "true", "1.5"] {
        let text = format!("routes: {value}\n#END");
        assert_eq!(error(&text), "routes: expected a list", "{value}");
    }
    assert!(error("routes: [\n#END").starts_with("not valid YAML: "));
    assert!(error("routes: []\nroutes: []\n#END").starts_with("not valid YAML: "));
    assert_eq!(yaml("#END").unwrap(), Document::default());
}

#[test]
fn a_file_is_read_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let json = file("a.JSON", r#"{"routes": [{}]}"#);
    assert_eq!(Document::read(&json).unwrap().resources.len(), 1);
    let yaml = file("a.conf", "routes: [{}]\n#END");
    assert_eq!(Document::read(&yaml).unwrap().resources.len(), 1);
    let missing = Document::read(&directory.path().join("b")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot be read: "), "{missing}");
}
