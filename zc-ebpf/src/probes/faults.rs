//! Page faults: those from user mode, each a switch to the kernel and one back, and pages that are copied when they are
//! written to (copy on write).

use core::ffi::c_void;

use zc_common::config::table_index;
use zc_common::path::{Endpoint, Mechanism};
use zc_common::record::{CELL_USER_FAULTS, FaultState, ThreadLedger};

use crate::account;
use crate::buffer;
use crate::kernel::{Known, Task};
use crate::maps::{self, TABLE, THREADS, offset};
use crate::slots;

// Bits of a fault's error code (arch/x86/include/asm/trap_pf.h, v6.1).
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
/// Those three.
const CODE: u64 = 7;

// Bits of an allocation's flags, which have not moved (include/linux/gfp_types.h, v6.1 to v6.18).
const HIGHMEM: u32 = 1 << 1;
const MOVABLE: u32 = 1 << 3;
const IO: u32 = 1 << 6;
const ZERO: u32 = 1 << 8;
/// The page will be written to through the page cache.
const WRITE_CACHE: u32 = 1 << 12;
/// Read-ahead's.
const NO_WARNING: u32 = 1 << 13;

/// Counts a fault from user mode, and notes it for what comes of it. Its registers lie where a system call's do: at the
/// top of the thread's stack (sync_regs, arch/x86/kernel/traps.c, v6.1 to v6.18).
#[inline(always)]
pub fn user(address: u64, regs: *const c_void, code: u64) {
    let stack = slots::stack_of(Known::new(regs));
    let state = FaultState { address, code: code & CODE };
    match slots::of_stack(stack) {
        Some(slot) if slot.stack == stack => {
            slot.ledger.fault = state;
            account::count(&mut slot.ledger, CELL_USER_FAULTS, 1, 0);
        }
        // A thread that has made no system call yet, or found no free slot; and our own.
        _ => {
            if let Some(ledger) = THREADS.get(Task::current()) {
                slots::located(ledger).fault = state;
            }
            account::count_current(CELL_USER_FAULTS, 1, 0);
        }
    }
}

/// Notes a fault of the kernel that writes to user memory, in the middle of a system call.
#[inline(always)]
pub fn kernel(address: u64, code: u64) {
    if code & WRITE == 0 {
        return;
    }
    if let Some(ledger) = ledger_of(Task::current()) {
        ledger.fault = FaultState { address, code: code & (PRESENT | WRITE) | ledger.system_calls << 8 };
    }
}

/// A page was allocated. If the running thread is in a fault that writes to a page that is there but must not be
/// written, the page will be a copy of that (wp_page_copy, mm/memory.c, v6.1 to v6.18: the last owner of a page, and
/// whoever writes to a shared mapping, get no page); so if it writes to a page of a private mapping of a file that is not
/// there yet (do_cow_fault). Only there is a page allocated that is not cleared, by these flags.
#[inline(always)]
pub fn allocated(order: u32, flags: u32) {
    const WANTED: u32 = HIGHMEM | MOVABLE | IO;
    const OTHERS: u32 = ZERO | WRITE_CACHE | NO_WARNING;
    if order != 0 || flags & (WANTED | OTHERS) != WANTED {
        return;
    }
    let task = Task::current();
    let Some(ledger) = ledger_of(task) else { return };
    let FaultState { address, code } = ledger.fault;
    if code & WRITE == 0 || !goes_on(task, ledger, code) {
        return;
    }
    if code & PRESENT == 0 && !buffer::is_private_file(task.at(), address) {
        return;
    }
    ledger.fault.code &= !WRITE;
    let cell = maps::entry(&TABLE, table_index(Mechanism::Mmap as u8, Endpoint::User as u8, Endpoint::User as u8));
    account::count(ledger, cell, 1, 4096);
}

/// Whether a fault that was noted is what the thread is at. In a fault from user mode the place of the system call's
/// number holds -1 (exc_page_fault and its kin, arch/x86/entry/entry_64.S, v6.1); one of the kernel belongs to a system
/// call that has not ended yet.
#[inline(always)]
fn goes_on(task: Task, ledger: &ThreadLedger, code: u64) -> bool {
    if code & USER == 0 {
        return code >> 8 == ledger.system_calls << 8 >> 8;
    }
    // SAFETY: the task is one that the verifier trusts.
    let regs = unsafe { aya_ebpf::helpers::generated::bpf_task_pt_regs(task.as_ptr().cast()) };
    Known::new(core::ptr::with_exposed_provenance(regs as usize)).load::<u32>(offset!(regs_number)) == u32::MAX
}

/// Marks the running thread's fault.
#[inline(always)]
pub fn mark(task: Task, mark: u64) {
    if let Some(ledger) = ledger_of(task) {
        ledger.fault.code |= mark;
    }
}

/// Takes a mark away; whether it was there.
#[inline(always)]
pub fn take(task: Task, mark: u64) -> bool {
    let Some(ledger) = ledger_of(task) else { return false };
    let was = ledger.fault.code & mark != 0;
    ledger.fault.code &= !mark;
    was
}

/// The running thread's ledger, if it has one.
#[inline(always)]
fn ledger_of(task: Task) -> Option<&'static mut ThreadLedger> {
    THREADS.get(task).filter(|thread| thread.folded == 0).map(slots::located)
}
