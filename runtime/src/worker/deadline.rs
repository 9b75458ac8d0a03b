//! Deadlines without timers.
//!
//! A connection owns one [`Slot`] with a deadline per direction. Setting one is a store; a sweep on
//! every tick of the worker (see `worker::TICK`) wakes those whose deadline has passed. A slot can
//! also ask to be woken at the next tick, whatever its deadlines: that is how an idle connection
//! finds out that it is idle.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Which of a slot's deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What the connection mainly waits for: the next request, the response, the client taking it.
    Main = 0,
    /// The request body, moving at the same time.
    Upload = 1,
    /// A call as a whole; whoever sets it clears it.
    Call = 2,
}

const NEVER: u64 = u64::MAX;
/// In `deadlines`: it has passed.
const EXPIRED: u64 = 0;

/// The deadlines of one connection.
#[derive(Debug)]
pub struct Slot {
    deadlines: [Cell<u64>; 3],
    nudge: Cell<Nudge>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nudge {
    Off,
    Wanted,
    Given,
}

impl Slot {
    fn new() -> Self {
        Self {
            deadlines: [const { Cell::new(NEVER) }; 3],
            nudge: Cell::new(Nudge::Off),
            waker: RefCell::new(None),
        }
    }

    /// Remembers whom to wake; once per task is enough.
    pub fn attach(&self, cx: &Context<'_>) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }

    /// Sets a deadline `after` from `now` (both on the worker's clock, in milliseconds).
    #[inline]
    pub fn set(&self, direction: Direction, now: u64, after: Duration) {
        let after = u64::try_from(after.as_millis()).unwrap_or(NEVER);
        self.deadlines[direction as usize].set(now.saturating_add(after).max(EXPIRED + 1));
    }

    /// Removes a deadline.
    #[inline]
    pub fn clear(&self, direction: Direction) {
        self.deadlines[direction as usize].set(NEVER);
    }

    /// Whether a deadline has passed.
    #[inline]
    pub fn is_expired(&self, direction: Direction) -> bool {
        self.deadlines[direction as usize].get() == EXPIRED
    }

    /// Asks to be woken at the next tick.
    #[inline]
    pub fn want_nudge(&self) {
        self.nudge.set(Nudge::Wanted);
    }

    /// Whether a tick has come since [`want_nudge`](Self::want_nudge); forgets it.
    #[inline]
    pub fn take_nudge(&self) -> bool {
        let given = self.nudge.get() == Nudge::Given;
        if given {
            self.nudge.set(Nudge::Off);
        }
        given
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// All slots of a worker.
#[derive(Debug, Default)]
pub struct Deadlines {
    slots: RefCell<Vec<Option<Rc<Slot>>>>,
    free: RefCell<Vec<usize>>,
}

/// Owns a slot; gives it back when dropped.
#[derive(Debug)]
pub struct SlotGuard {
    slot: Rc<Slot>,
    index: usize,
    table: Rc<Deadlines>,
}

impl Deadlines {
    /// A fresh slot.
    pub fn register(self: &Rc<Self>) -> SlotGuard {
        let slot = Rc::new(Slot::new());
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[index] = Some(Rc::clone(&slot));
        SlotGuard { slot, index, table: Rc::clone(self) }
    }

    /// Wakes every slot with a deadline at or before `now`, and every slot that asked for a nudge.
    pub fn sweep(&self, now: u64) {
        for slot in self.slots.borrow().iter().flatten() {
            let mut wake = false;
            for deadline in &slot.deadlines {
                if deadline.get() != EXPIRED && deadline.get() <= now {
                    deadline.set(EXPIRED);
                    wake = true;
                }
            }
            if slot.nudge.get() == Nudge::Wanted {
                slot.nudge.set(Nudge::Given);
                wake = true;
            }
            if wake {
                slot.wake();
            }
        }
    }

    /// Wakes every slot's task: the worker's state has changed.
    pub fn wake_all(&self) {
        self.slots.borrow().iter().flatten().for_each(|slot| slot.wake());
    }

    /// Registered slots.
    pub fn len(&self) -> usize {
        self.slots.borrow().len() - self.free.borrow().len()
    }

    /// Whether no slot is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::ops::Deref for SlotGuard {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.table.slots.borrow_mut()[self.index] = None;
        self.table.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn attached(table: &Rc<Deadlines>) -> (SlotGuard, Arc<Counter>) {
        let counter = Arc::new(Counter::default());
        let slot = table.register();
        slot.attach(&Context::from_waker(&Waker::from(Arc::clone(&counter))));
        (slot, counter)
    }

    #[test]
    fn a_passed_deadline_wakes_once_and_stays_expired_until_set_again() {
        let table = Rc::new(Deadlines::default());
        let (slot, woken) = attached(&table);
        slot.set(Direction::Upload, 100, Duration::from_millis(50));
        table.sweep(149);
        assert!(!slot.is_expired(Direction::Upload));
        table.sweep(150);
        table.sweep(151);
        assert!(slot.is_expired(Direction::Upload) && !slot.is_expired(Direction::Main));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        slot.set(Direction::Upload, 151, Duration::from_secs(1));
        assert!(!slot.is_expired(Direction::Upload));
    }

    #[test]
    fn a_nudge_comes_with_the_next_tick_only() {
        let table = Rc::new(Deadlines::default());
        let (slot, woken) = attached(&table);
        slot.want_nudge();
        assert!(!slot.take_nudge());
        table.sweep(1);
        table.sweep(2);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(slot.take_nudge());
        assert!(!slot.take_nudge());
    }

    #[test]
    fn dropped_slots_are_reused() {
        let table = Rc::new(Deadlines::default());
        let first = table.register();
        let second = table.register();
        drop(first);
        assert_eq!(table.len(), 1);
        let third = table.register();
        assert_eq!((second.index, third.index), (1, 0));
    }
}
