//! What page faults move: pages of a file that are mapped, and pages that are copied when they are written to.

use std::num::NonZeroUsize;
use std::ops::Range;

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::libc::c_void;
use nix::sys::mman::{MapFlags, MlockAllFlags, MmapAdvise, ProtFlags, madvise, mlockall, mmap, mmap_anonymous, munmap};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use zc_common::path::Condition::Asked;

use super::Workload;
use super::drive::{Moved, Stage};
use super::files::evict;
use super::fixture::Fixture::{ColdFile, File, Forked, Nothing, Pages};
use super::fixture::PAGE;

/// How a page is touched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Touch {
    Read,
    Write,
    ReadThenWrite,
}

/// Touches each page of a mapping.
///
/// # Safety
/// The mapping must be so long, and allow it.
unsafe fn touch(start: *mut u8, len: usize, how: Touch) {
    for offset in (0..len).step_by(PAGE as usize) {
        // SAFETY: as the caller promises.
        unsafe {
            let byte = start.add(offset);
            if how != Touch::Write {
                byte.read_volatile();
            }
            if how != Touch::Read {
                byte.write_volatile(0x5b);
            }
        }
    }
}

/// Maps the file's start, touches each page, and unmaps it again: it changes the memory map.
fn map(stage: &mut Stage, len: usize, flags: MapFlags, how: Touch) -> nix::Result<()> {
    let length = NonZeroUsize::new(len).ok_or(Errno::EINVAL)?;
    let write = if how == Touch::Read { ProtFlags::empty() } else { ProtFlags::PROT_WRITE };
    // SAFETY: the kernel chooses the place; the file is a scratch file, as long as the mapping, that nobody truncates.
    let start = unsafe { mmap(None, length, ProtFlags::PROT_READ | write, flags, stage.source.fd()?, 0) }?;
    // SAFETY: the mapping was made just now, with the protection that is needed.
    unsafe { touch(start.as_ptr().cast(), len, how) };
    // SAFETY: it was mapped just above, and nothing else refers to it.
    unsafe { munmap(start.cast::<c_void>(), len) }
}

/// Each page is an operation.
fn pages(len: usize) -> Moved {
    Moved { operations: len as u64 / PAGE, ..len.into() }
}

fn ask_shared(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    map(stage, len, MapFlags::MAP_SHARED, Touch::Read).map(|()| len.into())
}

fn ask_private(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    map(stage, len, MapFlags::MAP_PRIVATE, Touch::Read).map(|()| len.into())
}

fn map_shared(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    map(stage, len, MapFlags::MAP_SHARED, Touch::Read).map(|()| pages(len))
}

fn map_private(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    map(stage, len, MapFlags::MAP_PRIVATE, Touch::Read).map(|()| pages(len))
}

fn map_written(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    map(stage, len, MapFlags::MAP_SHARED, Touch::Write).map(|()| pages(len))
}

/// Each page of the file is mapped once, where it lies.
fn map_cold(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let cold = stage.cold.as_mut().ok_or(Errno::EFAULT)?;
    cold.read(len);
    Ok(pages(len))
}

fn copy_private(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    map(stage, len, MapFlags::MAP_PRIVATE, Touch::Write).map(|()| pages(len))
}

fn copy_read_private(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    map(stage, len, MapFlags::MAP_PRIVATE, Touch::ReadThenWrite).map(|()| pages(len))
}

fn copy_forked(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let region = stage.forked.as_mut().ok_or(Errno::EFAULT)?;
    region.write(len);
    Ok(pages(len))
}

/// Memory, gone over once.
pub(super) struct Region {
    start: *mut u8,
    len: usize,
    /// How far it has been gone over.
    at: usize,
    /// The process that has the same pages.
    child: Option<Pid>,
}

impl Region {
    /// Private memory that a child has, too.
    pub(super) fn forked(bytes: u64) -> anyhow::Result<Self> {
        let len = NonZeroUsize::new(usize::try_from(bytes)?).context("no bytes")?;
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the place.
        let start = unsafe { mmap_anonymous(None, len, both, MapFlags::MAP_PRIVATE) }.context("mapping memory")?;
        let mut region = Self { start: start.as_ptr().cast(), len: len.get(), at: 0, child: None };
        // SAFETY: the advice takes nothing from the mapping, which was made just now.
        let _ = unsafe { madvise(start, len.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        // SAFETY: the mapping was made just now.
        unsafe { touch(region.start, region.len, Touch::Write) };
        region.child = Some(idle_child()?);
        Ok(region)
    }

    /// A file's mapping of which nothing is in memory.
    pub(super) fn cold(file: &std::fs::File, bytes: u64) -> anyhow::Result<Self> {
        let len = NonZeroUsize::new(usize::try_from(bytes)?).context("no bytes")?;
        evict(file)?;
        // SAFETY: the kernel chooses the place; nobody truncates the file.
        let start = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.as_ptr().cast(), len: len.get(), at: 0, child: None })
    }

    /// Where it lies.
    pub(super) fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len
    }

    fn write(&mut self, len: usize) {
        self.touch(len, Touch::Write);
    }

    fn read(&mut self, len: usize) {
        self.touch(len, Touch::Read);
    }

    fn touch(&mut self, len: usize, how: Touch) {
        let len = len.min(self.len - self.at);
        // SAFETY: so much of the mapping is left, and what is made for writing can be written.
        unsafe { touch(self.start.add(self.at), len, how) };
        self.at += len;
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(child) = self.child {
            // Our own child, not reaped before: it is there.
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
        }
        if let Some(start) = std::ptr::NonNull::new(self.start.cast::<c_void>()) {
            // SAFETY: the mapping is this value's own. Failure would leave it mapped: harmless.
            let _ = unsafe { munmap(start, self.len) };
        }
    }
}

/// A child that does nothing, and goes with us.
fn idle_child() -> anyhow::Result<Pid> {
    // SAFETY: the child makes system calls alone, of which every one may be made after a fork.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: neither touches memory.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::pause();
            }
        },
        child => {
            ensure!(child > 0, "fork: {}", Errno::last());
            Ok(Pid::from_raw(child))
        }
    }
}

/// Brings everything in that the process has mapped, and makes it its own, so that faults are the workload's alone: with
/// the exception of a range. What the caller may not do (locking takes a privilege) makes the figures less exact.
pub(super) fn settle(except: Range<usize>) -> anyhow::Result<()> {
    if except.is_empty() {
        let _ = mlockall(MlockAllFlags::MCL_CURRENT);
    }
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        let (start, end) = (usize::from_str_radix(start, 16)?, usize::from_str_radix(end, 16)?);
        let advice = if rights == "rw-p" { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
        if rights.starts_with('r') && (end <= except.start || start >= except.end) {
            // SAFETY: it reads or writes back what is there. Some mappings can't be brought in: devices.
            unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, advice) };
        }
    }
    Ok(())
}

/// One for each row.
pub(super) const MAIN: &[Workload] = &[
    Workload::new("mmap:file:mapping", File, Pages, map_shared, "map a file and read a byte of each page"),
    Workload::new("mmap:file:mapping", File, Nothing, ask_shared, "map a file and touch each page").when(Asked),
    Workload::new("mmap:user:user", Forked, Pages, copy_forked, "write to memory that a forked child has, too"),
];

/// Cold and warm, read and written, shared and private.
pub(super) const VARIANTS: &[Workload] = &[
    Workload::new("mmap:file:mapping", File, Nothing, ask_private, "a private mapping").when(Asked).variant("private"),
    Workload::new("mmap:file:mapping", File, Pages, map_private, "a private mapping").variant("private"),
    Workload::new("mmap:file:mapping", File, Pages, map_written, "each page is written to").variant("written"),
    Workload::new("mmap:file:mapping", ColdFile, Pages, map_cold, "nothing of the file is in memory").variant("cold"),
    Workload::new("mmap:user:user", File, Pages, copy_private, "write to a private mapping of a file")
        .variant("private"),
    Workload::new("mmap:user:user", File, Pages, copy_read_private, "read it first").variant("private_read"),
];
