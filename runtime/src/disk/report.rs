//! What the operator hears about a log that loses lines: at once, then at most every few seconds.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Pause between two messages.
const PAUSE: Duration = Duration::from_secs(5);

/// Collects trouble and tells about it in time.
#[derive(Debug)]
pub(super) struct Report {
    path: PathBuf,
    last: Option<Instant>,
    /// Dropped lines already told about.
    told: u64,
    /// The last failure not told about yet.
    error: Option<io::Error>,
    /// Writing fails at present.
    failing: bool,
}

impl Report {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, last: None, told: 0, error: None, failing: false }
    }

    /// A write failed.
    pub(super) fn failed(&mut self, error: io::Error) {
        self.failing = true;
        self.error = Some(error);
    }

    /// A write succeeded.
    pub(super) fn worked(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(path = %self.path.display(), "access log: writing works again");
        }
    }

    /// When the next message is due; `None` when there is nothing to tell. `dropped`: lines lost
    /// since the start.
    pub(super) fn due(&self, dropped: u64) -> Option<Instant> {
        if dropped == self.told && self.error.is_none() {
            return None;
        }
        Some(self.last.map_or_else(Instant::now, |last| last + PAUSE))
    }

    /// Tells what is new, unless it is too soon.
    pub(super) fn publish(&mut self, dropped: u64) {
        if self.due(dropped).is_some_and(|due| due <= Instant::now()) {
            self.publish_all(dropped);
        }
    }

    /// Tells what is new, however soon.
    pub(super) fn publish_all(&mut self, dropped: u64) {
        let lines = dropped - self.told;
        let path = self.path.display();
        match self.error.take() {
            Some(error) => tracing::error!(
                %path, %error, dropped_lines = lines, dropped_total = dropped,
                "access log: cannot write; lines are dropped until it works again. Check space, \
                 quota and health of the disk"
            ),
            None if lines > 0 => tracing::warn!(
                %path, dropped_lines = lines, dropped_total = dropped,
                "access log: the disk is too slow, lines were dropped. Raise \
                 osmia.access_log.queue or use a faster disk"
            ),
            None => return,
        }
        self.told = dropped;
        self.last = Some(Instant::now());
    }
}
