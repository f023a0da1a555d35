//! Counting: into the thread's own ledger without atomics, into the shared one with them.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use zc_common::record::{CELL_FREE, Cell, Fallback, SharedKey, THREAD_CELLS, ThreadCells, ThreadLedger};

use crate::kernel::Task;
use crate::maps::{EXITED, FALLBACK, FALLBACK_THREAD, LAST_ID, SHARED, THREADS};
use crate::probes::identity;

/// The running thread's ledger, made if need be. Where it can't be had (no memory, or interrupted in the middle) the
/// CPU's fallback ledger.
#[inline(always)]
pub fn ledger_of(task: Task) -> Option<&'static mut ThreadLedger> {
    match THREADS.get_or_create(task) {
        Some(ledger) => {
            if ledger.identity.id == 0 {
                first_use(ledger);
            }
            Some(ledger)
        }
        None => fallback_thread(),
    }
}

/// Gives a new ledger its number, and its process's parent.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn first_use(ledger: *mut ThreadLedger) -> u64 {
    // SAFETY: the running thread's ledger.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return 0 };
    identity::set_parent(ledger, identity::parent_of(Task::current().at()));
    ledger.identity.id = new_id();
    0
}

#[inline(always)]
fn fallback_thread() -> Option<&'static mut ThreadLedger> {
    // SAFETY: per-CPU, and the programs that use it run with preemption off.
    let ledger = unsafe { FALLBACK_THREAD.get_ptr_mut(0)?.as_mut()? };
    // What it remembers is another process's.
    for slot in &mut ledger.vma {
        slot.end = 0;
    }
    Some(ledger)
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
    let home = cell as usize & (THREAD_CELLS - 1);
    if ledger.counters.owners[home] == cell {
        let cell = &mut ledger.counters.cells[home];
        cell.operations += operations;
        cell.bytes += bytes;
        return;
    }
    count_elsewhere(ledger, u64::from(cell), operations, bytes);
}

/// The cell is not at its home place: looks on, claims a free place, or goes to the shared ledger.
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

/// Counts for a process outside its threads' ledgers; where the map is full, in the fallback.
#[inline(always)]
pub fn count_shared(key: &SharedKey, operations: u64, bytes: u64) {
    let mut found = SHARED.get_ptr_mut(key);
    if found.is_none() {
        // It is another CPU's by now if this fails with EEXIST.
        let _ = SHARED.insert(key, Cell { operations: 0, bytes: 0 }, u64::from(BPF_NOEXIST));
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
fn atomic_add(counter: *mut u64, n: u64) {
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

#[inline(always)]
fn count_fallback(cell: u32, operations: u64, bytes: u64) {
    if let Some(fallback) = fallback() {
        let cell = &mut fallback.cells[cell as usize & (zc_common::record::CELLS - 1)];
        cell.operations += operations;
        cell.bytes += bytes;
    }
}

/// Moves an exiting thread's ledger to the map of exited threads; where that is full, into the fallback.
///
/// The order matters to the reader (docs/protocol.md): first the copy, then the mark.
#[inline(always)]
pub fn fold(ledger: &mut ThreadLedger) {
    let id = ledger.identity.id;
    if EXITED.insert(id, &*ledger, 0).is_err() {
        fold_into_fallback(ledger);
    }
    ledger.folded = 1;
}

#[inline(always)]
fn fold_into_fallback(ledger: &ThreadLedger) {
    let Some(fallback) = fallback() else { return };
    fallback.system_calls += ledger.system_calls;
    fallback.threads += 1;
    let ThreadCells { owners, cells } = &ledger.counters;
    for i in 0..THREAD_CELLS {
        let sum = &mut fallback.cells[owners[i] as usize];
        sum.operations += cells[i].operations;
        sum.bytes += cells[i].bytes;
    }
}
