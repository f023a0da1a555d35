//! Summing readings into totals per process and group that never go backwards.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zc_common::record::{CELL_CALLS, Cell, FLAG_GROUP_DEAD, Identity, SharedKey};

use super::counters::Counters;
use super::groups::{GroupBy, Groups};
use super::identity::{Cgroup, ProcessKey};
use super::snapshot::{Process, Snapshot};
use crate::kernel::{Devices, FallbackReading, Lifecycle, LifecycleKind, ProbeRuns, Reading, ThreadReading};

/// Exited processes that are kept at the most, where they are not kept for good: the retention alone would let a host
/// that runs 100 commands a second fill the daemon's memory.
const MAX_EXITED: usize = 8192;

/// How a ledger sums.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What processes are grouped by.
    pub group_by: GroupBy,
    /// Groups beside `other`.
    pub max_groups: usize,
    /// How long an exited process is kept, if no more than 8,192 are; `None` keeps all for good.
    pub retain: Option<Duration>,
}

/// What only the running system knows of a process: asked once when it is first seen, and when it executes.
pub trait Lookup {
    /// The file that it runs.
    fn exe(&self, process: ProcessKey) -> Option<String>;
    /// Its cgroups, as `/proc/PID/cgroup` tells them.
    fn cgroup(&self, process: ProcessKey) -> Option<Cgroup>;
}

/// A thread as last read.
#[derive(Debug)]
struct Thread {
    counters: Counters,
    /// Whether this reading has it.
    present: bool,
}

#[derive(Debug)]
struct Entry {
    process: Arc<Process>,
    /// The cgroup that `process` tells of.
    cgroup_id: u64,
    /// Whether /proc was asked since it executed its program.
    looked_up: bool,
    /// Sum of its exited threads, and of what the shared ledger had when it exited.
    exited: Counters,
    /// Its other threads, by their ledgers' ids, with their last values. A reading may miss one for once (its pid
    /// changes when it executes a program), and one whose record found the map of exited threads full stays for good.
    threads: HashMap<u64, Thread>,
    /// What the kernel counted for it outside its threads' ledgers.
    shared: Counters,
    /// What the kernel had counted of the process before the probes were attached: not ours to tell. None for one that
    /// began later.
    before: Option<Counters>,
    /// What it had counted in the end, by its own account: at their exits threads are not quite through.
    last: Counters,
    /// Keys of that, to be removed when the process has exited.
    shared_keys: Vec<SharedKey>,
    /// Readings in a row without a thread that lives.
    absences: u32,
    /// Whether its last thread was seen to exit.
    exit_seen: bool,
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
    runs: Vec<ProbeRuns>,
    devices: Devices,
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

/// What stands for the ledger of a thread that has none yet.
fn nameless(identity: &Identity) -> u64 {
    1 << 63 | u64::from(identity.tid)
}

fn counters_of(thread: &ThreadReading) -> Counters {
    let mut counters = Counters::with_calls(thread.system_calls);
    counters.add_usage(&thread.usage);
    for (cell, more) in thread.used() {
        counters.add_cell(cell, more);
    }
    counters
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
            runs: Vec::new(),
            devices: Devices::default(),
        }
    }

    /// Takes lifecycle events: they tell what a reading would tell late or, of short lives, never.
    pub fn apply_events(&mut self, events: Vec<Lifecycle>) {
        for Lifecycle { identity, kind } in events {
            let entry = self.entry(&identity);
            match kind {
                LifecycleKind::Fork => {}
                LifecycleKind::Exec(file) => {
                    Arc::make_mut(&mut entry.process).exe = Some(file);
                    entry.looked_up = false;
                }
                LifecycleKind::Exit => entry.exit_seen = true,
            }
        }
    }

    /// Sums a reading in. `now` is when it was taken. Returns the keys of the shared ledger whose processes have exited:
    /// they must be taken out of it, and what was there given to [`Self::close`].
    #[must_use = "the cells must be taken out of the shared ledger"]
    pub fn apply(&mut self, reading: Reading, now: Instant, lookup: &dyn Lookup) -> Vec<SharedKey> {
        for entry in self.entries.values_mut() {
            entry.threads.values_mut().for_each(|thread| thread.present = false);
            entry.shared = Counters::default();
            entry.shared_keys.clear();
            entry.absences += 1;
        }
        for thread in &reading.threads {
            let Self { entries, cgroups, .. } = self;
            let entry = Entry::of(entries, cgroups, &thread.identity);
            // Only now that it was seen alive: earlier, /proc might tell of the pid's next bearer.
            entry.look_up(&thread.identity, cgroups, lookup);
            entry.absences = 0;
            let nameless = nameless(&thread.identity);
            let key = if thread.identity.id == 0 {
                nameless
            } else {
                entry.threads.remove(&nameless);
                thread.identity.id
            };
            entry.threads.insert(key, Thread { counters: counters_of(thread), present: true });
        }
        for thread in &reading.exited {
            // What an exited thread was called is older than what a living one is.
            let last = thread.identity.flags & FLAG_GROUP_DEAD != 0;
            let key = key_of(&thread.identity);
            let entry = match self.entries.get_mut(&key) {
                Some(entry) if entry.absences == 0 || !last => entry,
                _ => self.entry(&thread.identity),
            };
            entry.exit_seen |= last;
            let mut counters = counters_of(thread);
            // One whose exit was missed has no account of the kernel's; what it was last seen with stands.
            for key in [thread.identity.id, nameless(&thread.identity)] {
                if let Some(last) = entry.threads.remove(&key) {
                    counters.raise_usage(&last.counters);
                }
            }
            entry.exited.add(&counters);
        }
        for (key, cell) in &reading.shared {
            // One that no event and no thread has told of came and went since the last reading, or was forgotten, and what
            // it wrote is written back now.
            let owner =
                Identity { tgid: key.tgid, process_start: key.process_start, comm: UNKNOWN, ..Identity::default() };
            if let Ok(number) = u16::try_from(key.cell) {
                let entry = match self.entries.get_mut(&key_of(&owner)) {
                    Some(entry) => entry,
                    None => self.entry(&owner),
                };
                match number {
                    number if number == u16::from(CELL_CALLS) => entry.shared.system_calls += cell.operations,
                    _ => entry.shared.add_cell(number, *cell),
                }
                entry.shared_keys.push(*key);
            }
        }
        for (key, usage) in &reading.ended {
            let owner = ProcessKey { tgid: key.tgid, start: key.process_start };
            // Of one that is older, threads may have ended before we were there to see them.
            if let Some(entry) = self.entries.get_mut(&owner).filter(|_| owner.start >= reading.attached_at) {
                entry.last = Counters::default();
                entry.last.add_usage(usage);
            }
        }
        for (key, entry) in &mut self.entries {
            if entry.before.is_none() && key.start < reading.attached_at {
                // It is only known once its threads were read, or their records.
                let usage = entry.sum().usage();
                entry.before = (!usage.is_zero()).then_some(usage);
            }
        }
        self.fallback = reading.fallback;
        self.runs = reading.runs;
        self.devices = reading.devices;
        self.settle(now)
    }

    /// Brings every process's totals up to date, hands what is new to its group, and forgets what exited long ago.
    fn settle(&mut self, now: Instant) -> Vec<SharedKey> {
        let Self { settings, entries, groups, .. } = self;
        let mut last = Vec::new();
        entries.retain(|_, entry| {
            let exited = entry.has_exited();
            if exited {
                last.extend(&entry.shared_keys);
            }
            let total = entry.total();
            let more = total.since(&entry.process.counters);
            if !more.is_zero() {
                groups.add(&settings.group_by.name_of(&entry.process), &more);
            }
            if !more.is_zero() || exited != entry.process.exited {
                let process = Arc::make_mut(&mut entry.process);
                process.counters = total;
                process.exited = exited;
                process.exited_at = if exited { process.exited_at.or(Some(now)) } else { None };
            }
            let age = entry.process.exited_at.map(|then| now.duration_since(then));
            let is_old = matches!((age, settings.retain), (Some(age), Some(retain)) if age > retain);
            // One whose last cells are still to be taken stays until the next reading.
            !is_old || !entry.shared_keys.is_empty()
        });
        self.forget_the_oldest();
        if self.cgroups.len() > MAX_EXITED {
            let used: HashSet<u64> = self.entries.values().map(|entry| entry.cgroup_id).collect();
            self.cgroups.retain(|id, _| used.contains(id));
        }
        last
    }

    /// Sums in cells of the shared ledger that were taken out of it since their processes have exited. Each has at least
    /// what the reading before had: writeback and requests in flight count on for a process that is gone.
    pub fn close(&mut self, taken: Vec<(SharedKey, Cell)>) {
        for (key, cell) in taken {
            let owner = ProcessKey { tgid: key.tgid, start: key.process_start };
            let (Some(entry), Ok(number)) = (self.entries.get_mut(&owner), u16::try_from(key.cell)) else { continue };
            match number {
                number if number == u16::from(CELL_CALLS) => entry.exited.system_calls += cell.operations,
                _ => entry.exited.add_cell(number, cell),
            }
        }
    }

    /// Keeps exited processes within their number; their groups' totals stay.
    fn forget_the_oldest(&mut self) {
        if self.settings.retain.is_none() {
            return;
        }
        let mut exits: Vec<_> =
            self.entries.iter().filter_map(|(key, entry)| entry.process.exited_at.map(|when| (when, *key))).collect();
        let surplus = exits.len().saturating_sub(MAX_EXITED);
        if surplus > 0 {
            exits.sort_unstable();
            for (_, key) in &exits[..surplus] {
                self.entries.remove(key);
            }
        }
    }

    /// The entry of a thread's process, made if it is new, with what the identity tells brought up to date.
    fn entry(&mut self, identity: &Identity) -> &mut Entry {
        Entry::of(&mut self.entries, &self.cgroups, identity)
    }

    /// Whether a process is among those that are kept.
    #[must_use]
    pub fn knows(&self, process: ProcessKey) -> bool {
        self.entries.contains_key(&process)
    }

    /// The totals as one immutable value.
    #[must_use]
    pub fn snapshot(&self, taken: Instant, duration: Duration) -> Snapshot {
        let mut processes: Vec<_> = self.entries.values().map(|entry| Arc::clone(&entry.process)).collect();
        processes.sort_unstable_by_key(|process| process.key);
        let groups: BTreeMap<_, _> = self.groups.totals().clone();
        let (fallback, devices, runs) = (self.fallback.clone(), self.devices.clone(), self.runs.clone());
        Snapshot { taken, duration, processes, groups, fallback, devices, runs }
    }
}

/// The name of a process of which nothing else is known.
const UNKNOWN: [u8; 16] = *b"unknown\0\0\0\0\0\0\0\0\0";

fn comm_bytes(identity: &Identity) -> &[u8] {
    let end = identity.comm.iter().position(|&b| b == 0).unwrap_or(identity.comm.len());
    &identity.comm[..end]
}

impl Entry {
    /// The entry of a thread's process, made if it is new, with what the identity tells brought up to date.
    fn of<'a>(
        entries: &'a mut HashMap<ProcessKey, Self>,
        cgroups: &HashMap<u64, Cgroup>,
        identity: &Identity,
    ) -> &'a mut Self {
        let key = key_of(identity);
        if !entries.contains_key(&key) {
            let parent = parent_of(identity).and_then(|parent| entries.get(&parent));
            let new = Self::new(identity, parent, cgroups);
            entries.insert(key, new);
        }
        let entry = entries.entry(key).or_insert_with(|| Self::new(identity, None, cgroups));
        if entry.process.comm.as_bytes() != comm_bytes(identity) {
            let comm = comm_of(identity);
            if entry.process.comm != comm {
                Arc::make_mut(&mut entry.process).comm = comm;
            }
        }
        entry
    }

    /// A new process. Until it is looked up it has its parent's file and cgroup, as a fork has.
    fn new(identity: &Identity, parent: Option<&Self>, cgroups: &HashMap<u64, Cgroup>) -> Self {
        let inherited = parent.filter(|parent| parent.cgroup_id == identity.cgroup).map(|parent| Cgroup {
            path: parent.process.cgroup.clone().unwrap_or_default(),
            unit: parent.process.unit.clone(),
            container: parent.process.container.clone(),
        });
        let cgroup =
            inherited.filter(|cgroup| !cgroup.path.is_empty()).or_else(|| cgroups.get(&identity.cgroup).cloned());
        let (unit, container) = cgroup.as_ref().map(|c| (c.unit.clone(), c.container.clone())).unwrap_or_default();
        let process = Process {
            key: key_of(identity),
            parent: parent_of(identity),
            comm: comm_of(identity),
            exe: parent.and_then(|parent| parent.process.exe.clone()),
            cgroup: cgroup.map(|cgroup| cgroup.path),
            unit,
            container,
            exited: false,
            exited_at: None,
            counters: Counters::default(),
        };
        Self {
            process: Arc::new(process),
            cgroup_id: identity.cgroup,
            looked_up: false,
            exited: Counters::default(),
            threads: HashMap::new(),
            shared: Counters::default(),
            shared_keys: Vec::new(),
            before: None,
            last: Counters::default(),
            absences: 1,
            exit_seen: false,
        }
    }

    /// Asks the running system what a living process runs and where it belongs, once for each program and cgroup.
    fn look_up(&mut self, identity: &Identity, cgroups: &mut HashMap<u64, Cgroup>, lookup: &dyn Lookup) {
        if self.looked_up && self.cgroup_id == identity.cgroup {
            return;
        }
        self.looked_up = true;
        self.cgroup_id = identity.cgroup;
        let key = self.process.key;
        let process = Arc::make_mut(&mut self.process);
        if let Some(exe) = lookup.exe(key) {
            process.exe = Some(exe);
        }
        if let Some(cgroup) = lookup.cgroup(key) {
            cgroups.insert(identity.cgroup, cgroup.clone());
            process.cgroup = Some(cgroup.path);
            process.unit = cgroup.unit;
            process.container = cgroup.container;
        }
    }

    /// Whether no thread is left: one that this reading only missed comes back with the next one.
    fn has_exited(&self) -> bool {
        match self.absences {
            0 => false,
            // One that counts outside its threads' ledgers has none that would tell: only its exit does, or time. So with
            // threads that the kernel makes by itself (io_uring's workers), which have no ledger to leave behind.
            1 => self.exit_seen || self.threads.is_empty() && self.shared_keys.is_empty(),
            _ => true,
        }
    }

    /// The process's totals: they never go back, since a thread's last values stay until newer ones are there.
    fn total(&self) -> Counters {
        let mut sum = self.sum();
        sum.raise_usage(&self.last);
        match &self.before {
            Some(before) => sum.since(before),
            None => sum,
        }
    }

    fn sum(&self) -> Counters {
        let mut sum = self.exited.clone();
        self.threads.values().for_each(|thread| sum.add(&thread.counters));
        sum.add(&self.shared);
        sum
    }
}

#[cfg(test)]
mod tests;
