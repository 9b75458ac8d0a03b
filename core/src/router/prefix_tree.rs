//! A persistent radix tree: values by key, found by every key that the text begins with.
//!
//! A clone is a reference count. A change copies the nodes from the root to the place of the change
//! and shares the rest; nodes that nobody else holds are changed where they are.

use std::sync::Arc;

/// Values by key, where a lookup tries all keys that are a prefix of the text, the longest first;
/// with `SUFFIX`, all keys that are a suffix of it.
#[derive(Clone)]
pub(super) struct PrefixTree<V, const SUFFIX: bool> {
    root: Option<Arc<Node<V>>>,
}

#[derive(Clone)]
struct Node<V> {
    /// The bytes between the parent and this node, in the direction of the walk.
    label: Box<[u8]>,
    value: Option<V>,
    /// By the first bytes of their labels.
    children: Box<[Child<V>]>,
}

#[derive(Clone)]
struct Child<V> {
    edge: u8,
    node: Arc<Node<V>>,
}

/// From this number of children on they are searched by halves.
const MANY: usize = 8;

impl<V, const SUFFIX: bool> Default for PrefixTree<V, SUFFIX> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<V, const SUFFIX: bool> PrefixTree<V, SUFFIX> {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// What `test` yields for the longest key that is a prefix of `text` and passes it.
    pub(super) fn longest<'t, R>(
        &'t self,
        text: &[u8],
        test: &mut impl FnMut(&'t V) -> Option<R>,
    ) -> Option<R> {
        self.root.as_ref()?.longest::<R, SUFFIX>(text, test)
    }
}

/// What follows `label` in the text, when it begins with it (ends with its reverse).
fn after<'a, const SUFFIX: bool>(label: &[u8], text: &'a [u8]) -> Option<&'a [u8]> {
    if !SUFFIX {
        return text.strip_prefix(label);
    }
    let rest = text.len().checked_sub(label.len())?;
    label.iter().eq(text[rest..].iter().rev()).then_some(&text[..rest])
}

impl<V> Node<V> {
    fn longest<'t, R, const SUFFIX: bool>(
        &'t self,
        text: &[u8],
        test: &mut impl FnMut(&'t V) -> Option<R>,
    ) -> Option<R> {
        let rest = after::<SUFFIX>(&self.label, text)?;
        // The depth is bounded by the length of the longest pattern, not by the request.
        let deeper = self
            .child(if SUFFIX { rest.last() } else { rest.first() })
            .and_then(|child| child.longest::<R, SUFFIX>(rest, test));
        deeper.or_else(|| test(self.value.as_ref()?))
    }

    fn child(&self, edge: Option<&u8>) -> Option<&Self> {
        let edge = *edge?;
        let children = &*self.children;
        let child = if children.len() < MANY {
            children.iter().find(|child| child.edge == edge)?
        } else {
            children.get(self.place(edge).ok()?)?
        };
        Some(&child.node)
    }

    /// Where the child with this edge is, or where it would be put.
    fn place(&self, edge: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&edge, |child| child.edge)
    }
}

impl<V: Clone + Default, const SUFFIX: bool> PrefixTree<V, SUFFIX> {
    /// The value of `key`, to be changed; a default one is put there when there is none.
    pub(super) fn entry(&mut self, key: &[u8]) -> &mut V {
        let key = oriented::<SUFFIX>(key);
        let root = self.root.get_or_insert_with(|| Arc::new(Node::leaf(&key)));
        Arc::make_mut(root).entry(&key)
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        let key = oriented::<SUFFIX>(key);
        let mut rest = &key[..];
        let mut node = self.root.as_deref()?;
        loop {
            rest = rest.strip_prefix(&*node.label)?;
            if rest.is_empty() {
                return node.value.as_ref();
            }
            node = node.child(rest.first())?;
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        // Nothing is copied for a key that is not there.
        if self.get(key).is_some()
            && let Some(root) = &mut self.root
            && Arc::make_mut(root).remove(&oriented::<SUFFIX>(key))
        {
            self.root = None;
        }
    }
}

/// The key in the direction of the walk.
fn oriented<const SUFFIX: bool>(key: &[u8]) -> Vec<u8> {
    if SUFFIX { key.iter().rev().copied().collect() } else { key.to_vec() }
}

impl<V: Clone + Default> Node<V> {
    fn leaf(label: &[u8]) -> Self {
        Self { label: label.into(), value: None, children: [].into() }
    }

    fn entry(&mut self, key: &[u8]) -> &mut V {
        let common = self.label.iter().zip(key).take_while(|(own, other)| own == other).count();
        if common < self.label.len() {
            self.split(common);
        }
        let rest = &key[common..];
        let Some(first) = rest.first() else {
            return self.value.get_or_insert_default();
        };
        let index = self.place(*first).unwrap_or_else(|index| {
            let child = Child { edge: *first, node: Arc::new(Self::leaf(rest)) };
            self.change_children(|children| children.insert(index, child));
            index
        });
        Arc::make_mut(&mut self.children[index].node).entry(rest)
    }

    /// Cuts the label after `at` bytes; what follows becomes the only child.
    fn split(&mut self, at: usize) {
        let (upper, lower) = self.label.split_at(at);
        let edge = lower[0];
        let child = Self {
            label: lower.into(),
            value: self.value.take(),
            children: std::mem::take(&mut self.children),
        };
        self.label = upper.into();
        self.children = [Child { edge, node: Arc::new(child) }].into();
    }

    fn change_children<R>(&mut self, change: impl FnOnce(&mut Vec<Child<V>>) -> R) -> R {
        let mut children = std::mem::take(&mut self.children).into_vec();
        let result = change(&mut children);
        self.children = children.into();
        result
    }

    /// Removes a key that is there; true when nothing is left.
    fn remove(&mut self, key: &[u8]) -> bool {
        let Some(rest) = key.strip_prefix(&*self.label) else { return false };
        match rest.first() {
            None => self.value = None,
            Some(first) => {
                let Ok(index) = self.place(*first) else { return false };
                if Arc::make_mut(&mut self.children[index].node).remove(rest) {
                    self.change_children(|children| children.remove(index));
                }
            }
        }
        if self.value.is_none() && self.children.len() == 1 {
            self.join();
        }
        self.value.is_none() && self.children.is_empty()
    }

    /// Takes the place of the only child.
    fn join(&mut self) {
        let Some(child) = self.change_children(Vec::pop) else { return };
        let mut child = Arc::unwrap_or_clone(child.node);
        child.label = [&*self.label, &*child.label].concat().into();
        *self = child;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn all<const SUFFIX: bool>(tree: &PrefixTree<u32, SUFFIX>, text: &str) -> Vec<u32> {
        let mut found = Vec::new();
        let none: Option<()> = tree.longest(text.as_bytes(), &mut |value| {
            found.push(*value);
            None
        });
        assert_eq!(none, None);
        found
    }

    #[test]
    fn suffixes_are_read_from_the_end() {
        let mut tree = PrefixTree::<u32, true>::default();
        *tree.entry(b".com") = 1;
        *tree.entry(b".foo.com") = 2;
        *tree.entry(b"") = 3;
        assert_eq!(all(&tree, "a.foo.com"), [2, 1, 3]);
        assert_eq!(all(&tree, "foo.com"), [1, 3]);
        assert_eq!(all(&tree, "com"), [3]);
        tree.remove(b".com");
        assert_eq!(all(&tree, "a.foo.com"), [2, 3]);
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut tree = PrefixTree::<u32, false>::default();
        for n in 0..2000u32 {
            *tree.entry(format!("/{n}/").as_bytes()) = n;
        }
        let before = tree.clone();
        for n in 0..2000u32 {
            tree.remove(format!("/{n}/").as_bytes());
        }
        assert!(tree.is_empty());
        assert!((0..2000u32).all(|n| all(&before, &format!("/{n}/x")) == [n]));
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_the_standard_library(
            steps in proptest::collection::vec((any::<bool>(), "[ab]{0,5}", any::<u32>()), 0..200),
            texts in proptest::collection::vec("[ab]{0,7}", 1..10),
        ) {
            let mut forward = PrefixTree::<u32, false>::default();
            let mut backward = PrefixTree::<u32, true>::default();
            let mut model = BTreeMap::new();
            for (put, key, value) in steps {
                if put {
                    *forward.entry(key.as_bytes()) = value;
                    *backward.entry(key.as_bytes()) = value;
                    model.insert(key, value);
                } else {
                    forward.remove(key.as_bytes());
                    backward.remove(key.as_bytes());
                    model.remove(&key);
                }
            }
            prop_assert_eq!(forward.is_empty(), model.is_empty());
            for text in texts {
                let mut cuts: Vec<usize> = (0..=text.len()).collect();
                cuts.reverse();
                let prefixes: Vec<u32> =
                    cuts.iter().filter_map(|cut| model.get(&text[..*cut]).copied()).collect();
                let suffixes: Vec<u32> = cuts
                    .iter()
                    .filter_map(|cut| model.get(&text[text.len() - cut..]).copied())
                    .collect();
                prop_assert_eq!(all(&forward, &text), prefixes);
                prop_assert_eq!(all(&backward, &text), suffixes);
            }
        }
    }
}
