//! The embedded store.

use std::sync::Arc;

use async_trait::async_trait;
use osmia_config_sync::store::Store;
use osmia_config_sync::store::embedded::EmbeddedStore;
use tempfile::TempDir;

use crate::subject::Subject;

const KEPT: u64 = 100;

pub struct Embedded {
    store: Arc<EmbeddedStore>,
    dir: TempDir,
}

#[async_trait]
impl Subject for Embedded {
    async fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, opened) = EmbeddedStore::open(dir.path(), KEPT).unwrap();
        assert!(opened.created);
        Self { store: Arc::new(store), dir }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    async fn reopen(self) -> Self {
        let Self { store, dir } = self;
        drop(Arc::into_inner(store).expect("the case has let go of the store"));
        let (store, opened) = EmbeddedStore::open(dir.path(), KEPT).unwrap();
        assert!(!opened.created);
        Self { store: Arc::new(store), dir }
    }
}
