//! With whom: what the kernel half counts by process and the other side of its sockets.

/// Peers that are told apart. The least used are forgotten.
pub const PEERS: usize = 16_384;
/// Names of unix sockets that are remembered. The least used are forgotten.
pub const UNIX_NAMES: usize = 4096;

/// [`PeerKey::protocol`] of TCP.
pub const TCP: u16 = 1;
/// Of UDP.
pub const UDP: u16 = 2;
/// Of unix sockets of any type.
pub const UNIX: u16 = 3;

/// A process and the other side of one or more of its sockets.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// Start of the process in ns since boot.
    pub process_start: u64,
    /// TCP and UDP: the address in network order, IPv4's mapped into IPv6's. Unix: what [`UnixName::key`] has. Zero where
    /// it is not known.
    pub address: [u64; 2],
    /// Process id.
    pub tgid: u32,
    /// TCP and UDP: the port, in host order.
    pub port: u16,
    /// [`TCP`], [`UDP`] or [`UNIX`].
    pub protocol: u16,
}

/// What went to a peer and came from it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerTraffic {
    /// Payload bytes sent.
    pub sent: u64,
    /// Payload bytes received.
    pub received: u64,
    /// Operations that moved bytes; each message of sendmmsg and recvmmsg is one.
    pub operations: u64,
}

/// Words that a unix socket's name has room in, which has 108 bytes (`UNIX_PATH_MAX`, include/uapi/linux/un.h, v6.1). A
/// power of two.
pub const NAME_WORDS: usize = 16;

/// The name that a unix socket is bound to.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnixName {
    /// Two hashes of the name. Not the kernel's address of it, which is used again.
    pub key: [u64; 2],
    /// Bytes of it: of a path with the NUL behind it, of an abstract name with the one before it.
    pub length: u64,
    /// The bytes, and zeroes behind them.
    pub text: [u64; NAME_WORDS],
}

const _: () = {
    assert!(size_of::<PeerKey>() == 32);
    assert!(size_of::<PeerTraffic>() == 24);
    assert!(size_of::<UnixName>() == 24 + 8 * NAME_WORDS);
};
