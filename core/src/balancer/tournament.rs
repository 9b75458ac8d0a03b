//! The smallest of many keys that change one at a time.

use std::hint::select_unpredictable;

/// Keys in a knock-out tournament: each match is won by the smaller key.
///
/// Changing a key replays the matches on its way to the final, always as many as the tournament has
/// rounds and without a branch on what the keys are; a heap's way depends on them, which the
/// processor guesses wrong half of the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tournament {
    /// The winner of match n plays in match n / 2; the final is match 1. The second half are the
    /// players, filled up with such as lose against everybody.
    matches: Box<[Player]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Player {
    key: u64,
    leaf: u32,
}

impl Tournament {
    /// Players 0, 1, ... with these keys; each key below `u64::MAX`.
    pub(super) fn new(keys: &[u64]) -> Self {
        let first = keys.len().max(1).next_power_of_two();
        let nobody = Player { key: u64::MAX, leaf: 0 };
        let mut matches = vec![nobody; 2 * first].into_boxed_slice();
        for (leaf, (player, key)) in (0..).zip(matches[first..].iter_mut().zip(keys)) {
            *player = Player { key: *key, leaf };
        }
        for at in (1..first).rev() {
            let (left, right) = (matches[2 * at], matches[2 * at + 1]);
            matches[at] = if right.key < left.key { right } else { left };
        }
        Self { matches }
    }

    /// The player with the smallest key, and that key; without players 0 and `u64::MAX`.
    #[inline]
    pub(super) fn best(&self) -> (usize, u64) {
        let Player { key, leaf } = self.matches[1];
        (leaf as usize, key)
    }

    /// The key of a player.
    pub(super) fn key(&self, leaf: usize) -> u64 {
        self.keys().get(leaf).map_or(u64::MAX, |player| player.key)
    }

    /// The player with the smallest key among those that `qualify`.
    pub(super) fn best_of(&self, qualify: impl Fn(usize) -> bool) -> Option<usize> {
        let players = self.keys().iter().enumerate();
        let qualified = players.filter(|(leaf, p)| p.key < u64::MAX && qualify(*leaf));
        qualified.min_by_key(|(_, player)| player.key).map(|(leaf, _)| leaf)
    }

    /// Gives a player another key.
    #[inline]
    pub(super) fn set(&mut self, leaf: usize, key: u64) {
        let mut at = self.matches.len() / 2 + leaf;
        let mut winner = Player { key, leaf: leaf as u32 };
        let Some(player) = self.matches.get_mut(at) else { return };
        *player = winner;
        while at > 1 {
            let other = self.matches[at ^ 1];
            // Who wins is anybody's guess: a jump would be guessed wrong half of the time.
            let wins = other.key < winner.key;
            winner.key = select_unpredictable(wins, other.key, winner.key);
            winner.leaf = select_unpredictable(wins, other.leaf, winner.leaf);
            at /= 2;
            self.matches[at] = winner;
        }
    }

    fn keys(&self) -> &[Player] {
        &self.matches[self.matches.len() / 2..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_is_the_smallest(
            mut keys in proptest::collection::vec(0..50_u64, 1..140),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..50_u64), 0..50),
        ) {
            let mut tournament = Tournament::new(&keys);
            for (leaf, key) in changes {
                let leaf = leaf.index(keys.len());
                keys[leaf] = key;
                tournament.set(leaf, key);
                prop_assert_eq!(tournament.key(leaf), key);
                let (best, key) = tournament.best();
                prop_assert_eq!(keys.iter().min(), Some(&key));
                prop_assert_eq!(keys[best], key);
                let odd = tournament.best_of(|leaf| leaf % 2 == 1).map(|leaf| keys[leaf]);
                prop_assert_eq!(odd, keys.iter().skip(1).step_by(2).min().copied());
            }
        }
    }

    #[test]
    fn nobody_and_strangers_do_no_harm() {
        let mut tournament = Tournament::new(&[]);
        assert_eq!(tournament.best(), (0, u64::MAX));
        assert_eq!(tournament.best_of(|_| true), None);
        tournament.set(7, 1);
        assert_eq!((tournament.key(7), tournament.best().1), (u64::MAX, u64::MAX));
    }
}
