//! What every store does, checked on each of them. `README.md` says how to add one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says so by failing"
)]

mod embedded;
mod etcd;
mod file;
mod mirror;
mod reading;
mod subject;
mod watching;
mod writing;

/// Turns cases into tests of one subject.
macro_rules! cases {
    ($module:ident, $subject:ty, $group:ident: $($case:ident)*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $case() {
                    crate::$group::$case(
                        <$subject as crate::subject::Subject>::fresh().await
                    ).await;
                }
            )*
        }
    };
}

/// What can be asked of any store.
macro_rules! reading {
    ($module:ident, $subject:ty) => {
        cases! { $module, $subject, reading:
            an_empty_store_is_empty
            what_is_written_is_read
            a_write_replaces_and_a_delete_removes
            listing_takes_a_prefix_and_sorts
            unicode_is_kept
            a_watch_begins_with_the_contents
            a_watch_follows_changes
            two_watchers_agree
            a_dropped_watcher_is_forgotten
            a_slow_watcher_catches_up
        }
    };
}

/// What can be asked of stores that keep revisions: a file has none.
macro_rules! keeping {
    ($module:ident, $subject:ty) => {
        cases! { $module, $subject, reading: reopening_keeps_the_contents }
    };
}

/// What can be asked of stores that are written to.
macro_rules! writing {
    ($module:ident, $watching:ident, $subject:ty) => {
        cases! { $module, $subject, writing:
            created_and_modified_revisions
            guard_absent
            guard_exists
            guard_unmodified
            all_guards_must_hold
            of_rival_writers_one_wins
            nothing_happens_without_a_change
            what_cannot_be_written_is_refused
            large_values
            a_lease_runs_out
            a_write_without_ttl_ends_the_lease
            revisions_go_on_after_reopening
        }
        cases! { $watching, $subject, watching:
            no_commit_is_missing_under_concurrent_writers
            two_watchers_see_the_same_commits
            a_watch_that_begins_among_writes_misses_nothing
            transactions_are_seen_whole
            authors_are_delivered
        }
    };
}

reading!(embedded_reading, crate::embedded::Embedded);
keeping!(embedded_keeping, crate::embedded::Embedded);
writing!(embedded_writing, embedded_watching, crate::embedded::Embedded);

reading!(etcd_reading, crate::etcd::Etcd);
keeping!(etcd_keeping, crate::etcd::Etcd);
writing!(etcd_writing, etcd_watching, crate::etcd::Etcd);

reading!(yaml_reading, crate::file::File<true>);
reading!(json_reading, crate::file::File<false>);
