//! The audit: what the kernel's copy routines are called for, at hardware breakpoints on their first instruction.
//!
//! Only for `zcprof validate --audit`, on x86-64. No atomics: a workload's thread and the workers made for it take turns.

use core::ffi::c_void;

use zc_common::record::Audit;

use crate::kernel::{number, read};
use crate::maps::AUDIT;

/// Words of `struct pt_regs` (arch/x86/include/uapi/asm/ptrace.h, v6.1).
const RCX: usize = 11;
const RDX: usize = 12;
const RSI: usize = 13;
const RDI: usize = 14;

/// User addresses are below this on x86-64, with any number of page-table levels.
const KERNEL: u64 = 1 << 63;

/// `rep_movs_alternative(to, from, .., count)`: to in rdi, from in rsi, the count in rcx (arch/x86/lib/copy_user_64.S,
/// v6.4 on).
#[inline(always)]
pub fn counted_in_rcx(context: *const c_void) {
    // SAFETY: the context of a perf-event program starts with the registers.
    let (to, from, bytes) = unsafe { (word(context, RDI), word(context, RSI), word(context, RCX)) };
    count(to, from, bytes);
}

/// `copy_user_enhanced_fast_string(to, from, count)` (same file, before v6.4).
#[inline(always)]
pub fn counted_in_rdx(context: *const c_void) {
    // SAFETY: as above.
    let (to, from, bytes) = unsafe { (word(context, RDI), word(context, RSI), word(context, RDX)) };
    count(to, from, bytes);
}

/// `csum_partial_copy_generic(from, to, count)`, which sums up while it copies (arch/x86/lib/csum-copy_64.S, v5.10 on).
#[inline(always)]
pub fn summed_in_rdx(context: *const c_void) {
    // SAFETY: as above.
    let (from, to, bytes) = unsafe { (word(context, RDI), word(context, RSI), word(context, RDX)) };
    count(to, from, bytes & 0xffff_ffff);
}

/// `_copy_to_iter(address, bytes, iter)` and `_copy_from_iter` (lib/iov_iter.c, v6.1).
#[inline(always)]
pub fn iterated_in_rdx(context: *const c_void) {
    // SAFETY: as above.
    let (bytes, iter) = unsafe { (word(context, RSI), word(context, RDX)) };
    count_iterated(bytes, iter);
}

/// `copy_page_from_iter_atomic(page, offset, bytes, iter)` (same file).
#[inline(always)]
pub fn iterated_in_rcx(context: *const c_void) {
    // SAFETY: as above.
    let (bytes, iter) = unsafe { (word(context, RDX), word(context, RCX)) };
    count_iterated(bytes, iter);
}

/// `copy_page(to, from)` (arch/x86/lib/copy_page_64.S, v6.1): pages of private mappings, copied when they are written to.
#[inline(always)]
pub fn page() {
    if let Some(audit) = audit() {
        audit.in_kernel += 4096;
    }
}

/// `copy_mc_enhanced_fast_string(to, from, count)` (arch/x86/lib/copy_mc_64.S, v6.1): the same where a page that can't be
/// read must not stop the machine.
#[inline(always)]
pub fn carefully(context: *const c_void) {
    // SAFETY: as above.
    let bytes = unsafe { word(context, RDX) };
    if let Some(audit) = audit() {
        audit.in_kernel += bytes;
    }
}

#[inline(always)]
fn audit() -> Option<&'static mut Audit> {
    // SAFETY: a live element of the map, which one thread alone changes.
    AUDIT.get_ptr_mut(0).and_then(|audit| unsafe { audit.as_mut() })
}

/// A copy between the kernel and whatever an iterator goes over. User memory's bytes the user copy counts.
#[inline(always)]
fn count_iterated(bytes: u64, iter: u64) {
    let Some(audit) = audit() else { return };
    let Some(kind) = read::<u8>(iter + audit.iter_kind) else { return };
    let [first, last] = audit.user_kinds;
    if u64::from(kind) < first || u64::from(kind) > last {
        // More than there is room for may be asked.
        audit.in_kernel += bytes.min(number(iter + audit.iter_count));
    }
}

/// # Safety
/// There must be so many words.
#[inline(always)]
unsafe fn word(context: *const c_void, index: usize) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { context.cast::<u64>().add(index).read_volatile() }
}

#[inline(always)]
fn count(to: u64, from: u64, bytes: u64) {
    let Some(audit) = audit() else { return };
    let user = if to < KERNEL { to } else { from };
    let is_argument = user >= audit.heap_start && user < audit.heap_end || user >= audit.stack_start;
    let sum = if is_argument {
        &mut audit.left_out
    } else if to < KERNEL {
        &mut audit.to_user
    } else {
        &mut audit.from_user
    };
    *sum += bytes;
}
