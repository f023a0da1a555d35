//! The loop that every workload runs: prepare both ends, make the call, add up what it returned.

use std::path::Path;

use anyhow::{Context as _, bail};
use nix::errno::Errno;

use super::channel::Shape;
use super::fault::{self, Region};
use super::fixture::{End, Fixture};
use super::memory::Memory;
use super::reflink::Shared;
use super::ring::Ring;
use super::{Gate, Workload, aio, plan, uring};

/// Both ends of a path, made ready.
pub(super) struct Stage {
    pub(super) source: End,
    pub(super) sink: End,
    pub(super) second: Memory,
    /// Datagrams of one operation.
    pub(super) parts: usize,
    /// What each operation asks for, at most.
    pub(super) chunk: usize,
    /// What each operation's bytes must be a multiple of.
    pub(super) unit: u64,
    /// The ring of io_uring, where the workload uses one.
    pub(super) ring: Option<Ring>,
    /// The context of Linux AIO, where the workload uses one.
    pub(super) aio: Option<aio::Context>,
    /// A file's mapping of which nothing is in memory.
    pub(super) cold: Option<Region>,
    /// Memory that a child has, too.
    pub(super) forked: Option<Region>,
    /// Whether a buffer is provided that no request has taken.
    pub(super) provided: bool,
    /// Keeps the file system of reflinked files mounted.
    _shared: Option<Shared>,
}

/// What one call did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    /// Bytes that count on the path under test.
    pub(super) counted: usize,
    /// Bytes that left the source and reached the sink, where they are more or fewer.
    pub(super) taken: usize,
    /// Operations that moved them.
    pub(super) operations: u64,
}

impl From<usize> for Moved {
    fn from(n: usize) -> Self {
        Self { counted: n, taken: n, operations: 1 }
    }
}

/// Makes one operation of at most so many bytes.
pub(super) type Mover = fn(&mut Stage, usize) -> nix::Result<Moved>;

/// What a run did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) operations: u64,
    pub(super) bytes: u64,
}

impl Stage {
    /// Makes all ready for a run.
    pub(super) fn open(workload: &Workload, bytes: u64, chunk: u64, directory: &Path) -> anyhow::Result<Self> {
        let Workload { source, sink, second, parts, excess, .. } = *workload;
        let shared = if source.is_reflinked() { Some(Shared::open(directory)?) } else { None };
        let shape = |is_source| Shape { bytes, chunk, is_source, parts, excess };
        let second = second.memory(shape(true).memory(), directory)?.context("not memory")?;
        let mut source_end = source.open(&shape(true), directory, shared.as_ref())?;
        let mut sink_end = sink.open(&shape(false), directory, shared.as_ref())?;
        if sink == Fixture::Received {
            sink_end = End::Memory(Memory::received(usize::try_from(chunk)?, source_end.fd()?)?);
        }
        let ring = match workload.ring {
            Some(plan) => Some(uring::open(plan, workload.registered, &mut source_end, &mut sink_end)?),
            None => None,
        };
        // All that there is first, before it is shared with a child or the file's pages go.
        if sink == Fixture::Pages {
            fault::settle(0..0)?;
        }
        let cold = match (source, source_end.channel()) {
            (Fixture::ColdFile, Some(channel)) => Some(Region::cold(&channel.fd.try_clone()?.into(), bytes)?),
            _ => None,
        };
        let forked = if source == Fixture::Forked { Some(Region::forked(bytes)?) } else { None };
        if let Some(region) = &forked {
            fault::settle(region.range())?;
        }
        Ok(Self {
            cold,
            forked,
            ring,
            aio: workload.aio.map(aio::Context::open).transpose()?,
            provided: false,
            source: source_end,
            sink: sink_end,
            second,
            parts,
            chunk: usize::try_from(chunk)?,
            unit: plan::unit([source, sink]),
            _shared: shared,
        })
    }

    fn before(&mut self, len: usize) -> nix::Result<()> {
        if let End::Channel(source) = &mut self.source {
            source.before_source(len)?;
        }
        if let End::Channel(sink) = &mut self.sink {
            sink.before_sink(len)?;
        }
        Ok(())
    }

    fn after(&mut self, moved: Moved) -> nix::Result<()> {
        if let End::Channel(source) = &mut self.source {
            source.after_source(moved.taken)?;
        }
        if let End::Channel(sink) = &mut self.sink {
            sink.after_sink(moved.taken)?;
        }
        Ok(())
    }

    fn wait(&mut self) -> nix::Result<()> {
        if let End::Channel(sink) = &mut self.sink {
            sink.await_sink()?;
        }
        if let End::Channel(source) = &self.source {
            source.await_source()?;
        }
        Ok(())
    }
}

/// Moves `bytes` in operations of `chunk`.
pub(super) fn drive(
    stage: &mut Stage,
    mover: Mover,
    bytes: u64,
    chunk: u64,
    gate: &mut dyn Gate,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut idle = 0;
    gate.ready()?;
    while bytes - tally.bytes >= stage.unit {
        let left = (bytes - tally.bytes).min(chunk);
        let len = usize::try_from(left / stage.unit * stage.unit)?;
        stage.before(len).context("preparing the ends of the path")?;
        match mover(stage, len) {
            Ok(moved) if moved.counted > 0 => {
                tally.operations += moved.operations;
                tally.bytes += moved.counted as u64;
                idle = 0;
                stage.after(moved).context("draining the sink")?;
                gate.progress(tally.bytes);
            }
            // The end of a pseudo file, whose length nobody knows.
            Ok(_) => {
                stage.source.channel_mut().context("memory has no end")?.rewind().context("rewinding the source")?;
                idle += 1;
            }
            Err(Errno::EAGAIN) => {
                stage.wait().context("waiting for the ends of the path")?;
                idle += 1;
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).with_context(|| format!("an operation of {len} bytes")),
        }
        if idle > 100_000 {
            bail!("no progress after {} of {bytes} bytes", tally.bytes);
        }
    }
    if let End::Channel(sink) = &mut stage.sink {
        sink.finish().context("waiting for what is on its way")?;
    }
    gate.done()?;
    Ok(tally)
}
