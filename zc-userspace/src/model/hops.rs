//! The catalogue in use: cells to paths, and payload to hops.

use std::collections::{BTreeMap, BTreeSet};

use zc_common::hop::{Direction, Hop, Mover, Place};
use zc_common::path::{Condition, Endpoint, Mechanism, PathId, ROWS, Row};
use zc_common::record::{COPIED_AFTER_ALL, Cell, FIRST_ROW_CELL, LINEARIZED};

use crate::kernel::{FAULTS, IO_URING, MAPPING};
use crate::ledger::Counters;

/// The rows that classification and model use: the catalogue proper, or a test's mutation of it.
#[derive(Debug, Clone)]
pub struct Catalogue {
    rows: Vec<Row>,
    /// Names of the probes that are attached: fields that rest on others are null.
    pub sees: BTreeSet<&'static str>,
    /// Bytes that a processor copies in a second, where it was measured: what copies cost is modelled with it.
    pub copy_bandwidth: Option<u64>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::of(ROWS.to_vec())
    }
}

/// What one path carried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathTotals {
    /// System calls that moved bytes on it.
    pub operations: u64,
    /// Payload bytes (peeked ones are not payload).
    pub bytes: u64,
    /// Bytes by hop, modelled from the payload and the path's row.
    pub hops: BTreeMap<Hop, u64>,
    /// Bytes by hop that a probe saw, beside those.
    pub observed: BTreeMap<Hop, u64>,
}

impl PathTotals {
    fn moved_by(&self, wanted: impl Fn(Mover) -> bool) -> u64 {
        let all = self.hops.iter().chain(&self.observed);
        all.filter(|(hop, _)| wanted(hop.mover)).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that the CPU copied.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.moved_by(|mover| matches!(mover, Mover::Cpu(_)))
    }

    /// Bytes that the CPU copied in one direction.
    #[must_use]
    pub fn copied_in(&self, direction: Direction) -> u64 {
        self.moved_by(|mover| mover == Mover::Cpu(direction))
    }

    /// Bytes that the CPU enciphered on their way.
    #[must_use]
    pub fn enciphered(&self) -> u64 {
        self.moved_by(|mover| mover == Mover::Cipher)
    }

    /// Bytes that were handed over by reference.
    #[must_use]
    pub fn referenced(&self) -> u64 {
        self.moved_by(|mover| mover == Mover::Reference)
    }
}

impl Catalogue {
    /// Other rows than the catalogue's own: for tests of what notices a wrong row.
    #[must_use]
    pub fn of(rows: Vec<Row>) -> Self {
        Self { rows, sees: BTreeSet::new(), copy_bandwidth: None }
    }

    /// Marks the rows that nothing counts on, since their probe is not attached.
    pub fn without_probes(&mut self) {
        for row in &mut self.rows {
            let (probe, why) = match row.mechanism {
                Mechanism::IoUring | Mechanism::IoUringFixed | Mechanism::IoUringZerocopy => {
                    (IO_URING, "needs the probe io_uring, which is not attached: `zcprof probes` says why")
                }
                Mechanism::Mmap if row.condition == Condition::Asked => continue,
                Mechanism::Mmap if row.source == Endpoint::File => {
                    (MAPPING, "needs the probe mapping, which is not attached: `zcprof probes` says why")
                }
                Mechanism::Mmap => (FAULTS, "needs the probe faults, which is not attached: `zcprof probes` says why"),
                _ => continue,
            };
            if !self.sees.contains(probe) {
                row.inactive = Some(why);
            }
        }
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Why nothing by this mechanism is counted in this build, if nothing is.
    #[must_use]
    pub fn unseen(&self, mechanism: Mechanism) -> Option<String> {
        let mut rows = self.rows.iter().filter(|row| row.mechanism == mechanism && row.is_payload()).peekable();
        if rows.peek().is_none() {
            return Some(format!("this build does not see {mechanism} (see `zcprof probes`)"));
        }
        let reasons: Vec<_> = rows.map(|row| row.inactive).collect();
        let why = reasons.first().copied().flatten().filter(|_| reasons.iter().all(Option::is_some));
        why.map(|why| format!("this build does not see {mechanism}: it {why}"))
    }

    /// The row of a cell; none for the reserved ones.
    #[must_use]
    pub fn row(&self, cell: u16) -> Option<&Row> {
        self.rows.get(usize::from(cell.checked_sub(u16::from(FIRST_ROW_CELL))?))
    }

    /// The cell of a path under a condition.
    #[must_use]
    pub fn cell(&self, id: PathId, condition: Condition) -> Option<u8> {
        let at = self.rows.iter().position(|row| row.id() == id && row.condition == condition)?;
        u8::try_from(at).ok()?.checked_add(FIRST_ROW_CELL)
    }

    /// Every path that counted anything, with its payload and hops.
    #[must_use]
    pub fn paths(&self, counters: &Counters) -> BTreeMap<PathId, PathTotals> {
        let mut paths: BTreeMap<PathId, PathTotals> = BTreeMap::new();
        for (cell, Cell { operations, bytes }) in counters.iter() {
            if let Some((row, hop)) = self.observed(cell) {
                *paths.entry(row.id()).or_default().observed.entry(hop).or_default() += bytes;
            }
            let Some(row) = self.row(cell) else { continue };
            if row.condition == Condition::Asked {
                continue;
            }
            let path = paths.entry(row.id()).or_default();
            path.operations += operations;
            path.bytes += if row.is_payload() { bytes } else { 0 };
            // Faults are seen where they map or copy a page; of everything else it is the call that is seen.
            let hops = if row.mechanism == Mechanism::Mmap { &mut path.observed } else { &mut path.hops };
            for hop in row.hops {
                *hops.entry(*hop).or_default() += bytes;
            }
        }
        paths
    }

    /// The path that a cell of observed bytes is for, and how a probe saw them move.
    #[must_use]
    pub fn observed(&self, cell: u16) -> Option<(&Row, Hop)> {
        let hop = match cell & !0xff {
            COPIED_AFTER_ALL => Hop::in_kernel(Place::User, Place::SocketBuffer),
            LINEARIZED => Hop::in_kernel(Place::SocketBuffer, Place::SocketBuffer),
            _ => return None,
        };
        self.row(cell & 0xff).map(|row| (row, hop))
    }

    /// mmap calls of files and the bytes that they asked for.
    #[must_use]
    pub fn mmap_asked(&self, counters: &Counters) -> Cell {
        let asked =
            counters.iter().filter(|(cell, _)| self.row(*cell).is_some_and(|r| r.condition == Condition::Asked));
        asked.fold(Cell::default(), |sum, (_, cell)| Cell {
            operations: sum.operations + cell.operations,
            bytes: sum.bytes + cell.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(cells: &[(&str, Condition, u64, u64)]) -> BTreeMap<PathId, PathTotals> {
        let catalogue = Catalogue::default();
        let mut counters = Counters::default();
        for &(id, condition, operations, bytes) in cells {
            let cell = catalogue.cell(PathId::parse(id).unwrap(), condition).unwrap();
            counters.add_cell(cell, Cell { operations, bytes });
        }
        catalogue.paths(&counters)
    }

    #[test]
    fn a_peek_copies_but_is_no_payload() {
        let paths =
            counted(&[("read:tcp:user", Condition::Always, 1, 100), ("read:tcp:user", Condition::Peek, 2, 100)]);
        let path = &paths[&PathId::parse("read:tcp:user").unwrap()];
        assert_eq!((path.operations, path.bytes, path.copied()), (3, 100, 200));
    }

    #[test]
    fn what_a_probe_saw_is_beside_what_the_row_says() {
        let catalogue = Catalogue::default();
        let id = PathId::parse("zerocopy_send:user:tcp").unwrap();
        let cell = catalogue.cell(id, Condition::Always).unwrap();
        let mut counters = Counters::default();
        counters.add_cell(cell, Cell { operations: 1, bytes: 100 });
        counters.add_cell(COPIED_AFTER_ALL + u16::from(cell), Cell { operations: 0, bytes: 60 });
        counters.add_cell(LINEARIZED + u16::from(cell), Cell { operations: 0, bytes: 7 });
        let path = &catalogue.paths(&counters)[&id];
        assert_eq!((path.operations, path.bytes, path.referenced(), path.copied()), (1, 100, 100, 67));
        assert_eq!((path.hops.len(), path.observed.values().sum::<u64>()), (1, 67));
    }

    #[test]
    fn dev_null_takes_without_a_copy() {
        let paths = counted(&[("write:user:device", Condition::NullSink, 1, 100)]);
        let path = &paths[&PathId::parse("write:user:device").unwrap()];
        assert_eq!((path.bytes, path.copied()), (100, 0));
    }

    #[test]
    fn a_disk_to_socket_sendfile_is_dma_then_reference() {
        let paths = counted(&[("sendfile:disk:tcp", Condition::Always, 1, 100)]);
        let path = &paths[&PathId::parse("sendfile:disk:tcp").unwrap()];
        assert_eq!((path.copied(), path.referenced(), path.hops.len()), (0, 100, 2));
    }

    #[test]
    fn what_is_not_seen_is_told_from_what_did_not_happen() {
        let catalogue = Catalogue::default();
        assert_eq!(catalogue.unseen(Mechanism::Sendfile), None);
        let mut catalogue = catalogue;
        assert_eq!(catalogue.unseen(Mechanism::Mmap), None);
        catalogue.without_probes();
        assert!(catalogue.unseen(Mechanism::Mmap).unwrap().contains("not attached"));
    }

    #[test]
    fn mmap_asked_is_not_a_path_that_moved() {
        let catalogue = Catalogue::default();
        let mut counters = Counters::default();
        let cell = catalogue.cell(PathId::parse("mmap:file:mapping").unwrap(), Condition::Asked).unwrap();
        counters.add_cell(cell, Cell { operations: 2, bytes: 8192 });
        assert!(catalogue.paths(&counters).is_empty());
        assert_eq!(catalogue.mmap_asked(&counters), Cell { operations: 2, bytes: 8192 });
    }
}
