//! The journal and the copy on disk, written by a thread of their own.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use crate::local::{Copy, Entry, Journal};
use crate::store::{Commit, Contents};

/// Records that may wait for the disk. Beyond that they are dropped and counted: what is served
/// does not wait for its history.
const QUEUE: usize = 1024;

/// How long written records may wait to be safe from a crash.
const SAVE: Duration = Duration::from_secs(1);
/// How long records gather after some were written: what a transaction costs is mostly the same
/// for one record and for many.
const GATHER: Duration = Duration::from_millis(100);
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
    /// Whether the copy missed something and must be written as a whole.
    copy_stale: bool,
}

impl Recorder {
    /// Records into the journal, unless the store keeps it, and into the copy, if there is one.
    pub(crate) fn start(journal: Option<Journal>, copy: Option<Copy>) -> io::Result<Self> {
        let (kept, has_copy) = (journal.clone(), copy.is_some());
        let recorder = |sender, thread| Self {
            sender,
            thread,
            journal: kept,
            has_copy,
            dropped: 0,
            copy_stale: false,
        };
        if journal.is_none() && !has_copy {
            return Ok(recorder(None, None));
        }
        let (sender, records) = crossbeam_channel::bounded::<Record>(QUEUE);
        let writer = Writer { journal, copy, unsaved: false, saved: Instant::now() };
        let thread = std::thread::Builder::new()
            .name("osmia-journal".to_owned())
            .spawn(move || writer.run(&records))?;
        Ok(recorder(Some(sender), Some(thread)))
    }

    /// Whether the copy must be given the contents as a whole.
    pub(crate) fn wants_contents(&self) -> bool {
        self.copy_stale
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
            let skipped = !is_entries && !is_load && self.copy_stale;
            if !wanted || skipped {
                continue;
            }
            // Before the other thread can have written it.
            let journal = self.journal.as_ref().filter(|_| matches!(record, Record::Entries(_)));
            journal.inspect(|journal| journal.expect());
            match sender.try_send(record) {
                Ok(()) => self.copy_stale &= !is_load,
                Err(TrySendError::Full(_)) if is_entries => {
                    journal.inspect(|journal| journal.has_recorded(1));
                    self.dropped += 1;
                    let dropped = self.dropped;
                    tracing::error!(dropped, "the disk is too slow: the journal misses a change");
                }
                Err(_) => {
                    journal.inspect(|journal| journal.has_recorded(1));
                    self.copy_stale = true;
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
    /// Whether something was written that a crash would take away.
    unsaved: bool,
    saved: Instant,
}

impl Writer {
    fn run(mut self, records: &Receiver<Record>) {
        loop {
            let wait = if self.unsaved { SAVE } else { IDLE };
            match records.recv_timeout(wait) {
                Ok(first) => {
                    self.write(first, records);
                    std::thread::sleep(GATHER);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.unsaved && self.saved.elapsed() >= SAVE {
                self.save();
            }
        }
        self.save();
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
                    if let Some(copy) = &self.copy {
                        report(copy.replace(&contents));
                    }
                }
            }
        }
        if let Some(journal) = self.journal.as_ref().filter(|_| expected > 0) {
            report(journal.record(&entries));
            journal.has_recorded(expected);
        }
        if let Some(copy) = self.copy.as_ref().filter(|_| !commits.is_empty()) {
            report(copy.apply(&commits));
        }
        self.unsaved = true;
    }

    /// Waits for the disk. Once per second at most: each time costs others on the same disk, etcd
    /// above all, as much as one of their own commits.
    fn save(&mut self) {
        // Both are in one file where there is a copy.
        match (&self.copy, &self.journal) {
            (Some(copy), _) => report(copy.flush()),
            (None, Some(journal)) => report(journal.flush()),
            (None, None) => {}
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
    use super::*;
    use crate::local::EntryChange;

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
