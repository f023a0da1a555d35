//! Summing readings into totals per process and group that never go backwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zc_common::record::Identity;

use super::counters::Counters;
use super::groups::{GroupBy, Groups};
use super::identity::{Cgroup, ProcessKey};
use super::snapshot::{Process, Snapshot};
use crate::kernel::{FallbackReading, Lifecycle, LifecycleKind, Reading, ThreadReading};

/// How a ledger sums.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What processes are grouped by.
    pub group_by: GroupBy,
    /// Groups beside `other`.
    pub max_groups: usize,
    /// How long an exited process is kept; `None` keeps it for good.
    pub retain: Option<Duration>,
}

/// What only the running system knows of a process: asked once when it is first seen, and when it executes.
pub trait Lookup {
    /// The file that it runs.
    fn exe(&self, pid: u32) -> Option<String>;
    /// Its cgroups, as `/proc/PID/cgroup` tells them.
    fn cgroup(&self, pid: u32) -> Option<Cgroup>;
}

#[derive(Debug)]
struct Entry {
    process: Arc<Process>,
    /// The cgroup that `process` was looked up for.
    cgroup_id: u64,
    /// Sum of its exited threads.
    exited_threads: Counters,
    /// Sum of its threads that live, as of this reading.
    live_threads: Counters,
    /// What the kernel counted for it outside its threads' ledgers.
    shared: Counters,
    /// Last values of threads that vanished without a record: the map of exited threads was full, and their ledgers
    /// are in the fallback.
    vanished: Counters,
    /// When it was found to have exited.
    exited_at: Option<Instant>,
    /// Whether a thread of it lives in this reading.
    lives: bool,
}

/// Totals of every process and group since the probes were attached.
#[derive(Debug)]
pub struct Ledger {
    settings: Settings,
    entries: HashMap<ProcessKey, Entry>,
    /// Paths by the id of the cgroup, for processes that were gone before they could be looked up.
    cgroups: HashMap<u64, Cgroup>,
    groups: Groups,
    fallback: FallbackReading,
}

fn key_of(identity: &Identity) -> ProcessKey {
    ProcessKey { tgid: identity.tgid, start: identity.process_start }
}

fn parent_of(identity: &Identity) -> Option<ProcessKey> {
    (identity.parent_tgid != 0).then_some(ProcessKey { tgid: identity.parent_tgid, start: identity.parent_start })
}

fn comm_of(identity: &Identity) -> String {
    let end = identity.comm.iter().position(|&b| b == 0).unwrap_or(identity.comm.len());
    String::from_utf8_lossy(&identity.comm[..end]).into_owned()
}

fn add_thread(sum: &mut Counters, thread: &ThreadReading) {
    sum.system_calls += thread.system_calls;
    for (cell, counters) in thread.used() {
        sum.add_cell(cell, counters);
    }
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            entries: HashMap::new(),
            cgroups: HashMap::new(),
            groups: Groups::new(settings.max_groups),
            fallback: FallbackReading::default(),
        }
    }

    /// Takes lifecycle events: they tell early what a reading would tell late or, for short lives, never.
    pub fn apply_events(&mut self, events: Vec<Lifecycle>, lookup: &dyn Lookup) {
        for Lifecycle { identity, kind } in events {
            let entry = self.entry(&identity, lookup);
            let process = Arc::make_mut(&mut entry.process);
            match kind {
                LifecycleKind::Exec(file) => {
                    process.comm = comm_of(&identity);
                    process.exe = lookup.exe(identity.tgid).or(Some(file));
                }
                LifecycleKind::Fork | LifecycleKind::Exit => {}
            }
        }
    }

    /// Sums a reading in. `now` is when it was taken.
    pub fn apply(&mut self, reading: Reading, now: Instant, lookup: &dyn Lookup) {
        for entry in self.entries.values_mut() {
            entry.live_threads = Counters::default();
            entry.shared = Counters::default();
            entry.lives = false;
        }
        for thread in &reading.threads {
            let entry = self.entry(&thread.identity, lookup);
            entry.lives = true;
            add_thread(&mut entry.live_threads, thread);
        }
        for thread in &reading.exited {
            let entry = self.entry(&thread.identity, lookup);
            add_thread(&mut entry.exited_threads, thread);
        }
        for (key, cell) in &reading.shared {
            let owner = ProcessKey { tgid: key.tgid, start: key.process_start };
            if let (Some(entry), Ok(number)) = (self.entries.get_mut(&owner), u8::try_from(key.cell)) {
                entry.shared.add_cell(number, *cell);
            }
        }
        self.fallback = reading.fallback;
        self.settle(now);
    }

    /// Brings every process's totals up to date, hands what is new to its group, and forgets what exited long ago.
    fn settle(&mut self, now: Instant) {
        let Self { settings, entries, groups, .. } = self;
        entries.retain(|_, entry| {
            let total = entry.total();
            let more = total.since(&entry.process.counters);
            if !more.is_zero() {
                groups.add(&settings.group_by.name_of(&entry.process), &more);
            }
            let exited = !entry.lives;
            if !more.is_zero() || exited != entry.process.exited {
                let process = Arc::make_mut(&mut entry.process);
                process.counters = total;
                process.exited = exited;
            }
            entry.exited_at = if exited { entry.exited_at.or(Some(now)) } else { None };
            let age = entry.exited_at.map(|then| now.duration_since(then));
            !matches!((age, settings.retain), (Some(age), Some(retain)) if age > retain)
        });
    }

    /// The entry of a thread's process, made if it is new, with what the identity tells brought up to date.
    fn entry(&mut self, identity: &Identity, lookup: &dyn Lookup) -> &mut Entry {
        let Self { entries, cgroups, .. } = self;
        let entry = entries.entry(key_of(identity)).or_insert_with(|| Entry::new(identity, lookup));
        if entry.process.comm.as_bytes() != comm_bytes(identity) {
            let comm = comm_of(identity);
            if entry.process.comm != comm {
                Arc::make_mut(&mut entry.process).comm = comm;
            }
        }
        if entry.cgroup_id != identity.cgroup || entry.process.cgroup.is_none() {
            entry.cgroup_id = identity.cgroup;
            let found = lookup.cgroup(identity.tgid);
            if let Some(cgroup) = &found {
                cgroups.insert(identity.cgroup, cgroup.clone());
            }
            if let Some(cgroup) = found.or_else(|| cgroups.get(&identity.cgroup).cloned()) {
                let process = Arc::make_mut(&mut entry.process);
                process.cgroup = Some(cgroup.path);
                process.unit = cgroup.unit;
                process.container = cgroup.container;
            }
        }
        entry
    }

    /// The totals as one immutable value.
    #[must_use]
    pub fn snapshot(&self, taken: Instant, duration: Duration) -> Snapshot {
        let mut processes: Vec<_> = self.entries.values().map(|entry| Arc::clone(&entry.process)).collect();
        processes.sort_unstable_by_key(|process| process.key);
        let groups: BTreeMap<_, _> = self.groups.totals().clone();
        Snapshot { taken, duration, processes, groups, fallback: self.fallback.clone() }
    }
}

fn comm_bytes(identity: &Identity) -> &[u8] {
    let end = identity.comm.iter().position(|&b| b == 0).unwrap_or(identity.comm.len());
    &identity.comm[..end]
}

impl Entry {
    fn new(identity: &Identity, lookup: &dyn Lookup) -> Self {
        let process = Process {
            key: key_of(identity),
            parent: parent_of(identity),
            comm: comm_of(identity),
            exe: lookup.exe(identity.tgid),
            cgroup: None,
            unit: None,
            container: None,
            exited: false,
            counters: Counters::default(),
        };
        Self {
            process: Arc::new(process),
            cgroup_id: 0,
            exited_threads: Counters::default(),
            live_threads: Counters::default(),
            shared: Counters::default(),
            vanished: Counters::default(),
            exited_at: None,
            lives: true,
        }
    }

    /// The process's totals. What is missing against the last ones is what threads took along that vanished without a
    /// record; it is kept, so that totals never go back.
    fn total(&mut self) -> Counters {
        let mut sum = self.exited_threads.clone();
        sum.add(&self.live_threads);
        sum.add(&self.shared);
        sum.add(&self.vanished);
        let missing = self.process.counters.since(&sum);
        if !missing.is_zero() {
            self.vanished.add(&missing);
            sum.add(&missing);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use zc_common::record::{CELL_FREE, Cell, THREAD_CELLS, ThreadCells};

    use super::*;

    struct Nobody;
    impl Lookup for Nobody {
        fn exe(&self, _: u32) -> Option<String> {
            None
        }
        fn cgroup(&self, _: u32) -> Option<Cgroup> {
            None
        }
    }

    fn thread(id: u64, tgid: u32, start: u64, comm: &[u8], bytes: u64) -> ThreadReading {
        let mut identity = Identity { id, tgid, tid: tgid, process_start: start, ..Identity::default() };
        identity.comm[..comm.len()].copy_from_slice(comm);
        let mut cells = ThreadCells { owners: [CELL_FREE; THREAD_CELLS], cells: [Cell::default(); THREAD_CELLS] };
        cells.owners[3] = 9;
        cells.cells[3] = Cell { operations: 1, bytes };
        ThreadReading { identity, system_calls: 1, cells: Some(cells) }
    }

    fn ledger(retain: Option<Duration>) -> Ledger {
        Ledger::new(Settings { group_by: GroupBy::Comm, max_groups: 8, retain })
    }

    fn bytes(ledger: &Ledger, tgid: u32) -> u64 {
        let snapshot = ledger.snapshot(Instant::now(), Duration::ZERO);
        snapshot.by_pid(tgid).map_or(0, |process| process.counters.get(9).bytes)
    }

    fn read(live: Vec<ThreadReading>, exited: Vec<ThreadReading>) -> Reading {
        Reading { threads: live, exited, ..Reading::default() }
    }

    #[test]
    fn threads_move_from_live_to_exited_without_loss() {
        let mut ledger = ledger(None);
        let now = Instant::now();
        ledger.apply(read(vec![thread(1, 7, 1, b"a", 10), thread(2, 7, 1, b"a", 5)], vec![]), now, &Nobody);
        assert_eq!(bytes(&ledger, 7), 15);
        ledger.apply(read(vec![thread(1, 7, 1, b"a", 12)], vec![thread(2, 7, 1, b"a", 6)]), now, &Nobody);
        assert_eq!(bytes(&ledger, 7), 18);
        ledger.apply(read(vec![], vec![thread(1, 7, 1, b"a", 13)]), now, &Nobody);
        assert_eq!(bytes(&ledger, 7), 19);
        let snapshot = ledger.snapshot(now, Duration::ZERO);
        assert!(snapshot.by_pid(7).unwrap().exited);
        assert_eq!(snapshot.groups["a"].get(9), Cell { operations: 2, bytes: 19 });
    }

    #[test]
    fn a_thread_that_vanishes_takes_nothing_back() {
        let mut ledger = ledger(None);
        let now = Instant::now();
        ledger.apply(read(vec![thread(1, 7, 1, b"a", 10), thread(2, 7, 1, b"a", 5)], vec![]), now, &Nobody);
        ledger.apply(read(vec![thread(1, 7, 1, b"a", 10)], vec![]), now, &Nobody);
        assert_eq!(bytes(&ledger, 7), 15);
        ledger.apply(read(vec![thread(1, 7, 1, b"a", 20)], vec![]), now, &Nobody);
        assert_eq!(bytes(&ledger, 7), 25);
    }

    #[test]
    fn a_pid_used_again_is_another_process_and_the_group_goes_on() {
        let mut ledger = ledger(Some(Duration::from_secs(60)));
        let now = Instant::now();
        ledger.apply(read(vec![], vec![thread(1, 7, 1, b"a", 10)]), now, &Nobody);
        ledger.apply(read(vec![thread(2, 7, 2, b"a", 3)], vec![]), now, &Nobody);
        assert_eq!(bytes(&ledger, 7), 3);
        let later = now + Duration::from_secs(61);
        ledger.apply(read(vec![thread(2, 7, 2, b"a", 4)], vec![]), later, &Nobody);
        let snapshot = ledger.snapshot(later, Duration::ZERO);
        assert_eq!(snapshot.processes.len(), 1);
        assert_eq!(snapshot.groups["a"].get(9).bytes, 14);
    }

    #[test]
    fn a_renamed_process_gives_only_what_is_new_to_its_new_group() {
        let mut ledger = ledger(None);
        let now = Instant::now();
        ledger.apply(read(vec![thread(1, 7, 1, b"a", 10)], vec![]), now, &Nobody);
        ledger.apply(read(vec![thread(1, 7, 1, b"b", 15)], vec![]), now, &Nobody);
        let groups = ledger.snapshot(now, Duration::ZERO).groups;
        assert_eq!((groups["a"].get(9).bytes, groups["b"].get(9).bytes), (10, 5));
    }
}
