//! The bounded queue from workers to the disk thread, and the buffers' way back.
//!
//! **Invariant:** a worker never waits here. A full queue costs the batch, and its lines are
//! counted. The disk thread is woken by the first batch after a quiet time, then left alone for a
//! moment so that one wake, and one write, serves many batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::wake::Wake;

/// Empty buffers kept for the workers. More may be under way; those are freed.
const RECYCLED_BUFFERS: usize = 64;
/// Batches that wake the disk thread before its pause is over; a quarter of the queue if that is
/// less.
const WAKE_BATCHES: usize = 16;

/// What the disk thread does, as far as its callers must know.
mod state {
    /// Awake: it will look at the queue before it sleeps.
    pub(super) const AWAKE: u8 = 0;
    /// Asleep with nothing to write: the first batch wakes it.
    pub(super) const IDLE: u8 = 1;
    /// Asleep for a moment, collecting: only a filling queue wakes it.
    pub(super) const COLLECTING: u8 = 2;
}

/// Shared by both ends.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) wake: Wake,
    state: AtomicU8,
    wake_batches: usize,
    dropped_lines: AtomicU64,
    stop: AtomicBool,
    reopen: AtomicBool,
}

impl Shared {
    /// Asks for an orderly end: what was submitted until now is written, then the thread ends.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake.notify();
    }

    /// Asks for the path to be opened anew.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::SeqCst);
        self.wake.notify();
    }
}

/// A worker's end of the access log: takes batches of complete lines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogSink {
    shared: Arc<Shared>,
    batches: Sender<Vec<u8>>,
    empties: Receiver<Vec<u8>>,
    give_back: Sender<Vec<u8>>,
}

impl LogSink {
    /// Hands over a batch of complete lines, each with its `\n`. Never blocks. When the queue is
    /// full, or the disk thread has ended, the batch is dropped and its lines are counted.
    pub fn submit(&self, batch: Vec<u8>) {
        if batch.is_empty() {
            self.put_back(batch);
            return;
        }
        match self.batches.try_send(batch) {
            Ok(()) => self.wake_if_needed(),
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                let lines = count_lines(&batch);
                self.shared.dropped_lines.fetch_add(lines, Ordering::Relaxed);
                self.put_back(batch);
            }
        }
    }

    /// An empty buffer that was used before, if there is one.
    pub fn recycle(&self) -> Option<Vec<u8>> {
        self.empties.try_recv().ok()
    }

    /// Lines lost since the start, for whatever reason: queue full, or the disk refused them.
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped_lines.load(Ordering::Relaxed)
    }

    fn put_back(&self, mut batch: Vec<u8>) {
        batch.clear();
        // Enough are waiting already: this one is freed.
        let _ = self.give_back.try_send(batch);
    }

    fn wake_if_needed(&self) {
        // Pairs with the fence in `Inlet::may_sleep`: either we see that the thread sleeps, or it
        // sees our batch.
        fence(Ordering::SeqCst);
        let state = self.shared.state.load(Ordering::Relaxed);
        let needed = match state {
            state::IDLE => true,
            state::COLLECTING => self.batches.len() >= self.shared.wake_batches,
            _ => false,
        };
        // Of several workers one rings.
        if needed
            && self
                .shared
                .state
                .compare_exchange(state, state::AWAKE, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        {
            self.shared.wake.notify();
        }
    }
}

/// The disk thread's end.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) shared: Arc<Shared>,
    batches: Receiver<Vec<u8>>,
    give_back: Sender<Vec<u8>>,
    /// Buffers that grew beyond this are freed instead of going back.
    capacity_max: usize,
}

impl Inlet {
    pub(super) fn next(&self) -> Option<Vec<u8>> {
        self.batches.try_recv().ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Batches that may wait at a time.
    pub(super) fn capacity(&self) -> usize {
        self.batches.capacity().unwrap_or(usize::MAX)
    }

    /// Gives a written batch's buffer back to the workers.
    pub(super) fn give_back(&self, mut batch: Vec<u8>) {
        if batch.capacity() <= self.capacity_max {
            batch.clear();
            let _ = self.give_back.try_send(batch);
        }
    }

    pub(super) fn count_dropped(&self, lines: u64) {
        self.shared.dropped_lines.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn dropped_lines(&self) -> u64 {
        self.shared.dropped_lines.load(Ordering::Relaxed)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.shared.stop.load(Ordering::SeqCst)
    }

    /// Whether a reopen was asked for since the last call.
    pub(super) fn take_reopen(&self) -> bool {
        self.shared.reopen.swap(false, Ordering::SeqCst)
    }

    /// Announces sleep; `collecting` when lines are waiting to be written soon. Returns `false`,
    /// announcing nothing, when there is something to do right now.
    pub(super) fn may_sleep(&self, collecting: bool) -> bool {
        let (state, limit) = if collecting {
            (state::COLLECTING, self.shared.wake_batches)
        } else {
            (state::IDLE, 1)
        };
        self.shared.state.store(state, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let asked = self.is_stopping() || self.shared.reopen.load(Ordering::SeqCst);
        if asked || self.batches.len() >= limit {
            self.is_awake();
            return false;
        }
        true
    }

    /// Ends the sleep announced by [`Self::may_sleep`].
    pub(super) fn is_awake(&self) {
        self.shared.state.store(state::AWAKE, Ordering::SeqCst);
    }
}

/// Creates both ends. `capacity`: batches that may wait. `batch_bytes`: their usual size.
pub(super) fn queue(capacity: usize, batch_bytes: usize) -> std::io::Result<(LogSink, Inlet)> {
    let capacity = capacity.max(1);
    let shared = Arc::new(Shared {
        wake: Wake::new()?,
        state: AtomicU8::new(state::AWAKE),
        wake_batches: WAKE_BATCHES.min(capacity / 4).max(1),
        dropped_lines: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        reopen: AtomicBool::new(false),
    });
    let (batches_in, batches_out) = bounded(capacity);
    let (empties_in, empties_out) = bounded(capacity.min(RECYCLED_BUFFERS));
    let sink = LogSink {
        shared: Arc::clone(&shared),
        batches: batches_in,
        empties: empties_out,
        give_back: empties_in.clone(),
    };
    let inlet = Inlet {
        shared,
        batches: batches_out,
        give_back: empties_in,
        capacity_max: batch_bytes.saturating_mul(4),
    };
    Ok((sink, inlet))
}

/// Lines in `bytes`.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    // In bytes as long as they cannot overflow: the compiler counts a whole vector at a time.
    bytes
        .chunks(usize::from(u8::MAX))
        .map(|chunk| chunk.iter().map(|&b| u8::from(b == b'\n')).sum::<u8>())
        .map(u64::from)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted() {
        assert_eq!(count_lines(b""), 0);
        assert_eq!(count_lines(b"a\n\nb"), 2);
        for lines in [254, 255, 256, 1000] {
            assert_eq!(count_lines(&vec![b'\n'; lines]), lines as u64);
        }
    }
}
