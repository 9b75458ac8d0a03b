//! What must hold among resources, before anything is built from them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use osmia_core::resource::{Id, Kind, Route, Status, Upstream, Violation};

use super::nodes::{self, Address};
use super::resolve::{self, Resolve};
use crate::resources::{Located, Problem, Problems, Resources};

/// Resources whose references and names are good.
pub(super) struct Checked<'r> {
    /// Per route the key of its upstream; `None` for a disabled route.
    pub(super) targets: Vec<Option<Arc<str>>>,
    /// The upstreams that enabled routes use.
    pub(super) upstreams: Vec<UpstreamInUse<'r>>,
}

/// An upstream with its addresses.
pub(super) struct UpstreamInUse<'r> {
    /// Its id, or `route#{id}` when it is written in a route.
    pub(super) key: Arc<str>,
    pub(super) config: &'r Upstream,
    pub(super) addresses: Vec<Address>,
}

/// Finds every route's upstream and the addresses of those in use; fails with all problems found.
pub(super) fn check<'r>(
    resources: &'r Resources,
    resolver: &dyn Resolve,
) -> Result<Checked<'r>, Problems> {
    let by_id = resources.upstreams.iter().map(|item| (&item.id, item)).collect();
    let mut checker = Checker {
        by_id,
        names: resolve::Cache::new(resolver),
        seen: HashSet::new(),
        upstreams: Vec::new(),
        problems: Vec::new(),
    };
    let targets = resources.routes.iter().map(|route| checker.target(route)).collect();
    let Checker { upstreams, mut problems, .. } = checker;
    if problems.is_empty() {
        return Ok(Checked { targets, upstreams });
    }
    problems.sort_by_key(|problem| (problem.kind, problem.index));
    Err(Problems(problems))
}

struct Checker<'r, 'n> {
    by_id: HashMap<&'r Id, &'r Located<Upstream>>,
    names: resolve::Cache<'n>,
    /// Ids of upstreams that were looked at.
    seen: HashSet<&'r Id>,
    upstreams: Vec<UpstreamInUse<'r>>,
    problems: Vec<Problem>,
}

impl<'r> Checker<'r, '_> {
    /// The key of the route's upstream. `upstream_id` wins over `upstream`, as in APISIX.
    fn target(&mut self, route: &'r Located<Route>) -> Option<Arc<str>> {
        let enabled = route.value.status == Status::Enabled;
        if let Some(id) = &route.value.upstream_id {
            let Some(owner) = self.by_id.get(id).copied() else {
                let reason = format!("upstream \"{id}\" does not exist");
                let violation = Violation::Rule(reason).at("upstream_id");
                self.problems.push(route.problem(Kind::Route, violation));
                return None;
            };
            if enabled && self.seen.insert(&owner.id) {
                let problem = |violation| owner.problem(Kind::Upstream, violation);
                self.take(owner.id.shared(), &owner.value, problem);
            }
            return enabled.then(|| owner.id.shared());
        }
        let inline = route.value.upstream.as_ref().filter(|_| enabled)?;
        let key: Arc<str> = format!("{}#{}", Kind::Route, route.id).into();
        let problem = |violation: Violation| route.problem(Kind::Route, violation.at("upstream"));
        self.take(Arc::clone(&key), inline, problem);
        Some(key)
    }

    fn take(
        &mut self,
        key: Arc<str>,
        config: &'r Upstream,
        problem: impl FnOnce(Violation) -> Problem,
    ) {
        match nodes::addresses(config, &mut self.names) {
            Ok(addresses) => self.upstreams.push(UpstreamInUse { key, config, addresses }),
            Err(violation) => self.problems.push(problem(violation)),
        }
    }
}
