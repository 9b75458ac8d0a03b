//! The whole thread, once per backend: what is submitted is in the file, or counted.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use osmia_core::settings::Escape;
use tempfile::TempDir;

use super::writer::Appended;
use super::*;

/// Longest wait for something that has to happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// What goes wrong in the next appends, in order.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<VecDeque<Fault>>>);

/// One thing going wrong.
#[derive(Clone)]
pub(super) enum Fault {
    /// Only so many bytes get into the file, then this error of the system comes.
    Error { bytes: usize, code: i32 },
    /// The disk is stuck until the other end is dropped.
    Stuck(Receiver<()>),
    /// A defect in the backend, before anything is written.
    Panic,
}

impl Faults {
    fn push(&self, fault: Fault) {
        self.0.lock().unwrap().push_back(fault);
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    fn are_over(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    pub(super) fn next(&self) -> Option<Fault> {
        let fault = self.0.lock().unwrap().pop_front();
        assert!(!matches!(fault, Some(Fault::Panic)), "injected");
        fault
    }
}

impl Fault {
    pub(super) fn bytes_before(&self) -> usize {
        match self {
            Self::Error { bytes, .. } => *bytes,
            Self::Stuck(gate) => {
                let _ = gate.recv();
                usize::MAX
            }
            Self::Panic => 0,
        }
    }

    pub(super) fn strike(self, appended: Appended) -> Appended {
        match self {
            Self::Error { code, .. } => {
                Appended { bytes: appended.bytes, error: Some(io::Error::from_raw_os_error(code)) }
            }
            _ => appended,
        }
    }
}

/// A running thread with its own directory.
struct Fixture {
    dir: TempDir,
    disk: DiskThread,
    sink: LogSink,
    faults: Faults,
    /// Seconds since the epoch on the thread's wall clock.
    clock: Arc<AtomicU64>,
}

const START: u64 = 1_700_000_000;

fn config(path: &Path) -> AccessLog {
    AccessLog {
        path: path.to_owned(),
        format: "$uri".to_owned(),
        escape: Escape::Default,
        buffer_bytes: 16 * 1024,
        rotate_bytes: 0,
        rotate_interval: Duration::ZERO,
        max_kept: usize::MAX,
        queue: 10_000,
    }
}

impl Fixture {
    fn start(preference: Preference) -> Self {
        Self::with(preference, |_| {})
    }

    fn with(preference: Preference, change: impl FnOnce(&mut AccessLog)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::within(dir, preference, change)
    }

    fn within(dir: TempDir, preference: Preference, change: impl FnOnce(&mut AccessLog)) -> Self {
        let mut config = config(&dir.path().join("access.log"));
        change(&mut config);
        let faults = Faults::default();
        let clock = Arc::new(AtomicU64::new(START));
        let seconds = Arc::clone(&clock);
        let hooks = Hooks {
            preference,
            clock: Clock(Arc::new(move || {
                UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::SeqCst))
            })),
            faults: faults.clone(),
        };
        let disk = DiskThread::start_with(&config, hooks).unwrap();
        let sink = disk.sink();
        Self { dir, disk, sink, faults, clock }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("access.log")
    }

    fn submit(&self, lines: &str) {
        self.sink.submit(lines.as_bytes().to_vec());
    }

    /// Ends the thread and returns what the log holds, with the directory.
    fn finish(self) -> (TempDir, String) {
        self.disk.shutdown(PATIENCE).unwrap();
        let text = fs::read_to_string(self.dir.path().join("access.log")).unwrap();
        (self.dir, text)
    }

    /// Ends the thread; the log must hold exactly `text`.
    fn expect(self, text: &str) {
        assert_eq!(self.finish().1, text);
    }
}

/// Waits until the file at `path` holds exactly `text`.
fn wait_for(path: &Path, text: &str) {
    wait_until(|| fs::read_to_string(path).is_ok_and(|found| found == text));
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Rotated files in the order they were made.
fn rotated(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            let suffix = name.strip_prefix("access.log.")?;
            let (stamp, n) = suffix.split_once('.').unwrap_or((suffix, "0"));
            Some((stamp.to_owned(), n.parse::<u32>().ok()?, path))
        })
        .collect();
    files.sort();
    files.into_iter().map(|(_, _, path)| path).collect()
}

/// Batches of numbered lines of many lengths, always the same for a seed.
struct Lines {
    seed: u64,
    next: u64,
}

impl Lines {
    fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    fn random(&mut self, below: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn batch(&mut self, bytes_max: u64) -> String {
        let bytes = 1 + self.random(bytes_max) as usize;
        let mut batch = String::new();
        while batch.len() < bytes {
            let length = self.random(300) as usize;
            let _ = writeln!(batch, "{} {:x<length$}", self.next, "");
            self.next += 1;
        }
        batch
    }
}

macro_rules! on_each_backend {
    ($($test:ident,)*) => {
        mod ring_direct { $( #[test] fn $test() { super::$test(super::Preference::RingDirect); } )* }
        mod ring_buffered { $( #[test] fn $test() { super::$test(super::Preference::RingBuffered); } )* }
        mod plain { $( #[test] fn $test() { super::$test(super::Preference::Plain); } )* }
    };
}

on_each_backend! {
    lines_of_several_threads_arrive_whole_and_in_order,
    bulk_and_trickle_append_exactly,
    a_line_is_visible_without_a_shutdown,
    what_was_in_the_file_stays,
    lines_go_on_after_a_truncation,
    lines_of_others_in_the_same_file_stay,
    rotation_by_size_loses_nothing,
    rotation_keeps_the_newest_only,
    rotation_by_time_follows_the_clock,
    lines_of_an_earlier_period_are_rotated_at_the_start,
    a_failed_rotation_goes_on_with_the_old_file,
    reopening_follows_a_rename,
    a_failed_reopen_goes_on_with_the_old_file,
    a_full_queue_drops_and_counts,
    a_disk_error_drops_and_counts_and_passes,
    the_rest_of_a_torn_line_comes_first,
    a_torn_line_does_not_move_to_another_file,
    a_stuck_disk_ends_the_shutdown_at_its_deadline,
    buffers_come_back,
    after_the_end_lines_are_counted,
    dropping_the_handle_writes_what_is_there,
}

fn lines_of_several_threads_arrive_whole_and_in_order(preference: Preference) {
    const THREADS: usize = 4;
    const BATCHES: usize = 300;
    let fixture = Fixture::start(preference);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let sink = fixture.disk.sink();
            scope.spawn(move || {
                for batch in 0..BATCHES {
                    let mut buffer = sink.recycle().unwrap_or_default();
                    assert!(buffer.is_empty());
                    for line in 0..batch % 7 {
                        let text = format!("{thread} {batch} {line} {:y<thread$}\n", "");
                        buffer.extend_from_slice(text.as_bytes());
                    }
                    sink.submit(buffer);
                }
            });
        }
    });
    assert_eq!(fixture.sink.dropped_lines(), 0);
    let (_dir, text) = fixture.finish();
    for thread in 0..THREADS {
        let own = format!("{thread} ");
        let found: Vec<_> = text.lines().filter(|l| l.starts_with(&own)).collect();
        let want: Vec<_> = (0..BATCHES)
            .flat_map(|batch| (0..batch % 7).map(move |line| (batch, line)))
            .map(|(batch, line)| format!("{thread} {batch} {line} {:y<thread$}", ""))
            .collect();
        assert_eq!(found, want);
    }
}

fn bulk_and_trickle_append_exactly(preference: Preference) {
    for seed in 0..4 {
        let mut lines = Lines::new(seed);
        let fixture = Fixture::start(preference);
        let mut want = String::new();
        for _ in 0..100 {
            let batch = lines.batch(if seed % 2 == 0 { 40_000 } else { 300_000 });
            fixture.submit(&batch);
            want += &batch;
            // Writes what there is and opens the same file anew: the end lies anywhere now.
            if lines.random(9) == 0 {
                fixture.disk.reopen();
            }
        }
        assert_eq!(fixture.sink.dropped_lines(), 0);
        let (_dir, text) = fixture.finish();
        assert!(text == want, "seed {seed}: {} of {} bytes", text.len(), want.len());
    }
}

fn a_line_is_visible_without_a_shutdown(preference: Preference) {
    let fixture = Fixture::start(preference);
    fixture.submit("one\n");
    wait_for(&fixture.path(), "one\n");
    fixture.submit("two\n");
    wait_for(&fixture.path(), "one\ntwo\n");
    fixture.expect("one\ntwo\n");
}

fn what_was_in_the_file_stays(preference: Preference) {
    let dir = tempfile::tempdir().unwrap();
    let old = Lines::new(1).batch(10_000);
    fs::write(dir.path().join("access.log"), &old).unwrap();
    let fixture = Fixture::within(dir, preference, |_| {});
    let new = Lines::new(2).batch(500_000);
    fixture.submit(&new);
    fixture.expect(&(old + &new));
}

fn lines_go_on_after_a_truncation(preference: Preference) {
    let fixture = Fixture::start(preference);
    let before = Lines::new(1).batch(200_000);
    fixture.submit(&before);
    wait_for(&fixture.path(), &before);
    // As logrotate's copytruncate does.
    fs::File::options().write(true).open(fixture.path()).unwrap().set_len(0).unwrap();
    let after = Lines::new(2).batch(200_000);
    fixture.submit(&after);
    fixture.expect(&after);
}

fn lines_of_others_in_the_same_file_stay(preference: Preference) {
    let fixture = Fixture::start(preference);
    let mut lines = Lines::new(5);
    let mut want = String::new();
    for round in 0..4 {
        let batch = lines.batch(if round % 2 == 0 { 100 } else { 400_000 });
        fixture.submit(&batch);
        want += &batch;
        wait_for(&fixture.path(), &want);
        let theirs = format!("theirs {round}\n");
        let mut file = fs::File::options().append(true).open(fixture.path()).unwrap();
        file.write_all(theirs.as_bytes()).unwrap();
        want += &theirs;
    }
    fixture.expect(&want);
}

fn rotation_by_size_loses_nothing(preference: Preference) {
    const LIMIT: u64 = 100_000;
    let fixture = Fixture::with(preference, |c| c.rotate_bytes = LIMIT);
    let mut lines = Lines::new(7);
    let mut want = String::new();
    for _ in 0..400 {
        let batch = lines.batch(16_000);
        fixture.submit(&batch);
        want += &batch;
    }
    let (dir, text) = fixture.finish();
    let files = rotated(dir.path());
    assert!(files.len() as u64 >= want.len() as u64 / LIMIT);
    let mut found = String::new();
    for file in files {
        let part = fs::read_to_string(&file).unwrap();
        assert!(part.len() as u64 <= LIMIT);
        assert!(part.ends_with('\n'), "a file ends within a line");
        found += &part;
    }
    assert!(found + &text == want);
}

fn rotation_keeps_the_newest_only(preference: Preference) {
    let fixture = Fixture::with(preference, |c| {
        c.rotate_bytes = 10;
        c.max_kept = 2;
    });
    for n in 0..6 {
        fixture.submit(&format!("line {n}\n"));
    }
    let (dir, text) = fixture.finish();
    assert_eq!(text, "line 5\n");
    let kept: Vec<_> = rotated(dir.path()).iter().map(|p| fs::read_to_string(p).unwrap()).collect();
    assert_eq!(kept, ["line 3\n", "line 4\n"]);
}

fn rotation_by_time_follows_the_clock(preference: Preference) {
    let fixture = Fixture::with(preference, |c| c.rotate_interval = Duration::from_hours(1));
    fixture.submit("one\n");
    wait_for(&fixture.path(), "one\n");
    fixture.clock.store(START + 3600, Ordering::SeqCst);
    fixture.submit("two\n");
    wait_for(&fixture.path(), "two\n");
    // Nothing was written to a file for two periods: it moves when the next line comes, once.
    fixture.clock.store(START + 3 * 3600, Ordering::SeqCst);
    fixture.submit("three\n");
    let (dir, text) = fixture.finish();
    assert_eq!(text, "three\n");
    let parts: Vec<_> =
        rotated(dir.path()).iter().map(|p| fs::read_to_string(p).unwrap()).collect();
    assert_eq!(parts, ["one\n", "two\n"]);
}

fn lines_of_an_earlier_period_are_rotated_at_the_start(preference: Preference) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    fs::write(&path, "old\n").unwrap();
    let long_ago = UNIX_EPOCH + Duration::from_secs(START - 7200);
    fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let fixture = Fixture::within(dir, preference, |c| {
        c.rotate_interval = Duration::from_hours(1);
    });
    wait_until(|| rotated(fixture.dir.path()).len() == 1);
    fixture.submit("new\n");
    let (dir, text) = fixture.finish();
    assert_eq!(text, "new\n");
    assert_eq!(fs::read_to_string(&rotated(dir.path())[0]).unwrap(), "old\n");
}

fn a_failed_rotation_goes_on_with_the_old_file(preference: Preference) {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    let fixture = Fixture::within(dir, preference, |c| {
        c.path = inner.join("access.log");
        c.rotate_bytes = 10;
    });
    fixture.submit("line 0\n");
    wait_for(&inner.join("access.log"), "line 0\n");
    // The directory goes and a file takes its name: nothing can be opened there.
    let moved = fixture.dir.path().join("moved");
    fs::rename(&inner, &moved).unwrap();
    fs::write(&inner, "").unwrap();
    fixture.submit("line 1\n");
    fixture.submit("line 2\n");
    wait_for(&moved.join("access.log"), "line 0\nline 1\nline 2\n");
    fixture.disk.shutdown(PATIENCE).unwrap();
    assert_eq!(fixture.sink.dropped_lines(), 0);
}

fn reopening_follows_a_rename(preference: Preference) {
    let fixture = Fixture::start(preference);
    let moved = fixture.dir.path().join("access.log.1");
    fixture.submit("one\n");
    wait_for(&fixture.path(), "one\n");
    fs::rename(fixture.path(), &moved).unwrap();
    fixture.submit("two\n");
    fixture.disk.reopen();
    wait_until(|| fixture.path().exists());
    fixture.submit("three\n");
    let (_dir, text) = fixture.finish();
    assert_eq!(text, "three\n");
    assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
}

fn a_failed_reopen_goes_on_with_the_old_file(preference: Preference) {
    let fixture = Fixture::start(preference);
    let moved = fixture.dir.path().join("access.log.1");
    fixture.submit("one\n");
    wait_for(&fixture.path(), "one\n");
    fs::rename(fixture.path(), &moved).unwrap();
    fs::create_dir(fixture.path()).unwrap();
    fixture.disk.reopen();
    fixture.submit("two\n");
    wait_for(&moved, "one\ntwo\n");
    fs::remove_dir(fixture.path()).unwrap();
    fixture.disk.reopen();
    wait_until(|| fixture.path().exists());
    fixture.submit("three\n");
    fixture.expect("three\n");
}

fn a_full_queue_drops_and_counts(preference: Preference) {
    const QUEUE: usize = 8;
    let fixture = Fixture::with(preference, |c| c.queue = QUEUE);
    let (release, gate) = bounded(0);
    fixture.faults.push(Fault::Stuck(gate));
    fixture.submit("first\n");
    wait_until(|| fixture.faults.are_over());
    let mut want = "first\n".to_owned();
    for n in 0..QUEUE {
        let line = format!("kept {n}\n");
        fixture.submit(&line);
        want += &line;
    }
    assert_eq!(fixture.sink.dropped_lines(), 0);
    fixture.submit("lost\nlost\n");
    fixture.submit("lost\n");
    assert_eq!(fixture.sink.dropped_lines(), 3);
    drop(release);
    fixture.expect(&want);
}

fn a_disk_error_drops_and_counts_and_passes(preference: Preference) {
    let fixture = Fixture::start(preference);
    for _ in 0..3 {
        fixture.faults.push(Fault::Error { bytes: 0, code: libc::ENOSPC });
    }
    for round in 1..=3 {
        fixture.submit("lost\nlost\n");
        wait_until(|| fixture.sink.dropped_lines() == 2 * round);
    }
    fixture.submit("kept\n");
    fixture.expect("kept\n");
}

fn the_rest_of_a_torn_line_comes_first(preference: Preference) {
    let fixture = Fixture::start(preference);
    fixture.faults.push(Fault::Error { bytes: "one\ntw".len(), code: libc::ENOSPC });
    // Still full: nothing of the rest gets in either.
    fixture.faults.push(Fault::Error { bytes: 0, code: libc::ENOSPC });
    fixture.submit("one\ntwo\nthree\nfour\n");
    wait_until(|| fixture.faults.are_over());
    fixture.submit("five\n");
    let sink = fixture.sink.clone();
    fixture.expect("one\ntwo\nfive\n");
    assert_eq!(sink.dropped_lines(), 2);
}

fn a_torn_line_does_not_move_to_another_file(preference: Preference) {
    let fixture = Fixture::with(preference, |c| c.rotate_interval = Duration::from_hours(1));
    fixture.faults.push(Fault::Error { bytes: "on".len(), code: libc::EIO });
    // More than will be tried: the rest of the line gets nowhere.
    for _ in 0..1000 {
        fixture.faults.push(Fault::Error { bytes: 0, code: libc::EIO });
    }
    fixture.submit("one\ntwo\n");
    wait_until(|| fixture.sink.dropped_lines() == 1);
    fixture.clock.store(START + 3600, Ordering::SeqCst);
    fixture.submit("three\n");
    wait_until(|| fixture.sink.dropped_lines() >= 2 && rotated(fixture.dir.path()).len() == 1);
    fixture.faults.clear();
    fixture.submit("four\n");
    let sink = fixture.sink.clone();
    let (dir, text) = fixture.finish();
    assert_eq!(fs::read_to_string(&rotated(dir.path())[0]).unwrap(), "on");
    // The third line may have met the last of the faults.
    match sink.dropped_lines() {
        2 => assert_eq!(text, "three\nfour\n"),
        3 => assert_eq!(text, "four\n"),
        other => panic!("{other} lines dropped"),
    }
}

fn a_stuck_disk_ends_the_shutdown_at_its_deadline(preference: Preference) {
    let fixture = Fixture::start(preference);
    let (release, gate) = bounded(0);
    fixture.faults.push(Fault::Stuck(gate));
    fixture.submit("one\n");
    wait_until(|| fixture.faults.are_over());
    let path = fixture.path();
    let error = fixture.disk.shutdown(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, DiskError::Deadline { .. }), "{error:?}");
    drop(release);
    wait_until(|| fs::read_to_string(&path).is_ok_and(|text| text == "one\n"));
}

fn buffers_come_back(preference: Preference) {
    let fixture = Fixture::start(preference);
    assert!(fixture.sink.recycle().is_none());
    let mut batch = Vec::with_capacity(16 * 1024);
    let pointer = batch.as_ptr();
    batch.extend_from_slice(b"one\n");
    fixture.sink.submit(batch);
    let returned = Mutex::new(None);
    wait_until(|| {
        *returned.lock().unwrap() = fixture.sink.recycle();
        returned.lock().unwrap().is_some()
    });
    let returned = returned.into_inner().unwrap().unwrap();
    assert!(returned.is_empty());
    assert_eq!(returned.as_ptr(), pointer);
    // One that was never used comes back as well.
    fixture.sink.submit(returned);
    assert!(fixture.sink.recycle().is_some());
    // One that grew out of all proportion does not.
    let mut large = Vec::with_capacity(1024 * 1024);
    large.extend_from_slice(b"two\n");
    fixture.sink.submit(large);
    wait_for(&fixture.path(), "one\ntwo\n");
    assert!(fixture.sink.recycle().is_none());
}

fn after_the_end_lines_are_counted(preference: Preference) {
    let fixture = Fixture::start(preference);
    let sink = fixture.sink.clone();
    fixture.expect("");
    sink.submit(b"late\nlate\n".to_vec());
    assert_eq!(sink.dropped_lines(), 2);
}

fn dropping_the_handle_writes_what_is_there(preference: Preference) {
    let Fixture { dir, disk, sink, .. } = Fixture::start(preference);
    sink.submit(b"one\n".to_vec());
    drop(disk);
    wait_until(|| fs::read_to_string(dir.path().join("access.log")).unwrap() == "one\n");
}

/// A defect in glommio costs the ring, not the lines.
#[test]
fn a_panic_in_the_ring_falls_back_to_plain_writes() {
    let fixture = Fixture::start(Preference::RingDirect);
    fixture.submit("one\n");
    wait_for(&fixture.path(), "one\n");
    if fixture.disk.backend() == Backend::Ring {
        fixture.faults.push(Fault::Panic);
    }
    fixture.submit("two\n");
    wait_until(|| fixture.faults.are_over());
    fixture.submit("three\n");
    fixture.expect("one\ntwo\nthree\n");
}

/// A pipe is written as it comes; what a slow reader cannot take is dropped, the rest is whole.
#[test]
fn a_pipe_without_a_reader_drops_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let fixture = Fixture::within(dir, Preference::RingDirect, |c| {
        c.queue = 4;
        c.rotate_bytes = 10;
    });
    assert_eq!(fixture.disk.backend(), Backend::Plain);
    let mut lines = Lines::new(3);
    while fixture.sink.dropped_lines() == 0 {
        fixture.submit(&lines.batch(16_000));
    }
    let mut reader = fs::File::open(fixture.path()).unwrap();
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    let sink = fixture.sink.clone();
    fixture.disk.shutdown(PATIENCE).unwrap();
    let text = read.join().unwrap();
    assert!(text.ends_with('\n'));
    assert_eq!(text.lines().count() as u64, lines.next - sink.dropped_lines());
}

#[test]
fn nothing_starts_when_the_log_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let error = DiskThread::start(&config(dir.path())).unwrap_err();
    assert!(matches!(error, DiskError::Open { .. }), "{error:?}");
}

/// Trouble passes through real system calls too: this device is always full.
#[test]
fn a_full_device_drops_and_counts() {
    let disk = DiskThread::start(&config(Path::new("/dev/full"))).unwrap();
    let sink = disk.sink();
    sink.submit(b"one\ntwo\n".to_vec());
    disk.shutdown(PATIENCE).unwrap();
    assert_eq!(sink.dropped_lines(), 2);
}
