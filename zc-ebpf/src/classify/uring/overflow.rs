//! Completions that find the queue full.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;

use super::complete_other;
use super::multishot::complete_again;
use super::request::Request;
use crate::kernel::{self, Task, number};
use crate::maps::offset;

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
