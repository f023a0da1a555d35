//! sendfile, from every source that it takes to every sink.

use nix::sys::sendfile::sendfile as call;
use zc_common::path::Condition::{MessageSink, MessageSource, NullBoth, NullSink, NullSource, NullToMessage};

use super::Workload;
use super::drive::{Moved, Stage};
use super::fixture::Fixture::{
    self, Disk, File, Netlink, Null, Pipe, Proc, Tcp, Tmpfs, Udp, Unix, UnixDatagram, Urandom, Veth, VethLinear, Zero,
};
use super::splice::zero_splices;

pub(super) fn sendfile(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(call(stage.sink.fd()?, stage.source.fd()?, None, len)?.into())
}

fn sendfile_offset(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let mut at = stage.source.offset();
    Ok(call(stage.sink.fd()?, stage.source.fd()?, Some(&mut at), len)?.into())
}

/// Writes a header to the sink, as servers do before a file; how long it was.
pub(super) fn header(stage: &Stage) -> nix::Result<usize> {
    const HEADER: usize = 100;
    let written = nix::unistd::write(stage.sink.fd()?, &[0x5a; HEADER])?;
    // All of it or an error: what is left out would be missing when the sink is drained.
    if written == HEADER { Ok(HEADER) } else { Err(nix::errno::Errno::EPIPE) }
}

fn headed_sendfile(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let header = header(stage)?;
    let moved = sendfile(stage, len)?;
    Ok(Moved { taken: moved.counted + header, ..moved })
}

const fn new(id: &'static str, source: Fixture, sink: Fixture, about: &'static str) -> Workload {
    let workload = Workload::new(id, source, sink, sendfile, about);
    if matches!(source, Zero) { workload.needs(zero_splices) } else { workload }
}

/// One for each row.
pub(super) const MAIN: &[Workload] = &[
    new("sendfile:file:tcp", File, Tcp, "send a file to a TCP socket"),
    new("sendfile:file:udp", File, Udp, "send a file to a UDP socket"),
    new("sendfile:file:unix", File, Unix, "send a file to a unix stream socket"),
    new("sendfile:file:unix", File, UnixDatagram, "send a file to a unix datagram socket").when(MessageSink),
    new("sendfile:file:file", File, File, "send a file to another"),
    new("sendfile:file:disk", File, Disk, "send a file to one opened with O_DIRECT"),
    new("sendfile:file:pipe", File, Pipe, "send a file to a pipe"),
    new("sendfile:file:device", File, Urandom, "send a file to /dev/urandom"),
    new("sendfile:file:device", File, Null, "send a file to /dev/null").when(NullSink),
    new("sendfile:file:other", File, Netlink, "send a file to a netlink socket"),
    new("sendfile:disk:tcp", Disk, Tcp, "send a file opened with O_DIRECT to a TCP socket"),
    new("sendfile:disk:udp", Disk, Udp, "send a file opened with O_DIRECT to a UDP socket"),
    new("sendfile:disk:unix", Disk, Unix, "send a file opened with O_DIRECT to a unix stream socket"),
    new("sendfile:disk:unix", Disk, UnixDatagram, "send a file opened with O_DIRECT to a unix datagram socket")
        .when(MessageSink),
    new("sendfile:disk:file", Disk, File, "send a file opened with O_DIRECT to another"),
    new("sendfile:disk:disk", Disk, Disk, "send a file to another, both opened with O_DIRECT"),
    new("sendfile:disk:pipe", Disk, Pipe, "send a file opened with O_DIRECT to a pipe"),
    new("sendfile:disk:device", Disk, Urandom, "send a file opened with O_DIRECT to /dev/urandom"),
    new("sendfile:disk:device", Disk, Null, "send a file opened with O_DIRECT to /dev/null").when(NullSink),
    new("sendfile:disk:other", Disk, Netlink, "send a file opened with O_DIRECT to a netlink socket"),
    new("sendfile:device:tcp", Urandom, Tcp, "send /dev/urandom to a TCP socket"),
    new("sendfile:device:tcp", Zero, Tcp, "send /dev/zero to a TCP socket").when(NullSource),
    new("sendfile:device:udp", Urandom, Udp, "send /dev/urandom to a UDP socket"),
    new("sendfile:device:udp", Zero, Udp, "send /dev/zero to a UDP socket").when(NullSource),
    new("sendfile:device:unix", Urandom, Unix, "send /dev/urandom to a unix stream socket"),
    new("sendfile:device:unix", Zero, Unix, "send /dev/zero to a unix stream socket").when(NullSource),
    new("sendfile:device:unix", Urandom, UnixDatagram, "send /dev/urandom to a unix datagram socket").when(MessageSink),
    new("sendfile:device:unix", Zero, UnixDatagram, "send /dev/zero to a unix datagram socket").when(NullToMessage),
    new("sendfile:device:file", Urandom, File, "send /dev/urandom to a file"),
    new("sendfile:device:file", Zero, File, "send /dev/zero to a file").when(NullSource),
    new("sendfile:device:disk", Urandom, Disk, "send /dev/urandom to a file opened with O_DIRECT"),
    new("sendfile:device:disk", Zero, Disk, "send /dev/zero to a file opened with O_DIRECT").when(NullSource),
    new("sendfile:device:pipe", Urandom, Pipe, "send /dev/urandom to a pipe"),
    new("sendfile:device:pipe", Zero, Pipe, "send /dev/zero to a pipe").when(NullSource),
    new("sendfile:device:device", Urandom, Urandom, "send /dev/urandom to itself"),
    new("sendfile:device:device", Zero, Urandom, "send /dev/zero to /dev/urandom").when(NullSource),
    new("sendfile:device:device", Urandom, Null, "send /dev/urandom to /dev/null").when(NullSink),
    new("sendfile:device:device", Zero, Null, "send /dev/zero to /dev/null").when(NullBoth),
    new("sendfile:device:other", Urandom, Netlink, "send /dev/urandom to a netlink socket"),
    new("sendfile:device:other", Zero, Netlink, "send /dev/zero to a netlink socket").when(NullSource),
    new("sendfile:other:tcp", Proc, Tcp, "send a file of /proc to a TCP socket"),
    new("sendfile:other:udp", Proc, Udp, "send a file of /proc to a UDP socket"),
    new("sendfile:other:unix", Proc, Unix, "send a file of /proc to a unix stream socket"),
    new("sendfile:other:unix", Proc, UnixDatagram, "send a file of /proc to a unix datagram socket").when(MessageSink),
    new("sendfile:other:file", Proc, File, "send a file of /proc to a file"),
    new("sendfile:other:pipe", Proc, Pipe, "send a file of /proc to a pipe"),
    new("sendfile:other:device", Proc, Urandom, "send a file of /proc to /dev/urandom"),
    new("sendfile:other:device", Proc, Null, "send a file of /proc to /dev/null").when(NullSink),
    new("sendfile:other:other", Proc, Netlink, "send a file of /proc to a netlink socket"),
    new("sendfile:tcp:pipe", Tcp, Pipe, "sendfile from a TCP socket to a pipe"),
    new("sendfile:unix:pipe", Unix, Pipe, "sendfile from a unix stream socket to a pipe"),
    new("sendfile:unix:pipe", UnixDatagram, Pipe, "sendfile from a unix datagram socket to a pipe").when(MessageSource),
    new("sendfile:udp:pipe", Udp, Pipe, "sendfile from a UDP socket to a pipe"),
];

/// With an offset, and with ends that look like something else.
pub(super) const VARIANTS: &[Workload] = &[
    Workload::new("sendfile:file:tcp", File, Tcp, sendfile_offset, "with an offset").variant("offset"),
    new("sendfile:file:tcp", File, Veth, "through a network device with scatter-gather").variant("veth"),
    new("sendfile:file:tcp", File, VethLinear, "through a network device without scatter-gather")
        .variant("veth-linear"),
    Workload::new("sendfile:file:tcp", File, VethLinear, headed_sendfile, "the same, behind headers that are written")
        .variant("veth-linear-headed"),
    Workload::new("sendfile:disk:tcp", Disk, Tcp, sendfile_offset, "with an offset").variant("offset"),
    new("sendfile:file:tcp", Tmpfs, Tcp, "send a file of a tmpfs").variant("tmpfs"),
    new("sendfile:other:pipe", Netlink, Pipe, "sendfile from a netlink socket to a pipe").variant("netlink"),
];
