//! The smallest of many ranks that change one at a time.

/// Ranks in a knock-out tournament: each match is won by the smaller one.
///
/// Changing a rank replays the matches on its way to the final, always as many as the tournament
/// has rounds and without a branch on what the ranks are; a heap's way depends on them, which the
/// processor guesses wrong half of the time. Who a rank belongs to is told by its own low bits, so
/// that a match is one comparison of one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tournament {
    /// Who is at each place. Those at 2n and 2n + 1 play for place n; who gets to place 1 has won.
    /// The second half has the players, filled up with such as lose against everybody.
    places: Box<[u64]>,
    /// The low bits that say who it is.
    who: u64,
}

const NOBODY: u64 = u64::MAX;

/// Places of tournaments whose rounds are known when this is compiled: four and seven.
const SMALL: usize = 2 << 4;
const MIDDLE: usize = 2 << 7;

impl Tournament {
    /// For players 0, 1, ..., who take part as soon as they have a rank.
    pub(super) fn new(players: usize) -> Self {
        let rounds = rounds(players);
        Self { places: vec![NOBODY; 2 << rounds].into(), who: (1 << rounds) - 1 }
    }

    /// Bits that a rank may have among so many players.
    pub(super) fn room(players: usize) -> u32 {
        u64::BITS - rounds(players)
    }

    /// The player with the smallest rank, the first of equals; some number that nobody has when
    /// none takes part.
    #[inline]
    pub(super) fn best(&self) -> usize {
        self.player(self.places[1])
    }

    /// The player with the smallest rank among those that `qualify`.
    pub(super) fn best_of(&self, qualify: impl Fn(usize) -> bool) -> Option<usize> {
        let all = self.places[self.places.len() / 2..].iter().copied();
        let qualified = all.filter(|one| *one != NOBODY && qualify(self.player(*one)));
        qualified.min().map(|one| self.player(one))
    }

    /// Gives a player a rank, below 2 to the power of [`Tournament::room`].
    #[inline]
    pub(super) fn set(&mut self, player: usize, rank: u64) {
        match self.places.len() {
            MIDDLE => play(&mut self.places[..MIDDLE], player, rank),
            SMALL => play(&mut self.places[..SMALL], player, rank),
            _ => play(&mut self.places, player, rank),
        }
    }

    fn player(&self, one: u64) -> usize {
        (one & self.who) as usize
    }
}

/// A copy for each of the callers: where the number of places is known, so are the rounds, and that
/// each place exists.
#[allow(clippy::inline_always)] // see above
#[inline(always)]
fn play(places: &mut [u64], player: usize, rank: u64) {
    let last = places.len() - 1;
    let rounds = last.count_ones() - 1;
    let mut at = places.len() / 2 + player;
    if at > last {
        return;
    }
    let mut winner = rank << rounds | player as u64;
    for _ in 0..rounds {
        places[at & last] = winner;
        winner = winner.min(places[(at ^ 1) & last]);
        at /= 2;
    }
    places[1] = winner;
}

/// Rounds of a tournament of so many: one player more than there are, as all ones is nobody's
/// number.
fn rounds(players: usize) -> u32 {
    match (players + 1).next_power_of_two().trailing_zeros() {
        0..=4 => 4,
        5..=7 => 7,
        more => more,
    }
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
            mut ranks in proptest::collection::vec(0..50_u64, 1..300),
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
        for players in [1, 2, 3, 4, 15, 16, 100, 127, 128, 300] {
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
        assert_eq!(tournament.best(), 15, "nobody's number");
        assert_eq!(tournament.best_of(|_| true), None);
        let before = tournament.clone();
        for stranger in [16, 17, 1 << 40] {
            tournament.set(stranger, 1);
            assert_eq!(tournament, before);
        }
        for (players, stranger) in [(100, 128), (200, 256)] {
            let mut tournament = of(&vec![5; players]);
            let before = tournament.clone();
            tournament.set(stranger, 1);
            assert_eq!(tournament, before);
        }
    }
}
