//! How bytes hopped from place to place over the last ten minutes: a bounded ring of steps, for the host and for those
//! groups and processes that moved most in each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use utoipa::ToSchema;

use crate::ledger::{Counters, ProcessKey, Snapshot};
use crate::model::{Basis, Catalogue, Profile, profile};

/// How long a step is.
pub const STEP: Duration = Duration::from_secs(2);
/// How far it reaches back.
pub const REACH: Duration = Duration::from_secs(11 * 60);
/// How many groups, and how many processes, are kept of each step. With the host some 65 times 10 hops of 64 bytes: 14 MiB
/// in all if every step has that many busy ones, a fiftieth of it on most hosts.
const MOST: usize = 32;

/// Bytes that went from one place to another in a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Flow {
    /// disk, page_cache, user, pipe, socket_buffer, nic, peer or kernel.
    pub from: &'static str,
    /// The same.
    pub to: &'static str,
    /// cpu, dma, reference or cipher.
    pub mover: &'static str,
    /// How many.
    pub bytes: u64,
    /// Observed or modelled.
    pub basis: Basis,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Point {
    /// Its end, in milliseconds since 1970.
    pub at: u64,
    /// How long it took.
    pub seconds: f64,
    /// What moved; null if more were busy in this step than are kept, and this one was not among those that moved most.
    pub flows: Option<Vec<Flow>>,
}

/// Whose history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    Host,
    /// A group's.
    Group(String),
    /// A process's.
    Process(ProcessKey),
}

/// Those that moved most in a step, by key.
#[derive(Debug)]
struct Busiest<K> {
    flows: BTreeMap<K, Vec<Flow>>,
    /// Whether there were no others.
    all: bool,
}

#[derive(Debug)]
struct Kept {
    at: u64,
    seconds: f64,
    host: Vec<Flow>,
    groups: Busiest<String>,
    processes: Busiest<ProcessKey>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Arc<Snapshot>>,
    steps: VecDeque<Kept>,
}

/// The ring.
#[derive(Debug, Default)]
pub struct History(Mutex<State>);

impl History {
    /// Ends a step with this snapshot, if one is due.
    pub fn keep(&self, catalogue: &Catalogue, now: &Arc<Snapshot>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = state.last.clone() else {
            state.last = Some(Arc::clone(now));
            return;
        };
        let length = now.taken.saturating_duration_since(last.taken);
        // Snapshots come at their own pace, a second apart.
        if length < STEP - Duration::from_millis(300) {
            return;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() - now.taken.elapsed();
        let at = u64::try_from(at.as_millis()).unwrap_or_default();
        state.steps.push_back(step(catalogue, &last, now, at, length));
        state.last = Some(Arc::clone(now));
        let oldest = at.saturating_sub(u64::try_from(REACH.as_millis()).unwrap_or(u64::MAX));
        while state.steps.front().is_some_and(|step| step.at < oldest) {
            state.steps.pop_front();
        }
    }

    /// The steps that ended after `since` (milliseconds since 1970), oldest first.
    #[must_use]
    pub fn of(&self, whose: &Whose, since: u64) -> Vec<Point> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = state.steps.iter().filter(|step| step.at > since);
        let point = |step: &Kept| Point {
            at: step.at,
            seconds: step.seconds,
            flows: match whose {
                Whose::Host => Some(step.host.clone()),
                Whose::Group(name) => step.groups.of(name),
                Whose::Process(key) => step.processes.of(key),
            },
        };
        steps.map(point).collect()
    }
}

impl<K: Ord> Busiest<K> {
    fn among(mut all: Vec<(K, Vec<Flow>)>) -> Self {
        let count = all.len();
        all.sort_by_key(|(_, flows)| Reverse(flows.iter().map(|flow| flow.bytes).sum::<u64>()));
        all.truncate(MOST);
        Self { flows: all.into_iter().collect(), all: count <= MOST }
    }

    fn of<Q: Ord + ?Sized>(&self, key: &Q) -> Option<Vec<Flow>>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.flows.get(key).cloned().or_else(|| self.all.then(Vec::new))
    }
}

fn step(catalogue: &Catalogue, then: &Snapshot, now: &Snapshot, at: u64, length: Duration) -> Kept {
    let did = |counters: &Counters| flows(&profile(catalogue, Vec::new(), counters, None, 0));
    let (mut host, mut groups, mut processes) = (Counters::default(), Vec::new(), Vec::new());
    for (name, counters) in &now.groups {
        let delta = then.groups.get(name).map_or_else(|| counters.clone(), |before| counters.since(before));
        if delta.is_zero() {
            continue;
        }
        host.add(&delta);
        groups.push((name.clone(), did(&delta)));
    }
    for process in &now.processes {
        let before = then.by_key(process.key);
        // Most are the same as they were, to the very allocation.
        if before.is_some_and(|before| Arc::ptr_eq(before, process)) {
            continue;
        }
        let delta = before.map_or_else(|| process.counters.clone(), |before| process.counters.since(&before.counters));
        processes.push((process.key, did(&delta)));
    }
    groups.retain(|(_, flows)| !flows.is_empty());
    processes.retain(|(_, flows)| !flows.is_empty());
    Kept {
        at,
        seconds: length.as_secs_f64(),
        host: did(&host),
        groups: Busiest::among(groups),
        processes: Busiest::among(processes),
    }
}

const PLACES: [&str; 8] = ["disk", "page_cache", "user", "pipe", "socket_buffer", "nic", "peer", "kernel"];
const MOVERS: [&str; 4] = ["cpu", "dma", "reference", "cipher"];

/// A profile's bytes by hop: those of its paths, and what disks and network devices moved behind the page cache and the
/// sockets.
fn flows(profile: &Profile) -> Vec<Flow> {
    let known = |names: &[&'static str], name: &str| names.iter().find(|one| **one == name).copied();
    let mut sums: BTreeMap<(&str, &str, &str, Basis), u64> = BTreeMap::new();
    for hop in profile.paths.iter().flat_map(|path| &path.hops) {
        if let (Some(from), Some(to), Some(mover)) =
            (known(&PLACES, &hop.from), known(&PLACES, &hop.to), known(&MOVERS, &hop.mover))
        {
            *sums.entry((from, to, mover, hop.basis)).or_default() += hop.bytes;
        }
    }
    let dma = &profile.dma_bytes;
    // What goes past the page cache is in its path's hops.
    let cached = |all: Option<u64>, direct: Option<u64>| all.map(|all| all.saturating_sub(direct.unwrap_or(0)));
    for (from, to, bytes) in [
        ("disk", "page_cache", cached(dma.disk_read, dma.disk_read_direct)),
        ("page_cache", "disk", cached(dma.disk_write, dma.disk_write_direct)),
        ("socket_buffer", "nic", dma.nic_transmit),
        ("nic", "socket_buffer", dma.nic_receive),
    ] {
        // Where paths have hops to and from the network device, these are the same bytes.
        let twice = [from, to].contains(&"nic") && sums.keys().any(|key| (key.0, key.1) == (from, to));
        if !twice {
            *sums.entry((from, to, "dma", Basis::Observed)).or_default() += bytes.unwrap_or(0);
        }
    }
    let flow = |((from, to, mover, basis), bytes)| Flow { from, to, mover, bytes, basis };
    sums.into_iter().filter(|(_, bytes)| *bytes > 0).map(flow).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use zc_common::path::{PathId, ROWS};

    use super::super::testing::{counters, snapshot};
    use super::*;

    fn later(then: &Snapshot, seconds: u64) -> Snapshot {
        Snapshot { taken: then.taken + Duration::from_secs(seconds), ..then.clone() }
    }

    fn add(snapshot: &mut Snapshot, group: &str, tgid: u32, id: &str, bytes: u64) {
        let more = counters(&[(id, bytes)]);
        snapshot.groups.entry(group.to_owned()).or_default().add(&more);
        let process = snapshot.processes.iter_mut().find(|process| process.key.tgid == tgid).unwrap();
        Arc::make_mut(process).counters.add(&more);
    }

    #[test]
    fn a_step_has_what_moved_in_it_for_host_group_and_process() {
        let (history, catalogue) = (History::default(), Catalogue::default());
        let first = Arc::new(Snapshot { taken: Instant::now(), ..snapshot() });
        history.keep(&catalogue, &first);
        assert!(history.of(&Whose::Host, 0).is_empty(), "nothing is known of the time before");
        let mut second = later(&first, 2);
        add(&mut second, "nginx", 10, "read:file:user", 70);
        add(&mut second, "worker", 20, "write:user:tcp", 30);
        history.keep(&catalogue, &Arc::new(second));
        let flows = |whose| history.of(&whose, 0).pop().unwrap().flows.unwrap();
        let host = flows(Whose::Host);
        assert_eq!(host.iter().map(|flow| flow.bytes).sum::<u64>(), 100);
        let key = ProcessKey { tgid: 10, start: 100 };
        let expected = Flow { from: "page_cache", to: "user", mover: "cpu", bytes: 70, basis: Basis::Modelled };
        assert_eq!(flows(Whose::Process(key)), std::slice::from_ref(&expected));
        assert_eq!(flows(Whose::Group("nginx".to_owned())), [expected]);
        assert_eq!(flows(Whose::Group("idle".to_owned())), []);
        assert_eq!(history.of(&Whose::Host, 0)[0].seconds, 2.0);
    }

    #[test]
    fn snapshots_that_come_sooner_make_no_step_and_old_steps_go() {
        let (history, catalogue) = (History::default(), Catalogue::default());
        let first = Snapshot { taken: Instant::now() - Duration::from_secs(1000), ..snapshot() };
        for second in 0..=1000 {
            history.keep(&catalogue, &Arc::new(later(&first, second)));
        }
        let points = history.of(&Whose::Host, 0);
        assert!((329..=331).contains(&points.len()), "{}", points.len());
        assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at));
        let last = points[points.len() - 1].at;
        assert_eq!(history.of(&Whose::Host, last - 5000).len(), 3);
        assert!(last - points[0].at >= 10 * 60 * 1000, "ten minutes and more");
    }

    #[test]
    fn of_more_than_are_kept_the_least_are_said_to_be_unknown() {
        let busy = (0..40_u64).map(|number| {
            let flow = Flow { from: "pipe", to: "user", mover: "cpu", bytes: number + 1, basis: Basis::Modelled };
            (number, vec![flow])
        });
        let busiest = Busiest::among(busy.collect());
        assert_eq!((busiest.of(&39).unwrap().len(), busiest.of(&7), busiest.of(&99)), (1, None, None));
    }

    #[test]
    fn what_a_device_moved_is_counted_once() {
        let mut profile = profile(&Catalogue::default(), Vec::new(), &counters(&[("write:user:tcp", 100)]), None, 0);
        profile.dma_bytes.nic_transmit = Some(120);
        profile.dma_bytes.disk_read = Some(50);
        profile.dma_bytes.disk_read_direct = Some(20);
        let dma = |profile: &Profile| -> Vec<_> {
            let all = flows(profile).into_iter().filter(|flow| flow.mover == "dma");
            all.map(|flow| (flow.from, flow.to, flow.bytes)).collect()
        };
        assert_eq!(dma(&profile), [("disk", "page_cache", 30), ("socket_buffer", "nic", 120)]);
        let mut hop = profile.paths[0].hops[0].clone();
        (hop.from, hop.to) = ("socket_buffer".to_owned(), "nic".to_owned());
        (hop.mover, hop.bytes) = ("dma".to_owned(), 110);
        profile.paths[0].hops.push(hop);
        assert_eq!(dma(&profile), [("disk", "page_cache", 30), ("socket_buffer", "nic", 110)]);
    }

    #[test]
    fn every_hop_of_the_catalogue_is_a_flow() {
        for row in ROWS.iter().filter(|row| row.inactive.is_none() && row.is_payload()) {
            let id: PathId = row.id();
            let profile = profile(&Catalogue::default(), Vec::new(), &counters(&[(&id.to_string(), 100)]), None, 0);
            let moved: u64 = profile.paths.iter().flat_map(|path| &path.hops).map(|hop| hop.bytes).sum();
            assert_eq!(flows(&profile).iter().map(|flow| flow.bytes).sum::<u64>(), moved, "{id}");
        }
    }
}
