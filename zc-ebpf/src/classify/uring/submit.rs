//! The submission: what completion could not tell is noted.

use zc_common::config::CODE_UNKNOWN;
use zc_common::record::{CELL_NO_DESCRIPTOR, ThreadLedger};

use super::multishot::begin_multishot;
use super::provided::group_of;
use super::request::way::{self, BETWEEN, SOCKET, VECTOR};
use super::request::{BUFFER_SELECT, CQE_SKIP, Request, URING_WAYS, WAYS, is_multishot, is_vector, splice_source};
use crate::account::{self, COUNT_AND_MOVE, LEAVE_OUT};
use crate::buffer;
use crate::classify::{note, vector};
use crate::kernel::{self, Known, Task, number};
use crate::maps::{self, REQUESTS, config, offset};

/// Whether there is anything to note of a request: most complete with all that is needed.
#[inline(always)]
pub fn is_noteworthy(request: Known) -> bool {
    let opcode: u8 = request.load(offset!(request_opcode));
    if opcode as usize >= WAYS {
        return false;
    }
    let way = maps::entry(&URING_WAYS, opcode as usize);
    // Any socket operation may have its vector in a flag (SEND with IORING_SEND_VECTORIZED).
    way != way::NONE
        && (way & (VECTOR | BETWEEN | SOCKET) != 0
            || request.load::<u32>(offset!(request_flags)) & (BUFFER_SELECT | CQE_SKIP) != 0)
}

/// A request is submitted that may be noteworthy.
#[inline(always)]
pub fn submit(address: u64) {
    let request = Request::new(address);
    let way = request.way();
    let flags = request.flags();
    if is_vector(request, way) || way & BETWEEN != 0 || flags & (BUFFER_SELECT | CQE_SKIP) != 0 {
        note_request(address, u64::from(way), u64::from(flags));
    }
}

/// Notes what completion could not tell.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_request(address: u64, way: u64, flags: u64) -> u64 {
    let (request, way, flags) = (Request::new(address), way as u8, flags as u32);
    let done = account::prepare(0);
    if done == LEAVE_OUT {
        return 0;
    }
    if let Some(ledger) = account::ledger_of(Task::current()) {
        if flags & CQE_SKIP != 0 {
            // If it succeeds it completes without a trace: how many bytes it moved can't be told, that it was made can.
            account::count(ledger, CELL_NO_DESCRIPTOR, 1, 0);
        } else {
            insert_note(ledger, request, way, flags);
        }
    }
    if done == COUNT_AND_MOVE {
        account::move_scratch();
    }
    0
}

#[inline(always)]
fn insert_note(ledger: &mut ThreadLedger, request: Request, way: u8, flags: u32) {
    let Some(noted) = note::begin(request.at.load(offset!(request_buffer))) else { return };
    if way & BETWEEN != 0 {
        noted.source = splice_source(request);
    } else if flags & BUFFER_SELECT != 0 {
        noted.near = first_provided(ledger, request.ring(), u64::from(noted.group));
        if is_multishot(request, way) {
            begin_multishot(request, way, flags);
        }
    } else {
        note_vector(request, way);
    }
    let _ = REQUESTS.insert(&request.address, &*noted, 0);
}

/// What the first provided buffer of a group is, where buffers are provided by requests: which one is taken shows
/// nowhere.
#[inline(always)]
fn first_provided(ledger: &mut ThreadLedger, ring: u64, group: u64) -> u8 {
    let list = group_of(ring, group);
    if list == 0 || kernel::read::<u16>(list + offset!(group_entries)).unwrap_or(1) != 0 {
        return CODE_UNKNOWN;
    }
    let first = number(list);
    if first == 0 || first == list {
        return CODE_UNKNOWN;
    }
    let address = number(first + offset!(provided_address));
    buffer::endpoint_at(ledger, address) as u8
}

#[inline(always)]
fn note_vector(request: Request, way: u8) {
    let task = Task::current();
    // A polling thread has no system call of its own, and only 64-bit programs' requests are told right there.
    let compat = task.known().load::<u32>(offset!(task_status)) & config!(offsets.compat_mask) as u32 != 0;
    let at = request.address_of_buffer(way | VECTOR);
    let (iovecs, count) = if way & SOCKET == 0 {
        (at, u64::from(request.rw().load::<u32>(offset!(rw_length))))
    } else if way & VECTOR == 0 {
        (at, u64::from(request.sr().load::<u32>(offset!(sr_length))))
    } else {
        vector::iovecs_of(at, compat).unwrap_or((0, 0))
    };
    note::vector(iovecs, count, compat);
}
