//! Calls that may share blocks instead of copying bytes: FICLONE, FICLONERANGE, copy_file_range.

use zc_common::config::CODE_UNKNOWN;
use zc_common::path::{Endpoint, Mechanism};
use zc_common::record::{CELL_NO_DESCRIPTOR, ThreadLedger};

use super::{Moved, between, count_between};
use crate::kernel::{self, read_user};
use crate::maps::offset;
use crate::{account, endpoint};

// include/uapi/linux/fs.h, v6.1.
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;

/// Counts a successful ioctl if it is a clone.
#[inline(always)]
pub(super) fn ioctl(ledger: &mut ThreadLedger, args: &Moved) {
    count_ioctl(ledger, args.get::<1>(), args.get::<2>());
}

/// Not inlined, lest what it reads lies in a frame that others are below (before v6.13 all share 512 bytes).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_ioctl(ledger: *mut ThreadLedger, request: u64, argument: u64) -> u64 {
    // SAFETY: callers pass the running thread's ledger.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return 0 };
    let shared = match request as u32 {
        FICLONE => size_from(argument, 0),
        FICLONERANGE => match read_user::<[u64; 4]>(argument) {
            Some([source, start, 0, _]) => size_from(source, start),
            Some([_, _, length, _]) => Some(length),
            None => None,
        },
        _ => return 0,
    };
    match shared {
        Some(bytes) => count_reflink(ledger, bytes),
        None => account::count(ledger, CELL_NO_DESCRIPTOR, 1, 0),
    }
    0
}

#[inline(always)]
fn count_reflink(ledger: &mut ThreadLedger, bytes: u64) {
    let file = Endpoint::File as u8;
    count_between(ledger, Mechanism::Reflink as u8, file, file, bytes);
}

/// The bytes of a descriptor's file from an offset to its end.
#[inline(always)]
fn size_from(fd: u64, start: u64) -> Option<u64> {
    let file = endpoint::file_of_descriptor(fd);
    if file == 0 {
        return None;
    }
    Some(size(inode(file)?)?.saturating_sub(start))
}

#[inline(always)]
fn inode(file: u64) -> Option<u64> {
    kernel::read(file + offset!(file_inode))
}

#[inline(always)]
fn size(inode: u64) -> Option<u64> {
    kernel::read(inode + offset!(inode_size))
}

/// Counts a copy_file_range as the copy or the reflink it was.
#[inline(always)]
pub(super) fn copy_file_range(ledger: &mut ThreadLedger, args: &Moved, bytes: u64) {
    let (source, sink) = (endpoint::file_of_descriptor(args.get::<0>()), endpoint::file_of_descriptor(args.get::<2>()));
    if source == 0 || sink == 0 {
        let unknown = CODE_UNKNOWN;
        return count_between(ledger, Mechanism::CopyFileRange as u8, unknown, unknown, bytes);
    }
    let ends = (end(source, args.get::<1>()), end(sink, args.get::<3>()));
    match is_reflink(source, sink, ends, bytes) {
        Some(true) => count_reflink(ledger, bytes),
        _ => between(ledger, Mechanism::CopyFileRange, args.get::<0>(), args.get::<2>(), bytes),
    }
}

/// Where the call stopped: it has moved on the offset that it was given, or the file's position.
#[inline(always)]
fn end(file: u64, offset_at: u64) -> Option<u64> {
    if offset_at == 0 { kernel::read(file + offset!(file_pos)) } else { read_user(offset_at) }
}

/// Whether the file system shared the blocks: it can (remap_file_range), both files are on it, and the range is made
/// of whole blocks, but for the end of the source (vfs_copy_file_range and generic_remap_file_range_prep, fs/, v6.1).
#[inline(always)]
fn is_reflink(source: u64, sink: u64, ends: (Option<u64>, Option<u64>), bytes: u64) -> Option<bool> {
    // A file system that copies by itself (overlayfs, network file systems) is asked first; what it does shows nowhere.
    let sink_operations: u64 = kernel::read(sink + offset!(file_op))?;
    if kernel::read::<u64>(sink_operations + offset!(fop_copy_file_range))? != 0 {
        return Some(false);
    }
    let operations: u64 = kernel::read(source + offset!(file_op))?;
    if kernel::read::<u64>(operations + offset!(fop_remap_file_range))? == 0 {
        return Some(false);
    }
    let (from, to) = (inode(source)?, inode(sink)?);
    let sb: u64 = kernel::read(from + offset!(inode_sb))?;
    if sb != kernel::read::<u64>(to + offset!(inode_sb))? {
        return Some(false);
    }
    let mask = (1u64 << (kernel::read::<u8>(from + offset!(inode_blkbits))? & 31)) - 1;
    let (source_end, sink_end) = (ends.0?, ends.1?);
    let starts_whole = (source_end.wrapping_sub(bytes) | sink_end.wrapping_sub(bytes)) & mask == 0;
    // An incomplete last block can only be shared where it is the last of both files.
    let is_tail = source_end == size(from)? && sink_end >= size(to)?;
    Some(starts_whole && (bytes & mask == 0 || is_tail))
}
