//! Sums of operations and bytes by catalogue cell.

use zc_common::record::{
    CELL_FAULTS, CELL_NO_BUFFER, CELL_NO_DESCRIPTOR, CELL_NO_ROW, CELL_SWITCHES, Cell, DISK_KINDS, DISKS,
    FIRST_DISK_CELL, FIRST_NET_CELL, NET_PLACES, Usage,
};

/// What was counted for a thread, process or group: system calls, and operations and bytes by catalogue cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// sys_exit events.
    pub system_calls: u64,
    /// Sorted by cell; none is zero.
    cells: Vec<(u16, Cell)>,
}

/// The cells that hold what the kernel itself counts.
fn cells_of(usage: &Usage) -> [(u16, Cell); 2] {
    [
        (u16::from(CELL_SWITCHES), Cell { operations: usage.voluntary, bytes: usage.involuntary }),
        (u16::from(CELL_FAULTS), Cell { operations: usage.minor_faults, bytes: usage.major_faults }),
    ]
}

impl Counters {
    /// Nothing but system calls.
    #[must_use]
    pub fn with_calls(system_calls: u64) -> Self {
        Self { system_calls, cells: Vec::new() }
    }

    /// Adds to one cell.
    pub fn add_cell(&mut self, cell: impl Into<u16>, more: Cell) {
        let cell = cell.into();
        if more == Cell::default() {
            return;
        }
        match self.cells.binary_search_by_key(&cell, |(owner, _)| *owner) {
            Ok(at) => {
                let sum = &mut self.cells[at].1;
                sum.operations += more.operations;
                sum.bytes += more.bytes;
            }
            Err(at) => self.cells.insert(at, (cell, more)),
        }
    }

    /// Adds what the kernel itself has counted.
    pub fn add_usage(&mut self, usage: &Usage) {
        for (cell, more) in cells_of(usage) {
            self.add_cell(cell, more);
        }
    }

    /// Raises what the kernel itself has counted to this, where it is less.
    pub fn raise_usage(&mut self, usage: &Self) {
        for cell in [CELL_SWITCHES, CELL_FAULTS] {
            let (Cell { operations, bytes }, now) = (usage.get(cell), self.get(cell));
            let operations = operations.saturating_sub(now.operations);
            let bytes = bytes.saturating_sub(now.bytes);
            self.add_cell(cell, Cell { operations, bytes });
        }
    }

    /// What the kernel itself has counted, and nothing else.
    #[must_use]
    pub fn usage(&self) -> Self {
        let mut only = Self::default();
        for cell in [CELL_SWITCHES, CELL_FAULTS] {
            only.add_cell(cell, self.get(cell));
        }
        only
    }

    /// Adds everything of another.
    pub fn add(&mut self, more: &Self) {
        self.system_calls += more.system_calls;
        for &(cell, counters) in &more.cells {
            self.add_cell(cell, counters);
        }
    }

    /// What this has more than an earlier state; never less than zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut more = Self { system_calls: self.system_calls.saturating_sub(earlier.system_calls), cells: Vec::new() };
        for &(cell, now) in &self.cells {
            let then = earlier.get(cell);
            let difference = Cell {
                operations: now.operations.saturating_sub(then.operations),
                bytes: now.bytes.saturating_sub(then.bytes),
            };
            if difference != Cell::default() {
                more.cells.push((cell, difference));
            }
        }
        more
    }

    /// One cell.
    #[must_use]
    pub fn get(&self, cell: impl Into<u16>) -> Cell {
        let cell = cell.into();
        self.cells
            .binary_search_by_key(&cell, |(owner, _)| *owner)
            .map_or_else(|_| Cell::default(), |at| self.cells[at].1)
    }

    /// All cells that are not zero, in the catalogue's order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Cell)> + '_ {
        self.cells.iter().copied()
    }

    /// Bytes read or written by disks, over all devices, of the kinds that `wanted` picks.
    #[must_use]
    pub fn disk(&self, wanted: impl Fn(u8) -> bool) -> u64 {
        let of_kind = |kind: u8| (0..=DISKS as u8).map(move |place| self.disk_at(place, kind));
        (0..DISK_KINDS).filter(|kind| wanted(*kind)).flat_map(of_kind).sum()
    }

    /// Bytes of one kind of one device.
    #[must_use]
    pub fn disk_at(&self, place: u8, kind: u8) -> u64 {
        self.get(FIRST_DISK_CELL + place * DISK_KINDS + kind).bytes
    }

    /// Bytes that network devices were handed, and of them those in pages: by the device's place, or all places that
    /// `wanted` picks.
    #[must_use]
    pub fn transmitted(&self, wanted: impl Fn(usize) -> bool) -> (u64, u64) {
        let places = (0..NET_PLACES).filter(|place| wanted(*place));
        places
            .map(|place| self.get(FIRST_NET_CELL + place as u16))
            .fold((0, 0), |(bytes, paged), cell| (bytes + cell.bytes, paged + cell.operations))
    }

    /// What could not be resolved: descriptors, buffers, combinations without a row.
    #[must_use]
    pub fn unclassified(&self) -> Cell {
        let mut sum = Cell::default();
        for cell in [CELL_NO_DESCRIPTOR, CELL_NO_BUFFER, CELL_NO_ROW] {
            let Cell { operations, bytes } = self.get(cell);
            sum.operations += operations;
            sum.bytes += bytes;
        }
        sum
    }

    /// Whether nothing was counted at all.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.system_calls == 0 && self.cells.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counters() -> impl Strategy<Value = Counters> {
        let cells = prop::collection::vec((0..1024_u16, 0..1000_u64, 0..1_000_000_u64), 0..20);
        (0..1000_u64, cells).prop_map(|(system_calls, cells)| {
            let mut counters = Counters::with_calls(system_calls);
            for (cell, operations, bytes) in cells {
                counters.add_cell(cell, Cell { operations, bytes });
            }
            counters
        })
    }

    proptest! {
        #[test]
        fn since_undoes_add(a in counters(), b in counters()) {
            let mut sum = a.clone();
            sum.add(&b);
            prop_assert_eq!(sum.since(&a), b);
            prop_assert!(a.since(&sum).is_zero());
        }
    }
}
