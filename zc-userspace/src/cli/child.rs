//! Running a command under the agent: from before its exec to after its exit.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{exec, signals};
use crate::agent::{Agent, DRAIN_INTERVAL};
use crate::ledger::{ProcessKey, Snapshot};

/// How often the ledger is read while something runs, so that the kernel's map of exited threads does not fill.
const OBSERVE_INTERVAL: Duration = Duration::from_millis(500);

/// A command that has run.
#[derive(Debug)]
pub(super) struct Ran {
    /// How it ended.
    pub(super) status: ExitStatus,
    /// Which process it was.
    pub(super) key: ProcessKey,
    /// The ledger after its end.
    pub(super) snapshot: Snapshot,
}

/// Why a command has not run, or not been seen to.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// There is no such file.
    #[error("can't run {0}: no such command; give its path, or check PATH")]
    NotFound(String),
    /// It can't be executed.
    #[error("can't run {0}: {1}")]
    CannotRun(String, io::Error),
    /// We would not find it in the ledger, whose pids are the host's.
    /// It ran, but is not in the ledger.
    #[error("the command ran, but is not in the ledger: please report this")]
    NotSeen,
    /// Anything else.
    #[error("can't follow the command: {0}")]
    Own(#[from] io::Error),
}

/// Runs the command to its end. Its standard streams are ours.
pub(super) fn run(agent: &Agent, command: &[OsString]) -> Result<Ran, RunError> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| RunError::Own(io::ErrorKind::InvalidInput.into()))?;
    // The terminal sends INT and QUIT to the command as well; how it takes them is its affair, and we report after it.
    signals::catch(&[Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP]).map_err(io::Error::from)?;
    let mut child = exec::spawn(program, arguments).map_err(|error| {
        let name = program.to_string_lossy().into_owned();
        match error.kind() {
            io::ErrorKind::NotFound => RunError::NotFound(name),
            _ => RunError::CannotRun(name, error),
        }
    })?;
    // Whatever goes wrong here, the command is waited for: it is the user's, and it runs.
    let followed = follow(agent, &child);
    let status = child.wait()?;
    let key = followed?;
    let snapshot = agent.observe()?;
    let key = key.or_else(|| find(&snapshot, child.id())).ok_or(RunError::NotSeen)?;
    Ok(Ran { status, key, snapshot })
}

/// Keeps up with the command until it ends; tells which process it is. It is not reaped meanwhile, so that its pid
/// stays its own.
fn follow(agent: &Agent, child: &Child) -> io::Result<Option<ProcessKey>> {
    let end = pidfd_of(child)?;
    let key = find(&agent.observe()?, child.id());
    let pid = Pid::from_raw(child.id().cast_signed());
    keep_up(agent, |wait| {
        for signal in [Signal::SIGTERM, Signal::SIGHUP] {
            if signals::take(signal) {
                // It may just have ended.
                let _ = kill(pid, signal);
            }
        }
        readable(&end, wait)
    })?;
    Ok(key)
}

/// Reads events and ledger often enough until `done`, which waits for at most the time given, says so.
pub(super) fn keep_up(agent: &Agent, mut done: impl FnMut(Duration) -> io::Result<bool>) -> io::Result<()> {
    let mut observed = Instant::now();
    while !done(DRAIN_INTERVAL)? {
        if observed.elapsed() >= OBSERVE_INTERVAL {
            agent.observe()?;
            observed = Instant::now();
        } else {
            agent.drain_events();
        }
    }
    Ok(())
}

/// Waits; a signal ends the wait early.
pub(super) fn pause(wait: Duration) -> io::Result<()> {
    match poll(&mut [], timeout(wait)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn readable(fd: &OwnedFd, wait: Duration) -> io::Result<bool> {
    match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout(wait)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn timeout(wait: Duration) -> PollTimeout {
    PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
}

/// Polls readable when the process has ended (pidfd_open(2)).
fn pidfd_of(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers; touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The process that we started under this pid. One that had the pid earlier is not our child or started earlier.
fn find(snapshot: &Snapshot, pid: u32) -> Option<ProcessKey> {
    child_of(snapshot, pid, std::process::id())
}

fn child_of(snapshot: &Snapshot, pid: u32, parent: u32) -> Option<ProcessKey> {
    let bearers = snapshot.processes.iter().filter(|process| process.key.tgid == pid);
    let ours = bearers.filter(|process| process.parent.is_some_and(|key| key.tgid == parent));
    ours.map(|process| process.key).max_by_key(|key| key.start)
}

/// A shell's exit status for the command's: its own, or 128 + the signal that killed it.
pub(super) fn exit_status(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::window::tests::{process, snapshot};

    #[test]
    fn exit_statuses_are_a_shells() {
        assert_eq!(exit_status(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_status(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_status(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(exit_status(ExitStatus::from_raw(9)), 137);
        assert_eq!(exit_status(ExitStatus::from_raw(15 | 128)), 143);
    }

    #[test]
    fn our_child_is_told_from_earlier_bearers_of_its_pid() {
        let ledger = snapshot(vec![
            process(7, 10, Some((1, 1)), "stranger", 0),
            process(7, 20, Some((5, 2)), "earlier", 0),
            process(7, 30, Some((5, 2)), "ours", 0),
            process(8, 40, Some((5, 2)), "other", 0),
        ]);
        assert_eq!(child_of(&ledger, 7, 5), Some(ProcessKey { tgid: 7, start: 30 }));
        assert_eq!(child_of(&ledger, 9, 5), None);
        assert_eq!(child_of(&ledger, 7, 6), None);
    }
}
