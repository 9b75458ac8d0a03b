//! Routes with the same host and path.

use std::cmp::Reverse;
use std::sync::Arc;

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
    fn matches(&self, path: &[u8], method: &str) -> bool {
        let rest = self.route.uris.get(self.pattern as usize).and_then(|uri| uri.rest());
        self.route.methods.contains(method) && rest.is_none_or(|rest| rest.matches(path))
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

    pub(super) fn find(&self, path: &[u8], method: &str) -> Option<&Arc<Route>> {
        let mut all = self.as_slice().iter();
        all.find(|candidate| candidate.matches(path, method)).map(|candidate| &candidate.route)
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
