//! Places and movers: who moves bytes from where to where.

use core::fmt;

/// Where bytes can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A block device's medium.
    Disk,
    /// The kernel's page cache (tmpfs and memfd pages included).
    PageCache,
    /// A process's anonymous memory.
    User,
    /// A pipe's buffers.
    Pipe,
    /// A socket's buffers.
    SocketBuffer,
    /// A network device.
    Nic,
    /// The other end of a connection.
    Peer,
    /// Memory of any other part of the kernel: a character device's, /proc's, an eventfd's.
    Kernel,
}

impl Place {
    /// The place's name in JSON and in docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::PageCache => "page_cache",
            Self::User => "user",
            Self::Pipe => "pipe",
            Self::SocketBuffer => "socket_buffer",
            Self::Nic => "nic",
            Self::Peer => "peer",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which way the CPU copied: the kernel's copy routine that did it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Kernel memory to user memory (`copy_to_user` and its kin).
    ToUser,
    /// User memory to kernel memory (`copy_from_user` and its kin).
    FromUser,
    /// Kernel memory to kernel memory.
    InKernel,
}

impl Direction {
    /// Every direction, in the order of the contract.
    pub const ALL: [Self; 3] = [Self::ToUser, Self::FromUser, Self::InKernel];

    /// The direction's name in JSON and metrics labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ToUser => "to_user",
            Self::FromUser => "from_user",
            Self::InKernel => "in_kernel",
        }
    }
}

/// What moves bytes along one hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mover {
    /// The CPU copies them.
    Cpu(Direction),
    /// A device reads or writes memory itself.
    Dma,
    /// A page changes hands; nothing is copied.
    Reference,
    /// The CPU enciphers or deciphers the bytes on their way: no copy of the payload.
    Cipher,
}

impl Mover {
    /// The mover's name in JSON: `cpu`, `dma`, `reference` or `cipher`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Dma => "dma",
            Self::Reference => "reference",
            Self::Cipher => "cipher",
        }
    }
}

/// One move of a path's payload from place to place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// Where the bytes come from.
    pub from: Place,
    /// Where they go.
    pub to: Place,
    /// What moves them.
    pub mover: Mover,
}

impl Hop {
    /// The CPU copies from kernel memory to user memory.
    #[must_use]
    pub const fn to_user(from: Place) -> Self {
        Self { from, to: Place::User, mover: Mover::Cpu(Direction::ToUser) }
    }

    /// The CPU copies from user memory to kernel memory.
    #[must_use]
    pub const fn from_user(to: Place) -> Self {
        Self { from: Place::User, to, mover: Mover::Cpu(Direction::FromUser) }
    }

    /// The CPU copies within the kernel.
    #[must_use]
    pub const fn in_kernel(from: Place, to: Place) -> Self {
        Self { from, to, mover: Mover::Cpu(Direction::InKernel) }
    }

    /// A device moves the bytes.
    #[must_use]
    pub const fn dma(from: Place, to: Place) -> Self {
        Self { from, to, mover: Mover::Dma }
    }

    /// The CPU enciphers the bytes on their way.
    #[must_use]
    pub const fn cipher(from: Place, to: Place) -> Self {
        Self { from, to, mover: Mover::Cipher }
    }

    /// A page is handed over.
    #[must_use]
    pub const fn reference(from: Place, to: Place) -> Self {
        Self { from, to, mover: Mover::Reference }
    }
}
