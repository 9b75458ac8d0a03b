//! A persistent hash map of byte strings: a hash array mapped trie.
//!
//! A clone is a reference count. A change copies the nodes from the root to the place of the
//! change, 64 entries each at most, and shares the rest; nodes that nobody else holds are changed
//! where they are, so that filling an empty map copies nothing.

use std::sync::Arc;

/// Bits of the hash that choose an entry of a node.
const BITS: u32 = 6;
/// Below this the hash is used up, and entries lie in a row.
const BOTTOM: u32 = u64::BITS - u64::BITS % BITS;

/// Keys come from the configuration, never from requests: fixed seeds are no invitation.
const HASHER: ahash::RandomState = ahash::RandomState::with_seeds(
    0x2b7e_1516_28ae_d2a6,
    0xabf7_1588_09cf_4f3c,
    0x6bc1_bee2_2e40_9f96,
    0xe93d_7e11_7393_172a,
);

fn hash(key: &[u8]) -> u64 {
    HASHER.hash_one(key)
}

/// A map from byte strings to `V`.
#[derive(Clone)]
pub(crate) struct HashTrie<V> {
    root: Option<Arc<Node<V>>>,
}

#[derive(Clone)]
struct Node<V> {
    /// Which of the 64 places are taken; zero at the bottom.
    taken: u64,
    /// The entries of the taken places, in their order.
    entries: Vec<Entry<V>>,
}

#[derive(Clone)]
enum Entry<V> {
    Leaf(Arc<[u8]>, V),
    Branch(Arc<Node<V>>),
}

impl<V> Default for HashTrie<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<V> HashTrie<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = self.root.as_deref()?;
        let hash = hash(key);
        let mut shift = 0;
        while shift < BOTTOM {
            match &node.entries[node.place(hash, shift).ok()?] {
                Entry::Leaf(own, value) => return (**own == *key).then_some(value),
                Entry::Branch(below) => node = below,
            }
            shift += BITS;
        }
        node.entries.iter().find_map(|entry| match entry {
            Entry::Leaf(own, value) if **own == *key => Some(value),
            _ => None,
        })
    }
}

impl<V> Node<V> {
    const EMPTY: Self = Self { taken: 0, entries: Vec::new() };

    /// Where the entry of a hash lies, or where it would be put.
    fn place(&self, hash: u64, shift: u32) -> Result<usize, usize> {
        let bit = 1 << ((hash >> shift) & 63);
        let index = (self.taken & (bit - 1)).count_ones() as usize;
        if self.taken & bit == 0 { Err(index) } else { Ok(index) }
    }
}

impl<V: Clone + Default> HashTrie<V> {
    /// The value of `key`, to be changed; a default one is put there when there is none.
    pub(crate) fn entry(&mut self, key: &[u8]) -> &mut V {
        let root = self.root.get_or_insert_with(|| Arc::new(Node::EMPTY));
        Arc::make_mut(root).entry(key, hash(key), 0)
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        // Nothing is copied for a key that is not there.
        if self.get(key).is_some()
            && let Some(root) = &mut self.root
            && Arc::make_mut(root).remove(key, hash(key), 0)
        {
            self.root = None;
        }
    }
}

impl<V: Clone + Default> Node<V> {
    /// Where the entry for a key lies, or where it would be put.
    fn position(&self, key: &[u8], hashed: u64, shift: u32) -> Result<usize, usize> {
        if shift < BOTTOM {
            return self.place(hashed, shift);
        }
        let is_own = |entry: &Entry<V>| matches!(entry, Entry::Leaf(own, _) if **own == *key);
        self.entries.iter().position(is_own).ok_or(self.entries.len())
    }

    fn entry(&mut self, key: &[u8], hashed: u64, shift: u32) -> &mut V {
        let index = self.position(key, hashed, shift).unwrap_or_else(|index| {
            self.taken |= bit(hashed, shift);
            // Nodes are many and small, and copied more often than they grow.
            self.entries.reserve_exact(1);
            self.entries.insert(index, Entry::Leaf(key.into(), V::default()));
            index
        });
        let entry = &mut self.entries[index];
        if let Entry::Leaf(own, value) = entry
            && **own != *key
        {
            // Two keys in one place: the one that was here moves one node down.
            let taken = bit(hash(own), shift + BITS);
            let entries = vec![Entry::Leaf(Arc::clone(own), value.clone())];
            *entry = Entry::Branch(Arc::new(Node { taken, entries }));
        }
        match entry {
            Entry::Leaf(_, value) => value,
            Entry::Branch(below) => Arc::make_mut(below).entry(key, hashed, shift + BITS),
        }
    }

    /// Removes a key that is there; true when nothing is left.
    fn remove(&mut self, key: &[u8], hashed: u64, shift: u32) -> bool {
        let Ok(index) = self.position(key, hashed, shift) else { return false };
        let gone = match &mut self.entries[index] {
            Entry::Leaf(own, _) => **own == *key,
            Entry::Branch(below) => Arc::make_mut(below).remove(key, hashed, shift + BITS),
        };
        if gone {
            self.taken &= !bit(hashed, shift);
            self.entries.remove(index);
        }
        self.entries.is_empty()
    }
}

/// The bit of a hash in `taken`; none at the bottom.
fn bit(hashed: u64, shift: u32) -> u64 {
    if shift < BOTTOM { 1 << ((hashed >> shift) & 63) } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The number of keys, by counting.
    fn len<V>(map: &HashTrie<V>) -> usize {
        fn count<V>(node: &Node<V>) -> usize {
            let one = |entry: &Entry<V>| match entry {
                Entry::Leaf(..) => 1,
                Entry::Branch(below) => count(below),
            };
            node.entries.iter().map(one).sum()
        }
        map.root.as_deref().map_or(0, count)
    }

    #[test]
    fn keys_whose_hashes_agree_to_the_end_lie_in_a_row() {
        let mut node = Node::<u32>::EMPTY;
        for (key, value) in [(b"a", 1), (b"b", 2), (b"c", 3)] {
            *node.entry(key, 0, BOTTOM) = value;
        }
        assert_eq!((node.taken, node.entries.len()), (0, 3));
        assert!(!node.remove(b"b", 0, BOTTOM));
        assert!(!node.remove(b"x", 0, BOTTOM));
        assert_eq!(*node.entry(b"c", 0, BOTTOM), 3);
        assert!(!node.remove(b"a", 0, BOTTOM) && node.remove(b"c", 0, BOTTOM));
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut map = HashTrie::<u32>::default();
        for n in 0..5000u32 {
            *map.entry(&n.to_le_bytes()) = n;
        }
        let before = map.clone();
        for n in 0..5000u32 {
            if n % 2 == 0 {
                map.remove(&n.to_le_bytes());
            } else {
                *map.entry(&n.to_le_bytes()) += 1;
            }
        }
        assert_eq!((len(&before), len(&map)), (5000, 2500));
        assert!((0..5000u32).all(|n| before.get(&n.to_le_bytes()) == Some(&n)));
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_the_standard_library(
            steps in proptest::collection::vec((any::<bool>(), 0..200u16, any::<u32>()), 0..400),
        ) {
            let mut map = HashTrie::<u32>::default();
            let mut model = BTreeMap::new();
            for (put, key, value) in steps {
                let bytes = key.to_string();
                if put {
                    *map.entry(bytes.as_bytes()) = value;
                    model.insert(key, value);
                } else {
                    map.remove(bytes.as_bytes());
                    model.remove(&key);
                }
                prop_assert_eq!(map.get(bytes.as_bytes()), model.get(&key));
            }
            prop_assert_eq!(len(&map), model.len());
            prop_assert_eq!(map.is_empty(), model.is_empty());
            for (key, value) in &model {
                prop_assert_eq!(map.get(key.to_string().as_bytes()), Some(value));
            }
        }
    }
}
