//! Groups of processes: what the metrics are labelled with.

use std::collections::BTreeMap;

use super::counters::Counters;
use super::snapshot::Process;

/// The group that takes what has no group of its own any more.
pub const OTHER_GROUP: &str = "other";

/// What processes are grouped by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupBy {
    /// The leader's command name.
    #[default]
    Comm,
    /// The executed file.
    Exe,
    /// The systemd unit.
    Unit,
    /// The cgroup's path.
    Cgroup,
    /// The process.
    Pid,
}

impl GroupBy {
    /// The name of a process's group.
    #[must_use]
    pub fn name_of(self, process: &Process) -> String {
        let unknown = || "unknown".to_owned();
        match self {
            Self::Comm => process.comm.clone(),
            Self::Exe => process.exe.clone().unwrap_or_else(unknown),
            Self::Unit => process.unit.clone().unwrap_or_else(|| "none".to_owned()),
            Self::Cgroup => process.cgroup.clone().unwrap_or_else(unknown),
            Self::Pid => process.key.tgid.to_string(),
        }
    }
}

/// Totals by group. They take deltas, so that they only grow, whatever becomes of the processes.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    max: usize,
    totals: BTreeMap<String, Counters>,
}

impl Groups {
    /// At most `max` groups beside [`OTHER_GROUP`].
    pub(super) fn new(max: usize) -> Self {
        Self { max, totals: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, name: &str, more: &Counters) {
        if more.is_zero() {
            return;
        }
        let named = self.totals.len() - usize::from(self.totals.contains_key(OTHER_GROUP));
        let name = if self.totals.contains_key(name) || named < self.max { name } else { OTHER_GROUP };
        self.totals.entry(name.to_owned()).or_default().add(more);
    }

    pub(super) fn totals(&self) -> &BTreeMap<String, Counters> {
        &self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_maximum_goes_to_other() {
        let mut groups = Groups::new(2);
        let one = Counters::with_calls(1);
        for name in ["a", "b", "c", "d", "a"] {
            groups.add(name, &one);
        }
        let totals: Vec<_> = groups.totals().iter().map(|(name, sum)| (name.as_str(), sum.system_calls)).collect();
        assert_eq!(totals, [("a", 2), ("b", 1), (OTHER_GROUP, 2)]);
    }
}
