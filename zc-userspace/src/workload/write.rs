//! The write family: write, send and their kin, from anonymous memory and from mappings of files to every sink.

use zc_common::path::Condition::NullSink;

use super::Workload;
use super::calls::{pwrite, pwritev, pwritev2, pwritev2_here, write, writev, writev_mixed};
use super::fixture::Fixture::{
    Disk, Event, File, Mapping, MappingReadOnly, Netlink, Null, Pipe, Tcp, Tcp6, Tmpfs, Udp, Udp6, Unix, UnixDatagram,
    Urandom, User, User32, UserPrivate, UserShared, Veth, VethLinear,
};
use super::int80;
use super::messages::{sendmmsg, sendmsg, sendmsg_mixed, sendto};

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
    new("write:user:file", User, File, write, "write a file through the page cache"),
    new("write:user:disk", User, Disk, write, "write a file with O_DIRECT"),
    new("write:user:tcp", User, Tcp, write, "write to a TCP socket"),
    new("write:user:udp", User, Udp, write, "write to a UDP socket"),
    new("write:user:unix", User, Unix, write, "write to a unix stream socket"),
    new("write:user:pipe", User, Pipe, write, "write to a pipe"),
    new("write:user:device", User, Urandom, write, "write to /dev/urandom"),
    new("write:user:device", User, Null, write, "write to /dev/null").when(NullSink),
    new("write:user:other", User, Netlink, write, "write to a netlink socket"),
    new("write:mapping:file", Mapping, File, write, "write a file from a mapping of another"),
    new("write:mapping:disk", Mapping, Disk, write, "write a file with O_DIRECT from a mapping of another"),
    new("write:mapping:tcp", Mapping, Tcp, write, "write to a TCP socket from a mapping of a file"),
    new("write:mapping:udp", Mapping, Udp, write, "write to a UDP socket from a mapping of a file"),
    new("write:mapping:unix", Mapping, Unix, write, "write to a unix stream socket from a mapping of a file"),
    new("write:mapping:pipe", Mapping, Pipe, write, "write to a pipe from a mapping of a file"),
    new("write:mapping:device", Mapping, Urandom, write, "write to /dev/urandom from a mapping of a file"),
    new("write:mapping:device", Mapping, Null, write, "write to /dev/null from a mapping of a file").when(NullSink),
    new("write:mapping:other", Mapping, Netlink, write, "write to a netlink socket from a mapping of a file"),
];

/// The other calls of the family, and sinks and buffers that look like something else.
pub(super) const VARIANTS: &[Workload] = &[
    new("write:user:file", User, File, pwrite, "pwrite").variant("pwrite"),
    new("write:user:file", User, File, writev, "writev").variant("writev"),
    new("write:user:file", User, File, pwritev, "pwritev").variant("pwritev"),
    new("write:user:file", User, File, pwritev2, "pwritev2").variant("pwritev2"),
    new("write:user:file", User32, File, int80::write, "the 32-bit write through int 0x80").variant("int80"),
    new("write:user:file", User, File, writev_mixed, "writev from anonymous memory first, a mapping second")
        .variant("mixed")
        .second(Mapping),
    new("write:mapping:file", Mapping, File, writev_mixed, "writev from a mapping first, anonymous memory second")
        .variant("mixed"),
    new("write:user:file", User, Tmpfs, write, "write a file of a tmpfs").variant("tmpfs"),
    new("write:user:file", UserShared, File, write, "from anonymous shared memory").variant("shared"),
    new("write:user:file", UserPrivate, File, write, "from a private writable mapping of a file").variant("private"),
    new("write:mapping:file", Mapping, File, pwrite, "pwrite").variant("pwrite"),
    new("write:mapping:file", Mapping, File, pwritev2, "pwritev2").variant("pwritev2"),
    new("write:user:disk", User, Disk, pwrite, "pwrite").variant("pwrite"),
    new("write:user:disk", User, Disk, writev, "writev").variant("writev"),
    new("write:user:disk", User, Disk, pwritev, "pwritev").variant("pwritev"),
    new("write:user:disk", User, Disk, pwritev2, "pwritev2").variant("pwritev2"),
    new("write:user:tcp", User, Tcp, sendto, "sendto").variant("sendto"),
    new("write:user:tcp", User, Tcp, writev, "writev").variant("writev"),
    new("write:user:tcp", User, Tcp, sendmsg, "sendmsg").variant("sendmsg"),
    new("write:user:tcp", User, Tcp, sendmmsg, "sendmmsg").variant("sendmmsg"),
    new("write:user:tcp", User, Tcp6, write, "over IPv6").variant("ipv6"),
    new("write:user:tcp", User, Tcp, sendmsg_mixed, "sendmsg from anonymous memory first, a mapping second")
        .variant("mixed")
        .second(Mapping),
    new("write:mapping:tcp", Mapping, Tcp, sendmsg_mixed, "sendmsg from a mapping first, anonymous memory second")
        .variant("mixed"),
    new("write:user:tcp", User, Veth, write, "through a network device with scatter-gather").variant("veth"),
    new("write:user:tcp", User, VethLinear, write, "through a network device without scatter-gather")
        .variant("veth-linear"),
    new("write:mapping:tcp", Mapping, VethLinear, write, "through a network device without scatter-gather")
        .variant("veth-linear"),
    new("write:mapping:tcp", Mapping, Tcp, sendto, "sendto").variant("sendto"),
    new("write:mapping:tcp", Mapping, Tcp, writev, "writev").variant("writev"),
    new("write:mapping:tcp", Mapping, Tcp, sendmsg, "sendmsg").variant("sendmsg"),
    new("write:mapping:tcp", Mapping, Tcp, sendmmsg, "sendmmsg").variant("sendmmsg"),
    new("write:mapping:tcp", MappingReadOnly, Tcp, write, "from a private mapping that can't be written")
        .variant("read-only"),
    new("write:user:udp", User, Udp, sendto, "sendto").variant("sendto"),
    new("write:user:udp", User, Udp, writev, "writev").variant("writev"),
    new("write:user:udp", User, Udp, sendmsg, "sendmsg").variant("sendmsg"),
    new("write:user:udp", User, Udp, sendmmsg, "sendmmsg of several datagrams").variant("sendmmsg"),
    new("write:user:udp", User, Udp6, write, "over IPv6").variant("ipv6"),
    new("write:mapping:udp", Mapping, Udp, sendmmsg, "sendmmsg of several datagrams").variant("sendmmsg"),
    new("write:user:unix", User, Unix, sendto, "sendto").variant("sendto"),
    new("write:user:unix", User, Unix, sendmsg, "sendmsg").variant("sendmsg"),
    new("write:user:unix", User, Unix, sendmmsg, "sendmmsg").variant("sendmmsg"),
    new("write:user:unix", User, UnixDatagram, write, "to a unix datagram socket").variant("datagram"),
    new("write:user:unix", User, UnixDatagram, sendmmsg, "sendmmsg of several datagrams").variant("datagram-sendmmsg"),
    new("write:user:pipe", User, Pipe, writev, "writev").variant("writev"),
    new("write:user:pipe", User, Pipe, pwritev2_here, "pwritev2").variant("pwritev2"),
    new("write:user:device", User, Null, writev, "writev").when(NullSink).variant("writev"),
    new("write:user:other", User, Netlink, sendto, "sendto").variant("sendto"),
    new("write:user:other", User, Netlink, sendmsg, "sendmsg").variant("sendmsg"),
    new("write:user:other", User, Event, write, "write an eventfd").variant("eventfd"),
];
