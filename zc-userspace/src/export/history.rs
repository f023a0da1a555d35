//! How bytes hopped from place to place over the last ten minutes: a bounded ring of steps, for the host and for those
//! groups and processes that moved most in each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use utoipa::ToSchema;
use zc_common::hop::{Direction, Hop, Mover, Place};
use zc_common::record::{DISK_WRITE, NET_VIRTUAL};

use crate::ledger::{Counters, ProcessKey, Snapshot};
use crate::model::{Basis, Catalogue};

/// How long a step is.
pub const STEP: Duration = Duration::from_secs(2);
/// How far it reaches back.
pub const REACH: Duration = Duration::from_secs(11 * 60);
/// How many groups, and how many processes, are kept of each step: with the host 65 at most, each with as many hops as it
/// had, of 16 bytes.
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

/// A [`Flow`] as it is kept. Whichever way the CPU copied, it is [`COPIED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moved {
    hop: Hop,
    basis: Basis,
    bytes: u64,
}

const COPIED: Mover = Mover::Cpu(Direction::InKernel);

type Flows = Box<[Moved]>;

/// Those that moved most in a step, by key.
#[derive(Debug)]
struct Busiest<K> {
    flows: BTreeMap<K, Flows>,
    /// Whether there were no others.
    all: bool,
}

#[derive(Debug)]
struct Kept {
    /// When it ended, by a clock that nobody sets.
    taken: Instant,
    at: u64,
    seconds: f64,
    host: Flows,
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
    /// Ends a step with this snapshot, if one is due. For one caller at a time.
    pub fn keep(&self, catalogue: &Catalogue, now: &Arc<Snapshot>) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(now.taken.elapsed());
        self.keep_at(catalogue, now, u64::try_from(at.as_millis()).unwrap_or_default());
    }

    fn keep_at(&self, catalogue: &Catalogue, now: &Arc<Snapshot>, at: u64) {
        let last = Arc::clone(self.state().last.get_or_insert_with(|| Arc::clone(now)));
        let length = now.taken.saturating_duration_since(last.taken);
        // Snapshots come at their own pace, a second apart.
        if length < STEP - Duration::from_millis(300) {
            return;
        }
        // Nobody who asks waits for this.
        let mut step = step(catalogue, &last, now, at, length);
        let mut state = self.state();
        // The clock may have been set back: who asks for what came after the last step is to get this one.
        step.at = step.at.max(state.steps.back().map_or(0, |before| before.at + 1));
        state.steps.push_back(step);
        state.last = Some(Arc::clone(now));
        while state.steps.front().is_some_and(|step| now.taken.saturating_duration_since(step.taken) > REACH) {
            state.steps.pop_front();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The steps that ended after `since` (milliseconds since 1970), oldest first.
    #[must_use]
    pub fn of(&self, whose: &Whose, since: u64) -> Vec<Point> {
        let state = self.state();
        let steps = state.steps.iter().filter(|step| step.at > since);
        let point = |step: &Kept| Point {
            at: step.at,
            seconds: step.seconds,
            flows: match whose {
                Whose::Host => Some(told(&step.host)),
                Whose::Group(name) => step.groups.of(name),
                Whose::Process(key) => step.processes.of(key),
            },
        };
        steps.map(point).collect()
    }
}

impl<K: Ord> Busiest<K> {
    fn among(mut all: Vec<(K, Flows)>) -> Self {
        let count = all.len();
        all.sort_by_key(|(_, flows)| Reverse(flows.iter().map(|flow| flow.bytes).sum::<u64>()));
        all.truncate(MOST);
        Self { flows: all.into_iter().collect(), all: count <= MOST }
    }

    fn of<Q: Ord + ?Sized>(&self, key: &Q) -> Option<Vec<Flow>>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.flows.get(key).map(|flows| told(flows)).or_else(|| self.all.then(Vec::new))
    }
}

fn step(catalogue: &Catalogue, then: &Snapshot, now: &Snapshot, at: u64, length: Duration) -> Kept {
    let did = |counters: &Counters| flows(catalogue, counters);
    // What could be told to be nobody's is the host's all the same.
    let mut host = now.unattributed().since(&then.unattributed());
    let (mut groups, mut processes) = (Vec::new(), Vec::new());
    for (name, counters) in &now.groups {
        let delta = then.groups.get(name).map_or_else(|| counters.clone(), |before| counters.since(before));
        if !delta.is_zero() {
            host.add(&delta);
            groups.push((name.clone(), did(&delta)));
        }
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
        taken: now.taken,
        at,
        seconds: length.as_secs_f64(),
        host: did(&host),
        groups: Busiest::among(groups),
        processes: Busiest::among(processes),
    }
}

/// Bytes by hop: those of paths, and what disks and network devices moved behind the page cache and the sockets.
fn flows(catalogue: &Catalogue, counters: &Counters) -> Flows {
    let mut sums: BTreeMap<(Hop, Basis), u64> = BTreeMap::new();
    let mut add = |hop: Hop, basis, bytes| {
        let mover = if matches!(hop.mover, Mover::Cpu(_)) { COPIED } else { hop.mover };
        *sums.entry((Hop { mover, ..hop }, basis)).or_default() += bytes;
    };
    for totals in catalogue.paths(counters).values() {
        totals.hops.iter().for_each(|(hop, bytes)| add(*hop, Basis::Modelled, *bytes));
        totals.observed.iter().for_each(|(hop, bytes)| add(*hop, Basis::Observed, *bytes));
    }
    // What goes past the page cache is in its path's hops.
    let (read, write) = (counters.disk(|kind| kind == 0), counters.disk(|kind| kind == DISK_WRITE));
    add(Hop::dma(Place::Disk, Place::PageCache), Basis::Observed, read);
    add(Hop::dma(Place::PageCache, Place::Disk), Basis::Observed, write);
    let (sent, _) = counters.transmitted(|place| place != NET_VIRTUAL);
    add(Hop::dma(Place::SocketBuffer, Place::Nic), Basis::Observed, sent);
    let moved = sums.into_iter().filter(|(_, bytes)| *bytes > 0);
    moved.map(|((hop, basis), bytes)| Moved { hop, basis, bytes }).collect()
}

fn told(flows: &[Moved]) -> Vec<Flow> {
    let flow = |Moved { hop, basis, bytes }: &Moved| Flow {
        from: hop.from.name(),
        to: hop.to.name(),
        mover: hop.mover.name(),
        bytes: *bytes,
        basis: *basis,
    };
    flows.iter().map(flow).collect()
}

#[cfg(test)]
mod tests {
    use zc_common::path::{PathId, ROWS};
    use zc_common::record::{Cell, DISK_DIRECT, FIRST_DISK_CELL, FIRST_NET_CELL};

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
            let hop = Hop { from: Place::Pipe, to: Place::User, mover: COPIED };
            (number, Box::from([Moved { hop, basis: Basis::Modelled, bytes: number + 1 }]))
        });
        let busiest = Busiest::among(busy.collect());
        assert_eq!((busiest.of(&39).unwrap().len(), busiest.of(&7), busiest.of(&99)), (1, None, None));
    }

    #[test]
    fn what_a_device_moved_is_counted_once() {
        let mut moved = counters(&[("write:user:tcp", 100), ("read:disk:user", 20)]);
        for (kind, bytes) in [(0, 30), (DISK_DIRECT, 20), (DISK_WRITE, 7)] {
            moved.add_cell(FIRST_DISK_CELL + kind, Cell { operations: 1, bytes });
        }
        moved.add_cell(FIRST_NET_CELL, Cell { operations: 0, bytes: 120 });
        moved.add_cell(FIRST_NET_CELL + NET_VIRTUAL as u16, Cell { operations: 0, bytes: 500 });
        let all = told(&flows(&Catalogue::default(), &moved)).into_iter().filter(|flow| flow.mover == "dma");
        let dma: Vec<_> = all.map(|flow| (flow.from, flow.to, flow.bytes)).collect();
        let expected = [
            ("disk", "page_cache", 30),
            ("disk", "user", 20),
            ("page_cache", "disk", 7),
            ("socket_buffer", "nic", 120),
        ];
        assert_eq!(dma, expected);
    }

    #[test]
    fn a_clock_that_is_set_back_loses_no_step_and_keeps_none_for_ever() {
        let (history, catalogue) = (History::default(), Catalogue::default());
        let first = Snapshot { taken: Instant::now() - Duration::from_secs(2000), ..snapshot() };
        let day = 86_400_000;
        for second in 0..=1000 {
            let at = if second < 500 { day + second * 1000 } else { second * 1000 };
            history.keep_at(&catalogue, &Arc::new(later(&first, second)), at);
        }
        let points = history.of(&Whose::Host, 0);
        assert!((329..=331).contains(&points.len()), "{}", points.len());
        assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at));
        let before_the_last = points[points.len() - 2].at;
        assert_eq!(history.of(&Whose::Host, before_the_last).len(), 1);
    }

    #[test]
    fn every_hop_of_the_catalogue_is_a_flow() {
        for row in ROWS.iter().filter(|row| row.inactive.is_none() && row.is_payload()) {
            let id: PathId = row.id();
            let (catalogue, counters) = (Catalogue::default(), counters(&[(&id.to_string(), 100)]));
            let hops = catalogue.paths(&counters).into_values().flat_map(|totals| [totals.hops, totals.observed]);
            let moved: u64 = hops.flat_map(BTreeMap::into_values).sum();
            assert_eq!(flows(&catalogue, &counters).iter().map(|flow| flow.bytes).sum::<u64>(), moved, "{id}");
        }
    }
}
