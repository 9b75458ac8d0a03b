//! A whole set of resources, and what can be wrong with one of them.

use std::fmt;

use osmia_core::resource::{Id, Kind, Route, Upstream};

/// Everything that one load of a source yields, in the order of the source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// All routes.
    pub routes: Vec<Located<Route>>,
    /// All upstreams that have an id of their own.
    pub upstreams: Vec<Located<Upstream>>,
}

/// A resource with the place it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// Position in its list, counted from 0.
    pub index: usize,
    /// The id it is known by.
    pub id: Id,
    /// The resource.
    pub value: T,
}

/// Something wrong with one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Kind of the resource.
    pub kind: Kind,
    /// Position in its list, counted from 0.
    pub index: usize,
    /// Its id, as far as it could be read.
    pub id: String,
    /// Field and reason.
    pub reason: String,
}

impl<T> Located<T> {
    /// A problem with this resource.
    pub fn problem(&self, kind: Kind, reason: impl fmt::Display) -> Problem {
        let id = self.id.to_string();
        Problem { kind, index: self.index, id, reason: format!("{reason:#}") }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, index, id, reason } = self;
        write!(f, "{}[{index}] (id \"{id}\"): {reason}", kind.collection())
    }
}

/// Problems listed in one message; the rest is counted.
const LISTED: usize = 10;

/// All problems of a load, as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().take(LISTED).enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        match self.0.len().checked_sub(LISTED) {
            Some(more) if more > 0 => write!(f, "; and {more} more"),
            _ => Ok(()),
        }
    }
}
