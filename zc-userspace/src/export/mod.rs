//! What leaves the agent: metrics, API and page. Each exporter reads one immutable snapshot.

pub mod api;
pub mod catalogue;
pub mod history;
pub mod listen;
mod page;
pub mod problem;
pub mod prometheus;
pub mod rules;
pub mod serve;
pub mod source;
pub mod streams;
#[cfg(test)]
mod testing;
pub mod web;

use crate::kernel::ProbeStatus;
use crate::ledger::GroupBy;
use crate::model::Catalogue;

/// What the exporters know beside the snapshot; it does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct About {
    /// The catalogue in use.
    pub catalogue: Catalogue,
    /// What became of each probe.
    pub probes: Vec<ProbeStatus>,
    /// The running kernel's release.
    pub kernel: String,
    /// What the groups are.
    pub group_by: GroupBy,
    /// The verify rules of the configuration.
    pub rules: Vec<rules::Rule>,
}

/// This build's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
