//! Page faults from user mode: each is a switch to the kernel and one back.

use core::ffi::c_void;

use zc_common::record::{CELL_USER_FAULTS, SharedKey};

use super::identity;
use crate::account;
use crate::kernel::{Known, Task};
use crate::maps::{THREADS, config};
use crate::slots;

/// Counts a fault. Its registers lie where a system call's do: at the top of the thread's stack (sync_regs,
/// arch/x86/kernel/traps.c, v6.1 to v6.18).
#[inline(always)]
pub fn user(regs: *const c_void) {
    let stack = slots::stack_of(Known::new(regs));
    match slots::of_stack(stack) {
        Some(slot) if slot.stack == stack => account::count(&mut slot.ledger, CELL_USER_FAULTS, 1, 0),
        _ => without_slot(),
    }
}

/// A thread that has made no system call yet, or found no free slot; and our own.
#[inline(always)]
fn without_slot() {
    let task = Task::current();
    if u64::from(task.tgid()) == config!(own_tgid) {
        return;
    }
    match THREADS.get(task) {
        Some(thread) => account::count(slots::located(thread), CELL_USER_FAULTS, 1, 0),
        None => {
            let process = identity::process_of(task.at());
            let cell = u32::from(CELL_USER_FAULTS);
            account::count_shared(&SharedKey { process_start: process.start, tgid: process.tgid, cell }, 1, 0);
        }
    }
}
