//! io_uring requests: what each moved, told from the request itself when its completion is posted.
//!
//! That happens in the submitter's thread, in a worker or polling thread of its process, or, when a ring is torn down,
//! in a kernel worker. What may have changed by then (vectors, which belong to the submitter again) is noted at the
//! submission.

mod multishot;
mod overflow;
mod provided;
mod request;
mod submit;

use zc_common::config::{CODE_UNKNOWN, CODE_URING_PEEK};
use zc_common::path::{Endpoint, Mechanism};
use zc_common::record::{SharedKey, ThreadLedger};

pub use multishot::{Multishot, MultishotKey, complete_again};
pub use overflow::overflow;
pub use submit::{is_noteworthy, submit};

use self::multishot::end_multishot;
use self::provided::selected;
use self::request::way::{self, BETWEEN, FIXED, INWARDS, MULTISHOT, SOCKET, VECTOR};
use self::request::{BUFFER_SELECT, Request, is_multishot, is_vector, splice_source};
use super::note::{Noted, PIECES};
use super::{MSG_PEEK, MSG_TRUNC, Operation, cell_between, cell_of, count_buffer, piece};
use crate::account::{self, COUNT};
use crate::kernel::{Task, number};
use crate::maps::{REQUESTS, THREADS, config, offset};
use crate::probes::identity;
use crate::{buffer, endpoint, passing, peers, slots, sockets, streams};

/// Counts for the task that submitted a request: in the running thread's ledger if it is of the same process.
#[derive(Clone, Copy)]
struct Owner {
    ledger: *mut ThreadLedger,
    task: u64,
}

impl Owner {
    #[inline(always)]
    fn of(task: u64) -> Self {
        let current = Task::current();
        let leader = number(current.at() + offset!(task_group_leader));
        let is_own = task == current.at() || number(task + offset!(task_group_leader)) == leader;
        // Workers and polling threads make no system call: this may be the first that is heard of one.
        let ledger = if is_own && account::prepare(0) == COUNT { account::ledger_of(current) } else { None };
        Self { ledger: ledger.map_or(core::ptr::null_mut(), core::ptr::from_mut), task }
    }

    /// An operation begins: see [`streams`].
    #[inline(always)]
    fn begin(self) {
        // SAFETY: the running thread's ledger, or none.
        if let Some(ledger) = unsafe { self.ledger.as_mut() } {
            streams::begin(ledger);
        }
    }

    #[inline(always)]
    fn tell(self) {
        // SAFETY: the running thread's ledger, or none.
        if let Some(ledger) = unsafe { self.ledger.as_mut() } {
            streams::tell(ledger);
        }
    }

    #[inline(always)]
    fn add(self, cell: u8, operations: u64, bytes: u64) {
        count_for(self.ledger, self.task, u64::from(cell) | operations << 8, bytes);
    }

    #[inline(always)]
    fn piece(self, operation: Operation, near: u8, bytes: u64) {
        count_piece(self.ledger, self.task, operation.0, u64::from(near), bytes);
    }

    /// Counts a buffer at one address.
    #[inline(always)]
    fn buffer(self, operation: Operation, address: u64, bytes: u64) {
        if self.ledger.is_null() {
            self.piece(operation, buffer::of_task(self.task, address) as u8, bytes);
        } else {
            count_buffer(self.ledger, operation.0, address, bytes);
        }
    }

    /// What lies at an address.
    #[inline(always)]
    fn near(self, address: u64) -> u8 {
        if self.ledger.is_null() {
            buffer::of_task(self.task, address) as u8
        } else {
            buffer::endpoint_at(self.ledger, address) as u8
        }
    }
}

/// Counts bytes of an operation in a buffer of a known kind.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_piece(ledger: *mut ThreadLedger, task: u64, operation: u64, near: u64, bytes: u64) -> u64 {
    let operation = Operation(operation);
    let operations = u64::from(!operation.is(Operation::COUNTED));
    count_for(ledger, task, u64::from(cell_of(operation, near as u8)) | operations << 8, bytes)
}

/// Counts in a thread's ledger, or if there is none for the process of a task. Operations are above the cell's byte.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_for(ledger: *mut ThreadLedger, task: u64, cell_and_operations: u64, bytes: u64) -> u64 {
    let (cell, operations) = (cell_and_operations as u8, cell_and_operations >> 8);
    // SAFETY: the running thread's ledger, or none.
    if let Some(ledger) = unsafe { ledger.as_mut() } {
        account::count(ledger, cell, operations, bytes);
        return 0;
    }
    let process = identity::process_of(task);
    if u64::from(process.tgid) == config!(own_tgid) {
        return 0;
    }
    let key = SharedKey { process_start: process.start, tgid: process.tgid, cell: u32::from(cell) };
    account::count_shared(&key, operations, bytes);
    0
}

/// A request completes.
#[inline(always)]
pub fn complete(address: u64) {
    let request = Request::new(address);
    let way = request.way();
    if way == way::NONE {
        return;
    }
    if way & (SOCKET | VECTOR | FIXED | BETWEEN | MULTISHOT) != 0 || request.flags() & BUFFER_SELECT != 0 {
        complete_other(address, u64::from(way));
        return;
    }
    let bytes = request.result();
    if bytes <= 0 {
        return;
    }
    let task = Task::current();
    let buffer = request.address_of_buffer(way);
    let mut socket = 0;
    let operation = request.operation(way, endpoint::of_file(request.at.load(offset!(request_file)), &raw mut socket));
    let bytes = bytes as u64;
    let counts = |thread: &&mut ThreadLedger| thread.identity.id != 0 && thread.folded == 0 && request.is_of(task);
    let thread = THREADS.get(task).filter(counts);
    let Some(thread) = thread else {
        complete_elsewhere(address, operation.0, buffer, bytes);
        sent(core::ptr::null_mut(), request, operation, socket);
        talked(request, operation, bytes);
        return;
    };
    // As for the commonest calls (`plain`): no call of our own where the thread remembers the buffer.
    let ledger = slots::located(thread);
    streams::begin(ledger);
    match buffer::remembered(ledger, buffer::sequence(task.untrusted()), buffer) {
        Some(found) if bytes <= found.end - buffer => {
            piece(ledger, operation, found.endpoint, bytes);
            passing::look(ledger, operation, buffer, bytes, task.untrusted());
        }
        _ => _ = count_buffer(ledger, operation.0, buffer, bytes),
    }
    streams::tell(ledger);
    sent(ledger, request, operation, socket);
    talked(request, operation, bytes);
}

/// Counts a request's bytes with the peer of its socket, if it is on one.
#[inline(always)]
fn talked(request: Request, operation: Operation, bytes: u64) {
    if peers::talks(operation) {
        peers::moved_of(request.task(), request.file(), operation.0, bytes);
    }
}

/// A plain read or write completes in another task than its submitter's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn complete_elsewhere(request: u64, operation: u64, buffer: u64, bytes: u64) -> u64 {
    Owner::of(Request::new(request).task()).buffer(Operation(operation), buffer, bytes);
    0
}

/// Any request but a plain read or write completes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn complete_other(address: u64, way: u64) -> u64 {
    let request = Request::new(address);
    let noted = REQUESTS.get_ptr(&address);
    // One that was refused before it was submitted has no note.
    if noted.is_some() && is_multishot(request, way as u8) {
        end_multishot(request);
    }
    if request.result() > 0 {
        // SAFETY: nobody else changes the entry of a request while it completes.
        count(request, way as u8, noted.and_then(|noted| unsafe { noted.as_ref() }));
    }
    let _ = REQUESTS.remove(&address);
    0
}

/// Counts what a request moved.
#[inline(always)]
fn count(request: Request, way: u8, noted: Option<&Noted>) {
    let (owner, bytes) = (Owner::of(request.task()), request.result() as u32);
    owner.begin();
    count_other(owner, request, way, noted, bytes);
    owner.tell();
}

#[inline(always)]
fn count_other(owner: Owner, request: Request, way: u8, noted: Option<&Noted>, bytes: u32) {
    let what = endpoint::of_file_at(request.file());
    let far = what as u8;
    if way & BETWEEN != 0 {
        between(owner, request, what, noted.map_or(CODE_UNKNOWN, |noted| noted.source), u64::from(bytes));
        return;
    }
    let (operation, bytes) = received(request, way, request.operation(way, far), u64::from(bytes));
    count_operation(owner, request, way, operation, noted, bytes);
    sent(owner.ledger, request, operation, endpoint::socket(what));
    talked(request, operation, bytes);
}

/// Counts what a request between memory and a descriptor moved.
#[inline(always)]
fn count_operation(owner: Owner, request: Request, way: u8, operation: Operation, noted: Option<&Noted>, bytes: u64) {
    if operation.mechanism() == Mechanism::IoUringFixed as u8 {
        // Only anonymous memory and its kin can be registered for good: long-term pins of file mappings are refused
        // (check_vma_flags, mm/gup.c, v6.1). The pages stay when they are unmapped.
        owner.piece(operation, Endpoint::User as u8, bytes);
        if !owner.ledger.is_null() {
            let task = Task::current().untrusted();
            passing::look(owner.ledger, operation, request.address_of_buffer(way), bytes, task);
        }
        return;
    }
    match noted {
        Some(noted) if request.flags() & BUFFER_SELECT != 0 => {
            let near = selected(owner, request.ring(), noted, request.at.load(offset!(request_cqe_flags)));
            owner.piece(operation, near, bytes);
        }
        // A note may be of an earlier request at the same address, which completed without a word.
        _ if !is_vector(request, way) && request.flags() & BUFFER_SELECT == 0 => {
            owner.buffer(operation, request.address_of_buffer(way), bytes);
        }
        Some(noted) => vector(owner, operation, noted, bytes),
        // There was no room for a note, and what the address points to may have changed.
        None => owner.piece(operation, CODE_UNKNOWN, bytes),
    }
}

/// What a receive's flags make of it: a peek, or less than the message's bytes, or nothing.
#[inline(always)]
fn received(request: Request, way: u8, operation: Operation, bytes: u64) -> (Operation, u64) {
    if way & (SOCKET | INWARDS) != SOCKET | INWARDS {
        return (operation, bytes);
    }
    let flags = u64::from(request.sr().load::<u32>(offset!(sr_message_flags)));
    let operation = if flags & MSG_PEEK != 0 { operation.by(CODE_URING_PEEK) } else { operation };
    if flags & MSG_TRUNC == 0 {
        return (operation, bytes);
    }
    // As in `transfer`.
    if operation.far() == Endpoint::Tcp as u8 {
        return (operation.with(Operation::COUNTED, true), 0);
    }
    let length = u64::from(request.sr().load::<u32>(offset!(sr_length)));
    (operation.with(Operation::TRUNCATES, true), if way & VECTOR == 0 { bytes.min(length) } else { bytes })
}

/// Counts a vector's bytes by what was noted of its memory.
#[inline(always)]
fn vector(owner: Owner, mut operation: Operation, noted: &Noted, mut bytes: u64) {
    for i in 0..PIECES {
        let here = bytes.min(noted.bytes_of[i]);
        if here != 0 {
            owner.piece(operation, noted.near_of[i], here);
            operation = operation.with(Operation::COUNTED, true);
            bytes -= here;
        }
    }
    if bytes != 0 && !operation.is(Operation::TRUNCATES) {
        owner.piece(operation, CODE_UNKNOWN, bytes);
    }
}

/// Counts a splice or tee. The request's file is the sink.
#[inline(always)]
fn between(owner: Owner, request: Request, sink: u64, noted: u8, bytes: u64) {
    let source = if request.is_tee() {
        // Both ends of a tee are pipes.
        Endpoint::Pipe as u8
    } else if noted != CODE_UNKNOWN {
        noted
    } else {
        // It was not open yet when the request was submitted.
        splice_source(request)
    };
    let cell = cell_between(Mechanism::IoUring as u8, source, sink as u8);
    owner.add(cell, 1, bytes);
    if config!(net) != 0 && endpoint::socket(sink) != 0 {
        sockets::sent_by(request.task(), endpoint::socket(sink), u64::from(cell));
    }
    talked(request, Operation::from_buffer(Mechanism::IoUring, sink as u8), bytes);
}

/// Tells whose the socket is that a request has sent on. Of one that another task completed it is not known any more
/// from what memory: mostly anonymous.
#[inline(always)]
fn sent(ledger: *mut ThreadLedger, request: Request, operation: Operation, socket: u64) {
    if config!(net) == 0 || socket == 0 || operation.is(Operation::INWARDS) {
        return;
    }
    let zerocopy = u64::from(operation.mechanism() == Mechanism::IoUringZerocopy as u8);
    // SAFETY: the running thread's ledger, or none.
    let cell = match unsafe { ledger.as_ref() } {
        Some(ledger) => ledger.last_cell,
        None => u64::from(cell_of(operation, Endpoint::User as u8)),
    };
    sockets::sent_by(request.task(), socket | zerocopy, cell);
}
