//! Operations whose buffers are iovecs, or messages with iovecs.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use zc_common::config::CODE_UNKNOWN;
use zc_common::record::CELL_NO_BUFFER;

use super::{Operation, count_buffer, piece};
use crate::kernel::{Task, read_user};
use crate::{account, peers};

/// `UIO_MAXIOV` (include/uapi/linux/uio.h, v6.1): the kernel takes no more iovecs or messages in one call.
const UIO_MAXIOV: u64 = 1024;

/// A walk along an array of iovecs.
struct Walk {
    iovecs: u64,
    /// Payload bytes not yet placed.
    bytes: u64,
    operation: Operation,
}

impl Walk {
    /// Reads one iovec: address and length.
    #[inline(always)]
    fn iovec(&self, index: u64) -> Option<(u64, u64)> {
        if self.operation.is(Operation::COMPAT) {
            let [base, length] = read_user::<[u32; 2]>(self.iovecs + index * 8)?;
            Some((u64::from(base), u64::from(length)))
        } else {
            let [base, length] = read_user::<[u64; 2]>(self.iovecs + index * 16)?;
            Some((base, length))
        }
    }

    /// Places the bytes of one iovec; whether more are left.
    #[inline(always)]
    fn step(&mut self, index: u64) -> bool {
        let Some(ledger) = account::ledger_of(Task::current()) else { return false };
        let Some((base, length)) = self.iovec(index) else { return false };
        let here = self.bytes.min(length);
        if here != 0 {
            count_buffer(ledger, self.operation.0, base, here);
            self.operation = self.operation.with(Operation::COUNTED, true);
            self.bytes -= here;
        }
        self.bytes != 0
    }
}

/// Counts an operation over iovecs. Returns the bytes counted.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn count_iovecs(operation: u64, iovecs: u64, count: u64, bytes: u64) -> u64 {
    let mut walk = Walk { iovecs, bytes, operation: Operation(operation) };
    if count <= UIO_MAXIOV {
        // SAFETY: the callback has the helper's signature and the walk outlives the call.
        unsafe { bpf_loop(count as u32, on_iovec as *mut c_void, (&raw mut walk).cast(), 0) };
    }
    if walk.bytes != 0 && !walk.operation.is(Operation::TRUNCATES) {
        if let Some(ledger) = account::ledger_of(Task::current()) {
            piece(ledger, walk.operation, CODE_UNKNOWN, walk.bytes);
        }
        return bytes;
    }
    bytes - walk.bytes
}

extern "C" fn on_iovec(index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the walk that `count_iovecs` passed.
    let walk = unsafe { &mut *walk };
    i64::from(!walk.step(u64::from(index)))
}

/// Address and number of a msghdr's iovecs.
#[inline(always)]
pub(super) fn iovecs_of(message: u64, compat: bool) -> Option<(u64, u64)> {
    if compat {
        let [iovecs, count] = read_user::<[u32; 2]>(message + 8)?;
        Some((u64::from(iovecs), u64::from(count)))
    } else {
        let [iovecs, count] = read_user::<[u64; 2]>(message + 16)?;
        Some((iovecs, count))
    }
}

/// Counts an operation over one msghdr. Returns the bytes counted.
#[inline(always)]
pub(super) fn message(operation: Operation, message: u64, bytes: u64) -> u64 {
    // Without iovecs all bytes are unclassified.
    let (at, count) = iovecs_of(message, operation.is(Operation::COMPAT)).unwrap_or((0, 0));
    count_iovecs(operation.0, at, count, bytes)
}

/// A walk along an array of mmsghdrs.
struct Messages {
    at: u64,
    operation: Operation,
}

/// Counts an operation over as many mmsghdrs as the call returned: each holds the bytes it moved.
#[inline(always)]
pub(super) fn messages(operation: Operation, at: u64, count: u64) {
    let mut messages = Messages { at, operation };
    if count <= UIO_MAXIOV {
        // SAFETY: the callback has the helper's signature and `messages` outlives the call.
        unsafe { bpf_loop(count as u32, on_message as *mut c_void, (&raw mut messages).cast(), 0) };
    }
}

extern "C" fn on_message(index: u32, messages: *mut Messages) -> i64 {
    // SAFETY: the structure that `messages` passed.
    let messages = unsafe { &mut *messages };
    let (size, length_at) = if messages.operation.is(Operation::COMPAT) { (32, 28) } else { (64, 56) };
    let header = messages.at + u64::from(index) * size;
    let Some(bytes) = read_user::<u32>(header + length_at) else {
        // How many bytes these messages had can't be told; that there were some can.
        if let Some(ledger) = account::ledger_of(Task::current()) {
            account::count(ledger, CELL_NO_BUFFER, 1, 0);
        }
        return 1;
    };
    if bytes != 0 {
        let moved = message(messages.operation, header, u64::from(bytes));
        if peers::talks(messages.operation) {
            peers::moved(messages.operation.0, peers::name_of(header, messages.operation.is(Operation::COMPAT)), moved);
        }
        // The operation is counted with its first bytes.
        messages.operation = messages.operation.with(Operation::COUNTED, true);
    }
    0
}
