//! Who a thread is, from its task.

use zc_common::record::{FLAG_GROUP_DEAD, Identity, ThreadLedger};

use crate::kernel::{self, number};
use crate::maps::offset;

/// A process: pid and start in ns since boot.
#[derive(Clone, Copy)]
pub struct Process {
    pub tgid: u32,
    pub start: u64,
}

/// The process that a task belongs to. Its start is the leader's, which a thread that executes a program takes over
/// (de_thread, fs/exec.c, v6.1).
#[inline(always)]
pub fn process_of(task: u64) -> Process {
    let leader = number(task + offset!(task_group_leader));
    Process { tgid: number(task + offset!(task_tgid)) as u32, start: number(leader + offset!(task_start_boottime)) }
}

/// The process that is a task's parent now.
#[inline(always)]
pub fn parent_of(task: u64) -> Process {
    process_of(number(task + offset!(task_real_parent)))
}

/// Notes the process that forked a thread's process.
#[inline(always)]
pub fn set_parent(ledger: &mut ThreadLedger, parent: Process) {
    ledger.identity.parent_tgid = parent.tgid;
    ledger.identity.parent_start = parent.start;
}

/// Fills in everything but the ledger's id and the parent.
#[inline(always)]
pub fn fill(identity: &mut Identity, task: u64) {
    let Process { tgid, start } = process_of(task);
    identity.process_start = start;
    identity.tgid = tgid;
    identity.tid = number(task + offset!(task_pid)) as u32;
    identity.cgroup = cgroup_of(task);
    identity.flags = if is_group_dead(task) { FLAG_GROUP_DEAD } else { 0 };
    let leader = number(task + offset!(task_group_leader));
    identity.comm = kernel::read::<[u8; 16]>(leader + offset!(task_comm)).unwrap_or([0; 16]);
}

/// Whether the last thread of the process is exiting: `do_exit` has counted it down before the tracepoint
/// (kernel/exit.c, v6.1).
#[inline(always)]
pub fn is_group_dead(task: u64) -> bool {
    number(number(task + offset!(task_signal)) + offset!(signal_live)) as u32 == 0
}

/// The id of the task's cgroup in the unified hierarchy.
#[inline(always)]
fn cgroup_of(task: u64) -> u64 {
    let cgroup = number(number(task + offset!(task_cgroups)) + offset!(css_set_dfl_cgrp));
    number(number(cgroup + offset!(cgroup_kn)) + offset!(kernfs_id))
}
