//! Lines that a process writes, as they come.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::FAILSAFE;

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

/// Everything that a process has written.
#[derive(Debug)]
pub struct Lines {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    /// Reads `source` in a thread of its own.
    pub fn follow(source: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                theirs.with(|state| state.lines.push(line));
            }
            theirs.with(|state| state.ended = true);
        });
        Self { shared, reader: Some(reader) }
    }

    /// Waits for a line that contains all of `parts`, among those that are there already as well.
    #[track_caller]
    pub fn wait_for(&self, parts: &[&str]) -> String {
        self.wait_for_count(parts, 1)
    }

    /// Waits for the line number `count` of those that contain all of `parts`.
    #[track_caller]
    pub fn wait_for_count(&self, parts: &[&str], count: usize) -> String {
        let deadline = Instant::now() + FAILSAFE;
        let mut state = self.shared.lock();
        loop {
            let matches = |line: &&String| parts.iter().all(|part| line.contains(part));
            if let Some(line) = state.lines.iter().filter(matches).nth(count - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !state.ended && !left.is_zero(),
                "no line {count} with {parts:?} in:\n{}",
                state.lines.join("\n")
            );
            let waited = self.shared.more.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The lines so far.
    pub fn so_far(&self) -> String {
        self.shared.lock().lines.join("\n")
    }

    /// All lines, once the process has ended.
    pub fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.so_far()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.more.notify_all();
    }
}
