//! Pass-through: bytes that are written out from where they had been read into.
//!
//! Where a process has read bytes into is remembered by address in a table of its own for all processes, so that it does
//! not matter which thread writes them. A range is kept in the table's bucket of the region that it lies in: regions of
//! 64 KiB, and larger ones for longer ranges, so that none lies in more than two. What bytes are is never looked at.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use zc_common::passed::{self, KIND_OF_CODE, NO_KIND};
use zc_common::record::{SharedKey, ThreadLedger};

use crate::account;
use crate::classify::Operation;
use crate::kernel::{At, Task};
use crate::maps::{self, READ_RANGES, config, offset};
use crate::probes::identity;
use crate::slots::{compare_exchange, exchange};

/// Buckets: 2.6 MB in all. A power of two.
pub const BUCKETS: usize = 16_384;
/// Ranges of a bucket. Where there is no room the next one takes another's place.
const RANGES: usize = 4;
/// Regions: of 64 KiB, 16 MiB and 4 GiB, as powers of two.
const REGIONS: [u32; 3] = [16, 24, 32];
/// How often a bucket's lock is asked for: another processor has it for nanoseconds.
const PATIENCE: u32 = 64;
/// Steps of a write from one range, or from region to region, to the next: more than the 2 GiB of a call (`MAX_RW_COUNT`,
/// include/linux/fs.h, v6.1) can take where ranges are as long as their regions.
const STEPS: u32 = 1 << 16;

/// Where bytes were read into.
#[repr(C)]
pub struct Range {
    /// The memory map; 0 for none, or while the range is changed.
    space: u64,
    start: u64,
    end: u64,
    /// What they were read from: a place among `passed::KINDS`.
    kind: u64,
}

/// What is known of a region, or of others of the same bucket.
#[repr(C)]
pub struct Bucket {
    /// Counts the changes of its ranges: odd while a processor makes one.
    changes: u64,
    /// The range that is being kept, as far as it has grown, and where it goes. All three lie here so that the verifier
    /// forgets what they may be, and does not check what follows for each.
    start: u64,
    end: u64,
    place: u64,
    ranges: [Range; RANGES],
}

/// By the classification's codes.
#[unsafe(no_mangle)]
static KINDS: [u8; KIND_OF_CODE.len()] = KIND_OF_CODE;

/// Remembers where an operation has read into, or looks for what it has written where it had been read into.
#[inline(always)]
pub fn look(ledger: *mut ThreadLedger, operation: Operation, address: u64, bytes: u64, task: At) {
    if config!(pass_through) == 0 {
        return;
    }
    let mm: u64 = task.load(offset!(task_mm));
    if mm == 0 {
        return;
    }
    let space = At::new(mm, config!(types.mm)).load(offset!(mm_space));
    if space == 0 {
        return;
    }
    if operation.is(Operation::INWARDS) {
        read_into(u64::from(operation.far()), address, bytes, space);
    } else {
        written_from(ledger, u64::from(operation.far()), address, bytes, space);
    }
}

/// Remembers a range, in one part or, where it crosses from region to region, in two.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_into(code: u64, start: u64, bytes: u64, space: u64) -> u64 {
    let kind = u64::from(maps::entry(&KINDS, code as usize));
    let shift = if bytes <= 1 << REGIONS[0] {
        REGIONS[0]
    } else if bytes <= 1 << REGIONS[1] {
        REGIONS[1]
    } else {
        REGIONS[2]
    };
    let end = start + bytes;
    let boundary = ((start >> shift) + 1) << shift;
    let mut part = Range { space, start, end: if end < boundary { end } else { boundary }, kind };
    for _ in 0..2 {
        if let Some(bucket) = bucket_of(space, part.start, shift) {
            if !is_kept(bucket, &part) && lock(space, part.start, u64::from(shift)) != 0 {
                keep(space, part.start, part.end, kind << 8 | u64::from(shift));
            }
        }
        if part.end == end {
            break;
        }
        part.start = part.end;
        part.end = end;
    }
    0
}

#[inline(always)]
fn bucket_of(space: u64, address: u64, shift: u32) -> Option<&'static mut Bucket> {
    const BITS: u32 = BUCKETS.trailing_zeros();
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let region = space.wrapping_mul(GOLDEN) ^ (address >> shift) << 2 ^ u64::from(shift);
    let number = region.wrapping_mul(GOLDEN) >> (64 - BITS);
    // SAFETY: whoever changes a bucket has its lock, and whoever reads it copes.
    unsafe { READ_RANGES.get_ptr_mut(number as u32)?.as_mut() }
}

/// Where in a bucket a range goes, if it has the choice.
#[inline(always)]
fn home(start: u64) -> usize {
    (start >> 12) as usize & (RANGES - 1)
}

/// Whether the very same is known already, as of a buffer that is used again and again.
#[inline(always)]
fn is_kept(bucket: &Bucket, new: &Range) -> bool {
    for i in 0..RANGES {
        let range = &bucket.ranges[opaque(i) & (RANGES - 1)];
        if range.space == new.space && range.kind == new.kind && range.start <= new.start && new.end <= range.end {
            return true;
        }
    }
    false
}

/// Begins a change of an address's bucket; 0 if another processor goes on with one. A function of its own like [`keep`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lock(space: u64, address: u64, shift: u64) -> u64 {
    let Some(bucket) = bucket_of(space, address, shift as u32 & 0x3f) else { return 0 };
    for _ in 0..PATIENCE {
        let changes = current(&bucket.changes) & !1;
        if compare_exchange(&mut bucket.changes, changes, changes + 1) == changes {
            return 1;
        }
    }
    0
}

/// An index that the compiler does not look through: it would make a pointer of it that it compares with the array's
/// end, which the verifier does not understand before 6.18.
#[inline(always)]
pub fn opaque(mut index: usize) -> usize {
    // SAFETY: it changes nothing.
    unsafe { core::arch::asm!("{0} &= -1", inout(reg) index, options(pure, nomem, nostack)) };
    index
}

/// A word that another processor may change.
#[inline(always)]
fn current(word: &u64) -> u64 {
    // SAFETY: a live word.
    unsafe { core::ptr::read_volatile(word) }
}

/// Set in a bucket's `place` if nothing has to give way there.
const FREE: u64 = 1 << 8;
/// Set there if only another memory map's range has to, which may be gone for long.
const OTHERS: u64 = 1 << 9;

/// Keeps a range in its bucket, which is locked, and unlocks that: what others have of it is theirs no more. A function
/// of its own, lest the verifier walk through it again and again.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep(space: u64, start: u64, end: u64, kind_and_shift: u64) -> u64 {
    let Some(bucket) = bucket_of(space, start, kind_and_shift as u32 & 0x3f) else { return 0 };
    let new = Range { space, start, end, kind: kind_and_shift >> 8 };
    let home = home(start);
    set(&mut bucket.start, start);
    set(&mut bucket.end, end);
    // Whose place it takes if there is no other.
    set(&mut bucket.place, home as u64);
    if bucket.ranges[home].space == 0 {
        set(&mut bucket.place, home as u64 | FREE);
    }
    for i in 0..RANGES {
        give_way(bucket, &new, opaque(i) & (RANGES - 1));
    }
    let place = current(&bucket.place) as usize & (RANGES - 1);
    let (start, end) = (current(&bucket.start), current(&bucket.end));
    let range = &mut bucket.ranges[place];
    exchange(&mut range.space, 0);
    range.start = start;
    range.end = end;
    range.kind = new.kind;
    exchange(&mut range.space, space);
    let changes = current(&bucket.changes);
    exchange(&mut bucket.changes, changes + 1);
    0
}

/// Merges one that is already there with the one that is kept, or takes from it what they share.
#[inline(always)]
fn give_way(bucket: &mut Bucket, new: &Range, i: usize) {
    let (start, end) = (current(&bucket.start), current(&bucket.end));
    let range = &mut bucket.ranges[i];
    if range.space != new.space {
        let place = current(&bucket.place);
        if range.space == 0 && place & FREE == 0 {
            set(&mut bucket.place, i as u64 | FREE);
        } else if place & (FREE | OTHERS) == 0 {
            set(&mut bucket.place, i as u64 | OTHERS);
        }
        return;
    }
    if range.end < start || end < range.start {
        return;
    }
    let is_same = range.kind == new.kind;
    if is_same || start <= range.start && range.end <= end {
        if is_same && range.start < start {
            set(&mut bucket.start, range.start);
        }
        if is_same && end < range.end {
            set(&mut bucket.end, range.end);
        }
        exchange(&mut range.space, 0);
        set(&mut bucket.place, i as u64 | FREE);
    } else if range.start < start {
        range.end = start;
    } else {
        range.start = end;
    }
}

/// Writes a word, and lets nobody know what it was.
#[inline(always)]
fn set(word: &mut u64, value: u64) {
    // SAFETY: a live word.
    unsafe { core::ptr::write_volatile(word, value) };
}

/// A walk along what was written. Where it is, and what a step finds, lies in the ledger's `forget`, for the verifier's
/// sake as in [`Bucket`].
struct Walk {
    ledger: *mut ThreadLedger,
    space: u64,
    /// Where it was written to.
    kind: u64,
}

/// Where the walk is.
const AT: usize = 0;
/// Where it ends.
const END: usize = 1;
/// How many bytes from here on are in a range.
const HERE: usize = 2;
/// What they were read from.
const KIND: usize = 3;
/// Where to look next if none are.
const NEXT: usize = 4;
/// Bit 0: a range may have been moved while it was looked for. Above [`AGAINS`]: how often that was so.
const AGAIN: usize = 5;
const AGAINS: u32 = 8;
/// How often it is looked again in one walk: a processor that changes a bucket may itself be held up (a virtual one).
const MOST_AGAINS: u64 = 256;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn written_from(ledger: *mut ThreadLedger, code: u64, at: u64, bytes: u64, space: u64) -> u64 {
    let kind = maps::entry(&KINDS, code as usize);
    // SAFETY: callers pass the running thread's ledger.
    let Some(known) = (unsafe { ledger.as_mut() }) else { return 0 };
    if kind == NO_KIND {
        return 0;
    }
    set(&mut known.forget[AT], at);
    set(&mut known.forget[END], at + bytes);
    set(&mut known.forget[AGAIN], 0);
    let mut walk = Walk { ledger, space, kind: u64::from(kind) };
    // SAFETY: the callback has the helper's signature and the walk outlives the call.
    unsafe { bpf_loop(STEPS, on_step as *mut c_void, (&raw mut walk).cast(), 0) };
    0
}

extern "C" fn on_step(_: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the walk that `written_from` passed.
    let walk = unsafe { &mut *walk };
    // SAFETY: the running thread's ledger.
    let Some(ledger) = (unsafe { walk.ledger.as_mut() }) else { return 1 };
    let at = current(&ledger.forget[AT]);
    let agains = current(&ledger.forget[AGAIN]) & !1;
    set(&mut ledger.forget[HERE], 0);
    set(&mut ledger.forget[AGAIN], agains);
    set(&mut ledger.forget[NEXT], ((at >> REGIONS[0]) + 1) << REGIONS[0]);
    for shift in REGIONS {
        let Some(bucket) = bucket_of(walk.space, current(&ledger.forget[AT]), shift) else { return 1 };
        let changes = current(&bucket.changes);
        for i in 0..RANGES {
            look_at(ledger, walk.space, &bucket.ranges[opaque(i) & (RANGES - 1)]);
        }
        if changes & 1 != 0 || current(&bucket.changes) != changes {
            set(&mut ledger.forget[AGAIN], agains | 1);
        }
    }
    if current(&ledger.forget[AGAIN]) & 1 != 0 && agains >> AGAINS < MOST_AGAINS {
        set(&mut ledger.forget[AGAIN], agains + (1 << AGAINS));
        return 0;
    }
    let (at, next) = (current(&ledger.forget[AT]), current(&ledger.forget[NEXT]));
    if current(&ledger.forget[HERE]) != 0 {
        let kind = current(&ledger.forget[KIND]);
        // A shorter range that begins within a longer one was read later.
        let here = current(&ledger.forget[HERE]).min(next - at);
        if kind < u64::from(NO_KIND) {
            count(ledger, passed::cell(kind, walk.kind), here);
        }
        set(&mut ledger.forget[AT], at + here);
    } else {
        set(&mut ledger.forget[AT], next);
    }
    let next = current(&ledger.forget[AT]);
    i64::from(next >= current(&ledger.forget[END]))
}

/// Whether the bytes at hand lie in a range, or begin to before the next place to look.
#[inline(always)]
fn look_at(ledger: &mut ThreadLedger, space: u64, range: &Range) {
    if current(&range.space) != space || current(&ledger.forget[HERE]) != 0 {
        return;
    }
    let (start, end, kind) = (current(&range.start), current(&range.end), current(&range.kind));
    // Changed meanwhile.
    if current(&range.space) != space {
        return;
    }
    let at = current(&ledger.forget[AT]);
    if start <= at && at < end {
        let stop = current(&ledger.forget[END]);
        set(&mut ledger.forget[HERE], end.min(stop) - at);
        set(&mut ledger.forget[KIND], kind);
    } else if at < start && start < current(&ledger.forget[NEXT]) {
        set(&mut ledger.forget[NEXT], start);
    }
}

/// Counts in the thread's own ledger, or where that has no room in its process's.
#[inline(always)]
fn count(ledger: &mut ThreadLedger, cell: u16, bytes: u64) {
    let operations = u64::from(ledger.passed_at != ledger.system_calls);
    ledger.passed_at = ledger.system_calls;
    for i in 0..passed::THREAD_CELLS {
        let owner = &mut ledger.counters.passed_owners[i];
        if *owner == 0 {
            *owner = cell;
        }
        if *owner == cell {
            let cell = &mut ledger.counters.passed[i];
            cell.operations += operations;
            cell.bytes += bytes;
            return;
        }
    }
    let process = identity::process_of(Task::current().at());
    let key = SharedKey { process_start: process.start, tgid: process.tgid, cell: u32::from(cell) };
    account::count_shared(&key, operations, bytes);
}
