//! Bytes that are written out from where they had been read into, and bytes that only look like it.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::mpsc;

use anyhow::{Context as _, ensure};
use io_uring::{IoUring, opcode, types};
use nix::unistd;
use zc_tests::memory::{Memory, iovec};
use zc_tests::script::{Script, arg, raw};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("pass_whole", whole),
    ("pass_in_parts", in_parts),
    ("pass_in_segments", in_segments),
    ("pass_around_a_ring", around_a_ring),
    ("pass_between_threads", between_threads),
    ("pass_large_reads", large_reads),
    ("pass_large_writes", large_writes),
    ("pass_byte_by_byte", byte_by_byte),
    ("pass_by_uring", by_uring),
    ("pass_between_sockets", between_sockets),
    ("pass_elsewhere", elsewhere),
    ("pass_overwritten", overwritten),
    ("pass_with_gaps", with_gaps),
    ("pass_in_child", in_child),
];

const KIB: usize = 1024;
const MIB: usize = 1 << 20;

/// What is read from, and what is written to: files in memory, which have no end to wait for.
struct Files {
    from: OwnedFd,
    to: OwnedFd,
    script: Script,
    passed: usize,
}

impl Files {
    fn open(bytes: usize) -> anyhow::Result<Self> {
        let (from, to) = (open::memfd(bytes as u64)?.into(), open::memfd(0)?.into());
        Ok(Self { from, to, script: Script::default(), passed: 0 })
    }

    fn read(&self, memory: &Memory, at: usize, bytes: usize) -> anyhow::Result<()> {
        let read = raw(libc::SYS_read, &[arg(self.from.as_raw_fd()), memory.at(at), bytes])?;
        ensure!(read == bytes, "{read} bytes read, not {bytes}");
        Ok(())
    }

    /// Writes from memory, of which so much has been read.
    fn write(&mut self, memory: &Memory, at: usize, bytes: usize, passed: usize) -> anyhow::Result<()> {
        let written = raw(libc::SYS_write, &[arg(self.to.as_raw_fd()), memory.at(at), bytes])?;
        ensure!(written == bytes, "{written} bytes written, not {bytes}");
        self.passed += passed;
        Ok(())
    }

    /// Says what has passed from file to file.
    fn end(mut self) -> anyhow::Result<()> {
        self.script.note("file:file", self.passed as u64);
        self.script.end()
    }
}

fn whole(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(64 * KIB)?);
    files.script.begin()?;
    for _ in 0..16 {
        files.read(&memory, 0, 64 * KIB)?;
        files.write(&memory, 0, 64 * KIB, 64 * KIB)?;
    }
    files.end()
}

fn in_parts(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(MIB)?);
    files.script.begin()?;
    // The buffer lies across two regions.
    files.read(&memory, 60 * KIB, 50_000)?;
    for part in 0..49 {
        files.write(&memory, 60 * KIB + part * 1000, 1000, 1000)?;
    }
    files.write(&memory, 60 * KIB + 49_000, 999, 999)?;
    files.end()
}

fn in_segments(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(MIB)?);
    let into = [iovec(memory.at(0), 100), iovec(memory.at(5000), 65_000), iovec(memory.at(500_000), 300_000)];
    // A header that was not read, what was read, and in another order.
    let from = [iovec(memory.at(1000), 50), iovec(memory.at(500_000), 300_000), iovec(memory.at(5000), 65_000)];
    files.script.begin()?;
    let (fd, to) = (arg(files.from.as_raw_fd()), arg(files.to.as_raw_fd()));
    ensure!(raw(libc::SYS_readv, &[fd, into.as_ptr() as usize, into.len()])? == 365_100, "a short read");
    ensure!(raw(libc::SYS_writev, &[to, from.as_ptr() as usize, from.len()])? == 365_050, "a short write");
    files.passed = 365_000;
    files.end()
}

/// A ring of 200,000 bytes, of which what is read at a time is no divisor.
fn around_a_ring(_: &[String]) -> anyhow::Result<()> {
    const RING: usize = 200_000;
    let (mut files, memory) = (Files::open(10 * MIB)?, Memory::anonymous(RING)?);
    files.script.begin()?;
    let (mut head, mut tail) = (0, 0);
    for _ in 0..200 {
        for _ in 0..2 {
            let bytes = 7001.min(RING - head % RING);
            files.read(&memory, head % RING, bytes)?;
            head += bytes;
        }
        while head - tail > 100_000 {
            let bytes = 3333.min(RING - tail % RING);
            files.write(&memory, tail % RING, bytes, bytes)?;
            tail += bytes;
        }
    }
    files.end()
}

/// One thread reads into eight slots, another writes from them.
fn between_threads(_: &[String]) -> anyhow::Result<()> {
    const SLOTS: usize = 8;
    const BYTES: usize = 10_000;
    const TIMES: usize = 2000;
    let (mut files, memory) = (Files::open(TIMES * BYTES)?, Memory::anonymous(SLOTS * BYTES)?);
    let (full, filled) = mpsc::sync_channel(SLOTS);
    let (free, freed) = mpsc::sync_channel(SLOTS);
    (0..SLOTS).try_for_each(|slot| free.send(slot))?;
    files.script.begin()?;
    let (from, address) = (arg(files.from.as_raw_fd()), memory.at(0));
    let reader = std::thread::spawn(move || -> anyhow::Result<()> {
        for _ in 0..TIMES {
            let slot = freed.recv()?;
            ensure!(raw(libc::SYS_read, &[from, address + slot * BYTES, BYTES])? == BYTES, "a short read");
            full.send(slot)?;
        }
        Ok(())
    });
    for _ in 0..TIMES {
        let slot = filled.recv()?;
        files.write(&memory, slot * BYTES, BYTES, BYTES)?;
        // The reader may have gone.
        let _ = free.send(slot);
    }
    reader.join().ok().context("the reader panicked")??;
    files.end()
}

fn large_reads(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(40 * MIB)?, Memory::anonymous(40 * MIB)?);
    files.script.begin()?;
    files.read(&memory, 0, 40 * MIB)?;
    for part in 0..40 {
        files.write(&memory, part * MIB, MIB, MIB)?;
    }
    files.end()
}

fn large_writes(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(40 * MIB)?, Memory::anonymous(40 * MIB)?);
    files.script.begin()?;
    for part in 0..400 {
        files.read(&memory, part * 100_000, 100_000)?;
    }
    files.write(&memory, 0, 40 * MIB, 400 * 100_000)?;
    files.end()
}

fn byte_by_byte(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(MIB)?);
    files.script.begin()?;
    for byte in 0..5000 {
        files.read(&memory, byte, 1)?;
    }
    for byte in 0..5000 {
        files.write(&memory, byte, 1, 1)?;
    }
    files.end()
}

/// Plain requests and such on a registered buffer.
fn by_uring(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(128 * KIB)?);
    let mut ring = IoUring::new(8)?;
    let segment = libc::iovec { iov_base: memory.at(0) as *mut libc::c_void, iov_len: 128 * KIB };
    // SAFETY: the memory lives as long as the ring.
    unsafe { ring.submitter().register_buffers(&[segment]) }?;
    let (from, to) = (types::Fd(files.from.as_raw_fd()), types::Fd(files.to.as_raw_fd()));
    let (first, second) = (memory.at(0) as *mut u8, memory.at(64 * KIB) as *mut u8);
    const BYTES: u32 = 64 << 10;
    files.script.begin()?;
    for entry in [
        opcode::Read::new(from, first, BYTES).build(),
        opcode::Write::new(to, first, BYTES).build(),
        opcode::ReadFixed::new(from, second, BYTES, 0).build(),
        opcode::WriteFixed::new(to, second, BYTES, 0).build(),
    ] {
        // SAFETY: what the request points to lives until the scenario's end.
        unsafe { ring.submission().push(&entry) }.context("the queue is full")?;
        ring.submit_and_wait(1)?;
        let done = ring.completion().next().context("no completion")?;
        ensure!(done.result() == BYTES.cast_signed(), "a request returned {}", done.result());
    }
    files.passed = 2 * BYTES as usize;
    files.end()
}

/// From one unix socket to another, by recvfrom and sendto.
fn between_sockets(_: &[String]) -> anyhow::Result<()> {
    let pair = || {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty())
    };
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(64 * KIB)?);
    let ((a, b), (c, _d)) = (pair()?, pair()?);
    ensure!(unistd::write(&a, &[1; 30_000])? == 30_000, "a short write");
    files.script.begin()?;
    let (from, to, at) = (arg(b.as_raw_fd()), arg(c.as_raw_fd()), memory.at(0));
    ensure!(raw(libc::SYS_recvfrom, &[from, at, 30_000, 0, 0, 0])? == 30_000, "a short receive");
    ensure!(raw(libc::SYS_sendto, &[to, at, 20_000, 0, 0, 0])? == 20_000, "a short send");
    files.script.note("unix:unix", 20_000);
    files.end()
}

/// Copied by the process before it is written.
fn elsewhere(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(256 * KIB)?);
    files.script.begin()?;
    files.read(&memory, 0, 64 * KIB)?;
    // SAFETY: two ends of memory that nobody else has.
    unsafe { std::ptr::copy_nonoverlapping(memory.at(0) as *const u8, memory.at(128 * KIB) as *mut u8, 64 * KIB) };
    files.write(&memory, 128 * KIB, 64 * KIB, 0)?;
    files.end()
}

/// What comes last is what is written: of a file's bytes a pipe's overwrite some.
fn overwritten(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(256 * KIB)?);
    let (out, into) = unistd::pipe()?;
    ensure!(unistd::write(&into, &[1; 1000])? == 1000, "a short write");
    files.script.begin()?;
    files.read(&memory, 0, 10_000)?;
    ensure!(raw(libc::SYS_read, &[arg(out.as_raw_fd()), memory.at(0), 1000])? == 1000, "a short read");
    files.write(&memory, 0, 10_000, 9000)?;
    files.script.note("pipe:file", 1000);
    files.end()
}

fn with_gaps(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(MIB)?);
    files.script.begin()?;
    for at in [100, 10_000, 200_000] {
        files.read(&memory, at, 300)?;
    }
    files.write(&memory, 0, 300_000, 900)?;
    files.end()
}

/// A child has what its parent had read in memory of its own.
fn in_child(_: &[String]) -> anyhow::Result<()> {
    let (mut files, memory) = (Files::open(MIB)?, Memory::anonymous(64 * KIB)?);
    files.script.begin()?;
    files.read(&memory, 0, 64 * KIB)?;
    let child = zc_tests::script::fork()?;
    files.write(&memory, 0, 64 * KIB, if child == 0 { 0 } else { 64 * KIB })?;
    if child == 0 {
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    ensure!(raw(libc::SYS_wait4, &[child, 0, 0, 0])? == child, "no child");
    files.end()
}
