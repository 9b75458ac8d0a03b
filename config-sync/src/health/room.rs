//! How many descriptors the checks may have.

use rustix::process::{Resource, getrlimit};

/// Health checks take at most one in so many of the descriptors that the process may have, so that
/// clients have the rest.
pub const DESCRIPTORS: u64 = 4;

/// Most probes under way at the same time.
const PROBES: u64 = 1024;
/// Most connections that are kept for the next probe of their node.
const KEPT: u64 = 16384;

/// Room for connections. Where descriptors are few, less is done at the same time, and more nodes
/// are connected to anew each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Probes under way.
    pub(super) probes: usize,
    /// Connections between two probes.
    pub(super) kept: usize,
}

impl Room {
    /// What this process's limit of open files leaves. It is not raised later than at boot.
    pub(super) fn of_process() -> Self {
        Self::of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn of(limit: u64) -> Self {
        let share = limit / DESCRIPTORS;
        let probes = (share / 4).clamp(1, PROBES);
        let kept = share.saturating_sub(probes).min(KEPT);
        // Both are small.
        Self { probes: probes as usize, kept: kept as usize }
    }
}

impl Default for Room {
    /// All that can be of use.
    fn default() -> Self {
        Self::of(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_descriptors_are_left_to_clients() {
        assert_eq!(Room::of(u64::MAX), Room { probes: 1024, kept: 16384 });
        assert_eq!(Room::of(20_000), Room { probes: 1024, kept: 3976 });
        assert_eq!(Room::of(1024), Room { probes: 64, kept: 192 });
        assert_eq!(Room::of(0), Room { probes: 1, kept: 0 });
        for limit in [100, 1024, 5000, 65_536, 1 << 20] {
            let Room { probes, kept } = Room::of(limit);
            assert!((probes + kept) as u64 <= limit / DESCRIPTORS, "{limit}");
        }
    }
}
