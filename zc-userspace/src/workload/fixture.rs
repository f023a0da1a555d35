//! The ends of a copy path: what a workload moves bytes from and to.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::channel::{Channel, Shape};
use super::memory::Memory;
use super::reflink::Shared;
use super::{files, int80, sockets, tls, veth, zerocopy};

/// What O_DIRECT's offsets, lengths and addresses are multiples of, on any disk of today.
pub(super) const PAGE: u64 = 4096;
/// Files are this long at most, and gone over again and again, lest 64 MiB be written to set up each run.
const SPAN: u64 = 8 << 20;

/// A kind of end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fixture {
    /// None: the operation itself makes its end.
    Nothing,
    /// A file of the scratch directory, read and written through the page cache.
    File,
    /// The same, as long as all bytes, and nothing of it in memory when the operations begin.
    ColdFile,
    /// Memory that a forked child has, too.
    Forked,
    /// What the operation maps or copies: whole pages.
    Pages,
    /// A memfd: a file of a tmpfs.
    Tmpfs,
    /// A file of the scratch directory, opened with O_DIRECT, its blocks written before.
    Disk,
    /// A pair of connected TCP sockets over IPv4's loopback.
    Tcp,
    /// The same over IPv6.
    Tcp6,
    /// A pair of connected TCP sockets, the first of which may hand pages over (SO_ZEROCOPY).
    TcpZerocopy,
    /// A pair of connected TCP sockets, the first of which enciphers what is sent (kernel TLS).
    Tls,
    /// A pair of connected TCP sockets with a pair of network devices between them.
    Veth,
    /// The same, whose sending device takes no pages (scatter-gather off).
    VethLinear,
    /// The same, whose first may hand pages over.
    VethLinearZerocopy,
    /// A pair of connected TCP sockets, whose first is fed whole pages that can be mapped.
    TcpPages,
    /// The same, fed a chunk at a time.
    TcpChunks,
    /// A pair of connected UDP sockets over IPv4's loopback.
    Udp,
    /// The same, the first of which may hand pages over.
    UdpZerocopy,
    /// The same over IPv6.
    Udp6,
    /// A pair of unix stream sockets.
    Unix,
    /// A pair of unix datagram sockets.
    UnixDatagram,
    /// A pair of netlink sockets that send to each other: any size of message, and nobody else hears them.
    Netlink,
    /// An eventfd: eight bytes at a time.
    Event,
    /// A file of /proc that is large and can be spliced and sent (6.18: /proc/kallsyms can't).
    Proc,
    /// A pipe.
    Pipe,
    /// /dev/urandom: reads and writes copy.
    Urandom,
    /// /dev/zero, read.
    Zero,
    /// /dev/null, written.
    Null,
    /// Anonymous private memory.
    User,
    /// Anonymous memory below 4 GiB, for 32-bit calls.
    User32,
    /// Anonymous shared memory, which has a file behind it, but no regular one.
    UserShared,
    /// A private writable mapping of a file: counts as user.
    UserPrivate,
    /// A shared mapping of a file of the scratch directory.
    Mapping,
    /// A private mapping of the same, not writable.
    MappingReadOnly,
    /// Where pages of a TCP socket, the other end, are mapped.
    Received,
    /// A file that can share its blocks with another, as long as one chunk.
    Reflinked,
    /// The same, where only whole blocks can be shared.
    ReflinkedBlocks,
}

/// An end made ready.
pub(super) enum End {
    /// None.
    Nothing,
    /// Memory of this process.
    Memory(Memory),
    /// A descriptor.
    Channel(Channel),
}

impl Fixture {
    /// The largest chunk that an operation can move whole.
    pub(super) const fn chunk_limit(self) -> u64 {
        match self {
            Self::Udp | Self::UdpZerocopy | Self::Udp6 | Self::UnixDatagram | Self::Netlink => 32 << 10,
            Self::Event => 8,
            // What the kernel formats at a time.
            Self::Proc => PAGE,
            _ => u64::MAX,
        }
    }

    pub(super) const fn is_memory(self) -> bool {
        matches!(
            self,
            Self::User
                | Self::Received
                | Self::User32
                | Self::UserShared
                | Self::UserPrivate
                | Self::Mapping
                | Self::MappingReadOnly
        )
    }

    pub(super) const fn is_reflinked(self) -> bool {
        matches!(self, Self::Reflinked | Self::ReflinkedBlocks)
    }

    /// Makes it ready for operations of `shape`, with buffers allocated and touched, files written, sockets connected.
    pub(super) fn open(self, shape: &Shape, directory: &Path, shared: Option<&Shared>) -> anyhow::Result<End> {
        if let Some(memory) = self.memory(shape.memory(), directory)? {
            return Ok(End::Memory(memory));
        }
        let channel = match self {
            Self::File => Channel::file(files::scratch(directory, shape.span(SPAN))?, shape.span(SPAN)),
            Self::ColdFile => Channel::file(files::scratch(directory, shape.bytes)?, shape.bytes),
            Self::Tmpfs => Channel::file(files::memory(shape.span(SPAN))?, shape.span(SPAN)),
            Self::Disk => Channel::disk(files::direct(directory, shape.span(SPAN))?, shape.span(SPAN)),
            Self::Reflinked | Self::ReflinkedBlocks => {
                let shared = shared.context("no file system that shares blocks was made ready")?;
                Channel::file(shared.file(shape.chunk)?, shape.chunk)
            }
            Self::Tcp => Channel::stream(sockets::tcp("127.0.0.1:0")?, shape)?,
            Self::Tcp6 => Channel::stream(sockets::tcp("[::1]:0")?, shape)?,
            Self::TcpZerocopy => Channel::stream(zerocopy::enabled(sockets::tcp("127.0.0.1:0")?)?, shape)?,
            Self::Tls => Channel::stream(tls::enciphering(sockets::tcp("127.0.0.1:0")?)?, shape)?,
            Self::Veth => Channel::stream(veth::tcp(true)?, shape)?,
            Self::VethLinear => Channel::stream(veth::tcp(false)?, shape)?,
            Self::VethLinearZerocopy => Channel::stream(zerocopy::enabled(veth::tcp(false)?)?, shape)?,
            Self::TcpPages => Channel::stream_of_pages(zerocopy::whole_pages()?, shape)?,
            Self::TcpChunks => Channel::stream_of_chunks(sockets::tcp("127.0.0.1:0")?, shape)?,
            Self::UdpZerocopy => Channel::datagrams(zerocopy::enabled(sockets::udp("127.0.0.1:0")?)?, shape)?,
            Self::Unix => Channel::stream(sockets::unix_stream()?, shape)?,
            Self::Pipe => Channel::stream(sockets::pipe(shape)?, shape)?,
            Self::Udp => Channel::datagrams(sockets::udp("127.0.0.1:0")?, shape)?,
            Self::Udp6 => Channel::datagrams(sockets::udp("[::1]:0")?, shape)?,
            Self::UnixDatagram => Channel::datagrams(sockets::unix_datagram()?, shape)?,
            Self::Netlink => Channel::datagrams(sockets::netlink()?, shape)?,
            Self::Event => Channel::datagrams(sockets::event()?, shape)?,
            Self::Proc => Channel::endless(open("/proc/zoneinfo")?),
            Self::Urandom => Channel::endless(open("/dev/urandom")?),
            Self::Zero => Channel::endless(open("/dev/zero")?),
            Self::Null => Channel::endless(open("/dev/null")?),
            _ => return Ok(End::Nothing),
        };
        Ok(End::Channel(channel))
    }

    /// Its memory, where it is memory.
    pub(super) fn memory(self, len: usize, directory: &Path) -> anyhow::Result<Option<Memory>> {
        Ok(Some(match self {
            Self::User => Memory::user(len)?,
            Self::User32 => Memory::user_32bit(len)?,
            Self::UserShared => Memory::user_shared(len)?,
            Self::UserPrivate => Memory::user_private(len, &files::scratch(directory, len as u64)?)?,
            Self::Mapping => Memory::mapping(len, &files::scratch(directory, len as u64)?)?,
            Self::MappingReadOnly => Memory::mapping_read_only(len, &files::scratch(directory, len as u64)?)?,
            _ => return Ok(None),
        }))
    }

    /// Why it can't be made ready here.
    pub(super) fn unavailable(self, directory: &Path) -> Option<String> {
        match self {
            Self::Disk => on_memory(directory).or_else(|| {
                let refused = files::direct(directory, PAGE).err()?;
                Some(format!("{} does not take O_DIRECT: {refused:#}", directory.display()))
            }),
            Self::Mapping | Self::MappingReadOnly | Self::UserPrivate | Self::ColdFile => on_memory(directory),
            Self::Tcp6 | Self::Udp6 => {
                let refused = std::net::UdpSocket::bind("[::1]:0").err()?;
                Some(format!("no IPv6 on the loopback device: {refused}"))
            }
            Self::Tls => tls::unavailable(),
            Self::Veth | Self::VethLinear | Self::VethLinearZerocopy => veth::unavailable(),
            Self::User32 => int80::unavailable(),
            Self::Reflinked | Self::ReflinkedBlocks => Shared::unavailable(directory),
            _ => None,
        }
    }
}

impl End {
    /// Its descriptor; EBADF where it has none, which is a mistake of the table of workloads.
    pub(super) fn fd(&self) -> nix::Result<BorrowedFd<'_>> {
        match self {
            Self::Channel(channel) => Ok(channel.fd.as_fd()),
            Self::Nothing | Self::Memory(_) => Err(Errno::EBADF),
        }
    }

    /// The first bytes of its memory; EFAULT where it has none, which is a mistake of the table of workloads.
    pub(super) fn bytes(&mut self, len: usize) -> nix::Result<&mut [u8]> {
        match self {
            Self::Memory(memory) => memory.bytes(len),
            Self::Nothing | Self::Channel(_) => Err(Errno::EFAULT),
        }
    }

    /// Where in its file the next operation begins.
    pub(super) fn offset(&self) -> i64 {
        self.channel().map_or(0, |channel| channel.at.cast_signed())
    }

    pub(super) fn channel(&self) -> Option<&Channel> {
        if let Self::Channel(channel) = self { Some(channel) } else { None }
    }

    pub(super) fn channel_mut(&mut self) -> Option<&mut Channel> {
        if let Self::Channel(channel) = self { Some(channel) } else { None }
    }
}

fn open(path: &str) -> anyhow::Result<File> {
    let writable = path.starts_with("/dev");
    File::options().read(true).write(writable).open(path).with_context(|| format!("opening {path}"))
}

/// Files of a tmpfs are memory: O_DIRECT on them copies, and mappings of them count as user.
fn on_memory(directory: &Path) -> Option<String> {
    let on_tmpfs = statfs(directory).is_ok_and(|file_system| file_system.filesystem_type() == TMPFS_MAGIC);
    on_tmpfs.then(|| format!("{} is on a tmpfs: give a directory that has a disk behind it", directory.display()))
}
