//! Bodies by content type; the facts are those of APISIX's tests (`t/core/ctx2.t`,
//! `t/router/graphql.t`, `t/admin/routes_request_body.t`).

use proptest::prelude::*;
use serde_json::json;

use super::*;

const PARTS: &str = "multipart/form-data; boundary=\"x y\"; charset=utf-8";

fn request(content_type: &str) -> BodyRequest<'_> {
    BodyRequest {
        method: b"POST",
        content_type: Some(content_type.as_bytes()),
        ..Default::default()
    }
}

fn variable(name: &str) -> Variable {
    Variable::parse(name).unwrap_or_else(|| panic!("{name}"))
}

/// The value as JSON; bytes as text.
fn seen(request: BodyRequest<'_>, body: &[u8], name: &str) -> Option<Json> {
    fn json_of(value: &Value<'_>) -> Json {
        match value {
            Value::Bytes(bytes) => text(bytes).into(),
            Value::Flag => json!(true),
            Value::Json(value) => (*value).clone(),
            Value::List(items) => items.iter().map(json_of).collect(),
        }
    }
    let mut vars = BodyVars::new(request, BodyLimits::default());
    vars.set_body(body);
    match vars.value(&variable(name)) {
        BodyValue::Unread => panic!("{name} is unread"),
        BodyValue::Absent => None,
        BodyValue::Present(value) => Some(json_of(&value)),
    }
}

#[test]
fn fields_of_forms() {
    let body = b"a=1&b=x%20y+z%zz&c&a=2&=3&%64=&e%3D=f";
    for (name, expected) in [
        ("post_arg_a", Some(json!("1"))),
        ("post_arg_b", Some(json!("x y z%zz"))),
        ("post_arg_c", Some(json!(true))),
        ("post_arg_d", Some(json!(""))),
        ("post_arg_e=", Some(json!("f"))),
        ("post_arg_A", None),
        ("post_arg_x", None),
        ("post_arg.a", Some(json!(["1", "2"]))),
        ("post_arg.b", Some(json!("x y z%zz"))),
        ("post_arg.c", Some(json!(true))),
        ("post_arg.a.b", None),
        ("post_arg.a[1]", Some(json!(["2"]))),
        ("post_arg.*", Some(json!([["1", "2"], "x y z%zz", true, "", "f"]))),
    ] {
        let form = request("application/x-www-form-urlencoded;charset=utf-8");
        assert_eq!(seen(form, body, name), expected, "{name}");
    }
    let other = request("text/plain; application/x-www-form-urlencoded");
    assert_eq!(seen(other, body, "post_arg_a"), None);
    assert_eq!(seen(other, body, "post_arg.b"), Some(json!("x y z%zz")));
    assert_eq!(seen(BodyRequest::default(), body, "post_arg.b"), None);
}

#[test]
fn fields_of_json() {
    let body = br#"{"model":{"name":"deepseek","v":[1,2,3]},"n":null,"f":false,"a-b":1,
        "messages":[{"role":"system","content":[{"type":"text","n":1},{"type":"image_url"}]},
                    {"role":"user","content":[]}]}"#;
    for (name, expected) in [
        ("post_arg.model.name", Some(json!("deepseek"))),
        ("post_arg.model", Some(json!({"name": "deepseek", "v": [1, 2, 3]}))),
        ("post_arg.n", Some(json!(null))),
        ("post_arg.f", Some(json!(false))),
        ("post_arg.a-b", Some(json!(1))),
        ("post_arg.model.name.x", None),
        ("post_arg.messages.0", None),
        ("post_arg.messages[*].content[*].type", Some(json!(["text", "image_url"]))),
        ("post_arg.messages[0].role", Some(json!(["system"]))),
        ("post_arg.messages[-1].role", Some(json!(["user"]))),
        ("post_arg.messages[5].role", None),
        ("post_arg.model.v[0,2]", Some(json!([1, 3]))),
        ("post_arg.model.v[1:]", Some(json!([2, 3]))),
        ("post_arg.model.v[::-1]", Some(json!([3, 2, 1]))),
        ("post_arg.model.v[::0]", None),
        ("post_arg.model['name','v']", Some(json!(["deepseek", [1, 2, 3]]))),
        ("post_arg.messages..type", Some(json!(["text", "image_url"]))),
        ("post_arg.model.*", Some(json!(["deepseek", [1, 2, 3]]))),
        ("post_arg.messages[?(@.role == 'user')].role", Some(json!(["user"]))),
        ("post_arg.messages[?(@.role=='x' || @.role!=\"user\")].role", Some(json!(["system"]))),
        ("post_arg.messages[0].content[?(@.n && @.n<2)].type", Some(json!(["text"]))),
        ("post_arg.model.v[?(@>=2)]", Some(json!([2, 3]))),
    ] {
        assert_eq!(
            seen(request("application/json; charset=utf-8"), body, name),
            expected,
            "{name}"
        );
    }
    for odd in ["", "x", "{}x", "[", &"[".repeat(100_000)] {
        assert_eq!(seen(request("application/json"), odd.as_bytes(), "post_arg.a"), None, "{odd}");
    }
    assert_eq!(seen(request("application/jso"), body, "post_arg.f"), None);
}

#[test]
fn parts_of_multipart() {
    let body = "preamble\r\n--x y\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n2\r\n\
        --x y\r\nX: y\r\ncontent-disposition: form-data; filename=\"a;name=b\"; name=\"c \\\"d\"\r\n\
        \r\n\r\n--x y\r\nContent-Disposition: form-data; name=a\r\n\r\n--x yz\r\n--x y\n\
        Content-Disposition: form-data; NAME=e\n\nf\n--x y--\r\nContent-Disposition: x; name=g\r\n\r\nh";
    for (name, expected) in [
        ("post_arg.a", Some(json!("1\r\n2"))),
        ("post_arg.c \"d", Some(json!(""))),
        ("post_arg.e", Some(json!("f"))),
        ("post_arg.g", None),
        ("post_arg.filename", None),
        ("post_arg_a", None),
        ("post_arg.*", Some(json!(["f", "", "1\r\n2"]))),
    ] {
        let found = seen(request(PARTS), body.as_bytes(), name);
        assert_eq!(found.map(sorted), expected.map(sorted), "{name}");
    }
    let cut = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1";
    let plain = request("multipart/form-data; boundary=b");
    assert_eq!(seen(plain, cut.as_bytes(), "post_arg.a"), Some(json!("1")));
    assert_eq!(seen(request("multipart/form-data"), cut.as_bytes(), "post_arg.a"), None);
}

fn sorted(mut value: Json) -> Json {
    if let Json::Array(items) = &mut value {
        items.sort_by_key(Json::to_string);
    }
    value
}

#[test]
fn graphql_documents() {
    let review = "mutation repo($ep: Episode!, $review: ReviewInput! = {stars: 5}) {
        createReview(episode: $ep) { stars } alias: other, ...more # and so on
        ... on Query { hidden } }
        query second { owner }";
    let names = ["graphql_operation", "graphql_name", "graphql_root_fields"];
    for (document, operation, name, fields) in [
        ("query repo { owner { name } }", "query", "repo", json!(["owner"])),
        ("{ owner, repo }", "query", "", json!(["owner", "repo"])),
        ("query{owner{name}}", "query", "", json!(["owner"])),
        (review, "mutation", "repo", json!(["createReview", "other", "more"])),
        ("subscription s { a }", "subscription", "s", json!(["a"])),
    ] {
        let expected = [json!(operation), json!(name), fields].map(Some);
        for (content_type, body) in [
            ("text/plain", document.to_owned()),
            ("application/json", json!({"query": document, "variables": {}}).to_string()),
        ] {
            let found = names.map(|name| seen(request(content_type), body.as_bytes(), name));
            assert_eq!(found, expected, "{document}");
        }
        let query = document.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"));
        let query = format!("a=b&query={query}&query=x");
        let get =
            BodyRequest { method: b"GET", query: Some(query.as_bytes()), ..Default::default() };
        assert_eq!(names.map(|name| seen(get, b"", name)), expected, "{document}");
    }
    let fragment = names.map(|name| seen(request("x"), b"fragment f on T { a }", name));
    assert_eq!(fragment, [None, Some(json!("f")), Some(json!(["a"]))]);
}

#[test]
fn what_is_no_graphql_has_no_values() {
    let deep = format!("query {}{}", "{a".repeat(5000), "}".repeat(5000));
    let list = format!("{{a(b: {}1{})}}", "[".repeat(5000), "]".repeat(5000));
    for body in ["", "AA", "type A { b: C }", "{a} type A { b: C }", "{", "# a", &deep, &list] {
        assert_eq!(seen(request("x"), body.as_bytes(), "graphql_name"), None, "{body:.20}");
    }
    for body in ["{}", "{\"query\":1}", "[1]", "query{a}", "{\"query\":\"\"}", "\"query\""] {
        let json = request("application/json");
        assert_eq!(seen(json, body.as_bytes(), "graphql_operation"), None, "{body}");
    }
    for query in [None, Some("query"), Some("a=b"), Some("query=%ff")] {
        let query = query.map(str::as_bytes);
        let get = BodyRequest { method: b"GET", query, ..Default::default() };
        assert_eq!(seen(get, b"{a}", "graphql_operation"), None);
    }
    let put = BodyRequest { method: b"PUT", ..Default::default() };
    assert_eq!(seen(put, b"{a}", "graphql_operation"), None);
    let charset = request("application/json;charset=utf-8");
    assert_eq!(seen(charset, b"{\"query\":\"{a}\"}", "graphql_operation"), None);
}

#[test]
fn the_head_may_say_that_there_is_nothing_to_read() {
    let unread = |request: BodyRequest<'_>, name: &str| {
        let vars = BodyVars::new(request, BodyLimits { post_args: 10, graphql: 5 });
        vars.value(&variable(name)) == BodyValue::Unread
    };
    let json = request("application/json");
    let form = request("application/x-www-form-urlencoded");
    let long = |length| BodyRequest { content_length: Some(length), ..json };
    for (request, name, expected) in [
        (json, "post_arg.a", true),
        (json, "post_arg_a", false),
        (form, "post_arg_a", true),
        (form, "graphql_name", true),
        (request("text/plain"), "post_arg.a", false),
        (long(0), "post_arg.a", false),
        (long(10), "post_arg.a", true),
        (long(11), "post_arg.a", false),
        (long(5), "graphql_name", true),
        (long(6), "graphql_name", false),
        (BodyRequest { method: b"GET", ..json }, "graphql_name", false),
    ] {
        assert_eq!(unread(request, name), expected, "{request:?} {name}");
    }
    let mut vars = BodyVars::new(form, BodyLimits { post_args: 3, graphql: 3 });
    vars.set_body(b"a=b");
    let value = Value::Bytes(Cow::Borrowed(b"b".as_slice()));
    assert_eq!(vars.value(&variable("post_arg_a")), BodyValue::Present(value));
    vars.set_body(b"a=bc");
    assert_eq!(vars.value(&variable("post_arg_a")), BodyValue::Absent);
}

proptest! {
    #[test]
    fn any_body_has_values_or_not(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        path in "[a\\[\\]*.'0-9:?(@=)]{1,12}",
    ) {
        for content_type in ["application/json", "application/x-www-form-urlencoded", PARTS, "x"] {
            for name in ["post_arg_a", "post_arg.a", "post_arg.*", "graphql_name"] {
                let _ = seen(request(content_type), &body, name);
            }
            let name = format!("post_arg.{path}");
            if Variable::parse(&name).is_some() {
                let _ = seen(request(content_type), b"{\"a\":[1,{\"a\":0}]}", &name);
            }
        }
    }
}
