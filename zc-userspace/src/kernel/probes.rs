//! Which probes there are, and what became of each.

use serde::Serialize;

use super::btf::Btf;
use super::offsets;

/// One probe, as `zcprof probes` and the API show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ProbeStatus {
    /// The probe's name, as `--probe` takes it.
    pub name: &'static str,
    /// Whether it is attached.
    pub attached: bool,
    /// Why it is not; null if it is.
    pub reason: Option<String>,
    /// The first kernel that has what it needs.
    pub minimum_kernel: &'static str,
    /// What it tells.
    pub provides: &'static str,
}

/// Probes that count what no system call shows. Whatever the reason that one is not attached, its fields are null.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    /// As `--probe` takes it.
    pub(super) name: &'static str,
    /// The programs, and what each is attached to.
    pub(super) programs: &'static [Program],
    /// What of the kernel's structures they can't do without and this kernel lacks, if anything.
    pub(super) lacks: fn(&Btf<'_>) -> Option<String>,
    /// The first kernel that has the tracepoints.
    pub(super) minimum_kernel: &'static str,
    /// What they tell.
    pub(super) provides: &'static str,
}

/// A program's name, and its tracepoint: the first of these that the kernel has.
pub(super) type Program = (&'static str, &'static [&'static str]);

/// All of them, in the order in which they are attached.
pub(super) const OPTIONAL: &[Family] = &[
    Family {
        name: SCHED,
        programs: &[("signal_generate", &["signal_generate"])],
        lacks: |_| None,
        minimum_kernel: "6.1",
        provides: "context_switches, page_faults, page_faults.sigbus",
    },
    Family {
        name: FAULTS,
        programs: &[
            ("page_fault_user", &["page_fault_user"]),
            ("page_fault_kernel", &["page_fault_kernel"]),
            ("mm_page_alloc", &["mm_page_alloc"]),
        ],
        lacks: |_| None,
        minimum_kernel: "6.1",
        provides: "mode_switches.page_faults, path mmap:user:user",
    },
    Family {
        name: MAPPING,
        programs: &[
            ("rss_stat", &["rss_stat"]),
            ("mm_filemap_map_pages", &["mm_filemap_map_pages"]),
            ("mm_filemap_fault", &["mm_filemap_fault"]),
        ],
        lacks: offsets::mapping_lacks,
        minimum_kernel: "6.12",
        provides: "path mmap:file:mapping, mmap.mapped_bytes",
    },
    Family {
        name: BLOCK,
        programs: &[("block_bio_queue", &["block_bio_queue"]), ("writeback_dirty_folio", &["writeback_dirty_folio"])],
        lacks: offsets::block_lacks,
        minimum_kernel: "6.1",
        provides: "dma_bytes.disk_read, dma_bytes.disk_write, disk_read_direct, disk_write_direct, page_cache",
    },
    Family {
        name: NET,
        programs: &[
            ("net_dev_start_xmit", &["net_dev_start_xmit"]),
            ("netif_receive_skb", &["netif_receive_skb"]),
            ("tcp_retransmit_skb", &["tcp_retransmit_skb"]),
        ],
        lacks: offsets::net_lacks,
        minimum_kernel: "6.1",
        provides: "network, dma_bytes.nic_transmit, observed hops of what is sent: copies for devices without scatter-gather, and of pages handed over",
    },
    Family {
        name: IO_URING,
        programs: &[
            ("io_uring_complete", &["io_uring_complete"]),
            ("io_uring_overflow", &["io_uring_cqe_overflow"]),
            // The name before 6.3 is the last.
            ("io_uring_submit", &["io_uring_submit_req", "io_uring_submit_sqe"]),
        ],
        lacks: offsets::uring_lacks,
        minimum_kernel: "6.1",
        provides: "paths of io_uring",
    },
    Family {
        name: PASS_THROUGH,
        // Done by those that count reads and writes.
        programs: &[],
        lacks: offsets::pass_through_lacks,
        minimum_kernel: "6.1",
        provides: "pass_through, advise",
    },
    Family {
        name: PEERS,
        // Done by those that count what sockets move.
        programs: &[],
        lacks: offsets::peers_lacks,
        minimum_kernel: "6.1",
        provides: "peers",
    },
];

/// The family of the kernel's own counters: context switches, page faults.
pub const SCHED: &str = "sched";

/// The family of page faults from user mode.
pub const FAULTS: &str = "faults";
/// The family of pages of files that faults map.
pub const MAPPING: &str = "mapping";
/// The family of disk I/O.
pub const BLOCK: &str = "block";
/// The family of network devices.
pub const NET: &str = "net";
/// The family of io_uring.
pub const IO_URING: &str = "io_uring";
/// What looks for bytes that are written out from where they were read into.
pub const PASS_THROUGH: &str = "pass_through";
/// What counts with whom sockets talk.
pub const PEERS: &str = "peers";

/// Whether the probe with this name can be left out.
#[must_use]
pub fn is_optional(name: &str) -> bool {
    OPTIONAL.iter().any(|family| family.name == name)
}

impl Family {
    /// Its programs with their tracepoints on this kernel, or why it can't be had.
    ///
    /// # Errors
    /// If the kernel lacks what they need; the text says what.
    pub(super) fn on(&self, btf: &Btf<'_>) -> Result<Vec<(&'static str, &'static str)>, String> {
        if let Some(lack) = (self.lacks)(btf) {
            return Err(lack);
        }
        let exists = |name: &&&str| btf.tracepoint_arguments(name).is_some();
        let named = |(program, names): &Program| match names.iter().find(exists) {
            Some(name) => Ok((*program, *name)),
            None => Err(format!("this kernel has no tracepoint {}", names.join(" or "))),
        };
        self.programs.iter().map(named).collect()
    }

    /// What became of it.
    pub(super) fn status(&self, attached: Result<(), String>) -> ProbeStatus {
        ProbeStatus {
            name: self.name,
            attached: attached.is_ok(),
            reason: attached.err(),
            minimum_kernel: self.minimum_kernel,
            provides: self.provides,
        }
    }
}

impl ProbeStatus {
    /// Probes for which DESIGN reserves fields and which this build does not have yet. Their fields are null.
    pub(super) fn not_in_this_build() -> Vec<Self> {
        const REASON: &str = "not in this build; its fields are null";
        let absent = |name, minimum_kernel, provides| Self {
            name,
            attached: false,
            reason: Some(REASON.to_owned()),
            minimum_kernel,
            provides,
        };
        vec![absent("net_receive", "6.1", "dma_bytes.nic_receive, observed hops of what is received")]
    }
}

/// The running kernel's release, as uname tells it.
#[must_use]
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}
