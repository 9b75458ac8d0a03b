//! Sets of an upstream's nodes.

/// Nodes of one upstream, by index. The first 64 need no memory of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NodeSet {
    first: u64,
    /// Words for the nodes from 64 on; never ends with a zero, so that equal sets are equal.
    more: Vec<u64>,
}

impl NodeSet {
    /// Whether there is no node in it.
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.more.is_empty()
    }

    /// Number of nodes in it.
    pub fn len(&self) -> usize {
        let more: u32 = self.more.iter().map(|word| word.count_ones()).sum();
        (self.first.count_ones() + more) as usize
    }

    /// Whether the node at `index` is in it.
    pub fn contains(&self, index: usize) -> bool {
        let word = match index / 64 {
            0 => self.first,
            at => self.more.get(at - 1).copied().unwrap_or(0),
        };
        word & (1 << (index % 64)) != 0
    }

    /// Puts the node at `index` in. Allocates only for indexes from 64 on.
    pub fn insert(&mut self, index: usize) {
        let word = match index / 64 {
            0 => &mut self.first,
            at => {
                if self.more.len() < at {
                    self.more.resize(at, 0);
                }
                &mut self.more[at - 1]
            }
        };
        *word |= 1 << (index % 64);
    }

    /// Takes the node at `index` out.
    pub fn remove(&mut self, index: usize) {
        match index / 64 {
            0 => self.first &= !(1 << (index % 64)),
            at => {
                if let Some(word) = self.more.get_mut(at - 1) {
                    *word &= !(1 << (index % 64));
                }
                while self.more.last() == Some(&0) {
                    self.more.pop();
                }
            }
        }
    }
}

impl FromIterator<usize> for NodeSet {
    fn from_iter<I: IntoIterator<Item = usize>>(indexes: I) -> Self {
        let mut set = Self::default();
        indexes.into_iter().for_each(|index| set.insert(index));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_the_standard_library(
            steps in proptest::collection::vec((any::<bool>(), 0..300usize), 0..60),
        ) {
            let (mut set, mut model) = (NodeSet::default(), BTreeSet::new());
            for (put, index) in steps {
                if put {
                    set.insert(index);
                    model.insert(index);
                } else {
                    set.remove(index);
                    model.remove(&index);
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                // However it came about, the same content is equal.
                prop_assert_eq!(&set, &model.iter().copied().collect::<NodeSet>());
            }
            for index in 0..400 {
                prop_assert_eq!(set.contains(index), model.contains(&index));
            }
        }
    }
}
