//! From settings to a store with its journal and its copy on disk.

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

/// The file with the journal of a store that keeps none itself.
const JOURNAL_FILE: &str = "local.redb";
/// The file with the copy of etcd's contents.
const COPY_FILE: &str = "last-good.copy";

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
    /// What the copy had when it was opened.
    pub(super) last_good: Option<Contents>,
}

impl Opened {
    /// A store without a copy; the engine writes the journal when there is one.
    fn with_journal(store: Arc<dyn Store>, journal: Option<Journal>) -> Self {
        let records = journal.is_some();
        let journal = journal.unwrap_or_else(Journal::absent);
        Self { store, file: None, journal, records, copy: None, last_good: None }
    }
}

/// Opens the store that the settings name.
pub(super) async fn open(settings: &Settings) -> Result<Opened, StartError> {
    match &settings.provider {
        ConfigProvider::Embedded { seed } => {
            let (store, opened) = EmbeddedStore::open(&settings.data_dir, settings.history_keep)?;
            if opened.created {
                plant(&store, seed).await?;
            }
            let journal = store.journal();
            let opened = Opened::with_journal(Arc::new(store), journal);
            Ok(Opened { records: false, ..opened })
        }
        ConfigProvider::Etcd(etcd) => {
            let store = Arc::new(EtcdStore::new(etcd)?);
            let (copy, last_good) = open_copy(settings, &store.name()).unzip();
            let opened = Opened::with_journal(store, open_journal(settings));
            Ok(Opened { copy, last_good: last_good.flatten(), ..opened })
        }
        ConfigProvider::File { path, format } => {
            let store = FileStore::new(path.clone(), *format);
            // With the Admin API the configuration may come from there.
            let store = if settings.admin.is_some() { store.optional() } else { store };
            let store = Arc::new(store);
            let file = Some(Arc::clone(&store));
            Ok(Opened { file, ..Opened::with_journal(store, open_journal(settings)) })
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

/// The copy on disk, and what it has of this very store.
fn open_copy(settings: &Settings, source: &str) -> Option<(Copy, Option<Contents>)> {
    Copy::open(&settings.data_dir.join(COPY_FILE), source)
        .inspect_err(|reason| {
            tracing::error!(
                "no copy of the configuration is kept for a start without etcd: {reason}; see \
                 osmia.data_dir"
            );
        })
        .ok()
}

fn open_journal(settings: &Settings) -> Option<Journal> {
    Journal::open(&settings.data_dir.join(JOURNAL_FILE), settings.history_keep)
        .inspect_err(|reason| {
            tracing::warn!(
                "the history of the configuration is not kept: {reason}; see osmia.data_dir"
            );
        })
        .ok()
}
