//! From etcd's events to commits.

use bytes::Bytes;

use super::load::{AUTHOR, Witness};
use crate::store::{Author, Change, Commit, Item};

/// One of etcd's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyEvent {
    /// etcd's key.
    pub(super) key: Vec<u8>,
    /// Path relative to the prefix; `None` when it is no text.
    pub(super) path: Option<String>,
    /// The revision of the commit.
    pub(super) revision: u64,
    /// Value and revision of creation; `None`: deleted.
    pub(super) put: Option<(Bytes, u64)>,
}

/// Makes commits of events, which are in the order of their revisions. One that changes nothing but
/// the author is delivered all the same: somebody may wait for its revision. Gives the key by which
/// the history can be recognised afterwards as well.
pub(super) fn commits(
    events: Vec<KeyEvent>,
    mut witness: Option<Witness>,
) -> (Vec<Commit>, Option<Witness>) {
    let mut commits: Vec<Commit> = Vec::new();
    for event in events {
        if commits.last().is_none_or(|commit| commit.revision != event.revision) {
            commits.push(Commit { revision: event.revision, ..Commit::default() });
        }
        let Some(commit) = commits.last_mut() else { continue };
        let is_author = event.path.as_deref() == Some(AUTHOR);
        if is_author {
            commit.author = event.put.as_ref().and_then(|(value, _)| author(value));
        }
        testify(&mut witness, &event, is_author);
        let (Some(path), false) = (event.path, is_author) else { continue };
        commit.changes.push(match event.put {
            Some((value, created)) => {
                Change::Put(Item { path, value, created, modified: event.revision })
            }
            None => Change::Delete { path },
        });
    }
    (commits, witness)
}

fn author(value: &[u8]) -> Option<Author> {
    serde_json::from_slice(value).ok()
}

/// The newest key that exists is the witness; of one commit's keys preferably the author, which has
/// a random mark. One that is deleted can only testify that it is gone.
fn testify(witness: &mut Option<Witness>, event: &KeyEvent, is_author: bool) {
    let current = witness.as_ref();
    let same_key = current.is_some_and(|witness| witness.key == event.key);
    match &event.put {
        Some((value, created)) => {
            let newest = current.and_then(|witness| witness.value.as_ref());
            let is_newer = newest.is_none_or(|(_, _, at)| *at < event.revision);
            if same_key || is_newer || is_author {
                let value = Some((value.clone(), *created, event.revision));
                *witness = Some(Witness { key: event.key.clone(), value });
            }
        }
        None if same_key || current.is_none() => {
            *witness = Some(Witness { key: event.key.clone(), value: None });
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &str, revision: u64, value: &'static str) -> KeyEvent {
        KeyEvent {
            key: path.into(),
            path: Some(path.into()),
            revision,
            put: Some((Bytes::from_static(value.as_bytes()), 1)),
        }
    }

    fn delete(path: &str, revision: u64) -> KeyEvent {
        KeyEvent { key: path.into(), path: Some(path.into()), revision, put: None }
    }

    fn change(path: &str, revision: u64, value: &'static str) -> Change {
        let value = Bytes::from_static(value.as_bytes());
        Change::Put(Item { path: path.into(), value, created: 1, modified: revision })
    }

    #[test]
    fn events_of_one_revision_are_one_commit_with_its_author() {
        let signed = r#"{"name":"admin","address":"::1","mark":"1"}"#;
        let events = vec![
            put("routes/1", 5, "{}"),
            delete("routes/2", 5),
            put(AUTHOR, 5, signed),
            put("routes/3", 6, "{}"),
            put(AUTHOR, 7, "no author"),
        ];
        let (commits, witness) = commits(events, None);
        let author = Some(Author { name: "admin".into(), address: "::1".into() });
        let first = vec![change("routes/1", 5, "{}"), Change::Delete { path: "routes/2".into() }];
        assert_eq!(
            commits,
            [
                Commit { revision: 5, author, changes: first },
                Commit { revision: 6, author: None, changes: vec![change("routes/3", 6, "{}")] },
                Commit { revision: 7, ..Commit::default() },
            ]
        );
        assert_eq!(witness.unwrap().key, AUTHOR.as_bytes());
    }

    #[test]
    fn the_author_testifies_for_its_commit_whatever_the_order() {
        let events = vec![put(AUTHOR, 5, "{}"), put("routes/1", 5, "{}")];
        assert_eq!(commits(events, None).1.unwrap().key, AUTHOR.as_bytes());
    }

    #[test]
    fn a_witness_stays_until_something_newer_is_written_or_it_is_deleted() {
        let (_, witness) = commits(vec![put("a", 3, "x"), delete("b", 4)], None);
        let expected = Witness { key: b"a".to_vec(), value: Some(("x".into(), 1, 3)) };
        assert_eq!(witness, Some(expected));
        let (_, witness) = commits(vec![delete("a", 5)], witness);
        assert_eq!(witness, Some(Witness { key: b"a".to_vec(), value: None }));
        let (_, witness) = commits(vec![put("c", 6, "y")], witness);
        assert_eq!(witness.unwrap().key, b"c");
    }

    #[test]
    fn an_author_that_cannot_be_read_is_nobody() {
        let events = vec![put("routes/1", 7, "{}"), put(AUTHOR, 7, "no author")];
        assert_eq!(commits(events, None).0[0].author, None);
    }

    #[test]
    fn what_changes_nothing_is_told_for_its_revision() {
        let foreign = KeyEvent { path: None, ..put("x", 9, "{}") };
        let (commits, witness) = commits(vec![foreign, put(AUTHOR, 10, "{}")], None);
        let told: Vec<_> = commits.iter().map(|c| (c.revision, c.changes.len())).collect();
        assert_eq!(told, [(9, 0), (10, 0)]);
        assert_eq!(witness.unwrap().key, AUTHOR.as_bytes());
    }
}
