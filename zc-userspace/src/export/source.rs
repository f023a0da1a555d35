//! Where the exporters get their snapshots from: a fresh one for each request, and past ones for windows.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts};
use zc_common::record::Cell;

use crate::ledger::{Counters, Peers, Process, ProcessKey, Snapshot};

/// The longest window.
pub const MAX_WINDOW: Duration = Duration::from_secs(60);
/// How often the past is kept.
pub const STEP: Duration = Duration::from_secs(1);
/// Every step is kept for so long …
const FINE: Duration = Duration::from_secs(16);
/// … and every so-manieth thereafter: where 1,000 processes are busy, a past second takes 200 KiB.
const COARSE: u64 = 5;
/// How old a snapshot may be when requests come faster than this for long.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);
/// How many requests may each have a snapshot of their own before that.
const BURST: u32 = 50;

/// What is kept of a past snapshot: counters only, packed, since busy processes share nothing between snapshots.
#[derive(Debug)]
pub struct Past {
    /// When it was taken.
    pub taken: Instant,
    /// Lifecycle events lost until then.
    pub events_lost: u64,
    number: u64,
    /// By key: system calls, and where the process's cells end.
    processes: Vec<(ProcessKey, u64, usize)>,
    cells: Vec<(u16, Cell)>,
}

impl Past {
    fn of(snapshot: &Snapshot, number: u64) -> Self {
        // What had exited has changed nothing since, and need not be kept a second time.
        let alive = || snapshot.processes.iter().filter(|process| !process.exited);
        let mut cells = Vec::with_capacity(alive().map(|process| process.counters.iter().count()).sum());
        let processes = alive().map(|process| {
            cells.extend(process.counters.iter());
            (process.key, process.counters.system_calls, cells.len())
        });
        let processes = processes.collect();
        Self { taken: snapshot.taken, events_lost: snapshot.fallback.events_lost, number, processes, cells }
    }

    /// A process's counters as they were then; zero for one that was not known then.
    #[must_use]
    pub fn counters(&self, process: &Process) -> Counters {
        if process.exited_at.is_some_and(|at| at <= self.taken) {
            return process.counters.clone();
        }
        let Ok(at) = self.processes.binary_search_by_key(&process.key, |(key, ..)| *key) else {
            return Counters::default();
        };
        let (_, system_calls, end) = self.processes[at];
        let start = at.checked_sub(1).map_or(0, |before| self.processes[before].2);
        let mut counters = Counters::with_calls(system_calls);
        for &(cell, more) in &self.cells[start..end] {
            counters.add_cell(cell, more);
        }
        counters
    }
}

struct State {
    latest: Option<Arc<Snapshot>>,
    /// Oldest first.
    history: VecDeque<Arc<Past>>,
    kept: u64,
    /// When the budget for snapshots on request would be full again.
    full_again: Option<Instant>,
}

/// Peers as read at one moment; None where they are not counted.
type ReadPeers = Option<Arc<Peers>>;

/// Snapshots, present and past.
pub struct Source {
    observe: Box<dyn Fn() -> io::Result<Snapshot> + Send + Sync>,
    read_peers: Box<dyn Fn() -> io::Result<Option<Peers>> + Send + Sync>,
    /// When peers were read last, and what was found. Held like `turn`.
    peers: tokio::sync::Mutex<Option<(Instant, ReadPeers)>>,
    state: Mutex<State>,
    /// Held by the request that observes; the others wait and share.
    turn: tokio::sync::Mutex<()>,
    durations: Histogram,
}

impl Source {
    /// A source that observes so. `observe` may block; it is called from threads that may.
    ///
    /// # Errors
    /// Never in practice: only if the histogram's buckets were malformed.
    pub fn new(observe: impl Fn() -> io::Result<Snapshot> + Send + Sync + 'static) -> Result<Self, prometheus::Error> {
        let options =
            HistogramOpts::new("zcprof_snapshot_duration_seconds", "Time to read and sum everything counted, once.")
                .buckets(vec![0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0]);
        Ok(Self {
            observe: Box::new(observe),
            read_peers: Box::new(|| Ok(None)),
            peers: tokio::sync::Mutex::new(None),
            state: Mutex::new(State { latest: None, history: VecDeque::new(), kept: 0, full_again: None }),
            turn: tokio::sync::Mutex::new(()),
            durations: Histogram::with_opts(options)?,
        })
    }

    /// The same, with peers that are read so.
    #[must_use]
    pub fn with_peers(self, read: impl Fn() -> io::Result<Option<Peers>> + Send + Sync + 'static) -> Self {
        Self { read_peers: Box::new(read), ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long observing takes.
    #[must_use]
    pub fn durations(&self) -> &Histogram {
        &self.durations
    }

    /// The last snapshot, however old.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<Snapshot>> {
        self.state().latest.clone()
    }

    /// Takes a snapshot now. Blocks for milliseconds.
    ///
    /// # Errors
    /// If observing fails.
    pub fn observe(&self) -> io::Result<Arc<Snapshot>> {
        let snapshot = Arc::new((self.observe)()?);
        self.durations.observe(snapshot.duration.as_secs_f64());
        let mut state = self.state();
        // Two threads may finish in the other order than they observed.
        if state.latest.as_ref().is_none_or(|latest| latest.taken <= snapshot.taken) {
            state.latest = Some(Arc::clone(&snapshot));
        }
        Ok(snapshot)
    }

    /// Takes a snapshot and keeps it as history. To be called once per [`STEP`].
    ///
    /// # Errors
    /// If observing fails.
    pub fn keep(&self) -> io::Result<()> {
        let snapshot = self.observe()?;
        let mut state = self.state();
        let number = state.kept;
        state.kept += 1;
        state.history.push_back(Arc::new(Past::of(&snapshot, number)));
        state.history.retain(|past| {
            let age = snapshot.taken.duration_since(past.taken);
            age <= FINE || (past.number.is_multiple_of(COARSE) && age <= MAX_WINDOW + STEP * COARSE as u32)
        });
        Ok(())
    }

    /// A snapshot that holds all that happened before the call: one made for it, or one that another request began to
    /// make after the call. Only where more requests come than 50 at once and 50 per second, it may be up to 20 ms old,
    /// so that no client can keep a CPU busy.
    ///
    /// # Errors
    /// If observing fails.
    pub async fn fresh(self: &Arc<Self>) -> io::Result<Arc<Snapshot>> {
        let asked = Instant::now();
        let _turn = self.turn.lock().await;
        if let Some(latest) = self.latest()
            && (latest.taken >= asked || (latest.taken.elapsed() < SHORTEST_INTERVAL && !self.afford(Instant::now())))
        {
            return Ok(latest);
        }
        let source = Arc::clone(self);
        tokio::task::spawn_blocking(move || source.observe()).await.map_err(io::Error::other)?
    }

    /// What went to each process's peers and came from there, as fresh as [`Self::fresh`]; None where that is not counted.
    ///
    /// # Errors
    /// If reading fails.
    pub async fn peers(self: &Arc<Self>) -> io::Result<ReadPeers> {
        let asked = Instant::now();
        let mut last = self.peers.lock().await;
        if let Some((read, peers)) = &*last
            && (*read >= asked || (read.elapsed() < SHORTEST_INTERVAL && !self.afford(Instant::now())))
        {
            return Ok(peers.clone());
        }
        let (source, read) = (Arc::clone(self), Instant::now());
        let peers = tokio::task::spawn_blocking(move || (source.read_peers)()).await.map_err(io::Error::other)??;
        let peers = peers.map(Arc::new);
        *last = Some((read, peers.clone()));
        Ok(peers)
    }

    /// Takes one snapshot out of the budget; false if there is none left.
    fn afford(&self, now: Instant) -> bool {
        let mut state = self.state();
        let full_again = state.full_again.map_or(now, |at| at.max(now)) + SHORTEST_INTERVAL;
        let affordable = full_again <= now + SHORTEST_INTERVAL * BURST;
        if affordable {
            state.full_again = Some(full_again);
        }
        affordable
    }

    /// The state a window ago: the youngest that is at least so old, or the oldest there is. None before there is any.
    #[must_use]
    pub fn before(&self, now: Instant, window: Duration) -> Option<Arc<Past>> {
        let state = self.state();
        let old_enough = |past: &&Arc<Past>| now.duration_since(past.taken) >= window;
        state.history.iter().rev().find(old_enough).or_else(|| state.history.front()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::testing::snapshot;
    use super::*;

    /// A source whose n-th snapshot is taken n seconds after its start.
    fn ticking(start: Instant) -> Source {
        let tick = AtomicU64::new(0);
        Source::new(move || {
            let taken = start + Duration::from_secs(tick.fetch_add(1, Ordering::Relaxed));
            Ok(Snapshot { taken, ..snapshot() })
        })
        .unwrap()
    }

    #[test]
    fn the_history_reaches_back_a_minute_and_stays_small() {
        let start = Instant::now();
        let source = ticking(start);
        for _ in 0..=200 {
            source.keep().unwrap();
        }
        let now = start + Duration::from_secs(200);
        let covered =
            |window| now.duration_since(source.before(now, Duration::from_secs(window)).unwrap().taken).as_secs();
        assert_eq!([covered(1), covered(10), covered(30), covered(60)], [1, 10, 30, 60]);
        assert_eq!([covered(31), covered(59)], [35, 60]);
        assert!(source.state().history.len() <= 30);
    }

    #[test]
    fn the_past_remembers_every_counter() {
        let mut snapshot = snapshot();
        // One had exited by then, and its counters are final.
        let at = snapshot.processes.iter().position(|process| process.exited).unwrap();
        Arc::make_mut(&mut snapshot.processes[at]).exited_at = Some(snapshot.taken);
        let past = Past::of(&snapshot, 0);
        for process in &snapshot.processes {
            assert_eq!(past.counters(process), process.counters);
        }
        let born_later = Process { key: ProcessKey { tgid: 10, start: 1 }, ..(*snapshot.processes[0]).clone() };
        assert_eq!(past.counters(&born_later), Counters::default());
    }

    #[test]
    fn a_young_history_gives_what_it_has() {
        let start = Instant::now();
        let source = ticking(start);
        assert!(source.before(start, STEP).is_none());
        source.keep().unwrap();
        source.keep().unwrap();
        assert_eq!(source.before(start + STEP, MAX_WINDOW).unwrap().taken, start);
    }

    #[test]
    fn requests_in_a_row_see_what_happened_before_them_and_a_flood_shares() {
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        let source = Source::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(Snapshot { taken: Instant::now(), ..snapshot() })
        });
        let source = Arc::new(source.unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for _ in 0..10 {
                let asked = Instant::now();
                assert!(source.fresh().await.unwrap().taken >= asked);
            }
            let begun = Instant::now();
            for _ in 0..5000 {
                assert!(source.fresh().await.unwrap().taken.elapsed() < Duration::from_millis(200));
            }
            let affordable = 60 + 2 * begun.elapsed().as_millis() as u64 / SHORTEST_INTERVAL.as_millis() as u64;
            assert!(count.load(Ordering::Relaxed) <= affordable, "{count:?} > {affordable}");
        });
    }
}
