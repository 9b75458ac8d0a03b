//! What a standalone store holds, and how new text changes it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use osmia_core::settings::FileFormat;

use super::config::{Config, Versions};
use super::document::{Document, LoadError, Resource};
use super::watched::WatchedFile;
use crate::env;
use crate::store::{Contents, Item};

/// What watchers and readers see.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    /// `None`: nothing has been read yet, or nothing could be used.
    pub(super) contents: Option<Arc<Contents>>,
    /// Why the last text that was read is not in force.
    pub(super) refused: Option<Arc<str>>,
    /// What was put through the standalone Admin API, and is in force instead of the file.
    pub(super) config: Option<Arc<Config>>,
    /// The versions of collections that the file gives.
    pub(super) versions: Arc<Versions>,
}

/// What may change and by whom is asked for under one lock, on threads that may block.
#[derive(Debug)]
pub(super) struct Current {
    file: WatchedFile,
    format: FileFormat,
    /// Whether the file may be missing at first: the Admin API brings the contents.
    optional: bool,
    published: Published,
    /// `modifiedIndex` of the resources that have one.
    indexes: HashMap<String, i64>,
}

impl Current {
    pub(super) fn new(path: PathBuf, format: FileFormat) -> Self {
        Self {
            file: WatchedFile::new(path),
            format,
            optional: false,
            published: Published::default(),
            indexes: HashMap::new(),
        }
    }

    pub(super) fn set_optional(&mut self) {
        self.optional = true;
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn format(&self) -> FileFormat {
        self.format
    }

    /// Looks at the file; when `always`, it is read whether it seems to have changed or not.
    /// Returns what is new.
    pub(super) fn look(&mut self, always: bool) -> Option<Published> {
        if self.published.config.is_some() {
            return None;
        }
        let text = if always { self.file.read().map(Some) } else { self.file.read_if_changed() };
        let parsed = match text {
            Ok(None) => return None,
            Ok(Some(text)) => Document::parse(&text, self.format, &env::process),
            Err(error) if self.may_be_missing(&error) => Ok(Document::default()),
            Err(error) => Err(error.into()),
        };
        match parsed {
            Ok(document) => self.accept_file(document),
            Err(error) => self.refuse(&error),
        }
    }

    fn may_be_missing(&self, error: &io::Error) -> bool {
        let nothing_yet = self.published.contents.as_ref().is_none_or(|held| held.items.is_empty());
        self.optional && nothing_yet && error.kind() == io::ErrorKind::NotFound
    }

    fn accept_file(&mut self, document: Document) -> Option<Published> {
        for warning in &document.warnings {
            tracing::warn!("{}: {warning}", self.file.path().display());
        }
        let was_refused = self.published.refused.take().is_some();
        self.published.versions = Arc::new(document.versions.clone());
        let changed = self.install(document, false);
        (changed || was_refused).then(|| self.published.clone())
    }

    fn refuse(&mut self, error: &LoadError) -> Option<Published> {
        let reason: Arc<str> = format!("{}: {error}", self.file.path().display()).into();
        if self.published.refused.as_ref() == Some(&reason) {
            return None;
        }
        self.published.refused = Some(reason);
        Some(self.published.clone())
    }

    /// Puts a whole configuration in the place of the file, for as long as the process lives.
    pub(super) fn replace(&mut self, config: Config, document: Document) -> Published {
        if self.published.config.is_none() {
            tracing::info!(
                file = %self.file.path().display(),
                "the Admin API has put a configuration in the place of the file, which is not \
                 followed any more"
            );
        }
        self.published.refused = None;
        self.published.config = Some(Arc::new(config));
        self.install(document, true);
        self.published.clone()
    }

    /// Makes the contents those of `document`. A resource whose text is the same keeps its
    /// revision; with `by_index`, so does one whose `modifiedIndex` is the same, text and all.
    /// Returns whether anything changed.
    fn install(&mut self, document: Document, by_index: bool) -> bool {
        let before = self.published.contents.clone();
        let known = before.as_deref().map_or(&[][..], |contents| &contents.items);
        let last = before.as_ref().map_or(0, |contents| contents.revision);
        let revision = now_ms().max(last + 1);
        let mut indexes = HashMap::new();
        let mut items = Vec::with_capacity(document.resources.len());
        let mut old = known.iter().peekable();
        let mut same = 0;
        for resource in document.resources {
            while old.next_if(|item| item.path < resource.path).is_some() {}
            let before = old.next_if(|item| item.path == resource.path);
            let keeps_index = by_index && self.keeps_index(&resource);
            if let Some(index) = resource.index {
                indexes.insert(resource.path.clone(), index);
            }
            items.push(match before {
                Some(item) if keeps_index || item.value == resource.value => {
                    same += 1;
                    item.clone()
                }
                _ => Item {
                    created: before.map_or(revision, |item| item.created),
                    modified: revision,
                    path: resource.path,
                    value: resource.value,
                },
            });
        }
        self.indexes = indexes;
        if before.is_some() && same == known.len() && same == items.len() {
            return false;
        }
        self.published.contents = Some(Arc::new(Contents { revision, items }));
        true
    }

    fn keeps_index(&self, resource: &Resource) -> bool {
        resource.index.is_some() && self.indexes.get(&resource.path) == resource.index.as_ref()
    }
}

/// Milliseconds since 1970: revisions that go on after a restart.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
