//! Which probes there are, and what became of each.

use serde::Serialize;

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
    /// The programs: each named like its tracepoint.
    pub(super) programs: &'static [&'static str],
    /// The first kernel that has the tracepoints.
    pub(super) minimum_kernel: &'static str,
    /// What they tell.
    pub(super) provides: &'static str,
}

/// All of them, in the order in which they are attached.
pub(super) const OPTIONAL: &[Family] = &[
    Family {
        name: SCHED,
        programs: &["signal_generate"],
        minimum_kernel: "6.1",
        provides: "context_switches, page_faults",
    },
    Family {
        name: FAULTS,
        programs: &["page_fault_user"],
        minimum_kernel: "6.1",
        provides: "mode_switches.page_faults",
    },
    Family {
        name: BLOCK,
        programs: &["block_bio_queue", "writeback_dirty_folio"],
        minimum_kernel: "6.1",
        provides: "dma_bytes.disk_read, dma_bytes.disk_write, page_cache",
    },
];

/// The family of the kernel's own counters: context switches, page faults.
pub const SCHED: &str = "sched";

/// The family of page faults from user mode.
pub const FAULTS: &str = "faults";
/// The family of disk I/O.
pub const BLOCK: &str = "block";

/// Whether the probe with this name can be left out.
#[must_use]
pub fn is_optional(name: &str) -> bool {
    OPTIONAL.iter().any(|family| family.name == name)
}

impl Family {
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
        vec![
            absent("mapping", "6.1", "path mmap:file:mapping"),
            absent("net", "6.1", "dma_bytes.nic_transmit, dma_bytes.nic_receive, observed network hops"),
            absent("io_uring", "6.1", "paths of io_uring"),
            absent("aio", "6.1", "paths of Linux AIO"),
            absent("zerocopy", "6.1", "paths zerocopy_send and zerocopy_receive"),
            absent("pass_through", "6.1", "pass_through"),
        ]
    }
}

/// The running kernel's release, as uname tells it.
#[must_use]
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}
