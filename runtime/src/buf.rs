//! Pooled I/O buffers with room in front.
//!
//! A buffer keeps [`HEADROOM`] free bytes before what is received, so that a rewritten head, or a
//! chunk-size line, can be put in front of the body that came with it: both leave in one write,
//! and the body is not copied. Buffers return to a pool of their thread when dropped; an operation
//! that was cancelled drops its buffer when the kernel is done with it, not before.

use std::cell::RefCell;

use monoio::buf::{IoBuf, IoBufMut};
use osmia_core::http1::write::Sink;

/// Free bytes in front of received data.
pub const HEADROOM: usize = 512;
/// Free bytes kept behind received data: the CRLF after a chunk and the last chunk.
pub const TAILROOM: usize = 8;
/// Size of the buffers for heads, including head- and tailroom.
pub const SMALL: usize = 8 * 1024;
/// Size of the buffers for bodies, including head- and tailroom.
pub const LARGE: usize = 64 * 1024 + HEADROOM + TAILROOM;

/// Free bytes in front of received TLS records: room for the part of a record that came before
/// (RFC 8446, section 5.2: 2^14 + 256 bytes and a header of 5; TLS 1.2 allows 2^14 + 2048).
pub const RECORD_HEADROOM: usize = 16 * 1024 + 2048 + 5;
/// Size of the buffers for TLS records: what fills a [`LARGE`] buffer fits in encrypted, too.
pub const RECORDS: usize = RECORD_HEADROOM + 68 * 1024 + TAILROOM;

/// Buffers kept for reuse per class and thread. More are kept while more are in use at once; the
/// surplus is given back by [`trim`].
const KEPT: [usize; 3] = [64, 16, 16];

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { free: [const { Vec::new() }; 3] }) };
}

struct Pool {
    free: [Vec<Box<[u8]>>; 3],
}

/// A contiguous buffer of which `start..end` is filled.
#[derive(Debug)]
pub struct Buf {
    mem: Box<[u8]>,
    start: u32,
    end: u32,
}

/// Sizes of pooled buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// [`SMALL`].
    Small,
    /// [`LARGE`].
    Large,
    /// [`RECORDS`], with [`RECORD_HEADROOM`] in front.
    Records,
}

impl Buf {
    /// An empty buffer from the pool.
    pub fn new(class: Class) -> Self {
        let (index, size, headroom) = match class {
            Class::Small => (0, SMALL, HEADROOM),
            Class::Large => (1, LARGE, HEADROOM),
            Class::Records => (2, RECORDS, RECORD_HEADROOM),
        };
        let mem = POOL
            .with(|pool| pool.borrow_mut().free[index].pop())
            .unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Self { mem, start: headroom as u32, end: headroom as u32 }
    }

    /// A buffer without memory, in the place of one that is not needed now.
    pub fn none() -> Self {
        Self { mem: Box::default(), start: 0, end: 0 }
    }

    /// An empty buffer that can take `len` bytes; outside the pool if they are many.
    pub fn with_room(len: usize) -> Self {
        let needed = len + HEADROOM + TAILROOM;
        if needed <= SMALL {
            return Self::new(Class::Small);
        }
        if needed <= LARGE {
            return Self::new(Class::Large);
        }
        let mem = vec![0; needed].into_boxed_slice();
        Self { mem, start: HEADROOM as u32, end: HEADROOM as u32 }
    }

    /// A buffer holding a copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buf = Self::with_room(bytes.len());
        buf.put(bytes);
        buf
    }

    /// The filled part.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.mem[self.start as usize..self.end as usize]
    }

    /// The filled part.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.mem[self.start as usize..self.end as usize]
    }

    /// Number of filled bytes.
    #[inline]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether nothing is filled.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes that can still be received.
    #[inline]
    pub fn room(&self) -> usize {
        self.mem.len().saturating_sub(self.end as usize + TAILROOM)
    }

    /// Removes `len` bytes from the front; they become headroom.
    #[inline]
    pub fn advance(&mut self, len: usize) {
        self.start = (self.start as usize + len).min(self.end as usize) as u32;
    }

    /// Keeps the first `len` bytes.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start.saturating_add(len as u32));
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.start = HEADROOM as u32;
        self.end = HEADROOM as u32;
    }

    /// Puts `bytes` in front of what is filled; `false`: there is no room for it.
    #[inline]
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = (self.start as usize).checked_sub(bytes.len()) else { return false };
        self.mem[start..self.start as usize].copy_from_slice(bytes);
        self.start = start as u32;
        true
    }

    /// Appends `bytes` using the tailroom; `false`: there is no room for it.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let end = self.end as usize;
        let Some(room) = self.mem.get_mut(end..end + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.end += bytes.len() as u32;
        true
    }

    /// Moves the content to a buffer with room for `room` more bytes.
    pub fn grow(&mut self, room: usize) {
        let mut larger = Self::with_room(self.len() + room);
        larger.append(self.bytes());
        *self = larger;
    }

    /// Makes the next `len` bytes part of what is filled and returns them to be overwritten;
    /// `None`: there is no room for them.
    pub fn extend(&mut self, len: usize) -> Option<&mut [u8]> {
        let (start, end) = (self.end as usize, self.end as usize + len);
        let added = self.mem.get_mut(start..end)?;
        self.end = end as u32;
        Some(added)
    }

    /// All of the room behind what is filled, to be overwritten; see [`Self::extend`].
    pub fn spare(&mut self) -> &mut [u8] {
        let end = self.end as usize;
        &mut self.mem[end..]
    }

    /// Whether it is of the large class or larger.
    pub fn is_large(&self) -> bool {
        self.mem.len() >= LARGE
    }
}

impl Sink for Buf {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            self.grow(bytes.len().max(self.len()));
        }
        self.append(bytes);
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        let index = match self.mem.len() {
            SMALL => 0,
            LARGE => 1,
            RECORDS => 2,
            _ => return,
        };
        let mem = std::mem::take(&mut self.mem);
        // A buffer dropped while its thread ends finds no pool any more and is simply freed.
        let _ = POOL.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut() {
                pool.free[index].push(mem);
            }
        });
    }
}

/// Gives half of the surplus of free buffers back; called on every tick, so that a burst's memory
/// is gone some seconds later.
pub fn trim() {
    POOL.with(|pool| {
        let mut pool = pool.borrow_mut();
        for (free, kept) in pool.free.iter_mut().zip(KEPT) {
            let surplus = free.len().saturating_sub(kept);
            free.truncate(free.len() - surplus.div_ceil(2));
            if free.capacity() > 2 * (free.len() + kept) {
                free.shrink_to(free.len() + kept);
            }
        }
    });
}

/// A buffer as a receive operation fills it: from its end, never into the tailroom.
// SAFETY: the pointer is into a heap allocation that neither moves nor shrinks while the buffer is
// owned by an operation, and `start <= end <= mem.len()` always holds.
unsafe impl IoBuf for Buf {
    fn read_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: `write_ptr` has `bytes_total` initialised bytes behind it (buffers are zeroed when they
// are allocated), and `set_init` cannot move `end` past the allocation.
unsafe impl IoBufMut for Buf {
    fn write_ptr(&mut self) -> *mut u8 {
        let end = self.end as usize;
        self.mem[end..].as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.room()
    }

    unsafe fn set_init(&mut self, received: usize) {
        self.end += received.min(self.room()) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_grows_at_both_ends() {
        let mut buf = Buf::copy_of(b"body");
        assert!(buf.prepend(b"head "));
        assert!(buf.append(b" tail"));
        assert_eq!(buf.bytes(), b"head body tail");
        buf.advance(5);
        buf.truncate(4);
        assert_eq!(buf.bytes(), b"body");
        assert!(!buf.prepend(&[0; HEADROOM + 6]));
    }

    #[test]
    fn receiving_leaves_the_tailroom() {
        let mut buf = Buf::new(Class::Small);
        let room = buf.bytes_total();
        // SAFETY: the bytes are initialised, as all of a buffer's are.
        unsafe { buf.set_init(room) };
        assert_eq!(buf.room(), 0);
        assert!(buf.append(b"\r\n0\r\n\r\n"));
    }

    #[test]
    fn putting_more_than_fits_grows() {
        let mut buf = Buf::new(Class::Small);
        buf.put(b"start");
        buf.put(&vec![b'x'; LARGE]);
        buf.put(&vec![b'y'; LARGE]);
        assert_eq!(buf.len(), 5 + 2 * LARGE);
        assert!(buf.bytes().starts_with(b"startx") && buf.bytes().ends_with(b"yy"));
    }

    #[test]
    fn buffers_are_reused_and_trimmed() {
        let held: Vec<_> = (0..2 * KEPT[0]).map(|_| Buf::new(Class::Small)).collect();
        let first = held[0].bytes().as_ptr();
        drop(held);
        let free = || POOL.with(|pool| pool.borrow().free[0].len());
        assert_eq!(free(), 2 * KEPT[0]);
        for _ in 0..16 {
            trim();
        }
        assert_eq!(free(), KEPT[0]);
        let again: Vec<_> = (0..KEPT[0]).map(|_| Buf::new(Class::Small)).collect();
        assert!(again.iter().any(|buf| buf.bytes().as_ptr() == first));
    }
}
