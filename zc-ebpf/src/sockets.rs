//! Whose sockets are: what network devices do for a socket happens in any task, or in none.
//!
//! A call that sends says so when it ends. What was seen of its socket before that waits in the socket's entry.

use aya_ebpf::bindings::BPF_NOEXIST;
use zc_common::record::{
    CELL_RETRANSMITTED, COPIED_AFTER_ALL, Cell, FIRST_NET_CELL, FIRST_ROW_CELL, LINEARIZED, NET_VIRTUAL, SharedKey,
    SocketOwner, ThreadLedger,
};

use crate::account::{atomic_add, count_shared};
use crate::kernel::{self, Task, number};
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
    sequence: 0,
    copied_after_all: 0,
    linearized: 0,
    transmitted: [0; 2],
    paged: [0; 2],
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
    // What could not be classified is on no path.
    if u64::from(process.tgid) == config!(own_tgid) || cell < u64::from(FIRST_ROW_CELL) {
        return 0;
    }
    let Some(owner) = of(socket & !1) else { return 0 };
    if owner.tgid != u64::from(process.tgid) || owner.process_start != process.start {
        // Nobody's while it changes hands: what is seen meanwhile waits.
        exchange(&mut owner.tgid, 0);
        owner.process_start = process.start;
    }
    owner.cell = cell as u16;
    if socket & 1 != 0 {
        owner.zerocopy = cell as u16;
    }
    // Of a UDP socket something else lies there, which nobody asks for.
    let sequence = kernel::read::<u32>((socket & !1) + offset!(tcp_write_seq)).unwrap_or(0);
    owner.sequence = u64::from(sequence);
    exchange(&mut owner.tgid, u64::from(process.tgid));
    settle(owner);
    0
}

/// The entry of a socket. Addresses are used again, and the numbers of inodes are not for a long while; a socket that its
/// process has closed has none any more.
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
            forget(owner);
            owner.inode = inode;
        }
    }
    Some(owner)
}

/// Empties the entry of a socket that is another one by now.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn forget(owner: *mut SocketOwner) -> u64 {
    const WORDS: usize = size_of::<SocketOwner>() / 8;
    if owner.is_null() {
        return 0;
    }
    for i in 0..WORDS {
        // SAFETY: an element of the map, so many words long; volatile, since the compiler would call a function.
        unsafe { owner.cast::<u64>().add(i).write_volatile(0) };
    }
    0
}

#[inline(always)]
fn count(owner: &SocketOwner, cell: u16, operations: u64, bytes: u64) {
    let key = SharedKey { process_start: owner.process_start, tgid: owner.tgid as u32, cell: u32::from(cell) };
    count_shared(&key, operations, bytes);
}

/// Counts for a socket's owner what waits for it.
#[inline(always)]
fn settle(owner: &mut SocketOwner) {
    let SocketOwner { transmitted, copied_after_all, linearized, retransmitted, .. } = owner;
    if transmitted[0] | transmitted[1] | *copied_after_all | *linearized | retransmitted.operations != 0 {
        settle_all(owner);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settle_all(owner: *mut SocketOwner) -> u64 {
    // SAFETY: callers pass an element of the map.
    let Some(owner) = (unsafe { owner.as_mut() }) else { return 0 };
    if owner.zerocopy != 0 {
        let waiting = exchange(&mut owner.copied_after_all, 0);
        if waiting != 0 {
            count(owner, COPIED_AFTER_ALL + owner.zerocopy, 0, waiting);
        }
    }
    let waiting = exchange(&mut owner.linearized, 0);
    if waiting != 0 {
        count(owner, LINEARIZED + owner.cell, 0, waiting);
    }
    let (waiting, paged) = (exchange(&mut owner.transmitted[0], 0), exchange(&mut owner.paged[0], 0));
    if waiting | paged != 0 {
        count(owner, FIRST_NET_CELL + NET_VIRTUAL as u16, paged, waiting);
    }
    let (waiting, paged) = (exchange(&mut owner.transmitted[1], 0), exchange(&mut owner.paged[1], 0));
    if waiting | paged != 0 {
        count(owner, FIRST_NET_CELL + owner.place as u16, paged, waiting);
    }
    let segments = exchange(&mut owner.retransmitted.operations, 0);
    if segments != 0 {
        let waiting = exchange(&mut owner.retransmitted.bytes, 0);
        count(owner, CELL_RETRANSMITTED, segments, waiting);
    }
    0
}

/// Bytes of a socket, so many of them in pages, were handed to the device at a place.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn transmitted(socket: u64, place: u64, bytes: u64, paged: u64) -> u64 {
    let Some(owner) = of(socket) else { return 0 };
    if owner.tgid != 0 {
        count(owner, FIRST_NET_CELL + place as u16, paged, bytes);
        return 0;
    }
    if place == NET_VIRTUAL as u64 {
        atomic_add(&mut owner.paged[0], paged);
        atomic_add(&mut owner.transmitted[0], bytes);
    } else {
        owner.place = place as u32;
        atomic_add(&mut owner.paged[1], paged);
        atomic_add(&mut owner.transmitted[1], bytes);
    }
    settle_if_owned(owner);
    0
}

/// Bytes of a TCP socket from a sequence number on had been copied into one piece. Those of a call that has not ended wait
/// for it to say on which path they are.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn linearized(socket: u64, sequence: u64, bytes: u64) -> u64 {
    let Some(owner) = of(socket) else { return 0 };
    if owner.tgid != 0 && has_ended(owner, sequence) {
        count(owner, LINEARIZED + owner.cell, 0, bytes);
        return 0;
    }
    atomic_add(&mut owner.linearized, bytes);
    if has_ended(owner, sequence) {
        settle_if_owned(owner);
    }
    0
}

/// Whether the call that sent what begins at a sequence number has ended.
#[inline(always)]
fn has_ended(owner: &SocketOwner, sequence: u64) -> bool {
    // SAFETY: a live word; volatile, for another CPU may have written it.
    let end = unsafe { core::ptr::read_volatile(&raw const owner.sequence) };
    (sequence as u32).wrapping_sub(end as u32) > i32::MAX as u32
}

/// Pages of a socket's user that it had handed over were copied. Whose path that was is known once a call that handed pages
/// over has ended.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn copied_after_all(socket: u64, bytes: u64) -> u64 {
    let Some(owner) = of(socket) else { return 0 };
    if owner.tgid != 0 && owner.zerocopy != 0 {
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
