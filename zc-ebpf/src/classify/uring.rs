//! io_uring requests: what each moved, told from the request itself when its completion is posted.
//!
//! That happens in the submitter's thread, in a worker or polling thread of its process, or, when a ring is torn down,
//! in a kernel worker. What may have changed by then (vectors, which belong to the submitter again) is noted at the
//! submission.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use zc_common::config::{CODE_UNKNOWN, CODE_URING_PEEK};
use zc_common::path::{Endpoint, Mechanism};
use zc_common::record::{CELL_NO_DESCRIPTOR, SharedKey, ThreadLedger};

use super::note::{self, Noted, PIECES};
use super::{MSG_PEEK, MSG_TRUNC, Operation, cell_between, cell_of, count_buffer, piece};
use crate::account::{self, COUNT, COUNT_AND_MOVE, LEAVE_OUT};
use crate::kernel::{self, At, Known, Task, number, read_user};
use crate::maps::{self, MULTISHOTS, REQUESTS, THREADS, config, offset};
use crate::probes::identity;
use crate::{buffer, endpoint, slots, sockets};

// include/uapi/linux/io_uring.h, v6.18: numbers of operations never change.
const READV: usize = 1;
const WRITEV: usize = 2;
const READ_FIXED: usize = 4;
const WRITE_FIXED: usize = 5;
const SENDMSG: usize = 9;
const RECVMSG: usize = 10;
const READ: usize = 22;
const WRITE: usize = 23;
const SEND: usize = 26;
const RECV: usize = 27;
const SPLICE: usize = 30;
const TEE: usize = 33;
const SEND_ZC: usize = 47;
const SENDMSG_ZC: usize = 48;
const READ_MULTISHOT: usize = 49;
const READV_FIXED: usize = 60;
const WRITEV_FIXED: usize = 61;

/// `REQ_F_FIXED_FILE`, `REQ_F_BUFFER_SELECT`, `REQ_F_CQE_SKIP`: bits of the submission's flags
/// (include/linux/io_uring_types.h, v6.1).
const FIXED_FILE: u32 = 1;
const BUFFER_SELECT: u32 = 1 << 5;
const CQE_SKIP: u32 = 1 << 6;

/// Flags of sends and receives (include/uapi/linux/io_uring.h, v6.18).
const RECV_MULTISHOT: u16 = 1 << 1;
const FIXED_BUFFER: u16 = 1 << 2;
const BUNDLE: u16 = 1 << 4;
const VECTORIZED: u16 = 1 << 5;

/// `IORING_CQE_F_BUFFER`: the upper half of the flags is a provided buffer's number.
const CQE_BUFFER: u32 = 1;

/// How operations say what moves where.
mod way {
    /// Moves nothing that is counted.
    pub const NONE: u8 = 0;
    /// The buffer is the sink.
    pub const INWARDS: u8 = 1;
    /// An `io_sr_msg`; an `io_rw` otherwise.
    pub const SOCKET: u8 = 2;
    /// The buffer's address is that of iovecs, or of a message with iovecs.
    pub const VECTOR: u8 = 4;
    /// The buffer is a registered one.
    pub const FIXED: u8 = 8;
    /// SEND_ZC and SENDMSG_ZC.
    pub const ZEROCOPY: u8 = 16;
    /// Between two descriptors.
    pub const BETWEEN: u8 = 32;
    /// Completes many times.
    pub const MULTISHOT: u8 = 64;
    /// Moves bytes.
    pub const MOVES: u8 = 128;
}
use way::{BETWEEN, FIXED, INWARDS, MOVES, MULTISHOT, SOCKET, VECTOR, ZEROCOPY};

const WAYS: usize = 64;
/// By the operation's number.
#[unsafe(no_mangle)]
static URING_WAYS: [u8; WAYS] = {
    let mut ways = [way::NONE; WAYS];
    ways[READ] = MOVES | INWARDS;
    ways[WRITE] = MOVES;
    ways[READV] = MOVES | INWARDS | VECTOR;
    ways[WRITEV] = MOVES | VECTOR;
    ways[READ_FIXED] = MOVES | INWARDS | FIXED;
    ways[WRITE_FIXED] = MOVES | FIXED;
    ways[READV_FIXED] = MOVES | INWARDS | FIXED;
    ways[WRITEV_FIXED] = MOVES | FIXED;
    ways[READ_MULTISHOT] = MOVES | INWARDS | MULTISHOT;
    ways[SEND] = MOVES | SOCKET;
    ways[RECV] = MOVES | INWARDS | SOCKET;
    ways[SENDMSG] = MOVES | SOCKET | VECTOR;
    ways[RECVMSG] = MOVES | INWARDS | SOCKET | VECTOR;
    ways[SEND_ZC] = MOVES | SOCKET | ZEROCOPY;
    ways[SENDMSG_ZC] = MOVES | SOCKET | VECTOR | ZEROCOPY;
    ways[SPLICE] = MOVES | BETWEEN;
    ways[TEE] = MOVES | BETWEEN;
    ways
};

/// Which multishot request: it completes without telling which request it is, but for what the submitter called it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MultishotKey {
    /// The ring's address.
    pub ring: u64,
    /// The submitter's own name for the request; requests may share one.
    pub user_data: u64,
}

/// A multishot request that may complete again.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Multishot {
    /// The request's address.
    pub request: u64,
    /// Requests of this name.
    pub live: u32,
    /// Endpoint of its descriptor when submitted; unknown for a registered file.
    pub far: u8,
    /// Whether requests of this name have other descriptors.
    pub ambiguous: u8,
    /// Bytes of each completion that are no payload: the header of a multishot RECVMSG.
    pub header: u16,
}

/// A request.
#[derive(Clone, Copy)]
struct Request {
    address: u64,
    at: At,
}

impl Request {
    #[inline(always)]
    fn new(address: u64) -> Self {
        Self { address, at: At::new(address, config!(types.request)) }
    }

    #[inline(always)]
    fn way(self) -> u8 {
        let opcode: u8 = self.at.load(offset!(request_opcode));
        if opcode as usize >= WAYS { way::NONE } else { maps::entry(&URING_WAYS, opcode as usize) }
    }

    #[inline(always)]
    fn is_tee(self) -> bool {
        self.at.load::<u8>(offset!(request_opcode)) as usize == TEE
    }

    #[inline(always)]
    fn flags(self) -> u32 {
        self.at.load(offset!(request_flags))
    }

    #[inline(always)]
    fn result(self) -> i32 {
        self.at.load(offset!(request_result))
    }

    /// Its file: pointers are read by helper where functions that take numbers get them.
    #[inline(always)]
    fn file(self) -> u64 {
        number(self.address + offset!(request_file))
    }

    #[inline(always)]
    fn ring(self) -> u64 {
        number(self.address + offset!(request_ring))
    }

    /// The task that submitted it.
    #[inline(always)]
    fn task(self) -> u64 {
        let task = number(self.address + offset!(request_task));
        if offset!(context_task) == 0 { task } else { number(task + offset!(context_task)) }
    }

    /// Whether a task submitted it.
    #[inline(always)]
    fn is_of(self, task: Task) -> bool {
        let submitter: u64 = self.at.load(offset!(request_task));
        let submitter = match offset!(context_task) {
            0 => submitter,
            offset => At::new(submitter, config!(types.request_context)).load(offset),
        };
        submitter == task.at()
    }

    #[inline(always)]
    fn rw(self) -> At {
        At::new(self.address, config!(types.request_rw))
    }

    #[inline(always)]
    fn sr(self) -> At {
        At::new(self.address, config!(types.request_sr))
    }

    #[inline(always)]
    fn sr_flags(self) -> u16 {
        self.sr().load(offset!(sr_flags))
    }

    /// Where the buffer, the iovecs or the message are.
    #[inline(always)]
    fn address_of_buffer(self, way: u8) -> u64 {
        if way & SOCKET == 0 {
            return self.rw().load(offset!(rw_address));
        }
        let buffer = number(self.address + offset!(sr_buffer));
        if way & VECTOR != 0 {
            return buffer;
        }
        // A send or receive that was resumed has moved its buffer on.
        buffer - u64::from(self.sr().load::<u32>(offset!(sr_done)))
    }

    #[inline(always)]
    fn operation(self, way: u8, far: u8) -> Operation {
        let mechanism = if way & ZEROCOPY != 0 {
            Mechanism::IoUringZerocopy
        } else if way & FIXED != 0 || way & SOCKET != 0 && self.sr_flags() & FIXED_BUFFER != 0 {
            Mechanism::IoUringFixed
        } else {
            Mechanism::IoUring
        };
        if way & INWARDS != 0 { Operation::into_buffer(mechanism, far) } else { Operation::from_buffer(mechanism, far) }
    }
}

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
        return;
    };
    // As for the commonest calls (`plain`): no call of our own where the thread remembers the buffer.
    let ledger = slots::located(thread);
    match buffer::remembered(ledger, buffer::sequence(task.untrusted()), buffer) {
        Some(found) if bytes <= found.end - buffer => piece(ledger, operation, found.endpoint, bytes),
        _ => _ = count_buffer(ledger, operation.0, buffer, bytes),
    }
    sent(ledger, request, operation, socket);
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
    let what = endpoint::of_file_at(request.file());
    let far = what as u8;
    if way & BETWEEN != 0 {
        between(owner, request, what, noted.map_or(CODE_UNKNOWN, |noted| noted.source), u64::from(bytes));
        return;
    }
    let (operation, bytes) = received(request, way, request.operation(way, far), u64::from(bytes));
    count_operation(owner, request, way, operation, noted, bytes);
    sent(owner.ledger, request, operation, endpoint::socket(what));
}

/// Counts what a request between memory and a descriptor moved.
#[inline(always)]
fn count_operation(owner: Owner, request: Request, way: u8, operation: Operation, noted: Option<&Noted>, bytes: u64) {
    if operation.mechanism() == Mechanism::IoUringFixed as u8 {
        // Only anonymous memory and its kin can be registered for good: long-term pins of file mappings are refused
        // (check_vma_flags, mm/gup.c, v6.1). The pages stay when they are unmapped.
        return owner.piece(operation, Endpoint::User as u8, bytes);
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

/// Whether a request's address is that of a vector, or of a message with one, of which there is a note.
#[inline(always)]
fn is_vector(request: Request, way: u8) -> bool {
    way & VECTOR != 0 || way & SOCKET != 0 && request.sr_flags() & VECTORIZED != 0
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

/// What a splice's other descriptor is.
#[inline(always)]
fn splice_source(request: Request) -> u8 {
    /// `SPLICE_F_FD_IN_FIXED` (include/uapi/linux/io_uring.h, v6.1): a registered file.
    const FIXED: u32 = 1 << 31;
    let flags = kernel::read::<u32>(request.address + offset!(splice_flags)).unwrap_or(0);
    if flags & FIXED != 0 {
        return CODE_UNKNOWN;
    }
    let fd = kernel::read::<u32>(request.address + offset!(splice_source)).unwrap_or(u32::MAX);
    endpoint::of_descriptor(u64::from(fd)) as u8
}

/// What the provided buffer is that a completion took.
#[inline(always)]
fn selected(owner: Owner, ring: u64, noted: &Noted, cqe_flags: u32) -> u8 {
    if cqe_flags & CQE_BUFFER == 0 {
        return CODE_UNKNOWN;
    }
    match provided(ring, u64::from(noted.group), u64::from(cqe_flags >> 16)) {
        0 => noted.near,
        address => owner.near(address),
    }
}

/// The list of provided buffers of a group: its address, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn group_of(ring: u64, group: u64) -> u64 {
    /// Groups of the array that 6.1 has beside the xarray.
    const FIRST: u64 = 64;
    if offset!(ring_first_groups) != 0 && group < FIRST {
        let first = number(ring + offset!(ring_first_groups));
        return if first == 0 { 0 } else { first + group * offset!(group_size) };
    }
    let mut entry = number(ring + offset!(ring_groups));
    // Three levels of 64 hold more than the 65,536 groups.
    for _ in 0..4 {
        // An entry with this bit is a node (xa_is_node, include/linux/xarray.h, v6.1).
        if entry & 3 != 2 {
            break;
        }
        let node = entry - 2;
        let shift = kernel::read::<u8>(node + offset!(xarray_shift)).unwrap_or(0) & 63;
        entry = number(node + offset!(xarray_slots) + (group >> shift & 63) * 8);
    }
    entry
}

/// The address of a provided buffer that was taken just now; 0 where the kernel does not tell.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn provided(ring: u64, group: u64, id: u64) -> u64 {
    let list = group_of(ring, group);
    if list == 0 || kernel::read::<u16>(list + offset!(group_entries)).unwrap_or(0) == 0 {
        return 0;
    }
    let head = kernel::read::<u16>(list + offset!(group_head)).unwrap_or(0);
    let mask = kernel::read::<u16>(list + offset!(group_mask)).unwrap_or(0);
    let entries = number(list + offset!(group_ring));
    // The head has moved on, or not if the buffer is used up bit by bit.
    for at in [head.wrapping_sub(1), head] {
        // An io_uring_buf: address, length, id (include/uapi/linux/io_uring.h, v6.1).
        let entry = entries + u64::from(at & mask) * 16;
        let number_and_length = number(entry + 8);
        if number_and_length >> 32 & 0xffff == id {
            return number(entry);
        }
    }
    0
}

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
        super::vector::iovecs_of(at, compat).unwrap_or((0, 0))
    };
    note::vector(iovecs, count, compat);
}

#[inline(always)]
fn is_multishot(request: Request, way: u8) -> bool {
    if way & MULTISHOT != 0 {
        return true;
    }
    if way & SOCKET == 0 || way & ZEROCOPY != 0 {
        return false;
    }
    let flags = request.sr_flags();
    if way & INWARDS != 0 { flags & RECV_MULTISHOT != 0 } else { flags & BUNDLE != 0 }
}

#[inline(always)]
fn key_of(request: Request) -> MultishotKey {
    MultishotKey { ring: request.ring(), user_data: request.at.load(offset!(request_user_data)) }
}

#[inline(always)]
fn begin_multishot(request: Request, way: u8, flags: u32) {
    let fd: u32 = request.at.load(offset!(request_cqe_flags));
    let far = if flags & FIXED_FILE != 0 { CODE_UNKNOWN } else { endpoint::of_descriptor(u64::from(fd)) as u8 };
    let mut new = Multishot { request: request.address, live: 1, far, ambiguous: 0, header: 0 };
    if way & (SOCKET | VECTOR) == SOCKET | VECTOR {
        new.header = header_of(request.address_of_buffer(way));
    }
    let key = key_of(request);
    // SAFETY: requests of one ring are submitted one after the other.
    if let Some(old) = unsafe { MULTISHOTS.get(&key) } {
        let same = old.far == far && far != CODE_UNKNOWN && old.header == new.header;
        new.live = old.live + 1;
        new.ambiguous = u8::from(old.ambiguous != 0 || !same);
    }
    let _ = MULTISHOTS.insert(&key, &new, 0);
}

/// Bytes before the payload of each completion of a multishot RECVMSG: an `io_uring_recvmsg_out`, and room for name and
/// control data (io_recvmsg_multishot, io_uring/net.c, v6.1).
#[inline(always)]
fn header_of(message: u64) -> u16 {
    const OUT: u64 = 16;
    let name = read_user::<u32>(message + 8).unwrap_or(0);
    let control = read_user::<u64>(message + 40).unwrap_or(0);
    (OUT + u64::from(name) + control) as u16
}

#[inline(always)]
fn end_multishot(request: Request) {
    let key = key_of(request);
    // SAFETY: requests of one ring complete one after the other.
    let Some(old) = (unsafe { MULTISHOTS.get(&key) }) else { return };
    if old.live <= 1 {
        let _ = MULTISHOTS.remove(&key);
    } else {
        let fewer = Multishot { live: old.live - 1, ..*old };
        let _ = MULTISHOTS.insert(&key, &fewer, 0);
    }
}

/// A completion that is not a request's last: of a multishot request, or a message from another ring.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn complete_again(ring: u64, user_data: u64, result: u64, cqe_flags: u64) -> u64 {
    let (bytes, cqe_flags) = (result as i32, cqe_flags as u32);
    // Whatever moves bytes so takes provided buffers.
    if bytes <= 0 || cqe_flags & CQE_BUFFER == 0 {
        return 0;
    }
    // SAFETY: requests of one ring complete one after the other.
    let Some(multishot) = (unsafe { MULTISHOTS.get(&MultishotKey { ring, user_data }) }) else { return 0 };
    let request = Request::new(multishot.request);
    let way = request.way();
    let owner = Owner::of(request.task());
    let what = if multishot.ambiguous == 0 { endpoint::of_file_at(request.file()) } else { u64::from(CODE_UNKNOWN) };
    let bytes = (bytes as u64).saturating_sub(u64::from(multishot.header));
    // SAFETY: as above.
    let Some(noted) = (unsafe { REQUESTS.get(&multishot.request) }) else { return 0 };
    let operation = request.operation(way, what as u8);
    let near = selected(owner, ring, noted, cqe_flags);
    owner.piece(operation, near, bytes);
    sent(owner.ledger, request, operation, endpoint::socket(what));
    0
}

/// Completions that one flush may have in hand when the queue overflows.
const FLUSHED: u32 = 4096;

/// The search for the request of a completion that found the queue full.
struct Search {
    node: u64,
    user_data: u64,
    result: u64,
    found: u64,
}

/// A completion found the queue full and is kept apart; it says no more than what the submitter will see. The request
/// is the one that the running worker is at, or among those that are being flushed (io_req_complete_post and
/// __io_submit_flush_completions, io_uring/io_uring.c, v6.1 and v6.12).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn overflow(ring: u64, user_data: u64, result: u64, cqe_flags: u64) -> u64 {
    let bytes = result as i32;
    if bytes <= 0 {
        return 0;
    }
    let mut search = Search { node: number(ring + offset!(ring_completing)), user_data, result, found: 0 };
    let own = workers_request();
    if own != 0 && search.is_for(own) {
        search.found = own;
    } else {
        // SAFETY: the callback has the helper's signature and the search outlives the call.
        unsafe { bpf_loop(FLUSHED, on_flushed as *mut c_void, (&raw mut search).cast(), 0) };
    }
    if search.found == 0 {
        return complete_again(ring, user_data, result, cqe_flags);
    }
    complete_other(search.found, u64::from(Request::new(search.found).way()))
}

/// The request that the running task, if it is one of io_uring's workers, is at; or 0.
#[inline(always)]
fn workers_request() -> u64 {
    /// `PF_IO_WORKER` (include/linux/sched.h, v6.1).
    const IO_WORKER: u32 = 0x10;
    let task = Task::current();
    if task.known().load::<u32>(offset!(task_flags)) & IO_WORKER == 0 {
        return 0;
    }
    let work = number(number(task.at() + offset!(task_worker)) + offset!(worker_work));
    if work == 0 { 0 } else { work - offset!(request_work) }
}

impl Search {
    #[inline(always)]
    fn is_for(&self, request: u64) -> bool {
        let result = kernel::read::<i32>(request + offset!(request_result)).unwrap_or(0);
        result == self.result as i32 && number(request + offset!(request_user_data)) == self.user_data
    }
}

extern "C" fn on_flushed(_index: u32, search: *mut Search) -> i64 {
    // SAFETY: the search that `overflow` passed.
    let search = unsafe { &mut *search };
    if search.node == 0 {
        return 1;
    }
    let request = search.node - offset!(request_list);
    search.node = number(search.node);
    if search.is_for(request) {
        search.found = request;
        return 1;
    }
    0
}
