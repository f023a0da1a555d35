//! One immutable view of the ledger: what every exporter reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::identity::ProcessKey;
use crate::kernel::{Devices, FallbackReading, ProbeRuns};

/// A process and its totals since it was first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Pid and start.
    pub key: ProcessKey,
    /// The process that forked it, if known.
    pub parent: Option<ProcessKey>,
    /// The leader's command name (lossy UTF-8).
    pub comm: String,
    /// The executed file.
    pub exe: Option<String>,
    /// The cgroup's path.
    pub cgroup: Option<String>,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The container's id.
    pub container: Option<String>,
    /// Whether it has exited.
    pub exited: bool,
    /// When it was found to have exited; its totals are final since.
    pub exited_at: Option<Instant>,
    /// Its totals.
    pub counters: Counters,
}

/// The ledger at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was read.
    pub taken: Instant,
    /// How long reading and summing took.
    pub duration: Duration,
    /// Every process that lives or exited within the retention, sorted by key.
    pub processes: Vec<Arc<Process>>,
    /// Totals by group, since the ledger began.
    pub groups: BTreeMap<String, Counters>,
    /// What could be counted for no process.
    pub fallback: FallbackReading,
    /// The devices that are told apart.
    pub devices: Devices,
    /// How often the probes ran.
    pub runs: Vec<ProbeRuns>,
}

impl Snapshot {
    /// What could be counted for no process.
    #[must_use]
    pub fn unattributed(&self) -> Counters {
        let mut counters = Counters::with_calls(self.fallback.system_calls);
        for &(cell, more) in &self.fallback.cells {
            counters.add_cell(cell, more);
        }
        counters
    }

    /// The process with this pid: the one that lives, or else the one that exited last.
    #[must_use]
    pub fn by_pid(&self, pid: u32) -> Option<&Arc<Process>> {
        let first = self.processes.partition_point(|process| process.key.tgid < pid);
        self.processes[first..]
            .iter()
            .take_while(|process| process.key.tgid == pid)
            .max_by_key(|process| (!process.exited, process.key.start))
    }

    /// The process with this key.
    #[must_use]
    pub fn by_key(&self, key: ProcessKey) -> Option<&Arc<Process>> {
        self.processes.binary_search_by_key(&key, |process| process.key).ok().map(|at| &self.processes[at])
    }
}
