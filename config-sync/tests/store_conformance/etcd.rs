//! The store in etcd.

use std::sync::Arc;

use async_trait::async_trait;
use osmia_config_sync::store::Store;
use osmia_config_sync::store::etcd::EtcdStore;
use osmia_tests::etcd::{Etcd as Process, settings};
use tokio::task::spawn_blocking;

use crate::subject::Subject;

pub struct Etcd {
    store: Arc<EtcdStore>,
    process: Process,
}

impl Etcd {
    fn of(process: Process) -> Self {
        let settings = settings(&[process.url()]);
        Self { store: Arc::new(EtcdStore::new(&settings).unwrap()), process }
    }
}

#[async_trait]
impl Subject for Etcd {
    async fn fresh() -> Self {
        Self::of(spawn_blocking(Process::start).await.unwrap())
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    async fn reopen(self) -> Self {
        let Self { store, mut process } = self;
        drop(store);
        let restarted = spawn_blocking(move || {
            process.kill();
            process.restart();
            process
        });
        Self::of(restarted.await.unwrap())
    }
}
