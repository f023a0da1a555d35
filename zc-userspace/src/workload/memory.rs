//! Buffers: memory of each kind that the tracer tells apart, mapped and touched before it is used.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::ptr::NonNull;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::libc::c_void;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// A mapping of its own, page-aligned, unmapped when dropped.
pub(super) struct Memory {
    start: NonNull<c_void>,
    len: NonZeroUsize,
    writable: bool,
}

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

impl Memory {
    /// Private anonymous memory.
    pub(super) fn user(len: usize) -> anyhow::Result<Self> {
        Self::anonymous(len, MapFlags::MAP_PRIVATE)
    }

    /// The same within the reach of a 32-bit call's arguments.
    pub(super) fn user_32bit(len: usize) -> anyhow::Result<Self> {
        #[cfg(target_arch = "x86_64")]
        return Self::anonymous(len, MapFlags::MAP_PRIVATE | MapFlags::MAP_32BIT);
        #[cfg(not(target_arch = "x86_64"))]
        Self::anonymous(len, MapFlags::MAP_PRIVATE)
    }

    /// Shared anonymous memory, which the kernel keeps in a file of its own.
    pub(super) fn user_shared(len: usize) -> anyhow::Result<Self> {
        Self::anonymous(len, MapFlags::MAP_SHARED)
    }

    /// A private writable mapping of a file. Each page is written to, so that it is the process's own.
    pub(super) fn user_private(len: usize, file: &File) -> anyhow::Result<Self> {
        Self::of_file(len, file, READ_WRITE, MapFlags::MAP_PRIVATE)
    }

    /// A shared mapping of a file.
    pub(super) fn mapping(len: usize, file: &File) -> anyhow::Result<Self> {
        Self::of_file(len, file, READ_WRITE, MapFlags::MAP_SHARED)
    }

    /// A private mapping of a file that can only be read.
    pub(super) fn mapping_read_only(len: usize, file: &File) -> anyhow::Result<Self> {
        Self::of_file(len, file, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE)
    }

    /// Where received pages of a TCP socket are mapped. There is nothing there before.
    pub(super) fn received(len: usize, socket: BorrowedFd<'_>) -> anyhow::Result<Self> {
        let len = NonZeroUsize::new(len).context("a buffer of no length")?;
        // SAFETY: the kernel chooses the place, so that no other memory is touched.
        let start = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, socket, 0) };
        Ok(Self { start: start.context("mapping a socket")?, len, writable: false })
    }

    /// Where it begins.
    pub(super) fn address(&self) -> u64 {
        self.start.as_ptr().addr() as u64
    }

    fn anonymous(len: usize, flags: MapFlags) -> anyhow::Result<Self> {
        let len = NonZeroUsize::new(len).context("a buffer of no length")?;
        // SAFETY: the kernel chooses the place, so that no other memory is touched.
        let start = unsafe { mmap_anonymous(None, len, READ_WRITE, flags) }.context("mapping a buffer")?;
        let mut memory = Self { start, len, writable: true };
        // khugepaged would change the memory map at any time.
        // SAFETY: the advice takes nothing from the mapping, which was made just now. (A kernel without huge pages
        // refuses it, and needs none.)
        let _ = unsafe { madvise(start, len.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        memory.touch();
        Ok(memory)
    }

    /// The file must be `len` bytes long.
    fn of_file(len: usize, file: &File, protection: ProtFlags, flags: MapFlags) -> anyhow::Result<Self> {
        let len = NonZeroUsize::new(len).context("a buffer of no length")?;
        // SAFETY: the kernel chooses the place; the file is a scratch file that nobody else knows or truncates.
        let start = unsafe { mmap(None, len, protection, flags, file.as_fd(), 0) }.context("mapping a file")?;
        let mut memory = Self { start, len, writable: protection.contains(ProtFlags::PROT_WRITE) };
        memory.touch();
        Ok(memory)
    }

    fn touch(&mut self) {
        if self.writable {
            // SAFETY: the mapping is `len` bytes long, writable, and only this value knows it.
            unsafe { self.start.as_ptr().cast::<u8>().write_bytes(0x5a, self.len.get()) };
            return;
        }
        for offset in (0..self.len.get()).step_by(4096) {
            // SAFETY: the offset is within the mapping, which can be read.
            unsafe { self.start.as_ptr().cast::<u8>().add(offset).read_volatile() };
        }
    }

    /// The first `len` bytes; EFAULT if there are fewer. Memory that can't be written must only be read.
    pub(super) fn bytes(&mut self, len: usize) -> nix::Result<&mut [u8]> {
        if len > self.len.get() {
            return Err(Errno::EFAULT);
        }
        // SAFETY: the mapping is at least `len` bytes long, initialised, lives as long as `self`, and the borrow of
        // `self` keeps any other slice of it away. Only system calls get read-only memory, as their source.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), len) })
    }

    /// All of it.
    pub(super) fn all(&mut self) -> nix::Result<&mut [u8]> {
        self.bytes(self.len.get())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no slice outlives it. Failure would leave it mapped: harmless.
        let _ = unsafe { munmap(self.start, self.len.get()) };
    }
}
