//! Bad input to every endpoint: a 4xx with a reason, or a closed connection for what is no HTTP;
//! nothing stored, nobody else disturbed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use osmia_tests::admin::KEY;
use osmia_tests::{Client, Config, FAILSAFE, Gateway, Message, Upstream};
use serde_json::{Map, Value, json};

use crate::{json_of, refusal, route};

/// A gateway that serves traffic, and has a resource of each kind that needs no plugin.
struct Target {
    gateway: Gateway,
    traffic: Client,
    stored: Value,
    _upstream: Upstream,
}

impl Target {
    fn start() -> Self {
        let upstream = Upstream::answering("alive");
        let gateway = Config::new()
            .plane("embedded")
            .set("apisix.proxy_mode", "http&stream")
            .set("apisix.stream_proxy", json!({"tcp": [9100]}))
            .start();
        let admin = gateway.admin();
        admin.put("routes/alive", &route("/alive", &upstream));
        for (path, value) in valid() {
            admin.put(path, &value);
        }
        let traffic = gateway.client();
        let stored = admin.everything();
        Self { gateway, traffic, stored, _upstream: upstream }
    }

    fn call(&self, method: &str, path: &str, body: &[u8]) -> Message {
        let path = format!("/apisix/admin{path}");
        self.gateway.admin().send(method, &path, &[("X-API-KEY", KEY)], body)
    }

    /// The request is refused with a reason.
    #[track_caller]
    fn refuses(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> (u16, String) {
        let body = body.as_ref();
        let shown = body[..body.len().min(80)].escape_ascii();
        let what = format!("{method} {} {shown}", &path[..path.len().min(80)]);
        let response = self.call(method, path, body);
        assert!((400..500).contains(&response.status()), "{what}: {}", excerpt(&response));
        let (status, reason) = refusal(&response);
        assert!(!reason.is_empty(), "{what}: {}", excerpt(&response));
        (status, reason)
    }

    /// Nothing has been stored, and traffic is served on the connection that was there before.
    #[track_caller]
    fn ends_unharmed(mut self) {
        assert_eq!(self.gateway.admin().everything(), self.stored, "something was stored");
        assert_eq!(self.traffic.get("/alive").text(), "alive");
        assert_eq!(self.gateway.get("/alive").text(), "alive");
        assert_eq!(self.gateway.status().status("/status/ready"), Some(200));
        let status = self.gateway.control().json("/v1/osmia/status");
        assert_eq!(status["quarantined"], json!([]));
        assert!(self.gateway.is_running());
    }
}

fn excerpt(response: &Message) -> String {
    let text = response.to_string();
    text.chars().take(600).collect()
}

/// A valid resource of each kind that needs no plugin, where it is stored. A resource comes after
/// what it refers to.
fn valid() -> [(&'static str, Value); 11] {
    let nodes = json!({"127.0.0.1:1": 1});
    [
        ("upstreams/1", json!({"nodes": nodes, "type": "roundrobin"})),
        ("services/1", json!({"upstream_id": "1"})),
        ("routes/1", json!({"uri": "/one", "service_id": "1", "hosts": ["a.test"]})),
        ("consumers/jack", json!({"username": "jack"})),
        ("consumer_groups/1", json!({"plugins": {}})),
        ("plugin_configs/1", json!({"plugins": {}})),
        ("global_rules/1", json!({"plugins": {}})),
        ("protos/1", json!({"content": "syntax = \"proto3\"; message A { string b = 1; }"})),
        ("secrets/vault/1", json!({"uri": "http://127.0.0.1:1", "prefix": "kv/a", "token": "t"})),
        ("stream_routes/1", json!({"server_port": 9100, "upstream_id": "1"})),
        ("consumers/john", json!({"username": "john", "desc": "\u{e9}\u{1f41d}"})),
    ]
}

/// Where resources are written, with verbs that take a whole resource.
const WRITES: [(&str, &str); 24] = [
    ("PUT", "/routes/1"),
    ("POST", "/routes"),
    ("PATCH", "/routes/1"),
    ("PUT", "/services/1"),
    ("POST", "/services"),
    ("PATCH", "/services/1"),
    ("PUT", "/upstreams/1"),
    ("POST", "/upstreams"),
    ("PATCH", "/upstreams/1"),
    ("PUT", "/consumers"),
    ("PUT", "/consumers/jack"),
    ("PUT", "/consumers/jack/credentials/1"),
    ("PUT", "/consumer_groups/1"),
    ("PATCH", "/consumer_groups/1"),
    ("PUT", "/global_rules/1"),
    ("PUT", "/plugin_configs/1"),
    ("PUT", "/plugin_metadata/http-logger"),
    ("PUT", "/protos/1"),
    ("POST", "/ssls"),
    ("PUT", "/ssls/1"),
    ("PUT", "/secrets/vault/1"),
    ("PATCH", "/secrets/vault/1"),
    ("PUT", "/stream_routes/1"),
    ("PUT", "/services/1/graphql_cost_decorations/1"),
];

/// Endpoints besides that read a body.
const OTHERS: [(&str, &str); 9] = [
    ("PATCH", "/routes/1/hosts"),
    ("PATCH", "/secrets/vault/1/token"),
    ("POST", "/schema/validate/routes"),
    ("POST", "/schema/validate/consumers"),
    ("POST", "/schema/validate/secrets/vault"),
    ("POST", "/configs/validate"),
    ("POST", "/transaction"),
    ("POST", "/rollback"),
    ("POST", "/services/1/graphql_cost_decorations"),
];

fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    WRITES.into_iter().chain(OTHERS)
}

#[test]
fn bodies_that_are_not_json() {
    let target = Target::start();
    let bodies: [&[u8]; 16] = [
        b"{",
        b"}",
        b"{abc}",
        b"{'uri': '/'}",
        b"{\"uri\":\"/\"} trailing",
        b"{\"uri\":\"/\",}",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"{\"uri\":\"\xff\"}",
        b"{\"uri\":\"\\ud800\"}",
        b"{\"priority\":1e999}",
        b"{\"priority\":-}",
        b"{\"priority\":NaN}",
        b"{\"priority\":0x10}",
        b"\0",
        b"<uri>/</uri>",
    ];
    for (method, path) in all() {
        for body in bodies {
            target.refuses(method, path, body);
        }
    }
    let (_, reason) = target.refuses("PUT", "/routes/1", "{abc}");
    assert!(reason.starts_with("invalid request body: "), "{reason}");
    target.ends_unharmed();
}

#[test]
fn nesting_of_100_000_levels() {
    const LEVELS: usize = 100_000;
    let target = Target::start();
    let lists = format!("{}1{}", "[".repeat(LEVELS), "]".repeat(LEVELS));
    let objects = format!("{}1{}", "{\"a\":".repeat(LEVELS), "}".repeat(LEVELS));
    let inside = format!("{{\"plugins\":{objects}}}");
    for (method, path) in all() {
        for body in [&lists, &objects, &inside, &"[".repeat(LEVELS), &"{\"a\":".repeat(LEVELS)] {
            target.refuses(method, path, body);
        }
    }
    let yaml = [("X-API-KEY", KEY), ("Content-Type", "application/yaml")];
    let blocks = (0..1_000).fold(String::new(), |text, level| text + &" ".repeat(level) + "a:\n");
    for body in [&lists, &objects, &"[".repeat(LEVELS), &blocks] {
        let path = "/apisix/admin/configs/validate";
        let response = target.gateway.admin().send("POST", path, &yaml, body.as_bytes());
        assert_eq!(refusal(&response).0, 400);
    }
    let filter = format!("/routes?filter={}", "%5B".repeat(10_000));
    target.call("GET", &filter, b"");
    target.ends_unharmed();
}

#[test]
fn bodies_that_are_no_objects() {
    let target = Target::start();
    for (method, path) in WRITES.into_iter().chain([
        ("POST", "/schema/validate/routes"),
        ("POST", "/configs/validate"),
        ("POST", "/transaction"),
        ("POST", "/rollback"),
    ]) {
        for body in ["", "null", "0", "\"text\"", "[1]", "[{}]", "[[]]", "true"] {
            target.refuses(method, path, body);
        }
    }
    // Values in the order of the fields are no request either.
    target.refuses("POST", "/rollback", "[0]");
    target.refuses("POST", "/rollback", " [0, false]");
    target.refuses("POST", "/transaction", "[[], [\"routes/1\"], null, false, true]");
    target.refuses("POST", "/transaction", "{\"put\": [[\"consumers/x\", {\"username\": \"x\"}]]}");
    for body in ["", "1", "\"text\"", "[]", "[{}]", "[1]", "{}", "true"] {
        target.refuses("PATCH", "/routes/1/hosts", body);
    }
    target.ends_unharmed();
}

/// A value that a schema does not take.
fn wrong_for(schema: &Value) -> Value {
    let takes = |name: &str| schema["type"] == name;
    if takes("object") { json!(7) } else { json!({"unlikely": [[{"deep": null}]]}) }
}

#[test]
fn fields_of_wrong_types_and_unknown_fields() {
    let target = Target::start();
    let mut tried = 0;
    for (path, value) in valid() {
        let collection = path.split('/').next().unwrap();
        let name = match collection {
            "plugin_configs" => "plugin_config".to_owned(),
            "secrets" => "secret".to_owned(),
            plural => plural.trim_end_matches('s').to_owned(),
        };
        let known = target.call("GET", &format!("/schema/{name}"), b"");
        let schema = if known.status() == 200 { json_of(&known) } else { json!({}) };
        let fields = schema["properties"].as_object().cloned().unwrap_or_default();
        let own: Map<String, Value> =
            value.as_object().unwrap().iter().map(|(k, _)| (k.clone(), json!({}))).collect();
        for (field, schema) in own.into_iter().chain(fields) {
            let mut wrong = value.clone();
            wrong[&field] = wrong_for(&schema);
            if field == "plugins" {
                wrong[&field] = json!("text");
            }
            target.refuses("PUT", &format!("/{path}"), wrong.to_string());
            tried += 1;
        }
        if collection == "secrets" {
            // APISIX's managers take what they do not know.
            continue;
        }
        let mut unknown = value.clone();
        unknown["surprise"] = json!(1);
        let (status, reason) = target.refuses("PUT", &format!("/{path}"), unknown.to_string());
        assert_eq!(status, 400);
        assert!(reason.contains("surprise"), "{path}: {reason}");
    }
    assert!(tried > 80, "{tried} fields");
    for body in [
        json!({"put": [], "surprise": 1}),
        json!({"put": {}}),
        json!({"put": [{"key": "routes/9", "value": {"uri": "/"}, "ttl": 1}]}),
        json!({"put": [{"key": 1, "value": {}}]}),
        json!({"put": [{"key": "routes/9"}]}),
        json!({"delete": "routes/1"}),
        json!({"dry_run": "no"}),
        json!({"expect_revision": -1}),
        json!({"expect_revision": 1e30}),
    ] {
        target.refuses("POST", "/transaction", body.to_string());
    }
    for body in [
        json!({}),
        json!({"revision": "1"}),
        json!({"revision": -1}),
        json!({"revision": 1.5}),
        json!({"revision": 1e30}),
        json!({"revision": 99_999_999}),
        json!({"revision": 1, "surprise": 1}),
        json!({"revision": 1, "dry_run": 1}),
    ] {
        target.refuses("POST", "/rollback", body.to_string());
    }
    target.ends_unharmed();
}

#[test]
fn plugins_that_do_not_exist() {
    let target = Target::start();
    for (path, mut value) in valid() {
        if path.starts_with("upstreams") || path.starts_with("protos") || path.contains("vault") {
            continue;
        }
        value["plugins"] = json!({"no-such-plugin": {}});
        let (status, reason) = target.refuses("PUT", &format!("/{path}"), value.to_string());
        assert_eq!(status, 400);
        assert!(reason.contains("no-such-plugin"), "{path}: {reason}");
    }
    for name in ["no-such-plugin", "%2e%2e", "a%00b", "%F0%9F%90%9D", &"x".repeat(10_240)] {
        target.refuses("PUT", &format!("/plugin_metadata/{name}"), "{}");
        target.refuses("GET", &format!("/plugins/{name}"), "");
        target.refuses("GET", &format!("/schema/plugins/{name}"), "");
        target.refuses("GET", &format!("/schema/{name}"), "");
        target.refuses("POST", &format!("/schema/validate/{name}"), "{}");
    }
    target.ends_unharmed();
}

/// Ids as they stand in a path.
fn hostile_ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "..",
        ".",
        "%2e%2e",
        "%2E",
        "..%2F..%2Fupstreams%2F1",
        "a%2Fb",
        "a%252Fb/c",
        "%00",
        "a%00b",
        "a%0d%0aX-Injected:%201",
        "a%20b",
        "%24",
        "%25",
        "%ff",
        "%c0%ae%c0%ae",
        "%E2%82%AC",
        "%F0%9F%98%80",
        "\u{e9}",
        "a%CC%81",
        "%E2%80%AEabc",
        "a;b",
        "a*",
        "a%22b",
        "%7B%7D",
        "a%5Cb",
        "%3Cscript%3E",
        "a:b",
        "a@b",
        "a,b",
    ]
    .map(str::to_owned)
    .into();
    ids.extend([65, 513, 10_240, 60_000].map(|length| "x".repeat(length)));
    ids.push("%61".repeat(10_240));
    ids.push("a/".repeat(5_000));
    ids
}

#[test]
fn ids_that_are_no_ids() {
    let target = Target::start();
    let resources: Vec<(String, Value)> = valid()
        .into_iter()
        .map(|(path, value)| (path.rsplit_once('/').unwrap().0.to_owned(), value))
        .chain([("services/1/graphql_cost_decorations".to_owned(), json!({}))])
        .chain([("consumers/jack/credentials".to_owned(), json!({"plugins": {}}))])
        .chain([("ssls".to_owned(), json!({"cert": "c", "key": "k", "sni": "a.test"}))])
        .collect();
    for (collection, value) in &resources {
        for id in hostile_ids() {
            let path = format!("/{collection}/{id}");
            target.refuses("PUT", &path, value.to_string());
            for method in ["DELETE", "PATCH", "GET"] {
                target.refuses(method, &path, "{}");
            }
        }
    }
    for id in hostile_ids() {
        for path in [
            format!("/consumers/{id}/credentials/1"),
            format!("/services/{id}/graphql_cost_decorations/1"),
            format!("/secrets/{id}/1"),
            format!("/history/{id}"),
            format!("/{id}"),
        ] {
            target.refuses("PUT", &path, "{}");
            target.refuses("GET", &path, "");
        }
    }
    for id in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!(""),
        json!("a b"),
        json!("a/b"),
        json!(".. "),
        json!([]),
        json!({}),
        json!(null),
        json!(true),
        json!("\u{0}"),
        json!("\u{1f41d}"),
        json!("x".repeat(10_240)),
    ] {
        for (collection, value) in &resources {
            if collection.starts_with("consumers") {
                continue;
            }
            let mut value = value.clone();
            value["id"] = id.clone();
            target.refuses("PUT", &format!("/{collection}"), value.to_string());
        }
        target.refuses("PUT", "/consumers", json!({"username": id}).to_string());
    }
    for key in ["", "/", "routes", "routes/", "routes/../x", "nothing/1", "routes/a b", "gen_id"] {
        let put = json!({"put": [{"key": key, "value": {"uri": "/"}}]});
        target.refuses("POST", "/transaction", put.to_string());
        // An id that nothing can have is as good as one that nothing has.
        if key != "routes/a b" {
            target.refuses("POST", "/transaction", json!({"delete": [key]}).to_string());
        }
    }
    // A slash is a slash however it is written, as in nginx, and several are one.
    for path in ["/routes/%2F", "/routes//", "/%2Froutes"] {
        assert_eq!(target.call("GET", path, b"").body, target.call("GET", "/routes", b"").body);
    }
    target.ends_unharmed();
}

#[test]
fn numbers_that_are_too_large() {
    let target = Target::start();
    let nodes = json!({"127.0.0.1:1": 1});
    for huge in ["1e30", "1e308", "-1e308", "99999999999999999999999999", "-9e18", "1.5"] {
        let number: Value = serde_json::from_str(huge).unwrap();
        for upstream in [
            json!({"nodes": {"127.0.0.1:1": number}}),
            json!({"nodes": [{"host": "127.0.0.1", "port": number, "weight": 1}]}),
            json!({"nodes": [{"host": "127.0.0.1", "port": 1, "weight": number}]}),
            json!({"nodes": nodes, "retries": number}),
            json!({"nodes": nodes, "keepalive_pool": {"size": number}}),
            json!({"nodes": nodes, "create_time": number}),
        ] {
            target.refuses("PUT", "/upstreams/9", upstream.to_string());
        }
        let route = json!({"uri": "/", "upstream_id": "1", "status": number});
        target.refuses("PUT", "/routes/9", route.to_string());
        target.refuses("POST", "/rollback", format!("{{\"revision\":{huge}}}"));
    }
    for timeout in [-1.0, 0.0, 1e30, 1e308] {
        let timeout = json!({"connect": timeout, "send": 1, "read": 1});
        let upstream = json!({"nodes": nodes, "timeout": timeout});
        target.refuses("PUT", "/upstreams/9", upstream.to_string());
    }
    for query in [
        "/routes/1?ttl=1e30",
        "/routes/1?ttl=-1",
        "/routes/1?ttl=abc",
        "/routes/1?ttl=%00",
        "/routes/1?ttl=nan",
    ] {
        target.refuses("PUT", query, json!({"uri": "/", "upstream_id": "1"}).to_string());
    }
    for query in [
        "/history?limit=99999999999999999999999",
        "/history?limit=-1",
        "/history?before=-1",
        "/history?before=1e9",
        "/history?key=%00",
        "/history?surprise=1",
        "/history/diff",
        "/history/diff?from=99999999999999999999999",
        "/history/diff?from=1&to=99999999",
        "/history/99999999999999999999999",
    ] {
        target.refuses("GET", query, "");
    }
    for size in ["99999999999999999999", "1e30", "9", "-10", "501"] {
        let answer = target.call("GET", &format!("/routes?page=1&page_size={size}"), b"");
        let text = answer.text();
        assert_eq!(
            (answer.status(), text.trim()),
            (400, "page_size must be between 10 and 500"),
            "{size}: APISIX's text, which is no JSON"
        );
    }
    let path = "/routes?page=99999999999999999999&page_size=10";
    assert_eq!(json_of(&target.call("GET", path, b""))["list"], json!([]));
    target.ends_unharmed();
}

#[test]
fn a_name_that_occurs_twice() {
    let target = Target::start();
    // The last one counts, everywhere the same: for JSON parsers of all kinds it is so.
    let body = r#"{"uri":"/first","upstream_id":"1","uri":"/second"}"#;
    assert_eq!(target.call("PUT", "/routes/twice", body.as_bytes()).status(), 201);
    assert_eq!(json_of(&target.call("GET", "/routes/twice", b""))["value"]["uri"], "/second");
    let control = target.gateway.control().json("/v1/route/twice");
    assert_eq!(control["value"]["uri"], "/second");
    target.gateway.admin().delete("routes/twice");
    target.refuses("POST", "/transaction", r#"{"delete":[],"delete":["routes/1"]}"#);
    target.refuses("POST", "/rollback", r#"{"revision":1,"revision":0}"#);
    let twice = json!({"put": [
        {"key": "routes/9", "value": {"uri": "/", "upstream_id": "1"}},
        {"key": "routes/9", "value": {"uri": "/b", "upstream_id": "1"}},
    ]});
    target.refuses("POST", "/transaction", twice.to_string());
    let yaml = [("X-API-KEY", KEY), ("Content-Type", "application/yaml")];
    let path = "/apisix/admin/configs/validate";
    let response = target.gateway.admin().send("POST", path, &yaml, b"routes: []\nroutes: []\n");
    assert_eq!(refusal(&response).0, 400);
    let mut stored = target.stored.clone();
    stored["export"]["revision"] = (stored["export"]["revision"].as_u64().unwrap() + 2).into();
    Target { stored, ..target }.ends_unharmed();
}

#[test]
fn verbs_and_paths_that_do_not_exist() {
    let target = Target::start();
    let good = json!({"uri": "/", "upstream_id": "1"}).to_string();
    for (method, path) in [
        ("TRACE", "/routes/1"),
        ("PROPFIND", "/routes"),
        ("put", "/routes/9"),
        ("Delete", "/routes/1"),
        ("LINK", "/routes/1"),
        ("PUT", "/routs/1"),
        ("PUT", "/routes/9/uri"),
        ("DELETE", "/routes/1/uri"),
        ("DELETE", "/routes"),
        ("PATCH", "/routes"),
        ("PUT", "/credentials/1"),
        ("POST", "/consumers"),
        ("POST", "/consumer_groups"),
        ("POST", "/global_rules"),
        ("POST", "/plugin_configs"),
        ("POST", "/secrets/vault"),
        ("PATCH", "/consumers/jack"),
        ("PATCH", "/protos/1"),
        ("PATCH", "/stream_routes/1"),
        ("PATCH", "/plugin_metadata/x"),
        ("POST", "/schema/route"),
        ("PUT", "/schema/validate/routes"),
        ("PUT", "/plugins/x"),
        ("DELETE", "/plugins/list"),
        ("PUT", "/configs"),
        ("GET", "/configs/validate"),
        ("PUT", "/transaction"),
        ("GET", "/transaction"),
        ("DELETE", "/history"),
        ("POST", "/history"),
        ("GET", "/rollback"),
        ("POST", "/export"),
        ("GET", ""),
        ("GET", "/"),
    ] {
        let (status, _) = target.refuses(method, path, &good);
        assert!([400, 404, 405].contains(&status), "{method} {path}: {status}");
    }
    for path in ["/", "/apisix", "/apisix/adminx/routes", "//apisix/admin/routes/9", "*"] {
        let response =
            target.gateway.admin().send("PUT", path, &[("X-API-KEY", KEY)], good.as_bytes());
        assert_eq!(response.status(), 404, "{path}: {response}");
    }
    target.ends_unharmed();
}

#[test]
fn contents_of_wrong_types() {
    let target = Target::start();
    let form = "uri=%2F&upstream_id=1";
    let multipart = "--b\r\nContent-Disposition: form-data; name=uri\r\n\r\n/\r\n--b--\r\n";
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02";
    let bodies: [(&str, &[u8]); 6] = [
        ("application/x-www-form-urlencoded", form.as_bytes()),
        ("multipart/form-data; boundary=b", multipart.as_bytes()),
        ("application/yaml", b"uri: /\nupstream_id: 1\n"),
        ("text/xml", b"<uri>/</uri>"),
        ("application/json; charset=utf-16", b"\xff\xfe{\0}\0"),
        ("application/octet-stream", gzip),
    ];
    for (method, path) in all() {
        for (kind, body) in bodies {
            let headers = [("X-API-KEY", KEY), ("Content-Type", kind)];
            if path == "/configs/validate" && kind == "application/yaml" {
                continue; // It takes YAML, in which there is nothing that it knows.
            }
            let path = format!("/apisix/admin{path}");
            let response = target.gateway.admin().send(method, &path, &headers, body);
            assert_eq!(refusal(&response).0, 400, "{method} {path} {kind}");
        }
    }
    target.ends_unharmed();
}

/// A body as chunks of 10,000 bytes.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for part in body.chunks(10_000) {
        text.extend(format!("{:x}\r\n", part.len()).bytes());
        text.extend(part);
        text.extend(b"\r\n");
    }
    text.extend(b"0\r\n\r\n");
    text
}

#[test]
fn bodies_beyond_the_cap() {
    let target = Target::start();
    let body = json!({"uri": "/", "upstream_id": "1", "desc": "x".repeat(1_600_000)}).to_string();
    let large = 65 << 20; // more than a transaction may have
    for (method, path) in all() {
        if ["/transaction", "/rollback"].contains(&path) {
            continue;
        }
        let head = format!(
            "{method} /apisix/admin{path} HTTP/1.1\r\nHost: a\r\nX-API-KEY: {KEY}\r\n\
             Connection: close\r\n"
        );
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        let with_length = [head.as_bytes(), length.as_bytes(), body.as_bytes()].concat();
        let in_chunks =
            [head.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n", &chunked(body.as_bytes())]
                .concat();
        for request in [with_length, in_chunks] {
            let mut client = Client::connect(target.gateway.admin().addr);
            let (status, reason) = refusal(&client.exchange(request));
            assert!([400, 413].contains(&status), "{method} {path}: {status}");
            assert!(reason.contains("1572864"), "{method} {path}: {reason}");
        }
    }
    for path in ["/transaction", "/rollback", "/routes"] {
        // Announced, and never sent; and sent without an announcement, as long as it is taken.
        let head = format!(
            "POST /apisix/admin{path} HTTP/1.1\r\nHost: a\r\nX-API-KEY: {KEY}\r\n\
             Connection: close\r\n"
        );
        let endless = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        let (answer, _) = flood(target.gateway.admin().addr, endless.as_bytes(), large);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        assert!(!answer.is_empty() || path != "/transaction", "{path}: no answer");
    }
    assert!(target.gateway.peak() < 600 << 20, "{} MiB", target.gateway.peak() >> 20);
    target.ends_unharmed();
}

#[test]
fn bodies_that_nobody_wants_do_not_cost_the_answer() {
    let target = Target::start();
    let body = vec![b'x'; 4 << 20];
    let (control, status) = (target.gateway.control().addr, target.gateway.status().addr);
    for (addr, line, answer) in [
        (control, "GET /v1/schema", "HTTP/1.1 200"),
        (control, "POST /v1/gc", "HTTP/1.1 200"),
        (control, "POST /nowhere", "HTTP/1.1 404"),
        (status, "GET /metrics", "HTTP/1.1 200"),
        (status, "DELETE /status", "HTTP/1.1 404"),
    ] {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(FAILSAFE)).unwrap();
        stream.set_write_timeout(Some(FAILSAFE)).unwrap();
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(text.starts_with(answer), "{line}: {text}");
    }
    // A rollback needs a few bytes.
    let head = format!("POST /apisix/admin/rollback HTTP/1.1\r\nHost: a\r\nX-API-KEY: {KEY}\r\n");
    let request = format!("{head}Connection: close\r\nContent-Length: 100000\r\n\r\n");
    let mut client = Client::connect(target.gateway.admin().addr);
    assert_eq!(refusal(&client.exchange(request.into_bytes())).0, 400);
    target.ends_unharmed();
}

/// Sends chunks up to `limit` bytes, or until they are not taken any more; the answer and how much
/// was sent.
fn flood(addr: SocketAddr, head: &[u8], limit: usize) -> (String, usize) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(FAILSAFE)).unwrap();
    stream.set_write_timeout(Some(FAILSAFE)).unwrap();
    stream.write_all(head).unwrap();
    let part = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < limit && stream.write_all(&part).is_ok() {
        sent += part.len();
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    (String::from_utf8_lossy(&answer).into_owned(), sent)
}

/// What a server sends until it closes the connection; for hostile requests there must be an end.
fn until_end(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(FAILSAFE)).unwrap();
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    answer
}

#[test]
fn broken_http() {
    let target = Target::start();
    let good = json!({"uri": "/smuggled", "upstream_id": "1"}).to_string();
    let smuggled = format!(
        "PUT /apisix/admin/routes/smuggled HTTP/1.1\r\nHost: a\r\nX-API-KEY: {KEY}\r\n\
         Content-Length: {}\r\n\r\n{good}",
        good.len()
    );
    let head = format!("PUT /apisix/admin/routes/1 HTTP/1.1\r\nHost: a\r\nX-API-KEY: {KEY}\r\n");
    let mut requests: Vec<Vec<u8>> = Vec::new();
    // What another reader may take for one request and this one for two.
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        "Content-Length: 5, 5\r\n\r\n12345",
        "Content-Length: +5\r\n\r\n12345",
        "Content-Length: -5\r\n\r\n12345",
        "Content-Length: 5x\r\n\r\n12345",
        "Content-Length: 18446744073709551616\r\n\r\n12345",
        "Content-Length : 5\r\n\r\n12345",
        "Transfer-Encoding: identity\r\n\r\n12345",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}X",
        "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX y\r\n\r\n",
        "X: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "X: a\rb\r\nContent-Length: 0\r\n\r\n",
        "X: a\0b\r\nContent-Length: 0\r\n\r\n",
        ": a\r\nContent-Length: 0\r\n\r\n",
        "Host: b\r\nContent-Length: 0\r\n\r\n",
    ] {
        requests.push(format!("{head}{framing}{smuggled}").into_bytes());
    }
    let without_host = smuggled.replace("Host: a\r\n", "");
    requests.push(format!("{without_host}{smuggled}").into_bytes());
    requests.push(smuggled.replace(" HTTP/1.1", "").into_bytes());
    requests.push(smuggled.replace("HTTP/1.1", "HTTP/3.0").into_bytes());
    requests.push(smuggled.replace("HTTP/1.1", "HTTP/1.1 x").into_bytes());
    requests.push(format!("{head}{}\r\n", "X: a\r\n".repeat(5_000)).into_bytes());
    requests.push(format!("{head}X: {}\r\n\r\n", "a".repeat(2_000_000)).into_bytes());
    requests.push(smuggled.replace("smuggled", &"a".repeat(100_000)).into_bytes());
    requests.push(b"\0\x01\x02\x03\xff\r\n\r\n".to_vec());
    requests.push(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03".to_vec());
    requests.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec());
    let apis = [target.gateway.admin(), target.gateway.control(), target.gateway.status()];
    for request in &requests {
        let shown = request[..request.len().min(300)].escape_ascii();
        for api in apis {
            let answer = until_end(api.addr, request);
            let text = String::from_utf8_lossy(&answer);
            let heads = text.matches("HTTP/1.1 ").count();
            assert!(heads <= 1, "{shown} is taken for two requests:\n{text}");
            let is_http2 = request.starts_with(b"PRI");
            let refused = text.is_empty() || text.starts_with("HTTP/1.1 4") || is_http2;
            assert!(refused || text.starts_with("HTTP/1.1 501"), "{shown}:\n{text}");
        }
    }
    target.ends_unharmed();
}

#[test]
fn clients_that_are_slow() {
    let target = Target::start();
    let addr = target.gateway.admin().addr;
    let key = format!("Host: a\r\nX-API-KEY: {KEY}\r\n");
    let beginnings = [
        String::new(),
        "P".to_owned(),
        "PUT /apisix/admin/routes/9 HTTP/1.1\r\nHost: a\r\nX".to_owned(),
        format!("PUT /apisix/admin/routes/9 HTTP/1.1\r\n{key}Content-Length: 900\r\n\r\n{{"),
        format!("POST /apisix/admin/transaction HTTP/1.1\r\n{key}Content-Length: 900\r\n\r\n{{"),
        format!("POST /apisix/admin/rollback HTTP/1.1\r\n{key}Content-Length: 900\r\n\r\n{{"),
        format!("POST /apisix/admin/rollback HTTP/1.1\r\n{key}Expect: 100-continue\r\n"),
        format!(
            "PUT /apisix/admin/ssls/9 HTTP/1.1\r\n{key}Transfer-Encoding: chunked\r\n\r\n5\r\n"
        ),
    ];
    let mut slow = Vec::new();
    for _ in 0..25 {
        for text in &beginnings {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            slow.push(stream);
        }
    }
    // One that never reads its answers.
    let mut deaf = TcpStream::connect(addr).unwrap();
    let export = format!("GET /apisix/admin/schema/route HTTP/1.1\r\n{key}\r\n");
    deaf.set_nonblocking(true).unwrap();
    while deaf.write(export.repeat(100).as_bytes()).is_ok() {}
    // Others read and write meanwhile, whole sets as well.
    let put = json!({"put": [{"key": "routes/9", "value": {"uri": "/9", "upstream_id": "1"}}]});
    let done = target.call("POST", "/transaction", put.to_string().as_bytes());
    assert_eq!(json_of(&done)["created"], json!(["routes/9"]));
    target.gateway.admin().put("routes/9", &json!({"uri": "/nine", "upstream_id": "1"}));
    target.gateway.admin().delete("routes/9");
    // What was cut off has no effect.
    drop((slow, deaf));
    let mut stored = target.stored.clone();
    stored["export"]["revision"] = (stored["export"]["revision"].as_u64().unwrap() + 3).into();
    Target { stored, ..target }.ends_unharmed();
}

#[test]
fn the_control_and_status_apis() {
    let target = Target::start();
    for (api, paths) in [
        (
            target.gateway.control(),
            &["/v1/route/", "/v1/service/", "/v1/upstream/", "/v1/plugin_metadata/", "/v1/"][..],
        ),
        (target.gateway.status(), &["/metrics/", "/", "/v1/"][..]),
    ] {
        for path in paths {
            for id in hostile_ids() {
                for method in ["GET", "PUT", "DELETE"] {
                    let response = api.send(method, &format!("{path}{id}"), &[], b"");
                    let shown = format!("{method} {path}{}", &id[..id.len().min(60)]);
                    assert!((400..500).contains(&response.status()), "{shown}: {response}");
                    assert!(!response.body.is_empty(), "{shown}: no reason");
                }
            }
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "get"] {
            let endpoints =
                ["/v1/routes", "/v1/schema", "/v1/osmia/status", "/status", "/status/ready"];
            for path in endpoints {
                let response = api.send(method, path, &[], b"{}");
                assert!([404, 405].contains(&response.status()), "{method} {path}: {response}");
            }
        }
        for body in ["[".repeat(100_000).as_bytes(), b"\xff\0"] {
            for path in ["/v1/routes", "/v1/schema", "/status", "/metrics", "/nowhere"] {
                let status = api.send("GET", path, &[], body).status();
                assert!([200, 404].contains(&status), "{path}: {status}");
            }
        }
    }
    for path in ["/v1/discovery/%2e%2e/dump", "/v1/discovery/nacos/dump", "/v1/healthcheck/x/y/z"] {
        let response = target.gateway.control().send("GET", path, &[], b"");
        assert!((400..500).contains(&response.status()), "{path}: {response}");
    }
    target.ends_unharmed();
}
