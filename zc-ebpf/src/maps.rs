//! Every map, and the load-time constants.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_task_storage_get;
use aya_ebpf::macros::btf_map;
use zc_common::config::{SYSCALLS, TABLE as TABLE_LEN};
use zc_common::peers::{self, PeerKey, PeerTraffic, UnixName};
use zc_common::record::{
    Audit, Cell, DISKS as DISK_COUNT, Device, Fallback, LifecycleEvent, ListenedTo, NET_OTHER, OperationEvent,
    SLOTS as SLOT_COUNT, SharedKey, Slot, SocketOwner, ThreadLedger, Usage,
};

use crate::classify::aio::AioKey;
use crate::classify::note::Noted;
use crate::classify::uring::{Multishot, MultishotKey};
use crate::kernel::Task;
use crate::passing::{self, Bucket};
use crate::probes::mapping::{Contexts, FilePages, Mapped};

/// Exited threads whose ledgers wait for the agent. Beyond this they go to the fallback.
const EXITED_THREADS: usize = 65_536;
/// Processes that have ended and whose last word waits for the agent.
const GONE_PROCESSES: usize = 16_384;
/// Inodes whose last dirtier is remembered.
const DIRTY_INODES: usize = 16_384;
/// Memory maps whose file pages are followed.
const MEMORY_MAPS: usize = 8192;
/// Cells of the shared ledger.
const SHARED_CELLS: usize = 65_536;
/// Sockets whose owners are remembered.
const OWNED_SOCKETS: usize = 32_768;
/// Packets on their way with pages of their senders.
const ZEROCOPY_PACKETS: usize = 8_192;
/// Requests in flight, of io_uring or AIO, of which something is noted. The oldest notes go first: some are of requests
/// that never complete, or complete without a word.
const REQUESTS_NOTED: usize = 32_768;
/// Bytes of the ring of lifecycle events: 8,000 commands, each forked, executed and gone.
const RING: usize = 4 << 20;
/// Bytes of the ring of operations: 200,000, a fifth of a second at a million a second.
const OPERATIONS_RING: usize = 8 << 20;
/// Processes that may be listened to at once.
const LISTENED_TO_PROCESSES: usize = 64;

/// Task storage: not in aya-ebpf 0.2.1, written after the kernel's rules for it (no key type but int, no maximum,
/// BPF_F_NO_PREALLOC: kernel/bpf/bpf_local_storage.c, v6.1).
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the fields are placeholders for the loader and are never read.
unsafe impl<T> Sync for TaskStorage<T> {}

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    #[inline(always)]
    fn lookup(&self, task: Task, flags: u64) -> Option<&'static mut T> {
        let map = core::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the map is a task storage map and the task a pointer that the verifier trusts; the value outlives
        // the program's run.
        unsafe { bpf_task_storage_get(map, task.as_ptr().cast(), core::ptr::null_mut(), flags).cast::<T>().as_mut() }
    }

    /// The task's value.
    #[inline(always)]
    pub fn get(&self, task: Task) -> Option<&'static mut T> {
        self.lookup(task, 0)
    }

    /// The task's value, made of zeroes if it has none; `None` without memory or when interrupted in the middle.
    #[inline(always)]
    pub fn get_or_create(&self, task: Task) -> Option<&'static mut T> {
        self.lookup(task, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE))
    }
}

/// Each thread's own ledger: who it is, and what it has counted if it has no slot.
#[btf_map]
pub static THREADS: TaskStorage<ThreadLedger> = TaskStorage::new();

/// Where most threads count.
#[btf_map]
pub static SLOTS: Array<Slot, SLOT_COUNT> = Array::new();

/// Ledgers of exited threads, by their id.
#[btf_map]
pub static EXITED: HashMap<u64, ThreadLedger, EXITED_THREADS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// What the kernel counted for processes that are gone, by process: their last word.
#[btf_map]
pub static TOTALS: HashMap<SharedKey, Usage, GONE_PROCESSES, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// The process that last dirtied a page of an inode, by the inode's address. The least used are forgotten.
#[btf_map]
pub static DIRTIERS: LruHashMap<u64, SharedKey, DIRTY_INODES> = LruHashMap::new();

/// Counters of file pages as last seen, by the memory map's number. The least used are forgotten.
#[btf_map]
pub static FILE_PAGES: LruHashMap<u64, FilePages, MEMORY_MAPS> = LruHashMap::new();

/// The numbers of memory maps.
#[btf_map]
pub static CONTEXTS: Array<Contexts, 1> = Array::new();

/// What was mapped a moment ago.
#[btf_map]
pub static MAPPED: PerCpuArray<Mapped, 1> = PerCpuArray::new();

/// The disks that are told apart.
#[btf_map]
pub static DISK_NAMES: Array<Device, DISK_COUNT> = Array::new();

/// The physical network devices that are told apart.
#[btf_map]
pub static NET_DEVICES: Array<Device, NET_OTHER> = Array::new();

/// Whose sockets are, by the address of the `sock`. The least used are forgotten, with what waits for their owners.
#[btf_map]
pub static SOCKETS: LruHashMap<u64, SocketOwner, OWNED_SOCKETS> = LruHashMap::new();

/// The sockets of packets with pages of their senders, by the packet's address.
#[btf_map]
pub static ZEROCOPIES: LruHashMap<u64, u64, ZEROCOPY_PACKETS> = LruHashMap::new();

/// Where in user memory bytes have been read into.
#[btf_map]
pub static READ_RANGES: Array<Bucket, { passing::BUCKETS }> = Array::new();

/// What went to each peer of a process's sockets and came from there. The least used are forgotten.
#[btf_map]
pub static PEERS: LruHashMap<PeerKey, PeerTraffic, { peers::PEERS }> = LruHashMap::new();

/// The names that unix sockets among them are bound to, by the address in their keys. The least used are forgotten.
#[btf_map]
pub static UNIX_NAMES: LruHashMap<[u64; 2], UnixName, { peers::UNIX_NAMES }> = LruHashMap::new();

/// The name that was looked up last.
#[btf_map]
pub static UNIX_NAME: PerCpuArray<UnixName, 1> = PerCpuArray::new();

/// What is counted for a process outside its threads' ledgers, atomically.
#[btf_map]
pub static SHARED: HashMap<SharedKey, Cell, SHARED_CELLS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// The note that is being taken.
#[btf_map]
pub static NOTE: PerCpuArray<Noted, 1> = PerCpuArray::new();

/// What is noted of io_uring requests in flight, by the request's address.
#[btf_map]
pub static REQUESTS: LruHashMap<u64, Noted, REQUESTS_NOTED> = LruHashMap::new();

/// What is noted of AIO requests in flight.
#[btf_map]
pub static AIO: LruHashMap<AioKey, Noted, REQUESTS_NOTED> = LruHashMap::new();

/// Multishot requests of io_uring that may complete again.
#[btf_map]
pub static MULTISHOTS: LruHashMap<MultishotKey, Multishot, REQUESTS_NOTED> = LruHashMap::new();

/// Host-wide: what found no room anywhere else.
#[btf_map]
pub static FALLBACK: PerCpuArray<Fallback, 1> = PerCpuArray::new();

/// What one system call of a thread that has no ledger counts, until it is moved to the shared ledger.
#[btf_map]
pub static SCRATCH: PerCpuArray<ThreadLedger, 1> = PerCpuArray::new();

/// What the audit counts.
#[btf_map]
pub static AUDIT: Array<Audit, 1> = Array::new();

/// The last thread ledger's id.
#[btf_map]
pub static LAST_ID: Array<u64, 1> = Array::new();

/// fork, exec and exit of processes.
#[btf_map]
pub static EVENTS: RingBuf<LifecycleEvent, RING> = RingBuf::new();

/// How many processes are listened to.
#[btf_map]
pub static STREAMS: Array<u64, 1> = Array::new();

/// Which, by pid.
#[btf_map]
pub static LISTENED_TO: HashMap<u32, ListenedTo, LISTENED_TO_PROCESSES> = HashMap::new();

/// What they do.
#[btf_map]
pub static OPERATIONS: RingBuf<OperationEvent, OPERATIONS_RING> = RingBuf::new();

/// `Call` by system call number.
#[unsafe(no_mangle)]
pub static CALLS: [u8; SYSCALLS] = [0; SYSCALLS];

/// The same for 32-bit calls.
#[unsafe(no_mangle)]
pub static COMPAT_CALLS: [u8; SYSCALLS] = [0; SYSCALLS];

/// Catalogue cell by classification.
#[unsafe(no_mangle)]
pub static TABLE: [u8; TABLE_LEN] = [0; TABLE_LEN];

/// Reads one entry of a table of load-time constants.
#[inline(always)]
pub fn entry<const N: usize>(table: &'static [u8; N], index: usize) -> u8 {
    // The compiler may know that the index is in range from looking into a function that the verifier takes at its
    // word: without this it drops the mask, and the verifier rejects the program.
    // SAFETY: it changes nothing.
    let index = unsafe {
        let mut opaque = index;
        core::arch::asm!("{0} &= -1", inout(reg) opaque, options(pure, nomem, nostack));
        opaque
    };
    // SAFETY: the mask keeps the index inside (N is a power of two); volatile, because the loader changes the bytes.
    unsafe { core::ptr::read_volatile(table.as_ptr().add(index & (N - 1))) }
}

/// One field of the load-time constants ([`zc_common::config::Config`]), or the Nth word of an array among them: an
/// instruction whose immediate value the agent sets before loading. A load from a map would do, but then each access
/// to the kernel's structures would wait for one more load.
macro_rules! config {
    ($($field:ident).+ $(, $n:expr)?) => {{
        let value: u64;
        // SAFETY: it only sets the register.
        unsafe {
            core::arch::asm!(
                "{0} = {1}",
                out(reg) value,
                const zc_common::config::CONFIG_WORD
                    + (core::mem::offset_of!(zc_common::config::Config, $($field).+) / 8 $(+ $n)?) as i32,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        value
    }};
}
/// One offset of it.
macro_rules! offset {
    ($field:ident) => {
        $crate::maps::config!(offsets.$field)
    };
}
pub(crate) use {config, offset};
