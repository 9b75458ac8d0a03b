//! Cases for stores that take transactions.

use bytes::Bytes;
use osmia_config_sync::store::{Guard, Op, Outcome, StoreError, Transaction};

use crate::mirror::Mirror;
use crate::subject::{
    Subject, author, commit, committed, delete, get, mark, paths, put, put_with_ttl, route,
};

pub async fn created_and_modified_revisions(subject: impl Subject) {
    let store = subject.store();
    assert!(store.is_writable());
    let first = committed(&*store, vec![put("routes/1", &route("one"))]).await;
    assert!(first > 0);
    let second = committed(&*store, vec![put("routes/1", &route("two"))]).await;
    let third = committed(&*store, vec![put("routes/2", &route("two"))]).await;
    assert!(first < second && second < third);
    let item = get(&*store, "routes/1").await.unwrap();
    assert_eq!((item.created, item.modified), (first, second));
    let item = get(&*store, "routes/2").await.unwrap();
    assert_eq!((item.created, item.modified), (third, third));
    let deleted = committed(&*store, vec![delete("routes/1")]).await;
    let again = committed(&*store, vec![put("routes/1", &route("three"))]).await;
    assert!(third < deleted && deleted < again);
    let item = get(&*store, "routes/1").await.unwrap();
    assert_eq!((item.created, item.modified), (again, again));
    assert_eq!(store.list("").await.unwrap().revision, again);
    // What is the same text is a commit all the same.
    let same = committed(&*store, vec![put("routes/1", &route("three"))]).await;
    assert!(same > again);
}

pub async fn guard_absent(subject: impl Subject) {
    let store = subject.store();
    let absent = || vec![Guard::Absent("routes/1".to_owned())];
    let outcome = commit(&*store, absent(), vec![put("routes/1", &route("one"))]).await;
    assert!(matches!(outcome, Outcome::Committed { .. }));
    let before = store.list("").await.unwrap();
    let outcome = commit(&*store, absent(), vec![put("routes/1", &route("two"))]).await;
    assert_eq!(outcome, Outcome::Conflict);
    assert_eq!(store.list("").await.unwrap(), before);
}

pub async fn guard_exists(subject: impl Subject) {
    let store = subject.store();
    let exists = || vec![Guard::Exists("routes/1".to_owned())];
    let before = store.list("").await.unwrap();
    let outcome = commit(&*store, exists(), vec![put("routes/2", &route("two"))]).await;
    assert_eq!(outcome, Outcome::Conflict);
    assert_eq!(store.list("").await.unwrap(), before);
    committed(&*store, vec![put("routes/1", &route("one"))]).await;
    let outcome = commit(&*store, exists(), vec![delete("routes/1")]).await;
    assert!(matches!(outcome, Outcome::Committed { .. }));
    assert_eq!(get(&*store, "routes/1").await, None);
}

pub async fn guard_unmodified(subject: impl Subject) {
    let store = subject.store();
    let first = committed(&*store, vec![put("routes/1", &route("one"))]).await;
    let guard = |revision| vec![Guard::Unmodified("routes/1".to_owned(), revision)];
    let outcome = commit(&*store, guard(first), vec![put("routes/1", &route("two"))]).await;
    let Outcome::Committed { revision, .. } = outcome else { panic!("{outcome:?}") };
    for stale in [first, revision + 1] {
        let outcome = commit(&*store, guard(stale), vec![put("routes/1", &route("three"))]).await;
        assert_eq!(outcome, Outcome::Conflict);
    }
    assert_eq!(mark(&get(&*store, "routes/1").await.unwrap().value), "two");
    committed(&*store, vec![delete("routes/1")]).await;
    let outcome = commit(&*store, guard(revision), vec![put("routes/1", &route("four"))]).await;
    assert_eq!(outcome, Outcome::Conflict, "a deleted key is not unmodified");
}

pub async fn all_guards_must_hold(subject: impl Subject) {
    let store = subject.store();
    let mut mirror = Mirror::of(&*store).await;
    let first = committed(&*store, vec![put("routes/1", &route("one"))]).await;
    let holds = [
        Guard::Exists("routes/1".to_owned()),
        Guard::Absent("routes/2".to_owned()),
        Guard::Unmodified("routes/1".to_owned(), first),
    ];
    let fails = [
        Guard::Absent("routes/1".to_owned()),
        Guard::Exists("routes/2".to_owned()),
        Guard::Unmodified("routes/1".to_owned(), first + 100),
    ];
    let ops = || vec![put("routes/1", &route("two")), put("routes/2", &route("two"))];
    for failing in fails {
        for position in 0..=holds.len() {
            let mut guards = holds.to_vec();
            guards.insert(position, failing.clone());
            assert_eq!(commit(&*store, guards, ops()).await, Outcome::Conflict, "{failing:?}");
        }
    }
    let outcome = commit(&*store, holds.to_vec(), ops()).await;
    assert!(matches!(outcome, Outcome::Committed { .. }));
    mirror.catch_up(&*store).await;
    assert_eq!(mirror.commits.len(), 2, "conflicts are not commits");
}

pub async fn of_rival_writers_one_wins(subject: impl Subject) {
    let store = subject.store();
    for round in 0..10 {
        let path = format!("routes/{round}");
        let mut rivals = Vec::new();
        for rival in 0..8 {
            let (store, path) = (subject.store(), path.clone());
            rivals.push(tokio::spawn(async move {
                let ops = vec![put(&path, &route(&rival.to_string()))];
                (rival, commit(&*store, vec![Guard::Absent(path)], ops).await)
            }));
        }
        let mut winners = Vec::new();
        for rival in rivals {
            let (rival, outcome) = rival.await.unwrap();
            if outcome != Outcome::Conflict {
                winners.push(rival);
            }
        }
        assert_eq!(winners.len(), 1);
        let item = get(&*store, &path).await.unwrap();
        assert_eq!(mark(&item.value), winners[0].to_string());
    }
}

pub async fn nothing_happens_without_a_change(subject: impl Subject) {
    let store = subject.store();
    committed(&*store, vec![put("routes/1", &route("one"))]).await;
    let mut mirror = Mirror::of(&*store).await;
    committed(&*store, vec![delete("routes/2")]).await;
    committed(&*store, vec![put("routes/3", &route("three"))]).await;
    mirror.until(|mirror| mirror.items.contains_key("routes/3")).await;
    assert_eq!(mirror.commits.len(), 1, "a delete that deletes nothing is not a commit");
}

pub async fn what_cannot_be_written_is_refused(subject: impl Subject) {
    let store = subject.store();
    let value = route("one");
    let refused = [
        vec![put("routes/1", &value), put("routes/1", &route("two"))],
        vec![put("routes/1", &value), delete("routes/1")],
        vec![put("routes/2", &value), put_with_ttl("routes/1", &value, 0)],
    ];
    for ops in refused {
        let transaction = Transaction { guards: Vec::new(), ops, author: author() };
        let outcome = store.commit(transaction).await;
        assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}");
    }
    assert!(paths(&*store, "").await.is_empty());
}

pub async fn large_values(subject: impl Subject) {
    let store = subject.store();
    let mut mirror = Mirror::of(&*store).await;
    let large: Bytes = route(&"long text, ".repeat(95_325)); // a little over 1 MiB
    assert!(large.len() > 1_048_000);
    committed(&*store, vec![put("routes/1", &large)]).await;
    assert_eq!(get(&*store, "routes/1").await.unwrap().value, large);
    mirror.catch_up(&*store).await;
    committed(&*store, vec![put("routes/1", &route("short"))]).await;
    assert_eq!(mark(&get(&*store, "routes/1").await.unwrap().value), "short");
    mirror.catch_up(&*store).await;
}

pub async fn a_lease_runs_out(subject: impl Subject) {
    let store = subject.store();
    let mut mirror = Mirror::of(&*store).await;
    let value = route("leased");
    let ops = vec![put_with_ttl("routes/1", &value, 1), put("routes/2", &value)];
    let revision = committed(&*store, ops).await;
    mirror.until(|mirror| mirror.revision >= revision).await;
    mirror.until(|mirror| !mirror.items.contains_key("routes/1")).await;
    assert_eq!(get(&*store, "routes/1").await, None);
    assert!(mirror.revision > revision, "expiry is a commit of its own");
    assert_eq!(paths(&*store, "").await, ["routes/2"]);
    let again = committed(&*store, vec![put("routes/1", &value)]).await;
    assert_eq!(get(&*store, "routes/1").await.unwrap().created, again);
}

pub async fn a_write_without_ttl_ends_the_lease(subject: impl Subject) {
    let store = subject.store();
    let mut mirror = Mirror::of(&*store).await;
    let value = route("leased");
    committed(&*store, vec![put_with_ttl("routes/1", &value, 1)]).await;
    committed(&*store, vec![put("routes/1", &value)]).await;
    // A later lease on a key of its own: when it has run out, the first would have as well.
    committed(&*store, vec![put_with_ttl("routes/later", &value, 4)]).await;
    mirror.until(|mirror| mirror.items.contains_key("routes/later")).await;
    mirror.until(|mirror| !mirror.items.contains_key("routes/later")).await;
    mirror.catch_up(&*store).await;
    assert_eq!(paths(&*store, "").await, ["routes/1"]);
}

pub async fn revisions_go_on_after_reopening(subject: impl Subject) {
    let last = committed(&*subject.store(), vec![put("routes/1", &route("one"))]).await;
    let last = {
        let ops: Vec<Op> = vec![delete("routes/1")];
        assert!(last > 0);
        committed(&*subject.store(), ops).await
    };
    let subject = subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.list("").await.unwrap().revision, last);
    let next = committed(&*store, vec![put("routes/1", &route("two"))]).await;
    assert!(next > last);
}
