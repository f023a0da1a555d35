//! What the kernel counts for each task by itself: context switches and page faults. Reading it costs nothing when they
//! happen.

use zc_common::record::{SharedKey, Usage};

use super::identity;
use crate::kernel::{Task, number};
use crate::maps::{TOTALS, config, offset};

/// `PF_EXITING` (include/linux/sched.h, v6.1).
const PF_EXITING: u32 = 0x0000_0004;

/// Reads a task's.
#[inline(always)]
pub fn fill(usage: &mut Usage, task: Task) {
    let task = task.known();
    usage.voluntary = task.load(offset!(task_nvcsw));
    usage.involuntary = task.load(offset!(task_nivcsw));
    usage.minor_faults = task.load(offset!(task_min_flt));
    usage.major_faults = task.load(offset!(task_maj_flt));
}

/// The running task sends a signal. If it is one of the last things that the last thread of a process does
/// (exit_notify, kernel/exit.c, v6.1 to v6.18: it tells the parent), the process's totals are noted as wait4(2) will
/// report them: between `sched_process_exit` and here a task may have waited while its memory and files were given up,
/// and dead threads' counters are summed by now. What is to come is the leader's last switch.
#[inline(always)]
pub fn signal_sent() {
    let task = Task::current();
    if task.known().load::<u32>(offset!(task_flags)) & PF_EXITING == 0
        || u64::from(task.tgid()) == config!(own_tgid)
        || !identity::is_group_dead(task.at())
    {
        return;
    }
    let leader = number(task.at() + offset!(task_group_leader));
    let signal = number(task.at() + offset!(task_signal));
    let process = identity::process_of(task.at());
    let key = SharedKey { process_start: process.start, tgid: process.tgid, cell: 0 };
    let last_switch = u64::from(leader == task.at());
    let total = Usage {
        voluntary: number(leader + offset!(task_nvcsw)) + number(signal + offset!(signal_nvcsw)) + last_switch,
        involuntary: number(leader + offset!(task_nivcsw)) + number(signal + offset!(signal_nivcsw)),
        minor_faults: number(leader + offset!(task_min_flt)) + number(signal + offset!(signal_min_flt)),
        major_faults: number(leader + offset!(task_maj_flt)) + number(signal + offset!(signal_maj_flt)),
    };
    // Where there is no room, what was read at the threads' exits stands.
    let _ = TOTALS.insert(&key, &total, 0);
}
