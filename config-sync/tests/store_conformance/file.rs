//! Standalone files as subjects: operations are brought about by writing the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use osmia_config_sync::store::file::FileStore;
use osmia_config_sync::store::{Op, Store};
use osmia_core::settings::FileFormat;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::subject::Subject;

/// `apisix.json` or, when `YAML` says so, `apisix.yaml`.
pub struct File<const YAML: bool> {
    store: Arc<FileStore>,
    directory: TempDir,
    /// What the file has, by path.
    written: Mutex<BTreeMap<String, Value>>,
}

impl<const YAML: bool> File<YAML> {
    fn path(directory: &TempDir) -> PathBuf {
        directory.path().join(if YAML { "apisix.yaml" } else { "apisix.json" })
    }

    fn open(directory: &TempDir) -> Arc<FileStore> {
        let format = if YAML { FileFormat::Yaml } else { FileFormat::Json };
        Arc::new(FileStore::new(Self::path(directory), format))
    }

    /// The file's text: JSON is YAML.
    fn text(written: &BTreeMap<String, Value>) -> String {
        let mut lists: Map<String, Value> = Map::new();
        for (path, value) in written {
            let (collection, id) = path.split_once('/').unwrap();
            let mut item = value.clone();
            item["id"] = id.into();
            let list = lists.entry(collection).or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut().unwrap().push(item);
        }
        let end = if YAML { "\n#END\n" } else { "\n" };
        // JSON may have this as it is, YAML wants it escaped.
        Value::Object(lists).to_string().replace('\u{7f}', "\\u007f") + end
    }

    /// Replaces the file as a whole, as an editor does.
    fn save(directory: &TempDir, written: &BTreeMap<String, Value>) {
        let next = directory.path().join("next");
        std::fs::write(&next, Self::text(written)).unwrap();
        std::fs::rename(&next, Self::path(directory)).unwrap();
    }

    /// Whether the store shows what was written.
    async fn shows(&self, written: &BTreeMap<String, Value>) -> bool {
        let contents = self.store.list("").await.unwrap();
        contents.items.len() == written.len()
            && contents.items.iter().all(|item| {
                let text = written.get(&item.path).map(Value::to_string).unwrap_or_default();
                self.same_value(text.as_bytes(), &item.value)
            })
    }
}

#[async_trait]
impl<const YAML: bool> Subject for File<YAML> {
    async fn fresh() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::save(&directory, &BTreeMap::new());
        let store = Self::open(&directory);
        Self { store, directory, written: Mutex::default() }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    async fn reopen(self) -> Self {
        let store = Self::open(&self.directory);
        Self { store, ..self }
    }

    async fn write(&self, ops: Vec<Op>) {
        let written = {
            let mut written = self.written.lock().unwrap();
            for op in ops {
                match op {
                    Op::Put { path, value, .. } => {
                        written.insert(path, serde_json::from_slice(&value).unwrap());
                    }
                    Op::Delete { path } => {
                        written.remove(&path);
                    }
                }
            }
            written.clone()
        };
        Self::save(&self.directory, &written);
        while !self.shows(&written).await {
            self.store.refresh();
            tokio::task::yield_now().await;
        }
    }

    /// Stored items have their `id`, and the spacing of the file is not kept.
    fn same_value(&self, written: &[u8], read: &[u8]) -> bool {
        let parse = |text: &[u8]| -> Option<Map<String, Value>> {
            let mut map: Map<String, Value> = serde_json::from_slice(text).ok()?;
            map.remove("id");
            Some(map)
        };
        parse(written).is_some_and(|written| Some(written) == parse(read))
    }
}
