//! The journal and the copy on disk, written by a thread of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use crate::local::{Copy, Entry, Journal, Pending};
use crate::store::{Commit, Contents};

/// Records that may wait for the disk. Beyond that they are dropped and counted: what is served
/// does not wait for its history.
const QUEUE: usize = 1024;

/// How long written records may wait to be safe from a crash.
const SAVE: Duration = Duration::from_secs(1);
/// How long records gather after some were written: what a transaction costs is mostly the same
/// for one record and for many.
const GATHER: Duration = Duration::from_millis(100);
/// How long a copy that could not be written waits until the contents are asked for: each time
/// costs as much as writing all of them.
const RETRY: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 10_000 });
/// How long the thread waits when there is nothing to do.
const IDLE: Duration = Duration::from_secs(60);

/// Something to write down.
#[derive(Debug)]
pub(crate) enum Record {
    /// The store's contents as a whole, for the copy.
    Load(Contents),
    /// Changes, for the copy.
    Commits(Vec<Commit>),
    /// What was before this revision is not known to the journal.
    Begin(u64),
    /// For the journal.
    Entries(Vec<Entry>),
}

/// Hands records to the thread that writes them.
#[derive(Debug)]
pub(crate) struct Recorder {
    sender: Option<Sender<Record>>,
    thread: Option<JoinHandle<()>>,
    journal: Option<Journal>,
    has_copy: bool,
    dropped: u64,
    /// Whether the copy missed something and must be written as a whole, as either side knows.
    copy_stale: Arc<AtomicBool>,
}

impl Recorder {
    /// Records into the journal, unless the store keeps it, and into the copy, if there is one.
    pub(crate) fn start(journal: Option<Journal>, copy: Option<Copy>) -> io::Result<Self> {
        let (kept, has_copy) = (journal.clone(), copy.is_some());
        let copy_stale = Arc::new(AtomicBool::new(false));
        let recorder = |sender, thread| Self {
            sender,
            thread,
            journal: kept,
            has_copy,
            dropped: 0,
            copy_stale: Arc::clone(&copy_stale),
        };
        if journal.is_none() && !has_copy {
            return Ok(recorder(None, None));
        }
        let (sender, records) = crossbeam_channel::bounded::<Record>(QUEUE);
        let (copy_stale, saved) = (Arc::clone(&copy_stale), Instant::now());
        let writer = Writer { journal, copy, copy_stale, retry: None, unsaved: false, saved };
        let thread = std::thread::Builder::new()
            .name("osmia-journal".to_owned())
            .spawn(move || writer.run(&records))?;
        Ok(recorder(Some(sender), Some(thread)))
    }

    /// Whether the copy must be given the contents as a whole.
    pub(crate) fn wants_contents(&self) -> bool {
        self.copy_stale.load(Ordering::Relaxed)
    }

    /// Whether entries are written down.
    pub(crate) fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    pub(crate) fn record(&mut self, records: Vec<Record>) {
        let Some(sender) = &self.sender else { return };
        for record in records {
            let is_entries = matches!(record, Record::Entries(_) | Record::Begin(_));
            let is_load = matches!(record, Record::Load(_));
            let wanted = if is_entries { self.has_journal() } else { self.has_copy };
            let skipped = !is_entries && !is_load && self.wants_contents();
            if !wanted || skipped {
                continue;
            }
            // Before the other thread can have written it.
            let journal = self.journal.as_ref().filter(|_| matches!(record, Record::Entries(_)));
            journal.inspect(|journal| journal.expect());
            match sender.try_send(record) {
                Ok(()) if is_load => self.copy_stale.store(false, Ordering::Relaxed),
                Ok(()) => {}
                Err(TrySendError::Full(_)) if is_entries => {
                    journal.inspect(|journal| journal.has_recorded(1));
                    self.dropped += 1;
                    let dropped = self.dropped;
                    tracing::error!(dropped, "the disk is too slow: the journal misses a change");
                }
                Err(_) => {
                    journal.inspect(|journal| journal.has_recorded(1));
                    self.copy_stale.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Ends the thread once it has written what is waiting.
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Writer {
    journal: Option<Journal>,
    copy: Option<Copy>,
    /// See [`Recorder`].
    copy_stale: Arc<AtomicBool>,
    /// When it says so (again); `None` while nothing is missing.
    retry: Option<Instant>,
    /// Whether something was written that a crash would take away.
    unsaved: bool,
    saved: Instant,
}

impl Writer {
    fn run(mut self, records: &Receiver<Record>) {
        loop {
            let wait = match self.pending() {
                Pending::Urgent => Duration::ZERO,
                Pending::Slow => GATHER,
                Pending::Nothing if self.unsaved => SAVE,
                Pending::Nothing => IDLE,
            };
            match records.recv_timeout(wait) {
                Ok(first) => {
                    self.write(first, records);
                    if self.pending() != Pending::Urgent {
                        std::thread::sleep(GATHER);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(copy) = &mut self.copy {
                report(copy.step());
            }
            self.ask_for_contents();
            if self.unsaved && self.saved.elapsed() >= SAVE {
                self.save();
            }
        }
        self.save();
        if let Some(copy) = self.copy {
            report(copy.close());
        }
    }

    fn pending(&self) -> Pending {
        self.copy.as_ref().map_or(Pending::Nothing, Copy::pending)
    }

    /// Writes a record and those that wait behind it, as few times as possible.
    fn write(&mut self, first: Record, records: &Receiver<Record>) {
        let (mut entries, mut expected, mut commits) = (Vec::new(), 0, Vec::new());
        for record in std::iter::once(first).chain(records.try_iter().take(QUEUE)) {
            match record {
                Record::Entries(more) => {
                    entries.extend(more);
                    expected += 1;
                }
                Record::Commits(more) => commits.extend(more),
                Record::Begin(revision) => {
                    if let Some(journal) = &self.journal {
                        report(journal.begin(revision));
                    }
                }
                Record::Load(contents) => {
                    // What came before is part of it.
                    commits.clear();
                    if let Some(copy) = &mut self.copy {
                        report(copy.replace(contents));
                    }
                }
            }
        }
        if let Some(journal) = self.journal.as_ref().filter(|_| expected > 0) {
            report(journal.record(&entries));
            journal.has_recorded(expected);
        }
        if let Some(copy) = self.copy.as_mut().filter(|_| !commits.is_empty()) {
            report(copy.apply(&commits));
        }
        self.unsaved = true;
    }

    fn ask_for_contents(&mut self) {
        if !self.copy.as_ref().is_some_and(Copy::is_behind) {
            self.retry = None;
            return;
        }
        let due = *self.retry.get_or_insert_with(|| Instant::now() + RETRY);
        if due <= Instant::now() {
            self.copy_stale.store(true, Ordering::Relaxed);
            self.retry = Some(Instant::now() + RETRY);
        }
    }

    /// Waits for the disk. Once per second at most: each time costs others on the same disk, etcd
    /// above all, as much as one of their own commits.
    fn save(&mut self) {
        if let Some(copy) = &mut self.copy {
            report(copy.flush());
        }
        if let Some(journal) = &self.journal {
            report(journal.flush());
        }
        (self.unsaved, self.saved) = (false, Instant::now());
    }
}

fn report<E: std::fmt::Display>(outcome: Result<(), E>) {
    if let Err(error) = outcome {
        tracing::error!("cannot write to the data directory: {error}");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::local::EntryChange;
    use crate::store::{Change, Item};

    fn commit(revision: u64) -> Commit {
        let (path, value) = (format!("routes/{revision}"), Bytes::from_static(b"{}"));
        let item = Item { path, value, created: revision, modified: revision };
        Commit { revision, author: None, changes: vec![Change::Put(item)] }
    }

    #[test]
    fn what_was_handed_over_is_there_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        let (copy, _) = Copy::open(&path, "here").unwrap();
        let mut recorder = Recorder::start(None, Some(copy)).unwrap();
        let items = (1..=50).map(|revision| match commit(revision).changes.pop() {
            Some(Change::Put(item)) => item,
            _ => unreachable!(),
        });
        let contents = Contents { revision: 50, items: items.collect() };
        recorder.record(vec![Record::Load(contents), Record::Commits(vec![commit(51)])]);
        drop(recorder);
        let (_, found) = Copy::open(&path, "here").unwrap();
        let found = found.unwrap();
        assert_eq!((found.revision, found.items.len()), (51, 51));
    }

    #[test]
    fn a_copy_that_missed_something_asks_for_the_contents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        let (mut copy, _) = Copy::open(&path, "here").unwrap();
        copy.break_disk();
        let mut recorder = Recorder::start(None, Some(copy)).unwrap();
        recorder.record(vec![Record::Commits(vec![commit(1)])]);
        while !recorder.wants_contents() {
            std::thread::sleep(Duration::from_millis(1));
        }
        recorder.record(vec![Record::Commits(vec![commit(2)])]);
        let contents = Contents { revision: 3, items: Vec::new() };
        recorder.record(vec![Record::Load(contents.clone())]);
        drop(recorder);
        assert_eq!(Copy::open(&path, "here").unwrap().1, Some(contents));
    }

    #[test]
    fn who_reads_the_journal_finds_what_was_handed_over_before() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal.redb"), 100).unwrap();
        let mut recorder = Recorder::start(Some(journal.clone()), None).unwrap();
        for revision in 1..=20 {
            let change = EntryChange { path: "routes/1".into(), before: None, after: None };
            let entry = Entry { revision, at_ms: 0, author: None, changes: vec![change] };
            recorder.record(vec![Record::Entries(vec![entry])]);
            assert_eq!(journal.entries(None, None, 1).unwrap()[0].revision, revision);
            assert_eq!(journal.since(revision - 1).unwrap().len(), 1);
        }
    }
}
