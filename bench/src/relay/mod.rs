//! A TCP relay on a bare ring: the least that a proxy can cost on this machine.
//!
//! Single issuer, deferred task work, multishot accept, multishot receive into a provided buffer
//! ring, one send per received piece. It looks at no byte, and does no more for robustness than a
//! benchmark needs: in particular a stalled client may hold all buffers.

mod buffers;
mod pair;

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use buffers::{BufferRing, GROUP};
use pair::{Pair, Piece, Side};

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;
const BACKLOG: i32 = 4096;

/// Why the relay cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address is taken or not ours.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// `io_uring` is forbidden, or the kernel is older than 6.1.
    #[error(
        "cannot set up io_uring: {0} (kernel 6.1 or newer is needed; containers must allow it)"
    )]
    Ring(io::Error),
}

/// What a completion is about; kept in the operation's user data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Accept,
    Connect(u32),
    Receive(u32, Side),
    Send(u32, Side),
}

impl Op {
    fn pack(self) -> u64 {
        let (kind, slot, side) = match self {
            Self::Accept => (0, 0, Side::Client),
            Self::Connect(slot) => (1, slot, Side::Client),
            Self::Receive(slot, side) => (2, slot, side),
            Self::Send(slot, side) => (3, slot, side),
        };
        kind << 40 | (side as u64) << 32 | u64::from(slot)
    }

    fn unpack(data: u64) -> Self {
        let slot = data as u32;
        let side = if data >> 32 & 1 == 0 { Side::Client } else { Side::Upstream };
        match data >> 40 {
            0 => Self::Accept,
            1 => Self::Connect(slot),
            2 => Self::Receive(slot, side),
            _ => Self::Send(slot, side),
        }
    }
}

/// Relays every connection on `listen` to `upstream`, for ever. Prints `listening on <address>`.
pub fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<Infallible, RelayError> {
    let listener = bind(listen).map_err(|error| RelayError::Listen(listen, error))?;
    let mut relay = Relay::new(listener, upstream).map_err(RelayError::Ring)?;
    if let Ok(bound) = relay.listener.local_addr() {
        let mut out = io::stdout();
        // Whoever started us may have closed the pipe; relaying goes on without the line.
        let _ = writeln!(out, "listening on {bound}").and_then(|()| out.flush());
    }
    relay.run().map_err(RelayError::Ring)
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Inherited by accepted sockets.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

struct Relay {
    ring: IoUring,
    buffers: BufferRing,
    listener: TcpListener,
    upstream: Box<SockAddr>,
    pairs: Vec<Option<Pair>>,
    free: Vec<u32>,
    /// Receives that ended because no buffer was left.
    starved: Vec<(u32, Side)>,
}

impl Relay {
    fn new(listener: TcpListener, upstream: SocketAddr) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let buffers = BufferRing::new(&ring)?;
        Ok(Self {
            ring,
            buffers,
            listener,
            upstream: Box::new(upstream.into()),
            pairs: Vec::new(),
            free: Vec::new(),
            starved: Vec::new(),
        })
    }

    fn run(&mut self) -> io::Result<Infallible> {
        self.accept()?;
        let mut batch = Vec::with_capacity(COMPLETIONS as usize);
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // The completion queue overflowed: drain it first.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
            batch.extend(self.ring.completion());
            for completion in batch.drain(..) {
                self.complete(&completion)?;
            }
            self.feed_starved()?;
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (result, flags) = (completion.result(), completion.flags());
        match Op::unpack(completion.user_data()) {
            Op::Accept => self.accepted(result, flags),
            Op::Connect(slot) => self.connected(slot, result),
            Op::Receive(slot, side) => self.received(slot, side, result, flags),
            Op::Send(slot, side) => self.sent(slot, side, result),
        }
    }

    fn accepted(&mut self, result: i32, flags: u32) -> io::Result<()> {
        if !cqueue::more(flags) {
            self.accept()?;
        }
        if result < 0 {
            return Ok(());
        }
        // SAFETY: a non-negative result of accept is a descriptor that nobody else knows of.
        let client = unsafe { OwnedFd::from_raw_fd(result) };
        let Ok(upstream) = self.upstream_socket() else {
            return Ok(());
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            (self.pairs.len() - 1) as u32
        });
        let upstream_fd = types::Fd(upstream.as_raw_fd());
        let mut pair = Pair::new(client, upstream);
        pair.in_flight = 1;
        self.pairs[slot as usize] = Some(pair);
        let connect =
            opcode::Connect::new(upstream_fd, self.upstream.as_ptr().cast(), self.upstream.len())
                .build();
        self.push(connect, Op::Connect(slot))?;
        self.receive(slot, Side::Client)
    }

    fn upstream_socket(&self) -> io::Result<OwnedFd> {
        let socket = Socket::new(self.upstream.domain(), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket.into())
    }

    fn connected(&mut self, slot: u32, result: i32) -> io::Result<()> {
        let Some(pair) = self.pair(slot) else {
            return Ok(());
        };
        pair.in_flight -= 1;
        if result < 0 || pair.broken {
            self.abort(slot);
            return Ok(());
        }
        pair.connected = true;
        self.receive(slot, Side::Upstream)?;
        self.send(slot, Side::Upstream)
    }

    fn received(&mut self, slot: u32, side: Side, result: i32, flags: u32) -> io::Result<()> {
        let bid = cqueue::buffer_select(flags);
        if bid.is_some() {
            self.buffers.took();
        }
        let ended = !cqueue::more(flags);
        let Some(pair) = self.pair(slot) else {
            return Ok(());
        };
        if ended {
            pair.in_flight -= 1;
        }
        if result > 0 && !pair.broken {
            if let Some(bid) = bid {
                pair.outbox(side.other()).push_back(Piece { bid, at: 0, len: result as u32 });
            }
            if ended {
                self.receive(slot, side)?;
            }
            return self.send(slot, side.other());
        }
        if let Some(bid) = bid {
            self.buffers.give_back(bid);
        }
        match result {
            _ if self.is_broken(slot) => {
                self.abort(slot);
                Ok(())
            }
            result if result == -libc::ENOBUFS => {
                self.starved.push((slot, side));
                Ok(())
            }
            0 => {
                if let Some(pair) = self.pair(slot) {
                    pair.ended[side as usize] = true;
                }
                self.send(slot, side.other())
            }
            _ => {
                self.abort(slot);
                Ok(())
            }
        }
    }

    fn sent(&mut self, slot: u32, side: Side, result: i32) -> io::Result<()> {
        let Some(pair) = pair_in(&mut self.pairs, slot) else {
            return Ok(());
        };
        pair.in_flight -= 1;
        pair.sending[side as usize] = false;
        if result <= 0 || pair.broken {
            self.abort(slot);
            return Ok(());
        }
        if let Some(piece) = pair.outbox(side).front_mut() {
            piece.at += result as u32;
            if piece.at >= piece.len {
                let bid = piece.bid;
                pair.outbox(side).pop_front();
                self.buffers.give_back(bid);
            }
        }
        self.send(slot, side)
    }

    /// Sends the next piece to `side`, or passes on the end of the other side.
    fn send(&mut self, slot: u32, side: Side) -> io::Result<()> {
        let Some(pair) = pair_in(&mut self.pairs, slot) else {
            return Ok(());
        };
        if pair.sending[side as usize] || (side == Side::Upstream && !pair.connected) {
            return Ok(());
        }
        let fd = pair.fd(side);
        let Some(piece) = pair.outbox(side).front().copied() else {
            if pair.ended[side.other() as usize] {
                let _ = rustix::net::shutdown(pair.owned(side), rustix::net::Shutdown::Write);
                if pair.finished() {
                    self.release(slot);
                }
            }
            return Ok(());
        };
        pair.sending[side as usize] = true;
        pair.in_flight += 1;
        let (start, len) = self.buffers.bytes(piece.bid, piece.at, piece.len);
        let send = opcode::Send::new(types::Fd(fd), start, len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(send, Op::Send(slot, side))
    }

    fn receive(&mut self, slot: u32, side: Side) -> io::Result<()> {
        let Some(pair) = self.pair(slot) else {
            return Ok(());
        };
        pair.in_flight += 1;
        let fd = types::Fd(pair.fd(side));
        self.push(opcode::RecvMulti::new(fd, GROUP).build(), Op::Receive(slot, side))
    }

    fn accept(&mut self) -> io::Result<()> {
        let fd: RawFd = self.listener.as_raw_fd();
        self.push(opcode::AcceptMulti::new(types::Fd(fd)).build(), Op::Accept)
    }

    fn feed_starved(&mut self) -> io::Result<()> {
        if self.starved.is_empty() || self.buffers.held() == buffers::COUNT {
            return Ok(());
        }
        for (slot, side) in std::mem::take(&mut self.starved) {
            self.receive(slot, side)?;
        }
        Ok(())
    }

    /// Ends both sides; the slot is free once nothing is in flight any more.
    fn abort(&mut self, slot: u32) {
        let Some(pair) = pair_in(&mut self.pairs, slot) else {
            return;
        };
        if !pair.broken {
            pair.broken = true;
            for side in [Side::Client, Side::Upstream] {
                let _ = rustix::net::shutdown(pair.owned(side), rustix::net::Shutdown::Both);
            }
            self.starved.retain(|&(starved, _)| starved != slot);
        }
        if pair.in_flight == 0 {
            self.release(slot);
        }
    }

    fn release(&mut self, slot: u32) {
        if let Some(mut pair) = self.pairs[slot as usize].take() {
            for side in [Side::Client, Side::Upstream] {
                for piece in pair.outbox(side).drain(..) {
                    self.buffers.give_back(piece.bid);
                }
            }
            self.free.push(slot);
        }
    }

    fn is_broken(&self, slot: u32) -> bool {
        self.pairs.get(slot as usize).and_then(Option::as_ref).is_some_and(|pair| pair.broken)
    }

    fn pair(&mut self, slot: u32) -> Option<&mut Pair> {
        pair_in(&mut self.pairs, slot)
    }

    fn push(&mut self, entry: squeue::Entry, op: Op) -> io::Result<()> {
        let entry = entry.user_data(op.pack());
        loop {
            // SAFETY: descriptors and buffers an entry names live until its completion: a pair is
            // released when nothing of it is in flight, the buffer ring and the upstream's address
            // live as long as the ring.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

fn pair_in(pairs: &mut [Option<Pair>], slot: u32) -> Option<&mut Pair> {
    pairs.get_mut(slot as usize).and_then(Option::as_mut)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn user_data_round_trips() {
        let ops = [
            Op::Accept,
            Op::Connect(7),
            Op::Receive(u32::MAX, Side::Upstream),
            Op::Send(3, Side::Client),
            Op::Send(3, Side::Upstream),
        ];
        for op in ops {
            assert_eq!(Op::unpack(op.pack()), op);
        }
    }

    /// Skips where the machine forbids `io_uring`, as the relay itself then says at start.
    #[test]
    fn bytes_and_ends_pass_both_ways() {
        let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
        let upstream_addr = upstream.local_addr().expect("an address");
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || match Relay::new(listener, upstream_addr) {
            Ok(mut relay) => {
                let _ = ready.send(true);
                relay.run().expect("a running relay")
            }
            Err(error) => {
                eprintln!("skipped: {error}");
                let _ = ready.send(false);
                unreachable_here()
            }
        });
        if !is_ready.recv().unwrap_or(false) {
            return;
        }
        let mut client = TcpStream::connect(addr).expect("a connection");
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let echoed = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = upstream.accept().expect("a connection");
                let mut all = Vec::new();
                stream.read_to_end(&mut all).expect("a request");
                stream.write_all(&all).expect("an answer");
            });
            client.write_all(&sent).expect("a request sent");
            client.shutdown(Shutdown::Write).expect("an end");
            let mut echoed = Vec::new();
            client.read_to_end(&mut echoed).expect("an answer");
            echoed
        });
        assert!(echoed == sent, "{} of {} bytes", echoed.len(), sent.len());
    }

    fn unreachable_here() -> Infallible {
        loop {
            std::thread::park();
        }
    }
}
