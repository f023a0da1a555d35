//! Memory of each kind that a buffer can be.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::Context as _;

/// The size of a page.
pub const PAGE: usize = 4096;

/// A mapping, unmapped when dropped.
#[derive(Debug)]
pub struct Memory {
    address: usize,
    length: usize,
}

impl Memory {
    /// Maps; `fd` is `None` for anonymous memory.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn map(length: usize, protection: i32, flags: i32, fd: Option<BorrowedFd<'_>>) -> anyhow::Result<Self> {
        let address = map(0, length, protection, flags, fd)?;
        Ok(Self { address, length })
    }

    /// Anonymous private memory, every page of it touched.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn anonymous(length: usize) -> anyhow::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        Self::map(length, libc::PROT_READ | libc::PROT_WRITE, flags, None)
    }

    /// Puts another mapping of one page in the place of one of its pages.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn replace_page(&self, page: usize, flags: i32, fd: BorrowedFd<'_>) -> anyhow::Result<()> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        map(self.at(page * PAGE), PAGE, protection, flags | libc::MAP_FIXED, Some(fd)).map(|_| ())
    }

    /// The address of a byte.
    #[must_use]
    pub fn at(&self, offset: usize) -> usize {
        assert!(offset < self.length);
        self.address + offset
    }
}

fn map(at: usize, length: usize, protection: i32, flags: i32, fd: Option<BorrowedFd<'_>>) -> anyhow::Result<usize> {
    let fd = fd.map_or(-1, |fd| fd.as_raw_fd());
    // SAFETY: a new mapping, or (MAP_FIXED) one in the place of pages that a `Memory` owns and nothing refers to.
    let address = unsafe { libc::mmap(at as *mut libc::c_void, length, protection, flags, fd, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error()).with_context(|| format!("mmap of {length} bytes, flags {flags:#x}"));
    }
    Ok(address as usize)
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and nothing refers to it any more.
        unsafe { libc::munmap(self.address as *mut libc::c_void, self.length) };
    }
}

/// An iovec over memory that the caller keeps alive.
#[must_use]
pub fn iovec(address: usize, length: usize) -> libc::iovec {
    libc::iovec { iov_base: address as *mut libc::c_void, iov_len: length }
}

/// The address of a value's or slice's first byte, to be passed to [`crate::script::Script::call`].
#[must_use]
pub fn address<T: ?Sized>(of: &T) -> usize {
    std::ptr::from_ref(of).cast::<u8>() as usize
}

/// The same for what the kernel writes to.
#[must_use]
pub fn address_mut<T: ?Sized>(of: &mut T) -> usize {
    std::ptr::from_mut(of).cast::<u8>() as usize
}
