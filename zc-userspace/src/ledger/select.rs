//! Which processes a question is about: a selector, and the descendants of what it matches.

use std::collections::HashSet;
use std::sync::Arc;

use super::identity::ProcessKey;
use super::snapshot::{Process, Snapshot};

/// Picks processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The process with this pid.
    Pid(u32),
    /// Exactly one process.
    Key(ProcessKey),
    /// Every process with this command name.
    Comm(String),
    /// Every process that runs this file: its path, or its last component.
    Exe(String),
    /// Every process of this systemd unit (`nginx` means `nginx.service`).
    Unit(String),
    /// Every process of the container whose id starts so.
    Container(String),
    /// Every process in this cgroup or below.
    Cgroup(String),
}

/// A selector that can't select anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl Selector {
    fn matches(&self, process: &Process) -> bool {
        match self {
            Self::Pid(pid) => process.key.tgid == *pid,
            Self::Key(key) => process.key == *key,
            Self::Comm(comm) => process.comm == *comm,
            Self::Exe(exe) => process
                .exe
                .as_deref()
                .is_some_and(|path| path == exe || (!exe.contains('/') && path.rsplit('/').next() == Some(exe))),
            Self::Unit(unit) => process.unit.as_deref().is_some_and(|name| {
                name == unit || (!unit.contains('.') && name.strip_suffix(".service") == Some(unit))
            }),
            Self::Container(id) => process.container.as_deref().is_some_and(|full| full.starts_with(id.as_str())),
            Self::Cgroup(path) => process.cgroup.as_deref().is_some_and(|cgroup| {
                let path = path.trim_end_matches('/');
                cgroup.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
        }
    }

    /// What it matches, descendants included, in the snapshot's order.
    #[must_use]
    pub fn select<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a Arc<Process>> {
        let roots: HashSet<ProcessKey> = match self {
            // A pid means its present or last bearer.
            Self::Pid(pid) => snapshot.by_pid(*pid).map(|process| process.key).into_iter().collect(),
            _ => snapshot.processes.iter().filter(|process| self.matches(process)).map(|process| process.key).collect(),
        };
        let family = with_descendants(snapshot, roots);
        snapshot.processes.iter().filter(|process| family.contains(&process.key)).collect()
    }
}

/// The roots and everything that descends from them.
fn with_descendants(snapshot: &Snapshot, mut family: HashSet<ProcessKey>) -> HashSet<ProcessKey> {
    let mut by_start: Vec<_> = snapshot.processes.iter().collect();
    by_start.sort_by_key(|process| process.key.start);
    // A child starts after its parent, so that one pass finds all.
    for process in by_start {
        if process.parent.is_some_and(|parent| family.contains(&parent)) {
            family.insert(process.key);
        }
    }
    family
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::ledger::Counters;

    fn process(tgid: u32, start: u64, parent: Option<(u32, u64)>, comm: &str) -> Arc<Process> {
        Arc::new(Process {
            key: ProcessKey { tgid, start },
            parent: parent.map(|(tgid, start)| ProcessKey { tgid, start }),
            comm: comm.to_owned(),
            exe: Some(format!("/usr/bin/{comm}")),
            cgroup: Some(format!("/system.slice/{comm}.service")),
            unit: Some(format!("{comm}.service")),
            container: None,
            exited: start < 10,
            exited_at: None,
            counters: Counters::default(),
        })
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            taken: Instant::now(),
            duration: Duration::ZERO,
            processes: vec![
                process(5, 5, None, "old"),
                process(5, 50, None, "sh"),
                process(6, 60, Some((5, 50)), "cat"),
                process(7, 70, Some((6, 60)), "wc"),
                process(8, 80, Some((5, 5)), "x"),
            ],
            groups: BTreeMap::new(),
            fallback: Default::default(),
            devices: Default::default(),
            runs: Vec::new(),
        }
    }

    fn pids(selector: &Selector) -> Vec<u32> {
        selector.select(&snapshot()).iter().map(|process| process.key.tgid).collect()
    }

    #[test]
    fn a_pid_means_its_present_bearer_and_takes_in_descendants() {
        assert_eq!(pids(&Selector::Pid(5)), [5, 6, 7]);
        assert_eq!(pids(&Selector::Key(ProcessKey { tgid: 5, start: 5 })), [5, 8]);
        assert_eq!(pids(&Selector::Pid(99)), [0_u32; 0]);
    }

    #[test]
    fn by_name_path_unit_and_cgroup() {
        assert_eq!(pids(&Selector::Comm("wc".to_owned())), [7]);
        assert_eq!(pids(&Selector::Exe("cat".to_owned())), [6, 7]);
        assert_eq!(pids(&Selector::Exe("/usr/bin/wc".to_owned())), [7]);
        assert_eq!(pids(&Selector::Unit("x".to_owned())), [8]);
        assert_eq!(pids(&Selector::Unit("x.service".to_owned())), [8]);
        assert_eq!(pids(&Selector::Cgroup("/system.slice".to_owned())), [5, 5, 6, 7, 8]);
        assert_eq!(pids(&Selector::Cgroup("/system".to_owned())), [0_u32; 0]);
    }
}
