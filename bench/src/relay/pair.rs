//! One client connection and its upstream connection.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// One of the two connections of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client = 0,
    Upstream = 1,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// Received bytes that wait to be sent: part of buffer `bid`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) bid: u16,
    /// Bytes already sent.
    pub(super) at: u32,
    /// Bytes received.
    pub(super) len: u32,
}

/// State of one relayed connection.
pub(super) struct Pair {
    sockets: [OwnedFd; 2],
    /// What waits to be sent to each side.
    outboxes: [VecDeque<Piece>; 2],
    /// Whether a send to that side is in flight: one at a time keeps the order.
    pub(super) sending: [bool; 2],
    /// Whether that side has ended its stream.
    pub(super) ended: [bool; 2],
    pub(super) connected: bool,
    /// Ended by an error: completions are only counted.
    pub(super) broken: bool,
    /// Operations whose last completion has not come.
    pub(super) in_flight: u32,
}

impl Pair {
    pub(super) fn new(client: OwnedFd, upstream: OwnedFd) -> Self {
        Self {
            sockets: [client, upstream],
            outboxes: Default::default(),
            sending: [false; 2],
            ended: [false; 2],
            connected: false,
            broken: false,
            in_flight: 0,
        }
    }

    pub(super) fn fd(&self, side: Side) -> RawFd {
        self.owned(side).as_raw_fd()
    }

    pub(super) fn owned(&self, side: Side) -> &OwnedFd {
        &self.sockets[side as usize]
    }

    pub(super) fn outbox(&mut self, side: Side) -> &mut VecDeque<Piece> {
        &mut self.outboxes[side as usize]
    }

    /// Whether both streams have ended and everything has been passed on.
    pub(super) fn finished(&self) -> bool {
        self.ended == [true; 2]
            && self.in_flight == 0
            && self.outboxes.iter().all(VecDeque::is_empty)
    }
}
