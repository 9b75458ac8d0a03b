//! The worker's coarse clock: read once per tick, free to ask.

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the worker's start, and the current `Date`.
#[derive(Debug)]
pub struct Clock {
    now_ms: Cell<u64>,
    tick: Cell<u32>,
    unix_seconds: Cell<u64>,
    date: RefCell<String>,
}

impl Default for Clock {
    fn default() -> Self {
        let clock = Self {
            now_ms: Cell::new(1),
            tick: Cell::new(0),
            unix_seconds: Cell::new(u64::MAX),
            date: RefCell::new(String::new()),
        };
        clock.set_wall(UNIX_EPOCH);
        clock
    }
}

impl Clock {
    /// Moves the clock forward: `now_ms` since the worker's start, `wall` the time of day.
    pub fn advance(&self, now_ms: u64, wall: SystemTime) {
        self.now_ms.set(now_ms.max(1));
        self.tick.set(self.tick.get().wrapping_add(1));
        self.set_wall(wall);
    }

    fn set_wall(&self, wall: SystemTime) {
        let seconds = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.unix_seconds.replace(seconds) != seconds {
            *self.date.borrow_mut() = httpdate::fmt_http_date(wall);
        }
    }

    /// Milliseconds since the worker's start, as of the last tick.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Seconds since the epoch, as of the last tick.
    #[inline]
    pub fn unix_seconds(&self) -> u64 {
        self.unix_seconds.get()
    }

    /// Ticks so far.
    #[inline]
    pub fn tick(&self) -> u32 {
        self.tick.get()
    }

    /// Runs `use_it` with the current IMF-fixdate (RFC 9110, section 5.6.7).
    #[inline]
    pub fn with_date<T>(&self, use_it: impl FnOnce(&[u8]) -> T) -> T {
        use_it(self.date.borrow().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_date_follows_the_wall_clock() {
        let clock = Clock::default();
        clock.advance(250, UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert_eq!(clock.now_ms(), 250);
        clock.with_date(|date| assert_eq!(date, b"Sun, 06 Nov 1994 08:49:37 GMT"));
    }
}
