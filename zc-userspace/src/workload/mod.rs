//! The workload generator: drives each copy path of the catalogue with exactly known bytes and operations.
//!
//! A workload states its path as a literal and adds up its own return values; it never asks the catalogue what to
//! expect, for it is what the catalogue and the probes are checked against. Between [`Gate::ready`] and [`Gate::done`]
//! it runs in the caller's thread alone (but for the variants of io_uring with threads, whose matter that is), changes no
//! memory map (but for those and mmap's), and
//! touches the path under test with nothing but counted operations: what feeds or drains the other end uses other paths.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use zc_common::path::{Condition, Mechanism};

mod aio;
mod calls;
mod channel;
mod copies;
mod copy;
mod drive;
mod fault;
mod files;
mod fixture;
mod int80;
mod memory;
mod messages;
mod plan;
mod read;
mod reflink;
mod ring;
mod sendfile;
mod sockets;
mod splice;
#[cfg(test)]
mod tests;
mod tls;
mod uring;
mod veth;
pub mod way;
mod write;
mod zerocopy;

pub use copies::Copies;
use drive::{Mover, Stage};
use fixture::Fixture;

/// What drives one copy path under one condition.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// The path's id, e.g. `sendfile:file:tcp`.
    pub id: &'static str,
    /// The condition of the catalogue's row.
    pub condition: Condition,
    /// Empty for the row's main workload, with its plainest call; else what is different.
    pub variant: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    source: Fixture,
    sink: Fixture,
    /// Further memory: the other segment of a mixed vector, or where what was only peeked at goes.
    second: Fixture,
    mover: Mover,
    /// Datagrams that one operation takes or sends.
    parts: usize,
    /// Bytes that each datagram is longer than the buffer it is received into.
    excess: usize,
    /// The ring of io_uring, where it uses one.
    ring: Option<ring::Plan>,
    /// Whether the memory is registered with the ring.
    registered: bool,
    /// Requests of Linux AIO at once, where it uses that.
    aio: Option<usize>,
    needs: fn(&Path) -> Option<String>,
}

/// What is asked of a workload.
#[derive(Debug, Clone)]
pub struct Request {
    /// Bytes to move; [`Workload::plan`] says what becomes of them.
    pub bytes: u64,
    /// Bytes of one operation.
    pub chunk: u64,
    /// A scratch directory on a file system with a disk behind it.
    pub directory: PathBuf,
}

/// What a workload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The path's id.
    pub id: String,
    /// Bytes that each operation really asked for.
    pub chunk: u64,
    /// System calls on the path that moved at least one byte.
    pub operations: u64,
    /// The sum of what they moved.
    pub bytes: u64,
    /// What became of these bytes on the way.
    pub copies: Copies,
    /// What the reader should know, e.g. that fewer bytes moved than planned.
    pub note: Option<String>,
}

/// Is told when the path under test is about to be used and when it has been. Must itself move nothing on that path.
pub trait Gate {
    /// Called right before the first byte moves, when all is set up.
    fn ready(&mut self) -> anyhow::Result<()>;
    /// Called right after the last byte has moved, before anything is torn down.
    fn done(&mut self) -> anyhow::Result<()>;
    /// Called after each operation with the bytes moved so far.
    fn progress(&mut self, bytes: u64) {
        let _ = bytes;
    }
}

/// A gate that does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGate;

impl Gate for NoGate {
    fn ready(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn done(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Every workload: the main ones of all rows, then the variants.
#[must_use]
pub fn all() -> &'static [Workload] {
    static ALL: LazyLock<Vec<Workload>> = LazyLock::new(|| {
        let main = [read::MAIN, write::MAIN, sendfile::MAIN, splice::MAIN, copy::MAIN, reflink::MAIN];
        let variants = [read::VARIANTS, write::VARIANTS, sendfile::VARIANTS, splice::VARIANTS, copy::VARIANTS];
        let more =
            [reflink::VARIANTS, uring::VARIANTS, aio::VARIANTS, fault::VARIANTS, tls::VARIANTS, zerocopy::VARIANTS];
        main.into_iter()
            .chain([uring::MAIN, aio::MAIN, fault::MAIN, tls::MAIN, zerocopy::MAIN])
            .chain(variants)
            .chain(more)
            .flatten()
            .copied()
            .collect()
    });
    &ALL
}

/// The workloads of a name. A plain path id (`read:tcp:user`) names the main workloads of its every condition; with a
/// condition (`read:tcp:user@peek`) or a variant (`read:tcp:user+recvmsg`) it names one.
#[must_use]
pub fn find(name: &str) -> Vec<&'static Workload> {
    let named = |one: &&Workload| one.name() == name || (one.id == name && one.variant.is_empty());
    all().iter().filter(named).collect()
}

impl Workload {
    const fn new(id: &'static str, source: Fixture, sink: Fixture, mover: Mover, about: &'static str) -> Self {
        let needs = |_: &Path| None;
        let second = Fixture::User;
        Self {
            id,
            condition: Condition::Always,
            variant: "",
            about,
            source,
            sink,
            second,
            mover,
            parts: 1,
            excess: 0,
            ring: None,
            registered: false,
            aio: None,
            needs,
        }
    }

    const fn when(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    const fn variant(mut self, variant: &'static str) -> Self {
        self.variant = variant;
        self
    }

    const fn second(mut self, second: Fixture) -> Self {
        self.second = second;
        self
    }

    const fn parts(mut self) -> Self {
        self.parts = messages::MESSAGES;
        self
    }

    const fn excess(mut self, excess: usize) -> Self {
        self.excess = excess;
        self
    }

    const fn ring(mut self, ring: ring::Plan) -> Self {
        self.ring = Some(ring);
        self
    }

    const fn registered(mut self) -> Self {
        self.registered = true;
        self
    }

    const fn aio(mut self, depth: usize) -> Self {
        self.aio = Some(depth);
        self
    }

    const fn needs(mut self, needs: fn(&Path) -> Option<String>) -> Self {
        self.needs = needs;
        self
    }

    fn is_into_memory(&self) -> bool {
        self.sink.is_memory()
    }

    fn is_out_of_memory(&self) -> bool {
        self.source.is_memory()
    }

    /// Whether what is sent goes to a network device, where probes look at it.
    #[must_use]
    pub fn sink_is_watched(&self) -> bool {
        !self.is_into_memory() && [":tcp", ":udp"].iter().any(|sink| self.id.ends_with(sink))
    }

    /// Whether copies are made that the audit can't see.
    #[must_use]
    pub fn escapes_the_audit(&self) -> bool {
        [Mechanism::IoUringZerocopy, Mechanism::ZerocopySend].iter().any(|one| self.id.starts_with(one.name()))
    }

    /// `id[@condition][+variant]`; the condition always is not said.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = self.id.to_owned();
        if self.condition != Condition::Always {
            name += "@";
            name += self.condition.name();
        }
        if !self.variant.is_empty() {
            name += "+";
            name += self.variant;
        }
        name
    }

    /// The bytes and the chunk that a run will really use: within the limits of the path, and 65,536 operations.
    #[must_use]
    pub fn plan(&self, bytes: u64, chunk: u64) -> (u64, u64) {
        plan::plan(self, bytes, chunk)
    }

    /// Why it can't run here, with the scratch directory given.
    #[must_use]
    pub fn unavailable(&self, directory: &Path) -> Option<String> {
        (self.needs)(directory).or_else(|| {
            [self.source, self.sink, self.second].into_iter().find_map(|fixture| fixture.unavailable(directory))
        })
    }

    /// Moves the bytes. Takes the calling thread's time only, but for io_uring's variants with threads.
    pub fn run(&self, request: &Request, gate: &mut dyn Gate) -> anyhow::Result<Outcome> {
        let (bytes, chunk) = self.plan(request.bytes, request.chunk);
        let mut stage = Stage::open(self, bytes, chunk, &request.directory)
            .with_context(|| format!("setting up the workload {}", self.name()))?;
        let tally = drive::drive(&mut stage, self.mover, bytes, chunk, gate)
            .with_context(|| format!("running the workload {}", self.name()))?;
        let note = (tally.bytes != bytes).then(|| format!("moved {} of {bytes} bytes planned", tally.bytes));
        Ok(Outcome {
            id: self.id.to_owned(),
            chunk,
            operations: tally.operations,
            bytes: tally.bytes,
            copies: copies::per_byte(self).of(tally.bytes),
            note,
        })
    }
}
