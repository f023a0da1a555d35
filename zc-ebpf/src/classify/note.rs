//! What is noted of a request when it is submitted, for when it completes: its memory belongs to the submitter again
//! by then, and may hold anything.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use zc_common::config::CODE_UNKNOWN;

use crate::kernel::{Task, read_user};
use crate::maps::NOTE;
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

/// Begins a note, where there is room for it: the stack, 512 bytes in all before v6.13, has none.
#[inline(always)]
pub fn begin(group: u16) -> Option<&'static mut Noted> {
    // SAFETY: per-CPU, and what notes runs with preemption off, never in an interrupt.
    let noted = unsafe { NOTE.get_ptr_mut(0)?.as_mut()? };
    noted.group = group;
    noted.near = CODE_UNKNOWN;
    noted.source = CODE_UNKNOWN;
    noted.pieces = 0;
    noted.near_of = [CODE_UNKNOWN; 8];
    for bytes in &mut noted.bytes_of {
        // SAFETY: a live word; volatile, since the compiler would call a function that fills them.
        unsafe { core::ptr::write_volatile(bytes, 0) };
    }
    Some(noted)
}

/// The note that has begun.
#[inline(always)]
fn begun() -> Option<&'static mut Noted> {
    // SAFETY: as above.
    unsafe { NOTE.get_ptr_mut(0)?.as_mut() }
}

/// `UIO_MAXIOV` (include/uapi/linux/uio.h, v6.1).
const UIO_MAXIOV: u64 = 1024;

/// A walk along iovecs.
struct Walk {
    iovecs: u64,
    compat: bool,
}

/// Notes what memory iovecs of the running task point to.
#[inline(always)]
pub fn vector(iovecs: u64, count: u64, compat: bool) {
    let mut walk = Walk { iovecs, compat };
    if count <= UIO_MAXIOV {
        // SAFETY: the callback has the helper's signature and the walk outlives the call.
        unsafe { bpf_loop(count as u32, on_iovec as *mut c_void, (&raw mut walk).cast(), 0) };
    }
}

extern "C" fn on_iovec(index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the walk that `vector` passed.
    let walk = unsafe { &*walk };
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
    if piece(base, length) == 0 { 1 } else { 0 }
}

/// Notes what memory lies at an address. Returns how many pieces there are now, 0 if there was no room for it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn piece(base: u64, length: u64) -> u64 {
    let Some(ledger) = account::ledger_of(Task::current()) else { return 0 };
    let near = buffer::endpoint_at(ledger, base) as u8;
    let Some(noted) = begun() else { return 0 };
    let used = u64::from(noted.pieces);
    let last = place(used.wrapping_sub(1));
    if used != 0 && noted.near_of[last] == near {
        noted.bytes_of[last] += length;
        return used;
    }
    if used >= PIECES as u64 {
        return 0;
    }
    let next = place(used);
    noted.near_of[next] = near;
    noted.bytes_of[next] = length;
    noted.pieces += 1;
    used + 1
}

/// A place among the pieces. In a way that the compiler keeps, though it may know better: the verifier does not.
#[inline(always)]
fn place(number: u64) -> usize {
    let mut place = number;
    // SAFETY: it only changes the register.
    unsafe {
        core::arch::asm!("{0} &= {1}", inout(reg) place, const PIECES - 1, options(pure, nomem, nostack));
    }
    place as usize & (PIECES - 1)
}

const _: () = assert!(PIECES.is_power_of_two());
