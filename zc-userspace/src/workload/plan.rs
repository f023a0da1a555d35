//! What becomes of the bytes and the chunk that were asked for: the limits of each path.

use super::Workload;
use super::fixture::{Fixture, PAGE};

/// No run makes more operations than this.
const MAX_OPERATIONS: u64 = 65_536;
/// A reflink is a transaction of the file system, which takes tens of microseconds and fills its log.
const MAX_REFLINKS: u64 = 1024;
/// Buffers are this large at most.
const MAX_CHUNK: u64 = 16 << 20;

/// Memory or a file that is gone over once is this large at most.
const MAX_ONCE: u64 = 64 << 20;

pub(super) fn plan(workload: &Workload, bytes: u64, chunk: u64) -> (u64, u64) {
    let ends = [workload.source, workload.sink];
    let unit = unit(ends);
    let limit = ends.into_iter().map(Fixture::chunk_limit).min().unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
    let once = ends.contains(&Fixture::Forked) || ends.contains(&Fixture::ColdFile);
    let bytes = if once { bytes.min(MAX_ONCE) } else { bytes }.max(1);
    let chunk = round(chunk.min(limit).min(bytes), unit);
    let clones = ends.contains(&Fixture::Reflinked);
    let operations = if clones { MAX_REFLINKS } else { MAX_OPERATIONS };
    // A clone is of a whole file, and an eventfd takes eight bytes or none: neither has a partial last chunk.
    let whole = if clones { chunk } else { unit };
    (round(bytes.min(chunk * operations), whole), chunk)
}

/// What each operation's bytes must be a multiple of.
pub(super) fn unit(ends: [Fixture; 2]) -> u64 {
    let unit = |end: Fixture| match end {
        Fixture::Disk | Fixture::TcpPages => PAGE,
        Fixture::ReflinkedBlocks | Fixture::Pages => PAGE,
        Fixture::Event => 8,
        _ => 1,
    };
    ends.into_iter().map(unit).max().unwrap_or(1)
}

/// Down to a multiple of `unit`, but at least one.
fn round(value: u64, unit: u64) -> u64 {
    (value / unit * unit).max(unit)
}
