//! Provided buffers: which one a completion took.

use zc_common::config::CODE_UNKNOWN;

use super::Owner;
use super::request::CQE_BUFFER;
use crate::classify::note::Noted;
use crate::kernel::{self, number};
use crate::maps::offset;

/// What the provided buffer is that a completion took.
#[inline(always)]
pub(super) fn selected(owner: Owner, ring: u64, noted: &Noted, cqe_flags: u32) -> u8 {
    if cqe_flags & CQE_BUFFER == 0 {
        return CODE_UNKNOWN;
    }
    match provided(ring, u64::from(noted.group), u64::from(cqe_flags >> 16)) {
        0 => noted.near,
        address => owner.near(address),
    }
}

/// The list of provided buffers of a group: its address, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn group_of(ring: u64, group: u64) -> u64 {
    /// Groups of the array that 6.1 has beside the xarray.
    const FIRST: u64 = 64;
    if offset!(ring_first_groups) != 0 && group < FIRST {
        let first = number(ring + offset!(ring_first_groups));
        return if first == 0 { 0 } else { first + group * offset!(group_size) };
    }
    let mut entry = number(ring + offset!(ring_groups));
    // Three levels of 64 hold more than the 65,536 groups.
    for _ in 0..4 {
        // An entry with this bit is a node (xa_is_node, include/linux/xarray.h, v6.1).
        if entry & 3 != 2 {
            break;
        }
        let node = entry - 2;
        let shift = kernel::read::<u8>(node + offset!(xarray_shift)).unwrap_or(0) & 63;
        entry = number(node + offset!(xarray_slots) + (group >> shift & 63) * 8);
    }
    entry
}

/// The address of a provided buffer that was taken just now; 0 where the kernel does not tell.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn provided(ring: u64, group: u64, id: u64) -> u64 {
    let list = group_of(ring, group);
    if list == 0 || kernel::read::<u16>(list + offset!(group_entries)).unwrap_or(0) == 0 {
        return 0;
    }
    let head = kernel::read::<u16>(list + offset!(group_head)).unwrap_or(0);
    let mask = kernel::read::<u16>(list + offset!(group_mask)).unwrap_or(0);
    let entries = number(list + offset!(group_ring));
    // The head has moved on, or not if the buffer is used up bit by bit.
    for at in [head.wrapping_sub(1), head] {
        // An io_uring_buf: address, length, id (include/uapi/linux/io_uring.h, v6.1).
        let entry = entries + u64::from(at & mask) * 16;
        let number_and_length = number(entry + 8);
        if number_and_length >> 32 & 0xffff == id {
            return number(entry);
        }
    }
    0
}
