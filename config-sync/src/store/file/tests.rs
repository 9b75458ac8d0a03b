use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Ends a test that waits for what never comes.
const LIMIT: Duration = Duration::from_secs(30);

struct Subject {
    store: FileStore,
    path: PathBuf,
    _directory: TempDir,
}

impl Subject {
    fn new(text: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("apisix.yaml");
        let store = FileStore::new(path.clone(), FileFormat::Yaml);
        let subject = Self { store, path, _directory: directory };
        if let Some(text) = text {
            subject.write(text);
        }
        subject
    }

    /// Replaces the file as a whole, so that no half of it is ever read.
    fn write(&self, text: &str) {
        let next = self.path.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &self.path).unwrap();
    }

    fn rewrite(&self, text: &str) {
        self.write(text);
        self.store.refresh();
    }
}

async fn next(events: &mut Events) -> Event {
    timeout(LIMIT, events.recv()).await.expect("an event in time").expect("the watch goes on")
}

async fn load(events: &mut Events) -> Contents {
    match next(events).await {
        Event::Load(contents) => contents,
        other => panic!("not expected: {other:?}"),
    }
}

async fn refused(events: &mut Events) -> String {
    match next(events).await {
        Event::Refused { reason } => reason,
        other => panic!("not expected: {other:?}"),
    }
}

#[tokio::test]
async fn revisions_change_with_the_contents_only() {
    let subject = Subject::new(Some("routes: [{id: 1, uri: /a}, {id: 2, uri: /b}]\n#END"));
    let mut events = subject.store.watch();
    let first = load(&mut events).await;
    assert!(first.items.iter().all(|item| item.created == first.revision));
    assert!(first.items.iter().all(|item| item.modified == first.revision));

    // The same resources in another order and form, and one that is different.
    subject.rewrite(
        "routes:\n  - {id: 3, uri: /c}\n  - {uri: /x, id: 2}\n  - id: '1'\n    uri: /a\n#END",
    );
    let second = load(&mut events).await;
    assert!(second.revision > first.revision);
    let seen: Vec<(&str, u64, u64)> =
        second.items.iter().map(|item| (&item.path[..], item.created, item.modified)).collect();
    let (old, new) = (first.revision, second.revision);
    assert_eq!(seen, [("routes/1", old, old), ("routes/2", old, new), ("routes/3", new, new)]);

    // Nothing but a comment: the next event is about what comes after it.
    subject.rewrite("routes: [{id: 1, uri: /a}, {id: 2, uri: /x}, {id: 3, uri: /c}]\n# .\n#END");
    assert_eq!(subject.store.list("").await.unwrap(), second);
    subject.rewrite("routes: [{id: 1, uri: /a}]\n#END");
    let third = load(&mut events).await;
    assert_eq!(third.items, second.items[..1]);
    assert_eq!(subject.store.get("routes/2").await.unwrap(), None);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_refused_and_the_last_contents_stay() {
    let subject = Subject::new(None);
    let mut events = subject.store.watch();
    let missing = refused(&mut events).await;
    let name = subject.path.display().to_string();
    assert!(missing.starts_with(&format!("{name}: cannot be read: ")), "{missing}");
    let error = subject.store.get("routes/1").await.unwrap_err();
    assert_eq!(error, StoreError::Unavailable(missing));

    let text = "routes: [{id: 1, uri: /a}]\n#END";
    subject.rewrite(text);
    let contents = load(&mut events).await;
    for (text, reason) in [
        ("routes: []\n", "not complete yet: the last line must be #END"),
        ("routes: 1\n#END", "routes: expected a list"),
    ] {
        subject.rewrite(text);
        assert_eq!(refused(&mut events).await, format!("{name}: {reason}"));
        assert_eq!(subject.store.list("").await.unwrap(), contents);
    }
    subject.rewrite(text);
    assert_eq!(next(&mut events).await, Event::Restored);
    let mut late = subject.store.watch();
    assert_eq!(load(&mut late).await, contents);
}

#[tokio::test]
async fn changes_are_noticed_without_being_told() {
    let subject = Subject::new(Some("routes: []\n#END"));
    let mut events = subject.store.watch();
    assert!(load(&mut events).await.items.is_empty());
    subject.write("routes: [{id: 1, uri: /a}]\n#END");
    assert_eq!(load(&mut events).await.items.len(), 1);
}

#[tokio::test]
async fn nothing_is_written_to_a_file() {
    let subject = Subject::new(Some("#END"));
    assert!(!subject.store.is_writable());
    let error = subject.store.commit(Transaction::default()).await.unwrap_err();
    let name = subject.path.display();
    let text = format!("the configuration comes from {name} and cannot be changed here");
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn an_optional_file_may_come_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("apisix.yaml");
    let store = FileStore::new(path.clone(), FileFormat::Yaml).optional();
    let mut events = store.watch();
    assert!(load(&mut events).await.items.is_empty());
    let next = directory.path().join("next");
    std::fs::write(&next, "routes: [{id: 1}]\n#END").unwrap();
    std::fs::rename(&next, &path).unwrap();
    store.refresh();
    assert_eq!(load(&mut events).await.items.len(), 1);
    std::fs::remove_file(&path).unwrap();
    store.refresh();
    assert!(refused(&mut events).await.contains("cannot be read"));
}

#[tokio::test]
async fn what_the_admin_api_put_is_not_replaced_by_the_file() {
    let subject = Subject::new(Some("routes: [{id: file}]\n#END"));
    let mut events = subject.store.watch();
    load(&mut events).await;
    let text = br#"{"routes":[{"id":"api"}]}"#;
    let document = Document::from_json(text).unwrap();
    let revision = subject.store.replace(Config::default(), document.clone()).await.unwrap();
    let contents = load(&mut events).await;
    assert_eq!((contents.revision, &contents.items[0].path[..]), (revision, "routes/api"));
    subject.rewrite("routes: [{id: file}]\n#END");
    assert_eq!(subject.store.replace(Config::default(), document).await.unwrap(), revision);
    assert_eq!(subject.store.list("").await.unwrap(), contents);
}

#[test]
fn a_check_reads_the_file_and_leaves_the_store() {
    let subject = Subject::new(Some("routes: [{id: 1}]\nrouets: [1]\n#END"));
    let document = subject.store.read_now().unwrap();
    assert_eq!((document.resources.len(), document.warnings.len()), (1, 1));
    assert!(subject.store.shared.published.borrow().contents.is_none());
}

#[test]
fn the_demo_is_one_route_to_the_demo_upstream() {
    let demo = demo().unwrap();
    let [(path, text)] = &demo[..] else { panic!("{demo:?}") };
    let route: Value = serde_json::from_slice(text).unwrap();
    assert_eq!((&path[..], &route["uri"]), ("routes/demo", &Value::from("/*")));
    let nodes = route["upstream"]["nodes"].as_object().unwrap();
    assert_eq!(nodes.keys().collect::<Vec<_>>(), [DEMO_UPSTREAM]);
}

#[test]
fn the_shipped_files_are_right() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    for name in ["apisix.yaml", "demo.yaml"] {
        let document = Document::read(&conf.join(name)).unwrap();
        assert_eq!(document.resources.len(), 1, "{name}");
        assert!(document.warnings.is_empty(), "{:?}", document.warnings);
        assert_eq!(contents_of(&conf.join(name)).unwrap(), pairs(document));
    }
}
