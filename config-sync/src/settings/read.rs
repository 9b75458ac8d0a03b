//! Typed access to the keys of the file, with errors that name the key's path.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{KeyError, KeyProblem, units};

/// A key with its path; its value may be absent.
#[derive(Debug, Clone)]
pub(super) struct Key<'v> {
    path: String,
    value: Option<&'v Value>,
    null: bool,
}

impl<'v> Key<'v> {
    pub(super) fn root(document: &'v Value) -> Self {
        Self::new(String::new(), Some(document))
    }

    fn new(path: String, value: Option<&'v Value>) -> Self {
        let null = value.is_some_and(Value::is_null);
        Self { path, value: value.filter(|_| !null), null }
    }

    /// A value from elsewhere, under a name for messages.
    pub(super) fn named(name: String, value: &'v Value) -> Self {
        Self::new(name, Some(value))
    }

    /// The key's path, such as `apisix.node_listen[0]`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The value; `None` when the key is absent or `null`.
    pub(super) fn value(&self) -> Option<&'v Value> {
        self.value
    }

    /// Whether `null` is written there, for the few keys where APISIX takes it for a value.
    pub(super) fn is_null(&self) -> bool {
        self.null
    }

    /// The key `name` below this one, which must be a map or absent.
    pub(super) fn get(&self, name: &str) -> Result<Key<'v>, KeyError> {
        let separator = if self.path.is_empty() { "" } else { "." };
        let path = format!("{}{separator}{name}", self.path);
        match self.value {
            None => Ok(Self::new(path, None)),
            Some(Value::Object(map)) => Ok(Self::new(path, map.get(name))),
            Some(_) => Err(self.wrong("a map")),
        }
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Result<impl Iterator<Item = Key<'v>>, KeyError> {
        let items = match self.value {
            None => &[],
            Some(Value::Array(items)) => &items[..],
            Some(_) => return Err(self.wrong("a list")),
        };
        let path = self.path.clone();
        let item = move |(index, item)| Self::new(format!("{path}[{index}]"), Some(item));
        Ok(items.iter().enumerate().map(item))
    }

    /// The error that the value is not `expected`.
    pub(super) fn wrong(&self, expected: &str) -> KeyError {
        let found = self.value.map_or_else(|| "nothing".to_owned(), describe);
        (self.path.clone(), KeyProblem::Type { expected: expected.to_owned(), found })
    }

    /// The error that the value is right for APISIX but not for this version.
    pub(super) fn unsupported(&self, what: &str) -> KeyError {
        (self.path.clone(), KeyProblem::Unsupported(what.to_owned()))
    }

    /// The error that the key is needed because of another one.
    pub(super) fn missing(&self, because: &str) -> KeyError {
        (self.path.clone(), KeyProblem::Rule(format!("is required with {because}")))
    }

    pub(super) fn boolean(&self, default: bool) -> Result<bool, KeyError> {
        match self.value {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(self.wrong("true or false")),
        }
    }

    pub(super) fn string(&self, default: &str) -> Result<String, KeyError> {
        match self.value {
            None => Ok(default.to_owned()),
            Some(Value::String(value)) => Ok(value.clone()),
            Some(_) => Err(self.wrong("a string")),
        }
    }

    /// A string, `None` when it is absent or empty.
    pub(super) fn text(&self) -> Result<Option<String>, KeyError> {
        Ok(Some(self.string("")?).filter(|text| !text.is_empty()))
    }

    /// A path, `None` when it is absent or empty.
    pub(super) fn file(&self) -> Result<Option<PathBuf>, KeyError> {
        if self.text()?.is_some() { self.path_value("").map(Some) } else { Ok(None) }
    }

    /// The files named by two keys below this one, of which one needs the other.
    pub(super) fn pair(
        &self,
        first: &str,
        second: &str,
    ) -> Result<Option<(PathBuf, PathBuf)>, KeyError> {
        let (first, second) = (self.get(first)?, self.get(second)?);
        match (first.file()?, second.file()?) {
            (Some(a), Some(b)) => Ok(Some((a, b))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(second.missing(first.path())),
            (None, Some(_)) => Err(first.missing(second.path())),
        }
    }

    /// A path, not empty.
    pub(super) fn path_value(&self, default: &str) -> Result<PathBuf, KeyError> {
        match self.value {
            None => Ok(default.into()),
            Some(Value::String(value)) if value.starts_with("syslog:") => {
                Err(self.unsupported("logging to syslog"))
            }
            Some(Value::String(value)) if !value.is_empty() && !value.contains('\0') => {
                Ok(value.into())
            }
            Some(_) => Err(self.wrong("a path")),
        }
    }

    /// One of the named values.
    pub(super) fn choice<T: Copy>(&self, all: &[(&str, T)], default: T) -> Result<T, KeyError> {
        let Some(value) = self.value else { return Ok(default) };
        let chosen = all.iter().find(|(name, _)| value.as_str() == Some(name));
        chosen.map(|(_, chosen)| *chosen).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
            self.wrong(&format!("one of {}", names.join(", ")))
        })
    }

    /// An integer, also written as a string of digits, or an error that says what is `expected`.
    pub(super) fn integer_as(
        &self,
        range: RangeInclusive<u64>,
        expected: &str,
    ) -> Result<u64, KeyError> {
        let found = match self.value {
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64(),
            None => None,
        };
        found.filter(|found| range.contains(found)).ok_or_else(|| self.wrong(expected))
    }

    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Result<u64, KeyError> {
        let expected = format!("an integer {}-{}", range.start(), range.end());
        self.integer_as(range, &expected)
    }

    pub(super) fn integer_or(
        &self,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, KeyError> {
        if self.value.is_none() { Ok(default) } else { self.integer(range) }
    }

    /// A time in nginx's notation; a plain number is in seconds.
    pub(super) fn duration(&self, default: Duration) -> Result<Duration, KeyError> {
        let found = match self.value {
            None => return Ok(default),
            Some(Value::String(text)) => units::duration(text),
            Some(value) => value.as_f64().and_then(units::seconds),
        };
        found.ok_or_else(|| self.wrong("a time such as 60s, 500ms or 1m"))
    }

    /// A size in nginx's notation, in bytes.
    pub(super) fn size(&self, default: u64) -> Result<u64, KeyError> {
        let found = match self.value {
            None => return Ok(default),
            Some(Value::String(text)) => units::size(text),
            Some(value) => value.as_u64(),
        };
        found.ok_or_else(|| self.wrong("a size such as 16384, 16k or 1m"))
    }

    /// A size within a range.
    pub(super) fn bytes_in(
        &self,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, KeyError> {
        let found = self.size(default)?;
        if range.contains(&found) {
            return Ok(found);
        }
        Err(self.wrong(&format!("a size of {}-{} bytes", range.start(), range.end())))
    }
}

/// A value as a message shows it.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("number {number}"),
        Value::String(text) => {
            let short: String = text.chars().take(60).collect();
            let dots = if short.len() < text.len() { "..." } else { "" };
            format!("string {short:?}{dots}")
        }
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}
