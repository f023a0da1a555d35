//! Pages of files that faults map, whoever needs them: the process itself, or the kernel for it.
//!
//! No tracepoint tells how many pages a fault mapped: `mm_filemap_map_pages` tells the window that was gone over. But each
//! change of a memory map's counter of file pages is followed by `rss_stat`, on the same CPU (the page table is locked),
//! and the counter is readable: one word for each CPU, and a sum that these are added to when they grow beyond a batch
//! (percpu_counter_add_batch, lib/percpu_counter.c, v6.2 to v6.18). What the counter of this CPU was the last time is
//! remembered, by memory map; the difference is what was mapped, with fault-around, large folios and huge pages.
//!
//! Which of these changes are faults on files the page cache's own tracepoints tell: drivers map pages, too.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_smp_processor_id};
use zc_common::config::table_index;
use zc_common::path::{Endpoint, Mechanism};
use zc_common::record::FAULT_ON_FILE;

use super::faults;
use crate::account;
use crate::kernel::{Known, Task, number, read};
use crate::maps::{self, CONTEXTS, FILE_PAGES, MAPPED, TABLE, offset};
use crate::slots::exchange;

// enum of the counters (include/linux/mm_types_task.h, v6.1 to v6.18).
const FILE: i32 = 0;
const SHMEM: i32 = 3;
/// Pages of a huge page on x86-64 (HPAGE_PMD_NR).
const HUGE: i64 = 512;
/// Processors that are told apart. The agent does not attach the probe where there are more.
pub const CPUS: usize = 128;
/// What a CPU's counter was is not known.
const UNKNOWN: i32 = i32::MIN;
/// A memory map whose number is larger than the largest seen less this was made just now; far more are remembered.
const RECENT: u64 = 2048;

/// A memory map's counter of file pages as it was when last seen.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FilePages {
    /// The sum.
    pub sum: u64,
    /// What is still with each CPU.
    pub local: [i32; CPUS],
}

/// Numbers of memory maps, which are never used twice (mm_context_t.ctx_id, arch/x86/include/asm/mmu.h, v6.1).
#[repr(C)]
pub struct Contexts {
    /// The largest when all processes had been seen once; 0 before.
    pub first: u64,
    /// The largest seen.
    pub last: u64,
}

/// What this CPU has mapped a moment ago.
#[repr(C)]
pub struct Mapped {
    task: u64,
    pages: u64,
    /// Where this CPU's own variables are: [`this_cpu`].
    offset: u64,
}

static NEW: FilePages = FilePages { sum: 0, local: [0; CPUS] };
static OLD: FilePages = FilePages { sum: 0, local: [UNKNOWN; CPUS] };

/// A memory map's counter has changed.
#[inline(always)]
pub fn counted(mm: *const c_void, member: i32) {
    if member == SHMEM {
        remember(0);
    }
    if member != FILE {
        return;
    }
    let mm = Known::new(mm).at();
    let pages = change(mm);
    let task = Task::current();
    if number(task.at() + offset!(task_mm)) != mm || pages <= 0 {
        remember(0);
    } else if pages >= HUGE || (pages == 1 && faults::take(task, FAULT_ON_FILE)) {
        remember(0);
        count(pages as u64);
    } else {
        remember(pages as u64);
    }
}

/// Pages around a fault were mapped: those of the change just before.
#[inline(always)]
pub fn around() {
    let Some(mapped) = mapped() else { return };
    if mapped.pages != 0 && mapped.task == Task::current().at() {
        count(mapped.pages);
        faults::take(Task::current(), FAULT_ON_FILE);
    }
    mapped.pages = 0;
}

/// A page is looked for in the cache, to be mapped alone.
#[inline(always)]
pub fn one() {
    faults::mark(Task::current(), FAULT_ON_FILE);
}

/// A task is seen by the iterator, which has seen them all when there is none left.
#[inline(always)]
pub fn seen(task: Option<Task>) {
    let Some(contexts) = contexts() else { return };
    match task {
        Some(task) => {
            let mm = number(task.at() + offset!(task_mm));
            if mm != 0 {
                contexts.last = contexts.last.max(number(mm + offset!(mm_context)));
            }
        }
        None if contexts.first == 0 => contexts.first = contexts.last,
        None => {}
    }
}

#[inline(always)]
fn count(pages: u64) {
    let cell = maps::entry(&TABLE, table_index(Mechanism::Mmap as u8, Endpoint::File as u8, Endpoint::Mapping as u8));
    account::count_current(cell, pages, pages << 12);
}

#[inline(always)]
fn mapped() -> Option<&'static mut Mapped> {
    // SAFETY: per-CPU, and the programs that use it run with preemption off.
    unsafe { MAPPED.get_ptr_mut(0)?.as_mut() }
}

#[inline(always)]
fn contexts() -> Option<&'static mut Contexts> {
    // SAFETY: a live element of the map; a number that is overwritten by a smaller one does no harm.
    unsafe { CONTEXTS.get_ptr_mut(0)?.as_mut() }
}

#[inline(always)]
fn remember(pages: u64) {
    if let Some(mapped) = mapped() {
        mapped.task = Task::current().at();
        mapped.pages = pages;
    }
}

/// By how many pages a memory map's counter has changed on this CPU since it was last seen; 0 if that is not known.
#[inline(always)]
fn change(mm: u64) -> i64 {
    // SAFETY: no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as usize;
    if cpu >= CPUS {
        return 0;
    }
    let local = number(mm + offset!(mm_file_pages_local)).wrapping_add(this_cpu());
    let Some(local) = read::<i32>(local) else { return 0 };
    let sum = number(mm + offset!(mm_file_pages)) as i64;
    let Some(known) = known(number(mm + offset!(mm_context)), sum) else { return 0 };
    // SAFETY: a live element of the map; only this CPU changes its own word, and the sum is exchanged.
    let known = unsafe { &mut *known };
    let before = core::mem::replace(&mut known.local[cpu & (CPUS - 1)], local);
    if before == UNKNOWN {
        return 0;
    }
    let mut change = i64::from(local) - i64::from(before);
    if local == 0 {
        // It may have been added to the sum.
        change += sum - exchange(&mut known.sum, sum as u64) as i64;
    }
    change
}

/// What is known of a memory map. One that was made just now began with nothing; of one that was there before us, or
/// that was forgotten, nothing is known.
#[inline(always)]
fn known(context: u64, sum: i64) -> Option<*mut FilePages> {
    if let Some(known) = FILE_PAGES.get_ptr_mut(&context) {
        return Some(known);
    }
    let contexts = contexts()?;
    let is_new = contexts.first != 0 && context > contexts.first && context + RECENT > contexts.last;
    contexts.last = contexts.last.max(context);
    // Another CPU may be faster.
    let _ = FILE_PAGES.insert(&context, if is_new { &NEW } else { &OLD }, u64::from(BPF_NOEXIST));
    let known = FILE_PAGES.get_ptr_mut(&context)?;
    if !is_new {
        // SAFETY: a live element of the map.
        unsafe { (*known).sum = sum as u64 };
    }
    Some(known)
}

/// How far this CPU's own variables lie behind their common addresses (`this_cpu_off`): as far as the element of a map of
/// our own that has one for each CPU. The common address is in the map itself.
#[inline(always)]
fn this_cpu() -> u64 {
    let Some(mapped) = mapped() else { return 0 };
    if mapped.offset == 0 {
        let common = number(address(core::ptr::from_ref(&MAPPED).cast()) + offset!(array_cpus));
        mapped.offset = address(core::ptr::from_mut(mapped).cast()).wrapping_sub(common);
    }
    mapped.offset
}

/// A pointer as a number: it is as far from the task's address as from the task. The verifier allows the difference of
/// two pointers, and one helper gives the task's address as a number.
#[inline(always)]
fn address(pointer: *const c_void) -> u64 {
    let mut distance = pointer as u64;
    // SAFETY: it only changes the register; the helper has no arguments.
    unsafe {
        core::arch::asm!("{0} -= {1}", inout(reg) distance, in(reg) Task::current().as_ptr(), options(pure, nomem, nostack));
        distance.wrapping_add(bpf_get_current_task())
    }
}
