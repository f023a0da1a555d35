//! What threads and processes do to who they are: exec, exits, names, pids used again.

use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, ensure};
use libc::{SYS_exit_group, SYS_wait4, SYS_write};
use zc_tests::memory::address_mut;
use zc_tests::script::{Script, arg, fork, raw};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("exec_in_thread", exec_in_thread),
    ("leader_exits", leader_exits),
    ("tree", tree),
    ("odd_comm", odd_comm),
    ("renamed", renamed),
    ("pid_reuse", pid_reuse),
    ("pid_reuse_exec", pid_reuse_exec),
    ("clone_parent", clone_parent),
    ("launcher", launcher),
    ("exec_chain", exec_chain),
];

const NULL: &str = "write:user:device null_sink";

/// Writes so many bytes to /dev/null in one call.
fn write(null: usize, bytes: usize) -> anyhow::Result<()> {
    let buffer = vec![0_u8; bytes];
    let written = raw(SYS_write, &[null, buffer.as_ptr() as usize, bytes])?;
    ensure!(written == bytes, "{written} bytes instead of {bytes}");
    Ok(())
}

/// Ends the process at once.
fn exit(status: usize) -> ! {
    let _ = raw(SYS_exit_group, &[status]);
    unreachable!("exit_group does not return");
}

/// Ends the process with what its work came to.
fn exit_with(result: &anyhow::Result<()>) -> ! {
    exit(usize::from(result.is_err()))
}

fn reap(pid: usize) -> anyhow::Result<()> {
    let mut status = 0_i32;
    let reaped = raw(SYS_wait4, &[pid, address_mut(&mut status), 0, 0])?;
    ensure!(reaped == pid && status == 0, "a child failed: {status:#x}");
    Ok(())
}

/// The leader writes 100 bytes; another thread writes 30 and executes the program named by the test.
fn exec_in_thread(arguments: &[String]) -> anyhow::Result<()> {
    let (program, null) = (arguments.first().context("a program")?.clone(), open::device("/dev/null")?);
    let null = arg(null.as_raw_fd());
    let mut s = Script::default();
    s.begin()?;
    write(null, 100)?;
    let thread = std::thread::spawn(move || -> anyhow::Result<()> {
        write(null, 30)?;
        Err(std::process::Command::new(program).args(["7", "stop"]).exec().into())
    });
    thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

/// The leader writes 100 bytes and exits; another thread goes on.
fn leader_exits(_: &[String]) -> anyhow::Result<()> {
    let (null, pid) = (open::device("/dev/null")?, std::process::id());
    let mut s = Script::default();
    s.begin()?;
    let fd = arg(null.as_raw_fd());
    write(fd, 100)?;
    s.expect(NULL, 1, 100);
    std::thread::spawn(move || {
        let _null = null;
        let rest = || -> anyhow::Result<()> {
            let stat = format!("/proc/self/task/{pid}/stat");
            while !std::fs::read_to_string(&stat)?.contains(") Z ") {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            for bytes in [1, 10] {
                write(fd, bytes)?;
                s.expect(NULL, 1, bytes);
            }
            s.stop()?;
            write(fd, 1000)?;
            s.expect(NULL, 1, 1000);
            s.end()
        };
        exit_with(&rest());
    });
    let _ = raw(libc::SYS_exit, &[0]);
    unreachable!("exit does not return");
}

/// Three generations, each of which exits without waiting for the next. The pipe tells when the last one has.
fn tree(_: &[String]) -> anyhow::Result<()> {
    let null = open::device("/dev/null")?;
    let (null, (reader, writer)) = (arg(null.as_raw_fd()), open::pipe()?);
    let mut s = Script::default();
    s.begin()?;
    write(null, 1)?;
    s.expect(NULL, 1, 1);
    let child = fork()?;
    if child == 0 {
        exit_with(&descend(null, 3, 10));
    }
    drop(writer);
    reap(child)?;
    let mut byte = 0_u8;
    let end = raw(libc::SYS_read, &[arg(reader.as_raw_fd()), address_mut(&mut byte), 1])?;
    ensure!(end == 0, "nobody writes to the pipe");
    s.end()
}

fn descend(null: usize, generations: usize, bytes: usize) -> anyhow::Result<()> {
    write(null, bytes)?;
    if generations > 1 && fork()? == 0 {
        // The parent may or may not be gone by now.
        exit_with(&descend(null, generations - 1, bytes * 10));
    }
    Ok(())
}

fn rename(name: &[u8]) -> anyhow::Result<()> {
    let name = std::ffi::CString::new(name)?;
    raw(libc::SYS_prctl, &[libc::PR_SET_NAME as usize, name.as_ptr() as usize])?;
    Ok(())
}

fn odd_comm(arguments: &[String]) -> anyhow::Result<()> {
    let null = open::device("/dev/null")?;
    let null = arg(null.as_raw_fd());
    let mut s = Script::default();
    s.begin()?;
    let hexadecimal = arguments.first().context("a name in hexadecimal")?;
    let bytes: Result<Vec<u8>, _> =
        (0..hexadecimal.len() / 2).map(|i| u8::from_str_radix(&hexadecimal[2 * i..2 * i + 2], 16)).collect();
    rename(&bytes?)?;
    write(null, 10)?;
    s.expect(NULL, 1, 10);
    s.end()
}

/// 100 bytes under one name, 50 under another, a fork that writes 7 under the second.
fn renamed(_: &[String]) -> anyhow::Result<()> {
    let (null, pid) = (open::device("/dev/null")?, std::process::id());
    let null = arg(null.as_raw_fd());
    rename(format!("zca{pid}").as_bytes())?;
    let mut s = Script::default();
    s.begin()?;
    write(null, 100)?;
    s.stop()?;
    rename(format!("zcb{pid}").as_bytes())?;
    write(null, 50)?;
    let child = fork()?;
    if child == 0 {
        exit_with(&write(null, 7));
    }
    reap(child)?;
    s.expect(NULL, 2, 150);
    s.end()
}

/// A child with a pid that nobody has at the moment.
fn fork_with_pid(pid: usize) -> anyhow::Result<usize> {
    let wanted = pid as libc::pid_t;
    // SAFETY: zeroes are valid arguments.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = libc::SIGCHLD as u64;
    how.set_tid = (&raw const wanted) as u64;
    how.set_tid_size = 1;
    raw(libc::SYS_clone3, &[address_mut(&mut how), size_of::<libc::clone_args>()])
        .context("clone3 with set_tid (needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN)")
}

/// A child that exits, and one with its pid that executes the program named by the test and stays until the test has
/// looked.
fn pid_reuse_exec(arguments: &[String]) -> anyhow::Result<()> {
    let program = arguments.first().context("a program")?;
    let mut s = Script::default();
    s.begin()?;
    let first = fork()?;
    if first == 0 {
        exit(0);
    }
    reap(first)?;
    let second = fork_with_pid(first)?;
    if second == 0 {
        // Nothing is left behind if the test fails while it is stopped.
        let _ = raw(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize]);
        exit_with(&Err(std::process::Command::new(program).args(["5", "stop"]).exec().into()));
    }
    raw(SYS_wait4, &[second, 0, libc::WUNTRACED as usize, 0])?;
    let looked = s.stop();
    raw(libc::SYS_kill, &[second, libc::SIGKILL as usize])?;
    raw(SYS_wait4, &[second, 0, 0, 0])?;
    looked?;
    s.note("pid", first);
    s.end()
}

/// Two children one after the other with the same pid. With an argument, a stop in between.
fn pid_reuse(arguments: &[String]) -> anyhow::Result<()> {
    let null = open::device("/dev/null")?;
    let null = arg(null.as_raw_fd());
    let mut s = Script::default();
    s.begin()?;
    let first = fork()?;
    if first == 0 {
        exit_with(&write(null, 10));
    }
    reap(first)?;
    if !arguments.is_empty() {
        s.stop()?;
    }
    let second = fork_with_pid(first)?;
    if second == 0 {
        exit_with(&write(null, 20));
    }
    ensure!(second == first, "{second} instead of {first}");
    reap(second)?;
    s.note("pid", first);
    s.end()
}

/// A child M makes a process that has this one, not M, for its parent. It is M's all the same.
fn clone_parent(_: &[String]) -> anyhow::Result<()> {
    let null = open::device("/dev/null")?;
    let null = arg(null.as_raw_fd());
    let mut s = Script::default();
    s.begin()?;
    let middle = fork()?;
    if middle == 0 {
        let flags = (libc::CLONE_PARENT | libc::SIGCHLD) as usize;
        match raw(libc::SYS_clone, &[flags, 0, 0, 0, 0]) {
            Ok(0) => exit_with(&write(null, 20)),
            Ok(_) => exit_with(&write(null, 10)),
            Err(_) => exit(1),
        }
    }
    reap(middle)?;
    let mut status = 0_i32;
    let last = raw(SYS_wait4, &[usize::MAX, address_mut(&mut status), 0, 0])?;
    ensure!(status == 0, "the last child failed: {status:#x}");
    s.note("middle", middle);
    s.note("last", last);
    s.end()
}

/// Runs a program many times, each time with another number of bytes to write.
fn launcher(arguments: &[String]) -> anyhow::Result<()> {
    let [program, times] = arguments else { anyhow::bail!("a program and a number") };
    let times: usize = times.parse()?;
    let mut s = Script::default();
    s.begin()?;
    let mut total = 0;
    for i in 0..times {
        let bytes = 1 + i % 1000;
        total += bytes;
        let mut child = std::process::Command::new(std::ffi::OsStr::from_bytes(program.as_bytes()));
        let status = child.arg(bytes.to_string()).status()?;
        ensure!(status.success(), "{status}");
    }
    s.note("bytes", total);
    s.end()
}

/// Executes itself from a thread again and again: `exec_chain REMAINING TOTAL`. Each time the thread writes 100 bytes.
fn exec_chain(arguments: &[String]) -> anyhow::Result<()> {
    let [remaining, total] = arguments else { anyhow::bail!("remaining and total") };
    let (remaining, total) = (remaining.parse::<u64>()?, total.parse::<u64>()?);
    let null = open::device("/dev/null")?;
    let mut s = Script::default();
    if remaining == total {
        s.begin()?;
    }
    if remaining == 0 {
        s.expect(NULL, total, 100 * total as usize);
        return s.end();
    }
    let thread = std::thread::spawn(move || -> anyhow::Result<()> {
        write(arg(null.as_raw_fd()), 100)?;
        let next = [String::from("exec_chain"), (remaining - 1).to_string(), total.to_string()];
        Err(std::process::Command::new("/proc/self/exe").args(next).exec().into())
    });
    thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}
