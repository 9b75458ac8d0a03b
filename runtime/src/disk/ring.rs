//! The backend on glommio: bulk goes to the disk by direct I/O, past the page cache; what is too
//! little or not aligned is appended through it, so that it is visible at once.
//!
//! glommio's own `DmaStreamWriter` always starts at offset 0, pads the last block until the file is
//! closed, and takes a short write for a whole one, so the stream is made here from `DmaFile`:
//! direct writes append too (`O_APPEND`), and only when the end of the file is on a block boundary.
//! If somebody moved the end meanwhile, the kernel refuses the unaligned write and nothing is lost.
//!
//! glommio was not made for hostile places: it ends the process when the kernel lacks an operation
//! and panics over unusual block devices. What it would trip over is checked before.

use std::cell::RefCell;
use std::fs::{self, File};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use glommio::io::{BufferedFile, DmaFile, OpenOptions};
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use io_uring::opcode;

use super::wake::Wake;
use super::writer::{Appended, CHUNK, Cut, Io, Writer};

/// Direct writes begin and end at multiples of this: no disk or file system asks for more.
const BLOCK: usize = 4096;
/// Less than this is not worth a trip to the disk of its own.
const DIRECT_BYTES_MIN: usize = 64 * 1024;
/// Memory glommio registers with the kernel: one chunk and the allocator's own.
const IO_MEMORY: usize = 2 * CHUNK;
/// One write, one timer and one read of the bell are under way at most.
const RING_DEPTH: usize = 16;

/// Why the ring cannot be used; the plain backend takes over.
#[derive(Debug, thiserror::Error)]
pub(super) enum RingError {
    /// The kernel, a sysctl or a container profile says no.
    #[error("io_uring is not available ({0})")]
    Unavailable(#[source] io::Error),
    /// Too old a kernel: glommio would end the process.
    #[error("io_uring of this kernel lacks operations that glommio needs")]
    TooOld,
    /// glommio's own reason, such as a small `ulimit -l`.
    #[error("glommio does not start ({0})")]
    Executor(String),
    /// It ran, and then did not.
    #[error("glommio panicked")]
    Panicked,
    /// The open file could not be taken over.
    #[error("cannot take over the open file ({0})")]
    Adopt(#[source] io::Error),
}

/// Runs `writer` on this thread until it is told to stop. After an error it can go on elsewhere.
/// `direct`: whether to use direct I/O where the file system has it.
pub(super) fn serve(
    writer: &mut Writer,
    direct: bool,
    ready: impl FnOnce(),
) -> Result<(), RingError> {
    check_operations()?;
    catch_unwind(AssertUnwindSafe(|| {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY)
            .ring_depth(RING_DEPTH)
            .make()
            .map_err(|error| RingError::Executor(error.to_string()))?;
        executor.run(async {
            let bell = writer.bell().map_err(RingError::Adopt)?;
            let io =
                RingIo { direct, bell: Rc::new(buffered(bell)), listening: RefCell::new(None) };
            writer.serve(&io, ready).await.map_err(RingError::Adopt)
        })
    }))
    .unwrap_or(Err(RingError::Panicked))
}

/// glommio prints a joke and exits when one of these is missing.
fn check_operations() -> Result<(), RingError> {
    let ring = io_uring::IoUring::new(2).map_err(RingError::Unavailable)?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(RingError::Unavailable)?;
    let needed = [
        opcode::Nop::CODE,
        opcode::Readv::CODE,
        opcode::Writev::CODE,
        opcode::Fsync::CODE,
        opcode::ReadFixed::CODE,
        opcode::WriteFixed::CODE,
        opcode::PollAdd::CODE,
        opcode::PollRemove::CODE,
        opcode::SendMsg::CODE,
        opcode::RecvMsg::CODE,
        opcode::Timeout::CODE,
        opcode::TimeoutRemove::CODE,
        opcode::Accept::CODE,
        opcode::LinkTimeout::CODE,
        opcode::Connect::CODE,
        opcode::Fallocate::CODE,
        opcode::OpenAt::CODE,
        opcode::Close::CODE,
        opcode::Statx::CODE,
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Send::CODE,
        opcode::Recv::CODE,
    ];
    if needed.iter().all(|&code| probe.is_supported(code)) {
        Ok(())
    } else {
        Err(RingError::TooOld)
    }
}

struct RingIo {
    direct: bool,
    /// The eventfd of [`Wake`].
    bell: Rc<BufferedFile>,
    /// The read of the bell that is under way. It outlives a wait that timed out: dropping it could
    /// lose a ring.
    listening: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
}

/// One file, opened twice.
struct RingFile {
    buffered: BufferedFile,
    /// `None` where direct I/O is not possible.
    direct: Option<DmaFile>,
}

impl Io for RingIo {
    type File = RingFile;

    async fn adopt(&self, file: &File) -> io::Result<RingFile> {
        Ok(RingFile {
            buffered: buffered(file.try_clone()?.into()),
            direct: if self.direct { open_direct(file).await } else { None },
        })
    }

    async fn append(&self, file: &mut RingFile, data: &[u8], cut: Cut) -> Appended {
        let mut done = 0;
        if let Cut::Anywhere { end } | Cut::KeepRest { end } = cut
            && file.direct.is_some()
            && data.len() >= DIRECT_BYTES_MIN
        {
            let to_boundary = (end.next_multiple_of(BLOCK as u64) - end) as usize;
            let head = append_buffered(&file.buffered, &data[..to_boundary]).await;
            if head.error.is_some() {
                return head;
            }
            let end = end + head.bytes as u64;
            done = head.bytes + append_direct(file, &data[head.bytes..], end).await;
            if matches!(cut, Cut::KeepRest { .. }) && data.len() - done < BLOCK {
                return Appended { bytes: done, error: None };
            }
        }
        let rest = append_buffered(&file.buffered, &data[done..]).await;
        Appended { bytes: done + rest.bytes, error: rest.error }
    }

    async fn wait(&self, _wake: &Wake, timeout: Option<Duration>) {
        let listening = self.listening.borrow_mut().take();
        let mut listening = listening.unwrap_or_else(|| Box::pin(listen(Rc::clone(&self.bell))));
        let mut timer = timeout.map(Timer::new);
        let rang = poll_fn(|context| {
            if listening.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            match &mut timer {
                Some(timer) => Pin::new(timer).poll(context).map(|_| false),
                None => Poll::Pending,
            }
        })
        .await;
        if !rang {
            *self.listening.borrow_mut() = Some(listening);
        }
    }

    async fn blocking<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        glommio::executor().spawn_blocking(job).await
    }
}

/// glommio's page-cached view of `fd`.
fn buffered(fd: OwnedFd) -> BufferedFile {
    // SAFETY: the descriptor is open and ownership is handed over.
    unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) }
}

/// Completes when the bell rings.
async fn listen(bell: Rc<BufferedFile>) {
    if let Err(error) = bell.read_at(0, size_of::<u64>()).await {
        // Not to be expected of an eventfd; without a pause this thread would spin.
        tracing::error!(%error, "disk thread: cannot wait for workers");
        Timer::new(Duration::from_millis(100)).await;
    }
}

/// Appends all of `data` through the page cache.
async fn append_buffered(file: &BufferedFile, data: &[u8]) -> Appended {
    let mut bytes = 0;
    while bytes < data.len() {
        // The position does not matter: the file is open with O_APPEND.
        match file.write_at(data[bytes..].to_vec(), 0).await {
            Ok(0) => {
                return Appended { bytes, error: Some(io::ErrorKind::WriteZero.into()) };
            }
            Ok(n) => bytes += n,
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => {}
                code => {
                    let error = code.map_or_else(|| error.into(), io::Error::from_raw_os_error);
                    return Appended { bytes, error: Some(error) };
                }
            },
        }
    }
    Appended { bytes, error: None }
}

/// Appends the whole blocks at the front of `data` past the page cache, from `end`, which is on a
/// block boundary. Returns how many bytes it wrote; what stopped it shows when the rest is appended
/// the other way.
async fn append_direct(file: &mut RingFile, data: &[u8], end: u64) -> usize {
    let whole = data.len() - data.len() % BLOCK;
    let mut done = 0;
    while done < whole {
        let Some(direct) = &file.direct else { break };
        let size = CHUNK.min(whole - done);
        let mut buffer = direct.alloc_dma_buffer(size);
        buffer.as_bytes_mut().copy_from_slice(&data[done..done + size]);
        match direct.write_at(buffer, end + done as u64).await {
            Ok(n) => {
                done += n;
                if n < size {
                    break;
                }
            }
            Err(error) => {
                // Not possible here after all, or others write to the same file: until the next
                // file, everything goes through the page cache.
                if error.raw_os_error() != Some(libc::ENOSPC) {
                    tracing::debug!(%error, "access log: no direct I/O on this file");
                    file.direct = None;
                }
                break;
            }
        }
    }
    done
}

/// Opens `file` a second time for direct I/O, through `/proc` so that it is the same file even if
/// its name is gone by now. Write-only, which keeps glommio off its polling ring: that one would
/// spin while a write is under way.
async fn open_direct(file: &File) -> Option<DmaFile> {
    let device = file.metadata().ok()?.dev();
    if !is_known_device(libc::major(device)) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut options = OpenOptions::new();
    options.append(true);
    let opened = contain(options.dma_open(&path)).await?;
    match opened {
        Ok(direct) if direct.align_up(1) <= BLOCK as u64 => Some(direct),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "access log: no direct I/O on this file system");
            None
        }
    }
}

/// Whether glommio can read what it wants to know of the block device: it panics otherwise. A
/// device without an entry (tmpfs, overlay, network) is fine.
fn is_known_device(major: u32) -> bool {
    let device = format!("/sys/dev/block/{major}:0");
    let queue = match fs::canonicalize(&device) {
        Ok(path) => path.join("queue"),
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    let is_number = |name: &str| {
        fs::read_to_string(queue.join(name))
            .is_ok_and(|text| text.trim_matches('\n').parse::<isize>().is_ok())
    };
    let numbers = [
        "rotational",
        "minimum_io_size",
        "optimal_io_size",
        "logical_block_size",
        "physical_block_size",
        "max_sectors_kb",
        "max_segment_size",
    ];
    let cache = fs::read_to_string(queue.join("write_cache")).unwrap_or_default();
    numbers.into_iter().all(is_number)
        && matches!(cache.trim_matches('\n'), "write back" | "write through")
        && fs::read_dir(Path::new(&device).join("slaves")).is_ok()
}

/// Awaits `future`; `None` if it panics.
async fn contain<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}
