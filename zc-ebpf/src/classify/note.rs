//! What is noted of a request when it is submitted, for when it completes: its memory belongs to the submitter again
//! by then, and may hold anything.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use zc_common::config::CODE_UNKNOWN;

use crate::kernel::{Task, read_user};
use crate::{account, buffer};

/// Kinds of memory that one vector may span; what lies behind is unclassified.
pub const PIECES: usize = 4;

/// A note.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Noted {
    /// io_uring: the group of provided buffers. AIO: the operation.
    pub group: u16,
    /// io_uring: endpoint of the provided buffers, where the kernel does not tell which one was taken.
    pub near: u8,
    /// Endpoint of a descriptor: the one that io_uring splices from, or AIO's file.
    pub source: u8,
    /// How many of the following are used.
    pub pieces: u32,
    /// Endpoints of the vector's memory, in order.
    pub near_of: [u8; 8],
    /// And their bytes.
    pub bytes_of: [u64; PIECES],
}

impl Noted {
    #[inline(always)]
    pub fn new(group: u16) -> Self {
        Self {
            group,
            near: CODE_UNKNOWN,
            source: CODE_UNKNOWN,
            pieces: 0,
            near_of: [CODE_UNKNOWN; 8],
            bytes_of: [0; PIECES],
        }
    }
}

/// `UIO_MAXIOV` (include/uapi/linux/uio.h, v6.1).
const UIO_MAXIOV: u64 = 1024;

/// A walk along iovecs.
struct Walk {
    iovecs: u64,
    compat: bool,
    noted: Noted,
}

/// Notes what memory iovecs of the running task point to.
#[inline(always)]
pub fn vector(noted: &mut Noted, iovecs: u64, count: u64, compat: bool) {
    let mut walk = Walk { iovecs, compat, noted: *noted };
    if count <= UIO_MAXIOV {
        // SAFETY: the callback has the helper's signature and the walk outlives the call.
        unsafe { bpf_loop(count as u32, on_iovec as *mut c_void, (&raw mut walk).cast(), 0) };
    }
    *noted = walk.noted;
}

extern "C" fn on_iovec(index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the walk that `vector` passed.
    let walk = unsafe { &mut *walk };
    let index = u64::from(index);
    let iovec = if walk.compat {
        read_user::<[u32; 2]>(walk.iovecs + index * 8).map(|[base, length]| (u64::from(base), u64::from(length)))
    } else {
        read_user::<[u64; 2]>(walk.iovecs + index * 16).map(|[base, length]| (base, length))
    };
    let Some((base, length)) = iovec else { return 1 };
    if length == 0 {
        return 0;
    }
    i64::from(!piece(&mut walk.noted, base, length))
}

/// Notes what memory lies at an address; whether there was room for it.
#[inline(always)]
pub fn piece(noted: &mut Noted, base: u64, length: u64) -> bool {
    let Some(ledger) = account::ledger_of(Task::current()) else { return false };
    let near = buffer::endpoint_at(ledger, base) as u8;
    let last = noted.pieces as usize;
    if last != 0 && last <= PIECES && noted.near_of[(last - 1) & (PIECES - 1)] == near {
        noted.bytes_of[(last - 1) & (PIECES - 1)] += length;
        return true;
    }
    if last >= PIECES {
        return false;
    }
    noted.near_of[last & (PIECES - 1)] = near;
    noted.bytes_of[last & (PIECES - 1)] = length;
    noted.pieces += 1;
    true
}
