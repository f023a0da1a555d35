//! A request: what its operation moves, and where the kernel keeps what it says of that.

use zc_common::config::CODE_UNKNOWN;
use zc_common::path::Mechanism;

use crate::classify::Operation;
use crate::endpoint;
use crate::kernel::{self, At, Task, number};
use crate::maps::{self, config, offset};

// include/uapi/linux/io_uring.h, v6.18: numbers of operations never change.
pub(super) const READV: usize = 1;
pub(super) const WRITEV: usize = 2;
pub(super) const READ_FIXED: usize = 4;
pub(super) const WRITE_FIXED: usize = 5;
pub(super) const SENDMSG: usize = 9;
pub(super) const RECVMSG: usize = 10;
pub(super) const READ: usize = 22;
pub(super) const WRITE: usize = 23;
pub(super) const SEND: usize = 26;
pub(super) const RECV: usize = 27;
pub(super) const SPLICE: usize = 30;
pub(super) const TEE: usize = 33;
pub(super) const SEND_ZC: usize = 47;
pub(super) const SENDMSG_ZC: usize = 48;
pub(super) const READ_MULTISHOT: usize = 49;
pub(super) const READV_FIXED: usize = 60;
pub(super) const WRITEV_FIXED: usize = 61;

/// `REQ_F_FIXED_FILE`, `REQ_F_BUFFER_SELECT`, `REQ_F_CQE_SKIP`: bits of the submission's flags
/// (include/linux/io_uring_types.h, v6.1).
pub(super) const FIXED_FILE: u32 = 1;
pub(super) const BUFFER_SELECT: u32 = 1 << 5;
pub(super) const CQE_SKIP: u32 = 1 << 6;

/// Flags of sends and receives (include/uapi/linux/io_uring.h, v6.18).
pub(super) const RECV_MULTISHOT: u16 = 1 << 1;
pub(super) const FIXED_BUFFER: u16 = 1 << 2;
pub(super) const BUNDLE: u16 = 1 << 4;
pub(super) const VECTORIZED: u16 = 1 << 5;

/// `IORING_CQE_F_BUFFER`: the upper half of the flags is a provided buffer's number.
pub(super) const CQE_BUFFER: u32 = 1;

/// How operations say what moves where.
pub(super) mod way {
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

pub(super) const WAYS: usize = 64;
/// By the operation's number.
#[unsafe(no_mangle)]
pub(super) static URING_WAYS: [u8; WAYS] = {
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

/// A request.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) address: u64,
    pub(super) at: At,
}

impl Request {
    #[inline(always)]
    pub(super) fn new(address: u64) -> Self {
        Self { address, at: At::new(address, config!(types.request)) }
    }

    #[inline(always)]
    pub(super) fn way(self) -> u8 {
        let opcode: u8 = self.at.load(offset!(request_opcode));
        if opcode as usize >= WAYS { way::NONE } else { maps::entry(&URING_WAYS, opcode as usize) }
    }

    #[inline(always)]
    pub(super) fn is_tee(self) -> bool {
        self.at.load::<u8>(offset!(request_opcode)) as usize == TEE
    }

    #[inline(always)]
    pub(super) fn flags(self) -> u32 {
        self.at.load(offset!(request_flags))
    }

    #[inline(always)]
    pub(super) fn result(self) -> i32 {
        self.at.load(offset!(request_result))
    }

    /// Its file: pointers are read by helper where functions that take numbers get them.
    #[inline(always)]
    pub(super) fn file(self) -> u64 {
        number(self.address + offset!(request_file))
    }

    #[inline(always)]
    pub(super) fn ring(self) -> u64 {
        number(self.address + offset!(request_ring))
    }

    /// The task that submitted it.
    #[inline(always)]
    pub(super) fn task(self) -> u64 {
        let task = number(self.address + offset!(request_task));
        if offset!(context_task) == 0 { task } else { number(task + offset!(context_task)) }
    }

    /// Whether a task submitted it.
    #[inline(always)]
    pub(super) fn is_of(self, task: Task) -> bool {
        let submitter: u64 = self.at.load(offset!(request_task));
        let submitter = match offset!(context_task) {
            0 => submitter,
            offset => At::new(submitter, config!(types.request_context)).load(offset),
        };
        submitter == task.at()
    }

    #[inline(always)]
    pub(super) fn rw(self) -> At {
        At::new(self.address, config!(types.request_rw))
    }

    #[inline(always)]
    pub(super) fn sr(self) -> At {
        At::new(self.address, config!(types.request_sr))
    }

    #[inline(always)]
    pub(super) fn sr_flags(self) -> u16 {
        self.sr().load(offset!(sr_flags))
    }

    /// Where the buffer, the iovecs or the message are.
    #[inline(always)]
    pub(super) fn address_of_buffer(self, way: u8) -> u64 {
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
    pub(super) fn operation(self, way: u8, far: u8) -> Operation {
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

/// Whether a request's address is that of a vector, or of a message with one, of which there is a note.
#[inline(always)]
pub(super) fn is_vector(request: Request, way: u8) -> bool {
    way & VECTOR != 0 || way & SOCKET != 0 && request.sr_flags() & VECTORIZED != 0
}

#[inline(always)]
pub(super) fn is_multishot(request: Request, way: u8) -> bool {
    if way & MULTISHOT != 0 {
        return true;
    }
    if way & SOCKET == 0 || way & ZEROCOPY != 0 {
        return false;
    }
    let flags = request.sr_flags();
    if way & INWARDS != 0 { flags & RECV_MULTISHOT != 0 } else { flags & BUNDLE != 0 }
}

/// What a splice's other descriptor is.
#[inline(always)]
pub(super) fn splice_source(request: Request) -> u8 {
    /// `SPLICE_F_FD_IN_FIXED` (include/uapi/linux/io_uring.h, v6.1): a registered file.
    const FIXED: u32 = 1 << 31;
    let flags = kernel::read::<u32>(request.address + offset!(splice_flags)).unwrap_or(0);
    if flags & FIXED != 0 {
        return CODE_UNKNOWN;
    }
    let fd = kernel::read::<u32>(request.address + offset!(splice_source)).unwrap_or(u32::MAX);
    endpoint::of_descriptor(u64::from(fd)) as u8
}
