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
//! In the other two modes ([`Mode`]) the host is one of the tests of step 4.
//!
//! A lookup allocates nothing: each step is a hash lookup or one walk down a prefix tree.
//!
//! The router is persistent: a clone costs a few reference counts, and putting a route in or taking
//! it out copies only the way to its own places. Successive snapshots share all the rest.

mod candidates;
mod conditions;
pub(crate) mod hash_trie;
mod host;
mod method;
mod pattern;
mod prefix_tree;
mod request;

use std::fmt;
use std::sync::Arc;

use candidates::Candidates;
pub use conditions::{ConditionError, Conditions};
use hash_trie::HashTrie;
pub use method::{METHODS, MethodSet};
pub use pattern::{PathPattern, PatternError};
use prefix_tree::PrefixTree;
pub use request::{Hit, Matched, Observer, Request, Verdict};

use crate::snapshot::Route;

/// `apisix.router.http`: how requests are held against routes (router-radixtree.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
pub enum Mode {
    /// `radixtree_host_uri`: by host, then by path.
    #[default]
    #[serde(rename = "radixtree_host_uri")]
    HostUri,
    /// `radixtree_uri`: by path.
    #[serde(rename = "radixtree_uri")]
    Uri,
    /// `radixtree_uri_with_parameter`: by path, where `:name` takes a segment.
    #[serde(rename = "radixtree_uri_with_parameter")]
    UriWithParameter,
}

/// Routes by host and path. [`Router::default`] matches nothing.
#[derive(Clone, Default)]
pub struct Router {
    mode: Mode,
    exact_hosts: HashTrie<PathTable>,
    /// By the suffix after `*`, read backwards from the end of the host.
    wildcard_hosts: PrefixTree<PathTable, true>,
    any_host: PathTable,
    routes: usize,
}

/// The routes of one host.
#[derive(Clone, Default)]
struct PathTable {
    exact: HashTrie<Candidates>,
    prefixes: PrefixTree<Candidates, false>,
}

impl Router {
    /// A router without routes.
    pub fn new(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// How it matches.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// A router of these routes, whose ids are distinct, in the default mode.
    pub fn build(routes: impl IntoIterator<Item = Arc<Route>>) -> Self {
        let mut router = Self::default();
        routes.into_iter().for_each(|route| router.insert(&route));
        router
    }

    /// Puts a route in. A route with the same id must not be in it.
    pub fn insert(&mut self, route: &Arc<Route>) {
        self.routes += 1;
        if self.mode != Mode::HostUri || route.hosts.is_empty() {
            return self.any_host.insert(route);
        }
        for host in &route.hosts {
            self.table(host).insert(route);
        }
    }

    /// Puts a route in the place of `last`, which has the same id and was put in exactly like this.
    /// What does not move is found once, not taken out and put in again.
    pub fn replace(&mut self, last: &Route, route: &Arc<Route>) {
        if last.hosts != route.hosts {
            self.remove(last);
            return self.insert(route);
        }
        if self.mode != Mode::HostUri || route.hosts.is_empty() {
            return self.any_host.replace(last, route);
        }
        for host in &route.hosts {
            self.table(host).replace(last, route);
        }
    }

    /// The table of a host or of a wildcard, to be changed; an empty one where there is none.
    fn table(&mut self, host: &str) -> &mut PathTable {
        match host.strip_prefix('*') {
            Some(suffix) => self.wildcard_hosts.entry(suffix.as_bytes()),
            None => self.exact_hosts.entry(host.as_bytes()),
        }
    }

    /// Takes a route out that was put in exactly like this.
    pub fn remove(&mut self, route: &Route) {
        self.routes -= 1;
        if self.mode != Mode::HostUri || route.hosts.is_empty() {
            return self.any_host.remove(route);
        }
        for host in &route.hosts {
            if let Some(suffix) = host.strip_prefix('*') {
                let table = self.wildcard_hosts.entry(suffix.as_bytes());
                table.remove(route);
                if table.is_empty() {
                    self.wildcard_hosts.remove(suffix.as_bytes());
                }
            } else {
                let table = self.exact_hosts.entry(host.as_bytes());
                table.remove(route);
                if table.is_empty() {
                    self.exact_hosts.remove(host.as_bytes());
                }
            }
        }
    }

    /// The route for a request, or `None`. `observer` sees what was tried.
    pub fn find<'r>(
        &'r self,
        request: &impl Request,
        observer: &mut impl Observer,
    ) -> Option<Hit<'r>> {
        let mut find = |table: &'r PathTable| table.find(self.mode, request, observer);
        let host = request.host();
        let exact = self.exact_hosts.get(host).and_then(&mut find);
        exact
            .or_else(|| self.wildcard_hosts.longest(host, &mut find))
            .or_else(|| find(&self.any_host))
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
        f.debug_struct("Router").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl PathTable {
    fn find<'r>(
        &'r self,
        mode: Mode,
        request: &impl Request,
        observer: &mut impl Observer,
    ) -> Option<Hit<'r>> {
        let mut find = |all: &'r Candidates| all.find(mode, request, observer);
        let path = request.path();
        let exact = self.exact.get(path).and_then(&mut find);
        exact.or_else(|| self.prefixes.longest(path, &mut find))
    }

    fn insert(&mut self, route: &Arc<Route>) {
        for (index, uri) in route.uris.iter().enumerate() {
            self.candidates(uri).insert(route, index);
        }
    }

    fn replace(&mut self, last: &Route, route: &Arc<Route>) {
        if last.uris != route.uris {
            self.remove(last);
            return self.insert(route);
        }
        // All first: patterns may share a place.
        for uri in &route.uris {
            self.candidates(uri).remove(&route.id);
        }
        self.insert(route);
    }

    /// The routes of a pattern's prefix, to be changed; none where there are none.
    fn candidates(&mut self, uri: &PathPattern) -> &mut Candidates {
        let prefix = uri.prefix().as_bytes();
        if uri.is_exact() { self.exact.entry(prefix) } else { self.prefixes.entry(prefix) }
    }

    fn remove(&mut self, route: &Route) {
        for uri in &route.uris {
            let prefix = uri.prefix().as_bytes();
            let candidates = self.candidates(uri);
            candidates.remove(&route.id);
            if candidates.is_empty() {
                if uri.is_exact() {
                    self.exact.remove(prefix);
                } else {
                    self.prefixes.remove(prefix);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }
}

#[cfg(test)]
mod tests;
