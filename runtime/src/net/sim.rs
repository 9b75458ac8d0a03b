//! A virtual network with a virtual clock: client, gateway and upstream joined in one thread.
//!
//! Everything that the kernel decides on a real machine is decided here by a seeded generator: how
//! bytes are cut, how long they take, in which order the two sides of an exchange move, when a
//! connection is refused or reset. A run is repeated exactly by its seed. Time passes only when no
//! task can run, so hours of timeouts take no time at all.

use std::cell::{Cell, RefCell};
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::{Conn, Done, Net, Rx, Tx};
use crate::buf::Buf;

/// How unkind the network is. Probabilities are per 10,000.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// Longest delay of a piece of data, in microseconds of virtual time.
    pub delay_us: u64,
    /// Bytes a direction holds before its sender has to wait.
    pub window: usize,
    /// Cut data at random places rather than passing it as it was sent.
    pub cut: bool,
    /// Connection attempts that are refused.
    pub refuse: u32,
    /// Pieces that are answered with a reset of the connection.
    pub reset: u32,
}

impl Conditions {
    /// A network without faults or delays.
    pub const PERFECT: Self =
        Self { delay_us: 0, window: usize::MAX, cut: false, refuse: 0, reset: 0 };
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Entry {
    /// Absent while it runs and after it has ended.
    task: Option<Task>,
    waker: Waker,
}
type Accept = Rc<dyn Fn(Conn<SimNet>, SocketAddr)>;

/// A simulated world. Cheap to clone; all clones are the same world.
#[derive(Clone)]
pub struct SimNet {
    world: Rc<World>,
}

struct World {
    now_us: Cell<u64>,
    random: RefCell<fastrand::Rng>,
    conditions: Cell<Conditions>,
    tasks: RefCell<Vec<Entry>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Ready>,
    timers: RefCell<BinaryHeap<Timer>>,
    listeners: RefCell<HashMap<SocketAddr, Accept>>,
    next_port: Cell<u16>,
}

/// Tasks to run, by index.
#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>);

struct TaskWaker {
    ready: Arc<Ready>,
    task: usize,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.task) {
            ready.push_back(self.task);
        }
    }
}

struct Timer {
    at_us: u64,
    waker: Waker,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at_us == other.at_us
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    /// The earliest timer is the greatest: `BinaryHeap` pops the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at_us.cmp(&self.at_us)
    }
}

impl SimNet {
    /// A world in which everything follows from `seed`.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            world: Rc::new(World {
                now_us: Cell::new(0),
                random: RefCell::new(fastrand::Rng::with_seed(seed)),
                conditions: Cell::new(conditions),
                tasks: RefCell::default(),
                free: RefCell::default(),
                ready: Arc::default(),
                timers: RefCell::default(),
                listeners: RefCell::default(),
                next_port: Cell::new(1024),
            }),
        }
    }

    /// Virtual time since the beginning, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.world.now_us.get()
    }

    /// Changes the weather.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.world.conditions.set(conditions);
    }

    /// Asks the generator.
    pub fn random<T>(&self, ask: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        ask(&mut self.world.random.borrow_mut())
    }

    fn happens(&self, per_10_000: u32) -> bool {
        per_10_000 > 0 && self.random(|random| random.u32(0..10_000)) < per_10_000
    }

    /// Hands connections to `addr` to `accept`.
    pub fn listen(&self, addr: SocketAddr, accept: impl Fn(Conn<Self>, SocketAddr) + 'static) {
        self.world.listeners.borrow_mut().insert(addr, Rc::new(accept));
    }

    /// Waits for `us` microseconds of virtual time.
    pub async fn sleep(&self, us: u64) {
        let at = self.now_us() + us;
        poll_fn(|cx| {
            if self.now_us() >= at {
                return Poll::Ready(());
            }
            self.wake_at(at, cx);
            Poll::Pending
        })
        .await;
    }

    fn wake_at(&self, at_us: u64, cx: &Context<'_>) {
        self.world.timers.borrow_mut().push(Timer { at_us, waker: cx.waker().clone() });
    }

    /// Runs until no task is left or virtual time reaches `until_us`. Returns the number of tasks
    /// that are left.
    pub fn run(&self, until_us: u64) -> usize {
        loop {
            while let Some(task) = self.next_ready() {
                self.poll(task);
            }
            let Some(at) = self.world.timers.borrow().peek().map(|timer| timer.at_us) else {
                break;
            };
            if at > until_us {
                break;
            }
            self.world.now_us.set(at.max(self.now_us()));
            self.fire();
        }
        self.world.tasks.borrow().iter().filter(|entry| entry.task.is_some()).count()
    }

    /// In conditions that reorder, which of the ready tasks comes next is chance.
    fn next_ready(&self) -> Option<usize> {
        let mut ready = self.world.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.world.conditions.get().cut && ready.len() > 1 {
            let last = ready.len() - 1;
            let pick = self.random(|random| random.usize(..=last));
            ready.swap(0, pick);
        }
        ready.pop_front()
    }

    fn fire(&self) {
        loop {
            let due = {
                let mut timers = self.world.timers.borrow_mut();
                match timers.peek() {
                    Some(timer) if timer.at_us <= self.now_us() => timers.pop(),
                    _ => None,
                }
            };
            match due {
                Some(timer) => timer.waker.wake(),
                None => return,
            }
        }
    }

    fn poll(&self, index: usize) {
        // Taken out while it runs: it may spawn others.
        let taken = self.world.tasks.borrow_mut().get_mut(index).and_then(|entry| {
            let task = entry.task.take()?;
            Some((task, entry.waker.clone()))
        });
        let Some((mut task, waker)) = taken else { return };
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.world.tasks.borrow_mut()[index].task = Some(task);
        } else {
            drop(task);
            self.world.free.borrow_mut().push(index);
        }
    }

    fn pair(&self) -> (Conn<Self>, Conn<Self>) {
        let there = Rc::new(Pipe::default());
        let back = Rc::new(Pipe::default());
        let end = |incoming: &Rc<Pipe>, outgoing: &Rc<Pipe>| Conn {
            rx: SimRx { net: self.clone(), pipe: Rc::clone(incoming), armed: None, cancel: None },
            tx: SimTx {
                net: self.clone(),
                pipe: Rc::clone(outgoing),
                back: Rc::clone(incoming),
                sending: None,
                sent: 0,
            },
        };
        (end(&back, &there), end(&there, &back))
    }
}

impl Net for SimNet {
    type Rx = SimRx;
    type Tx = SimTx;

    async fn connect(&self, addr: SocketAddr) -> io::Result<Conn<Self>> {
        let conditions = self.world.conditions.get();
        if conditions.delay_us > 0 {
            self.sleep(self.random(|random| random.u64(..=conditions.delay_us))).await;
        }
        let accept = self.world.listeners.borrow().get(&addr).cloned();
        let Some(accept) = accept.filter(|_| !self.happens(conditions.refuse)) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (ours, theirs) = self.pair();
        let port = self.world.next_port.get().checked_add(1).unwrap_or(1024);
        self.world.next_port.set(port);
        accept(theirs, SocketAddr::from(([10, 0, 0, 1], port)));
        Ok(ours)
    }

    async fn park(conn: Conn<Self>) -> io::Result<Conn<Self>> {
        poll_fn(|cx| conn.rx.poll_readable(cx)).await;
        Ok(conn)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.world.tasks.borrow_mut();
        let index = self.world.free.borrow_mut().pop().unwrap_or(tasks.len());
        if index == tasks.len() {
            let ready = Arc::clone(&self.world.ready);
            let waker = Waker::from(Arc::new(TaskWaker { ready, task: index }));
            tasks.push(Entry { task: None, waker });
        }
        tasks[index].task = Some(Box::pin(task));
        self.world.ready.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(index);
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    /// Pieces and when they arrive.
    pieces: RefCell<VecDeque<(u64, Vec<u8>)>>,
    queued: Cell<usize>,
    finished: Cell<bool>,
    reset: Cell<bool>,
    /// Nobody will read any more.
    unread: Cell<bool>,
    last_arrival_us: Cell<u64>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

impl Pipe {
    fn wake_reader(&self) {
        if let Some(waker) = self.reader.borrow_mut().take() {
            waker.wake();
        }
    }

    fn wake_writer(&self) {
        if let Some(waker) = self.writer.borrow_mut().take() {
            waker.wake();
        }
    }

    fn break_off(&self) {
        self.reset.set(true);
        self.pieces.borrow_mut().clear();
        self.wake_reader();
        self.wake_writer();
    }
}

/// Receiving half.
pub struct SimRx {
    net: SimNet,
    pipe: Rc<Pipe>,
    armed: Option<Buf>,
    /// `Some(true)`: cancelled.
    cancel: Option<bool>,
}

impl SimRx {
    /// Whether something, or the end, has arrived.
    fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.pipe.reset.get() {
            return Poll::Ready(());
        }
        match self.pipe.pieces.borrow().front() {
            Some((arrival, _)) if *arrival <= self.net.now_us() => return Poll::Ready(()),
            Some((arrival, _)) => self.net.wake_at(*arrival, cx),
            None if self.pipe.finished.get() => return Poll::Ready(()),
            None => {}
        }
        *self.pipe.reader.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn take(&self, buf: &mut Buf) -> io::Result<usize> {
        if self.pipe.reset.get() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut pieces = self.pipe.pieces.borrow_mut();
        let Some((_, piece)) = pieces.front_mut() else { return Ok(0) };
        let mut len = piece.len().min(buf.room());
        if self.net.world.conditions.get().cut && len > 1 {
            len = self.net.random(|random| if random.bool() { random.usize(1..=len) } else { len });
        }
        buf.append(&piece[..len]);
        piece.drain(..len);
        if piece.is_empty() {
            pieces.pop_front();
        }
        self.pipe.queued.set(self.pipe.queued.get() - len);
        self.pipe.wake_writer();
        Ok(len)
    }
}

impl Rx for SimRx {
    fn start(&mut self, buf: Buf, cancelable: bool) {
        assert!(self.armed.is_none(), "one receive at a time");
        assert!(buf.room() > 0, "a receive needs room");
        self.armed = Some(buf);
        self.cancel = cancelable.then_some(false);
    }

    fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done<usize>> {
        if self.armed.is_none() {
            return Poll::Pending;
        }
        let readable = self.poll_readable(cx).is_ready();
        if !readable && self.cancel != Some(true) {
            return Poll::Pending;
        }
        let Some(mut buf) = self.armed.take() else { return Poll::Pending };
        let result = if readable {
            self.take(&mut buf)
        } else {
            Err(io::Error::from_raw_os_error(libc::ECANCELED))
        };
        Poll::Ready((result, buf))
    }

    fn is_cancelable(&self) -> bool {
        self.cancel.is_some()
    }

    fn cancel(&mut self) {
        if let Some(cancelled) = &mut self.cancel {
            *cancelled = true;
            self.pipe.wake_reader();
        }
    }
}

impl Drop for SimRx {
    fn drop(&mut self) {
        self.pipe.unread.set(true);
        self.pipe.wake_writer();
    }
}

/// Sending half.
pub struct SimTx {
    net: SimNet,
    pipe: Rc<Pipe>,
    back: Rc<Pipe>,
    sending: Option<Buf>,
    sent: u64,
}

impl SimTx {
    /// Moves as much as the window takes.
    fn push(&mut self) -> Option<io::Result<()>> {
        let conditions = self.net.world.conditions.get();
        let buf = self.sending.as_mut()?;
        while !buf.is_empty() {
            if self.pipe.reset.get() || self.pipe.unread.get() || self.pipe.finished.get() {
                return Some(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if self.net.happens(conditions.reset) {
                self.pipe.break_off();
                self.back.break_off();
                return Some(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let room = conditions.window.saturating_sub(self.pipe.queued.get());
            if room == 0 {
                return None;
            }
            let mut len = buf.len().min(room);
            if conditions.cut && len > 1 {
                len = self
                    .net
                    .random(|random| if random.bool() { random.usize(1..=len) } else { len });
            }
            let delay = self.net.random(|random| match conditions.delay_us {
                0 => 0,
                most => random.u64(..=most),
            });
            let arrival = (self.net.now_us() + delay).max(self.pipe.last_arrival_us.get());
            self.pipe.last_arrival_us.set(arrival);
            self.pipe.pieces.borrow_mut().push_back((arrival, buf.bytes()[..len].to_vec()));
            self.pipe.queued.set(self.pipe.queued.get() + len);
            buf.advance(len);
            self.sent += len as u64;
            self.pipe.wake_reader();
        }
        Some(Ok(()))
    }
}

impl Tx for SimTx {
    fn start(&mut self, buf: Buf) {
        assert!(self.sending.is_none(), "one send at a time");
        self.sending = Some(buf);
        // As with a ring, what fits leaves at once; the outcome waits to be looked at.
        if let Some(Ok(())) = self.push() {
            self.sending = Some(Buf::new(crate::buf::Class::Small));
        }
    }

    fn is_busy(&self) -> bool {
        self.sending.is_some()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sending.is_none() {
            return Poll::Ready(Ok(()));
        }
        match self.push() {
            Some(result) => {
                self.sending = None;
                Poll::Ready(result)
            }
            None => {
                *self.pipe.writer.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn reset(&mut self) {
        self.pipe.break_off();
    }

    fn shutdown(&mut self) {
        self.pipe.finished.set(true);
        self.pipe.wake_reader();
    }

    fn send_last(&mut self, bytes: &[u8]) {
        if self.sending.is_none() {
            self.sending = Some(Buf::copy_of(bytes));
            let _ = self.push();
            self.sending = None;
        }
    }
}

impl Drop for SimTx {
    fn drop(&mut self) {
        self.shutdown();
    }
}
