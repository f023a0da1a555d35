//! Records that cross from kernel to user: map keys and values, iterator records and ring-buffer events.
//!
//! All are `repr(C)` without padding that matters, host-endian, and read by one agent from the kernel that it loaded
//! its own object into; they are not a file format.

use crate::passed;

/// Cells that there are, the reserved ones included. In a thread's own ledger a cell's number is one byte: larger ones are in the shared
/// ledger only. A power of two.
pub const CELLS: usize = 1024;
/// Marks a free place in a thread's ledger.
pub const CELL_FREE: u8 = 0;
/// In the shared ledger, whose keys mark no free places: system calls, as operations.
pub const CELL_CALLS: u8 = CELL_FREE;
/// Payload of a combination that the catalogue has no row for.
pub const CELL_NO_ROW: u8 = 3;
/// Payload whose descriptor could not be resolved (closed or replaced meanwhile).
pub const CELL_NO_DESCRIPTOR: u8 = 1;
/// Payload whose user buffer could not be resolved (unmapped, or the map was being changed).
pub const CELL_NO_BUFFER: u8 = 2;
/// First of the cells that hold what probes behind the system calls see, which is no payload. A cell's two counters then
/// mean what its name says.
pub const FIRST_OBSERVED_CELL: u8 = 224;
/// Context switches: voluntary ones as operations, involuntary ones as bytes.
pub const CELL_SWITCHES: u8 = 224;
/// Page faults of the kernel's own count: minor ones as operations, major ones as bytes.
pub const CELL_FAULTS: u8 = 225;
/// Page faults from user mode, as operations.
pub const CELL_USER_FAULTS: u8 = 226;
/// Reads of file data from disks into the page cache: those marked as read-ahead as operations, all as bytes. Both in
/// bytes.
pub const CELL_CACHE_FILLS: u8 = 227;
/// First cell of the disks: for each device one of each [`DISK_KINDS`], with I/Os and bytes.
pub const FIRST_DISK_CELL: u8 = 228;
/// Kinds of I/O: bit 0 is set for those past the page cache, bit 1 for writes.
pub const DISK_KINDS: u8 = 4;
/// Past the page cache.
pub const DISK_DIRECT: u8 = 1;
/// Memory to disk.
pub const DISK_WRITE: u8 = 2;
/// Disks that are told apart; one more stands for all others.
pub const DISKS: usize = 4;

/// Faults that ended in SIGBUS, as operations.
pub const CELL_SIGBUS: u8 = 255;

/// A device that is told apart, at a place of its own.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Device {
    /// What tells it: 1 + a disk's number (major << 20 | minor), a network device's address; 0 if none has this place yet.
    pub device: u64,
    /// Its name, up to the first NUL.
    pub name: [u8; 32],
}

/// First cell of the network devices: for each one of each [`NET_KINDS`]; bytes with headers, and of them the bytes
/// that lay in pages, as operations.
pub const FIRST_NET_CELL: u16 = 256;
/// Kinds of transmission: physical devices that are told apart, those that are not, and virtual ones.
pub const NET_PLACES: usize = 8;
/// The place of all virtual devices, which do no DMA.
pub const NET_VIRTUAL: usize = NET_PLACES - 1;
/// The place of physical devices that found no place of their own.
pub const NET_OTHER: usize = NET_VIRTUAL - 1;
/// TCP segments sent again, as operations, and their payload.
pub const CELL_RETRANSMITTED: u16 = FIRST_NET_CELL + NET_PLACES as u16;

/// In the shared ledger: bytes of a path's pages that the kernel copied after all, since they went to a receiver on this
/// host (skb_copy_ubufs). The path's cell is added.
pub const COPIED_AFTER_ALL: u16 = 0x200;
/// In the shared ledger: bytes of a path that the kernel copied into one piece, since the network device takes no
/// pages. The path's cell is added.
pub const LINEARIZED: u16 = 0x300;

/// Whose a socket is: the process that last sent on it, by a call's end; and what was seen of it before that.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketOwner {
    /// The number of the socket's inode: addresses are used again.
    pub inode: u64,
    /// Start of the process in ns since boot.
    pub process_start: u64,
    /// Process id; 0 while it is not known.
    pub tgid: u64,
    /// Cell of the path that last sent on it.
    pub cell: u16,
    /// Cell of the last of those that handed pages of the user over.
    pub zerocopy: u16,
    /// Place of the physical device that transmitted last.
    pub place: u32,
    /// TCP: the sequence number behind the last byte of the calls that have ended.
    pub sequence: u64,
    /// Waits for its owner: bytes copied after all.
    pub copied_after_all: u64,
    /// Bytes copied into one piece.
    pub linearized: u64,
    /// Bytes transmitted, by virtual devices and by physical ones.
    pub transmitted: [u64; 2],
    /// Those of them in pages.
    pub paged: [u64; 2],
    /// Segments sent again, and their payload.
    pub retransmitted: Cell,
}

/// The cell of the catalogue's first row; row i has cell `FIRST_ROW_CELL + i`.
pub const FIRST_ROW_CELL: u8 = 4;

/// Cells that one thread keeps for itself; what it uses beyond that goes to the process's shared ledger.
pub const THREAD_CELLS: usize = 16;
/// Buffers whose mapping one thread remembers.
pub const VMA_SLOTS: usize = 2;

/// Operations and payload bytes of one path.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cell {
    /// System calls that moved bytes on this path.
    pub operations: u64,
    /// Payload bytes.
    pub bytes: u64,
}

/// Who a thread is. `id` is never used twice while the object is loaded, whatever pids do.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    /// The thread ledger's own number; 0 for a thread that has none yet.
    pub id: u64,
    /// Start of the process (its leader) in ns since boot (`start_boottime`; kept through exec).
    pub process_start: u64,
    /// Start of the process that forked this one, 0 if not known.
    pub parent_start: u64,
    /// Id of the cgroup in the unified hierarchy.
    pub cgroup: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Pid of the process that forked this one, 0 if not known.
    pub parent_tgid: u32,
    /// [`FLAG_GROUP_DEAD`] and its kin.
    pub flags: u32,
    /// The leader's comm, NUL-padded.
    pub comm: [u8; 16],
}

/// The thread was the last of its process to exit.
pub const FLAG_GROUP_DEAD: u32 = 1;

/// What the last look-up of a buffer found, valid while the memory map's sequence has not moved on.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VmaSlot {
    /// First address.
    pub start: u64,
    /// First address behind it; 0 marks an empty slot.
    pub end: u64,
    /// The memory map's change sequence when looked up.
    pub sequence: u32,
    /// The endpoint's code: user or mapping.
    pub endpoint: u32,
}

/// A thread's counters: a small table from catalogue cell to operations and bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadCells {
    /// Which catalogue cell each of `cells` holds; [`CELL_FREE`] for a free one.
    pub owners: [u8; THREAD_CELLS],
    /// The counters.
    pub cells: [Cell; THREAD_CELLS],
    /// The same for pass-through: which of its cells (`passed::cell`) each of `passed` holds; 0 for a free one.
    pub passed_owners: [u16; passed::THREAD_CELLS],
    /// The counters.
    pub passed: [Cell; passed::THREAD_CELLS],
}

/// What the kernel itself counts for each task, whether anybody traces it or not (getrusage(2) has it from there).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The task gave the CPU up.
    pub voluntary: u64,
    /// It was taken away.
    pub involuntary: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
}

/// A thread's last page fault from user mode, or of the kernel while it writes to user memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultState {
    /// Where.
    pub address: u64,
    /// The lowest three bits of its error code, marks like [`FAULT_ON_FILE`], and from bit 8 on the thread's system calls
    /// so far if it was a fault of the kernel.
    pub code: u64,
}

/// The fault looks for one page of a file.
pub const FAULT_ON_FILE: u64 = 1 << 3;

/// One thread's ledger: the value of the task storage, and of the map of exited threads.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadLedger {
    /// Filled when the ledger is made (id, parent) and when the thread exits (all).
    pub identity: Identity,
    /// sys_exit events seen.
    pub system_calls: u64,
    /// 1 once the ledger has been moved to the map of exited threads.
    pub folded: u64,
    /// 1 + the number of the slot that the thread counts in, 0 if it counts here.
    pub slot: u64,
    /// What is known of the call at hand. It goes through here so that the verifier forgets the values that it may have,
    /// and does not check what follows for each of them.
    pub forget: [u64; 6],
    /// The socket that the call at hand sends on, of those that network probes look at, with bit 0 set if pages of the
    /// user are handed over; 0 for none.
    pub socket: u64,
    /// The cell that was counted on last.
    pub last_cell: u64,
    /// The operation at hand, with its descriptor, and where the address lies that its call names: for its peer.
    pub talk: [u64; 2],
    /// What was counted since the operation at hand began: for those who listen.
    pub told: Cell,
    /// The system call, by its number among the thread's, that pass-through was last counted for.
    pub passed_at: u64,
    /// Its last fault.
    pub fault: FaultState,
    /// What the kernel had counted when the thread exited; unused before.
    pub usage: Usage,
    /// Remembered buffers.
    pub vma: [VmaSlot; VMA_SLOTS],
    /// Payload.
    pub counters: ThreadCells,
}

/// A thread's counters where its system calls find them without asking for the thread: by the address of its registers
/// on its kernel stack.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Tells the stack of the thread that has claimed the slot; 0 if it is free.
    pub stack: u64,
    /// The thread's task: an address.
    pub task: u64,
    /// Its counters.
    pub ledger: ThreadLedger,
}

/// Slots, a power of two.
pub const SLOTS: usize = 8192;

/// Key of the shared ledger: what is counted for a process outside its threads' own ledgers.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SharedKey {
    /// Start of the process in ns since boot.
    pub process_start: u64,
    /// Process id.
    pub tgid: u32,
    /// Catalogue cell.
    pub cell: u32,
}

/// The host-wide fallback, one per CPU: what could be counted nowhere else.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Fallback {
    /// sys_exit events.
    pub system_calls: u64,
    /// Events that the ring buffer had no room for.
    pub events_lost: u64,
    /// Ledgers of exited threads that found the map of exited threads full.
    pub threads: u64,
    /// System calls of threads that could have no ledger; they are counted for their processes.
    pub without_ledger: u64,
    /// Slots whose threads were gone without having given them back; what was in them is counted.
    pub evicted: u64,
    /// Payload by catalogue cell.
    pub cells: [Cell; CELLS],
}

/// Head of one iterator record; a [`ThreadCells`] follows if `has_cells`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadHead {
    /// Who.
    pub identity: Identity,
    /// sys_exit events seen.
    pub system_calls: u64,
    /// What the kernel has counted.
    pub usage: Usage,
    /// 1 if the thread's cells follow, 0 for a thread that has no ledger yet.
    pub has_cells: u64,
}

/// What happened to a process.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// Who, after the event; for a fork the child.
    pub identity: Identity,
    /// [`EVENT_FORK`], [`EVENT_EXEC`] or [`EVENT_EXIT`].
    pub kind: u32,
    /// Bytes of the [`ExecEvent`]'s `filename` used.
    pub filename_len: u32,
}

/// A process executed a program: longer than the other events.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecEvent {
    /// What all events have.
    pub event: LifecycleEvent,
    /// The file executed, as the caller named it.
    pub filename: [u8; 256],
}

/// A process was forked.
pub const EVENT_FORK: u32 = 1;
/// A process executed a program.
pub const EVENT_EXEC: u32 = 2;
/// The last thread of a process exited.
pub const EVENT_EXIT: u32 = 3;

/// An operation, or what belongs to the one before: bytes of it in memory of another kind.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperationEvent {
    /// When, in ns since boot.
    pub time: u64,
    /// Payload.
    pub bytes: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Cell of the catalogue, or one of those below [`FIRST_ROW_CELL`].
    pub cell: u32,
    /// 1; 0 for what belongs to the one before.
    pub operations: u32,
}

/// A process whose operations are told one by one.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenedTo {
    /// Start of the process in ns since boot.
    pub process_start: u64,
    /// Operations that found the ring full.
    pub lost_operations: u64,
    /// Events that did.
    pub lost: u64,
}

/// The audit of one thread: bytes that the kernel's copy routines were called for, and what is no payload.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audit {
    /// Set by the agent: first address of the heap, and the first behind it. What lies there is arguments.
    pub heap_start: u64,
    /// See `heap_start`.
    pub heap_end: u64,
    /// Set by the agent: arguments lie from this address on, too: the stack.
    pub stack_start: u64,
    /// Set by the agent: where an `iov_iter` says what it goes over (one byte).
    pub iter_kind: u64,
    /// Set by the agent: where it says how many bytes are left.
    pub iter_count: u64,
    /// Set by the agent: the first and the last value of that which mean user memory.
    pub user_kinds: [u64; 2],
    /// Bytes from kernel to user memory.
    pub to_user: u64,
    /// Bytes from user to kernel memory.
    pub from_user: u64,
    /// Bytes inside the kernel.
    pub in_kernel: u64,
    /// Bytes that were not of payload.
    pub left_out: u64,
}

const _: () = {
    assert!(CELLS.is_power_of_two() && LINEARIZED as usize + 256 <= CELLS);
    assert!(size_of::<Audit>() == 88);
    assert!(size_of::<Cell>() == 16);
    assert!(size_of::<Identity>() == 64);
    assert!(size_of::<VmaSlot>() == 24);
    assert!(size_of::<ThreadCells>() == 17 * THREAD_CELLS + 18 * passed::THREAD_CELLS);
    assert!(size_of::<ThreadLedger>() == 64 + 48 + 48 + 48 + 32 + 24 * VMA_SLOTS + size_of::<ThreadCells>());
    assert!(size_of::<SharedKey>() == 16);
    assert!(size_of::<Slot>() == 16 + size_of::<ThreadLedger>());
    assert!(SLOTS.is_power_of_two());
    assert!(size_of::<Fallback>() == 40 + 16 * CELLS);
    assert!(size_of::<ThreadHead>() == 112);
    assert!(size_of::<LifecycleEvent>() == 64 + 8);
    assert!(size_of::<OperationEvent>() == 32);
    assert!(size_of::<ExecEvent>() == 64 + 8 + 256);
};
