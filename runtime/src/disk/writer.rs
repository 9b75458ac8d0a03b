//! The disk thread's loop: collect batches, write them, rotate, reopen, report.
//!
//! The loop knows nothing of how bytes reach the file; an [`Io`] does that, one on glommio and one
//! on plain system calls. Its whole state is here, so that when one backend fails the other goes on
//! with the same lines.
//!
//! **Invariant:** a line is written once and whole, or counted as dropped. Every write appends
//! (`O_APPEND`), so the file may be truncated or appended to by others at any time.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::file::{self, Kind, LogFile};
use super::queue::{Inlet, count_lines};
use super::report::Report;
use super::wake::Wake;
use super::{Clock, DiskError};

/// Bytes collected before they are written even if more are waiting.
pub(super) const CHUNK: usize = 256 * 1024;
/// Longest time a line waits for company. With the worker's own tick this is what `tail -f` sees.
/// Tests do not have the patience.
const COLLECT_TIME: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 250 });
/// Batches taken before looking at anything else.
const BATCHES_PER_TURN: usize = 64;
/// Pause after a failed rotation before it is tried again.
const ROTATION_RETRY: Duration = Duration::from_secs(10);
/// Longest sleep before a rotation by time.
const CLOCK_CHECK: Duration = Duration::from_hours(1);

/// How a backend reaches the file system and waits.
pub(super) trait Io {
    /// The backend's view of an open file.
    type File;

    /// Makes the backend's view of `file`, which the caller keeps open.
    fn adopt(&self, file: &File) -> impl Future<Output = io::Result<Self::File>>;

    /// Appends `data`, cut as `cut` allows.
    fn append(
        &self,
        file: &mut Self::File,
        data: &[u8],
        cut: Cut,
    ) -> impl Future<Output = Appended>;

    /// Waits until the bell rings, or for `timeout`.
    fn wait(&self, wake: &Wake, timeout: Option<Duration>) -> impl Future<Output = ()>;

    /// Runs `job`, which blocks on the file system.
    fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T>;
}

/// Whether a backend may cut an append into several writes, to align them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// One write: others write to the same file, and a line cut in two would be torn apart.
    Never,
    /// Anywhere. The file ends at `end`.
    Anywhere { end: u64 },
    /// Anywhere, and the last bytes may be left for the next append.
    KeepRest { end: u64 },
}

/// What became of an append.
#[derive(Debug)]
pub(super) struct Appended {
    /// Bytes of the front that are in the file, also when it failed after them.
    pub(super) bytes: usize,
    pub(super) error: Option<io::Error>,
}

/// When to rotate.
#[derive(Debug, Clone, Copy)]
pub(super) struct RotationRules {
    /// Beyond this many bytes; 0: never.
    pub(super) bytes: u64,
    /// At multiples of this since the epoch; zero: never.
    pub(super) interval: Duration,
    pub(super) max_kept: usize,
}

/// Everything the disk thread owns.
pub(super) struct Writer {
    inlet: Inlet,
    log: LogFile,
    rules: RotationRules,
    clock: Clock,
    /// Lines on their way to the file.
    pending: Vec<u8>,
    /// When `pending` has waited long enough. `None`: nothing is pending.
    due: Option<Instant>,
    /// The file ends within a line, the rest of which is at the front of `pending`.
    torn: bool,
    /// The file's length after our last write.
    len: u64,
    /// Another process appends to the file too.
    shared: bool,
    /// The rotation interval the file's lines belong to.
    period: u128,
    rotation_blocked_until: Option<Instant>,
    report: Report,
    #[cfg(test)]
    pub(super) faults: super::tests::Faults,
}

impl Writer {
    pub(super) fn new(inlet: Inlet, log: LogFile, rules: RotationRules, clock: Clock) -> Self {
        let report = Report::new(log.path.clone());
        let mut writer = Self {
            inlet,
            log,
            rules,
            clock,
            pending: Vec::new(),
            due: None,
            torn: false,
            len: 0,
            shared: false,
            period: 0,
            rotation_blocked_until: None,
            report,
            #[cfg(test)]
            faults: super::tests::Faults::default(),
        };
        writer.opened();
        writer
    }

    pub(super) fn kind(&self) -> Kind {
        self.log.kind
    }

    /// A descriptor of the bell that wakes this thread.
    pub(super) fn bell(&self) -> io::Result<OwnedFd> {
        self.inlet.shared.wake.try_clone()
    }

    /// Writes what is submitted until a stop is asked for and everything before it is written.
    /// `ready` is called once the backend has the file.
    pub(super) async fn serve<I: Io>(&mut self, io: &I, ready: impl FnOnce()) -> io::Result<()> {
        let mut file = io.adopt(&self.log.file).await?;
        ready();
        loop {
            // Asked before draining: what was submitted earlier is then in the queue.
            let stopping = self.inlet.is_stopping();
            let reopening = self.inlet.take_reopen();
            let turn = if reopening { self.inlet.capacity() } else { BATCHES_PER_TURN };
            let emptied = self.drain(turn, io, &mut file).await;
            if reopening {
                self.reopen(io, &mut file).await;
            }
            if stopping && emptied {
                self.flush(io, &mut file, true).await;
                // The rest of a torn line, if the disk fails to the end.
                self.inlet.count_dropped(count_lines(&self.pending));
                self.pending.clear();
                self.report.publish_all(self.inlet.dropped_lines());
                return Ok(());
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.flush(io, &mut file, true).await;
            }
            self.rotate_if_period_over(io, &mut file).await;
            self.report.publish(self.inlet.dropped_lines());
            if emptied {
                self.sleep(io).await;
            }
        }
    }

    /// Takes up to `batches_max` batches off the queue; `true` when none is left.
    async fn drain<I: Io>(&mut self, batches_max: usize, io: &I, file: &mut I::File) -> bool {
        for _ in 0..batches_max {
            let Some(batch) = self.inlet.next() else {
                return true;
            };
            self.rotate_if_period_over(io, file).await;
            if self.would_exceed(batch.len()) {
                self.flush(io, file, true).await;
                self.rotate(io, file).await;
            }
            self.pending.extend_from_slice(&batch);
            self.inlet.give_back(batch);
            self.due.get_or_insert_with(|| Instant::now() + COLLECT_TIME);
            if self.pending.len() >= CHUNK {
                self.flush(io, file, false).await;
            }
        }
        self.inlet.is_empty()
    }

    async fn sleep<I: Io>(&mut self, io: &I) {
        if !self.inlet.may_sleep(self.due.is_some()) {
            return;
        }
        let now = Instant::now();
        let deadlines = [self.due, self.report.due(self.inlet.dropped_lines())];
        let timeout = deadlines
            .into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .chain(self.until_period_over())
            .min();
        io.wait(&self.inlet.shared.wake, timeout).await;
        self.inlet.is_awake();
    }

    /// Writes what is pending; unless `all`, the backend may keep an unaligned rest for later.
    async fn flush<I: Io>(&mut self, io: &I, file: &mut I::File, all: bool) {
        if self.pending.is_empty() {
            self.due = None;
            return;
        }
        // Others may have truncated the file since we last looked, or appended to it.
        let end = self.log.len().unwrap_or(self.len);
        self.shared |= end > self.len;
        let cut = match self.log.kind {
            Kind::Regular if !self.shared && all => Cut::Anywhere { end },
            Kind::Regular if !self.shared => Cut::KeepRest { end },
            _ => Cut::Never,
        };
        let appended = self.append(io, file, cut).await;
        self.len = end + appended.bytes as u64;
        if let Some(&last) = self.pending[..appended.bytes].last() {
            self.torn = last != b'\n';
        }
        self.pending.drain(..appended.bytes);
        match appended.error {
            Some(error) => {
                self.drop_pending();
                self.report.failed(error);
            }
            None => self.report.worked(),
        }
        // What is left came last, or has to wait for the disk to work again.
        self.due = (!self.pending.is_empty()).then(|| Instant::now() + COLLECT_TIME);
        // An unusual batch shall not hold its memory for good.
        self.pending.shrink_to(2 * CHUNK);
    }

    async fn append<I: Io>(&mut self, io: &I, file: &mut I::File, cut: Cut) -> Appended {
        #[cfg(test)]
        if let Some(fault) = self.faults.next() {
            let good = fault.bytes_before().min(self.pending.len());
            let appended = io.append(file, &self.pending[..good], Cut::Never).await;
            return fault.strike(appended);
        }
        io.append(file, &self.pending, cut).await
    }

    /// Gives up what is pending, but for the rest of a line of which the file has the beginning.
    fn drop_pending(&mut self) {
        let keep = if self.torn {
            let end = self.pending.iter().position(|&b| b == b'\n');
            end.map_or(self.pending.len(), |end| end + 1)
        } else {
            0
        };
        self.inlet.count_dropped(count_lines(&self.pending[keep..]));
        self.pending.truncate(keep);
    }

    /// A new file cannot take the rest of a line that the old one began.
    fn drop_torn_line(&mut self) {
        if self.torn {
            let end = self.pending.iter().position(|&b| b == b'\n');
            self.pending.drain(..end.map_or(self.pending.len(), |end| end + 1));
            self.inlet.count_dropped(1);
            self.torn = false;
        }
    }

    async fn reopen<I: Io>(&mut self, io: &I, file: &mut I::File) {
        self.flush(io, file, true).await;
        let path = self.log.path.clone();
        let opened = io.blocking(move || LogFile::open(&path)).await;
        match self.switch_to(opened, io, file).await {
            Ok(()) => tracing::info!(path = %self.log.path.display(), "access log reopened"),
            Err(error) => tracing::error!(
                %error,
                "access log: cannot reopen; the file that was open is still written to"
            ),
        }
    }

    /// Takes a newly opened file into use; on an error the old one stays in use.
    async fn switch_to<I: Io>(
        &mut self,
        opened: Result<LogFile, DiskError>,
        io: &I,
        file: &mut I::File,
    ) -> Result<(), DiskError> {
        let log = opened?;
        *file = io
            .adopt(&log.file)
            .await
            .map_err(|source| DiskError::Open { path: log.path.clone(), source })?;
        self.log = log;
        self.drop_torn_line();
        self.opened();
        Ok(())
    }

    /// Looks at a file just opened: lines of an earlier period may be in it.
    fn opened(&mut self) {
        self.len = self.log.len().unwrap_or(0);
        self.shared = false;
        self.period = match self.log.modified() {
            Ok(modified) if self.len > 0 => self.period_of(modified),
            _ => self.period_of(self.clock.now()),
        };
    }

    /// Whether `more` bytes would make the file larger than a rotated one may be.
    fn would_exceed(&self, more: usize) -> bool {
        let before = self.len + self.pending.len() as u64;
        self.rules.bytes > 0
            && self.may_rotate()
            && before > 0
            && before + more as u64 > self.rules.bytes
    }

    fn may_rotate(&self) -> bool {
        self.log.kind == Kind::Regular
            && self.rotation_blocked_until.is_none_or(|until| until <= Instant::now())
    }

    fn period_of(&self, time: SystemTime) -> u128 {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        since_epoch.as_nanos().checked_div(self.rules.interval.as_nanos()).unwrap_or(0)
    }

    /// Time left in the file's period; `None` when nothing will have to be rotated then.
    fn until_period_over(&self) -> Option<Duration> {
        let interval = self.rules.interval.as_nanos();
        if interval == 0 || self.log.kind != Kind::Regular || self.len == 0 {
            return None;
        }
        let since_epoch = self.clock.now().duration_since(UNIX_EPOCH).ok()?;
        let left = ((self.period + 1) * interval).saturating_sub(since_epoch.as_nanos());
        let left = Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX));
        let blocked = self
            .rotation_blocked_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        // A wall clock that jumps is noticed within the hour.
        Some(left.max(blocked).min(CLOCK_CHECK))
    }

    async fn rotate_if_period_over<I: Io>(&mut self, io: &I, file: &mut I::File) {
        if self.rules.interval.is_zero() || !self.may_rotate() {
            return;
        }
        let period = self.period_of(self.clock.now());
        if period <= self.period {
            return;
        }
        self.flush(io, file, true).await;
        if self.len == 0 {
            // Nothing to move aside.
            self.period = period;
        } else {
            self.rotate(io, file).await;
        }
    }

    async fn rotate<I: Io>(&mut self, io: &I, file: &mut I::File) {
        let rotation = self.log.rotation(self.clock.now(), self.rules.max_kept);
        let opened = match rotation {
            Ok(rotation) => io.blocking(move || file::rotate(&rotation)).await,
            Err(source) => Err(DiskError::Rotate { path: self.log.path.clone(), source }),
        };
        self.rotation_blocked_until = None;
        if let Err(error) = self.switch_to(opened, io, file).await {
            self.rotation_blocked_until = Some(Instant::now() + ROTATION_RETRY);
            tracing::error!(
                %error,
                "access log: cannot rotate; the file that was open is still written to"
            );
        }
    }
}
