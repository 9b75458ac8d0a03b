//! Programs the harness starts: pinned, in a process group of their own, and gone when it ends.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use rustix::thread::sched_setaffinity;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::machine::cpu_set;
use crate::proc::Group;

/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// What to clean up when a signal ends the harness.
struct Live {
    groups: Vec<Pid>,
    directories: Vec<PathBuf>,
}

/// Programs are started and directories made under this lock. The clean-up never gives it back, so
/// that nothing new appears behind its back.
static LIVE: Mutex<Live> = Mutex::new(Live { groups: Vec::new(), directories: Vec::new() });

fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all programs and removes all scratch directories on Ctrl-C and its like.
pub(crate) fn clean_up_on_signals() -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot install signal handlers")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let live = live();
            for &group in &live.groups {
                let _ = kill_process_group(group, Signal::TERM);
            }
            std::thread::sleep(PATIENCE / 10);
            for &group in &live.groups {
                let _ = kill_process_group(group, Signal::KILL);
            }
            for directory in &live.directories {
                let _ = fs::remove_dir_all(directory);
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// A scratch directory that is removed at the end, also when a signal ends the harness.
pub(crate) fn scratch() -> Result<tempfile::TempDir> {
    let mut live = live();
    let directory = tempfile::Builder::new().prefix("osmia-bench-").tempdir()?;
    live.directories.push(directory.path().to_owned());
    Ok(directory)
}

/// A running program. Dropping it ends its whole process group.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    output: PathBuf,
}

impl Running {
    /// Starts `command` pinned to `cores`; standard output and error go to the file `output`.
    pub(crate) fn start(mut command: Command, cores: &[usize], output: &Path) -> Result<Self> {
        let file = File::create(output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        command.process_group(0);
        let set = cpu_set(cores);
        // SAFETY: between fork and exec the closure only makes two system calls; it allocates
        // nothing and takes no lock.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::TERM))?;
                sched_setaffinity(None, &set)?;
                Ok(())
            });
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let mut live = live();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        live.groups.push(pid);
        Ok(Self { child, pid, output: output.to_owned() })
    }

    /// The process group, for its figures.
    pub(crate) fn group(&self) -> Group {
        Group(self.child.id())
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the end, at most `limit`; `None` when it is still running.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.ended() {
                Some(status) => return Some(status),
                None if Instant::now() >= deadline => return None,
                None => std::thread::sleep(POLL),
            }
        }
    }

    /// What it printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read(&self.output)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid, Signal::TERM);
        if self.wait(PATIENCE).is_none() {
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = self.child.wait();
        }
        live().groups.retain(|&other| other != self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_ends_the_whole_group() {
        let dir = scratch().expect("a directory");
        let output = dir.path().join("out");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & echo started; wait"]);
        let cores = crate::machine::Cores::choose(None).expect("cores");
        let running = Running::start(command, &[cores.proxy], &output).expect("a shell");
        let group = running.group();
        while !running.printed().contains("started") {
            std::thread::yield_now();
        }
        assert!(group.cpu_ns().is_ok());
        drop(running);
        // The orphaned `sleep` got the signal too; without it, this would not end.
        while group.cpu_ns().is_ok() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_end_is_reported_with_the_output() {
        let dir = scratch().expect("a directory");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo said; exit 3"]);
        let cores = crate::machine::Cores::choose(None).expect("cores");
        let mut running =
            Running::start(command, &cores.load, &dir.path().join("out")).expect("a shell");
        let status = running.wait(Duration::from_mins(1)).expect("an end");
        assert_eq!(status.code(), Some(3));
        assert_eq!(running.printed(), "said\n");
    }
}
