//! Signals and new tasks: restarted calls, returns from handlers, calls that return twice.

use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use libc::{SYS_clone, SYS_exit_group, SYS_getppid, SYS_tgkill, SYS_wait4, SYS_write};
use zc_tests::memory::{Memory, PAGE};
use zc_tests::script::{FORK, Script, arg, raw};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] =
    &[("getppid", getppid), ("restarted", restarted), ("handlers", handlers), ("forks", forks), ("clones", clones)];

static HANDLED: AtomicUsize = AtomicUsize::new(0);
/// The interrupted read has returned.
static READ: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

/// Handles SIGUSR1; interrupted calls are restarted.
fn handle() -> anyhow::Result<()> {
    // SAFETY: the handler only adds to an atomic; zeroes are an empty mask.
    let failed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut())
    };
    ensure!(failed == 0, "sigaction");
    Ok(())
}

fn getppid(_: &[String]) -> anyhow::Result<()> {
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    for _ in 0..1000 {
        s.call(SYS_getppid, &[])?;
    }
    s.end()
}

/// Waits until the thread whose /proc `syscall` file this is blocks in a read of `rx`: the call's number and first
/// argument come first in it. Returns how many reads that took, and of how many bytes.
pub(crate) fn until_in_read(state: &std::fs::File, rx: RawFd, buffer: &Memory) -> anyhow::Result<(u64, usize)> {
    let wanted = format!("{} {rx:#x} ", libc::SYS_read);
    let (mut reads, mut bytes) = (0, 0);
    loop {
        let read = raw(libc::SYS_pread64, &[arg(state.as_raw_fd()), buffer.at(0), PAGE, 0])?;
        reads += 1;
        bytes += read;
        // SAFETY: the kernel has written so many bytes there.
        let text = unsafe { std::slice::from_raw_parts(buffer.at(0) as *const u8, read) };
        if text.starts_with(wanted.as_bytes()) {
            return Ok((reads, bytes));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A blocking read is interrupted by a handled signal, restarted, and then gets its bytes.
fn restarted(_: &[String]) -> anyhow::Result<()> {
    handle()?;
    let (reader, writer) = open::pipe()?;
    let (pid, rx) = (std::process::id() as usize, reader.as_raw_fd());
    let state = std::fs::File::open(format!("/proc/self/task/{pid}/syscall"))?;
    let (memory, mine) = (Memory::anonymous(PAGE)?, Memory::anonymous(PAGE)?);
    let mut s = Script::default();
    s.begin()?;
    let thread = std::thread::spawn(move || -> anyhow::Result<(u64, usize)> {
        let first = until_in_read(&state, rx, &mine)?;
        raw(SYS_tgkill, &[pid, pid, libc::SIGUSR1 as usize])?;
        while HANDLED.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let second = until_in_read(&state, rx, &mine)?;
        raw(SYS_write, &[arg(writer.as_raw_fd()), mine.at(0), 5])?;
        // A thread that ends changes the memory map, in which the other's buffer is being looked up.
        while !READ.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((first.0 + second.0, first.1 + second.1))
    });
    s.moves("read:pipe:user", 5, libc::SYS_read, &[arg(rx), memory.at(0), PAGE])?;
    READ.store(true, Ordering::SeqCst);
    let (looks, looked_at) = thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    s.expect("read:other:user", looks, looked_at);
    s.expect("write:user:pipe", 1, 5);
    s.end()
}

/// Handlers end with rt_sigreturn: a system call of its own, with another call's registers.
fn handlers(_: &[String]) -> anyhow::Result<()> {
    handle()?;
    let null = open::device("/dev/null")?;
    let (null, memory, pid) = (arg(null.as_raw_fd()), Memory::anonymous(PAGE)?, std::process::id() as usize);
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    for _ in 0..100 {
        s.moves("write:user:device null_sink", 9, SYS_write, &[null, memory.at(0), 9])?;
        s.returns(0, SYS_tgkill, &[pid, pid, libc::SIGUSR1 as usize])?;
    }
    ensure!(HANDLED.load(Ordering::SeqCst) == 100, "a signal was not handled");
    s.other_calls(100);
    s.end()
}

/// What a new process does: 20 calls and one that moves bytes. It never returns.
fn child(null: usize, at: usize, bytes: usize) -> ! {
    for _ in 0..20 {
        let _ = raw(SYS_getppid, &[]);
    }
    let written = raw(SYS_write, &[null, at, bytes]);
    let _ = raw(SYS_exit_group, &[usize::from(!matches!(written, Ok(n) if n == bytes))]);
    unreachable!("exit_group does not return");
}

pub(crate) fn reap(s: &mut Script, pid: usize) -> anyhow::Result<()> {
    let mut status = 0_i32;
    let at = zc_tests::memory::address_mut(&mut status);
    s.returns(pid, SYS_wait4, &[pid, at, libc::__WALL as usize, 0]).context("wait4")?;
    ensure!(status == 0, "a child failed: {status:#x}");
    Ok(())
}

/// Calls that a child is counted with: the fork's return in it, where the kernel says so (not on arm64: ret_from_fork,
/// arch/arm64/kernel/entry.S, v6.12), and what `child` does but the last, which does not end.
const CHILD_CALLS: u64 = cfg!(not(target_arch = "aarch64")) as u64 + 20 + 1;

fn forks(_: &[String]) -> anyhow::Result<()> {
    let null = open::device("/dev/null")?;
    let (null, memory) = (arg(null.as_raw_fd()), Memory::anonymous(PAGE)?);
    let mut s = Script::default();
    s.calls_are_exact();
    s.note("children", 10);
    s.note("child_calls", CHILD_CALLS);
    s.note("child_bytes", (1..=10).sum::<usize>());
    s.begin()?;
    for bytes in 1..=10 {
        let pid = s.call(FORK.0, FORK.1)?;
        if pid == 0 {
            child(null, memory.at(0), bytes);
        }
        reap(&mut s, pid)?;
    }
    s.end()
}

/// A process that shares the caller's memory until it exits, as posix_spawn makes it.
fn clone_with_memory(null: usize, memory: &Memory, bytes: usize) -> anyhow::Result<usize> {
    extern "C" fn run(arguments: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the array below, which lives as long as the process that waits for this one to exit.
        let [null, at, bytes] = unsafe { *arguments.cast::<[usize; 3]>() };
        child(null, at, bytes)
    }
    let stack = Memory::anonymous(16 * PAGE)?;
    let mut arguments = [null, memory.at(0), bytes];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack and the arguments outlive the child, for which CLONE_VFORK waits.
    let pid = unsafe { libc::clone(run, (stack.at(16 * PAGE - 16)) as *mut _, flags, (&raw mut arguments).cast()) };
    usize::try_from(pid).map_err(|_| std::io::Error::last_os_error().into())
}

fn clones(_: &[String]) -> anyhow::Result<()> {
    const FLAGS: [i32; 5] = [
        libc::CLONE_VFORK | libc::SIGCHLD,
        0,
        libc::CLONE_FILES | libc::CLONE_FS | libc::SIGCHLD,
        libc::CLONE_NEWPID | libc::SIGCHLD,
        libc::CLONE_UNTRACED | libc::CLONE_IO | libc::SIGUSR2,
    ];
    let null = open::device("/dev/null")?;
    let (null, memory) = (arg(null.as_raw_fd()), Memory::anonymous(PAGE)?);
    // SAFETY: SIGUSR2 of a child that exits is ignored.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
    let mut s = Script::default();
    s.note("children", FLAGS.len() + 1);
    s.note("child_calls", CHILD_CALLS);
    s.note("child_bytes", (1..=FLAGS.len() + 1).sum::<usize>());
    s.begin()?;
    for (bytes, flags) in (1..).zip(FLAGS) {
        let pid = s.call(SYS_clone, &[flags as usize, 0, 0, 0, 0])?;
        if pid == 0 {
            child(null, memory.at(0), bytes);
        }
        reap(&mut s, pid)?;
    }
    let pid = clone_with_memory(null, &memory, FLAGS.len() + 1)?;
    reap(&mut s, pid)?;
    s.end()
}
