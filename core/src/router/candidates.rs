//! Routes with the same host and path.

use std::cmp::Reverse;
use std::sync::Arc;

use super::request::{Hit, Matched, Observer, Request, Verdict};
use super::{Conditions, Mode, host};
use crate::expr;
use crate::snapshot::Route;

/// Routes with the same host and path, in the order in which they are tried. Nearly always one.
#[derive(Clone, Default)]
pub(super) enum Candidates {
    #[default]
    None,
    One(Candidate),
    Many(Arc<[Candidate]>),
}

#[derive(Clone)]
pub(super) struct Candidate {
    route: Arc<Route>,
    /// Which of the route's patterns this is.
    pattern: u32,
}

impl Candidate {
    /// Tests in APISIX's order what the path's prefix and, in [`Mode::HostUri`], the host have not
    /// decided.
    fn test(&self, mode: Mode, request: &impl Request) -> Verdict {
        let route = &*self.route;
        if !route.methods.contains(request.method()) {
            return Verdict::Method;
        }
        if let Some(conditions) = route.conditions()
            && !conditions.admits(request.client())
        {
            return Verdict::RemoteAddr;
        }
        if mode != Mode::HostUri && !host::matches(&route.hosts, request) {
            return Verdict::Host;
        }
        if let Some(vars) = route.conditions().and_then(Conditions::vars) {
            match vars.eval(request, &mut request.scratch()) {
                expr::Verdict::True => {}
                expr::Verdict::False => return Verdict::Vars,
                expr::Verdict::NeedsBody => return Verdict::NeedsBody,
            }
        }
        let rest = route.uris.get(self.pattern as usize).and_then(|uri| uri.rest());
        if rest.is_some_and(|rest| !rest.matches(request.path())) {
            return Verdict::Path;
        }
        Verdict::Matched
    }

    /// The smaller is tried first: higher priority, longer pattern, older, smaller id.
    fn rank(&self) -> impl Ord + '_ {
        let pattern = self.route.uris.get(self.pattern as usize);
        let length = pattern.map_or(0, |uri| uri.as_str().len());
        let Route { priority, order, id, .. } = &*self.route;
        (Reverse((*priority, length)), *order, id, self.pattern)
    }
}

impl Candidates {
    fn as_slice(&self) -> &[Candidate] {
        match self {
            Self::None => &[],
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(all) => all,
        }
    }

    /// The first that passes all tests, or that cannot be decided yet.
    pub(super) fn find(
        &self,
        mode: Mode,
        request: &impl Request,
        observer: &mut impl Observer,
    ) -> Option<Hit<'_>> {
        self.as_slice().iter().find_map(|candidate| {
            let verdict = candidate.test(mode, request);
            observer.tried(&candidate.route, candidate.pattern as usize, verdict);
            match verdict {
                Verdict::Matched => {
                    let Candidate { route, pattern } = candidate;
                    Some(Hit::Matched(Matched { route, pattern: *pattern }))
                }
                Verdict::NeedsBody => Some(Hit::NeedsBody),
                _ => None,
            }
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    pub(super) fn insert(&mut self, route: &Arc<Route>, pattern: usize) {
        let new = Candidate { route: Arc::clone(route), pattern: pattern as u32 };
        let all = self.as_slice();
        if all.is_empty() {
            *self = Self::One(new);
            return;
        }
        let place = all.partition_point(|other| other.rank() < new.rank());
        let (before, after) = all.split_at(place);
        *self = Self::Many(before.iter().chain([&new]).chain(after).cloned().collect());
    }

    /// Removes every pattern of the route with this id.
    pub(super) fn remove(&mut self, id: &str) {
        let mut kept = self.as_slice().iter().filter(|candidate| &*candidate.route.id != id);
        *self = match (kept.next(), kept.next()) {
            (None, _) => Self::None,
            (Some(only), None) => Self::One(only.clone()),
            (Some(first), Some(second)) => {
                Self::Many([first, second].into_iter().chain(kept).cloned().collect())
            }
        };
    }
}
