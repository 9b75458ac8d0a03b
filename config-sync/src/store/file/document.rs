//! The text of a standalone file: `apisix.yaml` or `apisix.json` (APISIX, deployment-modes.md,
//! "Standalone").

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use osmia_core::resource::Kind;
use osmia_core::settings::FileFormat;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::item::{ReadItem, ReadSeed};
use super::transcode::Json;
use crate::env::{self, Lookup, MissingVariable};
use crate::yaml;

/// The last line of a complete YAML file.
const END: &str = "#END";
/// What follows a collection's name in the key that has its version.
const VERSION_SUFFIX: &str = "_conf_version";

/// Why a file cannot be used as a whole. Messages do not name the file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The end marker is missing: the file is still being written.
    #[error("not complete yet: the last line must be {END}")]
    Incomplete,
    /// A variable is not set.
    #[error(transparent)]
    Variable(#[from] MissingVariable),
    /// Not valid YAML or JSON.
    #[error("not valid {format}: {reason}")]
    Syntax {
        /// `YAML` or `JSON`.
        format: &'static str,
        /// Why, with line and column.
        reason: String,
    },
    /// A part of the file is not what it must be.
    #[error("{key}: {reason}")]
    Key {
        /// The top-level key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// One resource of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Path in the store: `routes/1`.
    pub path: String,
    /// JSON text.
    pub value: Bytes,
    /// `modifiedIndex` of the standalone Admin API: while it stays the same, so does the resource.
    pub(super) index: Option<i64>,
}

/// What a file contains.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The resources by path, each path once. Resources may be invalid in themselves.
    pub resources: Vec<Resource>,
    /// What was left out or is hardly meant, one line each.
    pub warnings: Vec<String>,
    /// `<collection>_conf_version`, where it is there.
    pub(crate) versions: HashMap<&'static str, f64>,
}

impl Document {
    /// Reads a file by its name: JSON when it ends in `.json`, else YAML. Variables of the
    /// environment are replaced.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let format = if json { FileFormat::Json } else { FileFormat::Yaml };
        Self::parse(&std::fs::read_to_string(path)?, format, &env::process)
    }

    /// Reads the text of a file, with the variables of this process.
    pub fn of_text(text: &str, format: FileFormat) -> Result<Self, LoadError> {
        Self::parse(text, format, &crate::env::process)
    }

    /// Parses the text of a file.
    pub(super) fn parse(
        text: &str,
        format: FileFormat,
        env: Lookup<'_>,
    ) -> Result<Self, LoadError> {
        match format {
            FileFormat::Yaml => {
                if !text.trim_end().ends_with(END) {
                    return Err(LoadError::Incomplete);
                }
                // Before YAML is read, so that quotes decide on types, as APISIX does.
                let text = env::substitute(text, env)?;
                Self::build(|builder| {
                    yaml::stream(&text, |deserializer| deserializer.deserialize_any(builder))
                        .map_err(|reason| LoadError::Syntax { format: "YAML", reason })
                })
            }
            FileFormat::Json if text.contains("${{") => {
                let mut value = serde_json::from_str(text).map_err(not_json)?;
                env::resolve(&mut value, "", env).map_err(|(_, missing)| missing)?;
                Self::build(|builder| value.deserialize_any(builder).map_err(not_json))
            }
            FileFormat::Json => Self::from_json(text.as_bytes()),
        }
    }

    /// Parses JSON as it is.
    pub(super) fn from_json(text: &[u8]) -> Result<Self, LoadError> {
        Self::build(|builder| {
            let mut deserializer = serde_json::Deserializer::from_slice(text);
            deserializer.deserialize_any(builder).map_err(not_json)?;
            deserializer.end().map_err(not_json)
        })
    }

    fn build(read: impl FnOnce(&mut Builder) -> Result<(), LoadError>) -> Result<Self, LoadError> {
        let mut builder = Builder::default();
        let read = read(&mut builder);
        if let Some(refused) = builder.refused {
            return Err(refused);
        }
        read?;
        Ok(builder.document.sorted())
    }

    /// Adds an item of a list.
    pub(super) fn push(&mut self, collection: &str, position: usize, item: ReadItem) {
        let ReadItem { path, id, value, index, notes } = item;
        let mut warn = |note: &str| {
            self.warnings.push(format!("{collection}[{position}] (id \"{id}\"): {note}"));
        };
        for note in &notes {
            warn(note);
        }
        match path {
            Some(path) => {
                self.resources.push(Resource {
                    path,
                    value: Bytes::copy_from_slice(&value),
                    index,
                });
            }
            None => warn("left out: the id must be {manager}/{id}, such as vault/1"),
        }
    }

    /// Sorts by path. As with APISIX the later of two items with the same path wins.
    pub(super) fn sorted(mut self) -> Self {
        self.resources.sort_by(|a, b| a.path.cmp(&b.path));
        let warnings = &mut self.warnings;
        self.resources.dedup_by(|later, earlier| {
            if later.path != earlier.path {
                return false;
            }
            warnings.push(format!("{}: replaces an earlier one with the same id", later.path));
            std::mem::swap(later, earlier);
            true
        });
        self.resources.shrink_to_fit();
        self
    }
}

fn not_json(error: impl fmt::Display) -> LoadError {
    LoadError::Syntax { format: "JSON", reason: error.to_string() }
}

/// The lists that there are at the top level.
pub(crate) fn collections() -> impl Iterator<Item = &'static str> {
    // Nested resources lie in the lists of their owners.
    let nested = |kind: &&Kind| matches!(kind, Kind::Credential | Kind::GraphqlCost);
    Kind::ALL.iter().filter(move |kind| !nested(kind)).map(|kind| kind.collection())
}

/// The list that a top-level key holds, by name.
fn collection(name: &str) -> Option<&'static str> {
    collections().find(|collection| *collection == name)
}

/// The collection whose version a top-level key has.
fn versioned(name: &str) -> Option<&'static str> {
    name.strip_suffix(VERSION_SUFFIX).and_then(collection)
}

/// Reads the top level.
#[derive(Default)]
struct Builder {
    document: Document,
    /// Why the document is refused, when reading stopped for more than its syntax.
    refused: Option<LoadError>,
}

impl Builder {
    fn refuse<E: Error>(&mut self, key: &str, reason: &str) -> E {
        self.refused = Some(LoadError::Key { key: key.to_owned(), reason: reason.to_owned() });
        E::custom(reason)
    }

    fn top_level<E: Error>(&mut self) -> E {
        self.refuse("top level", "expected keys such as routes and upstreams")
    }

    /// Reads what an unknown key holds, and says so unless it is empty.
    fn other<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let mut json = Vec::new();
        map.next_value_seed(Json(&mut json))?;
        if let Some(collection) = versioned(name) {
            match serde_json::from_slice(&json) {
                Ok(version) => drop(self.document.versions.insert(collection, version)),
                Err(_) => self.document.warnings.push(format!("{name}: not a number, left out")),
            }
        } else if !matches!(&json[..], b"null" | b"[]" | b"{}") && !name.ends_with(VERSION_SUFFIX) {
            self.document.warnings.push(format!("{name}: unknown key, left out"));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for &mut Builder {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys such as routes and upstreams")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match collection(&name) {
                Some(collection) => map.next_value_seed(List { collection, builder: self })?,
                None => self.other(&name, &mut map)?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.top_level())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Err(self.top_level())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Err(self.top_level())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Err(self.top_level())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(self.top_level())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Err(self.top_level())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads one list of resources.
struct List<'b> {
    collection: &'static str,
    builder: &'b mut Builder,
}

impl List<'_> {
    fn not_a_list<E: Error>(self) -> E {
        self.builder.refuse(self.collection, "expected a list")
    }
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { collection, builder } = self;
        let document = &mut builder.document;
        // The list of plugins is one resource.
        if collection == Kind::Plugins.collection() {
            let mut json = Vec::new();
            Json(&mut json).visit_seq(items)?;
            let path = collection.to_owned();
            document.resources.push(Resource { path, value: json.into(), index: None });
            return Ok(());
        }
        let mut position = 0;
        while let Some(item) = items.next_element_seed(ReadSeed { collection, position })? {
            document.push(collection, position, item);
            position += 1;
        }
        Ok(())
    }

    /// An empty map is what Lua makes of an empty list.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match map.next_entry::<IgnoredAny, IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(self.not_a_list()),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Err(self.not_a_list())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Err(self.not_a_list())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Err(self.not_a_list())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(self.not_a_list())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Err(self.not_a_list())
    }
}

#[cfg(test)]
mod tests;
