//! Indexes into the workers' tables.

use ahash::HashMap;
use std::hash::Hash;

use osmia_core::snapshot::Slot;

/// Hands out slots so that a key keeps its slot for as long as somebody holds it. The index of a
/// key that nobody holds any more is given away again after the next [`SlotTable::settle`] at the
/// earliest, with the generation one higher.
#[derive(Debug)]
pub(super) struct SlotTable<K> {
    slots: HashMap<K, Held>,
    /// Keys that nobody holds since the last settling.
    released: Vec<K>,
    /// Indexes without an owner, with the generation that the next one gets.
    free: Vec<Slot>,
    next_index: u32,
}

#[derive(Debug)]
struct Held {
    slot: Slot,
    holders: u32,
}

impl<K> Default for SlotTable<K> {
    fn default() -> Self {
        Self { slots: HashMap::default(), released: Vec::new(), free: Vec::new(), next_index: 0 }
    }
}

impl<K: Eq + Hash + Clone> SlotTable<K> {
    /// The slot of `key`, with one holder more.
    pub(super) fn acquire(&mut self, key: &K) -> Slot {
        if let Some(held) = self.slots.get_mut(key) {
            held.holders += 1;
            return held.slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            let index = self.next_index;
            self.next_index += 1;
            Slot { index, generation: 0 }
        });
        self.slots.insert(key.clone(), Held { slot, holders: 1 });
        slot
    }

    /// Takes one holder of `key` away.
    pub(super) fn release(&mut self, key: &K) {
        if let Some(held) = self.slots.get_mut(key) {
            held.holders = held.holders.saturating_sub(1);
            if held.holders == 0 {
                self.released.push(key.clone());
            }
        }
    }

    /// Frees the indexes of keys that nobody holds; these keys.
    pub(super) fn settle(&mut self) -> Vec<K> {
        let mut gone = std::mem::take(&mut self.released);
        if gone.is_empty() {
            return gone;
        }
        gone.retain(|key| {
            let is_held = self.slots.get(key).is_none_or(|held| held.holders > 0);
            if !is_held && let Some(Held { slot, .. }) = self.slots.remove(key) {
                let generation = slot.generation.wrapping_add(1);
                self.free.push(Slot { index: slot.index, generation });
            }
            !is_held
        });
        // The lowest index goes first, which keeps the workers' tables dense.
        self.free.sort_by_key(|slot| std::cmp::Reverse(slot.index));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(slot: Slot) -> (u32, u32) {
        (slot.index, slot.generation)
    }

    #[test]
    fn keys_keep_their_slots_while_they_are_held() {
        let mut table = SlotTable::default();
        assert_eq!(["a", "b", "a"].map(|key| place(table.acquire(&key))), [(0, 0), (1, 0), (0, 0)]);
        table.release(&"a");
        table.settle();
        assert_eq!(place(table.acquire(&"a")), (0, 0));
    }

    #[test]
    fn freed_indexes_come_back_with_a_new_generation() {
        let mut table = SlotTable::default();
        for key in ["a", "b", "c"] {
            table.acquire(&key);
        }
        for key in ["b", "a"] {
            table.release(&key);
        }
        // Not yet settled: "d" must not get what somebody may still use.
        assert_eq!(place(table.acquire(&"d")), (3, 0));
        assert_eq!(table.settle(), ["b", "a"]);
        assert_eq!(["e", "f", "g"].map(|key| place(table.acquire(&key))), [(0, 1), (1, 1), (4, 0)]);
    }

    #[test]
    fn a_key_that_is_wanted_again_before_settling_stays() {
        let mut table = SlotTable::default();
        table.acquire(&"a");
        table.release(&"a");
        assert_eq!(place(table.acquire(&"a")), (0, 0));
        assert!(table.settle().is_empty());
        assert_eq!(place(table.acquire(&"b")), (1, 0));
    }
}
