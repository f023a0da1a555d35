//! Requests of io_uring that mislead whoever counts them, and rings that are torn down.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, ensure};
use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, cqueue, opcode, types};
use zc_tests::expected::NO_DESCRIPTOR;
use zc_tests::memory::{Memory, PAGE, iovec};
use zc_tests::script::{Script, arg};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("uring_failed", failed),
    ("uring_hostile", hostile),
    ("uring_vector", vector),
    ("uring_multishot", multishot),
    ("uring_multishot_message", multishot_message),
    ("uring_overflow", overflow),
    ("uring_skip", skip),
    ("uring_skipped_link", skipped_link),
    ("uring_unregistered", unmapped),
    ("uring_thread", thread_gone),
    ("uring_victim", victim),
];

fn push(ring: &mut IoUring, entries: &[Entry]) -> anyhow::Result<()> {
    // SAFETY: what the requests point to lives until the scenario's end.
    unsafe { ring.submission().push_multiple(entries) }.context("the queue is full")
}

/// Waits for so many completions: their user_data, results and flags.
fn reap(ring: &mut IoUring, count: usize) -> anyhow::Result<Vec<(u64, i32, u32)>> {
    let mut all = Vec::new();
    while all.len() < count {
        ring.submit_and_wait(1)?;
        all.extend(ring.completion().map(|one| (one.user_data(), one.result(), one.flags())));
    }
    Ok(all)
}

fn memfd() -> anyhow::Result<OwnedFd> {
    Ok(open::memfd(PAGE as u64)?.into())
}

fn direct(arguments: &[String]) -> anyhow::Result<OwnedFd> {
    Ok(open::file(open::disk_directory(arguments)?, PAGE, libc::O_DIRECT)?.into())
}

fn fd(fd: &OwnedFd) -> types::Fd {
    types::Fd(fd.as_raw_fd())
}

fn pointer(memory: &Memory, offset: usize) -> *mut u8 {
    memory.at(offset) as *mut u8
}

/// Failed, empty and cancelled requests move nothing; the links behind a failed one are never run.
fn failed(_: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(4 * PAGE)?;
    let file = memfd()?;
    let (empty, _other) = open::pipe()?;
    let mut ring = IoUring::new(8)?;
    let read = |fd, at: u64| opcode::Read::new(fd, pointer(&memory, 0), 100).offset(at).build();
    let mut s = Script::default();
    s.begin()?;
    push(
        &mut ring,
        &[
            read(types::Fd(-1), 0).user_data(1),
            read(fd(&file), PAGE as u64).user_data(2),
            read(fd(&empty), 0).user_data(3),
            opcode::AsyncCancel::new(3).build().user_data(4),
            read(types::Fd(-1), 0).flags(Flags::IO_LINK).user_data(5),
            read(fd(&file), 0).user_data(6),
            read(fd(&file), PAGE as u64 - 10).user_data(7),
        ],
    )?;
    let mut results: Vec<_> = reap(&mut ring, 7)?.into_iter().map(|(name, result, _)| (name, result)).collect();
    results.sort_unstable();
    let (bad, gone) = (-libc::EBADF, -libc::ECANCELED);
    ensure!(results == [(1, bad), (2, 0), (3, gone), (4, 0), (5, bad), (6, gone), (7, 10)], "{results:?}");
    s.expect("io_uring:file:user", 1, 10);
    s.end()
}

/// Requests that all have the same name; one that is called by what might be an address.
fn hostile(_: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(4 * PAGE)?;
    let file = memfd()?;
    let (rx, tx) = open::pipe()?;
    let (one, other) = open::tcp()?;
    let mut ring = IoUring::new(8)?;
    let mut s = Script::default();
    s.begin()?;
    s.moves("write:user:pipe", 50, libc::SYS_write, &[arg(tx.as_raw_fd()), memory.at(0), 50])?;
    s.moves("write:user:tcp", 70, libc::SYS_write, &[arg(one.as_raw_fd()), memory.at(0), 70])?;
    for name in [0, u64::MAX, 0xffff_8880_0000_1000] {
        let read = opcode::Read::new(fd(&file), pointer(&memory, 0), 100).build();
        push(&mut ring, &[read.user_data(name), opcode::Nop::new().build().user_data(name)])?;
        reap(&mut ring, 2)?;
        s.expect("io_uring:file:user", 1, 100);
    }
    push(
        &mut ring,
        &[
            opcode::Read::new(fd(&rx), pointer(&memory, 0), 100).build().user_data(7),
            opcode::Recv::new(fd(&other), pointer(&memory, 0), 100).build().user_data(7),
            opcode::Read::new(fd(&file), pointer(&memory, 0), 100).build().user_data(7),
        ],
    )?;
    let mut results: Vec<_> = reap(&mut ring, 3)?.into_iter().map(|(_, result, _)| result).collect();
    results.sort_unstable();
    ensure!(results == [50, 70, 100], "{results:?}");
    s.expect("io_uring:pipe:user", 1, 50);
    s.expect("io_uring:tcp:user", 1, 70);
    s.expect("io_uring:file:user", 1, 100);
    s.end()
}

/// A vector belongs to its owner again as soon as the request is submitted.
fn vector(_: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(4 * PAGE)?;
    let (rx, tx) = open::pipe()?;
    let mut ring = IoUring::new(8)?;
    let mut vector = [iovec(memory.at(0), 10), iovec(memory.at(PAGE), 20)];
    let mut s = Script::default();
    s.begin()?;
    push(&mut ring, &[opcode::Readv::new(fd(&rx), vector.as_ptr(), 2).build()])?;
    ring.submit()?;
    vector = [iovec(1, 1), iovec(2, 2)];
    std::hint::black_box(&vector);
    s.moves("write:user:pipe", 25, libc::SYS_write, &[arg(tx.as_raw_fd()), memory.at(0), 25])?;
    let done = reap(&mut ring, 1)?;
    ensure!(done[0].1 == 25, "{done:?}");
    s.expect("io_uring:pipe:user", 1, 25);
    s.end()
}

const GROUP: u16 = 3;
const BUFFER: usize = 1024;

/// Provides so many buffers.
fn provide(ring: &mut IoUring, memory: &Memory, count: u16) -> anyhow::Result<()> {
    let entry = opcode::ProvideBuffers::new(pointer(memory, 0), BUFFER as i32, count, GROUP, 0).build();
    push(ring, &[entry])?;
    let done = reap(ring, 1)?;
    ensure!(done[0].1 >= 0, "{done:?}");
    Ok(())
}

/// Two multishot receives at once, of a TCP socket each: every completion is an operation.
fn multishot(_: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(64 * BUFFER)?;
    let lines = [open::tcp()?, open::tcp()?];
    let mut ring = IoUring::new(8)?;
    provide(&mut ring, &memory, 64)?;
    let mut s = Script::default();
    s.begin()?;
    for (name, line) in (0..).zip(&lines) {
        push(&mut ring, &[opcode::RecvMulti::new(fd(&line.1), GROUP).build().user_data(name)])?;
    }
    ring.submit()?;
    for round in 1..=10 {
        for line in &lines {
            let length = 10 * round;
            s.moves("write:user:tcp", length, libc::SYS_write, &[arg(line.0.as_raw_fd()), memory.at(0), length])?;
            let done = reap(&mut ring, 1)?;
            ensure!(done[0].1 == length as i32 && cqueue::more(done[0].2), "{done:?}");
            s.expect("io_uring:tcp:user", 1, length);
        }
    }
    s.end()
}

/// A multishot RECVMSG: what it says it moved has a header and the sender's name in it.
fn multishot_message(_: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(16 * BUFFER)?;
    let (tx, rx) = open::udp()?;
    let mut ring = IoUring::new(8)?;
    provide(&mut ring, &memory, 8)?;
    // SAFETY: a message header of zeros is one without addresses.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_namelen = 16;
    let mut s = Script::default();
    s.begin()?;
    push(&mut ring, &[opcode::RecvMsgMulti::new(fd(&rx), &raw const message, GROUP).build()])?;
    ring.submit()?;
    for length in [1, 10, 100] {
        s.moves("write:user:udp", length, libc::SYS_write, &[arg(tx.as_raw_fd()), memory.at(0), length])?;
        let done = reap(&mut ring, 1)?;
        ensure!(done[0].1 == length as i32 + 32, "{done:?}");
        s.expect("io_uring:udp:user", 1, length);
    }
    s.end()
}

/// More completions than the queue holds.
fn overflow(_: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(4 * PAGE)?;
    let file = memfd()?;
    let (rx, tx) = open::pipe()?;
    let mut ring: IoUring = IoUring::builder().setup_cqsize(8).build(8)?;
    let mut s = Script::default();
    s.begin()?;
    for _ in 0..8 {
        for name in 0..4 {
            let length = 10 + name;
            let write = opcode::Write::new(fd(&tx), pointer(&memory, 0), length).build();
            let read = opcode::Read::new(fd(&file), pointer(&memory, 0), 20 + length).build();
            push(&mut ring, &[write.user_data(u64::from(name)), read.user_data(u64::from(name))])?;
            s.expect("io_uring:user:pipe", 1, length as usize);
            s.expect("io_uring:file:user", 1, 20 + length as usize);
        }
        ring.submit()?;
    }
    ensure!(ring.completion().len() == 8, "the queue holds {}", ring.completion().len());
    let done = reap(&mut ring, 64)?;
    ensure!(done.iter().all(|(_, result, _)| *result > 0), "{done:?}");
    drop(rx);
    s.end()
}

/// A request that succeeds without a completion shows that it was made, and no more.
fn skip(_: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(PAGE)?;
    let file = memfd()?;
    let mut ring = IoUring::new(8)?;
    let mut s = Script::default();
    s.begin()?;
    let read = opcode::Read::new(fd(&file), pointer(&memory, 0), 100).build().flags(Flags::SKIP_SUCCESS);
    push(&mut ring, &[read, opcode::Nop::new().build()])?;
    reap(&mut ring, 1)?;
    s.expect(NO_DESCRIPTOR, 1, 0);
    s.end()
}

/// Vectors behind a failed request that is not to complete aloud complete without a word. What was noted of them is not
/// believed of the sends that get their memory.
fn skipped_link(_: &[String]) -> anyhow::Result<()> {
    const ROUNDS: usize = 16;
    let memory = Memory::anonymous(PAGE)?;
    let file = memfd()?;
    let (one, _other) = open::tcp()?;
    let segment = iovec(memory.at(0), 10);
    let mut ring = IoUring::new(8)?;
    let mut s = Script::default();
    s.begin()?;
    for _ in 0..ROUNDS {
        let quiet = Flags::IO_LINK | Flags::SKIP_SUCCESS;
        let failing = opcode::Read::new(types::Fd(-1), pointer(&memory, 0), 100).build().flags(quiet);
        let behind = opcode::Readv::new(fd(&file), &raw const segment, 1).build();
        push(&mut ring, &[failing, behind])?;
        let done = reap(&mut ring, 1)?;
        ensure!(done[0].1 == -libc::EBADF, "{done:?}");
        s.expect(NO_DESCRIPTOR, 1, 0);
        push(&mut ring, &[opcode::Send::new(fd(&one), pointer(&memory, 0), 1000).build()])?;
        let done = reap(&mut ring, 1)?;
        ensure!(done[0].1 == 1000, "{done:?}");
        s.expect("io_uring:user:tcp", 1, 1000);
    }
    s.end()
}

/// A registered buffer whose mapping is gone: its pages are not.
fn unmapped(_: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(PAGE)?;
    let file = memfd()?;
    let mut ring = IoUring::new(8)?;
    // SAFETY: the kernel keeps the pages.
    unsafe { ring.submitter().register_buffers(&[iovec(memory.at(0), PAGE)]) }?;
    let buffer = pointer(&memory, 0);
    drop(memory);
    let mut s = Script::default();
    s.begin()?;
    push(&mut ring, &[opcode::ReadFixed::new(fd(&file), buffer, 4096, 0).build()])?;
    let done = reap(&mut ring, 1)?;
    ensure!(done[0].1 == 4096, "{done:?}");
    s.expect("io_uring_fixed:file:user", 1, 4096);
    s.end()
}

const IN_FLIGHT: usize = 64;

/// Direct reads, and reads left to workers.
fn many(memory: &Memory, disk: &OwnedFd, file: &OwnedFd) -> Vec<Entry> {
    let read = |i: usize, fd| opcode::Read::new(fd, pointer(memory, i * PAGE), PAGE as u32).offset(0).build();
    let entry = |i| match i % 2 {
        0 => read(i, fd(disk)).user_data(0),
        _ => read(i, fd(file)).flags(Flags::ASYNC).user_data(1),
    };
    (0..IN_FLIGHT).map(entry).collect()
}

/// A thread that exits with requests in flight: what they moved up to then is counted, and no more.
fn thread_gone(arguments: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(IN_FLIGHT * PAGE)?;
    let (disk, file) = (direct(arguments)?, memfd()?);
    let mut ring: IoUring = IoUring::builder().build(IN_FLIGHT as u32)?;
    // The C library reads the number of CPUs when a second thread first allocates memory.
    ensure!(std::thread::spawn(|| vec![1_u8; 100].len()).join().is_ok());
    let mut s = Script::default();
    s.begin()?;
    let entries = many(&memory, &disk, &file);
    let submitted = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            push(&mut ring, &entries)?;
            anyhow::Ok(ring.submit()?)
        });
        thread.join()
    });
    ensure!(submitted.is_ok_and(|count| count.is_ok_and(|count| count == IN_FLIGHT)));
    for (name, result, _) in reap(&mut ring, IN_FLIGHT)? {
        if result > 0 {
            s.expect(["io_uring:disk:user", "io_uring:file:user"][name as usize], 1, result as usize);
        }
    }
    s.end()
}

/// Has requests in flight until it is killed.
fn victim(arguments: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(IN_FLIGHT * PAGE)?;
    let (disk, file) = (direct(arguments)?, memfd()?);
    let mut ring: IoUring = IoUring::builder().build(IN_FLIGHT as u32)?;
    Script::default().stop()?;
    loop {
        let entries = many(&memory, &disk, &file);
        push(&mut ring, &entries)?;
        reap(&mut ring, entries.len())?;
    }
}
