//! The sync thread over real files, watched by a worker's feed.

// clippy.toml allows these in tests, but does not see the helpers here as part of one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use osmia_config_sync::publish::WorkerFeed;
use osmia_config_sync::sync::{self, ReloadError, Reloaded, StartError, SyncHandle};
use osmia_core::settings::ConfigProvider;
use osmia_core::snapshot::Snapshot;
use tempfile::TempDir;

/// How long to wait for what must come. Nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_mins(1);

/// A standalone file in a directory of its own.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new(text: &str) -> Self {
        let fixture = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(fixture.path(), text).unwrap();
        fixture
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("apisix.yaml")
    }

    /// Replaces the file as editors do: another file takes its name.
    fn replace(&self, text: &str) {
        let next = self.directory.path().join("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.path()).unwrap();
    }

    fn start(&self) -> SyncHandle {
        sync::start(&ConfigProvider::yaml(self.path())).unwrap()
    }
}

/// One route for `path`.
fn route(path: &str) -> String {
    format!("routes:\n  - uri: {path}\n    upstream: {{nodes: {{'127.0.0.1:80': 1}}}}\n#END\n")
}

fn serves(snapshot: &Snapshot, path: &str) -> bool {
    snapshot.router.find(b"", path.as_bytes(), "GET").is_some()
}

fn next(feed: &WorkerFeed) -> Arc<Snapshot> {
    feed.snapshots.recv_timeout(PATIENCE).expect("a snapshot")
}

#[test]
fn the_built_in_configuration_serves_everything() {
    let sync = sync::start(&ConfigProvider::demo()).unwrap();
    let snapshot = next(&sync.subscribe().unwrap());
    assert!(serves(&snapshot, "/any/path"));
    assert_eq!((snapshot.revision, sync.revision()), (1, 1));
    assert_eq!(sync.reload_and_wait(), Ok(Reloaded::Unchanged));
    sync.stop();
    assert_eq!(sync.reload_and_wait(), Err(ReloadError::Stopped));
    sync.stop();
}

#[test]
fn the_demo_file_equals_the_built_in_configuration() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/apisix.yaml");
    let from_file = sync::start(&ConfigProvider::yaml(path)).unwrap().current();
    let built_in = sync::start(&ConfigProvider::demo()).unwrap().current();
    let find = |snapshot: &Snapshot| snapshot.router.find(b"", b"/x", "GET").cloned().unwrap();
    assert_eq!(find(&from_file), find(&built_in));
}

#[test]
fn a_wrong_first_configuration_is_an_error() {
    let fixture = Fixture::new("routes: []\n");
    let reason = |text: &str| {
        fixture.replace(text);
        let error = sync::start(&ConfigProvider::yaml(fixture.path())).unwrap_err();
        let prefix = format!("{}: ", fixture.path().display());
        error.to_string().strip_prefix(&prefix).expect("the file's name first").to_owned()
    };
    assert_eq!(reason("routes: []\n"), "not complete yet: the last line must be #END");
    assert!(reason("routes: [\n#END").starts_with("not valid YAML: "));
    let text = reason("routes:\n  - id: 5\n    uri: /a\n    upstream_id: 9\n#END");
    assert!(text.starts_with("routes[0] (id \"5\"): property \"upstream_id\""), "{text}");
    let missing = ConfigProvider::yaml(fixture.directory.path().join("none"));
    let error = sync::start(&missing).unwrap_err();
    assert!(matches!(&error, StartError::Load { .. }), "{error}");
    assert!(error.to_string().contains("none: cannot be read: "), "{error}");
}

#[test]
fn a_replaced_file_is_noticed() {
    let fixture = Fixture::new(&route("/one"));
    let sync = fixture.start();
    let feed = sync.subscribe().unwrap();
    assert!(serves(&next(&feed), "/one"));
    fixture.replace(&route("/two"));
    let snapshot = next(&feed);
    assert!(serves(&snapshot, "/two") && !serves(&snapshot, "/one"));
    assert_eq!((snapshot.revision, sync.revision()), (2, 2));
}

#[test]
fn a_file_rewritten_in_place_with_the_same_length_is_noticed() {
    let fixture = Fixture::new(&route("/one"));
    let sync = fixture.start();
    let feed = sync.subscribe().unwrap();
    next(&feed);
    // Several times within one tick of the file system's clock.
    for path in ["/a01", "/a02", "/two"] {
        fs::write(fixture.path(), route(path)).unwrap();
    }
    loop {
        if serves(&next(&feed), "/two") {
            return;
        }
    }
}

#[test]
fn a_symbolic_link_pointed_elsewhere_is_noticed() {
    let fixture = Fixture::new("");
    let directory = fixture.directory.path();
    fs::write(directory.join("v1"), route("/one")).unwrap();
    fs::write(directory.join("v2"), route("/two")).unwrap();
    let link = |target: &str| {
        let next = directory.join("next");
        std::os::unix::fs::symlink(target, &next).unwrap();
        fs::rename(next, fixture.path()).unwrap();
    };
    link("v1");
    let feed = fixture.start().subscribe().unwrap();
    // The handle is gone and with it the thread: what was loaded stays.
    assert!(serves(&next(&feed), "/one"));

    let sync = fixture.start();
    let feed = sync.subscribe().unwrap();
    next(&feed);
    link("v2");
    assert!(serves(&next(&feed), "/two"));
}

#[test]
fn a_bad_file_keeps_the_last_good_configuration_until_it_is_mended() {
    let fixture = Fixture::new(&route("/one"));
    let sync = fixture.start();
    let feed = sync.subscribe().unwrap();
    next(&feed);
    let refused = |text: Option<&str>| {
        match text {
            Some(text) => fixture.replace(text),
            None => fs::remove_file(fixture.path()).unwrap(),
        }
        match sync.reload_and_wait() {
            Err(ReloadError::Refused(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(Some("routes: [\n#END")).contains("apisix.yaml: not valid YAML"));
    assert!(refused(Some("routes: []\n")).contains("not complete yet"));
    let half = format!("{}#END", route("/two").replace("#END", "  - uri: 5\n"));
    assert!(refused(Some(&half)).contains("routes[1] (id \"arr_2\"): property \"uri\""));
    assert!(refused(None).contains("cannot be read"));
    assert_eq!(sync.revision(), 1);
    assert!(feed.snapshots.is_empty(), "nothing was published meanwhile");
    assert!(serves(&sync.current(), "/one") && !serves(&sync.current(), "/two"));

    fixture.replace(&route("/three"));
    let snapshot = next(&feed);
    assert!(serves(&snapshot, "/three"));
    assert_eq!(snapshot.revision, 2, "refused configurations take no revision");
}

#[test]
fn a_file_that_comes_back_as_it_was_is_no_change() {
    let fixture = Fixture::new(&route("/one"));
    let sync = fixture.start();
    fs::remove_file(fixture.path()).unwrap();
    assert!(matches!(sync.reload_and_wait(), Err(ReloadError::Refused(_))));
    fs::write(fixture.path(), route("/one")).unwrap();
    assert_eq!(sync.reload_and_wait(), Ok(Reloaded::Unchanged));
    assert_eq!(sync.revision(), 1);
}

#[test]
fn reload_reads_at_once_and_wakes_every_worker() {
    let fixture = Fixture::new(&route("/one"));
    let sync = fixture.start();
    let feeds = [sync.subscribe().unwrap(), sync.subscribe().unwrap()];
    for feed in &feeds {
        next(feed);
        take_signal(feed);
    }
    fixture.replace(&route("/two"));
    sync.reload();
    for feed in &feeds {
        await_signal(feed);
        assert!(serves(&feed.snapshots.try_recv().unwrap(), "/two"));
    }
    // A worker that starts later finds the latest at once.
    let late = sync.subscribe().unwrap();
    assert!(serves(&late.snapshots.try_recv().unwrap(), "/two"));
}

#[test]
fn retired_snapshots_are_freed_by_the_thread() {
    let fixture = Fixture::new(&route("/one"));
    let sync = fixture.start();
    let feed = sync.subscribe().unwrap();
    let old = next(&feed);
    let watched = Arc::downgrade(&old);
    fixture.replace(&route("/two"));
    sync.reload_and_wait().unwrap();
    next(&feed);
    feed.retired.send(old).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while watched.strong_count() > 0 {
        assert!(std::time::Instant::now() < deadline, "the snapshot was not freed");
        // Each answer means that the thread has been round its loop.
        sync.reload_and_wait().unwrap();
    }
}

#[test]
fn handles_work_from_every_thread() {
    fn assert_shareable<T: Clone + Send + Sync + 'static>(_: &T) {}
    let sync = sync::start(&ConfigProvider::demo()).unwrap();
    assert_shareable(&sync);
    let other = sync.clone();
    let revision = std::thread::spawn(move || next(&other.subscribe().unwrap()).revision);
    assert_eq!(revision.join().unwrap(), 1);
}

fn take_signal(feed: &WorkerFeed) {
    let mut count = [0; 8];
    rustix::io::read(&feed.wake, &mut count).expect("the eventfd is readable");
}

/// Waits for the eventfd as a worker's event loop does.
fn await_signal(feed: &WorkerFeed) {
    let mut fds = [rustix::event::PollFd::new(&feed.wake, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1, "no signal");
    take_signal(feed);
}
