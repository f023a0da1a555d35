//! The one hot hook: every system call's end, with its arguments still in the registers.

use core::ffi::c_void;

use zc_common::config::Call;
use zc_common::record::{Slot, ThreadLedger};

use crate::account::{self, COUNT_AND_MOVE, LEAVE_OUT};
use crate::classify::{self, Moved};
use crate::kernel::{At, Known, Task};
use crate::maps::{self, CALLS, COMPAT_CALLS, config, offset};
use crate::slots;

/// Counts the call, and what it moved.
#[inline(always)]
pub fn run(regs: *const c_void, returned: i64) {
    let regs = Known::new(regs);
    let stack = slots::stack_of(regs);
    match slots::of_stack(stack) {
        Some(slot) if slot.stack == stack => in_slot(slot, regs, returned),
        _ => without_slot(regs, stack, returned),
    }
}

/// Nearly every call: no helper is called for one that moves nothing, nor for a read or write of a remembered buffer.
#[inline(always)]
fn in_slot(slot: &mut Slot, regs: Known, returned: i64) {
    let task = Task::at_address(slot.task);
    let ledger = &mut slot.ledger;
    ledger.system_calls += 1;
    let Some((call, compat)) = call_of(task, regs, returned) else { return };
    if classify::is_plain(call) && !compat {
        classify::plain(task, ledger, call, regs, returned as u64);
    } else {
        classify::count_call(ledger, &Moved::new(regs, call, compat, returned as u64));
    }
}

/// A thread's first call, our own calls, and threads that found no free slot.
#[inline(always)]
fn without_slot(regs: Known, stack: u64, returned: i64) {
    let done = account::prepare(stack);
    if done == LEAVE_OUT {
        return;
    }
    let task = Task::current();
    let Some(ledger) = account::ledger_of(task) else { return };
    ledger.system_calls += 1;
    count(ledger, task, regs, returned);
    if done == COUNT_AND_MOVE {
        account::move_scratch();
    }
}

#[inline(always)]
fn count(ledger: &mut ThreadLedger, task: Task, regs: Known, returned: i64) {
    if let Some((call, compat)) = call_of(task.untrusted(), regs, returned) {
        classify::count_call(ledger, &Moved::new(regs, call, compat, returned as u64));
    }
}

/// Which call it was that may have moved something, and whether a 32-bit one.
#[inline(always)]
fn call_of(task: At, regs: Known, returned: i64) -> Option<(u8, bool)> {
    const NONE: u8 = Call::None as u8;
    // Failed calls, restarted ones (-ERESTARTSYS) included, moved nothing.
    if returned < 0 {
        return None;
    }
    // rt_sigreturn leaves -1, which no table has. 32 bits are all that the kernel looks at (do_syscall_64,
    // arch/x86/entry/common.c, v6.1) or has (pt_regs, arch/arm64/include/asm/ptrace.h, v6.1).
    let number = regs.load::<u32>(offset!(regs_number));
    if number >= CALLS.len() as u32 {
        return None;
    }
    let native = maps::entry(&CALLS, number as usize);
    let compat = maps::entry(&COMPAT_CALLS, number as usize);
    if native == NONE && compat == NONE {
        return None;
    }
    let is_compat = task.load::<u32>(offset!(task_status)) & config!(offsets.compat_mask) as u32 != 0;
    let call = if is_compat { compat } else { native };
    if call == NONE { None } else { Some((call, is_compat)) }
}
