//! The read family: read, recv and their kin, from every source into anonymous memory and into mappings of files.

use zc_common::path::Condition::{NullSource, Peek};

use super::Workload;
use super::calls::{pread, preadv, preadv2, preadv2_here, read, readv, readv_mixed};
use super::fixture::Fixture::{
    Disk, Event, File, Mapping, Netlink, Pipe, Proc, Tcp, Tcp6, Tmpfs, Udp, Udp6, Unix, UnixDatagram, Urandom, User,
    User32, UserPrivate, UserShared, Zero,
};
use super::int80;
use super::messages::{peek, peek_recvmsg, read_and_discard, recvfrom, recvfrom_truncated, recvmmsg, recvmsg};

const fn new(
    id: &'static str,
    source: super::Fixture,
    sink: super::Fixture,
    mover: super::Mover,
    about: &'static str,
) -> Workload {
    Workload::new(id, source, sink, mover, about)
}

/// One for each row.
pub(super) const MAIN: &[Workload] = &[
    new("read:file:user", File, User, read, "read a file through the page cache"),
    new("read:disk:user", Disk, User, read, "read a file with O_DIRECT"),
    new("read:tcp:user", Tcp, User, read, "read from a TCP socket"),
    new("read:udp:user", Udp, User, read, "read from a UDP socket"),
    new("read:unix:user", Unix, User, read, "read from a unix stream socket"),
    new("read:pipe:user", Pipe, User, read, "read from a pipe"),
    new("read:device:user", Urandom, User, read, "read /dev/urandom"),
    new("read:device:user", Zero, User, read, "read /dev/zero").when(NullSource),
    new("read:other:user", Netlink, User, read, "read from a netlink socket"),
    new("read:tcp:user", Tcp, User, peek, "peek at a TCP socket").when(Peek),
    new("read:udp:user", Udp, User, peek, "peek at a UDP socket").when(Peek),
    new("read:unix:user", Unix, User, peek, "peek at a unix stream socket").when(Peek),
    new("read:other:user", Netlink, User, peek, "peek at a netlink socket").when(Peek),
    new("read:file:mapping", File, Mapping, read, "read a file into a mapping of another"),
    new("read:disk:mapping", Disk, Mapping, read, "read a file with O_DIRECT into a mapping of another"),
    new("read:tcp:mapping", Tcp, Mapping, read, "read from a TCP socket into a mapping of a file"),
    new("read:udp:mapping", Udp, Mapping, read, "read from a UDP socket into a mapping of a file"),
    new("read:unix:mapping", Unix, Mapping, read, "read from a unix stream socket into a mapping of a file"),
    new("read:pipe:mapping", Pipe, Mapping, read, "read from a pipe into a mapping of a file"),
    new("read:device:mapping", Urandom, Mapping, read, "read /dev/urandom into a mapping of a file"),
    new("read:device:mapping", Zero, Mapping, read, "read /dev/zero into a mapping of a file").when(NullSource),
    new("read:other:mapping", Netlink, Mapping, read, "read from a netlink socket into a mapping of a file"),
    new("read:tcp:mapping", Tcp, Mapping, peek, "peek at a TCP socket into a mapping of a file").when(Peek),
    new("read:udp:mapping", Udp, Mapping, peek, "peek at a UDP socket into a mapping of a file").when(Peek),
    new("read:unix:mapping", Unix, Mapping, peek, "peek at a unix stream socket into a mapping of a file").when(Peek),
    new("read:other:mapping", Netlink, Mapping, peek, "peek at a netlink socket into a mapping of a file").when(Peek),
];

/// The other calls of the family, and sources and buffers that look like something else.
pub(super) const VARIANTS: &[Workload] = &[
    new("read:file:user", File, User, pread, "pread").variant("pread"),
    new("read:file:user", File, User, readv, "readv").variant("readv"),
    new("read:file:user", File, User, preadv, "preadv").variant("preadv"),
    new("read:file:user", File, User, preadv2, "preadv2").variant("preadv2"),
    new("read:file:user", File, User32, int80::read, "the 32-bit read through int 0x80").variant("int80"),
    new("read:file:user", File, User, readv_mixed, "readv into anonymous memory first, a mapping second")
        .variant("mixed")
        .second(Mapping),
    new("read:file:mapping", File, Mapping, readv_mixed, "readv into a mapping first, anonymous memory second")
        .variant("mixed"),
    new("read:file:user", Tmpfs, User, read, "read a file of a tmpfs").variant("tmpfs"),
    new("read:file:user", File, UserShared, read, "into anonymous shared memory").variant("shared"),
    new("read:file:user", File, UserPrivate, read, "into a private writable mapping of a file").variant("private"),
    new("read:file:mapping", File, Mapping, pread, "pread").variant("pread"),
    new("read:file:mapping", File, Mapping, preadv2, "preadv2").variant("preadv2"),
    new("read:disk:user", Disk, User, pread, "pread").variant("pread"),
    new("read:disk:user", Disk, User, readv, "readv").variant("readv"),
    new("read:disk:user", Disk, User, preadv, "preadv").variant("preadv"),
    new("read:disk:user", Disk, User, preadv2, "preadv2").variant("preadv2"),
    new("read:tcp:user", Tcp, User, recvfrom, "recvfrom").variant("recvfrom"),
    new("read:tcp:user", Tcp, User, readv, "readv").variant("readv"),
    new("read:tcp:user", Tcp, User, recvmsg, "recvmsg").variant("recvmsg"),
    new("read:tcp:user", Tcp, User, recvmmsg, "recvmmsg").variant("recvmmsg"),
    new("read:tcp:user", Tcp, User, read_and_discard, "read, between receives that discard (MSG_TRUNC)")
        .variant("trunc"),
    new("read:tcp:user", Tcp6, User, read, "over IPv6").variant("ipv6"),
    new("read:tcp:user", Tcp, User, peek_recvmsg, "recvmsg").when(Peek).variant("recvmsg"),
    new("read:tcp:mapping", Tcp, Mapping, recvfrom, "recvfrom").variant("recvfrom"),
    new("read:tcp:mapping", Tcp, Mapping, recvmsg, "recvmsg").variant("recvmsg"),
    new("read:udp:user", Udp, User, recvfrom, "recvfrom").variant("recvfrom"),
    new("read:udp:user", Udp, User, readv, "readv").variant("readv"),
    new("read:udp:user", Udp, User, recvmsg, "recvmsg").variant("recvmsg"),
    new("read:udp:user", Udp, User, recvmmsg, "recvmmsg of several datagrams").variant("recvmmsg").parts(),
    new("read:udp:user", Udp, User, recvfrom_truncated, "recvfrom of less than the datagram (MSG_TRUNC)")
        .variant("trunc")
        .excess(100),
    new("read:udp:user", Udp6, User, read, "over IPv6").variant("ipv6"),
    new("read:udp:user", Udp, User, peek_recvmsg, "recvmsg").when(Peek).variant("recvmsg"),
    new("read:udp:mapping", Udp, Mapping, recvmmsg, "recvmmsg of several datagrams").variant("recvmmsg").parts(),
    new("read:unix:user", Unix, User, recvfrom, "recvfrom").variant("recvfrom"),
    new("read:unix:user", Unix, User, recvmsg, "recvmsg").variant("recvmsg"),
    new("read:unix:user", Unix, User, recvmmsg, "recvmmsg").variant("recvmmsg"),
    new("read:unix:user", UnixDatagram, User, read, "from a unix datagram socket").variant("datagram"),
    new("read:unix:user", UnixDatagram, User, recvmmsg, "recvmmsg of several datagrams")
        .variant("datagram-recvmmsg")
        .parts(),
    new("read:unix:user", Unix, User, peek_recvmsg, "recvmsg").when(Peek).variant("recvmsg"),
    new("read:pipe:user", Pipe, User, readv, "readv").variant("readv"),
    new("read:pipe:user", Pipe, User, preadv2_here, "preadv2").variant("preadv2"),
    new("read:device:user", Urandom, User, readv, "readv").variant("readv"),
    new("read:other:user", Netlink, User, recvfrom, "recvfrom").variant("recvfrom"),
    new("read:other:user", Netlink, User, recvmsg, "recvmsg").variant("recvmsg"),
    new("read:other:user", Event, User, read, "read an eventfd").variant("eventfd"),
    new("read:other:user", Proc, User, read, "read a file of /proc").variant("proc"),
];
