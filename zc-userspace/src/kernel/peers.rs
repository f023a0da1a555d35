//! Reading what was counted by peer, all of it at once: some milliseconds, and so only when somebody asks.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;

use zc_common::peers::{PeerKey, PeerTraffic, UnixName};

use super::bpf::{self, Batch};

/// What was counted by peer.
#[derive(Debug, Clone, Default)]
pub struct PeersReading {
    /// What went to each peer of each process and came from there, since it was first seen.
    pub traffic: Vec<(PeerKey, PeerTraffic)>,
    /// Names of unix sockets, by the address in their keys.
    pub names: HashMap<[u64; 2], UnixName>,
}

/// Reads it. Names last: they are there before the first byte is counted.
pub(super) fn read(peers: BorrowedFd<'_>, names: BorrowedFd<'_>) -> io::Result<PeersReading> {
    let traffic = bpf::read_hash(peers, Batch::Copy, PeerTraffic::default())?;
    let names = bpf::read_hash::<[u64; 2], _>(names, Batch::Copy, UnixName::default())?;
    Ok(PeersReading { traffic, names: names.into_iter().collect() })
}

/// Forgets peers.
pub(super) fn forget(map: BorrowedFd<'_>, keys: &[PeerKey]) -> io::Result<()> {
    keys.iter().try_for_each(|key| bpf::take(map, key, PeerTraffic::default()).map(drop))
}
