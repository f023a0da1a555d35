//! Whose sockets are: what network devices do for a socket happens in any task, or in none.
//!
//! A call that sends says so when it ends. What was seen of its socket before that waits in the socket's entry.

use aya_ebpf::bindings::BPF_NOEXIST;
use zc_common::record::{
    CELL_RETRANSMITTED, COPIED_AFTER_ALL, Cell, FIRST_NET_CELL, LINEARIZED, SharedKey, SocketOwner, ThreadLedger,
};

use crate::account::{atomic_add, count_shared};
use crate::kernel::{Task, number};
use crate::maps::{SOCKETS, config, offset};
use crate::probes::identity;
use crate::slots::exchange;

static NOBODY: SocketOwner = SocketOwner {
    inode: 0,
    process_start: 0,
    tgid: 0,
    cell: 0,
    zerocopy: 0,
    place: 0,
    copied_after_all: 0,
    linearized: 0,
    transmitted: 0,
    paged: 0,
    retransmitted: Cell { operations: 0, bytes: 0 },
};

/// The running thread has sent on a socket (bit 0: it has handed pages over), on the path that it counted last.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sent(ledger: *mut ThreadLedger, socket: u64) -> u64 {
    // SAFETY: callers pass the running thread's ledger.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return 0 };
    sent_by(0, socket, ledger.last_cell)
}

/// A task's process has sent on a socket, on the path with this cell; 0 stands for the running task.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sent_by(task: u64, socket: u64, cell: u64) -> u64 {
    let process = identity::process_of(if task == 0 { Task::current().at() } else { task });
    if u64::from(process.tgid) == config!(own_tgid) {
        return 0;
    }
    let Some(owner) = of(socket & !1) else { return 0 };
    owner.process_start = process.start;
    owner.cell = cell as u16;
    if socket & 1 != 0 {
        owner.zerocopy = cell as u16;
    }
    // Whoever sees anything after this counts for the process; what was seen before is taken now.
    exchange(&mut owner.tgid, u64::from(process.tgid));
    settle(owner);
    0
}

/// The entry of a socket. Addresses are used again, and inodes' numbers are not; a socket that its process has closed
/// has none any more.
#[inline(always)]
fn of(socket: u64) -> Option<&'static mut SocketOwner> {
    let mut found = SOCKETS.get_ptr_mut(&socket);
    if found.is_none() {
        // It is another CPU's by now if this fails with EEXIST.
        let _ = SOCKETS.insert(&socket, &NOBODY, u64::from(BPF_NOEXIST));
        found = SOCKETS.get_ptr_mut(&socket);
    }
    // SAFETY: a live element of the map; what several may write is written atomically.
    let owner = unsafe { found?.as_mut()? };
    let upper = number(socket + offset!(sock_socket));
    if upper != 0 {
        let inode = number(upper + offset!(socket_to_inode) + offset!(inode_number));
        if owner.inode != inode {
            exchange(&mut owner.tgid, 0);
            owner.inode = inode;
            owner.copied_after_all = 0;
            owner.linearized = 0;
            owner.transmitted = 0;
            owner.paged = 0;
            owner.retransmitted.operations = 0;
            owner.retransmitted.bytes = 0;
        }
    }
    Some(owner)
}

#[inline(always)]
fn count(owner: &SocketOwner, cell: u16, operations: u64, bytes: u64) {
    let key = SharedKey { process_start: owner.process_start, tgid: owner.tgid as u32, cell: u32::from(cell) };
    count_shared(&key, operations, bytes);
}

/// Counts for a socket's owner what waits for it.
#[inline(always)]
fn settle(owner: &mut SocketOwner) {
    if owner.transmitted | owner.copied_after_all | owner.linearized | owner.retransmitted.operations == 0 {
        return;
    }
    let waiting = exchange(&mut owner.copied_after_all, 0);
    if waiting != 0 {
        count(owner, COPIED_AFTER_ALL + owner.zerocopy, 0, waiting);
    }
    let waiting = exchange(&mut owner.linearized, 0);
    if waiting != 0 {
        count(owner, LINEARIZED + owner.cell, 0, waiting);
    }
    let (waiting, paged) = (exchange(&mut owner.transmitted, 0), exchange(&mut owner.paged, 0));
    if waiting != 0 {
        count(owner, FIRST_NET_CELL + owner.place as u16, paged, waiting);
    }
    let segments = exchange(&mut owner.retransmitted.operations, 0);
    if segments != 0 {
        let waiting = exchange(&mut owner.retransmitted.bytes, 0);
        count(owner, CELL_RETRANSMITTED, segments, waiting);
    }
}

/// Bytes of a socket, so many of them in pages, were handed to the device at a place; so many had been copied into one
/// piece for it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn transmitted(socket: u64, place: u64, bytes_and_paged: u64, linearized: u64) -> u64 {
    let (bytes, paged) = (bytes_and_paged & 0xffff_ffff, bytes_and_paged >> 32);
    let Some(owner) = of(socket) else { return 0 };
    owner.place = place as u32;
    if owner.tgid != 0 {
        count(owner, FIRST_NET_CELL + place as u16, paged, bytes);
        if linearized != 0 {
            count(owner, LINEARIZED + owner.cell, 0, linearized);
        }
        return 0;
    }
    atomic_add(&mut owner.transmitted, bytes);
    atomic_add(&mut owner.paged, paged);
    atomic_add(&mut owner.linearized, linearized);
    settle_if_owned(owner);
    0
}

/// Pages of a socket's user that it had handed over were copied.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn copied_after_all(socket: u64, bytes: u64) -> u64 {
    let Some(owner) = of(socket) else { return 0 };
    if owner.tgid != 0 {
        count(owner, COPIED_AFTER_ALL + owner.zerocopy, 0, bytes);
        return 0;
    }
    atomic_add(&mut owner.copied_after_all, bytes);
    settle_if_owned(owner);
    0
}

/// A segment of a socket was sent again.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn retransmitted(socket: u64, bytes: u64) -> u64 {
    let Some(owner) = of(socket) else { return 0 };
    if owner.tgid != 0 {
        count(owner, CELL_RETRANSMITTED, 1, bytes);
        return 0;
    }
    atomic_add(&mut owner.retransmitted.bytes, bytes);
    atomic_add(&mut owner.retransmitted.operations, 1);
    settle_if_owned(owner);
    0
}

/// The owner may have come while something was set aside for it.
#[inline(always)]
fn settle_if_owned(owner: &mut SocketOwner) {
    // SAFETY: a live word; volatile, for another CPU may have written it.
    if unsafe { core::ptr::read_volatile(&raw const owner.tgid) } != 0 {
        settle(owner);
    }
}
