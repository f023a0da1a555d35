//! The words of a copy path: mechanism x source x sink, and the condition under which its bytes hop as its row says.

use core::fmt;

use crate::hop::Hop;

#[cfg(feature = "catalogue")]
mod rows;
#[cfg(feature = "catalogue")]
pub use rows::ROWS;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every one, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in path ids, JSON and metrics labels.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The one with this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.name()) }
        }
    };
}

names! {
    /// The call, or family of calls, that moves the bytes.
    Mechanism {
        /// read, pread, readv, preadv, preadv2, recv, recvfrom, recvmsg, recvmmsg.
        Read = "read",
        /// write, pwrite, writev, pwritev, pwritev2, send, sendto, sendmsg, sendmmsg.
        Write = "write",
        /// mmap of a file: bytes faulted in.
        Mmap = "mmap",
        /// sendfile.
        Sendfile = "sendfile",
        /// splice.
        Splice = "splice",
        /// tee.
        Tee = "tee",
        /// vmsplice, either way.
        Vmsplice = "vmsplice",
        /// copy_file_range where it copies.
        CopyFileRange = "copy_file_range",
        /// FICLONE, FICLONERANGE, and copy_file_range where the file system shares the blocks.
        Reflink = "reflink",
        /// process_vm_readv.
        ProcessVmRead = "process_vm_read",
        /// process_vm_writev.
        ProcessVmWrite = "process_vm_write",
        /// MSG_ZEROCOPY on a socket with SO_ZEROCOPY.
        ZerocopySend = "zerocopy_send",
        /// TCP_ZEROCOPY_RECEIVE.
        ZerocopyReceive = "zerocopy_receive",
        /// io_uring requests.
        IoUring = "io_uring",
        /// io_uring requests on registered buffers.
        IoUringFixed = "io_uring_fixed",
        /// io_uring SEND_ZC and SENDMSG_ZC.
        IoUringZerocopy = "io_uring_zerocopy",
        /// Linux AIO.
        Aio = "aio",
    }
}

names! {
    /// What a descriptor or buffer is.
    Endpoint {
        /// A file through the page cache, or a block device opened buffered.
        File = "file",
        /// Past the page cache: O_DIRECT with a block device behind it and no fallback.
        Disk = "disk",
        /// Anonymous memory, and private writable mappings.
        User = "user",
        /// A mapping of a regular file, shared or not writable; not shmem, memfd or hugetlb.
        Mapping = "mapping",
        /// A TCP socket.
        Tcp = "tcp",
        /// A UDP socket.
        Udp = "udp",
        /// A unix socket.
        Unix = "unix",
        /// A pipe or FIFO.
        Pipe = "pipe",
        /// A character device.
        Device = "device",
        /// Known, but none of these: eventfd, /proc, other socket families.
        Other = "other",
    }
}

names! {
    /// When a row holds: the same path id may hop differently from call to call.
    Condition {
        /// Unless another row of the same path says otherwise.
        Always = "always",
        /// The call only peeked (MSG_PEEK): it copies, but takes nothing and delivers nothing.
        Peek = "peek",
        /// The source is /dev/zero, /dev/null or /dev/full: memory is cleared, nothing is copied.
        NullSource = "null_source",
        /// The sink is /dev/null or /dev/zero: bytes are accepted and dropped, nothing is copied.
        NullSink = "null_sink",
        /// Both of the above.
        NullBoth = "null_both",
        /// The source is a unix socket that keeps messages apart (datagram, seqpacket): it gives no pages away.
        MessageSource = "message_source",
        /// The sink is such a socket: it takes no pages, the kernel copies.
        MessageSink = "message_sink",
        /// The sink is such a socket, the source /dev/zero or its kin.
        NullToMessage = "null_source_message_sink",
        /// mmap calls and the bytes they asked for; nothing has moved yet.
        Asked = "asked",
        /// The sink enciphers what is sent (kernel TLS, in software).
        Tls = "tls",
        /// The part that the kernel copied, since it could not be mapped.
        Copied = "copied",
    }
}

/// What the textbook claims for the way of sending a file that a path is part of. Copies count the whole way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Textbook {
    /// The way, as the textbook names it.
    pub way: &'static str,
    /// Copies of the payload by the CPU that this path is charged with.
    pub cpu_copies: u8,
    /// Copies by DMA that this path is charged with.
    pub dma_copies: u8,
    /// Mode switches of one operation.
    pub mode_switches: u8,
}

/// One row of the catalogue: a copy path under a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The call.
    pub mechanism: Mechanism,
    /// Where the bytes come from.
    pub source: Endpoint,
    /// Where they go.
    pub sink: Endpoint,
    /// When this row holds.
    pub condition: Condition,
    /// How each payload byte hops (modelled; observed hops replace these).
    pub hops: &'static [Hop],
    /// What the textbook says of it, where it says anything.
    pub textbook: Option<Textbook>,
    /// Why nothing counts on this path in this build, where nothing does.
    pub inactive: Option<&'static str>,
}

/// A path's identity, without a condition. Displays as `sendfile:file:tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId {
    /// The call.
    pub mechanism: Mechanism,
    /// Where the bytes come from.
    pub source: Endpoint,
    /// Where they go.
    pub sink: Endpoint,
}

impl PathId {
    /// Reads `mechanism:source:sink`.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let mut parts = id.split(':');
        let path = Self {
            mechanism: Mechanism::parse(parts.next()?)?,
            source: Endpoint::parse(parts.next()?)?,
            sink: Endpoint::parse(parts.next()?)?,
        };
        parts.next().is_none().then_some(path)
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.mechanism, self.source, self.sink)
    }
}

impl Row {
    /// The row's path.
    #[must_use]
    pub const fn id(&self) -> PathId {
        PathId { mechanism: self.mechanism, source: self.source, sink: self.sink }
    }

    /// Whether the row's bytes are payload: a peek takes nothing, an mmap call has moved nothing yet.
    #[must_use]
    pub const fn is_payload(&self) -> bool {
        !matches!(self.condition, Condition::Peek | Condition::Asked)
    }
}

#[cfg(all(test, feature = "catalogue"))]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_back() {
        for row in ROWS {
            let id = row.id();
            assert_eq!(PathId::parse(&id.to_string()), Some(id));
        }
        for bad in ["", "read", "read:file", "read:file:user:x", "red:file:user", "read:file:User"] {
            assert_eq!(PathId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn rows_are_unique_and_every_path_has_a_plain_row() {
        for (i, row) in ROWS.iter().enumerate() {
            let same = |other: &&Row| other.id() == row.id() && other.condition == row.condition;
            assert_eq!(ROWS.iter().filter(same).count(), 1, "row {i}: {} {}", row.id(), row.condition);
            let plain = |other: &&Row| other.id() == row.id() && other.condition == Condition::Always;
            assert_eq!(ROWS.iter().filter(plain).count(), 1, "{}", row.id());
        }
        assert!(
            ROWS.len() + usize::from(crate::record::FIRST_ROW_CELL) <= usize::from(crate::record::FIRST_OBSERVED_CELL)
        );
    }
}
