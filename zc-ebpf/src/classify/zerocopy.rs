//! TCP_ZEROCOPY_RECEIVE: a getsockopt that maps what was received, and copies what it can't map.

use zc_common::config::{CODE_RECEIVED_COPY, table_index};
use zc_common::path::{Endpoint, Mechanism};
use zc_common::record::{CELL_NO_BUFFER, ThreadLedger};

use super::{Moved, Operation};
use crate::kernel::read_user;
use crate::maps::{self, TABLE};
use crate::{account, peers};

/// `IPPROTO_TCP`, the level.
const TCP: u64 = 6;
/// include/uapi/linux/tcp.h, v6.1.
const TCP_ZEROCOPY_RECEIVE: u64 = 35;
/// Where a `struct tcp_zerocopy_receive` has the bytes copied (same file): callers built before v5.11 have none.
const COPIED_AT: u64 = 32;

/// Counts what a successful getsockopt mapped and copied.
#[inline(always)]
pub(super) fn getsockopt(ledger: &mut ThreadLedger, args: &Moved) {
    if args.get::<1>() as u32 as u64 == TCP && args.get::<2>() as u32 as u64 == TCP_ZEROCOPY_RECEIVE {
        let bytes = received(ledger, args.get::<3>(), args.get::<4>());
        let operation = Operation::into_buffer(Mechanism::ZerocopyReceive, Endpoint::Tcp as u8).on(args.get::<0>());
        if peers::talks(operation) {
            peers::moved(operation.0, 0, bytes);
        }
    }
}

/// The argument is the same for 32-bit calls. Returns the bytes counted.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn received(ledger: *mut ThreadLedger, argument: u64, length_at: u64) -> u64 {
    // SAFETY: callers pass the running thread's ledger.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return 0 };
    let (Some(mapped), Some(length)) = (read_user::<u32>(argument + 8), read_user::<u32>(length_at)) else {
        account::count(ledger, CELL_NO_BUFFER, 1, 0);
        return 0;
    };
    let copied =
        if u64::from(length) < COPIED_AT + 4 { 0 } else { read_user::<i32>(argument + COPIED_AT).unwrap_or(0) };
    if mapped != 0 {
        account::count(ledger, cell(Mechanism::ZerocopyReceive as u8), 1, u64::from(mapped));
    }
    if copied > 0 {
        account::count(ledger, cell(CODE_RECEIVED_COPY), u64::from(mapped == 0), copied as u64);
        return u64::from(mapped) + copied as u64;
    }
    u64::from(mapped)
}

#[inline(always)]
fn cell(mechanism: u8) -> u8 {
    maps::entry(&TABLE, table_index(mechanism, Endpoint::Tcp as u8, Endpoint::User as u8))
}
