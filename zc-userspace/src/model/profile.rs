//! A copy profile: what the contract's JSON holds for one process or several.

use std::collections::BTreeMap;
use std::time::Duration;

use zc_common::hop::{Direction, Hop, Place};
use zc_common::passed;
use zc_common::path::{Endpoint, Mechanism, PathId};
use zc_common::record::{
    CELL_CACHE_FILLS, CELL_FAULTS, CELL_RETRANSMITTED, CELL_SIGBUS, CELL_SWITCHES, CELL_USER_FAULTS, Cell, DISK_DIRECT,
    DISK_WRITE, NET_VIRTUAL,
};

mod fields;

pub use fields::*;

use super::hops::{Catalogue, PathTotals};
use crate::kernel::{BLOCK, FAULTS, MAPPING, NET, PASS_THROUGH, SCHED};
use crate::ledger::{Counters, Peers, Process, ProcessKey};

impl ProcessInfo {
    /// What a profile says of a process.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        Self {
            pid: process.key.tgid,
            tgid_start: process.key.start,
            comm: process.comm.clone(),
            exe: process.exe.clone(),
            cgroup: process.cgroup.clone(),
            unit: process.unit.clone(),
            container: process.container.clone(),
            exited: process.exited,
        }
    }
}

impl Profile {
    /// Puts in the peers of its processes that most bytes went to and came from.
    pub fn put_peers(&mut self, peers: &Peers, most: usize, since: PeersSince) {
        let processes = self.processes.iter().map(|one| ProcessKey { tgid: one.pid, start: one.tgid_start });
        let all = peers.sum(processes).into_iter().take(most).map(|(peer, traffic)| PeerBytes {
            protocol: peer.protocol.to_owned(),
            address: peer.address,
            sent_bytes: traffic.sent,
            received_bytes: traffic.received,
            operations: traffic.operations,
        });
        self.peers = Some(all.collect());
        self.peers_since = Some(since);
    }

    /// Bytes that probes saw the CPU copy: all within the kernel.
    #[must_use]
    pub fn observed_copies(&self) -> u64 {
        let hops = self.paths.iter().flat_map(|path| &path.hops);
        hops.filter(|hop| hop.basis == Basis::Observed && hop.mover == "cpu").map(|hop| hop.bytes).sum()
    }
}

impl PathProfile {
    fn of(id: PathId, totals: &PathTotals) -> Self {
        let hop = |basis| {
            move |(hop, &bytes): (&Hop, &u64)| HopBytes {
                from: hop.from.name().to_owned(),
                to: hop.to.name().to_owned(),
                mover: hop.mover.name().to_owned(),
                bytes,
                basis,
            }
        };
        let hops = totals.hops.iter().map(hop(Basis::Modelled)).chain(totals.observed.iter().map(hop(Basis::Observed)));
        Self {
            id: id.to_string(),
            mechanism: id.mechanism.name().to_owned(),
            source: id.source.name().to_owned(),
            sink: id.sink.name().to_owned(),
            operations: totals.operations,
            bytes: totals.bytes,
            copied_bytes: totals.copied(),
            referenced_bytes: totals.referenced(),
            basis: if totals.hops.is_empty() && !totals.observed.is_empty() {
                Basis::Observed
            } else {
                Basis::Modelled
            },
            hops: hops.collect(),
        }
    }
}

/// Whether payload that ends there has been delivered, rather than brought where the process can use it.
fn delivers(sink: Endpoint) -> bool {
    !matches!(sink, Endpoint::User | Endpoint::Mapping | Endpoint::Pipe)
}

fn network(seen: bool, counters: &Counters, paths: &BTreeMap<PathId, PathTotals>) -> NetworkBytes {
    if !seen {
        return NetworkBytes::default();
    }
    let copied = |from| {
        let of_path = |totals: &PathTotals| -> u64 {
            totals
                .observed
                .iter()
                .filter(|(hop, _)| (hop.from, hop.to) == (from, Place::SocketBuffer))
                .map(|(_, bytes)| bytes)
                .sum()
        };
        paths.values().map(of_path).sum()
    };
    let (transmitted, paged) = counters.transmitted(|_| true);
    NetworkBytes {
        transmitted_bytes: Some(transmitted),
        paged_bytes: Some(paged),
        virtual_bytes: Some(counters.transmitted(|place| place == NET_VIRTUAL).0),
        linearized_bytes: Some(copied(Place::SocketBuffer)),
        copied_after_all_bytes: Some(copied(Place::User)),
        retransmitted_bytes: Some(counters.get(CELL_RETRANSMITTED).bytes),
    }
}

/// What was written out from where it had been read into, most bytes first.
fn pass_through(counters: &Counters) -> Vec<PassThrough> {
    let counted = |(source, sink, cell): (Endpoint, Endpoint, u16)| {
        let Cell { operations, bytes } = counters.get(cell);
        let (source, sink) = (source.name().to_owned(), sink.name().to_owned());
        (bytes != 0).then_some(PassThrough { source, sink, operations, bytes })
    };
    let mut all: Vec<_> = passed::pairs().filter_map(counted).collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.bytes));
    all
}

fn is_mapped(id: &PathId) -> bool {
    id.mechanism == Mechanism::Mmap && id.source == Endpoint::File
}

/// Whether a device moves the bytes to or from the caller's memory, whose pages are pinned for that. io_uring's
/// registered buffers are pinned once, when they are registered.
fn pins(id: &PathId) -> bool {
    let is_memory = |end| matches!(end, Endpoint::User | Endpoint::Mapping);
    let ends = (id.source, id.sink);
    let between = (ends.0 == Endpoint::Disk && is_memory(ends.1)) || (ends.1 == Endpoint::Disk && is_memory(ends.0));
    between && id.mechanism != Mechanism::IoUringFixed
}

/// Makes a profile of counters.
#[must_use]
pub fn profile(
    catalogue: &Catalogue,
    processes: Vec<ProcessInfo>,
    counters: &Counters,
    window: Option<Duration>,
    events_lost: u64,
) -> Profile {
    let paths = catalogue.paths(counters);
    // A page that is copied when it is written to was there before.
    let into = |wanted: &dyn Fn(Endpoint) -> bool| -> u64 {
        let paths = paths.iter().filter(|(id, _)| wanted(id.sink) && id.mechanism != Mechanism::Mmap);
        paths.map(|(_, totals)| totals.bytes).sum()
    };
    let delivered_bytes = match into(&delivers) {
        0 => into(&|sink| sink == Endpoint::User),
        delivered => delivered,
    };
    let copied_in = |direction| paths.values().map(|totals| totals.copied_in(direction)).sum();
    let copied_bytes = CopiedBytes {
        to_user: copied_in(Direction::ToUser),
        from_user: copied_in(Direction::FromUser),
        in_kernel: copied_in(Direction::InKernel),
    };
    let seen = |probe: &str, figure: u64| catalogue.sees.contains(probe).then_some(figure);
    // A reflink shares blocks and asks nothing of the cache.
    let is_cached = |id: &PathId| id.source == Endpoint::File && id.mechanism != Mechanism::Reflink;
    let requested = paths.iter().filter(|(id, _)| is_cached(id)).map(|(_, totals)| totals.bytes).sum();
    let unclassified = counters.unclassified();
    let asked = catalogue.mmap_asked(counters);
    let mut by_path: Vec<_> = paths.iter().map(|(id, totals)| PathProfile::of(*id, totals)).collect();
    by_path.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.id.cmp(&b.id)));
    Profile {
        processes,
        window_seconds: window.map(|window| window.as_secs_f64()),
        paths: by_path,
        delivered_bytes,
        copied_bytes,
        copy_cost: catalogue.copy_bandwidth.map(|bytes_per_second| CopyCost {
            cpu_seconds: copied_bytes.total() as f64 / bytes_per_second as f64,
            bytes_per_second,
            basis: Basis::Modelled,
        }),
        referenced_bytes: paths.values().map(PathTotals::referenced).sum(),
        enciphered_bytes: paths.values().map(PathTotals::enciphered).sum(),
        network: network(catalogue.sees.contains(NET), counters, &paths),
        dma_bytes: DmaBytes {
            disk_read: seen(BLOCK, counters.disk(|kind| kind & DISK_WRITE == 0)),
            disk_write: seen(BLOCK, counters.disk(|kind| kind & DISK_WRITE != 0)),
            disk_read_direct: seen(BLOCK, counters.disk(|kind| kind == DISK_DIRECT)),
            disk_write_direct: seen(BLOCK, counters.disk(|kind| kind == DISK_DIRECT | DISK_WRITE)),
            nic_transmit: seen(NET, counters.transmitted(|place| place != NET_VIRTUAL).0),
            nic_receive: None,
        },
        copies_per_byte: (delivered_bytes != 0).then(|| copied_bytes.total() as f64 / delivered_bytes as f64),
        mode_switches: ModeSwitches {
            system_calls: 2 * counters.system_calls,
            page_faults: seen(FAULTS, 2 * counters.get(CELL_USER_FAULTS).operations),
        },
        context_switches: ContextSwitches {
            voluntary: seen(SCHED, counters.get(CELL_SWITCHES).operations),
            involuntary: seen(SCHED, counters.get(CELL_SWITCHES).bytes),
        },
        page_faults: PageFaults {
            minor: seen(SCHED, counters.get(CELL_FAULTS).operations),
            major: seen(SCHED, counters.get(CELL_FAULTS).bytes),
            sigbus: seen(SCHED, counters.get(CELL_SIGBUS).operations),
        },
        page_cache: PageCacheBytes {
            requested_bytes: seen(BLOCK, requested),
            missed_bytes: seen(BLOCK, counters.get(CELL_CACHE_FILLS).bytes),
            read_ahead_bytes: seen(BLOCK, counters.get(CELL_CACHE_FILLS).operations),
        },
        mmap: MmapAsked {
            calls: asked.operations,
            requested_bytes: asked.bytes,
            mapped_bytes: seen(MAPPING, paths.iter().filter(|(id, _)| is_mapped(id)).map(|(_, path)| path.bytes).sum()),
        },
        direct_io: DirectIo { pinned_bytes: paths.iter().filter(|(id, _)| pins(id)).map(|(_, path)| path.bytes).sum() },
        pass_through: catalogue.sees.contains(PASS_THROUGH).then(|| pass_through(counters)),
        peers: None,
        peers_since: None,
        lost: Lost {
            events: events_lost,
            unclassified_operations: unclassified.operations,
            unclassified_bytes: unclassified.bytes,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zc_common::path::Condition;

    fn of(cells: &[(&str, u64)]) -> Profile {
        let catalogue = Catalogue::default();
        let mut counters = Counters::with_calls(10);
        for &(id, bytes) in cells {
            let cell = catalogue.cell(PathId::parse(id).unwrap(), Condition::Always).unwrap();
            counters.add_cell(cell, Cell { operations: 1, bytes });
        }
        profile(&catalogue, Vec::new(), &counters, None, 0)
    }

    #[test]
    fn textbook_ways_of_sending_a_file() {
        assert_eq!(of(&[("read:file:user", 100), ("write:user:tcp", 100)]).copies_per_byte, Some(2.0));
        assert_eq!(of(&[("write:mapping:tcp", 100)]).copies_per_byte, Some(1.0));
        assert_eq!(of(&[("sendfile:file:tcp", 100)]).copies_per_byte, Some(0.0));
        let splice = of(&[("splice:file:pipe", 100), ("splice:pipe:tcp", 100)]);
        assert_eq!((splice.copies_per_byte, splice.delivered_bytes), (Some(0.0), 100));
    }

    #[test]
    fn a_reader_delivers_into_user_memory_and_an_idler_nothing() {
        let reader = of(&[("read:file:user", 100)]);
        assert_eq!((reader.delivered_bytes, reader.copies_per_byte), (100, Some(1.0)));
        let idler = of(&[]);
        assert_eq!((idler.delivered_bytes, idler.copies_per_byte), (0, None));
        assert_eq!(idler.mode_switches.system_calls, 20);
    }

    #[test]
    fn the_kernels_own_counters_show_where_they_are_read() {
        let mut catalogue = Catalogue::default();
        catalogue.sees.insert(SCHED);
        let mut counters = Counters::default();
        counters.add_cell(CELL_SWITCHES, Cell { operations: 3, bytes: 1 });
        let profile = profile(&catalogue, Vec::new(), &counters, None, 0);
        assert_eq!(profile.context_switches, ContextSwitches { voluntary: Some(3), involuntary: Some(1) });
        assert_eq!(profile.page_faults, PageFaults { minor: Some(0), major: Some(0), sigbus: Some(0) });
        assert!(profile.paths.is_empty());
    }

    #[test]
    fn copies_on_write_are_copies_but_deliver_nothing() {
        let profile = of(&[("read:disk:user", 100), ("mmap:user:user", 4096), ("mmap:file:mapping", 8192)]);
        assert_eq!((profile.delivered_bytes, profile.copied_bytes.in_kernel), (100, 4096));
        assert_eq!((profile.referenced_bytes, profile.direct_io.pinned_bytes), (8192, 100));
        let basis = |id: &str| profile.paths.iter().find(|path| path.id == id).unwrap().basis;
        assert_eq!((basis("mmap:user:user"), basis("read:disk:user")), (Basis::Observed, Basis::Modelled));
        assert_eq!(profile.mmap.mapped_bytes, None);
    }

    #[test]
    fn copies_cost_what_the_bandwidth_makes_of_them() {
        let mut catalogue = Catalogue::default();
        catalogue.copy_bandwidth = Some(1000);
        let mut counters = Counters::default();
        let cell = catalogue.cell(PathId::parse("read:file:user").unwrap(), Condition::Always).unwrap();
        counters.add_cell(cell, Cell { operations: 1, bytes: 500 });
        let cost = profile(&catalogue, Vec::new(), &counters, None, 0).copy_cost.unwrap();
        assert!((cost.cpu_seconds - 0.5).abs() < 1e-9 && cost.basis == Basis::Modelled);
        assert_eq!(of(&[("read:file:user", 500)]).copy_cost, None);
    }

    #[test]
    fn what_no_probe_sees_is_null() {
        let json = serde_json::to_value(of(&[("read:file:user", 1)])).unwrap();
        for pointer in ["/dma_bytes/disk_read", "/page_faults/minor", "/context_switches/voluntary", "/pass_through"] {
            assert_eq!(json.pointer(pointer), Some(&serde_json::Value::Null), "{pointer}");
        }
    }
}
