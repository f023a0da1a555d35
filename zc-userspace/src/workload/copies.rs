//! What becomes of each byte that a workload moves, told from its ends and not from the catalogue: the second entry of
//! the books, that the first is checked against. The figures are those measured with an execution breakpoint on the
//! kernel's copy routines (6.1 and 6.12).

use serde::{Deserialize, Serialize};

use zc_common::path::Condition;

use super::Workload;
use super::fixture::Fixture;

/// Bytes, or how often each byte, by what moves them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// Copied by the CPU from kernel to user.
    pub to_user: u64,
    /// Copied by the CPU from user to kernel.
    pub from_user: u64,
    /// Copied by the CPU within the kernel.
    pub in_kernel: u64,
    /// Handed over by reference.
    pub referenced: u64,
    /// Moved by a device.
    pub dma: u64,
    /// Enciphered by the CPU on their way.
    pub enciphered: u64,
}

const NONE: Copies = Copies { to_user: 0, from_user: 0, in_kernel: 0, referenced: 0, dma: 0, enciphered: 0 };
const TO_USER: Copies = Copies { to_user: 1, ..NONE };
const FROM_USER: Copies = Copies { from_user: 1, ..NONE };
const IN_KERNEL: Copies = Copies { in_kernel: 1, ..NONE };
const REFERENCED: Copies = Copies { referenced: 1, ..NONE };
const DMA: Copies = Copies { dma: 1, ..NONE };
const ENCIPHERED: Copies = Copies { enciphered: 1, ..NONE };
/// Over loopback the kernel copies the pages that it was handed (skb_copy_ubufs).
const HANDED_OVER_IN_VAIN: Copies = Copies { referenced: 1, in_kernel: 1, ..NONE };

impl Copies {
    /// These for a number of bytes.
    #[must_use]
    pub(super) fn of(self, bytes: u64) -> Self {
        Self {
            to_user: self.to_user * bytes,
            from_user: self.from_user * bytes,
            in_kernel: self.in_kernel * bytes,
            referenced: self.referenced * bytes,
            dma: self.dma * bytes,
            enciphered: self.enciphered * bytes,
        }
    }

    const fn and(self, more: Self) -> Self {
        Self {
            to_user: self.to_user + more.to_user,
            from_user: self.from_user + more.from_user,
            in_kernel: self.in_kernel + more.in_kernel,
            referenced: self.referenced + more.referenced,
            dma: self.dma + more.dma,
            enciphered: self.enciphered + more.enciphered,
        }
    }
}

/// What becomes of each byte of a workload's payload.
pub(super) fn per_byte(workload: &Workload) -> Copies {
    match workload.id.split(':').next().unwrap_or_default() {
        "read" => match workload.source {
            Fixture::Disk => DMA,
            Fixture::Zero => NONE,
            _ => TO_USER,
        },
        "write" => match workload.sink {
            Fixture::Disk => DMA,
            Fixture::Null => NONE,
            Fixture::Tls => ENCIPHERED,
            Fixture::VethLinear => FROM_USER.and(IN_KERNEL),
            _ => FROM_USER,
        },
        // Into memory and out of it as the plain calls do; registered buffers by the kernel's own mappings of them.
        "io_uring" | "aio" if workload.is_into_memory() => match workload.source {
            Fixture::Disk => DMA,
            Fixture::Zero => NONE,
            _ => TO_USER,
        },
        "io_uring" | "aio" if workload.is_out_of_memory() => match workload.sink {
            Fixture::Disk => DMA,
            Fixture::Null => NONE,
            Fixture::Tls => ENCIPHERED,
            _ => FROM_USER,
        },
        "io_uring_fixed" if [workload.source, workload.sink].contains(&Fixture::Disk) => DMA,
        "io_uring_fixed" => IN_KERNEL,
        "io_uring_zerocopy" | "zerocopy_send" => HANDED_OVER_IN_VAIN,
        "zerocopy_receive" if workload.condition == Condition::Copied => TO_USER,
        "zerocopy_receive" => REFERENCED,
        "io_uring" if workload.variant == "tee" => REFERENCED,
        "process_vm_read" => TO_USER,
        "process_vm_write" => FROM_USER,
        "vmsplice" if matches!(workload.source, Fixture::Pipe) => TO_USER,
        "vmsplice" | "tee" | "reflink" => REFERENCED,
        "mmap" if workload.condition == Condition::Asked => NONE,
        "mmap" if workload.id == "mmap:user:user" => IN_KERNEL,
        "mmap" => REFERENCED,
        _ => through_pipe(workload.source, workload.sink),
    }
}

/// sendfile, splice and copy_file_range all go through a pipe, if only one within the kernel: pages are put into it,
/// and taken out.
fn through_pipe(source: Fixture, sink: Fixture) -> Copies {
    let (put, by_reference) = match source {
        Fixture::Disk => (DMA, false),
        Fixture::Zero => (NONE, false),
        Fixture::Urandom | Fixture::Proc | Fixture::Udp | Fixture::Netlink | Fixture::UnixDatagram => {
            (IN_KERNEL, false)
        }
        _ => (NONE, true),
    };
    let taken = match sink {
        Fixture::Pipe if by_reference => REFERENCED,
        Fixture::Pipe | Fixture::Null => NONE,
        Fixture::Disk => DMA,
        Fixture::Tcp | Fixture::Veth | Fixture::Udp | Fixture::Unix => REFERENCED,
        Fixture::VethLinear => REFERENCED.and(IN_KERNEL),
        Fixture::Tls => ENCIPHERED,
        _ => IN_KERNEL,
    };
    put.and(taken)
}
