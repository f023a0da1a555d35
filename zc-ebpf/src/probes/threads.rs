//! The dump of all threads' ledgers: the program of the task iterator.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_seq_write;
use zc_common::record::{ThreadCells, ThreadHead, ThreadLedger};

use super::{identity, mapping, usage};
use crate::kernel::{Known, Task};
use crate::maps::{THREADS, config, offset};
use crate::slots;

/// `PF_KTHREAD` (include/linux/sched.h, v6.1).
const PF_KTHREAD: u32 = 0x0020_0000;

/// Writes one thread's record: head and, if it has a ledger, cells. Threads whose ledgers have been folded are left
/// out: the map of exited threads has them. A record that finds no room in the buffer is dropped whole by the kernel,
/// which calls again for the same task (bpf_seq_read, kernel/bpf/bpf_iter.c, v6.1).
#[inline(always)]
pub fn dump(meta: *const c_void, task: *const c_void) -> i32 {
    if task.is_null() {
        mapping::seen(None);
        return 0;
    }
    let task = Task::new(task);
    mapping::seen(Some(task));
    if task.known().load::<u32>(offset!(task_flags)) & PF_KTHREAD != 0 || u64::from(task.tgid()) == config!(own_tgid) {
        return 0;
    }
    let seq = Known::new(meta).follow(offset!(meta_seq)).address().cast_mut();
    match THREADS.get(task) {
        Some(ledger) if ledger.folded != 0 => 0,
        Some(ledger) => write_ledger(seq, task, ledger),
        None if task.known().load::<u32>(offset!(task_exit_state)) != 0 => 0,
        None => write_head(seq, task, None),
    }
}

#[inline(always)]
fn write_ledger(seq: *mut c_void, task: Task, thread: &mut ThreadLedger) -> i32 {
    write_head(seq, task, Some(thread));
    let cells = (&raw const slots::located(thread).counters).cast::<c_void>();
    // SAFETY: the ledger's cells are a live map value. The kernel copies them word-wise while the thread counts on.
    unsafe { bpf_seq_write(seq.cast(), cells, size_of::<ThreadCells>() as u32) };
    0
}

#[inline(always)]
fn write_head(seq: *mut c_void, task: Task, thread: Option<&mut ThreadLedger>) -> i32 {
    let mut head = MaybeUninit::<ThreadHead>::uninit();
    let at = head.as_mut_ptr();
    // SAFETY: every field of the head is written before it is read.
    unsafe {
        identity::fill(&mut (*at).identity, task.at());
        usage::fill(&mut (*at).usage, task);
        match thread {
            Some(thread) => {
                (*at).identity.id = thread.identity.id;
                (*at).identity.parent_tgid = thread.identity.parent_tgid;
                (*at).identity.parent_start = thread.identity.parent_start;
                (*at).system_calls = slots::located(thread).system_calls;
                (*at).has_cells = 1;
            }
            None => {
                let parent = identity::parent_of(task.at());
                (*at).identity.id = 0;
                (*at).identity.parent_tgid = parent.tgid;
                (*at).identity.parent_start = parent.start;
                (*at).system_calls = 0;
                (*at).has_cells = 0;
            }
        }
        bpf_seq_write(seq.cast(), at.cast(), size_of::<ThreadHead>() as u32);
    }
    0
}
