//! Open-loop load: requests leave at a fixed rate, whether earlier ones were answered or not.
//!
//! A closed loop such as wrk's waits for an answer before it asks again, so a stall of the server
//! also stops the clock for the requests that would have come meanwhile (coordinated omission).
//! Here every request has its intended time, and its latency counts from then, also when it had to
//! wait for a free connection.

mod connection;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use connection::{Connection, Progress};

/// Latencies above this count as this.
const LONGEST: Duration = Duration::from_mins(1);
/// How long answers may take after the last request was due.
const GRACE: Duration = Duration::from_secs(2);
/// Wake-ups handled at a time.
const BATCH: usize = 256;
/// Stands for the timer where connections have their index.
const TIMER: u64 = u64::MAX;

/// What to send, and how often.
#[derive(Debug, Clone)]
pub struct OpenLoop {
    /// Where to.
    pub addr: SocketAddr,
    /// The `Host` field; `None`: the address.
    pub host: Option<String>,
    /// Request target, for example `/bytes/1024`.
    pub path: String,
    /// Requests per second; at least 1.
    pub rate: u64,
    /// Connections, all opened before the first request.
    pub connections: usize,
    /// Load that is not counted, to begin with.
    pub warm_up: Duration,
    /// Load that is counted.
    pub duration: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Answers {
    /// Latency of each answered request from its intended time, in microseconds.
    pub latency_us: Histogram<u64>,
    /// Counted requests that failed or had no answer at the end.
    pub failed: u64,
    /// Answers to warm-up requests.
    pub uncounted: u64,
}

/// Why the load could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Opening a connection failed.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// The server.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// epoll failed.
    #[error("cannot wait for answers: {0}")]
    Wait(io::Error),
    /// Every connection was lost and none could be opened again.
    #[error("all connections to {0} were lost")]
    Lost(SocketAddr),
    /// The histogram could not be made.
    #[error("cannot record latencies: {0}")]
    Record(#[from] hdrhistogram::CreationError),
}

impl OpenLoop {
    /// Sends the load from this thread and waits for the answers.
    pub fn run(&self) -> Result<Answers, LoadError> {
        Run::new(self)?.run()
    }

    /// Request number `n` is due this long after the start.
    fn due(&self, n: u64) -> Duration {
        let (seconds, rest) = (n / self.rate, n % self.rate);
        Duration::from_secs(seconds) + Duration::from_nanos(rest * 1_000_000_000 / self.rate)
    }

    fn requests(&self) -> u64 {
        let total = self.warm_up + self.duration;
        (total.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64
    }
}

struct Run<'a> {
    load: &'a OpenLoop,
    request: Vec<u8>,
    epoll: OwnedFd,
    /// Wakes when the next request is due. epoll's own timeout would be rounded up to a
    /// millisecond, which is longer than most answers take.
    timer: OwnedFd,
    connections: Vec<Connection>,
    /// Connections without a request in flight, the longest idle first.
    free: VecDeque<usize>,
    /// Intended times of requests that wait for a connection.
    waiting: VecDeque<Duration>,
    start: Instant,
    answers: Answers,
}

impl<'a> Run<'a> {
    fn new(load: &'a OpenLoop) -> Result<Self, LoadError> {
        let host = load.host.clone().unwrap_or_else(|| load.addr.to_string());
        let wait = |error: rustix::io::Errno| LoadError::Wait(error.into());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(wait)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC);
        let timer = timer.map_err(wait)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)
            .map_err(wait)?;
        let mut run = Self {
            load,
            request: format!("GET {} HTTP/1.1\r\nHost: {host}\r\n\r\n", load.path).into(),
            epoll,
            timer,
            connections: Vec::with_capacity(load.connections),
            free: (0..load.connections).collect(),
            waiting: VecDeque::new(),
            start: Instant::now(),
            answers: Answers {
                latency_us: Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3)?,
                failed: 0,
                uncounted: 0,
            },
        };
        for at in 0..load.connections {
            let connection = run.connect(at)?;
            run.connections.push(connection);
        }
        Ok(run)
    }

    fn connect(&self, at: usize) -> Result<Connection, LoadError> {
        let addr = self.load.addr;
        let connection =
            Connection::open(addr).map_err(|source| LoadError::Connect { addr, source })?;
        let token = epoll::EventData::new_u64(at as u64);
        epoll::add(&self.epoll, &connection, token, epoll::EventFlags::IN)
            .map_err(|error| LoadError::Wait(error.into()))?;
        Ok(connection)
    }

    fn run(mut self) -> Result<Answers, LoadError> {
        let total = self.load.requests();
        let mut events = Vec::with_capacity(BATCH);
        let mut next = 0;
        self.start = Instant::now();
        loop {
            let now = self.start.elapsed();
            while next < total && self.load.due(next) <= now {
                self.waiting.push_back(self.load.due(next));
                next += 1;
            }
            self.send_waiting()?;
            // Without a free connection nothing can leave, however much is due.
            let can_send = next < total && !self.free.is_empty();
            let deadline = if can_send { self.load.due(next) } else { self.end() };
            let left = deadline.saturating_sub(self.start.elapsed());
            if next == total && (left.is_zero() || self.free.len() == self.connections.len()) {
                return Ok(self.close());
            }
            self.wait(left, &mut events)?;
            for event in events.drain(..) {
                self.progress(event)?;
            }
        }
    }

    fn end(&self) -> Duration {
        self.load.warm_up + self.load.duration + GRACE
    }

    /// Waits until something is readable, at most `limit`.
    fn wait(&self, limit: Duration, events: &mut Vec<usize>) -> Result<(), LoadError> {
        let timeout = if limit.is_zero() {
            Some(Timespec::default())
        } else {
            self.wake_after(limit).map_err(|error| LoadError::Wait(error.into()))?;
            None
        };
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(BATCH);
        let spare = rustix::buffer::spare_capacity(&mut ready);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(LoadError::Wait(error.into())),
        }
        let tokens = ready.iter().map(|event| event.data.u64());
        events.extend(tokens.filter(|token| *token != TIMER).map(|token| token as usize));
        Ok(())
    }

    /// Sets the timer; what it said before is forgotten.
    fn wake_after(&self, limit: Duration) -> rustix::io::Result<()> {
        let it_value =
            Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).map(drop)
    }

    fn send_waiting(&mut self) -> Result<(), LoadError> {
        while let (Some(&intended), Some(&at)) = (self.waiting.front(), self.free.front()) {
            self.waiting.pop_front();
            self.free.pop_front();
            if self.connections[at].send(&self.request, intended).is_err() {
                self.lost(at)?;
            }
        }
        Ok(())
    }

    fn progress(&mut self, at: usize) -> Result<(), LoadError> {
        match self.connections[at].progress() {
            Progress::Pending => Ok(()),
            Progress::Lost => self.lost(at),
            Progress::Answered { intended, good } => {
                self.free.push_back(at);
                let latency = self.start.elapsed().saturating_sub(intended);
                self.count(intended, good.then_some(latency));
                Ok(())
            }
        }
    }

    /// Counts a failure and opens the connection again.
    fn lost(&mut self, at: usize) -> Result<(), LoadError> {
        if let Some(intended) = self.connections[at].intended() {
            self.count(intended, None);
            self.free.push_back(at);
        }
        let connection = self.connect(at).map_err(|_| LoadError::Lost(self.load.addr))?;
        self.connections[at] = connection;
        Ok(())
    }

    fn count(&mut self, intended: Duration, latency: Option<Duration>) {
        match latency {
            _ if intended < self.load.warm_up => self.answers.uncounted += 1,
            Some(latency) => {
                let latency = latency.min(LONGEST).as_micros().max(1) as u64;
                self.answers.latency_us.saturating_record(latency);
            }
            None => self.answers.failed += 1,
        }
    }

    fn close(mut self) -> Answers {
        let unanswered = self.connections.iter().filter_map(Connection::intended);
        let open: Vec<Duration> = unanswered.chain(self.waiting.iter().copied()).collect();
        for intended in open {
            self.count(intended, None);
        }
        self.answers
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn load(addr: SocketAddr) -> OpenLoop {
        OpenLoop {
            addr,
            host: None,
            path: "/x".into(),
            rate: 1000,
            connections: 2,
            warm_up: Duration::from_millis(10),
            duration: Duration::from_millis(90),
        }
    }

    /// Answers each request on each connection with what `answer` makes of its number.
    fn serve(listener: TcpListener, answer: fn(u64) -> Option<&'static [u8]>) {
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    let mut number = 0;
                    while matches!(stream.read(&mut request), Ok(n) if n > 0) {
                        let Some(bytes) = answer(number) else { return };
                        let _ = stream.write_all(bytes);
                        number += 1;
                    }
                });
            }
        });
    }

    #[test]
    fn due_times_are_even() {
        let mut load = load(SocketAddr::from(([127, 0, 0, 1], 1)));
        load.rate = 3;
        assert_eq!(load.due(0), Duration::ZERO);
        assert_eq!(load.due(1), Duration::from_nanos(333_333_333));
        assert_eq!(load.due(3), Duration::from_secs(1));
        load.duration = Duration::from_secs(2);
        load.warm_up = Duration::ZERO;
        assert_eq!(load.requests(), 6);
    }

    #[test]
    fn every_request_is_counted_once() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        serve(listener, |_| Some(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        let answers = load(addr).run().expect("answers");
        assert_eq!(answers.uncounted, 10);
        assert_eq!(answers.latency_us.len() + answers.failed, 90);
        assert_eq!(answers.failed, 0);
    }

    #[test]
    fn lost_connections_and_bad_answers_are_failures() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        serve(listener, |number| match number {
            0 => Some(b"HTTP/1.1 502 x\r\nContent-Length: 0\r\n\r\n"),
            _ => None,
        });
        let answers = load(addr).run().expect("answers");
        assert_eq!((answers.latency_us.len(), answers.failed), (0, 90));
    }
}
