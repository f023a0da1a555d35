//! Slots: how a system call finds its thread's counters without a call of any helper.
//!
//! All that the hot hook is given is the address of the registers at the top of the thread's kernel stack. No two living
//! threads have the same, and a thread has it for life, so that a table by that address does. On processors that guard
//! returns, asking for the task and its storage instead costs more than all the rest of the hook.
//!
//! A thread claims its slot at its first system call and gives it back when it exits. Whom chance leaves without one
//! counts in its own storage; so do those that make no system call.

use aya_ebpf::helpers::generated::bpf_task_pt_regs;
use zc_common::record::{SLOTS as COUNT, Slot, ThreadLedger};

use crate::kernel::{Known, Task};
use crate::maps::{CALLS, SLOTS};

/// What tells a thread's kernel stack: where its registers are, seen from one of our own maps. The verifier makes no
/// number of a pointer otherwise; it allows the difference of two.
#[inline(always)]
pub fn stack_of(regs: Known) -> u64 {
    let mut stack = regs.at();
    // SAFETY: it only changes the register.
    unsafe {
        core::arch::asm!("{0} -= {1}", inout(reg) stack, in(reg) CALLS.as_ptr(), options(pure, nomem, nostack));
    }
    stack
}

/// The slot that a stack's thread may have claimed.
#[inline(always)]
pub fn of_stack(stack: u64) -> Option<&'static mut Slot> {
    at(number(stack))
}

/// The slot that a thread has claimed, found by its stack alone.
#[inline(always)]
pub fn of_task(task: Task) -> Option<&'static mut Slot> {
    // SAFETY: the task is one that the verifier trusts.
    let regs = unsafe { bpf_task_pt_regs(task.as_ptr().cast()) };
    let stack = stack_of(Known::new(core::ptr::with_exposed_provenance(regs as usize)));
    of_stack(stack).filter(|slot| slot.stack == stack)
}

/// The slot with a number.
#[inline(always)]
fn at(number: u32) -> Option<&'static mut Slot> {
    // SAFETY: only the thread that has claimed a slot writes there, and whoever reads it copes (docs/protocol.md).
    unsafe { SLOTS.get_ptr_mut(number)?.as_mut() }
}

/// Stacks lie 16 or 32 KiB apart, mostly in a row: the product spreads them over the table.
#[inline(always)]
fn number(stack: u64) -> u32 {
    const BITS: u32 = COUNT.trailing_zeros();
    ((stack >> 14) as u32).wrapping_mul(0x9E37_79B1) >> (32 - BITS)
}

/// Where a thread counts.
#[inline(always)]
pub fn located(thread: &mut ThreadLedger) -> &mut ThreadLedger {
    if thread.slot != 0 {
        if let Some(slot) = at((thread.slot - 1) as u32) {
            return &mut slot.ledger;
        }
    }
    thread
}

/// Lets the running thread count in a slot from now on, if the one of its stack is free. What it has counted so far goes
/// along.
#[inline(always)]
pub fn claim(thread: &mut ThreadLedger, task: Task, stack: u64) {
    let number = number(stack);
    let Some(slot) = at(number) else { return };
    if compare_exchange(&mut slot.stack, 0, stack) != 0 {
        return;
    }
    slot.task = task.at();
    copy(&mut slot.ledger, thread);
    // Readers look for the counters where this says: not before they are there.
    exchange(&mut thread.slot, u64::from(number) + 1);
}

/// Gives an exiting thread's slot back.
#[inline(always)]
pub fn release(thread: &mut ThreadLedger) {
    if thread.slot != 0 {
        if let Some(slot) = at((thread.slot - 1) as u32) {
            free(slot);
        }
    }
}

/// Leaves a slot to whoever claims it next.
#[inline(always)]
pub fn free(slot: &mut Slot) {
    slot.task = 0;
    exchange(&mut slot.stack, 0);
}

/// Copies word by word: LLVM would call a function that is not there.
#[inline(always)]
fn copy(to: &mut ThreadLedger, from: &ThreadLedger) {
    const WORDS: usize = size_of::<ThreadLedger>() / 8;
    let (to, from) = (core::ptr::from_mut(to).cast::<u64>(), core::ptr::from_ref(from).cast::<u64>());
    for i in 0..WORDS {
        // SAFETY: both are so many words long.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
}

/// Sets a word if it is as expected; returns what it was.
#[inline(always)]
pub fn compare_exchange(word: &mut u64, expected: u64, new: u64) -> u64 {
    let was;
    // SAFETY: a live word of a map's element.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) core::ptr::from_mut(word),
            new = in(reg) new,
            inlateout("r0") expected => was,
        );
    }
    was
}

/// Sets a word after everything written before it; returns what it was.
#[inline(always)]
pub fn exchange(word: &mut u64, new: u64) -> u64 {
    let was;
    // SAFETY: a live word of a map's element.
    unsafe {
        core::arch::asm!(
            "{new} = xchg_64({word} + 0, {new})",
            word = in(reg) core::ptr::from_mut(word),
            new = inout(reg) new => was,
        );
    }
    was
}
