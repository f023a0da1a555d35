//! The one hot hook: every system call's end, with its arguments still in the registers.

use core::ffi::c_void;

use zc_common::config::Call;

use crate::account;
use crate::classify::{self, Arguments};
use crate::kernel::{Known, Task};
use crate::maps::{self, CALLS, COMPAT_CALLS, config, offset};

/// Counts the call, and what it moved.
#[inline(always)]
pub fn run(regs: *const c_void, returned: i64) {
    let task = Task::current();
    if u64::from(task.tgid()) == config!(own_tgid) {
        return;
    }
    let Some(ledger) = account::ledger_of(task) else { return };
    ledger.system_calls += 1;
    // Failed calls, restarted ones (-ERESTARTSYS) included, moved nothing.
    if returned < 0 {
        return;
    }
    let regs = Known::new(regs);
    let compat = task.known().load::<u32>(offset!(task_status)) & config!(offsets.compat_mask) as u32 != 0;
    // rt_sigreturn leaves -1, which no table has.
    let number = regs.load::<u64>(offset!(regs_number));
    if number >= CALLS.len() as u64 {
        return;
    }
    let call = maps::entry(if compat { &COMPAT_CALLS } else { &CALLS }, number as usize);
    if call == Call::None as u8 {
        return;
    }
    classify::call(task, ledger, call, &Arguments::new(regs, compat), returned as u64);
}
