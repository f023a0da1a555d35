//! zcprof's kernel half: the entry points. What they do is in `probes`.
// The BPF target has atomic addition but no compare-and-swap, so `AtomicU64::fetch_add` does not exist for it.
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(internal_features, reason = "the only way to BPF_ATOMIC | BPF_ADD")]
#![no_std]
#![no_main]

mod account;
mod buffer;
mod classify;
mod devices;
mod endpoint;
mod kernel;
mod maps;
mod passing;
mod peers;
mod probes;
mod slots;
mod sockets;
mod streams;

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{btf_tracepoint, perf_event};
use aya_ebpf::programs::{BtfTracePointContext, PerfEventContext};

#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    probes::sys_exit::run(ctx.arg(0), ctx.arg(1));
    0
}

/// Does nothing: what the overhead benchmark holds the real one against. The agent never loads it.
#[btf_tracepoint(function = "sys_exit")]
fn sys_exit_empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// The same on io_uring's completions.
#[btf_tracepoint(function = "io_uring_complete")]
fn io_uring_complete_empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// The same on its submissions.
#[btf_tracepoint(function = "io_uring_submit_req")]
fn io_uring_submit_empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    probes::lifecycle::fork(ctx.arg(0), ctx.arg(1));
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    #[cfg(feature = "debug-log")]
    aya_log_ebpf::debug!(&ctx, "exec in process {}", kernel::Task::current().tgid());
    probes::lifecycle::exec(ctx.arg(0), ctx.arg(2));
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    probes::lifecycle::exit(ctx.arg(0));
    0
}

#[perf_event]
fn audit_rcx(ctx: PerfEventContext) -> u32 {
    probes::audit::counted_in_rcx(ctx.as_ptr());
    0
}

#[perf_event]
fn audit_rdx(ctx: PerfEventContext) -> u32 {
    probes::audit::counted_in_rdx(ctx.as_ptr());
    0
}

#[perf_event]
fn audit_sum(ctx: PerfEventContext) -> u32 {
    probes::audit::summed_in_rdx(ctx.as_ptr());
    0
}

#[perf_event]
fn audit_iter_rcx(ctx: PerfEventContext) -> u32 {
    probes::audit::iterated_in_rcx(ctx.as_ptr());
    0
}

#[perf_event]
fn audit_iter_rdx(ctx: PerfEventContext) -> u32 {
    probes::audit::iterated_in_rdx(ctx.as_ptr());
    0
}

#[perf_event]
fn audit_page(_ctx: PerfEventContext) -> u32 {
    probes::audit::page();
    0
}

#[perf_event]
fn audit_carefully(ctx: PerfEventContext) -> u32 {
    probes::audit::carefully(ctx.as_ptr());
    0
}

#[btf_tracepoint(function = "signal_generate")]
fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    probes::usage::signal_sent();
    probes::sigbus::sent(ctx.arg(0), ctx.arg(1));
    0
}

#[btf_tracepoint(function = "page_fault_user")]
fn page_fault_user(ctx: BtfTracePointContext) -> i32 {
    probes::faults::user(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[btf_tracepoint(function = "page_fault_kernel")]
fn page_fault_kernel(ctx: BtfTracePointContext) -> i32 {
    probes::faults::kernel(ctx.arg(0), ctx.arg(2));
    0
}

#[btf_tracepoint(function = "mm_page_alloc")]
fn mm_page_alloc(ctx: BtfTracePointContext) -> i32 {
    probes::faults::allocated(ctx.arg(1), ctx.arg(2));
    0
}

#[btf_tracepoint(function = "rss_stat")]
fn rss_stat(ctx: BtfTracePointContext) -> i32 {
    probes::mapping::counted(ctx.arg(0), ctx.arg(1));
    0
}

#[btf_tracepoint(function = "mm_filemap_map_pages")]
fn mm_filemap_map_pages(_ctx: BtfTracePointContext) -> i32 {
    probes::mapping::around();
    0
}

#[btf_tracepoint(function = "mm_filemap_fault")]
fn mm_filemap_fault(_ctx: BtfTracePointContext) -> i32 {
    probes::mapping::one();
    0
}

#[btf_tracepoint(function = "block_bio_queue")]
fn block_bio_queue(ctx: BtfTracePointContext) -> i32 {
    probes::block::queued(ctx.arg(0));
    0
}

#[btf_tracepoint(function = "writeback_dirty_folio")]
fn writeback_dirty_folio(ctx: BtfTracePointContext) -> i32 {
    probes::block::dirtied(ctx.arg(1));
    0
}

#[btf_tracepoint(function = "io_uring_complete")]
fn io_uring_complete(ctx: BtfTracePointContext) -> i32 {
    probes::io_uring::complete(&ctx);
    0
}

#[btf_tracepoint(function = "io_uring_cqe_overflow")]
fn io_uring_overflow(ctx: BtfTracePointContext) -> i32 {
    probes::io_uring::overflow(&ctx);
    0
}

#[btf_tracepoint(function = "io_uring_submit_req")]
fn io_uring_submit(ctx: BtfTracePointContext) -> i32 {
    probes::io_uring::submit(&ctx);
    0
}

#[btf_tracepoint(function = "net_dev_start_xmit")]
fn net_dev_start_xmit(ctx: BtfTracePointContext) -> i32 {
    probes::net::transmitted(&ctx);
    0
}

#[btf_tracepoint(function = "netif_receive_skb")]
fn netif_receive_skb(ctx: BtfTracePointContext) -> i32 {
    probes::net::received(&ctx);
    0
}

#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    probes::net::retransmitted(&ctx);
    0
}

/// `bpf_iter__task` holds a pointer to the meta data and one to the task (include/linux/bpf.h, v6.1).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn iter_task(ctx: *const *const c_void) -> i32 {
    // SAFETY: the context of an iter/task program is two pointers.
    let (meta, task) = unsafe { (*ctx, *ctx.add(1)) };
    probes::threads::dump(meta.cast(), task.cast())
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
