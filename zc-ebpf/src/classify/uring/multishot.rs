//! Multishot requests: they complete many times, and the last time only as themselves.

use zc_common::config::CODE_UNKNOWN;

use super::provided::selected;
use super::request::way::{SOCKET, VECTOR};
use super::request::{CQE_BUFFER, FIXED_FILE, Request};
use super::{Owner, sent, talked};
use crate::endpoint;
use crate::kernel::read_user;
use crate::maps::{MULTISHOTS, REQUESTS, offset};

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

#[inline(always)]
fn key_of(request: Request) -> MultishotKey {
    MultishotKey { ring: request.ring(), user_data: request.at.load(offset!(request_user_data)) }
}

#[inline(always)]
pub(super) fn begin_multishot(request: Request, way: u8, flags: u32) {
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
pub(super) fn end_multishot(request: Request) {
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
    owner.begin();
    owner.piece(operation, near, bytes);
    owner.tell();
    sent(owner.ledger, request, operation, endpoint::socket(what));
    talked(request, operation, bytes);
    0
}
