//! A compact prefix tree over bytes.

/// Marks "no node" and "no value".
const NONE: u32 = u32::MAX;

/// Values by key, where a lookup finds all keys that are a prefix of the text, the longest first;
/// with `SUFFIX`, all keys that are a suffix of it.
///
/// Nodes lie in one array with the children of a node side by side, so that a step down touches one
/// run of bytes and one node.
pub(super) struct PrefixTree<T, const SUFFIX: bool> {
    nodes: Vec<Node>,
    /// Labels, and the first bytes of each node's children.
    bytes: Vec<u8>,
    values: Vec<T>,
}

struct Node {
    /// The bytes between the parent and this node.
    label: Run,
    /// First bytes of the children's labels, sorted; the n-th belongs to the n-th child.
    edges: Run,
    first_child: u32,
    value: u32,
    /// The nearest node above with a value.
    shorter: u32,
}

#[derive(Clone, Copy)]
struct Run {
    start: u32,
    len: u32,
}

impl Run {
    const EMPTY: Self = Self { start: 0, len: 0 };

    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..(self.start + self.len) as usize]
    }
}

impl<T, const SUFFIX: bool> Default for PrefixTree<T, SUFFIX> {
    fn default() -> Self {
        Self { nodes: Vec::new(), bytes: Vec::new(), values: Vec::new() }
    }
}

/// Keys of the subtree of a node that is yet to be filled.
struct Pending {
    node: usize,
    /// Positions in the sorted keys.
    keys: std::ops::Range<usize>,
    /// Bytes that these keys have in common, the node's label included.
    depth: usize,
}

impl<T, const SUFFIX: bool> PrefixTree<T, SUFFIX> {
    /// Builds the tree. Keys are distinct.
    pub(super) fn build<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, T)>) -> Self {
        let oriented = |key: K| -> Box<[u8]> {
            let key = key.as_ref();
            if SUFFIX { key.iter().rev().copied().collect() } else { key.into() }
        };
        let mut entries: Vec<_> = entries.into_iter().map(|(k, v)| (oriented(k), v)).collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (keys, values): (Vec<_>, Vec<T>) = entries.into_iter().unzip();
        let mut tree = Self { nodes: Vec::new(), bytes: Vec::new(), values };
        if !keys.is_empty() {
            tree.push(&[], NONE);
            let mut queue = vec![Pending { node: 0, keys: 0..keys.len(), depth: 0 }];
            while let Some(pending) = queue.pop() {
                tree.fill(&keys, pending, &mut queue);
            }
        }
        tree
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    fn push(&mut self, label: &[u8], shorter: u32) {
        let label = self.store(label, SUFFIX);
        self.nodes.push(Node { label, edges: Run::EMPTY, first_child: NONE, value: NONE, shorter });
    }

    fn store(&mut self, bytes: &[u8], reverse: bool) -> Run {
        let run = Run { start: self.bytes.len() as u32, len: bytes.len() as u32 };
        self.bytes.extend_from_slice(bytes);
        if reverse {
            self.bytes[run.start as usize..].reverse();
        }
        run
    }

    /// Gives a node its value and its children.
    fn fill(&mut self, keys: &[Box<[u8]>], pending: Pending, queue: &mut Vec<Pending>) {
        let Pending { node, keys: mut range, depth } = pending;
        if keys[range.start].len() == depth {
            self.nodes[node].value = range.start as u32;
            range.start += 1;
        }
        let has_value = self.nodes[node].value != NONE;
        let shorter = if has_value { node as u32 } else { self.nodes[node].shorter };
        self.nodes[node].first_child = self.nodes.len() as u32;
        let mut edges = Vec::new();
        while !range.is_empty() {
            let first = &keys[range.start];
            let group = keys[range.clone()].partition_point(|key| key[depth] <= first[depth]);
            let last = &keys[range.start + group - 1];
            let common = first.iter().zip(last.iter()).take_while(|(a, b)| a == b).count();
            edges.push(first[depth]);
            let child = self.nodes.len();
            self.push(&first[depth..common], shorter);
            let keys = range.start..range.start + group;
            queue.push(Pending { node: child, keys, depth: common });
            range.start += group;
        }
        self.nodes[node].edges = self.store(&edges, false);
    }

    /// The values of all keys that `text` starts with (ends with, for `SUFFIX`), the longest key
    /// first.
    pub(super) fn longest_first(&self, text: &[u8]) -> LongestFirst<'_, T, SUFFIX> {
        LongestFirst { tree: self, node: self.deepest(text) }
    }

    /// The node of the longest key that `text` starts with.
    fn deepest(&self, text: &[u8]) -> u32 {
        let mut found = NONE;
        let mut index = 0;
        let mut depth = 0;
        while let Some(node) = self.nodes.get(index) {
            if node.value != NONE {
                found = index as u32;
            }
            let Some(next) = byte_at::<SUFFIX>(text, depth) else { break };
            let Some(edge) = memchr::memchr(next, node.edges.of(&self.bytes)) else { break };
            index = node.first_child as usize + edge;
            let label = self.nodes[index].label.of(&self.bytes);
            if !stands_at::<SUFFIX>(text, depth, label) {
                break;
            }
            depth += label.len();
        }
        found
    }
}

fn byte_at<const SUFFIX: bool>(text: &[u8], depth: usize) -> Option<u8> {
    if SUFFIX {
        text.len().checked_sub(depth + 1).map(|at| text[at])
    } else {
        text.get(depth).copied()
    }
}

fn stands_at<const SUFFIX: bool>(text: &[u8], depth: usize, label: &[u8]) -> bool {
    if SUFFIX {
        text[..text.len() - depth].ends_with(label)
    } else {
        text[depth..].starts_with(label)
    }
}

/// See [`PrefixTree::longest_first`].
pub(super) struct LongestFirst<'t, T, const SUFFIX: bool> {
    tree: &'t PrefixTree<T, SUFFIX>,
    node: u32,
}

impl<'t, T, const SUFFIX: bool> Iterator for LongestFirst<'t, T, SUFFIX> {
    type Item = &'t T;

    fn next(&mut self) -> Option<&'t T> {
        if self.node == NONE {
            return None;
        }
        let node = &self.tree.nodes[self.node as usize];
        self.node = node.shorter;
        self.tree.values.get(node.value as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixes<'t>(tree: &'t PrefixTree<&'static str, false>, text: &str) -> Vec<&'t str> {
        tree.longest_first(text.as_bytes()).copied().collect()
    }

    #[test]
    fn finds_every_prefix_from_the_longest_on() {
        let keys = ["/", "/a/", "/a/b/", "/abc", "/ab", "/x/y/z/"];
        let tree = PrefixTree::build(keys.map(|key| (key, key)));
        assert_eq!(prefixes(&tree, "/a/b/c"), ["/a/b/", "/a/", "/"]);
        assert_eq!(prefixes(&tree, "/abd"), ["/ab", "/"]);
        assert_eq!(prefixes(&tree, "/x/y/z"), ["/"]);
        assert_eq!(prefixes(&tree, "/"), ["/"]);
        assert!(prefixes(&tree, "").is_empty());
        assert_eq!(tree.len(), 6);
    }

    #[test]
    fn the_empty_key_is_found_everywhere() {
        let tree = PrefixTree::build([("", "any"), ("/a", "/a")]);
        assert_eq!(prefixes(&tree, ""), ["any"]);
        assert_eq!(prefixes(&tree, "/a"), ["/a", "any"]);
        assert!(prefixes(&PrefixTree::default(), "/a").is_empty());
    }

    #[test]
    fn finds_suffixes() {
        let keys = [".com", ".a.com", ".b.a.com", ".a.org"];
        let tree = PrefixTree::<_, true>::build(keys.map(|key| (key, key)));
        let found: Vec<_> = tree.longest_first(b"x.b.a.com").copied().collect();
        assert_eq!(found, [".b.a.com", ".a.com", ".com"]);
        assert_eq!(tree.longest_first(b"a.com").copied().collect::<Vec<_>>(), [".com"]);
        assert_eq!(tree.longest_first(b"com").count(), 0);
    }

    #[test]
    fn survives_long_chains() {
        let keys: Vec<String> = (0..2000).map(|n| "a".repeat(n)).collect();
        let tree = PrefixTree::<_, false>::build(keys.iter().map(|key| (key, key.len())));
        let text = "a".repeat(1500);
        let found: Vec<usize> = tree.longest_first(text.as_bytes()).copied().collect();
        assert_eq!(found, (0..=1500).rev().collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            keys in proptest::collection::btree_set("[ab/]{0,6}", 0..40),
            text in "[ab/]{0,8}",
        ) {
            let sorted = |affix: fn(&str, &str) -> bool| {
                let mut found: Vec<&str> =
                    keys.iter().map(String::as_str).filter(|key| affix(&text, key)).collect();
                found.sort_by_key(|key| std::cmp::Reverse(key.len()));
                found
            };
            let tree = PrefixTree::<_, false>::build(keys.iter().map(|k| (k, k.as_str())));
            let found: Vec<&str> = tree.longest_first(text.as_bytes()).copied().collect();
            prop_assert_eq!(found, sorted(|text, key| text.starts_with(key)));
            let tree = PrefixTree::<_, true>::build(keys.iter().map(|k| (k, k.as_str())));
            let found: Vec<&str> = tree.longest_first(text.as_bytes()).copied().collect();
            prop_assert_eq!(found, sorted(|text, key| text.ends_with(key)));
        }
    }
}
