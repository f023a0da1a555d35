//! What a user buffer is: anonymous memory or a mapping of a file.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_find_vma;
use zc_common::config::{CODE_UNKNOWN, SEQUENCE_AT_UNLOCK, SEQUENCE_NONE, SEQUENCE_ODD_WHILE_LOCKED};
use zc_common::path::Endpoint;
use zc_common::record::{ThreadLedger, VMA_SLOTS, VmaSlot};

use crate::endpoint;
use crate::kernel::{Known, Task};
use crate::maps::offset;

// include/linux/mm.h, v6.1.
const VM_WRITE: u64 = 2;
const VM_SHARED: u64 = 8;

/// What lies at a user address, and up to where the same.
#[derive(Clone, Copy)]
pub struct Found {
    pub endpoint: u8,
    pub end: u64,
}

/// Looks a user address up, first among the mappings that the thread remembers.
///
/// A remembered mapping holds as long as the memory map's change sequence has not moved on. While a writer holds the
/// map (odd sequence, from v6.14; unchanged before) the mapping is what it was before that writer: the look-up proper
/// would be refused then.
#[inline(always)]
pub fn look_up(ledger: &mut ThreadLedger, sequence: u32, address: u64) -> Found {
    for slot in &ledger.vma {
        if address >= slot.start && address < slot.end && still_holds(slot.sequence, sequence) {
            return Found { endpoint: slot.endpoint as u8, end: slot.end };
        }
    }
    find_buffer(ledger, address, u64::from(sequence));
    // That wrote the first slot.
    let slot = &ledger.vma[0];
    Found { endpoint: slot.endpoint as u8, end: slot.end }
}

/// The change sequence of the running task's memory map.
#[inline(always)]
pub fn sequence() -> u32 {
    if offset!(mm_sequence) == SEQUENCE_NONE {
        return 0;
    }
    let mm = Task::current().known().follow(offset!(task_mm));
    if mm.is_null() {
        return 0;
    }
    mm.load(offset!(mm_lock_seq))
}

#[inline(always)]
fn still_holds(remembered: u32, now: u32) -> bool {
    match offset!(mm_sequence) {
        SEQUENCE_ODD_WHILE_LOCKED => remembered == now & !1,
        SEQUENCE_AT_UNLOCK => remembered == now,
        _ => false,
    }
}

struct Search {
    endpoint: u64,
    start: u64,
    end: u64,
}

/// Looks the mapping up in the kernel and remembers it in the first slot; the one there moves on. What must not be
/// remembered (the sequence was odd, or the kernel has none) gets a sequence that never holds.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_buffer(ledger: *mut ThreadLedger, address: u64, sequence: u64) -> u64 {
    // SAFETY: callers pass the running thread's ledger.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return 0 };
    let sequence = sequence as u32;
    let mut search = Search { endpoint: u64::from(CODE_UNKNOWN), start: address, end: u64::MAX };
    // SAFETY: the callback has the helper's signature and `search` outlives the call. A failure (no mapping there, or
    // the map is being changed) leaves the endpoint unknown.
    unsafe {
        bpf_find_vma(Task::current().as_ptr().cast(), address, on_vma as *mut c_void, (&raw mut search).cast(), 0);
    }
    for i in (1..VMA_SLOTS).rev() {
        ledger.vma[i] = ledger.vma[i - 1];
    }
    let known = search.endpoint != u64::from(CODE_UNKNOWN);
    let lasting = known && offset!(mm_sequence) != SEQUENCE_NONE && sequence & 1 == 0
        || known && offset!(mm_sequence) == SEQUENCE_AT_UNLOCK;
    let (start, end) = if lasting { (search.start, search.end) } else { (u64::MAX, search.end) };
    ledger.vma[0] = VmaSlot { start, end, sequence, endpoint: search.endpoint as u32 };
    0
}

extern "C" fn on_vma(_task: *const c_void, vma: *const c_void, search: *mut Search) -> i64 {
    let vma = Known::new(vma);
    let flags: u64 = vma.load(offset!(vma_flags));
    let file = vma.follow(offset!(vma_file));
    let endpoint = if file.is_null() {
        Endpoint::User as u8
    } else {
        endpoint::of_mapped_file(file, flags & VM_SHARED != 0 || flags & VM_WRITE == 0)
    };
    let found =
        Search { endpoint: u64::from(endpoint), start: vma.load(offset!(vma_start)), end: vma.load(offset!(vma_end)) };
    // SAFETY: `search` is the structure that `find_buffer` passed.
    unsafe { search.write(found) };
    0
}
