//! Reading many keys: pages, all of them at one revision.

use std::time::Duration;

use bytes::Bytes;
use etcd_client::{GetOptions, GetResponse, KeyValue};

use super::link::{Connection, Failure};
use crate::store::{Contents, Item};

/// Aim for the size of a page. Small enough to arrive within a second on a slow line and to leave
/// no large buffers behind; each page costs a round trip.
pub(super) const PAGE_BYTES: usize = 1 << 20;
/// Keys of the first page, when nothing is known about their sizes.
const FIRST_PAGE: usize = 500;
/// Most keys of a page.
const LARGEST_PAGE: usize = 5_000;
/// What a pair costs in a message besides its key and value, about.
const PAIR_BYTES: usize = 32;
/// How often reading starts anew when its revision is compacted meanwhile.
const RESTARTS: usize = 5;

/// The author of the latest commit, relative to the prefix.
pub(super) const AUTHOR: &str = "osmia/author";

/// The keys below the prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// `{prefix}/`
    root: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { root: format!("{}/", prefix.trim_end_matches('/')) }
    }

    /// The prefix, for messages.
    pub(super) fn prefix(&self) -> &str {
        self.root.trim_end_matches('/')
    }

    /// etcd's key of a path.
    pub(super) fn key(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// The path of etcd's key; `None` when it is not ours, or no text, which no resource's key is.
    pub(super) fn path<'k>(&self, key: &'k [u8]) -> Option<&'k str> {
        std::str::from_utf8(key).ok()?.strip_prefix(&self.root)
    }
}

/// Where in which history a response was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Revision of the whole store.
    pub(super) revision: u64,
    /// The cluster's id.
    pub(super) cluster: u64,
    /// The term of its leader, which never goes back within one history.
    pub(super) term: u64,
}

impl Position {
    pub(super) fn of(header: Option<&etcd_client::ResponseHeader>) -> Self {
        header.map_or_else(Self::default, |header| Self {
            revision: unsigned(header.revision()),
            cluster: header.cluster_id(),
            term: header.raft_term(),
        })
    }
}

impl Position {
    /// Whether this cannot be a later position in the history of `earlier`. What a proxy leaves
    /// out of a header contradicts nothing.
    pub(super) fn contradicts(&self, earlier: &Self) -> bool {
        (self.cluster != 0 && self.cluster != earlier.cluster)
            || (self.revision != 0 && self.revision < earlier.revision)
            || (self.term != 0 && self.term < earlier.term)
    }
}

/// A key as it was read, to recognise the history by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Witness {
    /// etcd's key.
    pub(super) key: Vec<u8>,
    /// Its value and revisions; `None`: it was deleted.
    pub(super) value: Option<(Bytes, u64, u64)>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) contents: Contents,
    pub(super) position: Position,
    /// The key that was modified last.
    pub(super) witness: Option<Witness>,
}

/// Reads pages, whose size follows the sizes of the values.
#[derive(Debug)]
pub(super) struct Pager {
    limit: usize,
}

impl Default for Pager {
    fn default() -> Self {
        Self { limit: FIRST_PAGE }
    }
}

impl Pager {
    /// All keys whose path begins with `prefix`, at one revision. `timeout` is for each page.
    pub(super) async fn read(
        &mut self,
        connection: &Connection,
        keys: &Keys,
        prefix: &str,
        timeout: Duration,
    ) -> Result<Loaded, Failure> {
        let mut restarts = 0;
        loop {
            match self.read_once(connection, keys, prefix, timeout).await {
                Err(failure) if failure.is_out_of_range() && restarts < RESTARTS => {
                    // Compacted between two pages, or a page larger than we take.
                    restarts += 1;
                    self.limit = (self.limit / 4).max(1);
                }
                Err(failure) => {
                    // A line that is too slow for the page would fail again.
                    self.limit = (self.limit / 2).max(1);
                    return Err(failure);
                }
                Ok(loaded) => return Ok(loaded),
            }
        }
    }

    async fn read_once(
        &mut self,
        connection: &Connection,
        keys: &Keys,
        prefix: &str,
        timeout: Duration,
    ) -> Result<Loaded, Failure> {
        let start = keys.key(prefix).into_bytes();
        let end = end_of_prefix(&start);
        let mut from = start;
        let mut reading = Reading::new(keys);
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(self.limit as i64)
                .with_revision(signed(reading.position.revision));
            let mut kv = connection.kv.clone();
            let page = connection.call(timeout, kv.get(from, Some(options))).await?;
            let more = page.more();
            match reading.take(page, &mut self.limit) {
                Some(next) if more => from = next,
                _ => return Ok(reading.finish()),
            }
        }
    }
}

/// The pages so far.
struct Reading<'k> {
    keys: &'k Keys,
    position: Position,
    items: Vec<Item>,
    newest: Option<Witness>,
}

impl<'k> Reading<'k> {
    fn new(keys: &'k Keys) -> Self {
        Self { keys, position: Position::default(), items: Vec::new(), newest: None }
    }

    /// Adds a page, adapts the size of the next one, and gives the key to go on from.
    fn take(&mut self, mut page: GetResponse, limit: &mut usize) -> Option<Vec<u8>> {
        if self.position.revision == 0 {
            self.position = Position::of(page.header());
            self.items.reserve(usize::try_from(page.count()).unwrap_or_default());
        }
        let next = page.kvs().last().map(|pair| [pair.key(), b"\0"].concat());
        let (mut bytes, mut count) = (0, 0);
        for pair in page.take_kvs() {
            count += 1;
            bytes += pair.key().len() + pair.value().len() + PAIR_BYTES;
            self.add(pair);
        }
        if let Some(average) = bytes.checked_div(count) {
            // At most double, so that a few small values do not lead to a page of huge ones.
            let fitting = PAGE_BYTES / average.max(1);
            *limit = fitting.clamp(1, LARGEST_PAGE).min(limit.saturating_mul(2));
        }
        next
    }

    fn add(&mut self, pair: KeyValue) {
        let Some(path) = self.keys.path(pair.key()).map(str::to_owned) else { return };
        let (created, modified) = (unsigned(pair.create_revision()), unsigned(pair.mod_revision()));
        let (key, value) = pair.into_key_value();
        let value = Bytes::from(value);
        let is_author = path == AUTHOR;
        let newest = self.newest.as_ref().and_then(|newest| newest.value.as_ref());
        // Of one commit's keys the author is preferred: it has a random mark.
        if newest.is_none_or(|(_, _, at)| *at < modified || (*at == modified && is_author)) {
            self.newest = Some(Witness { key, value: Some((value.clone(), created, modified)) });
        }
        if !is_author {
            self.items.push(Item { path, value, created, modified });
        }
    }

    fn finish(self) -> Loaded {
        let contents = Contents { revision: self.position.revision, items: self.items };
        Loaded { contents, position: self.position, witness: self.newest }
    }
}

/// The first key after all that begin with `prefix` (etcd's `range_end`).
fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// etcd's revisions are signed, and never negative.
pub(super) fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or_default()
}

/// The reverse of [`unsigned`].
pub(super) fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// One item as etcd returned it; `None` when the key is not ours.
pub(super) fn item(keys: &Keys, pair: KeyValue) -> Option<Item> {
    let path = keys.path(pair.key())?.to_owned();
    let (created, modified) = (unsigned(pair.create_revision()), unsigned(pair.mod_revision()));
    let (_, value) = pair.into_key_value();
    Some(Item { path, value: value.into(), created, modified })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_paths_are_each_others_reverse() {
        for prefix in ["/apisix", "/apisix/", "apisix", ""] {
            let keys = Keys::new(prefix);
            let key = keys.key("routes/1");
            assert_eq!(keys.path(key.as_bytes()), Some("routes/1"), "{prefix}");
        }
        let keys = Keys::new("/apisix");
        assert_eq!(keys.key("routes/1"), "/apisix/routes/1");
        assert_eq!(keys.path(b"/apisixroutes/1"), None);
        assert_eq!(keys.path(b"/apisix/routes/\xff"), None);
    }

    #[test]
    fn a_history_neither_goes_back_nor_changes_its_cluster() {
        let seen = Position { revision: 10, cluster: 7, term: 3 };
        for (revision, cluster, term, contradicts) in [
            (10, 7, 3, false),
            (11, 7, 4, false),
            (9, 7, 3, true),
            (11, 8, 3, true),
            (11, 7, 2, true),
            (0, 0, 0, false),
        ] {
            let here = Position { revision, cluster, term };
            assert_eq!(here.contradicts(&seen), contradicts, "{here:?}");
        }
    }

    #[test]
    fn a_range_ends_behind_all_keys_with_its_prefix() {
        assert_eq!(end_of_prefix(b"/apisix/"), b"/apisix0");
        assert_eq!(end_of_prefix(b"a\xff\xff"), b"b");
        assert_eq!(end_of_prefix(b"\xff"), b"\0");
        assert_eq!(end_of_prefix(b""), b"\0");
    }
}
