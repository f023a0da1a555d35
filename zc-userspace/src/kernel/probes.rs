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

impl ProbeStatus {
    /// A probe that zcprof does without where it can't be had.
    pub(super) fn optional(
        name: &'static str,
        reason: Option<String>,
        minimum_kernel: &'static str,
        provides: &'static str,
    ) -> Self {
        Self { name, attached: reason.is_none(), reason, minimum_kernel, provides }
    }

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
            absent("faults", "6.1", "page_faults, mode_switches.page_faults, path mmap:file:mapping"),
            absent("cache", "6.1", "page_cache"),
            absent("block", "6.1", "dma_bytes.disk_read, dma_bytes.disk_write"),
            absent("net", "6.1", "dma_bytes.nic_transmit, dma_bytes.nic_receive, observed network hops"),
            absent("sched", "6.1", "context_switches"),
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
