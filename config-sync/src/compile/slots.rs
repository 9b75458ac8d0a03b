//! Indexes into the workers' tables.

use std::collections::HashMap;
use std::hash::Hash;

use osmia_core::snapshot::Slot;

/// Hands out slots so that a key keeps its slot from round to round. A key that a round does not
/// ask for loses its slot; the index is given away again in the next round at the earliest, with
/// the generation one higher.
#[derive(Debug)]
pub(super) struct SlotTable<K> {
    slots: HashMap<K, Entry>,
    /// Indexes without an owner, with the generation that the next one gets.
    free: Vec<Slot>,
    next_index: u32,
    round: u64,
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    /// The last round that asked for it.
    round: u64,
}

impl<K> Default for SlotTable<K> {
    fn default() -> Self {
        Self { slots: HashMap::new(), free: Vec::new(), next_index: 0, round: 0 }
    }
}

impl<K: Eq + Hash + Clone> SlotTable<K> {
    /// Begins a round.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// The slot of `key`.
    pub(super) fn assign(&mut self, key: &K) -> Slot {
        let round = self.round;
        if let Some(entry) = self.slots.get_mut(key) {
            entry.round = round;
            return entry.slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            let index = self.next_index;
            self.next_index += 1;
            Slot { index, generation: 0 }
        });
        self.slots.insert(key.clone(), Entry { slot, round });
        slot
    }

    /// Ends the round: slots that were not asked for become free.
    pub(super) fn finish(&mut self) {
        let Self { slots, free, round, .. } = self;
        slots.retain(|_, entry| {
            let used = entry.round == *round;
            if !used {
                let Slot { index, generation } = entry.slot;
                free.push(Slot { index, generation: generation.wrapping_add(1) });
            }
            used
        });
        // The lowest index goes first, which keeps the workers' tables dense.
        free.sort_by_key(|slot| std::cmp::Reverse(slot.index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(table: &mut SlotTable<&'static str>, keys: &[&'static str]) -> Vec<(u32, u32)> {
        table.begin();
        let slots = keys.iter().map(|key| table.assign(key)).collect::<Vec<_>>();
        table.finish();
        slots.into_iter().map(|slot| (slot.index, slot.generation)).collect()
    }

    #[test]
    fn keys_keep_their_slots() {
        let mut table = SlotTable::default();
        assert_eq!(round(&mut table, &["a", "b", "a"]), [(0, 0), (1, 0), (0, 0)]);
        assert_eq!(round(&mut table, &["b", "c", "a"]), [(1, 0), (2, 0), (0, 0)]);
    }

    #[test]
    fn freed_indexes_come_back_with_a_new_generation() {
        let mut table = SlotTable::default();
        round(&mut table, &["a", "b", "c"]);
        // "d" appears in the round in which "a" and "b" go: their indexes are not free yet.
        assert_eq!(round(&mut table, &["c", "d"]), [(2, 0), (3, 0)]);
        assert_eq!(round(&mut table, &["c", "d", "e", "a"]), [(2, 0), (3, 0), (0, 1), (1, 1)]);
        assert_eq!(round(&mut table, &["c"]), [(2, 0)]);
        assert_eq!(round(&mut table, &["x", "c"]), [(0, 2), (2, 0)]);
    }
}
