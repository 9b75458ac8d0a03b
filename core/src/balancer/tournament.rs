//! The smallest of many ranks that change one at a time.

/// Ranks in a knock-out tournament: each match is won by the smaller one.
///
/// Changing a rank replays the matches on its way to the final, always as many as the tournament
/// has rounds and without a branch on what the ranks are; a heap's way depends on them, which the
/// processor guesses wrong half of the time. Who a rank belongs to is told by its own low bits, so
/// that a match is one comparison of one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tournament {
    /// The opponents of each match. The winner of match n is in match n / 2, on the side n % 2; the
    /// final is match 1. The second half has the players, filled up with such as lose against
    /// everybody.
    matches: Box<[[u64; 2]]>,
    winner: u64,
    /// Low bits that say who it is.
    bits: u32,
}

const NOBODY: u64 = u64::MAX;

impl Tournament {
    /// For players 0, 1, ..., who take part as soon as they have a rank.
    pub(super) fn new(players: usize) -> Self {
        let bits = bits(players);
        Self { matches: vec![[NOBODY; 2]; 1 << bits].into(), winner: NOBODY, bits }
    }

    /// Bits that a rank may have among so many players.
    pub(super) fn room(players: usize) -> u32 {
        u64::BITS - bits(players)
    }

    /// The player with the smallest rank, the first of equals; some number that nobody has when
    /// none takes part.
    #[inline]
    pub(super) fn best(&self) -> usize {
        self.player(self.winner)
    }

    /// The player with the smallest rank among those that `qualify`.
    pub(super) fn best_of(&self, qualify: impl Fn(usize) -> bool) -> Option<usize> {
        let all = self.matches[self.matches.len() / 2..].iter().flatten().copied();
        let qualified = all.filter(|one| *one != NOBODY && qualify(self.player(*one)));
        qualified.min().map(|one| self.player(one))
    }

    /// Gives a player a rank, below 2 to the power of [`Tournament::room`].
    #[inline]
    pub(super) fn set(&mut self, player: usize, rank: u64) {
        let mut at = self.matches.len() + player;
        let mut winner = rank << self.bits | player as u64;
        while at > 1 {
            let Some(opponents) = self.matches.get_mut(at / 2) else { return };
            opponents[at % 2] = winner;
            winner = winner.min(opponents[1 - at % 2]);
            at /= 2;
        }
        self.winner = winner;
    }

    fn player(&self, one: u64) -> usize {
        (one & ((1 << self.bits) - 1)) as usize
    }
}

/// At least one, so that there is a final.
fn bits(players: usize) -> u32 {
    // One number more than players: all ones is nobody's.
    (players + 1).next_power_of_two().trailing_zeros().max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(ranks: &[u64]) -> Tournament {
        let mut tournament = Tournament::new(ranks.len());
        ranks.iter().enumerate().for_each(|(player, rank)| tournament.set(player, *rank));
        tournament
    }

    proptest! {
        #[test]
        fn the_best_has_the_smallest_rank(
            mut ranks in proptest::collection::vec(0..50_u64, 1..140),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..50_u64), 0..50),
        ) {
            let mut tournament = of(&ranks);
            for (player, rank) in changes {
                let player = player.index(ranks.len());
                ranks[player] = rank;
                tournament.set(player, rank);
                prop_assert_eq!(tournament.clone(), of(&ranks));
                let least = ranks.iter().enumerate().min_by_key(|(_, rank)| **rank);
                prop_assert_eq!(Some(tournament.best()), least.map(|(player, _)| player));
                let odd = tournament.best_of(|player| player % 2 == 1).map(|player| ranks[player]);
                prop_assert_eq!(odd, ranks.iter().skip(1).step_by(2).min().copied());
            }
        }
    }

    #[test]
    fn ranks_may_fill_their_room() {
        for players in [1, 2, 3, 4, 100, 127, 128] {
            let most = u64::MAX >> (u64::BITS - Tournament::room(players));
            let mut tournament = of(&vec![most; players]);
            assert_eq!(tournament.best(), 0);
            tournament.set(players - 1, most - 1);
            assert_eq!(tournament.best(), players - 1, "{players}");
        }
    }

    #[test]
    fn nobody_and_strangers_do_no_harm() {
        let mut tournament = Tournament::new(0);
        assert_eq!(tournament.best(), 1, "nobody's number");
        assert_eq!(tournament.best_of(|_| true), None);
        let before = tournament.clone();
        tournament.set(7, 1);
        assert_eq!(tournament, before);
    }
}
