//! io_uring: its requests move bytes without a system call that says so.

use core::ffi::c_void;

use aya_ebpf::programs::BtfTracePointContext;

use crate::classify::uring;
use crate::kernel::{Known, argument, number};
use crate::maps::offset;

/// `io_uring_complete`: a completion is posted. From 6.15 on it hands over the CQE, before that its fields
/// (include/trace/events/io_uring.h, v6.1 and v6.15).
#[inline(always)]
pub fn complete(ctx: &BtfTracePointContext) {
    let request: u64 = ctx.arg(1);
    if request != 0 {
        return uring::complete(request);
    }
    let (user_data, result, flags) = if offset!(uring_cqe_by_pointer) != 0 {
        let cqe = argument(ctx, 2);
        let result_and_flags = number(cqe + 8);
        (number(cqe), result_and_flags & 0xffff_ffff, result_and_flags >> 32)
    } else {
        (ctx.arg(2), ctx.arg(3), ctx.arg(4))
    };
    uring::complete_again(argument(ctx, 0), user_data, result, flags);
}

/// `io_uring_cqe_overflow`: a completion found the queue full.
#[inline(always)]
pub fn overflow(ctx: &BtfTracePointContext) {
    uring::overflow(argument(ctx, 0), ctx.arg(1), ctx.arg(2), ctx.arg(3));
}

/// `io_uring_submit_req` (6.3 on), `io_uring_submit_sqe` before: a request is about to be issued.
#[inline(always)]
pub fn submit(ctx: &BtfTracePointContext) {
    let request: *const c_void = ctx.arg(0);
    if uring::is_noteworthy(Known::new(request)) {
        uring::submit(argument(ctx, 0));
    }
}
