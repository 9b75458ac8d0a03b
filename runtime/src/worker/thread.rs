//! A worker's thread: pinned, with its event loop, its listeners and its feed of snapshots.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read};
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use crossbeam_channel::Sender;
use monoio::net::TcpStream;
use osmia_config_sync::publish::{Installed, SnapshotReceiver, WorkerFeed};
use osmia_core::settings::{Driver, Listener};
use osmia_core::snapshot::Snapshot;
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::acceptor::{self, Acceptor};
use super::driver::{DriverError, EventLoop, Kind};
use super::stats::Stats;
use super::{ListenerInfo, LocalSnapshot, PipelineSettings, TICK, Worker, scheduling};
use crate::http::connection;
use crate::listen::Socket;
use crate::log::AccessLog;
use crate::net::Kernel;
use crate::net::stack::Stack;
use crate::net::tcp;

/// What the supervisor wants of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// Serve.
    Run = 0,
    /// Stop accepting, serve what was accepted, then end.
    Drain = 1,
    /// End at once.
    Stop = 2,
}

/// The supervisor's line to a worker.
#[derive(Debug)]
pub struct Control {
    command: AtomicU8,
    wake: OwnedFd,
}

impl Control {
    /// A line with `Run` on it.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { command: AtomicU8::new(Command::Run as u8), wake })
    }

    /// Tells the worker.
    pub fn send(&self, command: Command) {
        self.command.store(command as u8, Ordering::Release);
        // The counter saturates only after 2^64 wakes.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn command(&self) -> Command {
        match self.command.load(Ordering::Acquire) {
            0 => Command::Run,
            1 => Command::Drain,
            _ => Command::Stop,
        }
    }
}

/// What a worker needs to start.
#[derive(Debug)]
pub struct Plan {
    /// Position among the workers.
    pub id: usize,
    /// Core to pin to.
    pub core: Option<usize>,
    /// Which event loop.
    pub driver: Driver,
    /// Settings of the request path.
    pub settings: PipelineSettings,
    /// Bound sockets.
    pub listeners: Vec<(Socket, Listener)>,
    /// Snapshots.
    pub feed: WorkerFeed,
    /// The supervisor's line.
    pub control: Arc<Control>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Access log.
    pub log: Option<AccessLog>,
    /// Told once: the event loop in use, or why there is none.
    pub ready: Sender<Result<Kind, DriverError>>,
}

/// Starts the thread. `ended` is called when it ends, however it does.
pub fn spawn(plan: Plan, ended: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("osmia-worker-{}", plan.id)).spawn(move || {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run(plan)));
        ended();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    })
}

fn run(plan: Plan) {
    if let Some(core) = plan.core
        && let Err(error) = scheduling::pin(core)
    {
        tracing::warn!(worker = plan.id, core, "cannot pin to the core: {error}");
    }
    if let Err(error) = scheduling::ask_for_short_turns() {
        // A seccomp profile may forbid it. Nothing depends on it but some latency.
        tracing::debug!(worker = plan.id, "cannot ask for short turns on the core: {error}");
    }
    let id = plan.id;
    let fallback = |error: &io::Error| {
        if id == 0 {
            tracing::warn!(
                "io_uring is not available, using epoll: {error}. To allow it: sysctl \
                 kernel.io_uring_disabled=0, and in containers a seccomp profile that permits it"
            );
        }
    };
    match EventLoop::new(plan.driver, fallback) {
        Ok(mut event_loop) => {
            let kind = event_loop.kind();
            event_loop.run(serve(plan, kind));
        }
        Err(error) => {
            let _ = plan.ready.send(Err(error));
        }
    }
}

async fn serve(plan: Plan, kind: Kind) {
    let Plan { id, settings, listeners, feed, control, stats, log, ready, .. } = plan;
    let worker =
        Worker::new(id, Kernel::default(), settings, stats, log).reporting(feed.reports.clone());
    let worker = Rc::new(worker);
    tick(&worker, Instant::now());
    if let Ok(snapshot) = feed.snapshots.recv() {
        let revision = snapshot.revision;
        worker.install(LocalSnapshot::new(snapshot, Some(feed.retired.clone())));
        feed.installed.set(revision);
    }
    let started = start_tasks(&worker, &listeners, feed, kind)
        .and_then(|()| Wakeup::new(control.wake.try_clone()?));
    let wake = match started {
        Ok(wake) => wake,
        Err(error) => {
            let _ = ready.send(Err(DriverError::Epoll(error)));
            return;
        }
    };
    let _ = ready.send(Ok(kind));
    drop(ready);
    if let Err(error) = obey(&worker, &control, &wake, &listeners, kind).await {
        tracing::error!(worker = id, "lost the supervisor's control line: {error}");
    }
    if let Some(log) = &worker.log {
        log.flush();
    }
}

/// Opens every descriptor that the tasks need, so that a worker that lacks one does not start, and
/// starts them.
fn start_tasks(
    worker: &Rc<Worker<Kernel>>,
    listeners: &[(Socket, Listener)],
    feed: WorkerFeed,
    kind: Kind,
) -> io::Result<()> {
    for (socket, listener) in listeners {
        let info = Rc::new(ListenerInfo::of(listener));
        let acceptor = Acceptor::new(socket, kind)?;
        monoio::spawn(accept_loop(Rc::clone(worker), acceptor, spare()?, info));
    }
    monoio::spawn(tick_loop(Rc::clone(worker), Wakeup::new(timer()?)?));
    let WorkerFeed { snapshots, wake, retired, installed, .. } = feed;
    let wake = Wakeup::new(wake)?;
    monoio::spawn(feed_loop(Rc::clone(worker), wake, snapshots, retired, installed));
    Ok(())
}

/// Follows the supervisor until the worker's work is done.
async fn obey(
    worker: &Rc<Worker<Kernel>>,
    control: &Control,
    wake: &Wakeup,
    listeners: &[(Socket, Listener)],
    kind: Kind,
) -> io::Result<()> {
    loop {
        match control.command() {
            Command::Run => {}
            Command::Stop => {
                // The kernel takes a ring down some time after its process; an accept that is left
                // in it would take connections that nobody serves.
                for (socket, _) in listeners {
                    end_listening(socket);
                }
                return Ok(());
            }
            Command::Drain => {
                if !worker.is_draining() {
                    worker.drain();
                    close_listeners(worker, listeners, kind);
                    monoio::spawn(report_drained(Rc::clone(worker), control.wake.try_clone()?));
                }
                if worker.deadlines.is_empty() {
                    return Ok(());
                }
            }
        }
        wake.wait().await?;
    }
}

/// Wakes the control loop when the last connection is gone.
async fn report_drained(worker: Rc<Worker<Kernel>>, wake: OwnedFd) {
    let Ok(timer) = timer().and_then(Wakeup::new) else { return };
    while !worker.deadlines.is_empty() {
        if timer.wait().await.is_err() {
            break;
        }
    }
    let _ = rustix::io::write(&wake, &1_u64.to_ne_bytes());
}

/// Takes every connection whose handshake is complete, then ends listening. The kernel would reset
/// them otherwise.
fn close_listeners(worker: &Rc<Worker<Kernel>>, listeners: &[(Socket, Listener)], kind: Kind) {
    for (socket, listener) in listeners {
        let info = Rc::new(ListenerInfo::of(listener));
        acceptor::take_waiting(socket, kind, |stream, peer| {
            connection::accept(worker, Stack::plain(tcp::split(stream)), peer, Rc::clone(&info));
        });
        end_listening(socket);
    }
}

/// Ends listening for every copy of the socket, and the accept that is under way.
pub fn end_listening(socket: &Socket) {
    if let Err(error) = rustix::net::shutdown(socket, rustix::net::Shutdown::Both) {
        tracing::debug!("closing a listener: {error}");
    }
}

/// A descriptor that is given up for a moment when they run out, so that a waiting client can be
/// told no.
fn spare() -> io::Result<File> {
    File::open("/dev/null")
}

async fn accept_loop(
    worker: Rc<Worker<Kernel>>,
    listener: Acceptor,
    held: File,
    info: Rc<ListenerInfo>,
) {
    let mut held = Some(held);
    let mut shed = ShedReport::default();
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => {
                connection::accept(
                    &worker,
                    Stack::plain(tcp::split(stream)),
                    addr,
                    Rc::clone(&info),
                );
            }
            Err(_) if worker.is_draining() => return,
            // Another worker has ended listening on the socket that they share.
            Err(error) if listener.is_shared() && !is_transient(&error) => return,
            Err(error) if is_exhausted(&error) => {
                shed.report(&worker, &info, &error);
                drop(held.take());
                if let Ok((stream, _)) = listener.accept().await {
                    worker.stats.shed.add(1);
                    drop(stream);
                }
                // The descriptor is closed by the loop's next turn; and whoever waits longer may
                // find that one has become free.
                next_tick(&worker).await;
                held = spare().ok();
            }
            Err(error) => {
                // The client gave up between its handshake and the accept, or similar.
                tracing::debug!(worker = worker.id, listener = %info.addr, "accept: {error}");
                if !is_transient(&error) {
                    tracing::error!(worker = worker.id, listener = %info.addr, "accept: {error}");
                    return;
                }
            }
        }
    }
}

/// Tells of shed connections, but not of each.
#[derive(Default)]
struct ShedReport {
    next_ms: u64,
}

impl ShedReport {
    const PAUSE_MS: u64 = 10_000;

    fn report(&mut self, worker: &Worker<Kernel>, info: &ListenerInfo, error: &io::Error) {
        let now = worker.clock.now_ms();
        if now >= self.next_ms {
            self.next_ms = now + Self::PAUSE_MS;
            tracing::error!(
                worker = worker.id,
                listener = %info.addr,
                open = worker.stats.open.get(),
                "refusing connections: {error}; raise the limit of open files (ulimit -Hn, \
                 LimitNOFILE= in a systemd unit)"
            );
        }
    }
}

/// Waits for the worker's next tick.
async fn next_tick(worker: &Worker<Kernel>) {
    let slot = worker.deadlines.register();
    slot.want_nudge();
    poll_fn(|cx| {
        slot.attach(cx);
        if slot.take_nudge() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

fn is_transient(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF | libc::ENOTSOCK))
}

async fn feed_loop(
    worker: Rc<Worker<Kernel>>,
    wake: Wakeup,
    snapshots: SnapshotReceiver,
    retired: Sender<Arc<Snapshot>>,
    installed: Installed,
) {
    while wake.wait().await.is_ok() {
        while let Ok(snapshot) = snapshots.try_recv() {
            let revision = snapshot.revision;
            worker.install(LocalSnapshot::new(snapshot, Some(retired.clone())));
            installed.set(revision);
        }
    }
}

async fn tick_loop(worker: Rc<Worker<Kernel>>, timer: Wakeup) {
    let began = Instant::now();
    while timer.wait().await.is_ok() {
        tick(&worker, began);
    }
}

fn tick(worker: &Worker<Kernel>, began: Instant) {
    let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    worker.clock.advance(now, SystemTime::now());
    worker.sweep();
}

/// A timer descriptor that fires every [`TICK`]: waiting for it costs the loop nothing, where a
/// timeout argument would cost every turn.
fn timer() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    let spec = Itimerspec { it_interval: tick, it_value: tick };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
    Ok(timer)
}

/// An eventfd or timerfd in the event loop.
struct Wakeup {
    /// monoio polls any descriptor that it is given as a stream.
    stream: TcpStream,
    file: File,
}

impl Wakeup {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd.try_clone()?);
        Ok(Self { stream: TcpStream::from_std(StdStream::from(fd))?, file })
    }

    /// Waits until it fires, and resets it.
    async fn wait(&self) -> io::Result<()> {
        let mut count = [0; 8];
        loop {
            self.stream.readable(false).await?;
            match (&self.file).read(&mut count) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.map(|_| ()),
            }
        }
    }
}

const _: () = assert!(TICK.as_secs() == 0);
