use std::sync::RwLock;

use axum::body::to_bytes;
use osmia_core::settings::FileFormat;
use osmia_core::snapshot::Snapshot;
use serde_json::json;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::applied::Applied;
use crate::local::Journal;
use crate::publish::Publisher;
use crate::state::State as PlaneState;
use crate::store::Store;

/// A standalone gateway.
struct Gateway {
    router: Router,
    store: Arc<FileStore>,
    _directory: TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn error(&self) -> (u16, String) {
        (self.status, self.json()["error_msg"].as_str().unwrap().to_owned())
    }
}

impl Gateway {
    /// One that starts from a file, or from nothing.
    fn new(file: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("apisix.yaml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        let store = Arc::new(FileStore::new(path, FileFormat::Yaml).optional());
        let applied = Arc::new(Applied::default());
        applied.reach(u64::MAX);
        let plane = Plane {
            view: osmia_core::request::ViewOptions::default(),
            trusted_addresses: None,
            store: Arc::clone(&store) as Arc<dyn Store>,
            rules: Arc::default(),
            journal: Journal::open(&directory.path().join("journal"), 10).unwrap(),
            publisher: Arc::new(Publisher::new(Arc::new(Snapshot::default())).0),
            health: Arc::default(),
            state: Arc::new(RwLock::new(PlaneState::default())),
            applied,
        };
        let router = router(plane, Arc::clone(&store));
        Self { router, store, _directory: directory }
    }

    async fn send(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri("/apisix/admin/configs");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn put(&self, digest: &str, body: &Value) -> Answer {
        self.send("PUT", &[("x-digest", digest)], &body.to_string()).await
    }

    async fn get(&self) -> Answer {
        self.send("GET", &[], "").await
    }

    /// The stored text at a path.
    async fn stored(&self, path: &str) -> Option<Value> {
        let item = self.store.get(path).await.unwrap()?;
        Some(serde_json::from_slice(&item.value).unwrap())
    }
}

fn route(id: &str, uri: &str) -> Value {
    let upstream = json!({"nodes": {"127.0.0.1:1980": 1}, "type": "roundrobin"});
    json!({"id": id, "uri": uri, "upstream": upstream})
}

#[tokio::test]
async fn begins_empty() {
    let gateway = Gateway::new(None);
    for (accept, kind) in [("*/*", "application/json"), ("application/yaml", "application/yaml")] {
        let answer = gateway.send("GET", &[("accept", accept)], "").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
        let value = crate::yaml::parse(&answer.body).unwrap();
        let map = value.as_object().unwrap();
        assert_eq!(map.len(), 13, "{}", answer.body);
        assert!(map.iter().all(|(key, version)| key.ends_with("_conf_version") && *version == 0));
        assert_eq!((answer.header("x-digest"), answer.header("x-last-modified")), (None, None));
    }
    let head = gateway.send("HEAD", &[], "").await;
    assert_eq!((head.status, head.header("x-digest"), &head.body[..]), (200, None, ""));
}

#[tokio::test]
async fn takes_a_configuration_and_gives_it_back() {
    let gateway = Gateway::new(None);
    let config = json!({"routes": [route("r1", "/r1")], "unknown": [1]});
    let answer = gateway.put("one", &config).await;
    assert_eq!((answer.status, &answer.body[..]), (202, ""));
    assert_eq!(answer.header("x-digest"), Some("one"));
    assert!(answer.header("x-last-modified").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(gateway.put("one", &json!({})).await.status, 204, "the same digest");

    let answer = gateway.get().await;
    assert_eq!(answer.header("x-digest"), Some("one"));
    let value = answer.json();
    assert_eq!(value["routes"], config["routes"]);
    assert_eq!(
        (&value["routes_conf_version"], &value["ssls_conf_version"]),
        (&json!(1), &json!(1))
    );
    assert_eq!((&value["X-Digest"], value.get("unknown")), (&json!("one"), None));
    assert_eq!(gateway.stored("routes/r1").await.unwrap(), config["routes"][0]);

    let answer = gateway.send("GET", &[("accept", "application/yaml")], "").await;
    assert!(
        answer.body.contains("routes:\n") && answer.body.contains("id: r1\n"),
        "{}",
        answer.body
    );
    assert_eq!(crate::yaml::parse(&answer.body).unwrap(), value);

    let yaml = "routes:\n  - id: r2\n    uri: /r2\n    plugins: {}\n";
    let headers = [("x-digest", "two"), ("content-type", "application/yaml")];
    assert_eq!(gateway.send("PUT", &headers, yaml).await.status, 202);
    assert_eq!(gateway.stored("routes/r1").await, None);
    assert_eq!(
        gateway.stored("routes/r2").await.unwrap(),
        json!({"id": "r2", "uri": "/r2", "plugins": {}})
    );
    assert_eq!(gateway.put("three", &json!({})).await.status, 202);
    assert_eq!(gateway.stored("routes/r2").await, None);
    let value = gateway.get().await.json();
    assert_eq!((&value["routes_conf_version"], value.get("routes")), (&json!(3), None));
}

#[tokio::test]
async fn versions_decide_what_is_new() {
    let gateway = Gateway::new(None);
    let config = json!({"routes": [route("1", "/a")], "routes_conf_version": 1060,
        "upstreams": [{"id": "u", "nodes": {}}], "upstreams_conf_version": 1060});
    assert_eq!(gateway.put("a", &config).await.status, 202);
    let before = gateway.store.list("").await.unwrap();

    let config = json!({"routes": [route("1", "/b")], "routes_conf_version": 1062,
        "upstreams": [{"id": "other", "nodes": {}}], "upstreams_conf_version": 1060});
    assert_eq!(gateway.put("b", &config).await.status, 202);
    assert_eq!(gateway.stored("routes/1").await.unwrap()["uri"], "/b");
    let after = gateway.store.list("").await.unwrap();
    assert!(after.revision > before.revision);
    assert!(after.items[0].modified > before.items[0].modified);
    assert_eq!(after.items[0].created, before.items[0].created);
    assert_eq!(after.items[1], before.items[1], "the same version means no change");

    let lower = json!({"routes_conf_version": 1});
    let message = "routes_conf_version must be greater than or equal to (1062)";
    assert_eq!(gateway.put("c", &lower).await.error(), (400, message.to_owned()));
    let words = json!({"routes_conf_version": "adc"});
    let message = "routes_conf_version must be a number";
    assert_eq!(gateway.put("c", &words).await.error(), (400, message.to_owned()));
    let value = gateway.get().await.json();
    assert_eq!(
        (&value["routes_conf_version"], &value["ssls_conf_version"]),
        (&json!(1062), &json!(2))
    );
    assert_eq!(value["upstreams"][0]["id"], "u");
}

#[tokio::test]
async fn a_resource_with_the_same_index_stays() {
    let gateway = Gateway::new(None);
    let config = |index: i64, uri: &str| {
        let mut route = route("r1", uri);
        route["modifiedIndex"] = json!(index);
        json!({ "routes": [route] })
    };
    for (digest, index, uri, expected) in
        [("a", 1, "/r1", "/r1"), ("b", 1, "/r2", "/r1"), ("c", 2, "/r2", "/r2")]
    {
        assert_eq!(gateway.put(digest, &config(index, uri)).await.status, 202);
        let stored = gateway.stored("routes/r1").await.unwrap();
        assert_eq!((&stored["uri"], stored.get("modifiedIndex")), (&json!(expected), None));
    }
    assert_eq!(gateway.get().await.json()["routes"][0]["modifiedIndex"], 2);
}

#[tokio::test]
async fn consumers_bring_their_credentials() {
    let gateway = Gateway::new(None);
    let consumers = json!([{"username": "john"}, {"id": "john/credentials/a", "plugins": {}}]);
    let answer = gateway.put("a", &json!({"consumers": consumers})).await;
    assert_eq!(answer.status, 202);
    let credential = gateway.stored("consumers/john/credentials/a").await.unwrap();
    assert_eq!(credential["id"], "a");
    assert_eq!(gateway.get().await.json()["consumers"], consumers);
}

#[tokio::test]
async fn what_is_wrong_changes_nothing() {
    let gateway = Gateway::new(None);
    assert_eq!(gateway.put("a", &json!({"routes": [route("1", "/a")]})).await.status, 202);
    let before = gateway.store.list("").await.unwrap();
    let cases = [
        (
            json!({"routes": [route("r1", "/1"), route("r1", "/2")]}),
            "found duplicate id r1 in routes",
        ),
        (
            json!({"consumers": [{"username": "c"}, {"username": "c"}]}),
            "found duplicate username c in consumers",
        ),
        (
            json!({"consumers": [{"username": "j"}, {"id": "j/credentials/a", "plugins": {}},
                {"id": "j/credentials/a", "plugins": {}}]}),
            "found duplicate credential id j/credentials/a in consumers",
        ),
        (json!({"secrets": [{"id": "x"}]}), "invalid secret id: x"),
        (json!({"routes": {"a": 1}}), "routes must be a list"),
        (json!(7), "invalid request body: expected an object"),
    ];
    for (config, message) in cases {
        assert_eq!(gateway.put("b", &config).await.error(), (400, message.to_owned()));
    }
    let answer = gateway.send("PUT", &[], "{}").await;
    assert_eq!(answer.error(), (400, "missing digest header".to_owned()));
    let digest = ("x-digest", "b");
    let message = "invalid request body: empty request body".to_owned();
    assert_eq!(gateway.send("PUT", &[digest], "").await.error(), (400, message));
    let (status, message) = gateway.send("PUT", &[digest], "{abcd").await.error();
    assert!(status == 400 && message.starts_with("invalid request body: "), "{message}");
    let yaml = [digest, ("content-type", "application/yaml")];
    let message = "invalid request body: invalid yaml request body".to_owned();
    assert_eq!(gateway.send("PUT", &yaml, "text").await.error(), (400, message));
    let (status, message) = gateway.send("PUT", &yaml, "a: [").await.error();
    assert!(status == 400 && message.starts_with("invalid request body: "), "{message}");
    assert_eq!(gateway.send("POST", &[digest], "{}").await.status, 404);
    assert_eq!(gateway.store.list("").await.unwrap(), before);
    assert_eq!(gateway.get().await.header("x-digest"), Some("a"));
}

#[tokio::test]
async fn begins_with_the_file_where_there_is_one() {
    let text = "routes: [{uri: /a}]\nroutes_conf_version: 5\nupstreams: [{id: 1, nodes: {}}]\n#END";
    let gateway = Gateway::new(Some(text));
    let answer = gateway.get().await;
    let value = answer.json();
    assert_eq!(value["routes"], json!([{"uri": "/a", "id": "arr_1"}]));
    assert_eq!(
        (&value["routes_conf_version"], &value["upstreams_conf_version"]),
        (&json!(5), &json!(0))
    );
    assert_eq!((answer.header("x-digest"), value.get("X-Digest")), (None, None));

    let config = json!({"routes_conf_version": 5, "upstreams": [{"id": 2, "nodes": {}}]});
    assert_eq!(gateway.put("a", &config).await.status, 202);
    assert!(gateway.stored("routes/arr_1").await.is_some(), "the same version");
    assert!(gateway.stored("upstreams/1").await.is_none());
    assert!(gateway.stored("upstreams/2").await.is_some());
}
