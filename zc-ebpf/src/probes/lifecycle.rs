//! fork, exec and exit: who descends from whom, what it runs, and the fold of its threads' ledgers.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use zc_common::config::{LEDGERS_SHARED, LEDGERS_UNFOLDED};
use zc_common::record::{EVENT_EXEC, EVENT_EXIT, EVENT_FORK, ExecEvent, LifecycleEvent};

use super::identity;
use crate::account;
use crate::kernel::{Known, Task};
use crate::maps::{EVENTS, THREADS, config, offset};
use crate::slots;

/// A task was made: its ledger is, too, with the process that forked it, so that the tree of descendants needs no
/// event that could be lost.
#[inline(always)]
pub fn fork(parent: *const c_void, child: *const c_void) {
    let (parent, child) = (Task::new(parent), Task::new(child));
    let forked_by = identity::process_of(parent.at());
    let is_thread = child.tgid() == forked_by.tgid;
    account::evict(child);
    let own_ledger = config!(ledgers) != LEDGERS_SHARED;
    if let Some(ledger) = own_ledger.then(|| THREADS.get_or_create(child)).flatten() {
        let origin = if is_thread { identity::parent_of(child.at()) } else { forked_by };
        identity::set_parent(ledger, origin);
        ledger.identity.id = account::new_id();
    }
    if !is_thread {
        send(child, EVENT_FORK, forked_by);
    }
}

/// A process executes a program.
#[inline(always)]
pub fn exec(task: *const c_void, binprm: *const c_void) {
    let task = Task::new(task);
    if let Some(ledger) = THREADS.get(task) {
        // Of the memory map that is gone; the new one's sequence may happen to be the same.
        for vma in &mut slots::located(ledger).vma {
            vma.end = 0;
        }
    }
    send_exec(task, Known::new(binprm).load(offset!(binprm_filename)));
}

/// A thread exits.
#[inline(always)]
pub fn exit(task: *const c_void) {
    let task = Task::new(task);
    if u64::from(task.tgid()) == config!(own_tgid) {
        return;
    }
    match THREADS.get(task) {
        Some(ledger) if config!(ledgers) == LEDGERS_UNFOLDED && ledger.slot != 0 => {}
        Some(ledger) => {
            identity::fill(&mut ledger.identity, task.at());
            account::fold(ledger, task);
        }
        None => account::fold_slot(task),
    }
    if identity::is_group_dead(task.at()) {
        send(task, EVENT_EXIT, origin(task));
    }
}

/// The process that forked a task's process. Its parent by now may be another: orphans are adopted.
#[inline(always)]
fn origin(task: Task) -> identity::Process {
    match THREADS.get(task) {
        Some(ledger) => identity::Process { tgid: ledger.identity.parent_tgid, start: ledger.identity.parent_start },
        None => identity::parent_of(task.at()),
    }
}

/// Sends a fork or exit, or counts it as lost.
#[inline(always)]
fn send(task: Task, kind: u32, parent: identity::Process) {
    let Some(mut entry) = EVENTS.reserve(0) else { return count_lost() };
    // SAFETY: the entry has the event's size.
    describe(unsafe { &mut *entry.as_mut_ptr() }, task, kind, parent);
    entry.submit(0);
}

/// Sends the execution of a program, or counts it as lost.
#[inline(always)]
fn send_exec(task: Task, filename: u64) {
    let Some(mut entry) = EVENTS.reserve_untyped::<ExecEvent>(0) else { return count_lost() };
    let exec: *mut ExecEvent = entry.as_mut_ptr();
    // SAFETY: the entry has the event's size.
    unsafe {
        describe(&mut (*exec).event, task, EVENT_EXEC, origin(task));
        let into = (&raw mut (*exec).filename).cast::<c_void>();
        let read = bpf_probe_read_kernel_str(into, 256, filename as *const c_void);
        (*exec).event.filename_len = if read > 0 { read as u32 - 1 } else { 0 };
    }
    entry.submit(0);
}

/// Writes every field of an event.
#[inline(always)]
fn describe(event: &mut LifecycleEvent, task: Task, kind: u32, parent: identity::Process) {
    event.kind = kind;
    event.filename_len = 0;
    event.identity.id = 0;
    event.identity.parent_tgid = parent.tgid;
    event.identity.parent_start = parent.start;
    identity::fill(&mut event.identity, task.at());
}

#[inline(always)]
fn count_lost() {
    if let Some(fallback) = account::fallback() {
        fallback.events_lost += 1;
    }
}
