//! The agent: a tracer and a ledger, and the one way to bring the ledger up to date. Commands and daemon share it.

mod bandwidth;
mod confine;
pub mod daemon;
mod manager;
mod privileges;
mod procfs;

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use zc_common::peers::PeerKey;

use crate::kernel::{Ledgers, LoadError, Operations, Options, ProbeStatus, Tracer, nanoseconds_since_boot};
use crate::ledger::{Ledger, Peers, ProcessKey, Settings, Snapshot};
use crate::model::Catalogue;

pub use confine::{ConfineError, Confined, confine};
pub use privileges::drop_capabilities;
pub use procfs::{Procfs, cipher_library};

/// Probes attached to every process, and the totals of what they count. Dropping it detaches them.
pub struct Agent {
    catalogue: Catalogue,
    probes: Vec<ProbeStatus>,
    state: Mutex<State>,
}

struct State {
    tracer: Tracer,
    ledger: Ledger,
    /// When the ledger was last begun to be read, in ns since boot: it has all processes that are older and live.
    read_from: u64,
    /// When peers were read last, whose processes the ledger may have forgotten.
    peers_read: Instant,
}

/// How often peers are read if nobody asks, to forget those of processes that are forgotten.
const PEERS_INTERVAL: Duration = Duration::from_secs(60);

impl Agent {
    /// Loads and attaches the probes, which from then on count everything but the calling process, and takes stock of
    /// the processes that run.
    ///
    /// # Errors
    /// If tracing can't start here; nothing stays attached then.
    pub fn start(catalogue: Catalogue, settings: Settings) -> Result<Self, LoadError> {
        Self::start_with(catalogue, settings, Ledgers::Slots, &[])
    }

    /// The same, with a choice of where threads count, and without the optional probes named.
    ///
    /// # Errors
    /// If tracing can't start here; nothing stays attached then.
    pub fn start_with(
        mut catalogue: Catalogue,
        settings: Settings,
        ledgers: Ledgers,
        without: &[&str],
    ) -> Result<Self, LoadError> {
        let tracer = Tracer::load(&Options { rows: catalogue.rows(), exclude_self: true, ledgers, without })?;
        catalogue.sees = tracer.probes().iter().filter(|probe| probe.attached).map(|probe| probe.name).collect();
        catalogue.without_probes();
        catalogue.copy_bandwidth = Some(bandwidth::measure());
        let agent = Self {
            catalogue,
            probes: tracer.probes().to_vec(),
            state: Mutex::new(State {
                tracer,
                ledger: Ledger::new(settings),
                read_from: 0,
                peers_read: Instant::now(),
            }),
        };
        agent.observe()?;
        Ok(agent)
    }

    /// The catalogue in use.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// What became of each probe.
    pub fn probes(&self) -> &[ProbeStatus] {
        &self.probes
    }

    /// Reads what the kernel has counted and returns the totals: all that happened before the call is in them.
    ///
    /// # Errors
    /// If the kernel refuses a read.
    pub fn observe(&self) -> io::Result<Snapshot> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.peers_read.elapsed() >= PEERS_INTERVAL {
            state.peers()?;
        }
        let State { tracer, ledger, .. } = &mut *state;
        let (taken, from) = (Instant::now(), nanoseconds_since_boot());
        // Events first: a process that they announce is in the reading, or has exited.
        ledger.apply_events(tracer.events());
        let last = ledger.apply(tracer.read()?, taken, &Procfs);
        ledger.close(tracer.take_shared(&last)?);
        let snapshot = ledger.snapshot(taken, taken.elapsed());
        state.read_from = from;
        Ok(snapshot)
    }

    /// What every process has sent to its peers and received from them, since each was first seen; `None` where that is not
    /// counted. Takes milliseconds.
    ///
    /// # Errors
    /// If the kernel refuses a read.
    pub fn peers(&self) -> io::Result<Option<Peers>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).peers()
    }

    /// What tells operations one by one: for whoever asks first.
    pub fn take_operations(&self) -> Option<Operations> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).tracer.take_operations()
    }

    /// Takes lifecycle events off the ring, so that it does not fill between readings.
    pub fn drain_events(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { tracer, ledger, .. } = &mut *state;
        ledger.apply_events(tracer.events());
    }
}

impl State {
    fn peers(&mut self) -> io::Result<Option<Peers>> {
        self.peers_read = Instant::now();
        let Some(mut reading) = self.tracer.peers()? else { return Ok(None) };
        // One that began since the ledger was read is not known yet.
        let gone = |key: &ProcessKey| key.start < self.read_from && !self.ledger.knows(*key);
        let of = |key: &PeerKey| ProcessKey { tgid: key.tgid, start: key.process_start };
        let forgotten: Vec<_> = reading.traffic.extract_if(.., |(key, _)| gone(&of(key))).map(|(key, _)| key).collect();
        self.tracer.forget_peers(&forgotten)?;
        Ok(Some(Peers::of(&reading)))
    }
}

/// How a command that asks once keeps its ledger: nothing is forgotten while it runs.
pub const ONE_SHOT: Settings = Settings { group_by: crate::ledger::GroupBy::Comm, max_groups: 0, retain: None };

/// How long an event may wait in the ring.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
