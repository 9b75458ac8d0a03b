//! Sessions that clients may resume.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::{HashMap, RandomState};
use rustls::server::StoresServerSessions;

/// Parts with a lock each, so that workers seldom meet.
const SHARDS: usize = 16;

/// Sessions by their ids, a bounded number of them; the oldest go first. It grows with its use:
/// each certificate with `client` has one of its own.
///
/// Handshakes take a lock here, requests do not come here.
pub(super) struct Sessions {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// Most sessions in one half of a shard.
    half: usize,
}

/// The sessions that came last, and those before them: when the young are many they become the old,
/// whose place that is.
#[derive(Default)]
struct Shard {
    young: HashMap<Vec<u8>, Vec<u8>>,
    old: HashMap<Vec<u8>, Vec<u8>>,
}

impl Sessions {
    /// A store of about `size` sessions at most.
    pub(super) fn new(size: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { hasher: RandomState::new(), shards, half: size.div_ceil(2 * SHARDS) }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut shard = self.shard(&key);
        if shard.young.len() >= self.half {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let shard = self.shard(key);
        shard.young.get(key).or_else(|| shard.old.get(key)).cloned()
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut shard = self.shard(key);
        let old = shard.old.remove(key);
        shard.young.remove(key).or(old)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("half", &self.half).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_the_number_is_bounded() {
        let sessions = Sessions::new(320);
        let key = |n: u32| n.to_be_bytes().to_vec();
        for n in 0..10_000 {
            assert!(sessions.put(key(n), vec![1]));
        }
        let kept = (0..10_000).filter(|n| sessions.get(&key(*n)).is_some()).count();
        assert!((160..=320).contains(&kept), "{kept}");
        assert_eq!((sessions.get(&key(0)), sessions.get(&key(9_999))), (None, Some(vec![1])));
        assert_eq!(sessions.take(&key(9_999)), Some(vec![1]));
        assert_eq!(sessions.get(&key(9_999)), None);
    }
}
