//! One consistent reading of everything the kernel half has counted.
//!
//! The protocol that makes it exact under exits is in docs/protocol.md: threads first, then the exited ones, joined by
//! the ledgers' ids; the kernel marks a ledger as folded only after its copy is in the map of exited threads.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use zc_common::passed;
use zc_common::record::{
    CELL_FREE, CELLS, Cell, Device, Fallback, FaultState, Identity, SharedKey, THREAD_CELLS, ThreadCells, ThreadHead,
    ThreadLedger, Usage,
};

use super::bpf::{self, Batch};

/// One thread's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadReading {
    /// Who it is.
    pub identity: Identity,
    /// sys_exit events seen.
    pub system_calls: u64,
    /// What the kernel itself has counted since the thread began.
    pub usage: Usage,
    /// Payload by catalogue cell; `None` for a thread that has made no call since the probes were attached.
    pub cells: Option<ThreadCells>,
}

impl ThreadReading {
    /// The used cells.
    pub fn used(&self) -> impl Iterator<Item = (u16, Cell)> + '_ {
        self.cells.iter().flat_map(|all| {
            let used = all.owners.iter().zip(&all.cells).filter(|(owner, _)| **owner != CELL_FREE);
            let passed = all.passed_owners.iter().zip(&all.passed).filter(|(owner, _)| **owner != 0);
            used.map(|(&owner, &cell)| (u16::from(owner), cell)).chain(passed.map(|(&owner, &cell)| (owner, cell)))
        })
    }
}

/// What could be counted for no process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FallbackReading {
    /// sys_exit events.
    pub system_calls: u64,
    /// Lifecycle events that the ring had no room for.
    pub events_lost: u64,
    /// Exited threads whose ledgers found the map of exited threads full.
    pub threads: u64,
    /// System calls of threads that could have no ledger; they are in `shared`.
    pub without_ledger: u64,
    /// Slots whose threads were gone without having given them back; they are in `exited`.
    pub evicted: u64,
    /// Payload by catalogue cell.
    pub cells: Vec<(u16, Cell)>,
}

/// Names of the devices that are told apart, by their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Disks.
    pub disks: Vec<String>,
    /// Physical network devices.
    pub network: Vec<String>,
}

/// Everything, once.
#[derive(Debug, Default)]
pub struct Reading {
    /// Threads that live.
    pub threads: Vec<ThreadReading>,
    /// Threads that have exited since the last reading; none of them is in `threads`.
    pub exited: Vec<ThreadReading>,
    /// Processes that have ended since the last reading, with what the kernel counted of all their threads.
    pub ended: Vec<(SharedKey, Usage)>,
    /// The devices that are told apart.
    pub devices: Devices,
    /// When the probes were attached, in ns since boot.
    pub attached_at: u64,
    /// What was counted for processes outside their threads' ledgers: totals, not news.
    pub shared: Vec<(SharedKey, Cell)>,
    /// Host-wide.
    pub fallback: FallbackReading,
    /// Of the probes themselves.
    pub runs: Vec<ProbeRuns>,
}

/// How often a probe ran and how long that took, since it was loaded. The kernel counts it only while
/// `kernel.bpf_stats_enabled` is 1; both are zero until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeRuns {
    /// The probe's name.
    pub probe: &'static str,
    /// Runs.
    pub runs: u64,
    /// Their time together.
    pub time: Duration,
}

/// Ids of ledgers that were handed out as exited and that the iterator still showed as living: the exiting thread had
/// not yet come to mark its own as folded.
pub(super) type HandedOut = HashSet<u64>;

/// Reads threads, then exited ones.
pub(super) fn threads(
    iterator: BorrowedFd<'_>,
    exited: BorrowedFd<'_>,
    handed_out: &mut HandedOut,
) -> io::Result<Reading> {
    let mut bytes = Vec::with_capacity(1 << 16);
    bpf::open_iterator(iterator)?.read_to_end(&mut bytes)?;
    let mut threads = decode(&bytes)?;
    let exited: Vec<_> = bpf::read_hash::<u64, ThreadLedger>(exited, Batch::Take, EMPTY_LEDGER)?
        .into_iter()
        .map(|(_, ledger)| ThreadReading {
            identity: ledger.identity,
            system_calls: ledger.system_calls,
            usage: ledger.usage,
            cells: Some(ledger.counters),
        })
        .collect();
    leave_out_exited(&mut threads, &exited, handed_out);
    Ok(Reading { threads, exited, ..Reading::default() })
}

/// Leaves out of the living what has been handed out as exited, now or before, and remembers which of it was there.
fn leave_out_exited(threads: &mut Vec<ThreadReading>, exited: &[ThreadReading], handed_out: &mut HandedOut) {
    handed_out.extend(exited.iter().map(|thread| thread.identity.id));
    let mut still_shown = HandedOut::new();
    threads.retain(|thread| {
        let left_out = handed_out.contains(&thread.identity.id);
        if left_out {
            still_shown.insert(thread.identity.id);
        }
        !left_out
    });
    // One that exited after the iterator had passed it may be shown by the next.
    still_shown.extend(exited.iter().map(|thread| thread.identity.id));
    *handed_out = still_shown;
}

/// Takes the last words of processes that are gone.
pub(super) fn ended(map: BorrowedFd<'_>) -> io::Result<Vec<(SharedKey, Usage)>> {
    bpf::read_hash(map, Batch::Take, Usage::default())
}

/// Takes cells of the shared ledger out of it: what is in them at that very moment.
pub(super) fn take_shared(map: BorrowedFd<'_>, keys: &[SharedKey]) -> io::Result<Vec<(SharedKey, Cell)>> {
    let taken = keys.iter().map(|key| Ok(bpf::take(map, key, Cell::default())?.map(|cell| (*key, cell))));
    taken.filter_map(Result::transpose).collect()
}

/// Reads the shared ledger.
pub(super) fn shared(map: BorrowedFd<'_>) -> io::Result<Vec<(SharedKey, Cell)>> {
    bpf::read_hash(map, Batch::Copy, Cell::default())
}

const EMPTY_CELL: Cell = Cell { operations: 0, bytes: 0 };

const EMPTY_CELLS: ThreadCells = ThreadCells {
    owners: [CELL_FREE; THREAD_CELLS],
    cells: [EMPTY_CELL; THREAD_CELLS],
    passed_owners: [0; passed::THREAD_CELLS],
    passed: [EMPTY_CELL; passed::THREAD_CELLS],
};

const EMPTY_LEDGER: ThreadLedger = ThreadLedger {
    identity: Identity {
        id: 0,
        process_start: 0,
        parent_start: 0,
        cgroup: 0,
        tgid: 0,
        tid: 0,
        parent_tgid: 0,
        flags: 0,
        comm: [0; 16],
    },
    system_calls: 0,
    folded: 0,
    slot: 0,
    forget: [0; 6],
    socket: 0,
    last_cell: 0,
    talk: [0; 2],
    told: EMPTY_CELL,
    passed_at: 0,
    fault: FaultState { address: 0, code: 0 },
    usage: Usage { voluntary: 0, involuntary: 0, minor_faults: 0, major_faults: 0 },
    vma: [zc_common::record::VmaSlot { start: 0, end: 0, sequence: 0, endpoint: 0 }; zc_common::record::VMA_SLOTS],
    counters: EMPTY_CELLS,
};

fn decode(mut bytes: &[u8]) -> io::Result<Vec<ThreadReading>> {
    let mut threads = Vec::with_capacity(bytes.len() / size_of::<ThreadHead>());
    while !bytes.is_empty() {
        let head: ThreadHead = take(&mut bytes)?;
        let cells = if head.has_cells != 0 { Some(take::<ThreadCells>(&mut bytes)?) } else { None };
        threads.push(ThreadReading {
            identity: head.identity,
            system_calls: head.system_calls,
            usage: head.usage,
            cells,
        });
    }
    Ok(threads)
}

/// Takes one record off the front. `T` is one of the plain integer structures of `zc_common::record`.
fn take<T: Copy>(bytes: &mut &[u8]) -> io::Result<T> {
    let Some((record, rest)) = bytes.split_at_checked(size_of::<T>()) else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the thread iterator ended within a record"));
    };
    *bytes = rest;
    // SAFETY: the record has T's size, and every bit pattern is a valid T.
    Ok(unsafe { record.as_ptr().cast::<T>().read_unaligned() })
}

/// The names of devices, up to the first place that none has taken.
pub(super) fn device_names(devices: impl Iterator<Item = Device>) -> Vec<String> {
    let taken = devices.take_while(|device| device.device != 0);
    // What lies behind the NUL is whatever was there.
    let name =
        |device: Device| CStr::from_bytes_until_nul(&device.name).map(|name| name.to_string_lossy().into_owned());
    taken.map(|device| name(device).unwrap_or_default()).collect()
}

/// Sums the fallbacks of all CPUs.
pub(super) fn sum_fallback<'a>(cpus: impl Iterator<Item = &'a Fallback>) -> FallbackReading {
    let mut sum = FallbackReading::default();
    let mut cells = vec![Cell::default(); CELLS];
    for cpu in cpus {
        sum.system_calls += cpu.system_calls;
        sum.events_lost += cpu.events_lost;
        sum.threads += cpu.threads;
        sum.without_ledger += cpu.without_ledger;
        sum.evicted += cpu.evicted;
        for (cell, more) in cells.iter_mut().zip(&cpu.cells) {
            cell.operations += more.operations;
            cell.bytes += more.bytes;
        }
    }
    sum.cells = (0..).zip(cells).filter(|(_, cell)| *cell != Cell::default()).collect();
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<T>(value: &T) -> &[u8] {
        // SAFETY: a plain structure seen as bytes.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
    }

    #[test]
    fn a_devices_name_ends_at_the_first_nul() {
        // virtio-blk writes names from the buffer's end and moves them: the last letter stays behind.
        let mut name = [0; 32];
        name[..3].copy_from_slice(b"vda");
        name[31] = b'a';
        let disk = |device, name| Device { device, name };
        assert_eq!(device_names([disk(1, name), disk(0, [1; 32]), disk(1, name)].into_iter()), ["vda"]);
    }

    #[test]
    fn decodes_threads_with_and_without_cells() {
        let mut head = ThreadHead { system_calls: 3, has_cells: 0, ..ThreadHead::default() };
        let mut bytes = bytes_of(&head).to_vec();
        head.has_cells = 1;
        bytes.extend_from_slice(bytes_of(&head));
        let mut cells = EMPTY_CELLS;
        cells.owners[2] = 9;
        cells.cells[2] = Cell { operations: 1, bytes: 5 };
        bytes.extend_from_slice(bytes_of(&cells));
        let threads = decode(&bytes).unwrap();
        assert_eq!(threads.len(), 2);
        assert_eq!(threads[0].used().count(), 0);
        assert_eq!(threads[1].used().collect::<Vec<_>>(), [(9, Cell { operations: 1, bytes: 5 })]);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_thread_that_was_handed_out_does_not_live_again() {
        let of = |id| ThreadReading {
            identity: Identity { id, ..EMPTY_LEDGER.identity },
            system_calls: 1,
            usage: Usage::default(),
            cells: Some(EMPTY_CELLS),
        };
        let mut handed_out = HandedOut::new();
        let mut read = |live: &[u64], exited: &[u64]| {
            let mut threads: Vec<_> = live.iter().copied().map(of).collect();
            let exited: Vec<_> = exited.iter().copied().map(of).collect();
            leave_out_exited(&mut threads, &exited, &mut handed_out);
            threads.iter().map(|thread| thread.identity.id).collect::<Vec<_>>()
        };
        assert_eq!(read(&[0, 1, 2, 3], &[2]), [0, 1, 3]);
        // Its mark is not there yet.
        assert_eq!(read(&[0, 1, 2, 3], &[]), [0, 1, 3]);
        assert_eq!(read(&[0, 1, 2, 3], &[3]), [0, 1]);
        assert_eq!(read(&[0, 1], &[]), [0, 1]);
        assert!(handed_out.is_empty());
    }

    #[test]
    fn sums_fallbacks() {
        let cells = [Cell::default(); CELLS];
        let mut cpu = Fallback { system_calls: 1, events_lost: 2, threads: 3, without_ledger: 4, evicted: 5, cells };
        cpu.cells[7] = Cell { operations: 1, bytes: 10 };
        let sum = sum_fallback([cpu, cpu].iter());
        assert_eq!((sum.system_calls, sum.events_lost, sum.threads), (2, 4, 6));
        assert_eq!((sum.without_ledger, sum.evicted), (8, 10));
        assert_eq!(sum.cells, [(7, Cell { operations: 2, bytes: 20 })]);
    }
}
