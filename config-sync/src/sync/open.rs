//! From settings to a store with its journal and its copy on disk.

use std::path::Path;
use std::sync::Arc;

use osmia_core::plugin::Registry;
use osmia_core::rules::Rules;
use osmia_core::settings::{ConfigProvider, Seed, Settings};

use super::StartError;
use crate::engine;
use crate::local::{Copy, Journal};
use crate::store::embedded::EmbeddedStore;
use crate::store::etcd::EtcdStore;
use crate::store::file::{self, Document, FileStore};
use crate::store::{Author, Contents, Op, Outcome, Store, Transaction};

/// The file with the journal of a store that keeps none itself, and with the copy of etcd.
const LOCAL_FILE: &str = "local.redb";

/// Problems that one message lists; the rest is counted.
const LISTED: usize = 10;

/// A store and what belongs to it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    /// The store again, when it is a file, for the standalone Admin API.
    pub(super) file: Option<Arc<FileStore>>,
    pub(super) journal: Journal,
    /// Whether the engine has to write the journal.
    pub(super) records: bool,
    pub(super) copy: Option<Copy>,
}

/// Opens the store that the settings name.
pub(super) async fn open(settings: &Settings) -> Result<Opened, StartError> {
    match &settings.provider {
        ConfigProvider::Embedded { seed } => {
            let (store, opened) = EmbeddedStore::open(&settings.data_dir, settings.history_keep)?;
            if opened.created {
                plant(&store, seed).await?;
            }
            let journal = store.journal().unwrap_or_else(Journal::absent);
            Ok(Opened { store: Arc::new(store), file: None, journal, records: false, copy: None })
        }
        ConfigProvider::Etcd(etcd) => {
            let store = Arc::new(EtcdStore::new(etcd)?);
            let copy = open_copy(settings);
            let records = copy.is_some();
            let journal = copy.as_ref().map(|copy| copy.journal(settings.history_keep));
            let journal = journal.unwrap_or_else(Journal::absent);
            Ok(Opened { store, file: None, journal, records, copy })
        }
        ConfigProvider::File { path, format } => {
            let store = FileStore::new(path.clone(), *format);
            // With the Admin API the configuration may come from there.
            let store = if settings.admin.is_some() { store.optional() } else { store };
            let store = Arc::new(store);
            let journal = open_journal(settings);
            let records = journal.is_some();
            let (file, journal) =
                (Some(Arc::clone(&store)), journal.unwrap_or_else(Journal::absent));
            Ok(Opened { store, file, journal, records, copy: None })
        }
    }
}

/// The checks that resources go through.
pub(super) fn rules(settings: &Settings) -> Arc<Rules> {
    let resources = &settings.resources;
    Arc::new(Rules {
        plugins: Arc::new(Registry::default()),
        unknown: resources.unknown_plugins.clone(),
        keyring: resources.keyring.clone(),
        encrypt_fields: resources.encrypt_fields,
        stream: resources.stream,
        router: resources.router,
        discovery: settings.discovery.types(),
    })
}

/// What the copy holds of this very store.
pub(super) fn last_good(copy: &Copy, store: &dyn Store) -> Option<Contents> {
    let name = store.name();
    match (copy.source(), copy.load()) {
        (Ok(Some(source)), Ok(contents)) if source == name => contents,
        (Ok(source), Ok(_)) => {
            if let Some(source) = source {
                tracing::warn!("the copy on disk is of {source} and is not used for {name}");
            }
            if let Err(error) = copy.set_source(&name) {
                tracing::error!("cannot write to the data directory: {error}");
            }
            None
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!("cannot read the copy on disk: {error}");
            None
        }
    }
}

/// Whether the first contents must be usable: a file is on this machine, and who starts the gateway
/// can correct it at once.
pub(super) fn must_load(settings: &Settings) -> bool {
    matches!(settings.provider, ConfigProvider::File { .. })
}

/// Reads what is a file, and compiles it. Fails with what cannot be used; otherwise the warnings
/// about it.
pub(super) fn check(settings: &Settings) -> Result<Vec<String>, StartError> {
    let (path, document) = match &settings.provider {
        ConfigProvider::File { path, format } => {
            (path, FileStore::new(path.clone(), *format).read_now())
        }
        ConfigProvider::Embedded { seed: Seed::File(path) } => (path, Document::read(path)),
        _ => return Ok(Vec::new()),
    };
    let load = |reason| StartError::Load { source_name: path.display().to_string(), reason };
    let document = document.map_err(|error| load(error.to_string()))?;
    let Document { resources, warnings, .. } = document;
    let (_, problems) = engine::snapshot_of(rules(settings), resources);
    match problems.len().checked_sub(LISTED) {
        _ if problems.is_empty() => {
            let warning = |text: String| format!("{}: {text}", path.display());
            Ok(warnings.into_iter().map(warning).collect())
        }
        Some(more) if more > 0 => {
            Err(load(format!("{}; and {more} more", problems[..LISTED].join("; "))))
        }
        _ => Err(load(problems.join("; "))),
    }
}

/// Puts the first resources into a new store.
async fn plant(store: &EmbeddedStore, seed: &Seed) -> Result<(), StartError> {
    let items = match seed {
        Seed::Empty => return Ok(()),
        Seed::Demo => file::demo(),
        Seed::File(path) => file::contents_of(path),
    };
    let load = |reason: String| {
        let source_name = match seed {
            Seed::File(path) => format!("osmia.embedded.seed {}", path.display()),
            _ => "the demo configuration".to_owned(),
        };
        StartError::Load { source_name, reason }
    };
    let items = items.map_err(|error| load(error.to_string()))?;
    let count = items.len();
    let put = |(path, value)| Op::Put { path, value, ttl: None };
    let author = Author { name: "seed".to_owned(), address: String::new() };
    let ops = items.into_iter().map(put).collect();
    match store.commit(Transaction { guards: Vec::new(), ops, author }).await? {
        Outcome::Committed { .. } => {
            tracing::info!(store = store.name(), resources = count, "a new store, seeded");
            Ok(())
        }
        Outcome::Conflict => Err(load("the new store is in use already".to_owned())),
    }
}

fn open_copy(settings: &Settings) -> Option<Copy> {
    let opened = prepare_directory(&settings.data_dir)
        .and_then(|()| Copy::open(&settings.data_dir.join(LOCAL_FILE)).map_err(|e| e.to_string()));
    match opened {
        Ok(copy) => Some(copy),
        Err(reason) => {
            tracing::error!(
                "neither a copy of the configuration nor its history is kept: {reason}; see \
                 osmia.data_dir"
            );
            None
        }
    }
}

fn open_journal(settings: &Settings) -> Option<Journal> {
    let keep = settings.history_keep;
    let opened = prepare_directory(&settings.data_dir).and_then(|()| {
        Journal::open(&settings.data_dir.join(LOCAL_FILE), keep).map_err(|e| e.to_string())
    });
    match opened {
        Ok(journal) => Some(journal),
        Err(reason) => {
            tracing::warn!(
                "the history of the configuration is not kept: {reason}; see osmia.data_dir"
            );
            None
        }
    }
}

fn prepare_directory(directory: &Path) -> Result<(), String> {
    std::fs::create_dir_all(directory)
        .map_err(|error| format!("cannot create {}: {error}", directory.display()))
}
