//! What the process under test is denied.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::LazyLock;

/// Restrictions of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sandbox {
    /// Soft and hard limit of open files.
    pub files: Option<(u64, u64)>,
    /// `io_uring_setup` fails with `EPERM`, as under a container's seccomp profile.
    pub no_io_uring: bool,
}

impl Sandbox {
    /// Applies it to a command that is to be started. The process also ends with this one.
    pub(crate) fn apply(self, command: &mut Command) {
        // SAFETY: the closure runs between fork and exec and only makes system calls; it neither
        // allocates nor takes locks.
        unsafe {
            command.pre_exec(move || self.enter());
        }
    }

    fn enter(self) -> io::Result<()> {
        // SAFETY: no pointers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        if let Some((soft, hard)) = self.files {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            // SAFETY: the pointer is to a limit that outlives the call.
            check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
        }
        if self.no_io_uring {
            deny_io_uring()?;
        }
        Ok(())
    }
}

fn deny_io_uring() -> io::Result<()> {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: `program` describes `filter`; both outlive the call.
    check(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    })
}

/// Whether this machine lets processes use `io_uring`.
pub fn has_io_uring() -> bool {
    /// Size of the kernel's `struct io_uring_params`.
    const PARAMS: usize = 120;
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
        let mut params = [0_u8; PARAMS];
        // SAFETY: the pointer is to as many zeroed bytes as the kernel's structure has.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
        if fd >= 0 {
            // SAFETY: a descriptor that was just opened and that nothing else owns.
            unsafe { libc::close(fd as libc::c_int) };
        }
        fd >= 0
    });
    *AVAILABLE
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
