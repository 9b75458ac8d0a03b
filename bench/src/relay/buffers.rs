//! A ring of buffers that the kernel picks from when a receive completes.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Number of the buffer group.
pub(super) const GROUP: u16 = 0;
/// Buffers in the ring; a power of two.
pub(super) const COUNT: u16 = 512;
/// Size of one buffer in bytes.
pub(super) const SIZE: u32 = 32 * 1024;

const _: () = assert!(COUNT.is_power_of_two());

/// The ring and the memory its buffers live in.
pub(super) struct BufferRing {
    entries: Mapping,
    memory: Mapping,
    tail: u16,
    held: u16,
}

impl BufferRing {
    /// Registers the ring as [`GROUP`] and hands all buffers to the kernel.
    pub(super) fn new(ring: &IoUring) -> io::Result<Self> {
        let entries = Mapping::new(usize::from(COUNT) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(COUNT) * SIZE as usize)?;
        // SAFETY: the mapping is page-aligned, large enough for COUNT entries, and outlives the
        // registration: the relay owns both and only ends with the process.
        unsafe {
            ring.submitter().register_buf_ring(entries.start.as_ptr() as u64, COUNT, GROUP)?;
        }
        let mut buffers = Self { entries, memory, tail: 0, held: COUNT };
        for bid in 0..COUNT {
            buffers.give_back(bid);
        }
        Ok(buffers)
    }

    /// Buffers that are not in the kernel's hands.
    pub(super) fn held(&self) -> u16 {
        self.held
    }

    /// Where bytes `at..len` of a received buffer are, and how many.
    pub(super) fn bytes(&self, bid: u16, at: u32, len: u32) -> (*const u8, u32) {
        let offset = usize::from(bid) * SIZE as usize + at as usize;
        // SAFETY: bid < COUNT and at < len <= SIZE, as the kernel reported them.
        (unsafe { self.memory.start.as_ptr().add(offset) }, len - at)
    }

    /// Hands a buffer back to the kernel.
    pub(super) fn give_back(&mut self, bid: u16) {
        #[allow(clippy::cast_ptr_alignment)] // a mapping starts at a page
        let base = self.entries.start.as_ptr().cast::<BufRingEntry>();
        let address = self.bytes(bid, 0, SIZE).0 as u64;
        // SAFETY: the index is masked to the ring; the kernel does not read entries at or beyond
        // the tail, which is published below. The tail's place is the last field of entry 0, which
        // `set_*` do not touch.
        unsafe {
            let entry = &mut *base.add(usize::from(self.tail & (COUNT - 1)));
            entry.set_addr(address);
            entry.set_len(SIZE);
            entry.set_bid(bid);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(base).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
        self.held -= 1;
    }

    /// Notes that the kernel picked a buffer.
    pub(super) fn took(&mut self) {
        self.held += 1;
    }
}

/// Anonymous memory, page-aligned.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of the mapping, and nothing borrows from it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
