//! Load-time constants: what the agent tells the kernel half before it is loaded. They lie in a frozen read-only map,
//! so that the verifier knows their values and drops the branches they rule out.

mod offsets;

pub use offsets::{Offsets, SEQUENCE_AT_UNLOCK, SEQUENCE_NONE, SEQUENCE_ODD_WHILE_LOCKED};

use crate::path::{Condition, Endpoint, Mechanism, Row};
use crate::record::{CELL_NO_ROW, FIRST_ROW_CELL};

/// System calls that move data, by how their arguments say what moves where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Call {
    /// Moves nothing that is counted.
    None = 0,
    /// `(fd, buffer, length, ..)`: read, pread.
    Read,
    /// `(fd, iovec, count, ..)`: readv, preadv, preadv2.
    Readv,
    /// `(fd, buffer, length, ..)`: write, pwrite.
    Write,
    /// `(fd, iovec, count, ..)`: writev, pwritev, pwritev2.
    Writev,
    /// `(fd, buffer, length, flags, ..)`: sendto.
    Sendto,
    /// `(fd, msghdr, flags)`.
    Sendmsg,
    /// `(fd, mmsghdr, count, flags)`.
    Sendmmsg,
    /// `(fd, buffer, length, flags, ..)`: recvfrom.
    Recvfrom,
    /// `(fd, msghdr, flags)`.
    Recvmsg,
    /// `(fd, mmsghdr, count, flags, timeout)`.
    Recvmmsg,
    /// `(out, in, offset, count)`.
    Sendfile,
    /// `(in, offset, out, offset, length, flags)`.
    Splice,
    /// `(in, out, length, flags)`.
    Tee,
    /// `(fd, iovec, count, flags)`.
    Vmsplice,
    /// `(in, offset, out, offset, length, flags)`.
    CopyFileRange,
    /// `(pid, local iovec, count, remote iovec, count, flags)`.
    ProcessVmRead,
    /// `(pid, local iovec, count, remote iovec, count, flags)`.
    ProcessVmWrite,
    /// `(fd, request, argument)`: FICLONE, FICLONERANGE.
    Ioctl,
    /// `(address, length, protection, flags, fd, offset)`.
    Mmap,
    /// `(call, arguments)`: i386's way to every socket call.
    Socketcall,
    /// `(context, count, iocbs)`: io_submit.
    IoSubmit,
    /// `(context, least, count, events, ..)`: io_getevents, io_pgetevents.
    IoGetevents,
    /// `(fd, level, name, value, length)`: TCP_ZEROCOPY_RECEIVE.
    Getsockopt,
}

/// Entries of each table of system calls; higher numbers move nothing.
pub const SYSCALLS: usize = 512;

/// Codes of the kernel's classification: an endpoint, or one of those below that only conditions tell apart.
pub const ENDPOINT_CODES: usize = 16;
/// /dev/null, /dev/zero, /dev/full: a [`Endpoint::Device`] that copies nothing.
pub const CODE_NULL_DEVICE: u8 = Endpoint::ALL.len() as u8;
/// A [`Endpoint::Unix`] that keeps messages apart: datagram, seqpacket.
pub const CODE_UNIX_MESSAGES: u8 = CODE_NULL_DEVICE + 1;
/// A [`Endpoint::Tcp`] that enciphers what is sent (kernel TLS, in software).
pub const CODE_TLS: u8 = CODE_UNIX_MESSAGES + 1;
/// Not resolved.
pub const CODE_UNKNOWN: u8 = 15;

/// Codes of the kernel's classification: a mechanism, or a peek.
pub const MECHANISM_CODES: usize = 32;
/// A [`Mechanism::Read`] with MSG_PEEK.
pub const CODE_PEEK: u8 = Mechanism::ALL.len() as u8;
/// A [`Mechanism::IoUring`] receive with MSG_PEEK.
pub const CODE_URING_PEEK: u8 = CODE_PEEK + 1;
/// The part of a [`Mechanism::ZerocopyReceive`] that was copied.
pub const CODE_RECEIVED_COPY: u8 = CODE_URING_PEEK + 1;

const _: () = {
    assert!(CODE_TLS < CODE_UNKNOWN);
    assert!((CODE_UNKNOWN as usize) < ENDPOINT_CODES);
    assert!((CODE_RECEIVED_COPY as usize) < MECHANISM_CODES);
};

/// Stands for the sink of what mmap calls asked for; nothing is mapped into it.
pub const SINK_ASKED: u8 = Endpoint::Other as u8;

/// Length of the table from codes to cells.
pub const TABLE: usize = MECHANISM_CODES * ENDPOINT_CODES * ENDPOINT_CODES;

/// Index into the table.
#[must_use]
#[inline(always)]
pub const fn table_index(mechanism: u8, source: u8, sink: u8) -> usize {
    ((mechanism as usize) << 8 | (source as usize) << 4 | sink as usize) & (TABLE - 1)
}

/// The kernel's classification table for a catalogue: the cell of each combination, [`CELL_NO_ROW`] where it has none.
#[must_use]
pub fn table(rows: &[Row]) -> [u8; TABLE] {
    let mut table = [CELL_NO_ROW; TABLE];
    for (cell, row) in (FIRST_ROW_CELL..=u8::MAX).zip(rows) {
        table[index_of(row)] = cell;
    }
    // Where no row of their own says otherwise, unix sockets are alike, and TCP sockets.
    for (special, plain) in [(CODE_UNIX_MESSAGES, Endpoint::Unix as u8), (CODE_TLS, Endpoint::Tcp as u8)] {
        for mechanism in 0..MECHANISM_CODES as u8 {
            for other in 0..ENDPOINT_CODES as u8 {
                for (special, plain) in [
                    (table_index(mechanism, special, other), table_index(mechanism, plain, other)),
                    (table_index(mechanism, other, special), table_index(mechanism, other, plain)),
                ] {
                    if table[special] == CELL_NO_ROW {
                        table[special] = table[plain];
                    }
                }
            }
        }
    }
    table
}

/// The combination that a row is for.
fn index_of(row: &Row) -> usize {
    let mechanism = match (row.condition, row.mechanism) {
        (Condition::Peek, Mechanism::IoUring) => CODE_URING_PEEK,
        (Condition::Peek, _) => CODE_PEEK,
        (Condition::Copied, _) => CODE_RECEIVED_COPY,
        (_, mechanism) => mechanism as u8,
    };
    let source = match row.condition {
        Condition::NullSource | Condition::NullBoth | Condition::NullToMessage => CODE_NULL_DEVICE,
        Condition::MessageSource => CODE_UNIX_MESSAGES,
        _ => row.source as u8,
    };
    let sink = match row.condition {
        Condition::NullSink | Condition::NullBoth => CODE_NULL_DEVICE,
        Condition::MessageSink | Condition::NullToMessage => CODE_UNIX_MESSAGES,
        Condition::Tls => CODE_TLS,
        Condition::Asked => SINK_ASKED,
        _ => row.sink as u8,
    };
    table_index(mechanism, source, sink)
}

/// Threads count in slots, and where there is none free in their storage.
pub const LEDGERS_SLOTS: u64 = 0;
/// They count in their storage.
pub const LEDGERS_THREADS: u64 = 1;
/// They count in the shared ledger, as where a thread can't have storage.
pub const LEDGERS_SHARED: u64 = 2;
/// They count in slots, and exits of those that do are missed: for the test of what that costs.
pub const LEDGERS_UNFOLDED: u64 = 3;

/// Stands in the object for a call of the kernel function `bpf_rdonly_cast`.
pub const RDONLY_CAST: i32 = 0x7a63_0001;

/// Word n of [`Config`] stands in the object as an instruction with this immediate value plus n.
pub const CONFIG_WORD: i32 = 0x7a64_0000;

/// BTF ids of the structures that the probes cast addresses to.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Types {
    /// `task_struct`.
    pub task: u64,
    /// `files_struct`.
    pub files: u64,
    /// `fdtable`.
    pub fdtable: u64,
    /// `mm_struct`.
    pub mm: u64,
    /// `list_head`: two pointers, for an address of pointers.
    pub list_head: u64,
    /// `file`.
    pub file: u64,
    /// `inode`.
    pub inode: u64,
    /// `super_block`.
    pub super_block: u64,
    /// `socket`.
    pub socket: u64,
    /// `sock`.
    pub sock: u64,
    /// `inet_connection_sock`.
    pub tcp: u64,
    /// `unix_sock`; 0 where the kernel's BTF lacks it.
    pub unix: u64,
    /// `io_kiocb`; like the next three 0 where the kernel lacks io_uring.
    pub request: u64,
    /// `io_uring_task`.
    pub request_context: u64,
    /// `io_rw`.
    pub request_rw: u64,
    /// `io_sr_msg`.
    pub request_sr: u64,
}

/// All load-time constants but the tables.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Config {
    /// The agent's own pid, never counted; 0 counts everything.
    pub own_tgid: u64,
    /// 1 if network probes are attached, which must be told whose sockets are.
    pub net: u64,
    /// 1 if pass-through is looked for.
    pub pass_through: u64,
    /// 1 if peers of sockets are counted.
    pub peers: u64,
    /// Where threads count: [`LEDGERS_SLOTS`] or one of its kin.
    pub ledgers: u64,
    /// The architecture's `O_DIRECT`.
    pub open_direct: u64,
    /// 1 where the kernel has `bpf_rdonly_cast`.
    pub casts: u64,
    /// What it casts to.
    pub types: Types,
    /// Where the kernel keeps things.
    pub offsets: Offsets,
}

// Nothing but words: the agent sees it as an array of them.
const _: () = assert!(align_of::<Config>() == 8 && size_of::<Config>().is_multiple_of(8));

#[cfg(all(test, feature = "catalogue"))]
mod tests {
    use super::*;
    use crate::path::ROWS;

    #[test]
    fn every_row_has_its_own_cell() {
        let table = table(ROWS);
        for (cell, row) in (FIRST_ROW_CELL..).zip(ROWS) {
            assert_eq!(table[index_of(row)], cell, "{} {}", row.id(), row.condition);
        }
        let used: std::collections::HashSet<_> = ROWS.iter().map(index_of).collect();
        assert_eq!(used.len(), ROWS.len());
    }

    #[test]
    fn unix_sockets_are_alike_but_where_a_row_tells_them_apart() {
        let table = table(ROWS);
        let (file, user, unix) = (Endpoint::File as u8, Endpoint::User as u8, Endpoint::Unix as u8);
        let cell = |mechanism, source, sink| table[table_index(mechanism, source, sink)];
        let (read, sendfile) = (Mechanism::Read as u8, Mechanism::Sendfile as u8);
        assert_ne!(cell(read, unix, user), CELL_NO_ROW);
        assert_eq!(cell(read, CODE_UNIX_MESSAGES, user), cell(read, unix, user));
        assert_eq!(cell(CODE_PEEK, CODE_UNIX_MESSAGES, user), cell(CODE_PEEK, unix, user));
        assert_ne!(cell(sendfile, file, CODE_UNIX_MESSAGES), CELL_NO_ROW);
        assert_ne!(cell(sendfile, file, CODE_UNIX_MESSAGES), cell(sendfile, file, unix));
    }
}
