//! The fields of a copy profile, as its JSON has them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a figure was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// From the path's row in the catalogue, applied to observed payload.
    Modelled,
    /// A probe saw the bytes move.
    Observed,
}

/// A process of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: u32,
    /// Start in ns since boot.
    pub tgid_start: u64,
    /// The leader's command name.
    pub comm: String,
    /// The executed file; null if unknown.
    pub exe: Option<String>,
    /// The cgroup's path; null if unknown.
    pub cgroup: Option<String>,
    /// The systemd unit; null if in none.
    pub unit: Option<String>,
    /// The container's id; null if in none.
    pub container: Option<String>,
    /// Whether it has exited.
    pub exited: bool,
}

/// Bytes along one hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HopBytes {
    /// Where the bytes came from: disk, page_cache, user, pipe, socket_buffer, nic, peer, kernel.
    pub from: String,
    /// Where they went.
    pub to: String,
    /// cpu, dma, reference, or cipher: the CPU enciphers them on their way.
    pub mover: String,
    /// How many.
    pub bytes: u64,
    /// Observed or modelled.
    pub basis: Basis,
}

/// What one path carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathProfile {
    /// `mechanism:source:sink`.
    pub id: String,
    /// The call.
    pub mechanism: String,
    /// Where the bytes came from.
    pub source: String,
    /// Where they went.
    pub sink: String,
    /// System calls that moved bytes.
    pub operations: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Sum over the CPU hops.
    pub copied_bytes: u64,
    /// Sum over the reference hops.
    pub referenced_bytes: u64,
    /// Observed only if all hops are.
    pub basis: Basis,
    /// How the bytes hopped.
    pub hops: Vec<HopBytes>,
}

/// Bytes that the CPU copied, by direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopiedBytes {
    /// Kernel to user.
    pub to_user: u64,
    /// User to kernel.
    pub from_user: u64,
    /// Within the kernel.
    pub in_kernel: u64,
}

impl CopiedBytes {
    /// All directions.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.to_user + self.from_user + self.in_kernel
    }
}

/// Bytes moved by devices; null where no probe sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DmaBytes {
    /// Disk to memory.
    pub disk_read: Option<u64>,
    /// Memory to disk, for pages of files when they are written back.
    pub disk_write: Option<u64>,
    /// The part of `disk_read` that went past the page cache.
    pub disk_read_direct: Option<u64>,
    /// The part of `disk_write` that went past the page cache.
    pub disk_write_direct: Option<u64>,
    /// Memory to network.
    pub nic_transmit: Option<u64>,
    /// Network to memory.
    pub nic_receive: Option<u64>,
}

/// Bytes of TCP and UDP sockets that the kernel handed to network devices, with the headers that the packets had by then,
/// once for each device that hands them on to another; null where no probe sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkBytes {
    /// To any device.
    pub transmitted_bytes: Option<u64>,
    /// The part of them that lay in pages: a device with scatter-gather fetches these where they are.
    pub paged_bytes: Option<u64>,
    /// The part of `transmitted_bytes` that went to virtual devices (loopback, veth, bridges), which do no DMA.
    pub virtual_bytes: Option<u64>,
    /// Payload that the CPU copied into one piece first, since the device takes no pages (no scatter-gather).
    pub linearized_bytes: Option<u64>,
    /// Payload handed over (MSG_ZEROCOPY, SEND_ZC) that the kernel copied after all, since its receiver is on this host.
    pub copied_after_all_bytes: Option<u64>,
    /// TCP payload that was sent again.
    pub retransmitted_bytes: Option<u64>,
}

/// User to kernel and back: two for each sys_exit event, two for each user fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModeSwitches {
    /// By system calls.
    pub system_calls: u64,
    /// By page faults; null where no probe sees them.
    pub page_faults: Option<u64>,
}

/// The scheduler's switches; null where nothing reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextSwitches {
    /// The process gave the CPU up.
    pub voluntary: Option<u64>,
    /// It was taken away.
    pub involuntary: Option<u64>,
}

/// Page faults as the kernel counts them (getrusage(2)), those in the kernel's own accesses to user memory included; null
/// where nothing reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageFaults {
    /// Without I/O.
    pub minor: Option<u64>,
    /// With I/O.
    pub major: Option<u64>,
    /// Those that found nothing to map and ended in SIGBUS: behind the end of a file that shrank, or on a page that
    /// could not be read.
    pub sigbus: Option<u64>,
}

/// The page cache; null where no probe sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageCacheBytes {
    /// Bytes that calls got from files through it.
    pub requested_bytes: Option<u64>,
    /// Bytes of files that disks read into it on the process's behalf: it lacked them. Whole blocks, of which less may
    /// have been asked for.
    pub missed_bytes: Option<u64>,
    /// The part of them that read-ahead asked for; a read that waits for the start of what is read ahead is part of it.
    pub read_ahead_bytes: Option<u64>,
}

/// Bytes written out from the buffer that they were read into: an upper bound of what could have passed through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PassThrough {
    /// Where they were read from.
    pub source: String,
    /// Where they were written to.
    pub sink: String,
    /// System calls that wrote them.
    pub operations: u64,
    /// How many.
    pub bytes: u64,
}

/// What went to the other side of sockets, and came from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerBytes {
    /// tcp, udp or unix.
    pub protocol: String,
    /// Where the other side is: `127.0.0.1:80`, `[::1]:80`, a unix socket's path, or its abstract name behind an `@`. Null where
    /// it has no name (socketpair), or is not known (a datagram's that the call did not tell).
    pub address: Option<String>,
    /// Payload bytes sent there.
    pub sent_bytes: u64,
    /// Payload bytes received from there.
    pub received_bytes: u64,
    /// Operations that moved bytes; each message of sendmmsg and recvmmsg is one.
    pub operations: u64,
}

/// Since when a profile's peers are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeersSince {
    /// Since each process was first seen, whatever the profile's window.
    FirstSeen,
    /// Within the profile's window.
    Window,
}

/// mmap calls of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MmapAsked {
    /// Calls.
    pub calls: u64,
    /// Bytes that they asked to map.
    pub requested_bytes: u64,
    /// Bytes of files, in whole pages, that faults then mapped, whichever mapping it was; null where no probe sees them.
    pub mapped_bytes: Option<u64>,
}

/// O_DIRECT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DirectIo {
    /// Bytes of user memory that were pinned for a device: modelled, all payload between disks and memory that was not
    /// registered with io_uring before. A page is pinned whole, even if less of it is used.
    pub pinned_bytes: u64,
}

/// What is not in the paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lost {
    /// Lifecycle events that found the ring full, host-wide.
    pub events: u64,
    /// Operations whose descriptor or buffer could not be resolved.
    pub unclassified_operations: u64,
    /// Their payload.
    pub unclassified_bytes: u64,
}

/// What the copies cost: modelled, by how fast a processor copied memory when zcprof started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CopyCost {
    /// Seconds of a processor that all copied bytes took.
    pub cpu_seconds: f64,
    /// The bandwidth, measured over 4 MiB: what lies in a core's own cache is copied faster, what is farther slower.
    pub bytes_per_second: u64,
    /// Always modelled.
    pub basis: Basis,
}

/// The copy profile of one process or several together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    /// Whose.
    pub processes: Vec<ProcessInfo>,
    /// The window that the figures are over; null if they are cumulative since the process was first seen.
    pub window_seconds: Option<f64>,
    /// By path, most bytes first.
    pub paths: Vec<PathProfile>,
    /// Payload of the paths whose sink is not user, mapping or pipe; where there is none, payload into user.
    pub delivered_bytes: u64,
    /// Sum over all CPU hops.
    pub copied_bytes: CopiedBytes,
    /// What they cost; null where the bandwidth was not measured.
    pub copy_cost: Option<CopyCost>,
    /// Sum over all reference hops.
    pub referenced_bytes: u64,
    /// Bytes that the CPU enciphered on their way into a socket, instead of copying them (kernel TLS).
    pub enciphered_bytes: u64,
    /// By devices.
    pub dma_bytes: DmaBytes,
    /// What was handed to network devices.
    pub network: NetworkBytes,
    /// Copied per delivered byte; null when nothing was delivered.
    pub copies_per_byte: Option<f64>,
    /// User to kernel and back.
    pub mode_switches: ModeSwitches,
    /// The scheduler's.
    pub context_switches: ContextSwitches,
    /// Page faults.
    pub page_faults: PageFaults,
    /// The page cache.
    pub page_cache: PageCacheBytes,
    /// mmap calls.
    pub mmap: MmapAsked,
    /// O_DIRECT.
    pub direct_io: DirectIo,
    /// Pass-through candidates; null where no probe finds them.
    pub pass_through: Option<Vec<PassThrough>>,
    /// The peers of sockets that most bytes went to and came from, those first; null where no probe counts them, or nobody
    /// asked.
    pub peers: Option<Vec<PeerBytes>>,
    /// Since when they are counted; null if they are.
    pub peers_since: Option<PeersSince>,
    /// What is not in the paths.
    pub lost: Lost,
}
