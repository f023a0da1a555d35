//! Movers of the read and write families: one function per system call.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::sys::uio;
use nix::unistd;

use super::drive::{Moved, Stage};

pub(super) fn read(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(unistd::read(stage.source.fd()?, stage.sink.bytes(len)?)?.into())
}

pub(super) fn pread(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let at = stage.source.offset();
    Ok(uio::pread(stage.source.fd()?, stage.sink.bytes(len)?, at)?.into())
}

pub(super) fn readv(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(uio::readv(stage.source.fd()?, &mut into(stage.sink.bytes(len)?))?.into())
}

pub(super) fn preadv(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let at = stage.source.offset();
    Ok(uio::preadv(stage.source.fd()?, &mut into(stage.sink.bytes(len)?), at)?.into())
}

pub(super) fn preadv2(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let at = stage.source.offset();
    preadv2_at(stage.source.fd()?, &mut into(stage.sink.bytes(len)?), at)
}

/// preadv2 at the file position, which is how it reads what has none to seek in.
pub(super) fn preadv2_here(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    preadv2_at(stage.source.fd()?, &mut into(stage.sink.bytes(len)?), -1)
}

fn preadv2_at(fd: BorrowedFd<'_>, segments: &mut [IoSliceMut<'_>], at: i64) -> nix::Result<Moved> {
    // SAFETY: an IoSliceMut is an iovec, and these outlive the call.
    let n = unsafe { libc::preadv2(fd.as_raw_fd(), segments.as_mut_ptr().cast(), count(segments), at, 0) };
    returned(n)
}

/// readv whose first segment is the path's memory and whose second, just as long, lies on another path.
pub(super) fn readv_mixed(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let own = IoSliceMut::new(stage.sink.bytes(len)?);
    let other = IoSliceMut::new(stage.second.bytes(len)?);
    let n = uio::readv(stage.source.fd()?, &mut [own, other])?;
    Ok(Moved { counted: n.min(len), ..n.into() })
}

pub(super) fn write(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(unistd::write(stage.sink.fd()?, stage.source.bytes(len)?)?.into())
}

pub(super) fn pwrite(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let at = stage.sink.offset();
    Ok(uio::pwrite(stage.sink.fd()?, stage.source.bytes(len)?, at)?.into())
}

pub(super) fn writev(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(uio::writev(stage.sink.fd()?, &from(stage.source.bytes(len)?))?.into())
}

pub(super) fn pwritev(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let at = stage.sink.offset();
    Ok(uio::pwritev(stage.sink.fd()?, &from(stage.source.bytes(len)?), at)?.into())
}

pub(super) fn pwritev2(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let at = stage.sink.offset();
    pwritev2_at(stage.sink.fd()?, &from(stage.source.bytes(len)?), at)
}

/// pwritev2 at the file position, which is how it writes to what has none to seek in.
pub(super) fn pwritev2_here(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    pwritev2_at(stage.sink.fd()?, &from(stage.source.bytes(len)?), -1)
}

fn pwritev2_at(fd: BorrowedFd<'_>, segments: &[IoSlice<'_>], at: i64) -> nix::Result<Moved> {
    // SAFETY: an IoSlice is an iovec, and these outlive the call.
    let n = unsafe { libc::pwritev2(fd.as_raw_fd(), segments.as_ptr().cast(), count(segments), at, 0) };
    returned(n)
}

/// writev whose first segment is the path's memory and whose second, just as long, lies on another path.
pub(super) fn writev_mixed(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let own = IoSlice::new(stage.source.bytes(len)?);
    let other = IoSlice::new(stage.second.bytes(len)?);
    let n = uio::writev(stage.sink.fd()?, &[own, other])?;
    Ok(Moved { counted: n.min(len), ..n.into() })
}

/// Divides a buffer into an empty segment and two others. The empty one must not decide which path the bytes are on.
/// A buffer of whole pages is cut between pages, for direct I/O.
fn cut(len: usize) -> usize {
    if len.is_multiple_of(4096) { len / 2 / 4096 * 4096 } else { len / 2 }
}

/// No bytes, where nothing is mapped; but at the start of a page: direct I/O looks even at an empty segment's address
/// (iov_iter_aligned_iovec, lib/iov_iter.c, v6.12).
fn nowhere() -> &'static mut [u8] {
    // SAFETY: a slice of no bytes needs an address other than 0 and no memory.
    unsafe { std::slice::from_raw_parts_mut(std::ptr::without_provenance_mut(4096), 0) }
}

pub(super) fn from(buffer: &mut [u8]) -> [IoSlice<'_>; 3] {
    let (first, second) = buffer.split_at(cut(buffer.len()));
    [IoSlice::new(nowhere()), IoSlice::new(first), IoSlice::new(second)]
}

pub(super) fn into(buffer: &mut [u8]) -> [IoSliceMut<'_>; 3] {
    let (first, second) = buffer.split_at_mut(cut(buffer.len()));
    [IoSliceMut::new(nowhere()), IoSliceMut::new(first), IoSliceMut::new(second)]
}

fn count<T>(segments: &[T]) -> i32 {
    i32::try_from(segments.len()).unwrap_or(i32::MAX)
}

/// What a raw call returned: bytes, or -1 and errno.
pub(super) fn returned(n: isize) -> nix::Result<Moved> {
    Ok(usize::try_from(Errno::result(n)?).unwrap_or(0).into())
}
