//! Faults that ended in SIGBUS: most of all those behind the end of a file that shrank.

use core::ffi::c_void;

use zc_common::record::CELL_SIGBUS;

use crate::account;
use crate::kernel::read;
use crate::maps::offset;

const SIGBUS: i32 = 7;
/// `BUS_ADRERR` (include/uapi/asm-generic/siginfo.h, v6.1): what a fault that finds nothing to map sends (do_sigbus,
/// arch/x86/mm/fault.c, v6.1).
const NOTHING_THERE: i32 = 2;

/// A signal is sent by the running task; to itself, if a fault sends it. Without information `info` is 0 or 1.
#[inline(always)]
pub fn sent(signal: i32, info: *const c_void) {
    if signal != SIGBUS {
        return;
    }
    let code = crate::kernel::Known::new(info).at() + offset!(siginfo_code);
    if read::<i32>(code) == Some(NOTHING_THERE) {
        account::count_current(CELL_SIGBUS, 1, 0);
    }
}
