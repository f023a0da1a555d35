//! What a user buffer is: anonymous memory or a mapping of a file.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_find_vma;
use zc_common::config::{CODE_UNKNOWN, SEQUENCE_AT_UNLOCK, SEQUENCE_NONE, SEQUENCE_ODD_WHILE_LOCKED};
use zc_common::path::Endpoint;
use zc_common::record::{ThreadLedger, VMA_SLOTS, VmaSlot};

use crate::endpoint;
use crate::kernel::{At, Known, Task, number};
use crate::maps::{config, offset};

// include/linux/mm.h, v6.1.
const VM_WRITE: u64 = 2;
const VM_SHARED: u64 = 8;

const EBUSY: i64 = 16;

/// What lies at a user address, and up to where the same.
#[derive(Clone, Copy)]
pub struct Found {
    pub endpoint: u8,
    pub end: u64,
}

/// What the thread remembers of a user address.
#[inline(always)]
pub fn remembered(ledger: &ThreadLedger, sequence: u32, address: u64) -> Option<Found> {
    for slot in &ledger.vma {
        if address >= slot.start && address < slot.end && still_holds(slot.sequence, sequence) {
            return Some(Found { endpoint: slot.endpoint as u8, end: slot.end });
        }
    }
    None
}

/// Looks a user address up, first among the mappings that the thread remembers, in the running task's memory map.
///
/// The walk is a function of its own, and both give their result in one word, for the stack's sake: all frames of a
/// program share 512 bytes before v6.13, and for iovecs of several messages these are the seventh and eighth.
#[inline(always)]
pub fn look_up(ledger: &mut ThreadLedger, address: u64) -> Found {
    /// Where a writer changes nodes in place (before v6.4 always), a walk may come by in the middle of that.
    const WALKS: usize = 8;
    let mut found = find_buffer(ledger, address);
    if found == BUSY {
        for _ in 0..WALKS {
            found = find_unlocked(memory_map(Task::current().at()), address);
            if found as u8 != CODE_UNKNOWN {
                break;
            }
        }
    }
    Found::unpack(found)
}

/// The memory map was being changed: no address lies in memory that ends at 0.
const BUSY: u64 = 0;

impl Found {
    /// Nothing is known of what lies there, however long it is.
    const UNKNOWN: Self = Self { endpoint: CODE_UNKNOWN, end: u64::MAX >> 8 };

    #[inline(always)]
    fn pack(self) -> u64 {
        self.end << 8 | u64::from(self.endpoint)
    }

    #[inline(always)]
    fn unpack(packed: u64) -> Self {
        Self { endpoint: packed as u8, end: packed >> 8 }
    }
}

/// The change sequence of the running task's memory map.
#[inline(always)]
pub fn sequence(task: At) -> u32 {
    if offset!(mm_sequence) == SEQUENCE_NONE {
        return 0;
    }
    let mm: u64 = task.load(offset!(task_mm));
    if mm == 0 { 0 } else { At::new(mm, config!(types.mm)).load(offset!(mm_lock_seq)) }
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

/// [`look_up`] as a function of its own: what lies there.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn endpoint_at(ledger: *mut ThreadLedger, address: u64) -> u64 {
    // SAFETY: callers pass the running thread's ledger.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return u64::from(CODE_UNKNOWN) };
    u64::from(look_up(ledger, address).endpoint)
}

/// Finds the mapping among the remembered ones, or in the kernel, and remembers that in the first slot; the one there
/// moves on. Returns it packed, or [`BUSY`].
///
/// A remembered mapping holds as long as the memory map's change sequence has not moved on. While a writer holds the
/// map (odd sequence, from v6.14; unchanged before) the mapping is what it was before that writer: the look-up proper
/// would be refused then.
#[inline(always)]
fn find_buffer(ledger: &mut ThreadLedger, address: u64) -> u64 {
    let sequence = sequence(Task::current().untrusted());
    if let Some(found) = remembered(ledger, sequence, address) {
        return found.pack();
    }
    let mut search = Search { endpoint: u64::from(CODE_UNKNOWN), start: address, end: Found::UNKNOWN.end };
    // SAFETY: the callback has the helper's signature and `search` outlives the call. If there is no mapping the
    // endpoint stays unknown.
    let failed = unsafe {
        bpf_find_vma(Task::current().as_ptr().cast(), address, on_vma as *mut c_void, (&raw mut search).cast(), 0)
    };
    if failed == -EBUSY {
        return BUSY;
    }
    let known = failed == 0 && search.endpoint != u64::from(CODE_UNKNOWN);
    let lasts = match offset!(mm_sequence) {
        SEQUENCE_ODD_WHILE_LOCKED => sequence & 1 == 0,
        SEQUENCE_AT_UNLOCK => true,
        _ => false,
    };
    if known && lasts {
        for i in (1..VMA_SLOTS).rev() {
            ledger.vma[i] = ledger.vma[i - 1];
        }
        let Search { start, end, endpoint } = search;
        ledger.vma[0] = VmaSlot { start, end, sequence, endpoint: endpoint as u32 };
    }
    Found { endpoint: search.endpoint as u8, end: search.end }.pack()
}

extern "C" fn on_vma(_task: *const c_void, vma: *const c_void, search: *mut Search) -> i64 {
    // SAFETY: `search` is the structure that `find` passed.
    unsafe { search.write(describe(Known::new(vma).at())) };
    0
}

/// What a mapping is, and from where to where.
#[inline(always)]
fn describe(vma: u64) -> Search {
    Search {
        endpoint: u64::from(of_vma(vma)),
        start: number(vma + offset!(vma_start)),
        end: number(vma + offset!(vma_end)),
    }
}

/// What a mapping is.
#[inline(always)]
fn of_vma(vma: u64) -> u8 {
    let file = number(vma + offset!(vma_file));
    if file == 0 {
        return Endpoint::User as u8;
    }
    let flags = number(vma + offset!(vma_flags));
    endpoint::of_mapped_file(file, flags & VM_SHARED != 0 || flags & VM_WRITE == 0)
}

/// Levels of a maple tree that are walked: five hold more mappings than a process may have.
const LEVELS: usize = 5;
/// Pivots of a leaf or range node; allocation-range nodes have fewer (include/linux/maple_tree.h, v6.1 to v6.18).
const RANGE_PIVOTS: usize = 15;
const ARANGE_PIVOTS: usize = 9;
/// Types of maple nodes, in bits 3 to 6 of a node's pointer (same file, and mte_node_type).
const MAPLE_LEAF_64: u64 = 1;
const MAPLE_ARANGE_64: u64 = 3;

/// A task's memory map; 0 if it has none (any more).
#[inline(always)]
fn memory_map(task: u64) -> u64 {
    number(task + offset!(task_mm))
}

/// What lies at an address of a task that does not run now.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn of_task(task: u64, address: u64) -> u64 {
    let mut mm = memory_map(task);
    if mm == 0 {
        // The thread has exited, and its process has not.
        mm = memory_map(number(task + offset!(task_group_leader)));
    }
    if mm == 0 {
        return u64::from(CODE_UNKNOWN);
    }
    u64::from(Found::unpack(find_unlocked(mm, address)).endpoint)
}

/// Finds a mapping while a writer holds the memory map, as the page-fault path does it: by walking the tree under RCU,
/// which the program runs under. Returns it packed. What is found must be of this memory map and hold the address; a walk that went
/// astray because the tree changed under it finds nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_unlocked(mm: u64, address: u64) -> u64 {
    let vma = vma_at(mm, address);
    if vma == 0 {
        return Found::UNKNOWN.pack();
    }
    let Search { endpoint, end, .. } = describe(vma);
    Found { endpoint: endpoint as u8, end }.pack()
}

/// Whether a private, writable mapping of a file lies at an address of the running task.
#[inline(always)]
pub fn is_private_file(task: u64, address: u64) -> bool {
    let vma = vma_at(memory_map(task), address);
    let flags = number(vma + offset!(vma_flags));
    vma != 0 && number(vma + offset!(vma_file)) != 0 && flags & (VM_SHARED | VM_WRITE) == VM_WRITE
}

/// The mapping that holds an address, as [`find_unlocked`] finds it; 0 if none is found.
#[inline(always)]
fn vma_at(mm: u64, address: u64) -> u64 {
    let mut entry = number(mm + offset!(mm_tree_root));
    for _ in 0..LEVELS {
        let (node, kind) = (entry & !0xff, entry >> 3 & 0xf);
        entry = slot(node, kind, address);
        if kind <= MAPLE_LEAF_64 {
            break;
        }
    }
    let vma = entry;
    let holds = number(vma + offset!(vma_mm)) == mm
        && number(vma + offset!(vma_start)) <= address
        && address < number(vma + offset!(vma_end));
    if holds { vma } else { 0 }
}

/// The entry of a maple node for an index. A pivot is the last index of its slot; none is given for the last slot. One
/// pivot is read at a time: before v6.13 all frames of a program share 512 bytes of stack, and this is the deepest.
#[inline(always)]
fn slot(node: u64, kind: u64, index: u64) -> u64 {
    let (pivots_at, slots_at, count) = if kind == MAPLE_ARANGE_64 {
        (offset!(maple_arange_pivot), offset!(maple_arange_slot), ARANGE_PIVOTS)
    } else {
        (offset!(maple_range_pivot), offset!(maple_range_slot), RANGE_PIVOTS)
    };
    let mut at = 0;
    while at < count {
        let pivot = number(node + pivots_at + at as u64 * 8);
        if pivot == 0 || index <= pivot {
            break;
        }
        at += 1;
    }
    number(node + slots_at + at as u64 * 8)
}
