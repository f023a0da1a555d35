//! Profiles of selected processes: over a window between two snapshots, or since each was first seen. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use crate::ledger::{Counters, Process, ProcessKey, Selector, Snapshot};
use crate::model::{Catalogue, ProcessInfo, Profile, profile};

/// What the selected processes did between two snapshots of a ledger that forgets nothing: those that matched at the
/// start or match at the end, and all that descend from them. None if there is none.
pub(super) fn between(
    catalogue: &Catalogue,
    selector: &Selector,
    start: &Snapshot,
    end: &Snapshot,
    own_pid: u32,
) -> Option<Profile> {
    let (mut processes, mut counters) = (Vec::new(), Counters::default());
    for (process, more) in differences(selector, start, end, own_pid) {
        processes.push(ProcessInfo::of(process));
        counters.add(&more);
    }
    let window = end.taken.duration_since(start.taken);
    let lost = end.fallback.events_lost.saturating_sub(start.fallback.events_lost);
    (!processes.is_empty()).then(|| profile(catalogue, processes, &counters, Some(window), lost))
}

/// The same, process by process.
pub(super) fn differences<'a>(
    selector: &Selector,
    start: &Snapshot,
    end: &'a Snapshot,
    own_pid: u32,
) -> Vec<(&'a Arc<Process>, Counters)> {
    let mut family = keys(selector, start);
    // A pid means the process that bore it at the start; one that gets the same pid later is another.
    if family.is_empty() || !matches!(selector, Selector::Pid(_)) {
        family.extend(keys(selector, end));
    }
    let family = with_descendants(end, family);
    let mut all = all_differences(start, end, own_pid);
    all.retain(|(process, _)| family.contains(&process.key));
    all
}

/// What each process did between two snapshots. We count nothing of ourselves, and what had ended before is not part of
/// the window.
pub(super) fn all_differences<'a>(
    start: &Snapshot,
    end: &'a Snapshot,
    own_pid: u32,
) -> Vec<(&'a Arc<Process>, Counters)> {
    let difference = |process: &'a Arc<Process>| {
        let then = start.by_key(process.key);
        if process.key.tgid == own_pid || then.is_some_and(|then| then.exited) {
            return None;
        }
        let counters = then.map_or_else(|| process.counters.clone(), |then| process.counters.since(&then.counters));
        Some((process, counters))
    };
    end.processes.iter().filter_map(difference).collect()
}

/// What a process and its descendants did since the first of them was seen.
pub(super) fn since_start(catalogue: &Catalogue, key: ProcessKey, snapshot: &Snapshot) -> Profile {
    let processes = Selector::Key(key).select(snapshot);
    let mut counters = Counters::default();
    for process in &processes {
        counters.add(&process.counters);
    }
    let processes = processes.into_iter().map(|process| ProcessInfo::of(process)).collect();
    profile(catalogue, processes, &counters, None, snapshot.fallback.events_lost)
}

fn keys(selector: &Selector, snapshot: &Snapshot) -> HashSet<ProcessKey> {
    let live = |process: &&&Arc<Process>| !process.exited || !matches!(selector, Selector::Pid(_));
    selector.select(snapshot).iter().filter(live).map(|process| process.key).collect()
}

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
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use zc_common::path::{Condition, PathId};
    use zc_common::record::Cell;

    use super::*;

    pub(in crate::cli) fn process(
        tgid: u32,
        start: u64,
        parent: Option<(u32, u64)>,
        comm: &str,
        bytes: u64,
    ) -> Arc<Process> {
        let mut counters = Counters::with_calls(bytes);
        let id = PathId::parse("read:file:user").unwrap();
        let cell = Catalogue::default().cell(id, Condition::Always).unwrap();
        counters.add_cell(cell, Cell { operations: u64::from(bytes > 0), bytes });
        Arc::new(Process {
            key: ProcessKey { tgid, start },
            parent: parent.map(|(tgid, start)| ProcessKey { tgid, start }),
            comm: comm.to_owned(),
            exe: None,
            cgroup: None,
            unit: None,
            container: None,
            exited: false,
            exited_at: None,
            counters,
        })
    }

    fn exited(process: Arc<Process>) -> Arc<Process> {
        Arc::new(Process { exited: true, ..Arc::unwrap_or_clone(process) })
    }

    pub(in crate::cli) fn snapshot(processes: Vec<Arc<Process>>) -> Snapshot {
        Snapshot {
            taken: Instant::now(),
            duration: Duration::ZERO,
            processes,
            groups: BTreeMap::new(),
            fallback: Default::default(),
            devices: Default::default(),
            runs: Vec::new(),
        }
    }

    fn window(selector: &Selector, start: Vec<Arc<Process>>, end: Vec<Arc<Process>>) -> Option<(Vec<u64>, u64)> {
        let found = between(&Catalogue::default(), selector, &snapshot(start), &snapshot(end), 99)?;
        assert!(found.window_seconds.is_some());
        Some((found.processes.iter().map(|process| process.tgid_start).collect(), found.delivered_bytes))
    }

    #[test]
    fn those_that_ran_count_their_difference_and_those_that_start_from_zero() {
        let start = vec![process(5, 5, None, "a", 100)];
        let end = vec![exited(process(5, 5, None, "a", 150)), process(6, 60, Some((5, 5)), "b", 7)];
        assert_eq!(window(&Selector::Pid(5), start.clone(), end.clone()), Some((vec![5, 60], 57)));
        assert_eq!(window(&Selector::Comm("b".to_owned()), start.clone(), end.clone()), Some((vec![60], 7)));
        assert_eq!(window(&Selector::Comm("c".to_owned()), start, end), None);
    }

    #[test]
    fn a_pid_used_again_is_not_the_one_asked_for() {
        let start = vec![process(5, 5, None, "a", 100)];
        let end = vec![exited(process(5, 5, None, "a", 110)), process(5, 50, None, "z", 1000)];
        assert_eq!(window(&Selector::Pid(5), start, end), Some((vec![5], 10)));
    }

    #[test]
    fn what_ended_before_the_window_or_is_us_is_left_out() {
        let gone = exited(process(5, 5, None, "a", 100));
        assert_eq!(window(&Selector::Comm("a".to_owned()), vec![gone.clone()], vec![gone]), None);
        let us = vec![process(99, 5, None, "zcprof", 0)];
        assert_eq!(window(&Selector::Pid(99), us.clone(), us), None);
    }

    #[test]
    fn one_that_changed_its_name_stays_in() {
        let start = vec![process(5, 5, None, "sh", 100)];
        let end = vec![process(5, 5, None, "cat", 120)];
        assert_eq!(window(&Selector::Comm("sh".to_owned()), start, end), Some((vec![5], 20)));
    }

    #[test]
    fn since_start_is_cumulative() {
        let ledger = snapshot(vec![process(5, 5, None, "a", 100), process(6, 60, Some((5, 5)), "b", 7)]);
        let found = since_start(&Catalogue::default(), ProcessKey { tgid: 5, start: 5 }, &ledger);
        assert_eq!((found.window_seconds, found.delivered_bytes, found.processes.len()), (None, 107, 2));
    }
}
