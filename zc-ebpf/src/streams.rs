//! Operations told one by one, of the processes that somebody listens to.
//!
//! Nothing is counted here but what could not be told: the ledger does not rest on it.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_ringbuf_query};
use zc_common::record::{Cell, FIRST_OBSERVED_CELL, OperationEvent, ThreadLedger};

use crate::account::atomic_add;
use crate::kernel::Task;
use crate::maps::{LISTENED_TO, OPERATIONS, STREAMS};
use crate::probes::identity;

/// Bytes that may wait in the ring until whoever reads it is woken; it looks by itself every few milliseconds.
const WAITING: u64 = 256 << 10;

/// An operation begins.
#[inline(always)]
pub fn begin(ledger: &mut ThreadLedger) {
    // SAFETY: live words; volatile, for the compiler would call a function.
    unsafe {
        (&raw mut ledger.told.operations).write_volatile(0);
        (&raw mut ledger.told.bytes).write_volatile(0);
    }
}

/// Tells what was counted since the operation began, if anybody listens to anyone.
#[inline(always)]
pub fn tell(ledger: &mut ThreadLedger) {
    let Some(streams) = STREAMS.get_ptr(0) else { return };
    // SAFETY: a live word; volatile, for the agent writes it.
    if unsafe { core::ptr::read_volatile(streams) } != 0 {
        emit(ledger);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn emit(ledger: *mut ThreadLedger) -> u64 {
    // SAFETY: callers pass the running thread's ledger.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return 0 };
    let (cell, Cell { operations, bytes }) = (ledger.last_cell, ledger.told);
    if cell >= u64::from(FIRST_OBSERVED_CELL) || operations | bytes == 0 {
        return 0;
    }
    begin(ledger);
    // SAFETY: no arguments.
    let ids = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (ids >> 32) as u32;
    let Some(listened) = LISTENED_TO.get_ptr_mut(&tgid) else { return 0 };
    // SAFETY: a live element of the map; the agent does not write it while it is there.
    let start = unsafe { (*listened).process_start };
    // Another process that has got the number.
    if identity::process_of(Task::current().at()).start != start {
        return 0;
    }
    let Some(mut entry) = OPERATIONS.reserve(0) else {
        // SAFETY: as above.
        let (lost_operations, lost) = unsafe { (&raw mut (*listened).lost_operations, &raw mut (*listened).lost) };
        atomic_add(lost_operations, operations);
        atomic_add(lost, 1);
        return 0;
    };
    // SAFETY: the entry has the event's size; no argument.
    unsafe {
        entry.as_mut_ptr().write(OperationEvent {
            time: bpf_ktime_get_boot_ns(),
            bytes,
            tgid,
            tid: ids as u32,
            cell: cell as u32,
            operations: operations as u32,
        });
    }
    // SAFETY: the map is a ring.
    let waiting =
        unsafe { bpf_ringbuf_query(core::ptr::from_ref(&OPERATIONS).cast_mut().cast(), u64::from(BPF_RB_AVAIL_DATA)) };
    let flags = if waiting >= WAITING { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(u64::from(flags));
    0
}
