//! How the kernel schedules a worker's thread.

use std::io;

/// The slice that a worker asks for, in nanoseconds: the shortest that Linux gives.
const SLICE: u64 = 100_000;

/// Lets the calling thread run on `core` only.
pub(super) fn pin(core: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Asks for short turns. Since Linux 6.12 a thread with shorter turns goes before one with longer
/// ones as soon as it wakes, and has the same share of the core in the end: a request does not wait
/// for what else the core does. Older kernels take no notice.
///
/// Leaves alone what has a policy that an operator gave it (`chrt`).
pub(super) fn ask_for_short_turns() -> io::Result<()> {
    const SIZE: u32 = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size: SIZE,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: `attributes` is valid for writing, and the kernel writes no more than the size that
    // it is given; 0 is the calling thread.
    let got = unsafe {
        libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, SIZE, 0 as libc::c_uint)
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    (attributes.size, attributes.sched_runtime) = (SIZE, SLICE);
    // SAFETY: `attributes` is valid for reading and says its own size; 0 is the calling thread.
    let set = unsafe {
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0 as libc::c_uint)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the calling thread.
    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[test]
    fn short_turns_are_all_that_is_asked_for() {
        // Its priority is the test's own.
        let thread = std::thread::spawn(|| {
            rustix::process::setpriority_process(None, nice() + 1).unwrap();
            let (before, core) = (nice(), rustix::thread::sched_getcpu());
            pin(core).unwrap();
            ask_for_short_turns().unwrap();
            assert_eq!(nice(), before);
            assert!(rustix::thread::sched_getaffinity(None).unwrap().is_set(core));
        });
        thread.join().unwrap();
    }
}
