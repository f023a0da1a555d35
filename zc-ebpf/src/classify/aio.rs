//! Linux AIO: requests are noted when io_submit has taken them, and counted with what they moved when their events are
//! reaped, by whichever thread: both in the submitter's process, where no interrupt's context can mislead.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use zc_common::config::{CODE_UNKNOWN, table_index};
use zc_common::path::{Endpoint, Mechanism};
use zc_common::record::{CELL_NO_BUFFER, ThreadLedger};

use super::note::{self, Noted, PIECES};
use super::{Operation, piece};
use crate::kernel::{Task, read_user};
use crate::maps::{self, AIO, TABLE, config, offset};
use crate::{account, endpoint, sockets, streams};

// include/uapi/linux/aio_abi.h, v6.1.
const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

/// Requests or events of one call that are looked at.
const MOST: u64 = 65_536;

/// A request: the memory map that its addresses belong to, and the address of its iocb.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AioKey {
    pub mm: u64,
    pub iocb: u64,
}

impl AioKey {
    #[inline(always)]
    fn new(iocb: u64) -> Self {
        Self { mm: Task::current().untrusted().load(offset!(task_mm)), iocb }
    }
}

/// A walk along an array in the caller's memory.
struct Walk {
    at: u64,
    compat: bool,
}

/// io_submit has taken `count` of the iocbs whose addresses lie at `at`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn submitted(at: u64, count: u64, compat: u64) -> u64 {
    let mut walk = Walk { at, compat: compat != 0 };
    // SAFETY: the callback has the helper's signature and the walk outlives the call.
    unsafe { bpf_loop(count.min(MOST) as u32, on_submitted as *mut c_void, (&raw mut walk).cast(), 0) };
    0
}

extern "C" fn on_submitted(index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the walk that `submitted` passed.
    let walk = unsafe { &*walk };
    let index = u64::from(index);
    let iocb = if walk.compat {
        read_user::<u32>(walk.at + index * 4).map(u64::from)
    } else {
        read_user::<u64>(walk.at + index * 8)
    };
    let Some(iocb) = iocb else { return 1 };
    let Some(noted) = look_at(iocb, walk.compat) else {
        // One at the same address may have been left by a process that ended.
        let _ = AIO.remove(&AioKey::new(iocb));
        return 0;
    };
    let _ = AIO.insert(&AioKey::new(iocb), noted, 0);
    0
}

/// What an iocb asks for; `None` if it moves no bytes, or can't be read.
#[inline(always)]
fn look_at(iocb: u64, compat: bool) -> Option<&'static Noted> {
    // The operation is the lower half of a word, the descriptor the upper half.
    let what = read_user::<u64>(iocb + 16)?;
    let operation = what as u16;
    if !matches!(operation, PREAD | PWRITE | PREADV | PWRITEV) {
        return None;
    }
    let noted = note::begin(operation)?;
    let end = endpoint::of_descriptor(what >> 32);
    noted.source = end as u8;
    if config!(net) != 0 && endpoint::socket(end) != 0 && matches!(operation, PWRITE | PWRITEV) {
        // Sockets take AIO's writes right away. From what memory is looked at below: mostly anonymous.
        let cell = maps::entry(&TABLE, table_index(Mechanism::Aio as u8, Endpoint::User as u8, noted.source));
        sockets::sent_by(0, endpoint::socket(end), u64::from(cell));
    }
    let [buffer, bytes] = read_user::<[u64; 2]>(iocb + 24)?;
    if matches!(operation, PREADV | PWRITEV) {
        note::vector(buffer, bytes, compat);
    } else {
        note::piece(buffer, bytes);
    }
    Some(noted)
}

/// `count` events have been reaped to `at`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn reaped(at: u64, count: u64) -> u64 {
    let mut walk = Walk { at, compat: false };
    // SAFETY: the callback has the helper's signature and the walk outlives the call.
    unsafe { bpf_loop(count.min(MOST) as u32, on_reaped as *mut c_void, (&raw mut walk).cast(), 0) };
    0
}

extern "C" fn on_reaped(index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the walk that `reaped` passed.
    let walk = unsafe { &*walk };
    let Some(ledger) = account::ledger_of(Task::current()) else { return 1 };
    // An io_event: data, address of the iocb, two results (include/uapi/linux/aio_abi.h, v6.1).
    let Some([iocb, result]) = read_user::<[u64; 2]>(walk.at + u64::from(index) * 32 + 8) else {
        // How many bytes the events tell of can't be told; that there are some can.
        account::count(ledger, CELL_NO_BUFFER, 1, 0);
        return 1;
    };
    let key = AioKey::new(iocb);
    match AIO.get_ptr(&key) {
        // SAFETY: only its own event, which comes once, takes the note away.
        Some(noted) => count(ledger, unsafe { &*noted }, result.cast_signed()),
        None => {
            // It was submitted before the probes, or completed before io_submit came back in another thread.
            if let Some(noted) = look_at(iocb, false) {
                count(ledger, noted, result.cast_signed());
            }
        }
    }
    let _ = AIO.remove(&key);
    streams::tell(ledger);
    0
}

/// Counts what a request moved.
#[inline(always)]
fn count(ledger: &mut ThreadLedger, noted: &Noted, result: i64) {
    if result <= 0 {
        return;
    }
    let mut operation = if matches!(noted.group, PREAD | PREADV) {
        Operation::into_buffer(Mechanism::Aio, noted.source)
    } else {
        Operation::from_buffer(Mechanism::Aio, noted.source)
    };
    let mut bytes = result.cast_unsigned();
    for i in 0..PIECES {
        let here = bytes.min(noted.bytes_of[i]);
        if here != 0 {
            piece(ledger, operation, noted.near_of[i], here);
            operation = operation.with(Operation::COUNTED, true);
            bytes -= here;
        }
    }
    if bytes != 0 {
        piece(ledger, operation, CODE_UNKNOWN, bytes);
    }
}
