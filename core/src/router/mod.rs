//! Route matching: host, then path, then the other tests.
//!
//! The semantics are those of APISIX's default router, `radixtree_host_uri`
//! (router-radixtree.md):
//!
//! 1. Routes of the exact host, then of wildcard hosts (`*.example.com`), the longest suffix first,
//!    then routes without a host.
//! 2. Among these the exact path, then prefixes, the longest first.
//! 3. Among routes with the same host and path the higher `priority`, then the longer pattern, then
//!    the earlier in the configuration.
//! 4. A route whose other tests fail is passed over, and the search goes on, down to shorter
//!    prefixes and less specific hosts. A priority never beats a more specific path.
//!
//! A lookup allocates nothing: each step is a hash lookup or one walk down a prefix tree.

mod method;
mod pattern;
mod tree;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

pub use method::{METHODS, MethodSet};
use pattern::Glob;
pub use pattern::{PathPattern, PatternError};
use tree::PrefixTree;

use crate::snapshot::Route;

type ByteMap<T> = HashMap<Box<[u8]>, T, ahash::RandomState>;

/// Routes by host and path. [`Router::default`] matches nothing.
#[derive(Default)]
pub struct Router {
    exact_hosts: ByteMap<PathTable>,
    /// By the suffix after `*`, read backwards from the end of the host.
    wildcard_hosts: PrefixTree<PathTable, true>,
    any_host: PathTable,
    routes: usize,
}

/// What the router needs to know of one route.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Lower-case hosts or `*` wildcards; empty: any host.
    pub hosts: &'a [String],
    /// At least one path pattern.
    pub uris: &'a [PathPattern],
    /// Methods that match.
    pub methods: MethodSet,
    /// Rank among routes with the same host and path.
    pub priority: i64,
    /// What a lookup returns.
    pub route: Arc<Route>,
}

/// The routes of one host.
#[derive(Default)]
struct PathTable {
    exact: ByteMap<Candidates>,
    prefixes: PrefixTree<Candidates, false>,
}

/// Routes with the same host and path, in the order they are tried.
type Candidates = Box<[Candidate]>;

struct Candidate {
    methods: MethodSet,
    /// What must follow the prefix, when the pattern goes on after its first `*`.
    rest: Option<Box<Glob>>,
    route: Arc<Route>,
}

impl Router {
    /// Builds a router from entries in the order of the configuration.
    pub fn build<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let mut hosts: HashMap<&str, TableDraft> = HashMap::new();
        let mut any_host = TableDraft::default();
        let mut routes = 0;
        for entry in entries {
            routes += 1;
            if entry.hosts.is_empty() {
                any_host.add(&entry);
            }
            for host in entry.hosts {
                hosts.entry(host).or_default().add(&entry);
            }
        }
        let mut exact_hosts = ByteMap::default();
        let mut wildcard_hosts = Vec::new();
        for (host, table) in hosts {
            match host.strip_prefix('*') {
                Some(suffix) => wildcard_hosts.push((suffix.as_bytes(), table.finish())),
                None => {
                    exact_hosts.insert(host.as_bytes().into(), table.finish());
                }
            }
        }
        let wildcard_hosts = PrefixTree::build(wildcard_hosts);
        Self { exact_hosts, wildcard_hosts, any_host: any_host.finish(), routes }
    }

    /// The route for a request, or `None`.
    ///
    /// `host` is in lower case and without a port, `path` is normalised, `method` is as received.
    pub fn find(&self, host: &[u8], path: &[u8], method: &str) -> Option<&Arc<Route>> {
        let exact = self.exact_hosts.get(host).and_then(|table| table.find(path, method));
        if exact.is_some() {
            return exact;
        }
        let mut wildcards = self.wildcard_hosts.longest_first(host);
        wildcards
            .find_map(|table| table.find(path, method))
            .or_else(|| self.any_host.find(path, method))
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether there is no route at all.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("routes", &self.routes)
            .field("exact_hosts", &self.exact_hosts.len())
            .field("wildcard_hosts", &self.wildcard_hosts.len())
            .finish_non_exhaustive()
    }
}

impl PathTable {
    fn find(&self, path: &[u8], method: &str) -> Option<&Arc<Route>> {
        let exact = self.exact.get(path).and_then(|all| first_match(all, path, method));
        if exact.is_some() {
            return exact;
        }
        self.prefixes.longest_first(path).find_map(|all| first_match(all, path, method))
    }
}

fn first_match<'r>(all: &'r [Candidate], path: &[u8], method: &str) -> Option<&'r Arc<Route>> {
    let passes = |candidate: &&Candidate| {
        candidate.methods.contains(method)
            && candidate.rest.as_ref().is_none_or(|rest| rest.matches(path))
    };
    all.iter().find(passes).map(|candidate| &candidate.route)
}

/// A [`PathTable`] while routes are still being added.
#[derive(Default)]
struct TableDraft {
    exact: BTreeMap<Box<[u8]>, Vec<Draft>>,
    prefixes: BTreeMap<Box<[u8]>, Vec<Draft>>,
}

struct Draft {
    priority: i64,
    pattern_len: usize,
    candidate: Candidate,
}

impl TableDraft {
    fn add(&mut self, entry: &Entry<'_>) {
        for uri in entry.uris {
            let paths = if uri.is_exact() { &mut self.exact } else { &mut self.prefixes };
            let candidate = Candidate {
                methods: entry.methods,
                rest: uri.rest().map(|rest| Box::new(rest.clone())),
                route: Arc::clone(&entry.route),
            };
            let pattern_len = uri.as_str().len();
            let draft = Draft { priority: entry.priority, pattern_len, candidate };
            paths.entry(uri.prefix().as_bytes().into()).or_default().push(draft);
        }
    }

    fn finish(self) -> PathTable {
        let ordered = |mut drafts: Vec<Draft>| -> Candidates {
            // Stable: equals stay in the order of the configuration.
            drafts.sort_by_key(|draft| std::cmp::Reverse((draft.priority, draft.pattern_len)));
            drafts.into_iter().map(|draft| draft.candidate).collect()
        };
        let exact = self.exact.into_iter().map(|(path, drafts)| (path, ordered(drafts)));
        let prefixes = self.prefixes.into_iter().map(|(path, drafts)| (path, ordered(drafts)));
        PathTable { exact: exact.collect(), prefixes: PrefixTree::build(prefixes) }
    }
}

#[cfg(test)]
mod tests;
