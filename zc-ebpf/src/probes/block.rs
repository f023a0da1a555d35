//! What disks read and write by DMA, at the queueing of each I/O: there the task that wants it still runs.

use core::ffi::c_void;

use zc_common::record::{CELL_CACHE_FILLS, DISK_DIRECT, DISK_KINDS, DISK_WRITE, FIRST_DISK_CELL, SharedKey};

use super::identity;
use crate::account;
use crate::devices;
use crate::kernel::{Known, Task, number};
use crate::maps::{DIRTIERS, DISK_NAMES, config, offset};

// enum req_op and enum req_flag_bits, include/linux/blk_types.h, v6.1 to v6.18.
const OPERATION: u32 = 0xff;
const READ: u32 = 0;
const WRITE: u32 = 1;
const METADATA: u32 = 1 << 12;
const READ_AHEAD: u32 = 1 << 19;
/// `LOOP_MAJOR` (include/uapi/linux/major.h).
const LOOP: u32 = 7;
/// `PF_KTHREAD` (include/linux/sched.h, v6.1).
const PF_KTHREAD: u32 = 0x0020_0000;
/// The low bits of `page.mapping` that say that it is something else (include/linux/page-flags.h, v6.1).
const NO_MAPPING: u64 = 3;

/// An I/O was queued. Whatever is read or written on a stacked device (dm, md, zram: they take I/Os themselves; loop)
/// moves when the device below is asked.
#[inline(always)]
pub fn queued(bio: *const c_void) {
    let bio = Known::new(bio);
    let flags = bio.load::<u32>(offset!(bio_opf));
    let operation = flags & OPERATION;
    let bytes = u64::from(bio.load::<u32>(offset!(bio_size)));
    if operation > WRITE || bytes == 0 {
        return;
    }
    let disk = number(number(bio.at() + offset!(bio_bdev)) + offset!(bdev_disk));
    let major = number(disk + offset!(disk_major)) as u32;
    let stacked = number(number(disk + offset!(disk_fops)) + offset!(disk_submit_bio)) != 0;
    if stacked || major == LOOP {
        return;
    }
    let inode = cached_inode(bio.at());
    let device = 1 + (u64::from(major) << 20 | number(disk + offset!(disk_first_minor)) & 0xf_ffff);
    let place = devices::place_of(&DISK_NAMES, device, disk + offset!(disk_name));
    let kind = if inode == 0 { DISK_DIRECT } else { 0 } | if operation == READ { 0 } else { DISK_WRITE };
    let mut key = owner(if kind == DISK_WRITE { inode } else { 0 });
    key.cell = u32::from(FIRST_DISK_CELL) + place as u32 * u32::from(DISK_KINDS) + u32::from(kind);
    count(&key, 1, bytes);
    if kind == 0 && flags & METADATA == 0 {
        key.cell = u32::from(CELL_CACHE_FILLS);
        count(&key, if flags & READ_AHEAD != 0 { bytes } else { 0 }, bytes);
    }
}

/// A page of the cache was dirtied: whoever did it will have caused the write, which another task starts.
#[inline(always)]
pub fn dirtied(mapping: *const c_void) {
    let task = Task::current();
    if mapping.is_null() || is_kernel_thread(task) {
        return;
    }
    let inode = number(Known::new(mapping).at() + offset!(mapping_host));
    if let Some(known) = DIRTIERS.get_ptr(&inode) {
        // A pid that is used again by the inode's next writer is not worth the three reads that its start takes.
        // SAFETY: a live element of the map.
        if unsafe { (*known).tgid } == task.tgid() {
            return;
        }
    }
    let process = identity::process_of(task.at());
    let key = SharedKey { process_start: process.start, tgid: process.tgid, cell: 0 };
    let _ = DIRTIERS.insert(&inode, &key, 0);
}

#[inline(always)]
fn is_kernel_thread(task: Task) -> bool {
    task.known().load::<u32>(offset!(task_flags)) & PF_KTHREAD != 0
}

/// Whose I/O it is: that of the process that dirtied the inode, if one is given and that is known; else of the task
/// that runs. A kernel thread's is nobody's: journal, swap, a loop device's.
#[inline(always)]
fn owner(dirtied: u64) -> SharedKey {
    if dirtied != 0 {
        if let Some(known) = DIRTIERS.get_ptr(&dirtied) {
            // SAFETY: a live element of the map.
            return unsafe { *known };
        }
    }
    let task = Task::current();
    if is_kernel_thread(task) {
        return SharedKey { process_start: 0, tgid: 0, cell: 0 };
    }
    let process = identity::process_of(task.at());
    SharedKey { process_start: process.start, tgid: process.tgid, cell: 0 }
}

#[inline(always)]
fn count(key: &SharedKey, operations: u64, bytes: u64) {
    if key.tgid == 0 {
        account::count_fallback(key.cell, operations, bytes);
    } else if u64::from(key.tgid) != config!(own_tgid) {
        account::count_shared(key, operations, bytes);
    }
}

/// The inode whose cached page an I/O's first page is; 0 if it is no page of the cache.
#[inline(always)]
fn cached_inode(bio: u64) -> u64 {
    let page = number(number(bio + offset!(bio_io_vec)));
    let head = number(page + offset!(page_compound_head));
    let page = if head & 1 != 0 { head - 1 } else { page };
    let mapping = number(page + offset!(page_mapping));
    if mapping == 0 || mapping & NO_MAPPING != 0 {
        return 0;
    }
    // Kernel memory (a journal's copy of a block) has other things there.
    let inode = number(mapping + offset!(mapping_host));
    if number(inode + offset!(inode_mapping)) == mapping { inode } else { 0 }
}
