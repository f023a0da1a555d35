//! Who a thread is, from its task.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use zc_common::record::{FLAG_GROUP_DEAD, Identity, ThreadLedger};

use crate::kernel::{Known, Task};
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
pub fn process_of(task: Task) -> Process {
    Process { tgid: task.tgid(), start: task.leader().start() }
}

/// The process that is a task's parent now.
#[inline(always)]
pub fn parent_of(task: Task) -> Process {
    process_of(Task::new(task.known().follow(offset!(task_real_parent)).address()))
}

/// Notes the process that forked a thread's process.
#[inline(always)]
pub fn set_parent(ledger: &mut ThreadLedger, parent: Process) {
    ledger.identity.parent_tgid = parent.tgid;
    ledger.identity.parent_start = parent.start;
}

/// Fills in everything but the ledger's id and the parent.
#[inline(always)]
pub fn fill(identity: &mut Identity, task: Task) {
    let Process { tgid, start } = process_of(task);
    identity.process_start = start;
    identity.tgid = tgid;
    identity.tid = task.known().load(offset!(task_pid));
    identity.cgroup = cgroup_of(task.known());
    identity.flags = if is_group_dead(task.known()) { FLAG_GROUP_DEAD } else { 0 };
    let comm = task.leader().known().field(offset!(task_comm));
    // SAFETY: sixteen bytes are written, or zeroed.
    unsafe {
        bpf_probe_read_kernel(identity.comm.as_mut_ptr().cast(), 16, comm as *const core::ffi::c_void);
    }
}

/// Whether the last thread of the process is exiting: `do_exit` has counted it down before the tracepoint
/// (kernel/exit.c, v6.1).
#[inline(always)]
pub fn is_group_dead(task: Known) -> bool {
    task.follow(offset!(task_signal)).load::<u32>(offset!(signal_live)) == 0
}

/// The id of the task's cgroup in the unified hierarchy.
#[inline(always)]
fn cgroup_of(task: Known) -> u64 {
    task.follow(offset!(task_cgroups))
        .follow(offset!(css_set_dfl_cgrp))
        .follow(offset!(cgroup_kn))
        .load(offset!(kernfs_id))
}
