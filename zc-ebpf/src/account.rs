//! Counting: into the thread's own ledger without atomics, into the shared one with them.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use zc_common::config::{LEDGERS_SHARED, LEDGERS_THREADS};
use zc_common::passed;
use zc_common::record::{
    CELL_CALLS, CELL_FREE, CELLS, Cell, Fallback, SharedKey, THREAD_CELLS, ThreadCells, ThreadLedger,
};

use crate::kernel::Task;
use crate::maps::{EXITED, FALLBACK, LAST_ID, SCRATCH, SHARED, THREADS, config};
use crate::probes::{identity, usage};
use crate::slots;

/// Nothing is counted: the call is our own.
pub const LEAVE_OUT: u64 = 0;
/// The running thread has a ledger.
pub const COUNT: u64 = 1;
/// It can't have one now (no memory, its storage is locked, or it exits and was folded): the scratch ledger is to be used, and moved.
pub const COUNT_AND_MOVE: u64 = 2;

/// Calls after which a thread that found its slot taken tries again.
const PATIENCE: u64 = 1024;

/// Sees to it that the running thread has a ledger, and a slot if its stack's is free; no slot if the stack is not
/// known (0). Returns what is to be done.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn prepare(stack: u64) -> u64 {
    let task = Task::current();
    if u64::from(task.tgid()) == config!(own_tgid) {
        return LEAVE_OUT;
    }
    if config!(ledgers) == LEDGERS_SHARED {
        return COUNT_AND_MOVE;
    }
    let Some(thread) = THREADS.get_or_create(task) else { return COUNT_AND_MOVE };
    if thread.folded != 0 {
        return COUNT_AND_MOVE;
    }
    if thread.identity.id == 0 {
        identity::set_parent(thread, identity::parent_of(task.at()));
        thread.identity.id = new_id();
    }
    if stack != 0 && config!(ledgers) != LEDGERS_THREADS && thread.slot == 0 && thread.system_calls % PATIENCE == 0 {
        // For the case that nobody can fill it in later (see `evict`).
        identity::fill(&mut thread.identity, task.at());
        slots::claim(thread, task, stack);
    }
    COUNT
}

/// Where the running thread counts: its slot, its storage, or if it has neither the CPU's scratch ledger. So if what it
/// has was folded: a thread completes io_uring requests until the very end of its exit (exit_task_work, kernel/exit.c,
/// v6.1 to v6.18), and its slot may be another's by then.
#[inline(always)]
pub fn ledger_of(task: Task) -> Option<&'static mut ThreadLedger> {
    match THREADS.get(task).filter(|thread| thread.folded == 0) {
        Some(thread) => Some(slots::located(thread)),
        None => scratch(),
    }
}

#[inline(always)]
fn scratch() -> Option<&'static mut ThreadLedger> {
    // SAFETY: per-CPU, and the programs that use it run with preemption off.
    unsafe { SCRATCH.get_ptr_mut(0)?.as_mut() }
}

/// Moves what one system call has counted in the scratch ledger to the shared one, where it is its process's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn move_scratch() -> u64 {
    let Some(scratch) = scratch() else { return 0 };
    let process = identity::process_of(Task::current().at());
    let mut key = SharedKey { process_start: process.start, tgid: process.tgid, cell: u32::from(CELL_CALLS) };
    count_shared(&key, scratch.system_calls, 0);
    if let Some(fallback) = fallback() {
        fallback.without_ledger += scratch.system_calls;
    }
    scratch.system_calls = 0;
    scratch.passed_at = 0;
    // What it remembers is another process's.
    for vma in &mut scratch.vma {
        vma.end = 0;
    }
    for i in 0..THREAD_CELLS {
        let owner = &mut scratch.counters.owners[i];
        if *owner != CELL_FREE {
            key.cell = u32::from(*owner);
            *owner = CELL_FREE;
            let cell = &mut scratch.counters.cells[i];
            count_shared(&key, cell.operations, cell.bytes);
            *cell = Cell { operations: 0, bytes: 0 };
        }
    }
    for i in 0..passed::THREAD_CELLS {
        let owner = &mut scratch.counters.passed_owners[i];
        if *owner != 0 {
            key.cell = u32::from(*owner);
            *owner = 0;
            let cell = &mut scratch.counters.passed[i];
            count_shared(&key, cell.operations, cell.bytes);
            *cell = Cell { operations: 0, bytes: 0 };
        }
    }
    0
}

/// A number that no other thread ledger has.
#[inline(always)]
pub fn new_id() -> u64 {
    match LAST_ID.get_ptr_mut(0) {
        Some(last) => fetch_add(last, 1) + 1,
        None => 0,
    }
}

/// Counts on a cell of the running thread.
#[inline(always)]
pub fn count(ledger: &mut ThreadLedger, cell: u8, operations: u64, bytes: u64) {
    ledger.last_cell = u64::from(cell);
    ledger.told.operations += operations;
    ledger.told.bytes += bytes;
    let home = cell as usize & (THREAD_CELLS - 1);
    if ledger.counters.owners[home] == cell {
        let cell = &mut ledger.counters.cells[home];
        cell.operations += operations;
        cell.bytes += bytes;
        return;
    }
    count_elsewhere(ledger, u64::from(cell), operations, bytes);
}

/// Counts on a cell of the running thread, or of its process if the thread has no ledger; nothing of ourselves.
#[inline(always)]
pub fn count_current(cell: u8, operations: u64, bytes: u64) {
    let task = Task::current();
    if u64::from(task.tgid()) == config!(own_tgid) {
        return;
    }
    match THREADS.get(task).filter(|thread| thread.folded == 0) {
        Some(thread) => count(slots::located(thread), cell, operations, bytes),
        None => {
            let process = identity::process_of(task.at());
            let cell = u32::from(cell);
            count_shared(&SharedKey { process_start: process.start, tgid: process.tgid, cell }, operations, bytes);
        }
    }
}

/// The cell is not at its home place: looks on, takes a free place, or goes to the shared ledger.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_elsewhere(ledger: *mut ThreadLedger, cell: u64, operations: u64, bytes: u64) -> u64 {
    // SAFETY: callers pass the running thread's ledger.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return 0 };
    for i in 0..THREAD_CELLS {
        let place = (cell as usize + i) & (THREAD_CELLS - 1);
        let owner = &mut ledger.counters.owners[place];
        if *owner == CELL_FREE {
            *owner = cell as u8;
        }
        if *owner == cell as u8 {
            let cell = &mut ledger.counters.cells[place];
            cell.operations += operations;
            cell.bytes += bytes;
            return 0;
        }
    }
    let process = identity::process_of(Task::current().at());
    let key = SharedKey { process_start: process.start, tgid: process.tgid, cell: cell as u32 };
    count_shared(&key, operations, bytes);
    0
}

/// A new cell. Not made in place: the compiler would call a function for it, and the deepest call stack has no frame
/// left.
static EMPTY: Cell = Cell { operations: 0, bytes: 0 };

/// Counts for a process outside its threads' ledgers; where the map is full, in the fallback.
#[inline(always)]
pub fn count_shared(key: &SharedKey, operations: u64, bytes: u64) {
    let mut found = SHARED.get_ptr_mut(key);
    if found.is_none() {
        // It is another CPU's by now if this fails with EEXIST.
        let _ = SHARED.insert(key, &EMPTY, u64::from(BPF_NOEXIST));
        found = SHARED.get_ptr_mut(key);
    }
    match found {
        Some(cell) => {
            // SAFETY: a live element of the map.
            let (at_operations, at_bytes) = unsafe { (&raw mut (*cell).operations, &raw mut (*cell).bytes) };
            atomic_add(at_operations, operations);
            atomic_add(at_bytes, bytes);
        }
        None => count_fallback(key.cell, operations, bytes),
    }
}

/// Adds to a counter in a map.
#[inline(always)]
pub fn atomic_add(counter: *mut u64, n: u64) {
    // SAFETY: callers pass a live, aligned counter of a map's element.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, n) };
}

/// Adds to a counter in a map and returns what it was. Not relaxed: for that LLVM 22 emits an addition without
/// BPF_FETCH, and the result would be the addend.
#[inline(always)]
fn fetch_add(counter: *mut u64, n: u64) -> u64 {
    // SAFETY: callers pass a live, aligned counter of a map's element.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, n) }
}

/// The CPU's fallback.
#[inline(always)]
pub fn fallback() -> Option<&'static mut Fallback> {
    // SAFETY: per-CPU, and the programs that use it run with preemption off.
    unsafe { FALLBACK.get_ptr_mut(0)?.as_mut() }
}

/// Counts what no process has a part in, or none that can be told.
#[inline(always)]
pub fn count_fallback(cell: u32, operations: u64, bytes: u64) {
    if let Some(fallback) = fallback() {
        if cell == u32::from(CELL_CALLS) {
            fallback.system_calls += operations;
            return;
        }
        let cell = &mut fallback.cells[cell as usize & (CELLS - 1)];
        cell.operations += operations;
        cell.bytes += bytes;
    }
}

/// Moves an exiting thread's ledger to the map of exited threads; where that is full, into the fallback.
///
/// The order matters to the reader (docs/protocol.md): first the copy, then the mark, then the slot.
#[inline(always)]
pub fn fold(thread: &mut ThreadLedger, task: Task) {
    let identity = thread.identity;
    let counted = slots::located(thread);
    counted.identity = identity;
    usage::fill(&mut counted.usage, task);
    hand_over(counted);
    slots::exchange(&mut thread.folded, 1);
    slots::release(thread);
}

/// The same for an exiting thread whose storage can't be had at this moment (before 6.2 it is locked while another task
/// of this CPU is held up in it): what its slot has.
#[inline(always)]
pub fn fold_slot(task: Task) {
    let Some(slot) = slots::of_task(task) else { return };
    identity::fill(&mut slot.ledger.identity, task.at());
    usage::fill(&mut slot.ledger.usage, task);
    hand_over(&mut slot.ledger);
    slots::free(slot);
}

/// Empties the slot of a stack that a new thread is about to use, if the one before has left it behind: its exit was
/// missed, and whoever came after would count in its name.
#[inline(always)]
pub fn evict(new: Task) {
    let Some(slot) = slots::of_task(new) else { return };
    hand_over(&mut slot.ledger);
    slots::free(slot);
    if let Some(fallback) = fallback() {
        fallback.evicted += 1;
    }
}

/// Puts a ledger where the agent fetches it. Inlined: in a function of its own the ledger would be plain memory to the
/// verifier, which 6.1 takes for no value of a map.
#[inline(always)]
fn hand_over(ledger: &mut ThreadLedger) {
    if EXITED.insert(ledger.identity.id, &*ledger, 0).is_err() {
        fold_into_fallback(ledger);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fold_into_fallback(ledger: *mut ThreadLedger) -> u64 {
    // SAFETY: callers pass a ledger in a map or in a task's storage.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return 0 };
    let Some(fallback) = fallback() else { return 0 };
    fallback.system_calls += ledger.system_calls;
    fallback.threads += 1;
    let ThreadCells { owners, cells, passed_owners, passed } = &ledger.counters;
    for i in 0..THREAD_CELLS {
        let sum = &mut fallback.cells[owners[i] as usize];
        sum.operations += cells[i].operations;
        sum.bytes += cells[i].bytes;
    }
    for i in 0..passed::THREAD_CELLS {
        let sum = &mut fallback.cells[passed_owners[i] as usize & (CELLS - 1)];
        sum.operations += passed[i].operations;
        sum.bytes += passed[i].bytes;
    }
    0
}
