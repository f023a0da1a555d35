//! Pass-through: which bytes were written out from the very place that they had been read into, by what they came from
//! and where they went.

use crate::config::{CODE_NULL_DEVICE, CODE_TLS, CODE_UNIX_MESSAGES, ENDPOINT_CODES};
use crate::path::Endpoint;

/// What bytes are read from or written to: every endpoint but memory.
pub const KINDS: [Endpoint; 8] = [
    Endpoint::File,
    Endpoint::Disk,
    Endpoint::Tcp,
    Endpoint::Udp,
    Endpoint::Unix,
    Endpoint::Pipe,
    Endpoint::Device,
    Endpoint::Other,
];

/// Stands for what is none of [`KINDS`]: memory, and what could not be resolved.
pub const NO_KIND: u8 = KINDS.len() as u8;

/// The place among [`KINDS`] of each of the classification's codes; [`NO_KIND`] where it has none.
pub const KIND_OF_CODE: [u8; ENDPOINT_CODES] = {
    let mut kinds = [NO_KIND; ENDPOINT_CODES];
    let mut kind = 0;
    while kind < KINDS.len() {
        kinds[KINDS[kind] as usize] = kind as u8;
        kind += 1;
    }
    kinds[CODE_NULL_DEVICE as usize] = kinds[Endpoint::Device as usize];
    kinds[CODE_UNIX_MESSAGES as usize] = kinds[Endpoint::Unix as usize];
    kinds[CODE_TLS as usize] = kinds[Endpoint::Tcp as usize];
    kinds
};

/// First of the cells of pass-through: the calls that wrote, and bytes. One for each pair of [`KINDS`].
pub const FIRST_CELL: u16 = 0x140;

/// The cell of bytes that were read from one kind and written to another, by their places among [`KINDS`].
#[must_use]
#[inline(always)]
pub const fn cell(source: u64, sink: u64) -> u16 {
    FIRST_CELL + (source << 3 | sink) as u16
}

/// All pairs of source and sink, with their cells.
pub fn pairs() -> impl Iterator<Item = (Endpoint, Endpoint, u16)> {
    (0..).zip(KINDS).flat_map(|(i, source)| (0..).zip(KINDS).map(move |(j, sink)| (source, sink, cell(i, j))))
}

/// Cells of pass-through that one thread keeps for itself; what it uses beyond that goes to the process's shared ledger.
pub const THREAD_CELLS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_its_own_cell() {
        let cells: std::collections::HashSet<_> = pairs().map(|(_, _, cell)| cell).collect();
        assert_eq!(cells.len(), 64);
        assert!(cells.iter().all(|cell| (FIRST_CELL..crate::record::COPIED_AFTER_ALL).contains(cell)));
    }

    #[test]
    fn memory_is_no_kind() {
        for endpoint in Endpoint::ALL {
            let is_memory = matches!(endpoint, Endpoint::User | Endpoint::Mapping);
            assert_eq!(KIND_OF_CODE[*endpoint as usize] == NO_KIND, is_memory, "{endpoint}");
        }
        assert_eq!(KIND_OF_CODE[crate::config::CODE_UNKNOWN as usize], NO_KIND);
    }
}
